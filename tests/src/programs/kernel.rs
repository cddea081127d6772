//! What handles a program's exceptions: it counts them, maps pages that are wanted, steps over instructions that
//! cannot be run, exchanges page-table entries when asked, and starts the program again when it is lost.

use super::asm::Asm;
use super::layout::*;

/// A page-table entry that is exchanged with another value, again and again.
#[derive(Clone, Copy, Debug)]
pub struct Remap {
    /// Linear address of the entry, from [`SYSTEM`] on.
    pub entry: u64,
    /// What it is exchanged with first.
    pub value: u64,
    /// An address in the page.
    pub page: u64,
    /// Flushed by MOV to CR3? Else by INVLPG.
    pub all: bool,
}

/// Remaps of a program; a power of two.
pub const REMAPS_OF_ALL: usize = 16;

/// Where the fields of a remap lie.
pub fn remap_at(n: usize) -> u64 {
    SYSTEM + REMAPS + 32 * n as u64
}

/// The entries of all vectors, at [`ENTRIES`].
pub fn entries(long: bool) -> Vec<u8> {
    let mut a = Asm::new(long, ENTRIES, vec![0; 0x1000]);
    for v in 0..256u64 {
        a.go(16 * v as usize);
        if !matches!(v, 8 | 10..=14 | 17) {
            a.ins(&[0x6a, 0]);
        }
        a.ins4(&[0x68], v, &[]);
        let next = ENTRIES + a.at() as u64 + 5;
        a.ins4(&[0xe9], HANDLER.wrapping_sub(next), &[]);
    }
    a.bytes
}

/// What they lead to, at [`HANDLER`]. `user`: the program runs at privilege level 3.
pub fn handler(long: bool, user: bool, restart: u64) -> Vec<u8> {
    let mut a = Asm::new(long, HANDLER, vec![0; 0x1000]);
    let (word, saved) = if long { (8, 3) } else { (4, 5) };
    let slot = |n: u8| (saved + n) * word;
    let [vector, rip, cs, flags, rsp, ss] = [slot(0), slot(2), slot(3), slot(4), slot(5), slot(6)];
    let [again, timer, remap, debug, skip, out] = [(); 6].map(|()| a.label());
    let count = |v: u8| SYSTEM + COUNTS + 4 * u64::from(v);

    for push in [0x50, 0x51, 0x52] {
        a.ins(&[push]);
    }
    if !long {
        a.ins(&[0x1e]);
        a.ins(&[0x06]);
        a.ins(&[0x66, 0xb8, DATA0 as u8, 0]);
        a.ins(&[0x8e, 0xd8]);
        a.ins(&[0x8e, 0xc0]);
    }
    a.wide(&[0x8b, 0x44, 0x24, vector]);
    a.wide(&[0x8b, 0x4c, 0x24, rip]);
    a.ins4(&[0xff, 0x04, 0x85], count(0), &[]);
    for (v, to) in [(2, again), (u64::from(TIMER), timer), (u64::from(REMAP), remap), (1, debug), (3, out), (4, out)] {
        a.ins4(&[0x3d], v, &[]);
        a.branch(&[0x0f, 0x84], to);
    }
    a.ins4(&[0x3d], 0x20, &[]);
    a.branch(&[0x0f, 0x83], out);
    a.ins4(&[0x3d], 14, &[]);
    a.branch(&[0x0f, 0x85], skip);

    // A page fault: of a fetch, or of data whose page is now mapped, every other time.
    a.ins(&[0x0f, 0x20, 0xd2]);
    a.wide(&[0x39, 0xca]);
    a.branch(&[0x0f, 0x84], again);
    a.ins4(&[0x81, 0xe2], RAM - 1, &[]);
    a.ins4(&[0x81, 0xea], DATA, &[]);
    a.ins4(&[0x81, 0xfa], WINDOW + CODE_SIZE - DATA, &[]);
    a.branch(&[0x0f, 0x83], skip);
    a.ins4(&[0xf6, 0x04, 0x25], count(14), &[1]);
    a.branch(&[0x0f, 0x84], skip);
    a.ins(&[0xc1, 0xea, 12]);
    let (table, scaled) = (SYSTEM + PT + u64::from(word) * (DATA >> 12), if long { 0xd5 } else { 0x95 });
    a.ins4(&[0xf6, 0x04, scaled], table, &[1]);
    a.branch(&[0x0f, 0x85], skip);
    a.ins4(&[0x80, 0x0c, scaled], table, &[1]);
    a.ins(&[0x0f, 0x20, 0xd2]);
    a.ins(&[0x0f, 0x01, 0x3a]);
    a.branch(&[0xe9], out);

    // Over the instruction, if it is known.
    a.set(skip);
    a.ins(&[0x89, 0xca]);
    a.ins4(&[0x81, 0xe2], 0xf_ffff, &[]);
    a.ins4(&[0x81, 0xea], CODE, &[]);
    a.ins4(&[0x81, 0xfa], CODE_SIZE, &[]);
    a.branch(&[0x0f, 0x83], again);
    a.ins4(&[0x0f, 0xb6, 0x92], LENGTHS, &[]);
    a.ins(&[0x85, 0xd2]);
    a.branch(&[0x0f, 0x84], again);
    a.wide(&[0x01, 0xd1]);
    a.wide(&[0x89, 0x4c, 0x24, rip]);
    a.set(out);
    if !long {
        a.ins(&[0x07]);
        a.ins(&[0x1f]);
    }
    for pop in [0x5a, 0x59, 0x58] {
        a.ins(&[pop]);
    }
    a.wide(&[0x83, 0xc4, 2 * word]);
    a.wide(&[0xcf]);

    // Single steps end after a while.
    a.set(debug);
    a.ins4(&[0xf6, 0x04, 0x25], count(1), &[3]);
    a.branch(&[0x0f, 0x85], out);
    a.ins4(&[0x81, 0x64, 0x24, flags], !0x100, &[]);
    a.branch(&[0xe9], out);

    a.set(timer);
    a.ins4(&[0xf6, 0x04, 0x25], count(TIMER), &[15]);
    a.branch(&[0x0f, 0x85], out);
    a.set(again);
    let (code, data) = if user { (CODE3, DATA3) } else { (CODE0, DATA0) };
    a.wide4(&[0xc7, 0x44, 0x24, rip], restart, &[]);
    a.wide4(&[0xc7, 0x44, 0x24, cs], code.into(), &[]);
    a.wide4(&[0xc7, 0x44, 0x24, flags], 0x202, &[]);
    if long || user {
        a.wide4(&[0xc7, 0x44, 0x24, rsp], STACK, &[]);
        a.wide4(&[0xc7, 0x44, 0x24, ss], data.into(), &[]);
    }
    a.branch(&[0xe9], out);

    a.set(remap);
    let all = a.label();
    a.ins4(&[0x8b, 0x14, 0x25], SYSTEM + NEXT, &[]);
    a.ins4(&[0xff, 0x04, 0x25], SYSTEM + NEXT, &[]);
    a.ins(&[0x83, 0xe2, REMAPS_OF_ALL as u8 - 1]);
    a.ins(&[0xc1, 0xe2, 5]);
    a.wide4(&[0x8b, 0x82], remap_at(0), &[]);
    a.wide4(&[0x8b, 0x8a], remap_at(0) + 8, &[]);
    a.wide(&[0x87, 0x08]);
    a.wide4(&[0x89, 0x8a], remap_at(0) + 8, &[]);
    a.wide4(&[0x8b, 0x82], remap_at(0) + 16, &[]);
    a.ins4(&[0x80, 0xba], remap_at(0) + 24, &[0]);
    a.branch(&[0x0f, 0x85], all);
    a.ins(&[0x0f, 0x01, 0x38]);
    if long {
        // Whatever the upper half shows there, too.
        a.ins4(&[0x48, 0xc7, 0xc1], 0xffff_8000, &[]);
        a.ins(&[0x48, 0xc1, 0xe1, 32]);
        a.ins(&[0x48, 0x09, 0xc8]);
    } else {
        a.ins4(&[0x0d], HIGH32, &[]);
    }
    a.ins(&[0x0f, 0x01, 0x38]);
    a.branch(&[0xe9], out);
    a.set(all);
    a.ins(&[0x0f, 0x20, 0xd8]);
    a.ins(&[0x0f, 0x22, 0xd8]);
    a.branch(&[0xe9], out);
    a.finish();
    a.bytes
}
