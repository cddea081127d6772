//! Guests that ask for anything: hypercalls with arbitrary numbers, commands and arguments, most of them nearly plausible.
//! Nothing may panic, take for ever, or leave a page table that was not checked.
//!
//! `TABVISOR_XEN_FUZZ=N` makes N rounds of each instead of a few; `TABVISOR_XEN_FUZZ_FIRST` is the number of the first.

use super::*;
use crate::effect::{Control, Input};
use crate::xen::hypercall::COUNT;
use std::time::Instant;

/// Xorshift (Marsaglia, Journal of Statistical Software 8, 2003).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut r = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            r.next();
        }
        r
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A frame: mostly one of few, so that they meet again.
    fn frame(&mut self) -> u64 {
        match self.below(12) {
            0..5 => FREE + self.below(12),
            5..8 => MAPPED + self.below(8),
            8 => USERS + self.below(6),
            9 => CODE + CODE_PAGES + self.below(16),
            10 => FRAMES + self.below(100),
            _ => self.of(&[0, CODE, FRAMES - 1, u64::MAX, 1 << 28, u64::MAX >> 12]),
        }
    }
    /// An entry of a page table.
    fn entry(&mut self) -> u64 {
        let frame = self.frame();
        let flags =
            self.of(&[0, pte::RW, pte::RW, pte::RW | pte::US, pte::US, pte::A | pte::D, pte::PSE, pte::NX, pte::G]);
        if self.one_in(8) { self.next() } else { leaf(frame & 0xff_ffff_ffff, flags) & !u64::from(self.one_in(6)) }
    }
    /// A number of about any size.
    fn number(&mut self) -> u64 {
        match self.below(8) {
            0..4 => self.below(8),
            4 => self.below(4096),
            5 => 1 << self.below(64),
            6 => (1u64 << self.below(64)).wrapping_neg(),
            _ => self.next(),
        }
    }
}

/// A guest, and what it does next.
struct Guest {
    b: Bench,
    r: Random,
    pv: bool,
    /// The L4 it has begun with; the other tables of the initial mapping lie behind it.
    first: u64,
}

impl Guest {
    fn address(&mut self) -> u64 {
        let frame = match self.r.below(8) {
            0 => self.r.frame(),
            1 => MAPPED + self.r.below(8),
            _ => DATA + self.r.below(4),
        };
        let base = if self.pv { va(frame & 0xffff) } else { va_pvh(frame & 0xfffff) };
        match self.r.below(12) {
            0 => self.r.next(),
            1 => base | 0xff0,
            2 => 0xffff_8000_0000_0000 + (self.r.below(1 << 44) & !7),
            _ => base + 8 * self.r.below(64),
        }
    }
    fn value(&mut self) -> u64 {
        match self.r.below(10) {
            0..3 => self.r.number(),
            3 => self.r.frame(),
            4 => (self.r.frame() << PAGE_SHIFT) + self.r.below(512) * 8 + self.r.below(4),
            5 => self.r.entry(),
            6 => self.address(),
            7 => self.r.of(&[0x7ff0, 0x7ff0, 0, 1, 5]),
            8 => pair(self.r.below(16) as u32, self.r.number() as u32),
            _ => self.b.xen.now().nanos().wrapping_add(self.r.below(10_000)),
        }
    }
    /// Random structures where arguments point to.
    fn structures(&mut self) {
        for frame in DATA..DATA + 4 {
            for _ in 0..8 {
                let v = self.value();
                let at = 8 * self.r.below(80);
                self.b.put(frame, at, &words(&[v]));
            }
        }
        if self.pv && !self.r.one_in(3) {
            self.table();
        }
    }
    /// A table in the making, in a frame that nobody uses: of twelve, three are of each level, more or less.
    fn table(&mut self) {
        let n = self.r.below(12);
        // Nor one that is still being taken apart.
        if !self.b.domain(|d, _| d.types.kind(FREE + n) == Kind::None && d.types.is_data(FREE + n)) {
            return;
        }
        if self.r.one_in(3) {
            self.b.put(FREE + n, 0, &[0; 4096]);
        }
        for _ in 0..self.r.below(4) {
            let (at, v) = (8 * self.r.below(512), self.entry_for(n));
            self.b.put(FREE + n, at, &words(&[v]));
        }
    }
    /// An entry that may do for the `n`th of these tables.
    fn entry_for(&mut self, n: u64) -> u64 {
        let level = n / 3;
        let flags = self.r.of(&[0, pte::RW, pte::RW, pte::RW | pte::US, pte::A]);
        match self.r.below(12) {
            0 => self.r.entry(),
            1 => leaf(FREE + level * 3 + self.r.below(3), 0),
            2 => 0,
            _ if level == 0 => leaf(MAPPED + self.r.below(12), flags),
            _ => leaf(FREE + (level - 1) * 3 + self.r.below(3), flags),
        }
    }
    fn call(&mut self) -> (u64, [u64; 6]) {
        let number = if self.r.one_in(20) { self.r.number() } else { self.r.below(COUNT as u64) };
        let number =
            if self.pv && self.r.one_in(2) { self.r.of(&[1, 1, 14, 26, 26, 2, 10, 12, 20, 24]) } else { number };
        let number =
            if !self.pv && self.r.one_in(2) { self.r.of(&[12, 13, 17, 20, 24, 24, 29, 32, 34, 34]) } else { number };
        let mut args: [u64; 6] = core::array::from_fn(|_| self.value());
        let data = self.address();
        let data_frame = if self.pv { va(DATA) } else { va_pvh(DATA) };
        let kind = self.r.below(4);
        match number {
            // mmu_update: one entry of a table that is likely to be one.
            1 if kind > 0 => {
                let n = self.r.below(12);
                let (table, slot, entry) = match self.r.below(3) {
                    // What maps the kernel stays.
                    0 => (self.first, self.r.below(300), self.entry_for(11)),
                    1 => (self.first + 3, MAPPED + self.r.below(12), self.entry_for(0)),
                    _ => (FREE + n, self.r.below(512), self.entry_for(n)),
                };
                self.b.put(DATA, 0, &words(&[(table << PAGE_SHIFT) + 8 * slot + self.r.of(&[0, 0, 2]), entry]));
                let count = if self.r.one_in(30) { 1 << 31 | 3 } else { 1 };
                args = [va(DATA), count, if kind == 1 { va(DATA) + 0x800 } else { 0 }, 0x7ff0, 0, 0];
            }
            26 if kind > 0 => {
                let mut cmd = self.r.of(&[0, 1, 2, 3, 3, 4, 4, 5, 13, 15, 16, 17, 6, 7]);
                let n = self.r.below(12);
                if cmd < 4 && kind > 1 {
                    cmd = n / 3;
                }
                let mut frame = if self.r.one_in(4) { self.r.frame() } else { FREE + n };
                if cmd == 13 {
                    frame = va(MAPPED + self.r.below(8));
                }
                if cmd == 5 && kind > 1 {
                    frame = self.first;
                }
                let other = self.r.of(&[0, 8, 512, 8192, FREE]);
                self.b.put(DATA, 0, &words(&[cmd, frame, other]));
                args = [va(DATA), 1, 0, 0x7ff0, 0, 0];
            }
            14 if kind > 0 => {
                let frame = MAPPED + self.r.below(8);
                let flags = self.r.of(&[0, pte::RW]);
                let to = if kind == 1 { self.entry_for(0) } else { leaf(frame, flags) };
                args = [va(frame), to, self.r.below(3), 0, 0, 0];
            }
            13 => {
                let n = self.r.below(4);
                for k in 0..n {
                    let (op, a) = if self.r.one_in(2) { (self.r.below(COUNT as u64), args) } else { self.simple() };
                    self.b.put(DATA + 2, 64 * k, &words(&[op, 0, a[0], a[1], a[2], a[3], a[4], a[5]]));
                }
                let list = if self.pv { va(DATA + 2) } else { va_pvh(DATA + 2) };
                args = [list, if self.r.one_in(20) { self.r.number() } else { n }, 0, 0, 0, 0];
            }
            2 if kind > 0 => {
                self.b.put(DATA, 0, &words(&[self.r.frame(), self.r.frame()]));
                args = [va(DATA), self.r.below(1025), 0, 0, 0, 0];
            }
            2 | 3 | 5 | 8 | 9 | 10 | 21 | 25 => {}
            12 if kind > 0 => {
                let list: Vec<u64> =
                    (0..8).map(|_| if kind == 1 { self.r.frame() } else { FREE + self.r.below(20) }).collect();
                self.b.put(DATA + 1, 0, &words(&list));
                let [data, list] = [DATA, DATA + 1].map(|f| if self.pv { va(f) } else { va_pvh(f) });
                let count = if self.r.one_in(10) { self.r.number() } else { self.r.below(9) };
                let order = if self.r.one_in(6) { self.r.below(12) } else { 0 };
                let words = words(&[list, count, order, 0x7ff0, list, count, order, 0x7ff0, 0]);
                self.b.put(DATA, 0, &words);
                args = [self.r.of(&[0, 1, 1, 6, 6, 11, 7, 15, 9]), data, 0, 0, 0, 0];
                if matches!(args[0], 7 | 15) {
                    let to = self.r.of(&[0x600, FREE, MAPPED, FRAMES, 0x10_0000]) + self.r.below(4);
                    let a = [
                        pair(0x7ff0, self.r.below(3) as u32),
                        if args[0] == 15 { to } else { self.r.below(70) | self.r.below(2) << 31 },
                        to,
                    ];
                    self.b.put(DATA, 0, &a.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
                }
            }
            // What ends the domain, or what it does now, seldom does.
            23 | 29 if kind == 1 => {
                self.b.put(DATA, 0, &words(&[2]));
                let start_info = self.r.of(&[self.b.start_info, FREE, self.first]);
                args = [2, data_frame, start_info, 0, 0, 0];
                return (29, args);
            }
            23 | 29 if kind > 0 => return (29, [self.r.of(&[0, 1, 3, 6]), data, 0, 0, 0, 0]),
            24 if !self.pv && kind > 1 => {
                let [code, at] = [CODE, CODE << PAGE_SHIFT];
                let mut context = if kind == 2 {
                    super::pvh::context_32(at as u32)
                } else {
                    super::pvh::context_64(&self.b, (code + 1) << PAGE_SHIFT)
                };
                for _ in 0..self.r.below(3) {
                    let (at, bit) = (self.r.below(128) as usize, self.r.below(8));
                    context[at] ^= 1 << bit;
                }
                self.b.put(DATA, 0, &context);
                args = [self.r.of(&[0, 0, 1, 2]), self.r.below(3), va_pvh(DATA), 0, 0, 0];
            }
            // Most take a command and a pointer; or a command, a number and a pointer.
            24 => args = [self.r.below(18), self.r.below(4), data, 0, 0, 0],
            20 if kind > 0 => args = [self.grants(), data_frame, 1 + self.r.below(2), 0, 0, 0],
            20 => args = [self.r.below(14), data, if kind == 0 { self.r.number() } else { 1 }, 0, 0, 0],
            _ if kind > 0 => args = [self.r.below(40), data, args[2], args[3], 0, 0],
            _ => {}
        }
        (number, args)
    }
    /// Entries of the grant table and an operation on them that may make sense; its number.
    fn grants(&mut self) -> u64 {
        let reference = 8 + self.r.below(4);
        let frame = self.r.of(&[FREE, MAPPED, 1 << 52 | MAPPED]) + self.r.below(4);
        let flags = self.r.of(&[0, 1, 1, 1, 5, 0x101, 3]);
        let (version, at) = self.b.domain(|d, _| (d.grants.version, d.grants.places[0]));
        if version == 2 {
            self.b.put(at, 16 * reference, &words(&[flags | 1 << 16 | self.r.number() << 32, frame]));
        } else {
            self.b.put(at, 8 * reference, &words(&[flags | 1 << 16 | frame << 32]));
        }
        let cmd = self.r.of(&[0, 0, 0, 1, 1, 1, 2, 5, 7, 8, 9, 11, 12]);
        let host = self.r.of(&[va(MAPPED), va(MAPPED), FREE << PAGE_SHIFT, 0]) + (self.r.below(4) << PAGE_SHIFT);
        let pfn = self.r.of(&[FREE, MAPPED]) + self.r.below(4);
        let list = va(DATA) + 0x800;
        let side = (self.r.of(&[reference, pfn]), 0x7ff0 | self.r.below(0x900) << 16);
        let structure = match cmd {
            0 => [host, pair(self.r.of(&[1, 2, 3, 6, 7, 18]) as u32, reference as u32), 0x7ff0, 0, 0],
            1 => [host, self.r.of(&[0, pfn << PAGE_SHIFT]), self.r.below(4), 0, 0],
            2 => [0x7ff0 | self.r.below(9) << 32, 0, list, 0, 0],
            5 => [side.0, side.1, pfn, 0x7ff0, self.r.below(4097) | self.r.below(4) << 16],
            7 => [host, va(MAPPED) + (self.r.below(4) << PAGE_SHIFT), self.r.below(4), 0, 0],
            8 => [1 + self.r.below(2), 0, 0, 0, 0],
            9 => [self.r.below(3) | 0x7ff0 << 32, list, 0, 0, 0],
            11 => [pair(reference as u32, 7 + self.r.below(6) as u32), 0, 0, 0, 0],
            _ => [pfn << PAGE_SHIFT, pair(self.r.number() as u32, self.r.below(4) as u32), 0, 0, 0],
        };
        self.b.put(DATA, 0, &words(&structure));
        cmd
    }
    fn simple(&mut self) -> (u64, [u64; 6]) {
        let op = self.r.of(&[17, 29, 24, 25, 3, 1, 26, 12]);
        let a = [self.r.below(12), self.address(), self.value(), 0x7ff0, 0, 0];
        (op, a)
    }

    /// What went astray comes back, so that there is more to come.
    fn recover(&mut self) {
        let _ = self.b.stop();
        let first = self.first;
        let Bench { xen, vcpu, .. } = &mut self.b;
        let cpu = &mut vcpu.cpu;
        if self.pv && cpu.guest_kernel {
            if self.r.one_in(3) {
                let _ = xen.with(|d, _| d.new_base(cpu, first));
            }
            cpu.rip = va(CODE) + 2;
            cpu.regs[usize::from(reg::RSP)] = va(CODE + 15);
        }
        if !self.pv && cpu.cpl == 0 && cpu.long {
            cpu.rip = CODE << PAGE_SHIFT | 3;
        }
    }

    /// One thing that happens.
    fn step(&mut self) {
        self.recover();
        if self.b.domain(|d, _| d.suspended.is_some()) {
            let cancelled = self.r.one_in(3);
            self.b.xen.input(&Input::Control(Control::Resume { cancelled }));
        }
        match self.r.below(16) {
            0 => {
                let n = 1 + self.r.below(20);
                self.b.run(n);
            }
            1 => {
                let n = 1 << self.r.below(30);
                let to = self.b.xen.now() + tabvisor_core::time::VmDuration::from_nanos(n);
                self.b.xen.adjust_clock(&mut |clock| clock.jump(to));
            }
            2 => self.b.xen.input(&Input::Serial { port: 0, bytes: vec![b'x'; 300] }),
            3 if self.pv => {
                // The console's indices are the guest's to write.
                let (at, v) = (0xc00 + 4 * self.r.below(4), self.r.number() as u32);
                self.b.put(self.b.start_info + 2, at, &v.to_le_bytes());
                self.b.put(self.b.start_info + 1, at - 0x400, &v.to_le_bytes());
                self.b.put(DATA, 0, &words(&[1 + self.r.below(2)]));
                let at = va(DATA);
                self.once(32, [4, at, 0, 0, 0, 0]);
            }
            _ => {
                self.structures();
                let (number, args) = self.call();
                self.once(number, args);
            }
        }
        self.b.xen.effects().clear();
    }

    /// A round.
    fn steps(&mut self, round: u64) {
        for step in 0..400 {
            self.step();
            if step % 4 == 0 {
                let r = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| self.b.check()));
                assert!(r.is_ok(), "round {round}, step {step}");
            }
        }
    }

    /// One trap: what is not done with it is not insisted on.
    fn once(&mut self, number: u64, args: [u64; 6]) {
        let cpu = &mut self.b.vcpu.cpu;
        if self.pv && !cpu.guest_kernel || !self.pv && cpu.cpl != 0 {
            return;
        }
        cpu.regs[usize::from(reg::RAX)] = number;
        for (r, v) in [reg::RDI, reg::RSI, reg::RDX, 10, 8, 9].into_iter().zip(args) {
            cpu.regs[usize::from(r)] = v;
        }
        let before = cpu.rip;
        let trap = if self.pv { Trap::Syscall } else { Trap::Hypercall };
        let begin = Instant::now();
        for _ in 0..1 + self.r.below(3) {
            self.b.xen.trap(&mut self.b.vcpu.cpu, trap).expect("a hypercall raises nothing");
            if !self.b.again(before) {
                break;
            }
        }
        let took = begin.elapsed().as_millis();
        assert!(took < 2000, "hypercall {number} with {args:x?} took {took} ms");
    }
}

/// Which rounds there are; `few` if nobody asks for more.
pub fn rounds(few: u64) -> core::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v: String| v.parse().ok());
    let first = number("TABVISOR_XEN_FUZZ_FIRST").unwrap_or(0);
    first..first + number("TABVISOR_XEN_FUZZ").unwrap_or(few)
}

#[test]
fn a_pv_guest_may_ask_for_anything() {
    for round in rounds(12) {
        let mut b = Bench::build_with(false, 1 + (round % 3) as u32, &[0x90; 64], &[], "", FRAMES + 8 * (round % 2));
        b.users(&[0x0f, 0x05, 0xeb, 0xfc]);
        for vector in [6, 13, 14] {
            b.gate(vector, 4, va(CODE));
        }
        b.call_with(30, &[0], &[0, va(CODE)]);
        let first = b.l4();
        let mut g = Guest { b, r: Random::new(round), pv: true, first };
        g.steps(round);
    }
}

#[test]
fn a_pvh_guest_may_ask_for_anything() {
    for round in rounds(12) {
        let b = Bench::pvh_with(1 + (round % 3) as u32, &[0x90; 64], FRAMES + 8 * (round % 2));
        let mut g = Guest { b, r: Random::new(round), pv: false, first: 0 };
        g.steps(round);
    }
}
