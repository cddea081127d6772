//! The test device: how a test program says that it has ended and with which result, a register that keeps what
//! is written to it, memory that is not RAM, and interrupt lines that software can pull. It is there only when asked
//! for. Source: QEMU's `isa-debug-exit` and `pc-testdev`, as kvm-unit-tests and others use them; their flushing of
//! pages (port E4h) is left out.
//!
//! Offsets: [`EXIT`], [`ECHO`], [`LINE`], [`MEMORY`].

use crate::device::{Cx, Device, le, put_state, read_bytes, write_bytes};
use crate::effect::Effect;
use crate::irq::{IrqLine, LINES};
use serde::{Deserialize, Serialize};

/// What is written here is the result, and the machine is switched off: 4 bytes, on a PC at port F4h.
pub const EXIT: u64 = 0;
/// Keeps 4 bytes; port E0h.
pub const ECHO: u64 = 4;
/// One byte per interrupt line: 0 lets go of it, anything else pulls it; from port 2000h.
pub const LINE: u64 = 0x20;

/// Keeps bytes, [`MEMORY_LEN`] of them; from physical address FF00_0000h.
pub const MEMORY: u64 = 0x1_0000;
/// Bytes at [`MEMORY`].
pub const MEMORY_LEN: u64 = 0x1_0000;

/// Everything the guest can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    echo: [u8; 4],
    /// [`MEMORY_LEN`] bytes.
    memory: Vec<u8>,
    /// Bit n: line n is pulled.
    pulled: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { echo: [0; 4], memory: vec![0; MEMORY_LEN as usize], pulled: 0 }
    }
}

impl State {
    /// The byte kept at offset `at`, if one is.
    fn kept(&mut self, at: u64) -> Option<&mut u8> {
        match at {
            MEMORY.. => self.memory.get_mut((at - MEMORY) as usize),
            ECHO.. => self.echo.get_mut((at - ECHO) as usize),
            _ => None,
        }
    }
}

/// The test device.
pub struct TestDevice {
    lines: [IrqLine; LINES],
    state: State,
}

impl TestDevice {
    /// A device that pulls none of `lines`.
    pub fn new(lines: [IrqLine; LINES]) -> Self {
        Self { lines, state: State::default() }
    }
    fn update_lines(&self, cx: &mut Cx<'_>) {
        for (n, line) in self.lines.iter().enumerate() {
            cx.irq.set(*line, self.state.pulled >> n & 1 != 0);
        }
    }
}

impl Device for TestDevice {
    fn read(&mut self, _cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        read_bytes(at, data, |at| self.state.kept(at).map_or(0xff, |kept| *kept));
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        if at == EXIT {
            cx.out.push(Effect::TestEnd(le(data) as u32));
            cx.out.push(Effect::PowerOff);
            return;
        }
        write_bytes(at, data, |at, v| {
            if let Some(kept) = self.state.kept(at) {
                *kept = v;
            } else if let Some(n @ 0..24) = at.checked_sub(LINE) {
                self.state.pulled = self.state.pulled & !(1 << n) | u32::from(v != 0) << n;
            }
        });
        self.update_lines(cx);
    }

    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.state = State::default();
        self.update_lines(cx);
    }

    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::bench::Bench;

    fn device(b: &mut Bench) -> TestDevice {
        TestDevice::new(core::array::from_fn(|n| b.irq.connect(n as u8).unwrap()))
    }

    #[test]
    fn the_result_comes_out_and_the_machine_goes_off() {
        let mut b = Bench::new();
        let mut d = device(&mut b);
        d.write(&mut b.cx(), EXIT, &0x1234_5678u32.to_le_bytes());
        assert_eq!(b.out, [Effect::TestEnd(0x1234_5678), Effect::PowerOff]);
    }

    #[test]
    fn register_and_memory_keep_bytes_and_words() {
        let mut b = Bench::new();
        let mut d = device(&mut b);
        let last = MEMORY + MEMORY_LEN - 1;
        b.write(&mut d, last, 0x77);
        d.write(&mut b.cx(), MEMORY + 1, &[8, 9]);
        assert_eq!([last, last + 1, MEMORY, MEMORY + 2].map(|at| b.read(&mut d, at)), [0x77, 0xff, 0, 9]);
        d.write(&mut b.cx(), ECHO, &[1, 2, 3, 4]);
        b.write(&mut d, ECHO + 1, 0x55);
        let mut got = [0; 4];
        d.read(&mut b.cx(), ECHO, &mut got);
        assert_eq!((got, b.read(&mut d, EXIT)), ([1, 0x55, 3, 4], 0xff));
        assert!(b.out.is_empty());
    }

    #[test]
    fn lines_are_pulled_one_by_one_until_reset() {
        let mut b = Bench::new();
        let mut d = device(&mut b);
        b.write(&mut d, LINE + 23, 1);
        b.write(&mut d, LINE + 4, 0xff);
        assert_eq!(b.irq.level(), 1 << 23 | 1 << 4);
        b.write(&mut d, LINE + 23, 0);
        assert_eq!(b.irq.level(), 1 << 4);
        d.reset(&mut b.cx());
        assert_eq!(b.irq.level(), 0);
    }

    #[test]
    fn any_access_is_survived() {
        let mut b = Bench::new();
        let mut d = device(&mut b);
        b.torture(&mut d, MEMORY + MEMORY_LEN + 16);
    }
}
