//! Draws programs.

use super::asm::{Asm, Label};
use super::kernel::{REMAPS_OF_ALL, Remap, remap_at};
use super::layout::*;
use super::payload;
use crate::oracle::rng::Rng;
use crate::oracle::state::Mode;
use crate::oracle::values;

/// A program and what is around it.
pub struct Program {
    /// 64-bit code? Else 32-bit code.
    pub long: bool,
    /// At privilege level 3?
    pub user: bool,
    /// What lies at [`CODE`].
    pub code: Vec<u8>,
    /// What lies at [`LENGTHS`].
    pub lengths: Vec<u8>,
    /// What lies at [`DATA`].
    pub data: Vec<u8>,
    /// Pages that are not mapped onto themselves, with their entries.
    pub entries: Vec<(u64, u64)>,
    /// The remaps.
    pub remaps: Vec<Remap>,
    /// Instructions between interrupts.
    pub timer: u64,
    /// Instructions between restarts.
    pub watchdog: u64,
}

/// Where page-table entries say a page is, and what it may be used for.
fn entry(r: &mut Rng, frame: u64, long: bool) -> u64 {
    let flags = match r.below(20) {
        0 | 1 => 0x66,
        2 | 3 => 0x65,
        4 => 0x63,
        5 if long => 0x67 | 1 << 63,
        _ => 0x67,
    };
    frame << 12 | flags
}

/// Draws a program.
pub fn program(r: &mut Rng) -> Program {
    let (long, user) = (r.chance(60), r.chance(35));
    let entries = entries(r, long);
    let remaps = (0..REMAPS_OF_ALL).map(|_| remap(r, long)).collect();
    let mut fill = vec![0; CODE_SIZE as usize];
    fill.iter_mut().for_each(|b| *b = r.next() as u8);
    let mut w = Writer { a: Asm::new(long, CODE, fill), long, user, functions: Vec::new(), tables: Vec::new() };
    w.all(r);
    w.a.finish();
    let data = (0..DATA_SIZE / 8).flat_map(|_| values::integer(r).to_le_bytes()).collect();
    let watchdog = 3_000 + r.below(10_000);
    Program {
        long,
        user,
        code: w.a.bytes,
        lengths: w.a.lengths,
        data,
        entries,
        remaps,
        timer: 50 + r.below(2_000),
        watchdog,
    }
}

const DATA_PAGE: u64 = DATA >> 12;
const CODE_PAGE: u64 = CODE >> 12;
const WINDOW_PAGE: u64 = WINDOW >> 12;

fn entries(r: &mut Rng, long: bool) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    for n in 0..16 {
        let frame = if r.chance(90) { DATA_PAGE + n } else { DATA_PAGE + r.below(16) };
        all.push((DATA_PAGE + n, entry(r, frame, long)));
        all.push((WINDOW_PAGE + n, window(r, n, long)));
        if r.chance(10) {
            all.push((CODE_PAGE + n, (CODE_PAGE + n) << 12 | 0x65));
        }
    }
    all
}

/// An entry for a page of the window.
fn window(r: &mut Rng, n: u64, long: bool) -> u64 {
    let frame = match r.below(20) {
        0..=9 => CODE_PAGE + n,
        10..=12 => CODE_PAGE + r.below(16),
        13 => (RAM >> 12) + r.below(100),
        _ => DATA_PAGE + r.below(16),
    };
    entry(r, frame, long)
}

fn remap(r: &mut Rng, long: bool) -> Remap {
    let n = r.below(16);
    let (page, value) = match r.below(10) {
        0..=5 => (WINDOW_PAGE + n, window(r, n, long)),
        6 | 7 => {
            let frame = DATA_PAGE + r.below(16);
            (DATA_PAGE + n, entry(r, frame, long))
        }
        8 => (CODE_PAGE + n, (CODE_PAGE + n) << 12 | 0x65),
        _ => {
            let frame = CODE_PAGE + if r.chance(80) { n } else { r.below(16) };
            (CODE_PAGE + n, entry(r, frame, long))
        }
    };
    let word = if long { 8 } else { 4 };
    Remap { entry: SYSTEM + PT + word * page, value, page: page << 12, all: r.chance(25) }
}

/// A table of places to go to.
struct Table {
    at: Label,
    to: Vec<Label>,
    /// What is added to the addresses.
    shift: u64,
}

struct Writer {
    a: Asm,
    long: bool,
    user: bool,
    functions: Vec<Label>,
    tables: Vec<Table>,
}

/// Room that a function or its table never needs more of.
const ROOM: usize = 2200;
/// Bytes of code that are used; the rest of the area is for windows and stores.
const USED: usize = 0xa000;

impl Writer {
    fn mode(&self) -> Mode {
        if self.long { Mode::Long64 } else { Mode::Prot32 }
    }

    fn all(&mut self, r: &mut Rng) {
        let count = 3 + r.below(7) as usize;
        self.functions = (0..count).map(|_| self.a.label()).collect();
        self.main(r);
        for n in 0..count {
            if self.a.at() + ROOM > USED {
                // No room: what is left are stubs.
                self.a.set(self.functions[n]);
                self.a.ins(&[0xc3]);
                continue;
            }
            self.gap(r);
            self.function(r, n);
        }
        for table in std::mem::take(&mut self.tables) {
            let gap = r.below(40) as usize;
            self.a.go(self.a.at() + gap);
            self.a.set(table.at);
            table.to.iter().for_each(|&to| self.a.pointer(to, table.shift));
        }
    }

    /// Leaves room, often so much that what follows lies across the end of a page.
    fn gap(&mut self, r: &mut Rng) {
        let at = self.a.at();
        let to_end = 0x1000 - at % 0x1000;
        let gap = match r.below(10) {
            0..=3 => r.below(60) as usize,
            4..=7 => (to_end + 0x1000 - 1 - r.below(90) as usize) % 0x1000,
            _ => r.below(0x800) as usize,
        };
        if at + gap + ROOM < USED {
            self.a.go(at + gap);
        }
    }

    /// What runs first and after each restart: it calls everything, for ever.
    fn main(&mut self, r: &mut Rng) {
        let stack = STACK - 8 * r.below(4);
        if self.long {
            let high = if r.chance(30) { HIGH64 } else { 0 };
            let mut mov = vec![0x48, 0xbc];
            mov.extend((high | stack).to_le_bytes());
            self.a.ins(&mov);
        } else {
            let data = (if self.user { DATA3 } else { DATA0 }) as u8;
            self.a.ins4(&[0xbc], stack, &[]);
            self.a.ins(&[0x66, 0xb8, data, 0]);
            self.a.ins(&[0x8e, 0xd8]);
            self.a.ins(&[0x8e, 0xc0]);
        }
        self.a.ins(&[0xdb, 0xe3]);
        self.point(r);
        let again = self.a.here();
        for _ in 0..2 + r.below(6) {
            for _ in 0..r.below(4) {
                self.straight(r);
            }
            let to = r.below(self.functions.len() as u64) as usize;
            self.call(r, self.functions[to]);
        }
        self.a.branch(&[0xe9], again);
    }

    /// A function: blocks that lead to each other, and on to functions behind it.
    fn function(&mut self, r: &mut Rng, n: usize) {
        self.a.set(self.functions[n]);
        let count = 2 + r.below(7) as usize;
        let blocks: Vec<Label> = (0..count).map(|_| self.a.label()).collect();
        for (k, &block) in blocks.iter().enumerate() {
            self.a.set(block);
            for _ in 0..r.below(7) {
                self.straight(r);
            }
            let ahead = |r: &mut Rng| blocks[(k + 1 + r.below(count as u64) as usize).min(count - 1)];
            let behind = |r: &mut Rng| blocks[r.below(k as u64 + 1) as usize];
            match r.below(20) {
                _ if k + 1 == count => {}
                // On.
                0..=2 => {}
                // A branch ahead.
                3..=8 => {
                    let to = ahead(r);
                    self.a.branch(&[0x0f, 0x80 | r.below(16) as u8], to);
                }
                // A loop with a count in memory.
                9..=11 => {
                    let cell = DATA + 8 * r.below(64);
                    let to = behind(r);
                    self.a.ins4(&[0xff, 0x0c, 0x25], cell, &[]);
                    self.a.branch(&[0x0f, 0x89], to);
                    self.a.ins4(&[0xc7, 0x04, 0x25], cell, &(r.below(30) as u32).to_le_bytes());
                }
                // A loop of its own, with a count in a register.
                12 | 13 => {
                    self.a.ins4(&[0xb9], 1 + r.below(40), &[]);
                    let again = self.a.here();
                    for _ in 0..r.below(4) {
                        self.straight(r);
                    }
                    self.a.ins(&[0x83, 0xe1, 0x3f]);
                    self.a.ins(&[0x83, 0xe9, 1]);
                    self.a.branch(&[0x0f, 0x8f], again);
                }
                // Somewhere by a table.
                14 | 15 => {
                    let to = (0..4).map(|_| ahead(r)).collect();
                    self.by_table(r, to, false);
                }
                // Calls.
                16 | 17 if n + 1 < self.functions.len() => {
                    let to = n + 1 + r.below((self.functions.len() - n - 1) as u64) as usize;
                    self.call(r, self.functions[to]);
                }
                18 if n + 1 < self.functions.len() => {
                    let left = (self.functions.len() - n - 1) as u64;
                    let to = (0..4).map(|_| self.functions[n + 1 + r.below(left) as usize]).collect();
                    self.by_table(r, to, true);
                }
                // Back early.
                19 => {
                    self.a.branch(&[0x0f, 0x80 | r.below(16) as u8], blocks[count - 1]);
                    self.a.ins(&[0xc3]);
                }
                _ => {
                    let to = ahead(r);
                    self.a.branch(&[0xe9], to);
                }
            }
        }
        self.a.ins(&[0xc3]);
    }

    /// Which of the addresses of a piece of code: itself, the upper half, the window.
    fn shift(&self, r: &mut Rng) -> u64 {
        match r.below(10) {
            0..=5 => 0,
            6 | 7 => WINDOW - CODE,
            _ if self.long => HIGH64,
            _ => HIGH32,
        }
    }

    fn call(&mut self, r: &mut Rng, to: Label) {
        match r.below(4) {
            0 | 1 => self.a.branch(&[0xe8], to),
            // The function after a return that never happens.
            2 => {
                let back = self.a.label();
                self.a.address(&[0x68], back, 0, &[]);
                self.a.branch(&[0xe9], to);
                self.a.set(back);
            }
            _ => {
                let shift = self.shift(r);
                if shift == HIGH64 {
                    // RAX: the upper half's beginning, and the address.
                    self.a.ins(&[0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff]);
                    self.a.address(&[0x48, 0x8d, 0x80], to, 0, &[]);
                } else {
                    self.a.address(&[0xb8], to, shift, &[]);
                }
                self.a.ins(&[0xff, 0xd0]);
            }
        }
    }

    fn by_table(&mut self, r: &mut Rng, to: Vec<Label>, call: bool) {
        let at = self.a.label();
        let shift = self.shift(r);
        self.tables.push(Table { at, to, shift });
        match r.below(3) {
            0 => self.a.ins(&[0x0f, 0xb6, 0x06]),
            1 => self.a.ins(&[0x89, 0xc8 | (r.below(4) as u8) << 3]),
            _ => self.a.ins4(&[0x8b, 0x04, 0x25], DATA + 8 * r.below(64), &[]),
        }
        self.a.ins(&[0x83, 0xe0, 3]);
        let scaled = if self.long { 0xc5 } else { 0x85 };
        if r.chance(70) {
            self.a.address(&[0xff, if call { 0x14 } else { 0x24 }, scaled], at, 0, &[]);
        } else {
            self.wide_address(&[0x8b, 0x04, scaled], at);
            self.a.ins(&[0xff, if call { 0xd0 } else { 0xe0 }]);
        }
    }

    fn wide_address(&mut self, bytes: &[u8], of: Label) {
        if self.long {
            let with: Vec<u8> = [0x48].iter().chain(bytes).copied().collect();
            self.a.address(&with, of, 0, &[]);
        } else {
            self.a.address(bytes, of, 0, &[]);
        }
    }

    /// Points RSI somewhere.
    fn point(&mut self, r: &mut Rng) {
        let base = match r.below(10) {
            0..=5 => DATA,
            6 | 7 => WINDOW,
            8 => STACK - 0x1000,
            _ => CODE + 0x8000,
        };
        let page = base + 0x1000 * r.below(if base == DATA || base == WINDOW { 16 } else { 1 });
        let at = match r.below(4) {
            0 => page + 0x1000 - r.below(20),
            _ => (page + 0x100 + r.below(0xd00)) & !r.pick(&[0, 7, 15]),
        };
        if self.long && r.chance(15) {
            let mut mov = vec![0x48, 0xbe];
            mov.extend((HIGH64 | at).to_le_bytes());
            self.a.ins(&mov);
        } else {
            let high = if !self.long && r.chance(15) { HIGH32 } else { 0 };
            self.a.ins4(&[0xbe], high | at, &[]);
        }
    }

    /// Segment registers, bases, access to the user's pages.
    fn system(&mut self, r: &mut Rng) {
        let two: [&[u8]; 2] = match r.below(6) {
            0 | 1 => [&[0x0f, r.pick(&[0xa0, 0xa8])], &[0x0f, r.pick(&[0xa1, 0xa9])]],
            // PUSH DS, POP ES.
            2 if !self.long => [&[0x1e], &[0x07]],
            // MOV from DS or SS, to FS or GS.
            2 | 3 => [&[0x8c, r.pick(&[0xd8, 0xd0])], &[0x8e, r.pick(&[0xe0, 0xe8])]],
            4 => [&[0x0f, 0x01, 0xcb], &[0x0f, 0x01, 0xca]],
            _ => [&[0x0f, 0x01, 0xf8]; 2],
        };
        two.into_iter().for_each(|bytes| self.a.ins(bytes));
    }

    /// An instruction or a few that go straight on.
    fn straight(&mut self, r: &mut Rng) {
        let mode = self.mode();
        if r.chance(6) {
            return self.x87(r);
        }
        match r.below(100) {
            0..=62 => {
                let bytes = payload::instruction(r, mode, self.user);
                if matches!(bytes[0], 0xf2 | 0xf3) && r.chance(90) {
                    let most = if r.chance(10) { 3000 } else { 12 };
                    self.a.ins4(&[0xb9], r.below(most), &[]);
                }
                self.a.ins(&bytes);
            }
            63..=69 => self.point(r),
            // A load and a store.
            70..=73 => {
                let (to, size) = (r.below(4) as u8, r.pick(&[0x8au8, 0x8b]));
                let off = r.below(256) as u8;
                self.a.wide(&[size, 0x46 | to << 3, off]);
                self.a.wide(&[size & !2, 0x46 | (r.below(4) as u8) << 3, off.wrapping_add(3)]);
            }
            // The stack.
            74..=77 => {
                let (a, b) = (r.below(4) as u8, r.below(4) as u8);
                self.a.ins(&[0x50 | a]);
                if r.chance(50) {
                    let bytes = payload::instruction(r, mode, self.user);
                    self.a.ins(&bytes);
                }
                self.a.ins(&[0x58 | b]);
            }
            78..=82 => self.change_code(r),
            83..=86 => self.exchange(r),
            87 | 88 => self.a.ins(&[0xcd, r.pick(&[REMAP, REMAP, 0x50])]),
            89 if r.chance(60) => self.a.ins(&[r.pick(&[0xcc, 0xfb, 0xfa, 0xfb, 0xfc, 0xfd, 0xf8, 0xf9, 0xf5])]),
            89 => self.system(r),
            // Flags through the stack: IF, AC, now and then TF.
            90..=92 => {
                self.a.ins(&[0x9c]);
                if r.chance(60) {
                    let bits = r.pick(&[0x200, 0x200, 0x4_0000, 0xd5, 0x8d5, 0x400, 0x100]);
                    self.a.ins4(&[0x81, 0x34, 0x24], bits, &[]);
                }
                self.a.ins(&[0x9d]);
            }
            93 => self.a.ins(&[0x0f, 0x31]),
            94 => self.a.ins(&[0x0f, 0xa2]),
            95 => self.a.ins(&[r.pick(&[0xe4, 0xe5, 0xe6, 0xe7]), r.next() as u8]),
            96 => self.a.ins(&r.pick(&[[0x0f, 0x0b], [0x0f, 0xff], [0xeb, 0x00]])),
            // Numbers.
            _ => {
                let v = if r.chance(50) { values::integer(r) } else { DATA + r.below(0x4_0000) };
                let to = r.pick(&[0, 1, 2, 3, 5, 7]);
                self.a.ins4(&[0xb8 | to], v, &[]);
            }
        }
    }

    /// A few instructions of the x87 unit, one after the other.
    fn x87(&mut self, r: &mut Rng) {
        // [RSI + off]
        let memory = |op: u8| 0x46 | op << 3;
        for _ in 0..2 + r.below(9) {
            let most = if r.chance(80) { 4 } else { 8 };
            let (i, off) = (r.below(most) as u8, r.below(128) as u8 & !3);
            let op = r.pick(&[0, 0, 1, 1, 4, 5, 6, 7u8]);
            match r.below(40) {
                0..=5 => self.a.ins(&[r.pick(&[0xdd, 0xdd, 0xd9]), 0x46, off]),
                6..=8 => self.a.ins(&[0xd9, r.pick(&[0xe8, 0xee, 0xeb])]),
                9..=11 => self.a.ins(&[0xd9, 0xc0 | i]),
                12..=14 => self.a.ins(&[0xd9, 0xc8 | i]),
                15..=17 => self.a.ins(&[r.pick(&[0xd8, 0xdc, 0xde]), 0xc0 | op << 3 | i]),
                18..=20 => self.a.ins(&[0xde, 0xc0 | op << 3 | i]),
                21..=24 => self.a.ins(&[r.pick(&[0xd8, 0xdc, 0xdc, 0xda, 0xde]), memory(op), off]),
                25..=28 => self.a.ins(&[r.pick(&[0xd9, 0xdd, 0xdd]), memory(2 + (i & 1)), off]),
                29 => self.a.ins(&[r.pick(&[0xdb, 0xdf]), memory(0), off]),
                30 => self.a.ins(&[0xdf, memory(r.pick(&[5, 7])), off]),
                31 => self.a.ins(&[r.pick(&[0xdb, 0xdf]), r.pick(&[0xe8, 0xf0]) | i]),
                32 => self.a.ins(&[0xdd, r.pick(&[0xd0, 0xd8, 0xe0, 0xe8]) | i]),
                33 => self.a.ins(&[0xd9, r.pick(&[0xe0, 0xe1])]),
                34 => self.a.ins(&[0xd9, r.pick(&[0xfa, 0xe4, 0xfc, 0xfe, 0xf2])]),
                35 => self.a.ins(&[0xdf, 0xe0]),
                36 => self.a.ins(&[0xdd, 0xc0 | i]),
                37 => self.a.ins(&[0x0f, 0xae, 0x46, off & !15]),
                38 => self.a.ins(&[0xdb, r.pick(&[0xe2, 0xe3])]),
                _ if r.chance(30) => self.a.ins(&[0xd9, memory(5), off]),
                _ => self.a.ins(&[0xd9, 0x76, off]),
            }
        }
        if r.chance(20) {
            self.a.ins(&[0xdb, 0xe3]);
        }
    }

    /// A store to an instruction's immediate, its condition, or its bytes, near or far.
    fn change_code(&mut self, r: &mut Rng) {
        let shift = if r.chance(70) { 0 } else { WINDOW - CODE };
        match r.below(5) {
            // What a constant is: here and now.
            0 | 1 => {
                let changed = self.a.label();
                self.a.address(&[0x89, 0x04 | (r.below(4) as u8) << 3, 0x25], changed, shift + 1, &[]);
                for _ in 0..r.below(3) {
                    self.a.ins(&[0x90]);
                }
                self.a.set(changed);
                self.a.ins4(&[0xb8 | r.pick(&[0u8, 1, 2, 3, 7])], r.next(), &[]);
            }
            // A condition turns round.
            2 => {
                let (changed, on) = (self.a.label(), self.a.label());
                self.a.address(&[0x80, 0x34, 0x25], changed, shift + 1, &[1]);
                if r.chance(50) {
                    self.straight(r);
                }
                self.a.set(changed);
                self.a.branch(&[0x0f, 0x80 | r.below(16) as u8], on);
                self.a.ins(&[0xff, 0xc0 | r.below(4) as u8]);
                self.a.set(on);
            }
            // INC becomes DEC.
            3 => {
                let changed = self.a.here();
                self.a.ins(&[0xff, 0xc0 | r.below(4) as u8]);
                self.a.address(&[0x80, 0x34, 0x25], changed, shift + 1, &[8]);
            }
            // A function somewhere else begins with another constant from now on; its first bytes may be anything.
            _ => {
                let f = self.functions[r.below(self.functions.len() as u64) as usize];
                let more = 64 + r.below(64);
                self.a.address(&[0xfe, 0x04, 0x25], f, shift + more, &[]);
            }
        }
    }

    /// Exchanges a page-table entry, or lets the kernel do it.
    fn exchange(&mut self, r: &mut Rng) {
        if self.user {
            self.a.ins(&[0xcd, REMAP]);
            return;
        }
        let n = r.below(REMAPS_OF_ALL as u64) as usize;
        let at = remap_at(n);
        // The entry's address is the table's, so through a register.
        self.a.wide4(&[0x8b, 0x14, 0x25], at, &[]);
        self.a.wide4(&[0x8b, 0x04, 0x25], at + 8, &[]);
        self.a.wide(&[0x87, 0x02]);
        self.a.wide4(&[0x89, 0x04, 0x25], at + 8, &[]);
        if r.chance(60) {
            self.a.wide4(&[0x8b, 0x14, 0x25], at + 16, &[]);
            self.a.ins(&[0x0f, 0x01, 0x3a]);
            if self.long {
                self.a.ins(&[0x48, 0xb8, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff]);
                self.a.ins(&[0x0f, 0x01, 0x3c, 0x10]);
            } else {
                self.a.ins4(&[0x0f, 0x01, 0xba], HIGH32, &[]);
            }
        } else {
            self.a.ins(&[0x0f, 0x20, 0xd8]);
            self.a.ins(&[0x0f, 0x22, 0xd8]);
        }
    }
}
