//! Vectors and numbers in them.

use crate::guest::DATA;
use crate::{all_compiled, same};
use iced_x86::code_asm::*;

#[test]
fn vectors() {
    all_compiled("vectors", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 3000u32).unwrap();
        a.mov(esi, DATA as u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.movd(xmm0, ecx).unwrap();
        a.movq(xmm1, rsi).unwrap();
        a.punpcklqdq(xmm0, xmm1).unwrap();
        a.paddq(xmm2, xmm0).unwrap();
        a.pshufb(xmm2, xmm3).unwrap();
        a.pxor(xmm3, xmm2).unwrap();
        a.movdqu(xmmword_ptr(rsi + 3), xmm2).unwrap();
        a.movaps(xmm4, xmmword_ptr(rsi)).unwrap();
        a.psubb(xmm4, xmm3).unwrap();
        a.pmovmskb(eax, xmm4).unwrap();
        a.add(ebx, eax).unwrap();
        a.psllq(xmm4, xmm1).unwrap();
        a.psrad(xmm4, 3).unwrap();
        a.ptest(xmm4, xmm2).unwrap();
        a.adc(ebx, 0).unwrap();
        a.sete(r8b).unwrap();
        a.pcmpgtw(xmm5, xmm4).unwrap();
        a.pblendvb(xmm5, xmm2).unwrap();
        a.movhps(qword_ptr(rsi + 40), xmm5).unwrap();
        a.movss(xmm6, dword_ptr(rsi + 36)).unwrap();
        a.movsd_2(xmm6, xmm5).unwrap();
        a.pinsrw(xmm6, ebx, 5).unwrap();
        a.pextrq(rdx, xmm6, 1).unwrap();
        a.xor(r9, rdx).unwrap();
        a.pcmpeqd(xmm7, xmm7).unwrap();
        a.psadbw(xmm7, xmm6).unwrap();
        a.movaps(xmmword_ptr(rsi + 64), xmm7).unwrap();
        a.add(rsi, 16).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
}

#[test]
fn vectors_that_may_not_be_used() {
    // At last CR0.TS is set, and the handler is a HLT.
    same("CR0.TS", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 9000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.paddd(xmm0, xmm1).unwrap();
        a.pcmpeqb(xmm1, xmm1).unwrap();
        a.mov(rax, cr0).unwrap();
        a.cmp(ecx, 2).unwrap();
        a.sete(dl).unwrap();
        a.shl(dl, 3).unwrap();
        a.or(al, dl).unwrap();
        a.mov(cr0, rax).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    same("an address that is not aligned", true, |a| {
        let mut again = a.create_label();
        a.mov(esi, DATA as u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.paddd(xmm0, xmmword_ptr(rsi)).unwrap();
        a.inc(ecx).unwrap();
        a.bt(ecx, 12).unwrap();
        a.adc(rsi, 0).unwrap();
        a.jmp(again).unwrap();
    });
    // From page to page, the last of which is not there.
    same("page fault", true, |a| {
        let mut again = a.create_label();
        a.mov(esi, 0x7f_0000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.movups(xmm1, xmmword_ptr(rsi - 5)).unwrap();
        a.paddb(xmm1, xmm0).unwrap();
        a.movups(xmmword_ptr(rsi), xmm1).unwrap();
        a.psubd(xmm0, xmm1).unwrap();
        a.add(rsi, 9).unwrap();
        a.jmp(again).unwrap();
    });
}

#[test]
fn floats() {
    // Over numbers that grow, shrink, and become denormal and infinite.
    all_compiled("floats", true, |a| {
        let [mut again, mut less, mut odd] = [(); 3].map(|()| a.create_label());
        a.mov(esi, DATA as u32).unwrap();
        a.mov(rax, 1.5f64.to_bits()).unwrap();
        a.mov(qword_ptr(rsi + 16), rax).unwrap();
        a.mov(qword_ptr(rsi + 24), rax).unwrap();
        a.mov(dword_ptr(rsi + 32), 1e-3f32.to_bits()).unwrap();
        a.mov(ecx, 9000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.cvtsi2sd(xmm0, ecx).unwrap();
        a.cvtsi2ss(xmm1, rcx).unwrap();
        a.divsd(xmm0, qword_ptr(rsi + 16)).unwrap();
        a.addsd(xmm2, xmm0).unwrap();
        a.mulsd(xmm3, qword_ptr(rsi + 24)).unwrap();
        a.addsd(xmm3, xmm0).unwrap();
        a.mulss(xmm4, dword_ptr(rsi + 32)).unwrap();
        a.sqrtss(xmm5, xmm1).unwrap();
        a.test(cl, 63).unwrap();
        a.jne(odd).unwrap();
        a.addss(xmm4, xmm5).unwrap();
        a.set_label(&mut odd).unwrap();
        a.comisd(xmm2, xmm3).unwrap();
        a.jb(less).unwrap();
        a.add(ebx, 3).unwrap();
        a.set_label(&mut less).unwrap();
        a.ucomiss(xmm4, xmm5).unwrap();
        a.adc(ebx, 0).unwrap();
        a.cvttsd2si(rdx, xmm2).unwrap();
        a.xor(rbx, rdx).unwrap();
        a.cvtsd2si(r8d, xmm0).unwrap();
        a.add(rbx, r8).unwrap();
        a.movapd(xmm6, xmmword_ptr(rsi + 16)).unwrap();
        a.subpd(xmm6, xmm0).unwrap();
        a.minpd(xmm6, xmm2).unwrap();
        a.cvtpd2ps(xmm7, xmm6).unwrap();
        a.mulps(xmm7, xmm7).unwrap();
        a.cmpps(xmm7, xmm4, 5).unwrap();
        a.cvtss2sd(xmm8, xmm4).unwrap();
        a.maxsd(xmm8, xmm6).unwrap();
        a.cvtps2dq(xmm9, xmm1).unwrap();
        a.cvtdq2ps(xmm10, xmm9).unwrap();
        a.paddd(xmm11, xmm10).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
}

#[test]
fn floats_that_may_fault() {
    // Late in the loop exceptions that are not masked come up; the handler is a HLT.
    let all = [("masked", 0x1f80), ("zero", 0x1d80), ("underflow", 0x1780), ("denormal", 0x1e80), ("down", 0x3f80)];
    for (what, mxcsr) in all {
        same(what, true, |a| {
            let mut again = a.create_label();
            a.mov(esi, DATA as u32).unwrap();
            a.mov(dword_ptr(rsi), mxcsr).unwrap();
            a.ldmxcsr(dword_ptr(rsi)).unwrap();
            a.mov(rax, 0.9f64.to_bits()).unwrap();
            a.movq(xmm1, rax).unwrap();
            a.mov(rax, 1f64.to_bits()).unwrap();
            a.movq(xmm2, rax).unwrap();
            a.mov(ecx, 19_000u32).unwrap();
            a.set_label(&mut again).unwrap();
            a.lea(edi, ptr(rcx - 500)).unwrap();
            a.cvtsi2sd(xmm3, edi).unwrap();
            a.movapd(xmm4, xmm1).unwrap();
            a.divsd(xmm4, xmm3).unwrap();
            a.mulsd(xmm2, xmm1).unwrap();
            a.addsd(xmm5, xmm4).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}
