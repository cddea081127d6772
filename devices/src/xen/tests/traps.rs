//! Ways into the guest's kernel and out of it: the frame, word by word.

use super::*;
use crate::xen::abi::hole;

const HANDLER: u64 = VIRT + (CODE << PAGE_SHIFT) + 0x400;

#[test]
fn a_frame_from_the_kernel_without_an_error_code_has_seven_words_below_an_aligned_stack() {
    let mut b = Bench::pv();
    b.gate(3, 4, HANDLER);
    b.set_upcall_mask(false);
    let sp = va(MAPPED + 1) - 3;
    b.set(reg::RSP, sp);
    b.set(reg::RCX, 0xc);
    b.set(11, 0xb);
    b.cpu().set_rflags_image(0x4_0297 | 0x100);
    let rip = b.cpu().rip;
    b.fault(3, None);
    assert_eq!(b.reg(reg::RSP), (sp & !15) - 56);
    // RFLAGS: IF because events are not masked.
    assert_eq!(b.stack(7), [0xc, 0xb, rip, 0xe030, 0x4_0397, sp, 0xe02b]);
    let cpu = b.cpu();
    assert_eq!((cpu.rip, cpu.rflags_image() & 0x4_0100), (HANDLER, 0));
    assert!(b.upcall_mask(), "the gate masks events");
}

#[test]
fn a_frame_with_an_error_code_has_eight_words_and_says_that_events_were_masked() {
    let mut b = Bench::pv();
    b.gate(12, 0, HANDLER);
    b.set(reg::RSP, va(MAPPED + 1));
    let rip = b.cpu().rip;
    b.fault(12, Some(0x18));
    assert_eq!(b.reg(reg::RSP), va(MAPPED + 1) - 64);
    let f = b.stack(8);
    assert_eq!((f[2], f[3], f[4], f[5] & 0x200), (0x18, rip, 0xe030 | 1 << 32, 0));
}

#[test]
fn a_gate_that_does_not_mask_events_leaves_the_mask_as_it_is() {
    let mut b = Bench::pv();
    b.gate(3, 0, HANDLER);
    b.set_upcall_mask(false);
    b.fault(3, None);
    assert!(!b.upcall_mask());
}

#[test]
fn a_frame_from_users_lies_on_the_kernels_stack_and_shows_their_selectors() {
    let mut b = Bench::pv();
    b.users(&[]);
    b.gate(6, 4, HANDLER);
    b.enter_users();
    assert!(!b.upcall_mask(), "the frame of iret had IF");
    b.fault(6, None);
    assert!(b.cpu().guest_kernel);
    assert_eq!(b.reg(reg::RSP), va(MAPPED + 0x81) - 56);
    let f = b.stack(7);
    assert_eq!(f[2..], [USER_CODE, 0xe033, 0x202, USER_STACK, 0xe02b]);
    assert!(b.upcall_mask());
}

#[test]
fn a_frame_that_cannot_be_written_ends_the_domain() {
    for sp in [0, hole::M2P + 0x1000, 0x8000_0000_0000, va(1025)] {
        let mut b = Bench::pv();
        b.gate(6, 4, HANDLER);
        b.set(reg::RSP, sp);
        b.fault(6, None);
        assert!(matches!(b.stop(), Some(StopCause::Crash(why)) if why.contains("no stack")), "{sp:#x}");
    }
}

#[test]
fn what_nobody_handles_ends_the_domain() {
    let mut b = Bench::pv();
    b.fault(6, None);
    assert!(matches!(b.stop(), Some(StopCause::Crash(why)) if why.contains("exception 6")));
}

#[test]
fn iret_to_the_kernel_restores_registers_flags_and_the_mask() {
    let mut b = Bench::pv();
    let to = va(CODE) + 0x80;
    b.iret([1, 2, 3, 0, to, 0xe030, 0x3246, va(MAPPED + 4), 0xe02b]);
    assert_eq!([reg::RAX, 11, reg::RCX, reg::RSP].map(|r| b.reg(r)), [1, 2, 3, va(MAPPED + 4)]);
    let cpu = b.cpu();
    // No IOPL.
    assert_eq!((cpu.rip, cpu.rflags_image(), cpu.guest_kernel, cpu.cpl), (to, 0x246, true, 3));
    assert!(!b.upcall_mask());
    b.iret([0, 0, 0, 0, to, 0xe030, 0x46, va(MAPPED + 4), 0xe02b]);
    assert!(b.upcall_mask());
    assert_eq!(b.cpu().rflags_image(), 0x246, "IF is always 1 for the processor");
}

#[test]
fn iret_with_the_flag_of_system_calls_takes_rcx_and_r11_from_rip_and_rflags() {
    let mut b = Bench::pv();
    b.iret([1, 2, 3, 0x100, va(CODE), 0xe030, 0x246, va(MAPPED + 4), 0xe02b]);
    assert_eq!((b.reg(reg::RCX), b.reg(11)), (va(CODE), 0x246));
}

#[test]
fn iret_to_users_changes_address_space_and_gs() {
    let mut b = Bench::pv();
    // inc eax; syscall
    b.users(&[0xff, 0xc0, 0x0f, 0x05]);
    assert_eq!(b.call(25, &[1, 0x1234_0000]), 0);
    assert_eq!(b.call(25, &[2, 0x5678_0000]), 0);
    assert_eq!(b.call_with(30, &[0], &[2 | 1 << 16, HANDLER]), 0);
    b.iret([41, 0, 0, 0, USER_CODE, 0xe033, 0x602, USER_STACK, 0xe02b]);
    assert_eq!(b.cpu().cr3, USERS << PAGE_SHIFT);
    assert_eq!(b.cpu().seg[5].base, 0x1234_0000);
    b.run(2);
    assert_eq!((b.reg(reg::RAX), b.cpu().rip), (42, HANDLER));
    assert_eq!((b.cpu().cr3, b.cpu().seg[5].base), (b.l4() << PAGE_SHIFT, 0x5678_0000));
    // RCX and R11 are what SYSCALL has put there; DF is gone for the handler.
    let f = b.stack(7);
    assert_eq!((f[0], f[2], f[3], f[5], f[6]), (USER_CODE + 4, USER_CODE + 4, 0xe033, USER_STACK, 0xe02b));
    assert_eq!((f[1] & 0x400, f[4] & 0x600), (0x400, 0x600));
    assert_eq!(b.cpu().rflags_image() & 0x400, 0);
    assert!(b.upcall_mask());
}

#[test]
fn iret_to_users_who_have_no_tables_ends_the_domain() {
    let mut b = Bench::pv();
    b.iret([0, 0, 0, 0, USER_CODE, 0xe033, 0x202, USER_STACK, 0xe02b]);
    assert!(matches!(b.stop(), Some(StopCause::Crash(_))));
}

#[test]
fn iret_with_a_bad_selector_faults_where_it_leads_to() {
    let mut b = Bench::pv();
    b.gate(13, 4, HANDLER);
    b.iret([0, 0, 0, 0, va(CODE), 0x1230, 0x202, va(MAPPED + 4), 0xe02b]);
    assert_eq!(b.cpu().rip, HANDLER);
    let f = b.stack(4);
    assert_eq!((f[2], f[3]), (0x1230, va(CODE)));
}

#[test]
fn a_system_call_nobody_handles_is_an_undefined_instruction() {
    let mut b = Bench::pv();
    b.users(&[0x0f, 0x05]);
    b.gate(6, 4, HANDLER);
    b.enter_users();
    b.run(1);
    assert_eq!((b.cpu().rip, b.stack(3)[2]), (HANDLER, USER_CODE));
}

#[test]
fn int_n_needs_a_gate_of_the_callers_privilege() {
    // int 0x30 of the kernel: DPL 0 is refused, 1 is enough; of users: 3 is.
    for (kernel, dpl, allowed) in [(true, 0, false), (true, 1, true), (false, 1, false), (false, 3, true)] {
        let mut b = Bench::pv_code(&[0xcd, 0x30]);
        b.users(&[0xcd, 0x30]);
        b.gate(0x30, dpl, HANDLER);
        b.gate(13, 4, HANDLER + 0x100);
        if !kernel {
            b.enter_users();
        }
        let rip = b.cpu().rip;
        b.run(1);
        let f = b.stack(4);
        if allowed {
            assert_eq!((b.cpu().rip, f[2]), (HANDLER, rip + 2));
        } else {
            assert_eq!((b.cpu().rip, f[2], f[3]), (HANDLER + 0x100, 0x182, rip));
        }
    }
}

#[test]
fn int3_reaches_its_gate_whatever_the_dpl() {
    let mut b = Bench::pv();
    b.users(&[0xcc]);
    b.gate(3, 0, HANDLER);
    b.enter_users();
    b.run(1);
    assert_eq!((b.cpu().rip, b.stack(3)[2]), (HANDLER, USER_CODE + 1));
}

#[test]
fn the_trap_table_ends_with_an_address_of_zero_and_refuses_other_address_spaces() {
    let mut b = Bench::pv();
    let gate = |n: u64| n | 4 << 8 | 0xe033 << 16;
    let table = [gate(0), HANDLER, gate(1), HANDLER + 1, 0, 0, gate(4), HANDLER + 4];
    assert_eq!(b.call_with(0, &[], &table), 0);
    assert_eq!(b.domain(|d, _| [0, 1, 4].map(|n| d.vcpu().pv.traps[n].address)), [HANDLER, HANDLER + 1, 0]);
    assert_eq!(b.gate(5, 0, 1 << 47), EINVAL);
    assert_eq!(b.call(0, &[va(1024)]), EFAULT);
    assert_eq!(b.call(0, &[0]), 0);
    assert_eq!(b.domain(|d, _| d.vcpu().pv.traps[0].address), 0);
}

#[test]
fn cr2_of_a_page_fault_is_in_vcpu_info_and_in_the_virtual_cr2() {
    // mov al, [rbx]; at the handler: mov rdx, cr2
    let mut b = Bench::pv_code(&[0x8a, 0x03]);
    b.put(CODE, 0x400, &[0x0f, 0x20, 0xd2]);
    b.gate(14, 4, HANDLER);
    b.set(reg::RBX, 0x1234_5678);
    b.run(2);
    assert_eq!(b.reg(reg::RDX), 0x1234_5678);
    assert_eq!(b.info_word(0x10), 0x1234_5678);
}
