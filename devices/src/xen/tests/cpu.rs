//! Instructions and hypercalls about the processor: segments, descriptors, CPUID, ports, debug registers, multicalls,
//! versions.

use super::*;
use crate::machine::platform::Counted;
use crate::xen::abi::hole;

const HANDLER: u64 = VIRT + (CODE << PAGE_SHIFT) + 0x400;

#[test]
fn segment_bases_are_the_kernels_and_the_users() {
    let mut b = Bench::pv();
    for (which, base) in [(0, 0x1000), (1, 0x2000), (2, 0xffff_8880_0000_0000)] {
        assert_eq!(b.call(25, &[which, base]), 0);
        assert_eq!(b.call(25, &[which, 1 << 47]), EINVAL);
    }
    let cpu = b.cpu();
    assert_eq!([cpu.seg[4].base, cpu.msr.kernel_gs_base, cpu.seg[5].base], [0x1000, 0x2000, 0xffff_8880_0000_0000]);
    assert_eq!(b.call(25, &[4, 0]), EINVAL);
    // A selector for the users' GS: a bad one is a null selector.
    assert_eq!(b.call(25, &[3, 0xe02b]), 0);
    assert_eq!((b.cpu().msr.kernel_gs_base, b.cpu().seg[5].base), (0, 0xffff_8880_0000_0000));
    assert_eq!(b.call(25, &[3, 0x1234]), 0);
}

#[test]
fn a_gdt_is_checked_and_belongs_to_nobody_else_while_it_is_used() {
    // mov ds, eax
    let mut b = Bench::pv_code(&[0x8e, 0xd8]);
    b.gate(13, 4, HANDLER);
    b.put(FREE, 0x10, &words(&[0x00cf_9300_0000_ffff]));
    b.put(DATA, 0x800, &words(&[FREE]));
    assert_eq!(b.call(2, &[va(DATA) + 0x800, 16]), 0);
    // Whatever a guest loads is of privilege 3; and accessed now or later.
    assert_eq!(b.word(FREE, 0x10), 0x00cf_f300_0000_ffff);
    assert_eq!(b.kind(FREE), Kind::Descriptors);
    assert_eq!(b.remap(MAPPED, leaf(FREE, pte::RW)), EBUSY);
    assert_eq!(b.mmuext(0, FREE, 0), EINVAL);
    b.set(reg::RAX, 0x13);
    b.run(1);
    assert_eq!((b.cpu().seg[3].sel, b.cpu().rip), (0x13, va(CODE) + 2));
    // A TSS is nothing for a guest; nor more than 7168 entries.
    b.put(FREE + 1, 0x10, &words(&[0x0000_8900_0000_0067]));
    b.put(DATA, 0x800, &words(&[FREE + 1]));
    assert_eq!(b.call(2, &[va(DATA) + 0x800, 16]), EINVAL);
    assert_eq!(b.kind(FREE + 1), Kind::None);
    assert_eq!(b.call(2, &[va(DATA) + 0x800, 7169]), EINVAL);
    assert_eq!(b.call(2, &[0, 0]), 0);
    assert_eq!(b.kind(FREE), Kind::None);
    b.cpu().rip = va(CODE);
    b.set(reg::RAX, 0x13);
    b.run(1);
    assert_eq!((b.cpu().rip, b.stack(3)[2]), (HANDLER, 0x10));
}

#[test]
fn update_descriptor_checks_what_it_writes() {
    let mut b = Bench::pv();
    let at = FREE << PAGE_SHIFT;
    assert_eq!(b.call(10, &[at + 8, 0x00cf_9300_0000_ffff]), 0);
    assert_eq!(b.word(FREE, 8), 0x00cf_f300_0000_ffff);
    for (at, new) in [(at + 4, 0), (at, 0x0000_8900_0000_0067), (at, 0x0000_8e00_0000_0000), (u64::MAX << 3, 0)] {
        assert_eq!(b.call(10, &[at, new]), EINVAL, "{new:#x}");
    }
    assert_eq!(b.call(10, &[at, 0x0000_0900_0000_0067]), 0, "not present");
    let l4 = b.l4();
    assert_eq!(b.call(10, &[l4 << PAGE_SHIFT, 0]), EINVAL);
}

#[test]
fn an_ldts_pages_are_checked_when_they_are_used() {
    // mov ds, eax; mov al, [rbx]
    let mut b = Bench::pv_code(&[0x8e, 0xd8, 0x8a, 0x03]);
    b.gate(13, 4, HANDLER);
    b.gate(14, 4, HANDLER + 0x100);
    b.put(MAPPED, 0, &words(&[0, 0x00cf_f300_0000_ffff]));
    assert_eq!(b.mmuext(13, va(MAPPED), 8193), EINVAL);
    assert_eq!(b.mmuext(13, va(MAPPED) + 8, 2), EINVAL);
    assert_eq!(b.mmuext(13, hole::M2P, 2), EINVAL);
    assert_eq!(b.mmuext(13, va(MAPPED), 512), 0);
    // As long as it can be written it is none.
    b.set(reg::RAX, 0xf);
    b.run(1);
    assert_eq!(b.cpu().rip, HANDLER + 0x100);
    b.remap(MAPPED, leaf(MAPPED, 0));
    b.cpu().rip = va(CODE);
    b.set(reg::RAX, 0xf);
    b.run(2);
    assert_eq!((b.cpu().seg[3].sel, b.kind(MAPPED)), (0xf, Kind::Descriptors));
    assert_eq!(b.remap(MAPPED, leaf(MAPPED, pte::RW)), EBUSY);
    assert_eq!(b.mmuext(13, 0, 0), 0);
    assert_eq!(b.kind(MAPPED), Kind::None);
    b.check();
}

#[test]
fn users_who_look_at_the_hypervisors_addresses_get_a_page_fault() {
    use crate::xen::frames::Frames;
    // mov al, [rbx]; jmp .
    let mut b = Bench::pv_code(&[]);
    b.users(&[0x8a, 0x03, 0xeb, 0xfe]);
    b.gate(14, 4, HANDLER);
    b.put(MAPPED, 0, &[0; 4096]);
    b.remap(MAPPED, leaf(MAPPED, 0));
    assert_eq!(b.mmuext(13, va(MAPPED), 512), 0);
    b.enter_users();
    b.set(reg::RBX, Frames::table_address(0, 16));
    b.run(4);
    assert!(b.cpu().guest_kernel, "it does not fault for ever");
    b.check();
}

#[test]
fn an_ldt_at_the_end_of_the_address_space_is_survived() {
    // mov ds, eax
    let mut b = Bench::pv_code(&[0x8e, 0xd8]);
    b.gate(14, 4, HANDLER);
    b.gate(13, 4, HANDLER);
    assert_eq!(b.mmuext(13, 0xffff_ffff_ffff_f000, 8192), 0);
    b.set(reg::RAX, 0xfff7);
    b.run(1);
    assert_eq!(b.cpu().rip, HANDLER);
}

#[test]
fn cpuid_in_its_forced_form_asks_xen() {
    // ud2; "xen"; cpuid
    let mut b = Bench::pv_code(&[0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2]);
    b.gate(6, 4, HANDLER);
    b.set(reg::RAX, 0x4000_0000);
    b.run(1);
    assert_eq!(b.cpu().rip, va(CODE) + 7);
    let words = [reg::RBX, reg::RCX, reg::RDX].map(|r| (b.reg(r) as u32).to_le_bytes());
    assert_eq!(words.concat(), b"XenVMMXenVMM");
    // UD2 alone is one.
    b.put(CODE, 5, &[0x90, 0x90]);
    b.cpu().rip = va(CODE);
    b.run(1);
    assert_eq!((b.cpu().rip, b.stack(3)[2]), (HANDLER, va(CODE)));
}

#[test]
fn ports_need_iopl_or_the_bitmap() {
    // in al, 0x71; cli
    let code = [0xe4, 0x71, 0xfa];
    let mut b = Bench::pv_code(&code);
    b.users(&code);
    b.gate(13, 4, HANDLER);
    b.run(1);
    assert_eq!(b.cpu().rip, HANDLER);
    assert_eq!(b.call_with(33, &[6], &[4]), EINVAL);
    assert_eq!(b.call_with(33, &[6], &[1]), 0);
    b.cpu().rip = va(CODE);
    b.run(2);
    assert_eq!((b.cpu().rip, b.reg(reg::RAX) & 0xff), (va(CODE) + 3, 0xff));
    assert!(b.cpu().rflags_image() & 0x200 != 0 && b.upcall_mask(), "CLI does nothing");
    // Users need 3, or a bit in the bitmap, which lies in the kernel's memory.
    b.enter_users();
    b.run(1);
    assert_eq!(b.cpu().rip, HANDLER);
    assert_eq!(b.call_with(33, &[7], &[va(MAPPED), 65537]), EINVAL);
    b.put(MAPPED, 0, &[0xff; 0x40]);
    b.put(MAPPED, 0x71 / 8, &[!(1 << 1)]);
    assert_eq!(b.call_with(33, &[7], &[va(MAPPED), 0x80]), 0);
    b.enter_users();
    b.run(1);
    assert_eq!(b.cpu().rip, USER_CODE + 2);
    b.run(1);
    assert_eq!(b.cpu().rip, HANDLER, "CLI takes no notice of the bitmap");
}

#[test]
fn string_input_cannot_write_to_read_only_pages() {
    // insd
    let mut b = Bench::pv_code(&[0x6d]);
    b.gate(14, 4, HANDLER);
    b.gate(13, 4, HANDLER + 0x100);
    b.call_with(33, &[6], &[1]);
    let slot = b.slot_of(MAPPED);
    let before = b.ram.read_le::<8>(slot);
    b.set(reg::RDI, VIRT + slot);
    b.run(1);
    assert_ne!(b.cpu().rip, va(CODE) + 1);
    assert_eq!(b.ram.read_le::<8>(slot), before);
    b.set(reg::RDI, va(MAPPED));
    b.cpu().rip = va(CODE);
    b.run(1);
    assert_eq!((b.cpu().rip, b.half(MAPPED, 0)), (va(CODE) + 1, u32::MAX));
}

#[test]
fn debug_registers_take_what_does_no_harm() {
    let mut b = Bench::pv();
    let calls = [
        (0, 0x1234, 0),
        (1, hole::M2P, EPERM),
        (2, 1 << 47, EPERM),
        (6, 1 << 32, EINVAL),
        (7, 1 << 13, EPERM),
        (7, 1 << 32, EINVAL),
        (7, 2 | 2 << 16, EPERM),
        (7, 3, 0),
        (8, 0, EINVAL),
    ];
    for (n, v, answer) in calls {
        assert_eq!(b.call(8, &[n, v]), answer, "DR{n} = {v:#x}");
    }
    assert_eq!(b.call(9, &[0]), 0x1234);
    assert_eq!(b.call(9, &[7]), b.call(9, &[5]));
    // CR4.DE: mov cr4, rax
    b.put(CODE, 0, &[0x0f, 0x22, 0xe0]);
    b.set(reg::RAX, 8);
    b.run(1);
    assert_eq!(b.call(9, &[5]), errno(Errno::ENODEV));
    assert_eq!(b.call(8, &[7, 2 | 2 << 16]), 0);
}

#[test]
fn task_switched_is_cleared_when_its_exception_is_delivered() {
    // fninit
    let mut b = Bench::pv_code(&[0xdb, 0xe3]);
    b.gate(7, 4, HANDLER);
    b.call(5, &[1]);
    b.run(1);
    assert_eq!((b.cpu().rip, b.cpu().cr0 & 8), (HANDLER, 0));
}

#[test]
fn a_multicall_makes_one_after_the_other_but_none_of_its_kind() {
    let mut b = Bench::pv();
    let entry = |op: u64, a: [u64; 2]| [op, 99, a[0], a[1], 0, 0, 0, 0];
    let list = [entry(17, [0, 0]), entry(13, [va(DATA), 1]), entry(25, [9, 0]), entry(5000, [0, 0])].concat();
    b.put(MAPPED, 0, &words(&list));
    assert_eq!(b.call(13, &[va(MAPPED), 4]), 0);
    let results = [0, 1, 2, 3].map(|n| b.word(MAPPED, 64 * n + 8) as i64);
    assert_eq!(results, [4 << 16 | 17, EINVAL, EINVAL, ENOSYS]);
    assert_eq!(b.call(13, &[va(MAPPED), 0]), 0);
    assert_eq!(b.call(13, &[va(1024) - 32, 1]), EFAULT);
}

#[test]
fn iret_ends_a_multicall() {
    let mut b = Bench::pv();
    let to = va(CODE) + 0x80;
    b.put(MAPPED + 0x90, 0xf00, &words(&[77, 0, 0, 0, to, 0xe030, 0x202, va(MAPPED + 4), 0xe02b]));
    b.set(reg::RSP, va(MAPPED + 0x91) - 0x100);
    b.put(MAPPED, 0, &words(&[23, 0, 0, 0, 0, 0, 0, 0, 17, 55, 0, 0, 0, 0, 0, 0]));
    assert_eq!(b.call(13, &[va(MAPPED), 2]), 77);
    assert_eq!((b.cpu().rip, b.word(MAPPED, 72)), (to, 55));
    // And the next one works.
    b.put(MAPPED, 0, &words(&[17, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(b.call(13, &[va(MAPPED), 1]), 0);
}

#[test]
fn versions_are_strings_with_zeros_to_their_end() {
    let mut b = Bench::pv();
    let page = va(MAPPED);
    for (cmd, n, text) in [(1, 16, ".tabvisor"), (3, 1024, "xen-3.0-x86_64 "), (4, 64, ""), (9, 1024, "<denied>")] {
        b.put(MAPPED, 0, &[0xaa; 2048]);
        assert_eq!(b.call(17, &[cmd, page]), 0);
        assert!(b.bytes(MAPPED, 0, text.len()) == text.as_bytes(), "{cmd}");
        assert_eq!(b.bytes(MAPPED, n - 1, 2), [0, 0xaa], "{cmd}");
    }
    assert_eq!(b.call(17, &[8, page]), 0);
    assert_eq!(b.bytes(MAPPED, 0, 16), core::array::from_fn::<u8, 16, _>(|n| n as u8));
    assert_eq!(b.call(17, &[5, page]), 0);
    assert_eq!(b.word(MAPPED, 0), hole::START);
    for (index, map) in [(0, 0x0002_20e0), (1, 0)] {
        assert_eq!(b.call_with(17, &[6], &[pair(index, 7)]), 0);
        assert_eq!(b.half(DATA, 4), map);
    }
    assert_eq!(b.call(17, &[7, 0]), 4096);
    assert_eq!(b.call(17, &[10, page]), errno(Errno::ENODATA));
    assert_eq!(b.call(17, &[1, va(1024) - 8]), EFAULT);
    assert_eq!(b.call(17, &[99, 0]), ENOSYS);
    for (number, answer) in [(55, ENOSYS), (11, ENOSYS), (56, ENOSYS), (u64::from(u32::MAX), ENOSYS), (35, EPERM)] {
        assert_eq!(b.call(number, &[]), answer);
    }
}

#[test]
fn an_msr_is_one_exit_be_it_there_or_not() {
    // RDMSR of FS_BASE, WRMSR of it, RDMSR of what there is not.
    let msr = |n: u32| [&[0xb9][..], &n.to_le_bytes()].concat();
    let code = [&msr(0xc000_0100)[..], &[0x0f, 0x32, 0x0f, 0x30], &msr(0x1234), &[0x0f, 0x32]].concat();
    let mut b = Bench::pv_code(&code);
    b.gate(13, 4, HANDLER);
    let exits = |b: &mut Bench| b.domain(|d, _| d.counts()).into_iter().filter(|c| c.of == Counted::Exit);
    let before: u64 = exits(&mut b).map(|c| c.n).sum();
    b.run(4);
    assert_eq!(exits(&mut b).map(|c| c.n).sum::<u64>(), before + 2);
    b.run(1);
    assert_eq!(b.cpu().rip, HANDLER);
    let all: Vec<(&str, u64)> = exits(&mut b).map(|c| (c.name, c.n)).collect();
    assert_eq!(all, [("hypercall", before), ("privileged instruction", 2), ("other exception", 1)]);
}
