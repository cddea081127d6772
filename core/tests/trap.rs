//! Debug exceptions that user mode of a host cannot show: breakpoints, RF, and what SYSRET and SYSCALL do with TF.

mod bare;

use bare::*;
use tabvisor_core::cpu::{event, reg};
use tabvisor_core::flags;
use tabvisor_core::vcpu::CpuExit;

const DB: u64 = 1;

#[test]
fn rf_lets_one_instruction_pass_a_breakpoint() {
    // nop; nop; hlt with a breakpoint on the second.
    let (ram, mut v) = with_handlers(&[0x90, 0x90, 0xf4]);
    v.cpu.dr[0] = CODE + 1;
    v.cpu.dr[7] = 0x401;
    v.cpu.mode_changed();
    assert_eq!(run(&mut v, 100), CpuExit::Halt);
    let (rip, image) = frame(&ram, &v);
    assert_eq!((rip, image & flags::RF), (CODE + 1, 0));
    assert_eq!(v.cpu.dr[6] & 0xf, DB);

    v.cpu.rip = CODE + 1;
    v.cpu.events &= !event::HALTED;
    v.cpu.set_rflags_image(2 | flags::RF);
    assert_eq!(run(&mut v, 100), CpuExit::Halt);
    assert_eq!((v.cpu.rip, v.cpu.rflags & flags::RF), (CODE + 3, 0));
}

#[test]
fn a_repeated_instruction_cut_short_has_rf() {
    // rep stosb; hlt
    let (_, mut v) = with_handlers(&[0xf3, 0xaa, 0xf4]);
    v.cpu.regs[reg::RCX as usize] = 10_000;
    v.cpu.regs[reg::RDI as usize] = DATA;
    assert_eq!(run(&mut v, 1), CpuExit::Budget);
    assert_eq!(v.cpu.rip, CODE);
    assert!((1..10_000).contains(&v.cpu.regs[reg::RCX as usize]));
    assert_ne!(v.cpu.rflags & flags::RF, 0);
    assert_eq!(run(&mut v, 100_000), CpuExit::Halt);
    assert_eq!((v.cpu.regs[reg::RCX as usize], v.cpu.rflags & flags::RF), (0, 0));
}

#[test]
fn a_tf_that_sysret_sets_traps_right_behind_it() {
    // sysretq
    let (ram, mut v) = with_handlers(&[0x48, 0x0f, 0x07]);
    v.cpu.msr.star = 0x18 << 48;
    v.cpu.regs[reg::RCX as usize] = CODE + 0x100;
    v.cpu.regs[reg::R11 as usize] = flags::TF | 2;
    assert_eq!(run(&mut v, 100), CpuExit::Halt);
    let (rip, image) = frame(&ram, &v);
    assert_eq!((rip, image & flags::TF), (CODE + 0x100, flags::TF));
    assert_ne!(v.cpu.dr[6] & 1 << 14, 0);
}

#[test]
fn a_tf_that_syscall_masks_does_not_trap() {
    // syscall, and hlt at its target
    let (ram, mut v) = with_handlers(&[0x0f, 0x05]);
    ram.write(CODE + 0x200, &[0xf4]);
    v.cpu.msr.star = 0x10 << 32;
    v.cpu.msr.lstar = CODE + 0x200;
    v.cpu.msr.fmask = flags::TF;
    v.cpu.set_rflags_image(2 | flags::TF);
    assert_eq!(run(&mut v, 100), CpuExit::Halt);
    assert_eq!((v.cpu.rip, v.cpu.regs[reg::RCX as usize]), (CODE + 0x201, CODE + 2));
    assert_eq!(v.cpu.dr[6] & 1 << 14, 0);
}
