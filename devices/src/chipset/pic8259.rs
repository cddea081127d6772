//! Two 8259A interrupt controllers, cascaded as in every PC since the AT, with the edge/level
//! control registers (ELCR) of the PIIX. Sources: Intel 8259A data sheet (231468-003), 82371AB
//! (PIIX4) data sheet section 8.5. The MCS-80/85 mode (ICW4 bit 0 clear) and buffered mode
//! change nothing here: the acknowledge cycle is always the 8086's.
//!
//! Offsets: 0-1 master (ports 20h-21h), 2-3 slave (A0h-A1h), 4-5 ELCR (4D0h-4D1h).

use crate::device::{Cx, Device, put_state, read_bytes, write_bytes};
use crate::irq::Changes;
use serde::{Deserialize, Serialize};

/// The master's input that the slave's INT drives.
const CASCADE: u8 = 2;
/// ELCR bits that can be set: not the timer, keyboard and cascade (PIIX4 8.5.6) ...
const ELCR_MASTER: u8 = 0xf8;
/// ... and not the clock and the coprocessor (PIIX4 8.5.7).
const ELCR_SLAVE: u8 = 0xde;

// ICW1
const ICW1_IC4: u8 = 0x01;
const ICW1_SNGL: u8 = 0x02;
const ICW1_LTIM: u8 = 0x08;
const ICW1: u8 = 0x10;
// ICW4
const ICW4_AEOI: u8 = 0x02;
const ICW4_SFNM: u8 = 0x10;
// OCW3
const OCW3: u8 = 0x08;
const OCW3_RIS: u8 = 0x01;
const OCW3_RR: u8 = 0x02;
const OCW3_P: u8 = 0x04;
const OCW3_SMM: u8 = 0x20;
const OCW3_ESMM: u8 = 0x40;

/// The initialization word that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Expect {
    #[default]
    Ocw1,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chip {
    /// Levels of the inputs.
    lines: u8,
    /// Requests latched from rising edges.
    edges: u8,
    imr: u8,
    isr: u8,
    elcr: u8,
    /// ICW1 LTIM: all inputs are level-triggered.
    level_triggered: bool,
    single: bool,
    wants_icw4: bool,
    expect: Expect,
    /// ICW2: vector bits 7:3.
    base: u8,
    auto_eoi: bool,
    special_fully_nested: bool,
    rotate_on_auto_eoi: bool,
    special_mask: bool,
    poll: bool,
    read_isr: bool,
    /// The input that has the highest priority.
    first: u8,
}

impl Chip {
    /// Interrupt request register: level inputs as they are, edge inputs as latched.
    fn irr(&self) -> u8 {
        let level = if self.level_triggered { 0xff } else { self.elcr };
        (self.lines & level) | (self.edges & !level)
    }

    /// The inputs' new levels. A request that goes away before it is acknowledged is lost
    /// (data sheet, "Edge and level triggered modes").
    fn set_lines(&mut self, lines: u8, rose: u8) {
        self.edges = (self.edges | rose) & lines;
        self.lines = lines;
    }

    /// The first set bit of `of` in priority order, and how far from the highest it is.
    fn highest(&self, of: u8) -> Option<(u8, u32)> {
        let turned = of.rotate_right(u32::from(self.first));
        (turned != 0).then(|| {
            let rank = turned.trailing_zeros();
            ((self.first + rank as u8) & 7, rank)
        })
    }

    /// The request that INT stands for, if any. `master` chips treat the cascade input specially.
    fn request(&self, master: bool) -> Option<u8> {
        let (input, rank) = self.highest(self.irr() & !self.imr)?;
        let mut serving = self.isr;
        if self.special_mask {
            // In special mask mode a masked level no longer inhibits others.
            serving &= !self.imr;
        }
        if self.special_fully_nested && master {
            // A slave being served may interrupt again with a higher-priority input of its own.
            serving &= !(1 << CASCADE);
        }
        match self.highest(serving) {
            Some((_, busy)) if busy <= rank => None,
            _ => Some(input),
        }
    }

    /// What INTA (or a poll) does to the chosen input.
    fn begin(&mut self, input: u8) {
        self.edges &= !(1 << input);
        if !self.auto_eoi {
            self.isr |= 1 << input;
        } else if self.rotate_on_auto_eoi {
            self.first = (input + 1) & 7;
        }
    }

    /// INTA: the number of the input, or 7 without its ISR bit when the request is gone
    /// (data sheet, "spurious").
    fn acknowledge(&mut self, master: bool) -> u8 {
        match self.request(master) {
            Some(input) => {
                self.begin(input);
                input
            }
            None => 7,
        }
    }

    fn end_of_interrupt(&mut self, ocw2: u8) {
        let level = ocw2 & 7;
        // Non-specific EOI ends the highest in service; masked ones are skipped in special
        // mask mode (data sheet, "Special mask mode").
        let serving = if self.special_mask { self.isr & !self.imr } else { self.isr };
        match ocw2 >> 5 {
            0b001 | 0b101 => {
                if let Some((input, _)) = self.highest(serving) {
                    self.isr &= !(1 << input);
                    if ocw2 >> 5 == 0b101 {
                        self.first = (input + 1) & 7;
                    }
                }
            }
            0b011 => self.isr &= !(1 << level),
            0b111 => {
                self.isr &= !(1 << level);
                self.first = (level + 1) & 7;
            }
            0b110 => self.first = (level + 1) & 7,
            0b100 => self.rotate_on_auto_eoi = true,
            0b000 => self.rotate_on_auto_eoi = false,
            _ => {} // 010: no operation
        }
    }

    fn write(&mut self, a0: bool, v: u8) {
        if a0 {
            match self.expect {
                Expect::Ocw1 => self.imr = v,
                Expect::Icw2 => {
                    self.base = v & 0xf8;
                    self.expect = if !self.single {
                        Expect::Icw3
                    } else if self.wants_icw4 {
                        Expect::Icw4
                    } else {
                        Expect::Ocw1
                    };
                }
                // The cascade is wired to input 2, whatever ICW3 says.
                Expect::Icw3 => self.expect = if self.wants_icw4 { Expect::Icw4 } else { Expect::Ocw1 },
                Expect::Icw4 => {
                    self.auto_eoi = v & ICW4_AEOI != 0;
                    self.special_fully_nested = v & ICW4_SFNM != 0;
                    self.expect = Expect::Ocw1;
                }
            }
        } else if v & ICW1 != 0 {
            // Data sheet, "Initialization command words": the edge sense circuit is reset, IMR
            // cleared, input 7 gets priority 7, special mask off, status read is IRR, and without
            // IC4 all functions of ICW4 are off.
            *self = Self {
                lines: self.lines,
                elcr: self.elcr,
                base: self.base,
                level_triggered: v & ICW1_LTIM != 0,
                single: v & ICW1_SNGL != 0,
                wants_icw4: v & ICW1_IC4 != 0,
                expect: Expect::Icw2,
                ..Self::default()
            };
        } else if v & OCW3 != 0 {
            if v & OCW3_ESMM != 0 {
                self.special_mask = v & OCW3_SMM != 0;
            }
            if v & OCW3_P != 0 {
                self.poll = true;
            } else if v & OCW3_RR != 0 {
                self.read_isr = v & OCW3_RIS != 0;
            }
        } else {
            self.end_of_interrupt(v);
        }
    }

    fn read(&mut self, a0: bool, master: bool) -> u8 {
        if core::mem::take(&mut self.poll) {
            // Poll word: bit 7 says that there is a request, bits 2:0 which; the read is its INTA.
            return match self.request(master) {
                Some(input) => {
                    self.begin(input);
                    0x80 | input
                }
                None => 0,
            };
        }
        match (a0, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr(),
        }
    }
}

/// Everything the guest can tell apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    master: Chip,
    slave: Chip,
}

/// The pair of controllers. The board feeds it the lines and runs its acknowledge cycles.
#[derive(Default)]
pub struct Pic8259 {
    state: State,
}

impl Pic8259 {
    /// New levels and edges of ISA interrupts 0-15 (bits 15:0; bit 2 is not connected).
    pub fn set_lines(&mut self, c: Changes) {
        self.state.slave.set_lines((c.level >> 8) as u8, (c.rose >> 8) as u8);
        let cascade = self.state.master.lines & 1 << CASCADE;
        let own = !(1u8 << CASCADE);
        self.state.master.set_lines(c.level as u8 & own | cascade, c.rose as u8 & own);
        self.update_cascade();
    }

    /// Carries the slave's INT to the master's input 2.
    fn update_cascade(&mut self) {
        let int = self.state.slave.request(false).is_some();
        let m = &mut self.state.master;
        let bit = 1 << CASCADE;
        let lines = if int { m.lines | bit } else { m.lines & !bit };
        m.set_lines(lines, lines & !m.lines & bit);
    }

    /// The master's INT output.
    pub fn int(&self) -> bool {
        self.state.master.request(true).is_some()
    }

    /// The two INTA pulses: the vector that goes onto the bus.
    pub fn acknowledge(&mut self) -> u8 {
        let input = self.state.master.acknowledge(true);
        let vector = if input == CASCADE && !self.state.master.single {
            // The slave drops INT during INTA and raises it again for its next request, which
            // gives the master's edge-triggered input a new edge.
            let of_slave = self.state.slave.acknowledge(false);
            self.state.master.lines &= !(1 << CASCADE);
            self.state.slave.base | of_slave
        } else {
            self.state.master.base | input
        };
        self.update_cascade();
        vector
    }
}

impl Device for Pic8259 {
    fn read(&mut self, _cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        read_bytes(at, data, |at| match at {
            0 | 1 => self.state.master.read(at == 1, true),
            2 | 3 => self.state.slave.read(at == 3, false),
            4 => self.state.master.elcr,
            5 => self.state.slave.elcr,
            _ => 0xff,
        });
        self.update_cascade();
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        write_bytes(at, data, |at, v| match at {
            0 | 1 => self.state.master.write(at == 1, v),
            2 | 3 => self.state.slave.write(at == 3, v),
            4 => self.state.master.elcr = v & ELCR_MASTER,
            5 => self.state.slave.elcr = v & ELCR_SLAVE,
            _ => {}
        });
        self.update_cascade();
    }

    fn reset(&mut self, _cx: &mut Cx<'_>) {
        let lines = (self.state.master.lines & !(1 << CASCADE), self.state.slave.lines);
        self.state = State::default();
        self.state.master.lines = lines.0;
        self.state.slave.lines = lines.1;
    }

    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
#[path = "pic8259_tests.rs"]
mod tests;
