//! What every device is: plain state behind offsets, with a deadline.
//!
//! A device knows neither its address, nor its interrupt number, nor another device. It gets
//! offsets, the [`IrqLine`](crate::irq::IrqLine)s it was made with, and a [`Cx`] for the length
//! of one call.

use crate::effect::{Effect, Input};
use crate::irq::IrqLines;
use crate::pci::PciFunction;
use core::any::Any;
use serde::Serialize;
use tabvisor_core::mem::GuestRam;
use tabvisor_core::time::VmTime;

/// What a device may touch during one call.
pub struct Cx<'a> {
    /// The time of the access.
    pub now: VmTime,
    /// The board's interrupt lines.
    pub irq: &'a mut IrqLines,
    /// The machine's memory, for DMA.
    pub ram: &'a GuestRam,
    /// Requests to the outside world.
    pub out: &'a mut Vec<Effect>,
}

/// A chip on the board.
pub trait Device: Any {
    /// Fills `data` (1, 2, 4 or 8 bytes) from the registers at `at`. Undefined registers read ones.
    fn read(&mut self, cx: &mut Cx<'_>, at: u64, data: &mut [u8]);
    /// Writes `data` (1, 2, 4 or 8 bytes) to the registers at `at`. Undefined registers ignore it.
    fn write(&mut self, cx: &mut Cx<'_>, at: u64, data: &[u8]);
    /// When [`Device::advance`] must be called at the latest. A pure function of the state.
    fn deadline(&self) -> Option<VmTime> {
        None
    }
    /// Catches up with `cx.now`. Takes bounded time, however far the clock has jumped.
    fn advance(&mut self, _cx: &mut Cx<'_>) {}
    /// News from outside.
    fn input(&mut self, _cx: &mut Cx<'_>, _input: &Input) {}
    /// The reset line: state as after power-on (but for what a battery keeps), outputs driven.
    fn reset(&mut self, cx: &mut Cx<'_>);
    /// Appends everything of the device that the guest can tell apart, in a form that is the
    /// same on all hosts.
    fn state_bytes(&self, out: &mut Vec<u8>);
    /// The device as a PCI function, if it is one.
    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        None
    }
}

/// Appends the postcard form of a device's state.
pub fn put_state<T: Serialize>(out: &mut Vec<u8>, state: &T) {
    let bytes = postcard::to_allocvec(state).expect("plain state always serializes");
    out.extend_from_slice(&bytes);
}

/// For devices with byte registers: a read of any width is one read per byte.
pub fn read_bytes(at: u64, data: &mut [u8], mut read: impl FnMut(u64) -> u8) {
    for (i, byte) in data.iter_mut().enumerate() {
        *byte = read(at.wrapping_add(i as u64));
    }
}

/// For devices with byte registers: a write of any width is one write per byte.
pub fn write_bytes(at: u64, data: &[u8], mut write: impl FnMut(u64, u8)) {
    for (i, &byte) in data.iter().enumerate() {
        write(at.wrapping_add(i as u64), byte);
    }
}

/// The little-endian value of up to 8 bytes.
pub fn le(data: &[u8]) -> u64 {
    data.iter().take(8).rev().fold(0, |v, &b| v << 8 | u64::from(b))
}

/// Stores the low bytes of `value`, little-endian.
pub fn put_le(data: &mut [u8], value: u64) {
    for (i, byte) in data.iter_mut().enumerate() {
        *byte = if i < 8 { (value >> (8 * i)) as u8 } else { 0xff };
    }
}

/// A bench for register-level tests: everything a [`Cx`] borrows.
#[cfg(test)]
pub(crate) mod bench {
    use super::*;

    pub struct Bench {
        pub now: VmTime,
        pub irq: IrqLines,
        pub ram: GuestRam,
        pub out: Vec<Effect>,
    }
    impl Bench {
        pub fn new() -> Self {
            let ram = GuestRam::new(4096).expect("one page");
            Self { now: VmTime::ZERO, irq: IrqLines::default(), ram, out: Vec::new() }
        }
        pub fn cx(&mut self) -> Cx<'_> {
            Cx { now: self.now, irq: &mut self.irq, ram: &self.ram, out: &mut self.out }
        }
        pub fn read(&mut self, d: &mut dyn Device, at: u64) -> u8 {
            let mut b = [0];
            d.read(&mut self.cx(), at, &mut b);
            b[0]
        }
        pub fn write(&mut self, d: &mut dyn Device, at: u64, v: u8) {
            d.write(&mut self.cx(), at, &[v]);
        }
        /// Moves the clock, stopping at each deadline on the way, as the board does.
        pub fn run_to(&mut self, d: &mut dyn Device, to: VmTime) {
            while let Some(t) = d.deadline().filter(|&t| t <= to) {
                assert!(t > self.now || self.now == to, "a deadline that has passed stays");
                self.now = self.now.max(t);
                d.advance(&mut self.cx());
            }
            self.now = to;
            d.advance(&mut self.cx());
        }
        pub fn level(&self, line: u8) -> bool {
            self.irq.level() >> line & 1 != 0
        }
        /// Every register, every width, odd values, clock jumps: must not panic.
        pub fn torture(&mut self, d: &mut dyn Device, span: u64) {
            let mut x = 0x1234_5678_9abc_def1u64;
            for i in 0..60_000u64 {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                let at = x % span;
                let n = [1, 2, 4, 8][(x >> 32 & 3) as usize];
                let v = (x >> 8).to_le_bytes();
                match x >> 40 & 7 {
                    0..=3 => d.write(&mut self.cx(), at, &v[..n]),
                    4..=5 => d.read(&mut self.cx(), at, &mut [0; 8][..n]),
                    6 => d.advance(&mut self.cx()),
                    _ => {
                        self.now = VmTime::from_nanos(self.now.nanos().saturating_add(x >> 44));
                        if i % 997 == 0 {
                            self.now = VmTime::from_nanos(self.now.nanos().saturating_add(1 << 52));
                        }
                        let _ = d.deadline();
                        d.advance(&mut self.cx());
                    }
                }
            }
            self.now = VmTime::NEVER;
            d.advance(&mut self.cx());
            let _ = d.deadline();
            d.reset(&mut self.cx());
            d.state_bytes(&mut Vec::new());
        }
    }
}
