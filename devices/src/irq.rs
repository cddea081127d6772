//! The board's interrupt lines: numbered levels that several devices may share.
//! What counts as an edge is decided by the chip at the other end; it gets both the
//! levels and the lines that went high since it last looked, so a pulse is not lost.

use serde::{Deserialize, Serialize};

/// Lines of a board: the pins of one 82093AA I/O APIC. Lines 0-15 are the ISA interrupts.
pub const LINES: usize = 24;

/// One device's connection to an interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqLine {
    line: u8,
    source: u8,
}

/// All lines of a board. A line is high while at least one of its sources drives it.
#[derive(Clone, Debug, Default)]
pub struct IrqLines {
    /// Per line, a bit for each source that drives it high.
    sources: [u32; LINES],
    /// Per line, how many sources are connected.
    connected: [u8; LINES],
    level: u32,
    rose: u32,
    changed: bool,
}

/// What happened on the lines since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Bit n: line n is high now.
    pub level: u32,
    /// Bit n: line n went from low to high at least once.
    pub rose: u32,
}

impl IrqLines {
    /// Connects one more source to `line`; `None` if there is no such line or it has 32 sources.
    pub fn connect(&mut self, line: u8) -> Option<IrqLine> {
        let count = self.connected.get_mut(usize::from(line))?;
        if *count >= 32 {
            return None;
        }
        let source = *count;
        *count += 1;
        Some(IrqLine { line, source })
    }

    /// Drives a source high or low.
    pub fn set(&mut self, at: IrqLine, high: bool) {
        let sources = &mut self.sources[usize::from(at.line)];
        let bit = 1 << at.source;
        *sources = if high { *sources | bit } else { *sources & !bit };
        let line = 1 << at.line;
        let now = *sources != 0;
        if now != (self.level & line != 0) {
            self.level ^= line;
            self.rose |= if now { line } else { 0 };
            self.changed = true;
        }
    }

    /// Drives a source low, high, and then to `high`: at least one rising edge.
    pub fn pulse(&mut self, at: IrqLine, high: bool) {
        self.set(at, false);
        self.set(at, true);
        self.set(at, high);
    }

    /// The levels of all lines.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// What changed since the last call; `None` if nothing did.
    pub fn take_changes(&mut self) -> Option<Changes> {
        if !self.changed {
            return None;
        }
        self.changed = false;
        Some(Changes { level: self.level, rose: core::mem::take(&mut self.rose) })
    }
}

/// How a message asks to be delivered (SDM 3A 11.6.1, bits 10:8 of ICR, LVT and I/O APIC entries).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// 000: the vector in the message.
    Fixed,
    /// 001: to the addressed processor with the lowest priority.
    LowestPriority,
    /// 010: system management interrupt.
    Smi,
    /// 100: non-maskable interrupt.
    Nmi,
    /// 101: INIT.
    Init,
    /// 110: start-up IPI.
    StartUp,
    /// 111: the vector comes from the 8259A.
    ExtInt,
    /// 011, which no manual defines.
    Reserved,
}

impl Delivery {
    /// From bits 10:8 of a register.
    pub fn of_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            7 => Self::ExtInt,
            _ => Self::Reserved,
        }
    }
}

/// An interrupt message on the way to local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Destination: an APIC ID, or a logical destination.
    pub dest: u32,
    /// Is `dest` logical?
    pub logical: bool,
    /// Delivery mode.
    pub mode: Delivery,
    /// Vector, for the modes that use it.
    pub vector: u8,
    /// Level-triggered: the end of the interrupt is reported back to I/O APICs.
    pub level: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_lines_or_together() {
        let mut l = IrqLines::default();
        let (a, b) = (l.connect(9).unwrap(), l.connect(9).unwrap());
        l.set(a, true);
        assert_eq!(l.take_changes(), Some(Changes { level: 1 << 9, rose: 1 << 9 }));
        l.set(b, true);
        l.set(a, false);
        assert_eq!(l.take_changes(), None);
        assert_eq!(l.level(), 1 << 9);
        l.set(b, false);
        assert_eq!(l.take_changes(), Some(Changes { level: 0, rose: 0 }));
    }

    #[test]
    fn a_pulse_leaves_an_edge_behind() {
        let mut l = IrqLines::default();
        let a = l.connect(0).unwrap();
        l.pulse(a, false);
        assert_eq!(l.take_changes(), Some(Changes { level: 0, rose: 1 }));
        l.set(a, true);
        l.take_changes();
        l.pulse(a, true);
        assert_eq!(l.take_changes(), Some(Changes { level: 1, rose: 1 }));
    }

    #[test]
    fn there_is_no_line_24_and_no_source_33() {
        let mut l = IrqLines::default();
        assert_eq!(l.connect(24), None);
        for _ in 0..32 {
            assert!(l.connect(3).is_some());
        }
        assert_eq!(l.connect(3), None);
    }
}
