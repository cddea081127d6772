//! Translations of the kernel's half, which outlast flushes (`core/src/cpu/kept.rs`): what has to go is gone, and the rest
//! is still there.

use super::*;

/// A kernel that loads from [RBX] again and again: mov rax, [rbx]; jmp back.
const LOADS: [u8; 5] = [0x48, 0x8b, 0x03, 0xeb, 0xfb];

struct Loads(Bench);

impl Loads {
    fn new() -> Self {
        let b = Bench::pv_code(&LOADS);
        b.put(MAPPED, 0, &words(&[1]));
        b.put(MAPPED + 1, 0, &words(&[2]));
        Self(b)
    }
    /// What the guest reads at `at`.
    fn read(&mut self, at: u64) -> u64 {
        let b = &mut self.0;
        b.cpu().rip = va(CODE);
        b.set(reg::RBX, at);
        b.run(2);
        b.reg(reg::RAX)
    }
    /// How many translations a read takes that were not there.
    fn fills(&mut self, at: u64) -> u64 {
        let before = self.0.cpu().stats.tlb_fills;
        self.read(at);
        self.0.cpu().stats.tlb_fills - before
    }
    /// MMUEXT_TLB_FLUSH_LOCAL.
    fn flush(&mut self) {
        assert_eq!(self.0.mmuext(6, 0, 0), 0);
    }
}

#[test]
fn what_has_not_changed_is_still_there() {
    let mut l = Loads::new();
    assert_eq!((l.read(va(MAPPED)), l.fills(va(MAPPED))), (1, 0));
    l.flush();
    assert_eq!(l.fills(va(MAPPED)), 0);
    // The change is another page's.
    assert_eq!(l.read(va(MAPPED + 1)), 2);
    assert_eq!(l.0.call(14, &[va(MAPPED + 1), leaf(MAPPED + 2, pte::RW), 0]), 0);
    l.flush();
    assert_eq!((l.fills(va(MAPPED)), l.read(va(MAPPED + 1))), (0, 0));
}

#[test]
fn a_page_that_is_mapped_differently_is_not() {
    let mut l = Loads::new();
    assert_eq!(l.read(va(MAPPED)), 1);
    assert_eq!(l.0.call(14, &[va(MAPPED), leaf(MAPPED + 1, pte::RW), 0]), 0);
    l.flush();
    assert_eq!(l.read(va(MAPPED)), 2);
    // As an entry by its machine address, and away.
    let slot = l.0.slot_of(MAPPED);
    assert_eq!(l.0.update(slot, leaf(MAPPED + 2, pte::RW)), 0);
    l.flush();
    assert_eq!(l.read(va(MAPPED)), 0);
}

#[test]
fn nor_is_a_frame_that_was_seen_in_several_places() {
    let mut l = Loads::new();
    // Both pages lead to one frame.
    assert_eq!(l.0.call(14, &[va(MAPPED + 1), leaf(MAPPED, pte::RW), 0]), 0);
    l.flush();
    assert_eq!((l.read(va(MAPPED)), l.read(va(MAPPED + 1))), (1, 1));
    for page in [MAPPED, MAPPED + 1] {
        assert_eq!(l.0.call(14, &[va(page), leaf(MAPPED + 2, pte::RW), 0]), 0);
    }
    l.flush();
    assert_eq!((l.read(va(MAPPED)), l.read(va(MAPPED + 1))), (0, 0));
}

#[test]
fn nor_what_went_through_a_table_that_is_taken_away() {
    let mut l = Loads::new();
    let b = &mut l.0;
    // Another L1 with the same pages but for one.
    let slot = b.slot_of(0);
    let table = b.bytes(slot >> PAGE_SHIFT, 0, 4096);
    b.put(FREE, 0, &table);
    b.put(FREE, 8 * MAPPED, &words(&[leaf(MAPPED + 1, pte::RW)]));
    assert_eq!(l.read(va(MAPPED)), 1);
    // The L2's entry for VIRT.
    let b = &mut l.0;
    let l4 = b.l4();
    let frame = |entry: u64| (entry & pte::ADDR) >> PAGE_SHIFT;
    let l3 = frame(b.word(l4, 8 * (VIRT >> 39 & 0x1ff)));
    let l2 = frame(b.word(l3, 8 * (VIRT >> 30 & 0x1ff)));
    let at = (l2 << PAGE_SHIFT) + 8 * (VIRT >> 21 & 0x1ff);
    // A table is mapped nowhere for writing, and this one is not mapped at all.
    assert_eq!(b.update(at, leaf(FREE, pte::RW | pte::US)), 0);
    // At once: the old table may be data by now.
    assert_eq!(l.read(va(MAPPED)), 2);
}

#[test]
fn nor_the_half_of_another_l4_that_differs() {
    let mut l = Loads::new();
    assert_eq!(l.read(va(MAPPED)), 1);
    let b = &mut l.0;
    let old = b.l4();
    let top = |v: u64| v >> 39 & 0x1ff;
    let frame = |entry: u64| (entry & pte::ADDR) >> PAGE_SHIFT;
    // Other tables from the top down; the L1 has another page in one place.
    let l3 = frame(b.word(old, 8 * top(VIRT)));
    let l2 = frame(b.word(l3, 8 * (VIRT >> 30 & 0x1ff)));
    let l1 = b.slot_of(0) >> PAGE_SHIFT;
    for (from, to) in [(l1, FREE), (l2, FREE + 1), (l3, FREE + 2), (old, FREE + 3)] {
        let table = b.bytes(from, 0, 4096);
        b.put(to, 0, &table);
    }
    b.put(FREE, 8 * MAPPED, &words(&[leaf(MAPPED + 1, pte::RW)]));
    b.put(FREE + 1, 8 * (VIRT >> 21 & 0x1ff), &words(&[leaf(FREE, pte::RW | pte::US)]));
    b.put(FREE + 2, 8 * (VIRT >> 30 & 0x1ff), &words(&[leaf(FREE + 1, pte::RW | pte::US)]));
    b.put(FREE + 3, 8 * top(VIRT), &words(&[leaf(FREE + 2, pte::RW | pte::US)]));
    assert_eq!(b.mmuext(5, FREE + 3, 0), 0);
    assert_eq!(l.read(va(MAPPED)), 2);
    assert_eq!(l.0.mmuext(5, old, 0), 0);
    assert_eq!(l.read(va(MAPPED)), 1);
    // With the same half nothing is lost.
    let table = l.0.bytes(old, 0, 4096);
    l.0.put(FREE + 4, 0, &table);
    assert_eq!(l.0.mmuext(5, FREE + 4, 0), 0);
    assert_eq!(l.fills(va(MAPPED)), 0);
}

#[test]
fn an_iret_looks_at_the_gdt_again_when_that_has_changed() {
    let mut b = Bench::pv_code(&[0x90; 16]);
    // A code segment of CPL 3 in the guest's own GDT.
    let code = 0x00af_fb00_0000_ffff_u64;
    let page = FREE + 8;
    b.put(page, 8 * 6, &words(&[code]));
    b.put(DATA, 0, &words(&[page]));
    assert_eq!(b.call(2, &[va(DATA), 512]), 0);
    // A kernel says that it returns to itself by a selector of privilege 0.
    let go = |b: &mut Bench| {
        b.iret([0, 0, 0, 0, va(CODE) + 8, 0x30, 0x202, va(MAPPED + 0x91), 0xe02b]);
        b.cpu().rip
    };
    b.gate(13, 4, va(CODE) + 0x100);
    b.gate(11, 4, va(CODE) + 0x100);
    assert_eq!((go(&mut b), go(&mut b)), (va(CODE) + 8, va(CODE) + 8));
    // Not present any more.
    assert_eq!(b.call(10, &[(page << PAGE_SHIFT) + 8 * 6, code & !(1 << 47)]), 0);
    assert_eq!(go(&mut b), va(CODE) + 0x100);
}
