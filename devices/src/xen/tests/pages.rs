//! Page types: what may be a page table, and who may write where.

use super::*;
use crate::xen::abi::hole;

const RW: u64 = pte::RW;

/// Tables of all levels in frames that are not mapped: L1 to L4 in this order, one entry each. The L1 maps `target`.
fn tables(b: &mut Bench, target: u64) -> [u64; 4] {
    let all = [FREE, FREE + 1, FREE + 2, FREE + 3];
    for (frame, entry) in all.into_iter().zip([target, leaf(FREE, RW), leaf(FREE + 1, RW), leaf(FREE + 2, RW)]) {
        b.put(frame, 0, &words(&[entry]));
    }
    all
}

#[test]
fn a_pinned_table_makes_all_below_it_tables_and_unpinning_gives_them_up() {
    let mut b = Bench::pv();
    let all = tables(&mut b, leaf(FREE + 9, RW));
    assert_eq!(b.mmuext(3, all[3], 0), 0);
    assert_eq!(all.map(|f| b.kind(f)), [Kind::L1, Kind::L2, Kind::L3, Kind::L4]);
    assert_eq!(b.kind(FREE + 9), Kind::Writable);
    assert_eq!(b.mmuext(3, all[3], 0), EINVAL, "it is pinned");
    assert_eq!(b.mmuext(2, all[3], 0), EINVAL, "and no L3");
    assert_eq!(b.mmuext(4, all[3], 0), 0);
    assert_eq!(all.map(|f| b.kind(f)), [Kind::None; 4]);
    assert_eq!(b.kind(FREE + 9), Kind::None);
    assert_eq!(b.mmuext(4, all[3], 0), EINVAL);
}

#[test]
fn a_promoted_l4_has_xens_entries() {
    let mut b = Bench::pv();
    let all = tables(&mut b, 0);
    b.put(all[3], 8 * 257, &words(&[leaf(FREE + 9, RW)]));
    assert_eq!(b.mmuext(3, all[3], 0), 0);
    let own = b.l4();
    for slot in hole::SLOTS {
        assert_eq!(b.word(all[3], 8 * slot as u64) & !pte::A, b.word(own, 8 * slot as u64) & !pte::A);
    }
    assert_eq!(b.kind(FREE + 9), Kind::None);
}

#[test]
fn a_frame_that_is_mapped_for_writing_cannot_be_a_table() {
    let mut b = Bench::pv();
    assert_eq!(b.mmuext(0, MAPPED, 0), EINVAL);
    assert_eq!(b.remap(MAPPED, leaf(MAPPED, pte::US)), 0);
    b.put(MAPPED, 0, &[0; 4096]);
    assert_eq!(b.mmuext(0, MAPPED, 0), 0);
    assert_eq!(b.remap(MAPPED, leaf(MAPPED, RW)), EBUSY);
    assert_eq!(b.mmuext(4, MAPPED, 0), 0);
    assert_eq!(b.remap(MAPPED, leaf(MAPPED, RW)), 0);
}

#[test]
fn translations_for_writing_do_not_outlive_a_frames_becoming_a_table() {
    // mov [rbx], rax, twice.
    let mut b = Bench::pv_code(&[0x48, 0x89, 0x03, 0x48, 0x89, 0x03]);
    b.gate(14, 4, va(CODE) + 0x100);
    b.set(reg::RBX, va(MAPPED));
    b.set(reg::RAX, 0);
    b.run(1);
    // Without a flush: pinning has to see to it.
    assert_eq!(b.call(14, &[va(MAPPED), leaf(MAPPED, 0), 0]), 0);
    assert_eq!(b.mmuext(0, MAPPED, 0), 0);
    b.set(reg::RBX, va(MAPPED));
    b.set(reg::RAX, leaf(FREE, RW));
    b.run(1);
    assert_eq!((b.cpu().rip, b.word(MAPPED, 0)), (va(CODE) + 0x100, 0));
}

#[test]
fn nor_do_they_outlast_a_frames_being_given_back_and_coming_again() {
    // mov [rbx], rax, twice.
    let mut b = Bench::pv_code(&[0x48, 0x89, 0x03, 0x48, 0x89, 0x03]);
    b.gate(14, 4, va(CODE) + 0x100);
    b.set(reg::RBX, va(MAPPED));
    b.run(1);
    assert_eq!(b.call(14, &[va(MAPPED), 0, 0]), 0, "without a flush");
    for cmd in [1, 6] {
        b.put(DATA, 0x800, &words(&[MAPPED]));
        assert_eq!(b.call_with(12, &[cmd], &[va(DATA) + 0x800, 1, 0, 0x7ff0]), 1);
    }
    assert_eq!(b.mmuext(0, MAPPED, 0), 0);
    b.set(reg::RBX, va(MAPPED));
    b.set(reg::RAX, leaf(FREE, RW));
    b.run(1);
    assert_eq!((b.cpu().rip, b.word(MAPPED, 0)), (va(CODE) + 0x100, 0));
}

#[test]
fn a_table_with_an_entry_that_nobody_may_have_is_refused_as_a_whole() {
    let mut b = Bench::pv();
    let l4 = b.l4();
    let bad = [
        leaf(FREE + 9, RW | pte::PWT),
        leaf(FREE + 9, pte::PSE),
        leaf(l4, RW),
        leaf(FREE, RW),
        leaf(FRAMES + 70, 0),
        leaf(1 << 30, RW),
        pte::ADDR | pte::P,
    ];
    for entry in bad {
        let all = tables(&mut b, leaf(FREE + 8, RW));
        b.put(all[0], 8 * 511, &words(&[entry]));
        assert_eq!(b.mmuext(3, all[3], 0), EINVAL, "{entry:#x}");
        assert_eq!(all.map(|f| b.kind(f)), [Kind::None; 4]);
        assert_eq!(b.kind(FREE + 8), Kind::None, "all is as before");
        b.put(all[0], 8 * 511, &[0; 8]);
    }
    // Large and global pages are nothing for upper levels.
    for flags in [pte::PSE, pte::G, pte::PCD] {
        let all = tables(&mut b, 0);
        b.put(all[1], 0, &words(&[leaf(all[0], RW | flags)]));
        assert_eq!(b.mmuext(3, all[3], 0), EINVAL);
    }
}

#[test]
fn tables_may_lead_to_their_own_level_read_only() {
    let mut b = Bench::pv();
    let all = tables(&mut b, 0);
    b.put(all[3], 8, &words(&[leaf(all[3], 0)]));
    assert_eq!(b.mmuext(3, all[3], 0), 0);
    let at = (all[3] << PAGE_SHIFT) + 8;
    // What is not looked at again must not include the right to write.
    assert_eq!(b.update(at, leaf(all[3], RW)), EINVAL);
    assert_eq!(b.update(at, leaf(all[3], pte::US | pte::A)), 0);
    let other = FREE + 16;
    b.put(other, 0, &words(&[leaf(all[3], 0)]));
    assert_eq!(b.mmuext(3, other, 0), 0);
    assert_eq!(b.mmuext(4, all[3], 0), 0);
    assert_eq!(b.kind(all[3]), Kind::L4, "the other one still leads there");
    assert_eq!(b.mmuext(4, other, 0), 0);
    assert_eq!([all[3], all[0], other].map(|f| b.kind(f)), [Kind::None; 3]);
}

#[test]
fn xens_slots_are_not_to_be_written() {
    let mut b = Bench::pv();
    let l4 = b.l4();
    for (slot, answer) in [(255, 0), (256, EINVAL), (260, EINVAL), (271, EINVAL), (272, 0)] {
        assert_eq!(b.update((l4 << PAGE_SHIFT) + 8 * slot, 0), answer, "{slot}");
    }
}

#[test]
fn mmu_update_stops_at_the_first_that_fails_and_says_how_far_it_came() {
    let mut b = Bench::pv();
    let at = |n: u64| (MAPPED << PAGE_SHIFT) + 8 * n;
    b.put(DATA, 0, &words(&[at(0), 7, at(1), 8, 1 << 40, 9, at(3), 10]));
    b.put(DATA, 0x800, &words(&[0x1234_5678]));
    assert_eq!(b.call(1, &[va(DATA), 4, va(DATA) + 0x800, 0x7ff0]), EINVAL);
    assert_eq!(b.half(DATA, 0x800), 2);
    assert_eq!([0, 1, 3].map(|n| b.word(MAPPED, 8 * n)), [7, 8, 0]);
    for (kind, answer) in [(2, 0), (3, 0), (4, ENOSYS), (7, ENOSYS)] {
        assert_eq!(b.update(at(0) | kind, 0), answer);
    }
    for (dom, answer) in [(0x7ff0, 0), (1, 0), (0, EPERM), (5, ESRCH)] {
        assert_eq!(b.call(1, &[va(DATA), 0, 0, dom]), answer);
    }
    assert_eq!(b.call(1, &[va(1024), 1, 0, 0x7ff0]), EFAULT);
}

#[test]
fn an_update_may_preserve_accessed_and_dirty() {
    let mut b = Bench::pv();
    let slot = b.slot_of(MAPPED);
    assert_eq!(b.update(slot, leaf(MAPPED, RW | pte::A | pte::D)), 0);
    assert_eq!(b.update(slot | 2, leaf(MAPPED, 0)), 0);
    assert_eq!(b.ram.read_le::<8>(slot), leaf(MAPPED, pte::A | pte::D).to_le_bytes());
    assert_eq!(b.update(slot, leaf(MAPPED, 0)), 0);
    assert_eq!(b.ram.read_le::<8>(slot), leaf(MAPPED, 0).to_le_bytes());
}

#[test]
fn update_va_mapping_needs_an_l1() {
    let mut b = Bench::pv();
    assert_eq!(b.call(14, &[va(MAPPED), leaf(FREE, RW), 2]), 0);
    assert_eq!((b.kind(FREE), b.kind(MAPPED)), (Kind::Writable, Kind::None));
    for va in [0, 0x8000_0000_0000, hole::M2P, hole::TABLES, 0xffff_ffff_c000_0000] {
        assert_eq!(b.call(14, &[va, 0, 0]), EINVAL, "{va:#x}");
    }
    assert_eq!(b.call(14, &[va(MAPPED), leaf(b.vcpu.cpu.cr3 >> 12, RW), 2]), EBUSY);
    assert_eq!(b.call(22, &[va(MAPPED), 0, 0, 0]), EPERM);
    assert_eq!(b.call(22, &[va(MAPPED), 0, 0, 0x7ff0]), 0);
}

#[test]
fn atomic_changes_of_live_entries_work_with_the_assist() {
    // lock btr qword [rbx], 1; xchg [rbx], rax; mov qword [rbx], 0
    let code = [0xf0, 0x48, 0x0f, 0xba, 0x33, 1, 0x48, 0x87, 0x03, 0x48, 0xc7, 0x03, 0, 0, 0, 0];
    let mut b = Bench::pv_code(&code);
    b.gate(14, 4, va(CODE) + 0x100);
    let slot = b.slot_of(MAPPED);
    b.set(reg::RBX, VIRT + slot);
    assert_eq!(b.call(21, &[0, 2]), 0);
    b.run(1);
    assert_eq!(b.kind(MAPPED), Kind::None);
    assert_ne!(b.cpu().rflags_image() & 1, 0);
    b.set(reg::RAX, leaf(FREE, RW));
    b.run(1);
    assert_eq!((b.kind(FREE), b.reg(reg::RAX)), (Kind::Writable, leaf(MAPPED, pte::A | pte::US)));
    b.run(1);
    assert_eq!((b.kind(FREE), b.cpu().rip), (Kind::None, va(CODE) + 16));
    // Without the assist it is a fault.
    assert_eq!(b.call(21, &[1, 2]), 0);
    b.cpu().rip = va(CODE);
    b.run(1);
    assert_eq!((b.cpu().rip, b.stack(3)[2]), (va(CODE) + 0x100, 3));
}

#[test]
fn the_assist_writes_one_entry_and_nothing_else_that_is_read_only() {
    // rep stosq; fxsave [rdi]; movups [rdi], xmm0; push qword [rdi] with the stack in a table; mov [rdi + 4], rax
    let forms: [&[u8]; 5] =
        [&[0xf3, 0x48, 0xab], &[0x0f, 0xae, 0x07], &[0x0f, 0x11, 0x07], &[0x55], &[0x48, 0x89, 0x47, 0x04]];
    for (n, code) in forms.into_iter().enumerate() {
        let mut b = Bench::pv_code(code);
        b.gate(14, 4, va(CODE) + 0x100);
        assert_eq!(b.call(21, &[0, 2]), 0);
        let slot = b.slot_of(MAPPED);
        b.set(reg::RDI, VIRT + slot);
        b.set(reg::RAX, leaf(FREE, RW));
        b.set(reg::RBP, leaf(FREE, RW));
        b.set(reg::RCX, 2);
        if code == [0x55] {
            b.set(reg::RSP, VIRT + slot + 8);
        }
        b.cpu().xmm[0] = [0xffff_ffff_ffff_ffff; 2];
        b.run(6);
        let after: Vec<u64> = (0..4).map(|k| u64::from_le_bytes(b.ram.read_le(slot + 8 * k))).collect();
        let same = |k: usize| after[k] & pte::ADDR == (MAPPED + k as u64) << PAGE_SHIFT;
        match n {
            0 => assert_eq!(after[..2], [leaf(FREE, RW); 2], "entry by entry"),
            3 => assert_eq!(after[0], leaf(FREE, RW)),
            _ => assert!(same(0) && same(1), "{n}: {after:x?}"),
        }
        assert!(same(2) && same(3));
        b.check();
    }
}

#[test]
fn a_write_to_a_table_that_is_not_allowed_is_a_page_fault() {
    // mov [rbx], rax; add rbx, 8
    let mut b = Bench::pv_code(&[0x48, 0x89, 0x03, 0x48, 0x83, 0xc3, 0x08]);
    b.gate(14, 4, va(CODE) + 0x100);
    assert_eq!(b.call(21, &[0, 2]), 0);
    let (slot, l4) = (b.slot_of(MAPPED), b.l4());
    let before = b.ram.read_le::<8>(slot);
    for bad in [leaf(l4, RW), leaf(FREE, pte::PWT), leaf(FRAMES + 70, 0)] {
        b.cpu().rip = va(CODE);
        b.set(reg::RSP, va(CODE + 15));
        b.set(reg::RBX, VIRT + slot);
        b.set(reg::RAX, bad);
        b.run(1);
        assert_eq!((b.cpu().rip, b.stop()), (va(CODE) + 0x100, None), "{bad:#x}");
        // RCX, R11, the error code, and RIP: it has not been run.
        assert_eq!(b.stack(4)[2..], [3, va(CODE)]);
        assert_eq!((b.reg(reg::RBX), b.ram.read_le::<8>(slot)), (VIRT + slot, before));
    }
    b.check();
}

/// One operation of mmuext_op, a trap at a time: how many it takes, and the answer.
fn parts(b: &mut Bench, cmd: u64, frame: u64) -> (u32, i64) {
    b.put(DATA, 0, &words(&[cmd, frame, 0]));
    let cpu = b.cpu();
    let begin = cpu.rip;
    cpu.regs[usize::from(reg::RAX)] = 26;
    for (r, v) in [(reg::RDI, va(DATA)), (reg::RSI, 1), (reg::RDX, 0), (10, 0x7ff0)] {
        cpu.regs[usize::from(r)] = v;
    }
    for n in 1..10_000 {
        b.xen.trap(&mut b.vcpu.cpu, Trap::Syscall).unwrap();
        b.check();
        if !b.again(begin) {
            return (n, b.reg(reg::RAX) as i64);
        }
    }
    panic!("there is no end to it");
}

/// An L4 over an L3 over 4 L2s over 400 L1s, each of which maps all of the 64 frames from [`FREE`] + 400 on.
fn forest(b: &mut Bench) -> u64 {
    let l4 = FREE + 470;
    b.put(l4, 0, &words(&[leaf(l4 + 1, RW)]));
    b.put(l4 + 1, 0, &words(&[0, 1, 2, 3].map(|n| leaf(l4 + 2 + n, RW))));
    for n in 0..4 {
        b.put(l4 + 2 + n, 0, &words(&core::array::from_fn::<_, 100, _>(|k| leaf(FREE + 100 * n + k as u64, RW))));
    }
    for n in 0..400 {
        b.put(FREE + n, 0, &words(&core::array::from_fn::<_, 64, _>(|k| leaf(FREE + 400 + k as u64, RW))));
    }
    l4
}

#[test]
fn a_large_tree_is_pinned_and_unpinned_in_parts() {
    let mut b = Bench::pv();
    let l4 = forest(&mut b);
    let (n, answer) = parts(&mut b, 3, l4);
    assert_eq!((n > 5, n < 50, answer), (true, true, 0), "{n}");
    assert_eq!((b.kind(l4), b.kind(FREE + 399), b.kind(FREE + 463)), (Kind::L4, Kind::L1, Kind::Writable));
    let (n, answer) = parts(&mut b, 4, l4);
    assert_eq!((n > 5, n < 50, answer), (true, true, 0), "{n}");
    assert_eq!((b.kind(l4), b.kind(FREE + 399), b.kind(FREE + 463)), (Kind::None, Kind::None, Kind::None));
}

#[test]
fn what_is_wrong_with_a_large_tree_is_found_in_parts_and_nothing_is_left_of_it() {
    for bad in [FREE + 399, FREE + 1] {
        let mut b = Bench::pv();
        let l4 = forest(&mut b);
        b.put(bad, 8 * 500, &words(&[leaf(l4, RW)]));
        let (n, answer) = parts(&mut b, 3, l4);
        assert_eq!((n > 5, n < 100, answer), (bad == FREE + 399, true, EINVAL), "{n}");
        assert_eq!(b.call(17, &[0]), 4 << 16 | 17, "the next call finds nothing of it");
        let left: Vec<u64> = (FREE..l4 + 6).filter(|&f| b.kind(f) != Kind::None).collect();
        assert_eq!(left, []);
    }
}

#[test]
fn pages_are_cleared_and_copied_if_they_may_be_written() {
    let mut b = Bench::pv();
    b.put(FREE, 0, &[7; 4096]);
    assert_eq!(b.mmuext(17, FREE + 1, FREE), 0);
    assert_eq!(b.bytes(FREE + 1, 0, 4096), [7; 4096]);
    assert_eq!(b.mmuext(16, FREE, 0), 0);
    assert_eq!(b.bytes(FREE, 0, 4096), [0; 4096]);
    let l4 = b.l4();
    assert_eq!(b.mmuext(16, l4, 0), EINVAL);
    assert_eq!(b.mmuext(17, l4, FREE), EINVAL);
    assert_eq!(b.mmuext(17, FREE, l4), 0);
    assert_eq!(b.mmuext(17, FREE, FRAMES), EINVAL);
    for (cmd, answer) in [(12, errno(Errno::EACCES)), (14, ENOSYS), (19, errno(Errno::EOPNOTSUPP)), (99, ENOSYS)] {
        assert_eq!(b.mmuext(cmd, 0, 0), answer);
    }
}

#[test]
fn a_new_base_has_to_be_an_l4() {
    let mut b = Bench::pv();
    let l4 = b.l4();
    assert_eq!(b.mmuext(5, MAPPED, 0), EINVAL);
    let all = tables(&mut b, 0);
    b.put(all[3], 8 * 511, &words(&[b.word(l4, 8 * 511)]));
    assert_eq!(b.mmuext(5, all[3], 0), 0);
    assert_eq!((b.cpu().cr3, b.l4()), (all[3] << PAGE_SHIFT, all[3]));
    assert_eq!(b.kind(l4), Kind::L4, "the builder has pinned it");
    assert_eq!(b.mmuext(4, l4, 0), 0);
    assert_eq!(b.kind(l4), Kind::None);
    // mov cr3, rax
    b.put(CODE, 0, &[0x0f, 0x22, 0xd8]);
    assert_eq!(b.mmuext(15, MAPPED, 0), EINVAL);
    b.gate(13, 4, va(CODE) + 0x100);
    b.set(reg::RAX, MAPPED << PAGE_SHIFT);
    b.run(1);
    assert_eq!(b.cpu().rip, va(CODE) + 0x100);
}

#[test]
fn a_frame_that_the_hypervisor_writes_to_is_no_table() {
    let mut b = Bench::pv();
    assert_eq!(b.call_with(24, &[10, 0], &[FREE, 0]), 0);
    assert_eq!(b.mmuext(0, FREE, 0), EINVAL, "vcpu_info");
    let mut b = Bench::pv();
    let si = (b.reg(reg::RSI) - VIRT) >> PAGE_SHIFT;
    for frame in [si + 1, si + 2] {
        assert_eq!(b.remap(frame, 0), 0);
        b.put(frame, 0, &[0; 4096]);
        assert_eq!(b.mmuext(0, frame, 0), EINVAL, "a ring");
    }
    let mut b = Bench::pv();
    let l4 = b.l4();
    assert_eq!(b.call_with(24, &[10, 0], &[l4, 0]), EINVAL);
}
