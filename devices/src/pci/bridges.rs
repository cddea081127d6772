//! The board's two bridges: the 82441FX host bridge (data sheet 290549-001) and the ISA bridge of
//! the 82371SB PIIX3 (290550-002). They answer configuration accesses only.
//!
//! Deliberately absent: shadowing. C0000h-FFFFFh is plain memory, as firmware leaves it after
//! copying itself; the PAM registers say so and are stored.

use super::config::{ConfigSpace, Ids, PciFunction, Region};
use crate::device::{Cx, Device, put_state};

/// 440FX: programmable attribute map, 7 bytes.
const PAM: u8 = 0x59;
/// 440FX: PAM value for "reads and writes go to memory", both halves.
const PAM_RAM: u8 = 0x33;
/// 440FX: system management RAM control.
const SMRAM: u8 = 0x72;
/// PIIX3: PIRQA# to PIRQD# route control.
const PIRQRC: u8 = 0x60;
/// PIIX3: bit 7 set, the pin is not routed to an ISA interrupt.
const PIRQ_OFF: u8 = 0x80;

/// A bridge: configuration space and what it holds after a reset.
pub struct Bridge {
    config: ConfigSpace,
    after_reset: ConfigSpace,
}

impl Bridge {
    fn new(config: ConfigSpace) -> Self {
        Self { after_reset: config.clone(), config }
    }

    /// The 440FX, device 0.
    pub fn i440fx() -> Self {
        let ids = Ids { vendor: 0x8086, device: 0x1237, class: 0x06_00_00, revision: 2, multifunction: false };
        let mut c = ConfigSpace::new(ids);
        c.set(PAM, &[PAM_RAM & 0xf0, PAM_RAM, PAM_RAM, PAM_RAM, PAM_RAM, PAM_RAM, PAM_RAM]);
        c.allow(PAM, &[0x33; 7]);
        c.set(SMRAM, &[0x02]);
        Self::new(c)
    }

    /// The PIIX3's function 0. Its device has more functions.
    pub fn piix3_isa() -> Self {
        let ids = Ids { vendor: 0x8086, device: 0x7000, class: 0x06_01_00, revision: 0, multifunction: true };
        let mut c = ConfigSpace::new(ids);
        // ISA bridges always decode: section 2.2.3, bits 2:0 read ones.
        c.set(0x04, &[0x07, 0x00, 0x00, 0x02]);
        c.set(PIRQRC, &[PIRQ_OFF; 4]);
        c.allow(PIRQRC, &[0x8f; 4]);
        Self::new(c)
    }
}

impl Device for Bridge {
    fn read(&mut self, _cx: &mut Cx<'_>, _at: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn write(&mut self, _cx: &mut Cx<'_>, _at: u64, _data: &[u8]) {}
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        self.config = self.after_reset.clone();
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.config);
    }
    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }
}

impl PciFunction for Bridge {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn regions(&self) -> Vec<Region> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::bench::Bench;

    #[test]
    fn bridges_have_their_identities() {
        for (mut b, id, class) in
            [(Bridge::i440fx(), 0x1237_8086, 0x0600_0002), (Bridge::piix3_isa(), 0x7000_8086, 0x0601_0000)]
        {
            let mut v = [0; 4];
            b.config().read(0, &mut v);
            assert_eq!(u32::from_le_bytes(v), id);
            b.config().read(8, &mut v);
            assert_eq!(u32::from_le_bytes(v), class);
        }
        assert_eq!(Bridge::piix3_isa().config().byte(0x0e), 0x80);
    }

    #[test]
    fn interrupt_routes_are_kept_until_reset() {
        let mut b = Bridge::piix3_isa();
        b.config().write(PIRQRC, &[0x0b, 0xff, 0x70]);
        assert_eq!([0, 1, 2, 3].map(|i| b.config().byte(PIRQRC + i)), [0x0b, 0x8f, 0x00, 0x80]);
        b.reset(&mut Bench::new().cx());
        assert_eq!(b.config().byte(PIRQRC), 0x80);
    }
}
