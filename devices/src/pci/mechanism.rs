//! Configuration mechanism #1 (PCI Local Bus Specification 3.0, section 3.2.2.3.2): an address at
//! CF8h, written as a double word only, and a data window at CFCh-CFFh.

use serde::{Deserialize, Serialize};

const ENABLE: u32 = 1 << 31;
/// Bits 30:24 and 1:0 are reserved and read zero.
const WRITABLE: u32 = 0x80ff_fffc;

/// Bus, device and function numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bdf {
    /// 0 to 255.
    pub bus: u8,
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

impl Bdf {
    /// A function on bus 0.
    pub const fn root(device: u8, function: u8) -> Self {
        Self { bus: 0, device, function }
    }
}

/// The address register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigAddress(u32);

impl ConfigAddress {
    /// Reads CF8h.
    pub fn get(&self) -> u32 {
        self.0
    }
    /// Writes CF8h.
    pub fn set(&mut self, v: u32) {
        self.0 = v & WRITABLE;
    }
    /// Where byte `window` (0 to 3) of CFCh leads, if the mechanism is enabled.
    pub fn target(&self, window: u8) -> Option<(Bdf, u8)> {
        (self.0 & ENABLE != 0).then(|| {
            let [register, devfn, bus, _] = self.0.to_le_bytes();
            (Bdf { bus, device: devfn >> 3, function: devfn & 7 }, register | window & 3)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_selects_a_register_of_a_function() {
        let mut a = ConfigAddress::default();
        a.set(0x0000_0b40);
        assert_eq!(a.target(0), None);
        a.set(0xff00_0b43);
        assert_eq!(a.get(), 0x8000_0b40);
        assert_eq!(a.target(2), Some((Bdf::root(1, 3), 0x42)));
    }
}
