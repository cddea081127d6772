//! Arithmetic, flags, and instructions that are called or fault.

use crate::guest::DATA;
use crate::{all_compiled, same};
use iced_x86::code_asm::*;

#[test]
fn a_loop_of_arithmetic() {
    same("64 bits", true, |a| {
        let mut again = a.create_label();
        a.mov(rcx, 30_000u64).unwrap();
        a.mov(rax, 0x1234_5678_9abc_def0u64).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(rax, rcx).unwrap();
        a.rol(rax, 7).unwrap();
        a.xor(edx, eax).unwrap();
        a.imul_3(rbx, rax, 37).unwrap();
        a.sbb(rsi, rbx).unwrap();
        a.adc(edi, esi).unwrap();
        a.bswap(rbx).unwrap();
        a.shr(ebx, 3).unwrap();
        a.sub(r8w, bx).unwrap();
        a.inc(r9b).unwrap();
        a.setc(r10b).unwrap();
        a.cmovs(r11, rax).unwrap();
        a.dec(rcx).unwrap();
        a.jne(again).unwrap();
    });
}

#[test]
fn divisions() {
    all_compiled("divisions", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 3000u32).unwrap();
        a.mov(rbx, 0x9e37_79b9_7f4a_7c15u64).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(rax, rbx).unwrap();
        a.xor(edx, edx).unwrap();
        a.div(rcx).unwrap();
        a.add(rbx, rdx).unwrap();
        a.mov(r8, rcx).unwrap();
        a.neg(r8).unwrap();
        a.mov(rax, rbx).unwrap();
        a.cqo().unwrap();
        a.idiv(r8).unwrap();
        a.xor(rbx, rax).unwrap();
        a.mov(eax, ebx).unwrap();
        a.cdq().unwrap();
        a.idiv(r8d).unwrap();
        a.sub(rbx, rdx).unwrap();
        a.mov(eax, 0x1234).unwrap();
        a.mov(dl, cl).unwrap();
        a.or(dl, 0x40).unwrap();
        a.div(dl).unwrap();
        a.lea(rbx, qword_ptr(rbx + rax)).unwrap();
        a.rol(rbx, 5).unwrap();
        a.mul(rbx).unwrap();
        a.add(rbx, rdx).unwrap();
        a.cld().unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    // What does not fit 64 bits, or has a divisor of -1, is left to the interpreter; so is the fault at the end.
    for (least, divisor) in [(false, -1), (false, 3), (true, -1)] {
        same("wide divisions", true, |a| {
            let [mut again, mut skip] = [(); 2].map(|()| a.create_label());
            a.mov(ecx, 9000u32).unwrap();
            a.set_label(&mut again).unwrap();
            a.lea(rax, qword_ptr(rcx * 8 + 5)).unwrap();
            a.xor(edx, edx).unwrap();
            a.test(cl, 15).unwrap();
            a.jne(skip).unwrap();
            a.mov(r8, i64::from(divisor)).unwrap();
            if least {
                a.bt(ecx, 5).unwrap();
                a.rcr(rax, 1).unwrap();
                a.and(rax, -64).unwrap();
                a.shl(rax, 40).unwrap();
                a.cqo().unwrap();
            }
            a.idiv(r8).unwrap();
            a.add(rbx, rax).unwrap();
            a.mov(edx, 7).unwrap();
            a.mov(r9, -50i64).unwrap();
            a.div(r9).unwrap();
            a.xor(rbx, rdx).unwrap();
            a.set_label(&mut skip).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}

#[test]
fn instructions_that_are_called() {
    same("division, x87, strings", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 3000u32).unwrap();
        a.mov(edi, DATA as u32).unwrap();
        a.fld1().unwrap();
        a.fldz().unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(eax, 123_456_789u32).unwrap();
        a.xor(edx, edx).unwrap();
        a.div(ecx).unwrap();
        a.adc(ebx, edx).unwrap();
        a.fadd_2(st0, st1).unwrap();
        a.stosd().unwrap();
        a.movd(xmm0, ebx).unwrap();
        a.pshufd(xmm1, xmm0, 0).unwrap();
        a.paddd(xmm2, xmm1).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
        a.fistp(qword_ptr(rdi)).unwrap();
    });
}

#[test]
fn faults_in_the_middle() {
    // The loop runs until its address leaves RAM; the handler is a HLT.
    same("page fault", true, |a| {
        let mut again = a.create_label();
        a.mov(esi, 0x7f_0000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(eax, dword_ptr(rsi - 2)).unwrap();
        a.sub(dword_ptr(rsi), ecx).unwrap();
        a.rcl(ebx, 3).unwrap();
        a.inc(ecx).unwrap();
        a.add(rsi, 4).unwrap();
        a.jmp(again).unwrap();
    });
    same("division by zero", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 20_000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(eax, 5u32).unwrap();
        a.xor(edx, edx).unwrap();
        a.div(ecx).unwrap();
        a.dec(ecx).unwrap();
        a.jmp(again).unwrap();
    });
}

#[test]
fn a_bit_of_an_image_of_the_flags() {
    // A condition that makes the flags an image, and behind it an instruction that changes CF alone.
    for long in [true, false] {
        same("CF in an image", long, |a| {
            let [mut again, mut clear] = [(); 2].map(|()| a.create_label());
            a.mov(ecx, 20_000u32).unwrap();
            a.mov(esi, DATA as u32).unwrap();
            a.set_label(&mut again).unwrap();
            a.cmova(edx, ebp).unwrap();
            a.bt(ecx, 3).unwrap();
            a.jae(clear).unwrap();
            a.inc(ebx).unwrap();
            a.set_label(&mut clear).unwrap();
            a.sbb(edi, ebx).unwrap();
            a.sub(ecx, 1).unwrap();
            a.jne(again).unwrap();
        });
    }
}
