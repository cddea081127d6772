//! Accesses to memory, and what the TLB is asked for.

use crate::guest::{self, CODE, DATA};
use crate::{run, same};
use iced_x86::code_asm::*;

#[test]
fn a_loop_over_memory() {
    for long in [true, false] {
        same("memory", long, |a| {
            let mut outer = a.create_label();
            let mut inner = a.create_label();
            a.mov(ebx, 20u32).unwrap();
            a.set_label(&mut outer).unwrap();
            a.mov(ecx, 1000u32).unwrap();
            a.mov(esi, DATA as u32).unwrap();
            a.set_label(&mut inner).unwrap();
            if long {
                a.mov(eax, dword_ptr(rsi)).unwrap();
                a.add(eax, ecx).unwrap();
                a.mov(dword_ptr(rsi), eax).unwrap();
                a.add(word_ptr(rsi + 8), bx).unwrap();
                a.inc(byte_ptr(rsi + rcx * 2 + 3)).unwrap();
                a.movzx(edx, byte_ptr(rsi + 1)).unwrap();
                a.cmp(dl, byte_ptr(rsi + 2)).unwrap();
                a.add(rsi, 4).unwrap();
            } else {
                a.mov(eax, dword_ptr(esi)).unwrap();
                a.add(eax, ecx).unwrap();
                a.mov(dword_ptr(esi), eax).unwrap();
                a.add(word_ptr(esi + 8), bx).unwrap();
                a.inc(byte_ptr(esi + ecx * 2 + 3)).unwrap();
                a.movzx(edx, byte_ptr(esi + 1)).unwrap();
                a.cmp(dl, byte_ptr(esi + 2)).unwrap();
                a.add(esi, 4).unwrap();
            }
            a.seta(dh).unwrap();
            a.add(edi, edx).unwrap();
            a.dec(ecx).unwrap();
            a.jne(inner).unwrap();
            a.dec(ebx).unwrap();
            a.jne(outer).unwrap();
        });
    }
}

#[test]
fn what_happens_seldom_is_nothing_to_compile_again_for() {
    // Two accesses next to each other that are not in one page, once in so many instructions.
    let regions = |pause: u32| {
        let stats = run("seldom", true, |a| {
            let (mut again, mut wait) = (a.create_label(), a.create_label());
            a.mov(edx, 400u32).unwrap();
            a.mov(ebx, DATA as u32 + 0xffc).unwrap();
            a.set_label(&mut again).unwrap();
            a.add(eax, dword_ptr(rbx)).unwrap();
            a.add(eax, dword_ptr(rbx + 4)).unwrap();
            a.mov(ecx, pause).unwrap();
            a.set_label(&mut wait).unwrap();
            a.dec(ecx).unwrap();
            a.jnz(wait).unwrap();
            a.dec(edx).unwrap();
            a.jnz(again).unwrap();
        });
        stats.regions
    };
    assert_eq!([30, 100, 1_200].map(regions), [2, 2, 1]);
}

#[test]
fn accesses_near_each_other_also_across_pages() {
    // A run of accesses from one register, and pushes, at all places around the ends of pages.
    for long in [true, false] {
        same("near", long, |a| {
            let mut again = a.create_label();
            a.mov(ecx, 30_000u32).unwrap();
            a.mov(esi, DATA as u32 + 0x2000).unwrap();
            a.set_label(&mut again).unwrap();
            a.mov(ebx, ecx).unwrap();
            a.imul_3(ebx, ebx, 77).unwrap();
            a.and(ebx, 0x1fff).unwrap();
            a.add(ebx, DATA as u32 + 0x1000).unwrap();
            a.mov(ebp, esp).unwrap();
            if long {
                a.mov(qword_ptr(rbx + 24), rcx).unwrap();
                a.mov(rax, qword_ptr(rbx - 40)).unwrap();
                a.add(dword_ptr(rbx + 8), ecx).unwrap();
                a.xor(rdx, rax).unwrap();
                a.add(rdx, qword_ptr(rbx)).unwrap();
                a.lea(rsp, rbx + 64).unwrap();
                a.push(rdx).unwrap();
                a.push(rcx).unwrap();
                a.mov(edi, dword_ptr(rsp + 12)).unwrap();
                a.pop(rax).unwrap();
                a.movups(xmm0, xmmword_ptr(rbx - 16)).unwrap();
                a.mov(r8, rbx).unwrap();
                a.add(r8, 100).unwrap();
                a.movups(xmmword_ptr(r8 - 60), xmm0).unwrap();
                a.mov(al, byte_ptr(rbx + rcx * 2 - 60_000 + 7)).unwrap();
                a.add(al, byte_ptr(rbx + rcx * 2 - 60_000 + 9)).unwrap();
                a.mov(byte_ptr(rsi), al).unwrap();
                a.mov(rsp, rbp).unwrap();
            } else {
                a.mov(dword_ptr(ebx + 24), ecx).unwrap();
                a.mov(eax, dword_ptr(ebx - 40)).unwrap();
                a.add(dword_ptr(ebx + 8), ecx).unwrap();
                a.xor(edx, eax).unwrap();
                a.add(edx, dword_ptr(ebx)).unwrap();
                a.lea(esp, ebx + 64).unwrap();
                a.push(edx).unwrap();
                a.push(ecx).unwrap();
                a.mov(di, word_ptr(esp + 6)).unwrap();
                a.pop(eax).unwrap();
                a.movups(xmm0, xmmword_ptr(ebx - 16)).unwrap();
                a.movups(xmmword_ptr(ebx + 40), xmm0).unwrap();
                a.mov(al, byte_ptr(ebx + ecx * 2 - 60_000 + 7)).unwrap();
                a.add(al, byte_ptr(ebx + ecx * 2 - 60_000 + 9)).unwrap();
                a.mov(byte_ptr(esi), al).unwrap();
                a.mov(esp, ebp).unwrap();
            }
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}

#[test]
fn accesses_near_one_before_a_branch() {
    // What the TLB is asked for before it covers both ways.
    for long in [true, false] {
        same("near", long, |a| {
            let [mut again, mut second, mut third, mut join] = [(); 4].map(|()| a.create_label());
            a.mov(ecx, 30_000u32).unwrap();
            a.set_label(&mut again).unwrap();
            a.imul_3(ebx, ecx, 77).unwrap();
            a.and(ebx, 0x1fff).unwrap();
            a.add(ebx, DATA as u32 + 0x1000).unwrap();
            let at = |distance: i32| if long { dword_ptr(rbx + distance) } else { dword_ptr(ebx + distance) };
            a.add(eax, at(0)).unwrap();
            a.test(cl, 4).unwrap();
            a.je(second).unwrap();
            a.add(edx, at(-40)).unwrap();
            a.test(cl, 8).unwrap();
            a.je(third).unwrap();
            a.add(edx, at(60)).unwrap();
            a.add(at(64), ecx).unwrap();
            a.jmp(join).unwrap();
            a.set_label(&mut second).unwrap();
            a.xor(edx, at(200)).unwrap();
            a.mov(at(8), edx).unwrap();
            a.jmp(join).unwrap();
            a.set_label(&mut third).unwrap();
            a.xor(edx, at(-120)).unwrap();
            a.mov(at(-20), edx).unwrap();
            a.set_label(&mut join).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
        });
    }
}

/// FS: a segment at `DATA` with this limit and granularity.
fn set_fs(a: &mut CodeAssembler, low: u32, high: u32) {
    let descriptor = guest::GDT as u32 + u32::from(guest::FREE_SEL);
    a.mov(dword_ptr(descriptor), low).unwrap();
    a.mov(dword_ptr(descriptor + 4), high).unwrap();
    a.mov(eax, u32::from(guest::FREE_SEL)).unwrap();
    a.mov(fs, ax).unwrap();
}

#[test]
fn segments_with_a_base() {
    const ALL: (u32, u32) = (0xffff, 0x00cf_9210);
    const PAGE: (u32, u32) = (0x0fff, 0x0040_9210);
    same("the whole address space", false, |a| {
        let (mut again, mut begin) = (a.create_label(), a.create_label());
        a.jmp(begin).unwrap();
        // Behind a short jump.
        let function = CODE as u32 + 2;
        a.add(ebx, dword_ptr(edi).fs()).unwrap();
        a.ret().unwrap();
        a.set_label(&mut begin).unwrap();
        set_fs(a, ALL.0, ALL.1);
        a.xor(edi, edi).unwrap();
        a.mov(dword_ptr(edi + 0x800).fs(), function).unwrap();
        a.mov(ecx, 5000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(dword_ptr(edi + 16).fs(), ecx).unwrap();
        a.call(dword_ptr(0x800).fs()).unwrap();
        a.mov(dx, word_ptr(edi + 2).fs()).unwrap();
        a.xor(ebx, edx).unwrap();
        a.add(edi, 4).unwrap();
        a.and(edi, 0x3ff).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    // At last the offset is beyond the segment.
    same("a limit", false, |a| {
        let mut again = a.create_label();
        set_fs(a, PAGE.0, PAGE.1);
        a.xor(edi, edi).unwrap();
        a.set_label(&mut again).unwrap();
        for _ in 0..12 {
            a.rol(ebx, 3).unwrap();
        }
        a.add(ebx, dword_ptr(edi).fs()).unwrap();
        a.inc(edi).unwrap();
        a.jmp(again).unwrap();
    });
    same("the end of the address space", false, |a| {
        let mut again = a.create_label();
        set_fs(a, ALL.0, ALL.1);
        a.mov(edi, 0xffff_f000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(ebx, dword_ptr(edi).fs()).unwrap();
        a.inc(edi).unwrap();
        a.jmp(again).unwrap();
    });
}
