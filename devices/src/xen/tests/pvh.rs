//! Domains with paging, segments and interrupts of the processor's own.

use super::*;
use crate::xen::hvm::param;
use tabvisor_core::size::Size;

const LAPIC: u64 = 0xfee0_0000;
/// What moves to a frame with add_to_physmap.
const SHARED_INFO: u64 = 0;
const GRANTS: u64 = 1;

fn lapic(b: &mut Bench, register: u64, v: u64) {
    b.xen.mmio_write(LAPIC + register, Size::B4, v);
}
fn add(b: &mut Bench, space: u64, index: u64, gpfn: u64) -> i64 {
    b.call_with(12, &[7], &[pair(0x7ff0, space as u32), index, gpfn])
}
fn set_param(b: &mut Bench, n: usize, v: u64) -> i64 {
    b.call_with(34, &[0], &[pair(0x7ff0, n as u32), v])
}
fn get_param(b: &mut Bench, n: usize) -> u64 {
    assert_eq!(b.call_with(34, &[1], &[pair(0x7ff0, n as u32), 0]), 0);
    b.word(DATA, 8)
}

#[test]
fn start_info_has_the_magic_the_command_line_and_the_memory_map() {
    let b = Bench::build(true, 1, &[], &[], "console=hvc0");
    let si = b.reg(reg::RBX);
    let word = |at: u64| u64::from_le_bytes(b.ram.read_le(si + at));
    assert_eq!((word(0), word(8)), (0x1_336e_c578, 0));
    let mut line = [0; 13];
    b.ram.read(word(24), &mut line);
    assert_eq!(&line, b"console=hvc0\0");
    assert_eq!(&b.ram.read_le::<8>(word(32)), b"RSD PTR ");
    let (map, entries) = (word(40), word(48) as u32);
    let map = |at: u64| u64::from_le_bytes(b.ram.read_le(map + at));
    assert_eq!((entries, map(0), map(8), map(16) as u32), (2, 0, FRAMES << 12, 1));
    let cpu = &b.vcpu.cpu;
    assert_eq!((cpu.rip, cpu.cr0 & 0x8000_0001, cpu.paravirtual), (CODE << 12, 1, false));
}

#[test]
fn parameters_say_where_the_rings_are_and_most_cannot_be_changed() {
    let mut b = Bench::pvh(1, &[]);
    let [store, console] = [param::STORE_PFN, param::CONSOLE_PFN].map(|n| get_param(&mut b, n));
    assert_eq!([param::STORE_EVTCHN, param::CONSOLE_EVTCHN].map(|n| get_param(&mut b, n)), [1, 2]);
    // The rings are there, though that is no RAM.
    b.ram.write((console << PAGE_SHIFT) + 0x400, b"hi");
    b.ram.write((console << PAGE_SHIFT) + 0xc0c, &[2]);
    assert!(store != console && store >= FRAMES);
    assert_eq!(b.call_with(32, &[4], &[2]), 0);
    assert_eq!(b.said(), b"hi");
    assert_eq!(set_param(&mut b, param::STORE_PFN, 5), EPERM);
    assert_eq!(set_param(&mut b, 39, 5), EINVAL);
    assert_eq!(set_param(&mut b, param::CALLBACK_IRQ, 2 << 56 | 0xf3), 0);
    assert_eq!(get_param(&mut b, param::CALLBACK_IRQ), 2 << 56 | 0xf3);
    assert_eq!(b.call_with(34, &[0], &[pair(5, 0), 0]), ESRCH);
}

/// GRUB, built for PVH, asks so; the list is the one of start_info.
#[test]
fn a_guest_that_is_still_in_32_bit_mode_asks_for_its_memory_in_structures_of_that_size() {
    let mut b = Bench::build(true, 1, &[], &[], "");
    let cpu = &mut b.vcpu.cpu;
    for (r, v) in [(reg::RAX, 12), (reg::RBX, 9), (reg::RCX, DATA << PAGE_SHIFT)] {
        cpu.regs[usize::from(r)] = v;
    }
    let list = (DATA << PAGE_SHIFT) + 0x100;
    b.put(DATA, 0, &words(&[pair(2, list as u32)]));
    b.xen.trap(&mut b.vcpu.cpu, Trap::Hypercall).unwrap();
    assert_eq!((b.reg(reg::RAX), b.half(DATA, 0)), (0, 2));
    assert_eq!([0x100, 0x108, 0x114].map(|at| b.word(DATA, at)), [0, FRAMES << 12, 0xf_eff8 << 12]);
    assert_eq!([0x110, 0x124].map(|at| b.half(DATA, at)), [1, 2]);
    assert_eq!(b.bytes(DATA, 0x128, 1), [0], "and no more than that");
    b.put(DATA, 0, &words(&[pair(1, list as u32)]));
    b.set(reg::RAX, 12);
    b.xen.trap(&mut b.vcpu.cpu, Trap::Hypercall).unwrap();
    assert_eq!(b.reg(reg::RAX) as u32 as i32, -22, "there is room for one");
}

#[test]
fn shared_info_can_be_put_within_and_beyond_ram() {
    for gpfn in [FREE, FRAMES, FRAMES + 0x1_0000] {
        let mut b = Bench::pvh(1, &[]);
        assert_eq!(add(&mut b, SHARED_INFO, 0, gpfn), 0);
        assert_eq!(b.call_with(32, &[7], &[0]), 0);
        let port = u64::from(b.half(DATA, 4));
        assert_eq!(b.call_with(32, &[4], &[port]), 0);
        assert_eq!(b.word(gpfn, 0x800), 1 << port);
        assert_eq!(b.word(gpfn, 0) & 0xff, 1, "and vcpu_info is in it");
        // The wall clock.
        assert_eq!(b.half(gpfn, 0xc04), 1_700_000_000);
        // It may move on.
        assert_eq!(add(&mut b, SHARED_INFO, 0, FREE + 1), 0);
        assert_eq!(b.word(FREE + 1, 0x800), 1 << port);
    }
    let mut b = Bench::pvh(1, &[]);
    assert_eq!(add(&mut b, SHARED_INFO, 0, 1 << 40), EINVAL);
    assert_eq!(add(&mut b, 5, 0, FREE), ENOSYS);
}

#[test]
fn grant_frames_can_be_put_within_and_beyond_ram() {
    for gpfn in [FREE, FRAMES, FRAMES + 0x1_0000] {
        let mut b = Bench::pvh(1, &[]);
        assert_eq!(b.word(FRAMES, 0), u64::MAX, "nothing is behind its RAM");
        assert_eq!(add(&mut b, GRANTS, 0, gpfn), 0);
        // Domain 0's grant of the console's ring has come along.
        assert_eq!(b.word(gpfn, 0) & 0xffff, 1);
        b.put(gpfn, 8 * 9, &words(&[1 | 0x123 << 32]));
        let page = b.domain(|d, _| d.grants.page(&d.ram, 9, true));
        assert_eq!(page, Ok(0x123 << 12));
        assert_eq!(add(&mut b, GRANTS, 64, gpfn), EINVAL);
    }
    let mut b = Bench::pvh(1, &[]);
    let far = FRAMES + 0x1_0000;
    assert_eq!(add(&mut b, GRANTS, 3, far), 0);
    assert_eq!(b.call_with(12, &[15], &[0x7ff0, far]), 0);
    assert_eq!(b.call_with(12, &[15], &[0x7ff0, far]), EINVAL);
    assert_eq!(b.word(far, 0), u64::MAX, "nothing is there");
}

/// memory_op with a list of frames.
fn balloon(b: &mut Bench, cmd: u64, frames: &[u64]) -> i64 {
    b.put(DATA, 0x800, &words(frames));
    b.call_with(12, &[cmd], &[va_pvh(DATA) + 0x800, frames.len() as u64, 0, 0x7ff0])
}
fn count(b: &mut Bench) -> u64 {
    b.domain(|d, _| d.types.count())
}

#[test]
fn a_guest_that_sees_all_it_may_have_gives_the_rest_back() {
    let mut b = Bench::pvh_with(1, &[], FRAMES + 2);
    assert_eq!(b.call_with(12, &[3], &[0x7ff0]), FRAMES as i64);
    assert_eq!(b.call_with(12, &[9], &[128, va_pvh(DATA) + 0x800]), 0);
    assert_eq!(b.word(DATA, 0x808), (FRAMES + 2) << PAGE_SHIFT);
    // The first two are those that it had only seen.
    for (n, left) in [(FREE, FRAMES), (FREE + 1, FRAMES), (FREE + 2, FRAMES - 1)] {
        assert_eq!((balloon(&mut b, 1, &[n]), count(&mut b)), (1, left));
    }
    assert_eq!(balloon(&mut b, 6, &[FREE, FREE + 1, FREE + 2]), 3);
    assert_eq!(count(&mut b), FRAMES + 2);
    assert_eq!(balloon(&mut b, 6, &[FREE]), 0, "there it has one");
    assert_eq!(balloon(&mut b, 0, &[FREE]), 0, "and none can be had without a place");
    b.check();
}

#[test]
fn a_page_of_the_hypervisor_displaces_what_was_there() {
    let mut b = Bench::pvh(1, &[]);
    b.put(FREE, 0, &[7; 4096]);
    assert_eq!(add(&mut b, SHARED_INFO, 0, FREE), 0);
    assert_eq!(count(&mut b), FRAMES - 1);
    assert_eq!(add(&mut b, SHARED_INFO, 0, FREE), 0, "where it is");
    assert_eq!(add(&mut b, GRANTS, 0, FREE), 0, "and one page displaces another");
    assert_eq!((count(&mut b), b.word(FREE, 0) & 0xffff), (FRAMES - 1, 1));
    assert_eq!(balloon(&mut b, 1, &[FREE]), 0, "it is not the guest's");
    b.check();
    // With the page away, or displaced in turn, the guest has its frame again, and it is empty.
    assert_eq!(b.call_with(12, &[15], &[0x7ff0, FREE]), 0);
    assert_eq!((b.word(FREE, 0), count(&mut b)), (0, FRAMES - 1));
    assert_eq!(balloon(&mut b, 6, &[FREE]), 1);
    assert_eq!(add(&mut b, GRANTS, 0, FREE), 0);
    assert_eq!(balloon(&mut b, 6, &[FREE]), 1);
    assert_eq!((b.word(FREE, 0), count(&mut b)), (0, FRAMES));
    let page = b.domain(|d, _| d.grants.read(&d.ram, 0).map(|e| e.flags));
    assert_eq!(page, Some(1), "the table is where it was at first");
    b.check();
}

#[test]
fn events_come_through_the_local_apic_with_the_vcpus_vector() {
    // sti; nops
    let mut b = Bench::pvh(1, &[0xfb, 0x90, 0x90, 0x90]);
    lapic(&mut b, 0xf0, 0x1ff);
    assert_eq!(b.call_with(34, &[23], &[pair(0, 5)]), EINVAL);
    assert_eq!(b.call_with(34, &[23], &[pair(1, 0xf3)]), ENOENT);
    assert_eq!(b.call_with(34, &[23], &[pair(0, 0xf3)]), 0);
    b.call_with(32, &[7], &[0]);
    let port = u64::from(b.half(DATA, 4));
    b.call_with(32, &[4], &[port]);
    assert!(b.xen.interrupt_pending());
    assert_eq!(b.xen.acknowledge(), Some(0xf3));
    assert!(!b.xen.interrupt_pending());
    lapic(&mut b, 0xb0, 0);
    // upcall_pending is still 1: nothing more comes until the guest has taken it back.
    b.call_with(32, &[7], &[0]);
    let port = u64::from(b.half(DATA, 4));
    b.call_with(32, &[4], &[port]);
    assert!(!b.xen.interrupt_pending());
}

#[test]
fn without_vectors_of_the_vcpus_the_callback_is_for_all() {
    let mut b = Bench::pvh(1, &[]);
    set_param(&mut b, param::CALLBACK_IRQ, 2 << 56 | 0x93);
    b.call_with(32, &[7], &[0]);
    let port = u64::from(b.half(DATA, 4));
    b.call_with(32, &[4], &[port]);
    assert_eq!(b.xen.acknowledge(), Some(0x93));
    assert!(b.xen.interrupt_pending(), "as long as upcall_pending is 1");
    let at = b.info(0, 0);
    b.domain(|d, _| d.ram.write(at, &[0]));
    b.call(17, &[0, 0]);
    assert!(!b.xen.interrupt_pending());
}

#[test]
fn a_second_processor_starts_with_init_and_a_start_up_ipi() {
    let mut b = Bench::pvh(2, &[0xeb, 0xfe]);
    // inc ax; jmp .
    b.ram.write(0x8000, &[0x40, 0xeb, 0xfe]);
    assert_eq!(b.call(24, &[1, 1]), EINVAL);
    lapic(&mut b, 0xf0, 0x1ff);
    lapic(&mut b, 0x310, 1 << 24);
    lapic(&mut b, 0x300, 0x4500);
    // Between the two it does not know where to begin.
    assert_eq!(b.call(24, &[1, 1]), EINVAL);
    b.run(100);
    assert_eq!(b.call(24, &[3, 1]), 0);
    lapic(&mut b, 0x300, 0x4608);
    assert_eq!(b.call(24, &[3, 1]), 1);
    b.call(29, &[0, 0]);
    b.run(10);
    assert_eq!(b.domain(|d, _| d.current), 1);
    let cpu = b.cpu();
    assert_eq!((cpu.seg[1].sel, cpu.rip, cpu.regs[0] & 0xffff, cpu.cr0 & 1), (0x800, 1, 1, 0));
}

/// `struct vcpu_hvm_context` for 32-bit code at `eip` without paging, at privilege 0.
pub(super) fn context_32(eip: u32) -> [u8; 128] {
    let mut c = [0; 128];
    let mut put = |at: usize, bytes: &[u8]| c[at..at + bytes.len()].copy_from_slice(bytes);
    put(8, &0x1234u32.to_le_bytes());
    put(8 + 16, &(CODE as u32 * 4096 + 0x800).to_le_bytes());
    put(40, &eip.to_le_bytes());
    put(44, &2u32.to_le_bytes());
    put(48, &0x11u32.to_le_bytes());
    (0..4).for_each(|k| put(92 + 4 * k, &u32::MAX.to_le_bytes()));
    put(92 + 16, &0x67u32.to_le_bytes());
    for (k, ar) in [0xc9bu16, 0xc93, 0xc93, 0xc93, 0x8b].into_iter().enumerate() {
        put(112 + 2 * k, &ar.to_le_bytes());
    }
    c
}
/// The same for 64-bit code in the boot vCPU's address space.
pub(super) fn context_64(b: &Bench, rip: u64) -> [u8; 128] {
    let cpu = &b.vcpu.cpu;
    let mut c = [0; 128];
    c[0] = 1;
    let mut put = |at: usize, v: u64| c[at..at + 8].copy_from_slice(&v.to_le_bytes());
    put(8 + 24, 0x1234_5678_9abc);
    put(72, rip);
    put(80, 2);
    put(88, cpu.cr0);
    put(96, cpu.cr3);
    put(104, cpu.cr4);
    put(112, cpu.efer & !0x400);
    c
}
fn initialise(b: &mut Bench, vcpu: u64, context: &[u8; 128]) -> i64 {
    b.put(DATA, 0, context);
    b.call(24, &[0, vcpu, va_pvh(DATA)])
}

#[test]
fn a_second_processor_starts_where_its_context_says() {
    // The first one's; at 0x40: inc eax; jmp . or, in 64-bit mode, a prefix instead of inc; at 0x80 mov rax, rbx; jmp .
    let mut code = [0x90; 0x90];
    code[..2].copy_from_slice(&[0xeb, 0xfe]);
    code[0x40..0x43].copy_from_slice(&[0x40, 0xeb, 0xfe]);
    code[0x80..0x85].copy_from_slice(&[0x48, 0x89, 0xd8, 0xeb, 0xfe]);
    let at = CODE << PAGE_SHIFT;
    for (long, rip, rax) in [(false, at + 0x40, 0x1235), (true, at + 0x80, 0x1234_5678_9abc)] {
        let mut b = Bench::pvh(2, &code);
        let c = if long { context_64(&b, rip) } else { context_32(rip as u32) };
        assert_eq!(b.call(24, &[1, 1]), EINVAL);
        assert_eq!((initialise(&mut b, 1, &c), initialise(&mut b, 1, &c)), (0, errno(Errno::EEXIST)));
        assert_eq!((b.call(24, &[3, 1]), b.call(24, &[1, 1]), b.call(24, &[3, 1])), (0, 0, 1));
        b.call(29, &[0, 0]);
        b.run(5);
        assert_eq!(b.domain(|d, _| d.current), 1);
        let cpu = b.cpu();
        assert_eq!((cpu.regs[0], cpu.long, cpu.cpl), (rax, long, 0));
        assert_eq!(cpu.rip, rip + if long { 3 } else { 1 });
    }
}

#[test]
fn a_context_that_makes_no_sense_is_refused() {
    let mut b = Bench::pvh(2, &[0xeb, 0xfe]);
    let (good_32, good_64) = (context_32(0x1000), context_64(&b, 0x1000));
    let bad_32: [(&str, usize, u64); 16] = [
        ("an unknown mode", 0, 2),
        ("padding", 4, 1),
        ("padding", 60, 1),
        ("padding", 126, 1),
        ("bits beyond the attributes", 112, 0x1c9b),
        ("no code segment", 112, 0x0c93_0c93),
        ("a stack that is read-only", 116, 0x008b_0c93_0c91),
        ("a null stack", 116, 0x008b_0c93_0000),
        ("a stack of another privilege", 116, 0x008b_0c93_0cf3),
        ("data above the code", 114, 0x0c93_0c93_0cf3),
        ("a TSS that is not in use", 120, 0x89),
        ("code beyond its limit", 92, 0xffff_ffff_0000_0fff),
        ("paging without protection", 48, 0x8000_0010),
        ("a CR4 that there is not", 56, 1 << 30),
        ("LMA without LME", 64, 0x400),
        ("long mode without PAE", 64, 0x900),
    ];
    for (why, at, v) in bad_32 {
        let mut c = good_32;
        let len = 8.min(128 - at);
        c[at..at + len].copy_from_slice(&v.to_le_bytes()[..len]);
        if why.starts_with("long mode") {
            c[51] |= 0x80;
        }
        assert_eq!(initialise(&mut b, 1, &c), EINVAL, "{why}");
    }
    for (why, at, v) in [("RIP", 72, 1 << 47), ("PG", 88, 0x11), ("PAE", 104, 0), ("LME", 112, 0)] {
        let mut c = good_64;
        c[at..at + 8].copy_from_slice(&u64::to_le_bytes(v));
        assert_eq!(initialise(&mut b, 1, &c), EINVAL, "{why}");
    }
    assert_eq!((initialise(&mut b, 5, &good_32), initialise(&mut b, 1, &good_32)), (ENOENT, 0));
}

#[test]
fn an_nmi_from_another_vcpu_arrives() {
    let mut b = Bench::pvh(1, &[]);
    lapic(&mut b, 0xf0, 0x1ff);
    assert_eq!(b.call(24, &[11, 0]), 0);
    assert!(b.xen.take_nmi());
}

#[test]
fn hypercalls_are_the_kernels_and_not_those_of_pv() {
    let mut b = Bench::pvh(1, &[]);
    for number in [0, 1, 2, 3, 5, 14, 23, 25, 26, 30] {
        assert_eq!(b.call(number, &[]), ENOSYS);
    }
    assert_eq!(b.call(17, &[0, 0]), 4 << 16 | 17);
    assert_eq!(b.call_with(17, &[6], &[0]), 0);
    assert_eq!(b.half(DATA, 4) & 5, 5, "translated, and free to write its tables");
    assert_eq!(b.call_with(24, &[0, 0], &[0; 16]), errno(Errno::EEXIST));
    b.cpu().cpl = 3;
    assert_eq!(b.call(17, &[0, 0]), EPERM);
}

#[test]
fn poll_ends_with_its_timeout_though_interrupts_are_off() {
    for vcpus in [1, 2] {
        let mut b = Bench::pvh(vcpus, &[0x90; 8]);
        b.call(24, &[7, 0]);
        assert_eq!(b.call_with(29, &[3], &[0, 0, 5000]), 0);
        assert_eq!(b.run(3), CpuExit::Halt);
        b.pass(5000);
        b.run(3);
        assert_eq!(b.cpu().rip, (CODE << PAGE_SHIFT) + 3);
    }
}

#[test]
fn the_hypercall_page_has_a_vmcall_for_each_number() {
    // mov ecx, 0x40000000; wrmsr
    let mut b = Bench::pvh(1, &[0xb9, 0, 0, 0, 0x40, 0x0f, 0x30]);
    b.set(reg::RAX, FREE << PAGE_SHIFT);
    b.set(reg::RDX, 0);
    b.run(2);
    assert_eq!(b.bytes(FREE, 17 * 32, 9), [0xb8, 17, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3]);
    assert_eq!(b.bytes(FREE, 23 * 32, 2), [0x0f, 0x0b]);
    assert!(!b.xen.msr_write(0x4000_0000, FRAMES << PAGE_SHIFT));
    assert!(!b.xen.msr_write(0x4000_0000, 8));
}
