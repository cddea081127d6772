//! Numbers on the x87 stack.

use crate::guest::DATA;
use crate::{run, same};
use iced_x86::code_asm::*;

/// Numbers in memory, in loops: normal ones, then all kinds; with the controls that are common, and with others.
#[test]
fn x87_numbers() {
    let numbers: [u64; 8] = [
        0x3ff3_c0ca_428c_59fb,
        0xbff0_0000_0000_0001,
        0x4009_21fb_5444_2d18,
        0x3f1a_36e2_eb1c_432d,
        0,
        0x7ff0_0000_0000_0000,
        1,
        0xfff4_0000_0000_0000,
    ];
    let extended_nearest = 0x37f;
    for (control, kinds, long) in
        [(extended_nearest, 4, true), (extended_nearest, 8, false), (0x27f, 4, true), (0xb7f, 8, true)]
    {
        let program = |a: &mut CodeAssembler| {
            let (mut again, mut less) = (a.create_label(), a.create_label());
            a.mov(esi, DATA as u32).unwrap();
            for (n, v) in numbers.into_iter().enumerate() {
                for half in 0..2 {
                    a.mov(dword_ptr(esi + 8 * n + 4 * half), (v >> (32 * half)) as u32).unwrap();
                }
            }
            a.mov(dword_ptr(esi + 0x100), control).unwrap();
            a.mov(dword_ptr(esi + 0x104), 12_345).unwrap();
            a.fninit().unwrap();
            a.fldcw(word_ptr(esi + 0x100)).unwrap();
            a.fld1().unwrap();
            a.mov(ecx, 20_000).unwrap();
            a.set_label(&mut again).unwrap();
            a.mov(eax, ecx).unwrap();
            a.and(eax, kinds - 1).unwrap();
            a.fld(qword_ptr(esi + eax * 8)).unwrap();
            a.fmul(qword_ptr(esi)).unwrap();
            a.faddp(st1, st0).unwrap();
            a.fld(st0).unwrap();
            a.fsub(qword_ptr(esi + eax * 8)).unwrap();
            a.fdivr(qword_ptr(esi + 16)).unwrap();
            a.fild(dword_ptr(esi + 0x104)).unwrap();
            a.fxch(st0, st1).unwrap();
            a.fchs().unwrap();
            a.fst(dword_ptr(esi + 0x108)).unwrap();
            a.fmulp(st1, st0).unwrap();
            a.fldz().unwrap();
            a.fcomip(st0, st1).unwrap();
            a.jb(less).unwrap();
            a.fabs().unwrap();
            a.set_label(&mut less).unwrap();
            a.fst(qword_ptr(esi + 0x110)).unwrap();
            a.fsubp(st1, st0).unwrap();
            a.fcom(dword_ptr(esi + 0x108)).unwrap();
            a.fiadd(dword_ptr(esi + 0x104)).unwrap();
            a.fmul(qword_ptr(esi + 24)).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
            a.fstp(qword_ptr(esi + 0x118)).unwrap();
            // What is left of it, and where it was.
            a.fxsave(ptr(esi + 0x200)).unwrap();
        };
        run(&format!("control word {control:x}, {kinds} kinds"), long, program);
    }
}

/// A stack that runs over and empty.
#[test]
fn x87_stack_faults() {
    for control in [0x37f, 0x27f] {
        same(&format!("control word {control:x}"), true, |a| {
            let mut again = a.create_label();
            a.mov(rsi, DATA).unwrap();
            a.mov(dword_ptr(rsi), control).unwrap();
            a.fninit().unwrap();
            a.fldcw(word_ptr(rsi)).unwrap();
            a.mov(ecx, 10_000).unwrap();
            a.set_label(&mut again).unwrap();
            for _ in 0..5 {
                a.fld1().unwrap();
            }
            a.fadd_2(st0, st3).unwrap();
            for _ in 0..4 {
                a.fstp(qword_ptr(rsi + rcx * 1 + 16)).unwrap();
                a.fxch(st0, st2).unwrap();
            }
            a.test(ecx, 15).unwrap();
            let mut on = a.create_label();
            a.jne(on).unwrap();
            for _ in 0..9 {
                a.fmulp(st1, st0).unwrap();
            }
            a.set_label(&mut on).unwrap();
            a.fnclex().unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}
