//! Giving memory back and getting it, grant tables, the console's ring; and lists without an end.

use super::*;

const RESERVATION: fn(u64, u64, u64) -> [u64; 4] = |list, count, order| [list, count, order, 0x7ff0];

fn balloon(b: &mut Bench, cmd: u64, frames: &[u64]) -> i64 {
    b.put(DATA, 0x800, &words(frames));
    b.call_with(12, &[cmd], &RESERVATION(va(DATA) + 0x800, frames.len() as u64, 0))
}
fn m2p(b: &mut Bench, frame: u64) -> u64 {
    let at = crate::xen::abi::hole::M2P + 8 * frame;
    let Bench { xen, vcpu, .. } = b;
    let entry = xen.with(|d, _| d.entry_of(&vcpu.cpu, at)).unwrap();
    let page = u64::from_le_bytes(b.ram.read_le(entry)) & pte::ADDR;
    u64::from_le_bytes(b.ram.read_le(page | at & 0xfff))
}

#[test]
fn frames_are_given_back_and_come_again_empty() {
    let mut b = Bench::pv();
    b.put(FREE, 0, &[7; 8]);
    assert_eq!(balloon(&mut b, 1, &[FREE, FREE + 1]), 2);
    assert_eq!([0, 1, 2].map(|n| m2p(&mut b, FREE + n)), [u64::MAX, u64::MAX, FREE + 2]);
    assert_eq!(b.call_with(12, &[3], &[0x7ff0]), FRAMES as i64 - 2);
    assert_eq!(b.call_with(12, &[4], &[0x7ff0]), FRAMES as i64);
    assert_eq!(b.remap(MAPPED, leaf(FREE, 0)), EPERM, "it is not the guest's");
    assert_eq!(b.mmuext(0, FREE, 0), EINVAL);
    assert_eq!(balloon(&mut b, 1, &[FREE]), 0);
    assert_eq!(balloon(&mut b, 6, &[FREE, FREE + 1]), 2);
    assert_eq!((b.word(FREE, 0), m2p(&mut b, FREE)), (0, FREE));
    assert_eq!(balloon(&mut b, 6, &[FREE]), 0, "the guest has it");
    b.check();
}

#[test]
fn a_frame_that_is_mapped_or_a_table_stays() {
    let mut b = Bench::pv();
    let l4 = b.l4();
    assert_eq!(balloon(&mut b, 1, &[FREE, MAPPED, FREE + 1]), 1, "up to the one that does not go");
    assert_eq!(balloon(&mut b, 1, &[l4]), 0);
    b.remap(MAPPED, leaf(MAPPED, 0));
    assert_eq!(balloon(&mut b, 1, &[MAPPED]), 0, "nor one that is mapped read-only");
    b.remap(MAPPED, 0);
    assert_eq!(balloon(&mut b, 1, &[MAPPED]), 1);
    assert_eq!(balloon(&mut b, 1, &[FRAMES]), 0);
    b.check();
}

/// A domain that may have 16 frames more than at first, and the first of those.
fn growing() -> (Bench, u64) {
    (Bench::build_with(false, 1, &[], &[], "", FRAMES + 16), FRAMES)
}
fn count(b: &mut Bench) -> u64 {
    b.domain(|d, _| d.types.count())
}

#[test]
fn a_guest_may_come_to_have_more_than_at_first() {
    let (mut b, first) = growing();
    assert_eq!(b.call_with(12, &[3], &[0x7ff0]), FRAMES as i64);
    assert_eq!(b.call_with(12, &[4], &[0x7ff0]), FRAMES as i64 + 16);
    assert_eq!(b.call_with(12, &[9], &[128, va(DATA) + 0x800]), 0);
    assert_eq!(b.word(DATA, 0x808), (FRAMES + 16) << 12, "it is told in its memory map");
    assert_eq!(b.remap(MAPPED, leaf(first, 0)), EPERM);
    // Whatever the place is called, there is a frame for it, and the list says which.
    assert_eq!(balloon(&mut b, 6, &[first + 3, 0x1_0000]), 2);
    assert_eq!([0, 8].map(|at| b.word(DATA, 0x800 + at)), [first + 3, first + 4]);
    assert_eq!([3, 4, 5].map(|n| m2p(&mut b, first + n)), [first + 3, 0x1_0000, u64::MAX]);
    assert_eq!(b.remap(MAPPED, leaf(first + 4, pte::RW)), 0);
    // No more than what there is.
    let many: Vec<u64> = (0..20).collect();
    assert_eq!(balloon(&mut b, 6, &many), 14);
    assert_eq!(count(&mut b), FRAMES + 16);
    b.check();
}

#[test]
fn frames_without_a_place_are_named_to_the_guest() {
    let (mut b, first) = growing();
    b.put(DATA, 0x800, &words(&[77, 78, 79]));
    assert_eq!(b.call_with(12, &[0], &RESERVATION(va(DATA) + 0x800, 2, 0)), 2);
    let named = [0, 8, 16].map(|at| b.word(DATA, 0x800 + at));
    assert_eq!(named, [first, first + 1, 79], "the list is only written to");
    assert_eq!(m2p(&mut b, first), u64::MAX);
    assert_eq!(b.call_with(12, &[0], &RESERVATION(0, 3, 1)), 3, "nobody has to ask");
    assert_eq!(count(&mut b), FRAMES + 8);
    assert_eq!(b.call_with(12, &[0], &RESERVATION(va(1024), 1, 0)), 0, "nothing that cannot be told");
    assert_eq!(count(&mut b), FRAMES + 8);
    assert_eq!(b.call_with(12, &[0], &RESERVATION(0, 1, 3)), 1);
    assert_eq!(b.call_with(12, &[0], &RESERVATION(0, 1, 0)), 0);
    b.check();
}

#[test]
fn an_extent_is_dealt_with_as_a_whole_or_not() {
    let (mut b, first) = growing();
    let extents = |b: &mut Bench, cmd, order, frame: u64| {
        b.put(DATA, 0x800, &words(&[frame]));
        b.call_with(12, &[cmd], &RESERVATION(va(DATA) + 0x800, 1, order))
    };
    let before = b.remap(MAPPED, leaf(FREE + 6, 0));
    assert_eq!((before, extents(&mut b, 1, 3, FREE)), (0, 0), "one of the eight is mapped");
    assert_eq!(count(&mut b), FRAMES);
    assert_eq!(extents(&mut b, 1, 1, FREE + 4), 1);
    assert_eq!(extents(&mut b, 1, 3, u64::MAX - 3), 0);
    // Eight in a row are left only where their number is a multiple of eight.
    assert_eq!(balloon(&mut b, 6, &[first + 9]), 1);
    assert_eq!(extents(&mut b, 6, 3, 0x2_0003), 1);
    assert_eq!(b.word(DATA, 0x800), first);
    assert_eq!([0, 7].map(|n| m2p(&mut b, first + n)), [0x2_0003, 0x2_000a]);
    assert_eq!(extents(&mut b, 6, 3, 0x2_0003), 0);
    assert_eq!(count(&mut b), FRAMES - 2 + 9);
    b.check();
}

#[test]
fn there_is_one_range_of_memory() {
    let mut b = Bench::pv();
    assert_eq!(b.call_with(12, &[9], &[128, va(DATA) + 0x800]), 0);
    assert_eq!((b.half(DATA, 0), b.word(DATA, 0x800), b.word(DATA, 0x808)), (1, 0, FRAMES << 12));
    assert_eq!(b.half(DATA, 0x810), 1);
    assert_eq!(b.call_with(12, &[9], &[0, va(DATA) + 0x800]), EINVAL);
    assert_eq!(b.call_with(12, &[7], &[0x7ff0, 0, 5]), errno(Errno::EACCES), "only for HVM");
    assert_eq!(b.call_with(12, &[3], &[5]), ESRCH);
    assert_eq!(b.call_with(12, &[63], &[0]), ENOSYS);
}

#[test]
fn grant_frames_are_the_guests_to_map_for_writing() {
    let mut b = Bench::pv();
    assert_eq!(b.call_with(20, &[6], &[0x7ff0, 0]), EINVAL, "a list of none");
    let query = |b: &mut Bench| {
        b.put(DATA, 0, &words(&[0x7ff0, 0]));
        assert_eq!(b.call(20, &[6, va(DATA), 1]), 0);
        [b.half(DATA, 4), b.half(DATA, 8), b.half(DATA, 12) & 0xffff]
    };
    assert_eq!(query(&mut b), [1, 64, 0]);
    b.put(DATA, 0, &words(&[pair(0x7ff0, 3), 0, va(DATA) + 0x800]));
    assert_eq!(b.call(20, &[2, va(DATA), 1]), 0);
    assert_eq!((b.half(DATA, 8) & 0xffff, query(&mut b)[0]), (0, 3));
    let first = b.word(DATA, 0x800);
    assert_eq!([1, 2].map(|n| b.word(DATA, 0x800 + 8 * n)), [first + 1, first + 2]);
    assert_eq!(b.remap(MAPPED, leaf(first, pte::RW)), 0);
    // The toolstack's grants of the rings are there.
    let si = b.start_info;
    assert_eq!((b.word(first, 0) >> 32, b.word(first, 8) >> 32), (si + 2, si + 1));
    assert_eq!(b.remap(MAPPED, leaf(first + 64, pte::RW)), EPERM, "the hypervisor's other frames are not");
    b.put(DATA, 0, &words(&[pair(0x7ff0, 65), 0, va(DATA) + 0x800]));
    assert_eq!(b.call(20, &[2, va(DATA), 1]), 0);
    assert_eq!(b.half(DATA, 8) as i16, -1);
    b.check();
}

#[test]
fn the_console_carries_bytes_both_ways_and_survives_indices_that_make_no_sense() {
    let mut b = Bench::pv();
    let ring = b.start_info + 2;
    let indices = |b: &Bench| [0xc00, 0xc04, 0xc08, 0xc0c].map(|at| b.half(ring, at));
    b.put(ring, 0x400, b"hello");
    b.put(ring, 0xc0c, &5u32.to_le_bytes());
    assert_eq!(b.call_with(32, &[4], &[2]), 0);
    assert_eq!((b.said(), indices(&b)), (b"hello".to_vec(), [0, 0, 5, 5]));
    assert!(b.domain(|d, _| d.is_pending(2)));
    b.xen.input(&crate::effect::Input::Serial { port: 0, bytes: b"abc".to_vec() });
    assert_eq!((b.bytes(ring, 0, 3), indices(&b)), (b"abc".to_vec(), [0, 3, 5, 5]));
    // Round the end of the numbers.
    b.put(ring, 0xc08, &words(&[pair(u32::MAX - 1, 1)]));
    b.put(ring, 0x400 + 2046, b"xy");
    b.put(ring, 0x400, b"z");
    b.call_with(32, &[4], &[2]);
    assert_eq!((b.said(), indices(&b)), (b"xyz".to_vec(), [0, 3, 1, 1]));
    for (cons, prod) in [(0, 2049), (5, 4), (0, u32::MAX)] {
        b.put(ring, 0xc00, &words(&[pair(cons, prod), pair(cons, prod)]));
        b.xen.input(&crate::effect::Input::Serial { port: 0, bytes: vec![1; 5000] });
        assert_eq!(b.call_with(32, &[4], &[2]), 0);
        assert_eq!(b.said(), []);
        assert_eq!(indices(&b), [cons, prod, cons, prod], "nothing moves");
    }
    // 4096 bytes were kept at most.
    b.put(ring, 0xc00, &words(&[0, 0]));
    b.call_with(32, &[4], &[2]);
    assert_eq!(indices(&b), [0, 1024, 0, 0]);
}

/// One trap of a hypercall: is there more to do?
fn once(b: &mut Bench, number: u64, args: [u64; 4]) -> bool {
    let cpu = &mut b.vcpu.cpu;
    cpu.regs[usize::from(reg::RAX)] = number;
    for (r, v) in [reg::RDI, reg::RSI, reg::RDX, 10].into_iter().zip(args) {
        cpu.regs[usize::from(r)] = v;
    }
    let rip = cpu.rip;
    b.xen.trap(&mut b.vcpu.cpu, Trap::Syscall).unwrap();
    b.again(rip)
}

#[test]
fn a_list_without_an_end_is_done_in_parts_that_the_guest_asks_for_itself() {
    let mut b = Bench::pv();
    // 2^31 - 1 updates, of which the first hundred thousand or so are there: the rest of the address space is not mapped.
    b.put(MAPPED, 0, &words(&[(MAPPED + 8) << PAGE_SHIFT, 5].repeat(256)));
    for frame in MAPPED + 1..MAPPED + 9 {
        b.call(14, &[va(frame), leaf(MAPPED, pte::RW), 2]);
    }
    assert!(once(&mut b, 1, [va(MAPPED), 0x7fff_ffff, va(DATA), 0x7ff0]));
    let [list, count] = [reg::RDI, reg::RSI].map(|r| b.reg(r));
    let n = (list - va(MAPPED)) / 16;
    assert!(n > 0);
    assert_eq!((count, b.half(DATA, 0), b.reg(reg::RAX)), ((0x7fff_ffff - n) | 1 << 31, n as u32, 1));
    assert_eq!((b.reg(reg::RDX), b.reg(10)), (va(DATA), 0x7ff0));
    // As one, it ends where it has to, and counts all.
    b.put(DATA, 0, &[0xff; 4]);
    assert_eq!(b.call(1, &[va(MAPPED) + 0x1000, 2000, va(DATA), 0x7ff0]), 0);
    assert_eq!(b.half(DATA, 0), 2000);
    // Ten, and then the end of the mapping.
    assert_eq!(b.call(1, &[va(1024) - 160, 2000, va(DATA), 0x7ff0]), EFAULT);
    assert_eq!(b.half(DATA, 0), 10);
}

#[test]
fn memory_and_grants_are_dealt_with_in_parts() {
    let mut b = Bench::pv();
    let list: Vec<u64> = (FREE..FREE + 0x200).collect();
    b.put(MAPPED, 0, &words(&list));
    b.put(MAPPED + 1, 0, &words(&(FREE + 0x200..FREE + 0x280).collect::<Vec<u64>>()));
    b.put(DATA, 0, &words(&RESERVATION(va(MAPPED), 0x280, 0)));
    assert!(once(&mut b, 12, [1, va(DATA), 0, 0]));
    let part = b.reg(reg::RDI);
    assert!(part & 0x3f == 1 && (1..0x280).contains(&(part >> 6)));
    assert_eq!(b.domain(|d, _| d.types.count()), FRAMES - (part >> 6));
    assert_eq!(b.call(12, &[part, va(DATA)]), 0x280, "all of them, in the end");
    assert_eq!(b.domain(|d, _| d.types.count()), FRAMES - 0x280);
    assert_eq!(b.call_with(12, &[6], &RESERVATION(va(MAPPED), 0x280, 0)), 0x280);
    // An exchange of more than there is.
    let many = RESERVATION(va(MAPPED), 1 << 39, 0);
    assert_eq!(b.call_with(12, &[11], &[many, many].concat()), errno(Errno::ENOMEM));
    // Copies by number of frame: a thousand million.
    let copy = [FREE, 0x7ff0, FREE + 1, 0x7ff0, 4096];
    for frame in MAPPED..MAPPED + 64 {
        b.put(frame, 0, &words(&copy.repeat(102)));
    }
    assert!(once(&mut b, 20, [5, va(MAPPED), 0x4000_0000, 0]));
    assert_eq!((b.reg(reg::RSI) - va(MAPPED)) / 40 + b.reg(reg::RDX), 0x4000_0000);
    b.check();
}

#[test]
fn a_multicall_without_an_end_is_done_in_parts_too() {
    let mut b = Bench::pv();
    let entry = [17u64, 0, 0, 0, 0, 0, 0, 0];
    for frame in MAPPED..MAPPED + 64 {
        b.put(frame, 0, &words(&entry.repeat(64)));
    }
    assert!(!once(&mut b, 13, [va(MAPPED), 4000, 0, 0]));
    let mut parts = 0;
    let mut args = [va(MAPPED), 64 * 64 + 4000, 0, 0];
    // The entries behind the 64 pages are stacks and zeros: set_trap_table(NULL).
    while once(&mut b, 13, args) {
        parts += 1;
        args = [b.reg(reg::RDI), b.reg(reg::RSI), 0, 0];
        assert!(b.reg(reg::RAX) == 13 && parts < 100);
    }
    assert!(parts > 0);
    assert_eq!(b.word(MAPPED + 63, 4096 - 56), 4 << 16 | 17);
    // A part of one writes its own arguments where they came from.
    let updates = [(MAPPED + 0x80) << PAGE_SHIFT, 5];
    for frame in MAPPED..MAPPED + 64 {
        b.put(frame, 0, &words(&updates.repeat(256)));
    }
    b.put(DATA, 0, &words(&[1, 99, va(MAPPED), 64 * 256, 0, 0x7ff0, 0, 0]));
    assert!(once(&mut b, 13, [va(DATA), 1, 0, 0]));
    assert_eq!(b.word(DATA, 8), 99);
    let [list, count] = [16, 24].map(|at| b.word(DATA, at));
    assert_eq!((list - va(MAPPED)) / 16 + (count & 0x7fff_ffff), 64 * 256);
    assert_eq!(b.call(13, &[va(DATA), 1]), 0);
    assert_eq!(b.word(DATA, 8), 0);
}

#[test]
fn interrupts_come_between_the_parts() {
    // mov eax, 1; syscall; then nops.
    let mut b = Bench::pv_code(&[0xb8, 1, 0, 0, 0, 0x0f, 0x05]);
    b.call_with(30, &[0], &[0, va(CODE) + 0x400]);
    b.call_with(32, &[1], &[0, 0]);
    b.call_with(24, &[8, 0], &[1, 0]);
    b.set_upcall_mask(false);
    for frame in MAPPED..MAPPED + 64 {
        b.put(frame, 0, &words(&[(MAPPED + 0x80) << PAGE_SHIFT, 5].repeat(256)));
    }
    for (r, v) in [(reg::RDI, va(MAPPED)), (reg::RSI, 64 * 256), (reg::RDX, 0), (10, 0x7ff0)] {
        b.set(r, v);
    }
    b.run(2);
    b.run(1);
    assert_eq!((b.cpu().rip & 0xfff, b.stack(3)[2]), (0x401, va(CODE) + 5));
    assert_eq!(b.reg(reg::RAX), 1);
}

#[test]
fn a_memory_map_at_the_end_of_the_address_space_is_refused() {
    for mut b in [Bench::pv(), Bench::pvh(1, &[])] {
        for list in [u64::MAX, u64::MAX - 19, u64::MAX - 20] {
            assert_eq!(b.call_with(12, &[9], &[2, list]), EFAULT, "{list:#x}");
        }
    }
}
