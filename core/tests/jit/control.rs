//! Where code goes: calls, switches, code that changes; and how much of it is kept.

use crate::guest::{CODE, DATA, Guest, TABLES};
use crate::{run, same, wasm};
use iced_x86::code_asm::*;
use tabvisor_core::vcpu::CpuExit;

#[test]
fn calls_and_returns() {
    for long in [true, false] {
        same("fib", long, |a| {
            let [mut fib, mut small] = [(); 2].map(|()| a.create_label());
            a.mov(ecx, 17u32).unwrap();
            a.call(fib).unwrap();
            a.mov(ebx, eax).unwrap();
            let mut end = a.create_label();
            a.jmp(end).unwrap();
            a.set_label(&mut fib).unwrap();
            a.cmp(ecx, 2).unwrap();
            a.jb(small).unwrap();
            if long {
                a.push(rcx).unwrap();
            } else {
                a.push(ecx).unwrap();
            }
            a.sub(ecx, 1).unwrap();
            a.call(fib).unwrap();
            if long {
                a.pop(rcx).unwrap();
                a.push(rax).unwrap();
            } else {
                a.pop(ecx).unwrap();
                a.push(eax).unwrap();
            }
            a.sub(ecx, 2).unwrap();
            a.call(fib).unwrap();
            if long {
                a.pop(rdx).unwrap();
            } else {
                a.pop(edx).unwrap();
            }
            a.add(eax, edx).unwrap();
            a.ret().unwrap();
            a.set_label(&mut small).unwrap();
            a.mov(eax, ecx).unwrap();
            a.ret().unwrap();
            a.set_label(&mut end).unwrap();
            a.nop().unwrap();
        });
    }
}

#[test]
fn calls_without_tail_calls() {
    // A function that no region has, because it is called by a register.
    let code = |a: &mut CodeAssembler| {
        let mut again = a.create_label();
        a.xor(edx, edx).unwrap();
        a.mov(ecx, 100_000u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(eax, ecx).unwrap();
        a.mov(rbx, DATA + 0x8000).unwrap();
        a.call(rbx).unwrap();
        a.add(edx, eax).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    };
    let mut a = CodeAssembler::new(64).unwrap();
    code(&mut a);
    let program = a.assemble(CODE).unwrap();
    let hops = [true, false].map(|tail_calls| {
        let mut g = Guest::long();
        // imul eax, eax, 3; ret
        g.ram.write(DATA + 0x8000, &[0x6b, 0xc0, 3, 0xc3]);
        let mut host = wasm::Wasmi::new();
        host.limits.tail_calls = tail_calls;
        g.vcpu.set_code_host(Box::new(host));
        g.vcpu.jit().unwrap().set_hot(1);
        assert_eq!(g.run_code(&program), None);
        let sum = (1..=100_000u32).fold(0u32, |sum, n| sum.wrapping_add(n.wrapping_mul(3)));
        assert_eq!(g.vcpu.cpu.regs[2], sum.into());
        let stats = g.vcpu.jit().unwrap().stats;
        assert!(stats.retired > 500_000, "{stats:?}");
        stats.hops
    });
    assert!(hops[0] > 100_000 && hops[1] == 0, "{hops:?}");
}

#[test]
fn a_switch_that_leads_elsewhere_later() {
    let stats = run("a switch", true, |a| {
        let [mut again, mut one, mut other, mut on] = [(); 4].map(|()| a.create_label());
        a.mov(ecx, 100_000u32).unwrap();
        a.lea(rsi, ptr(one)).unwrap();
        a.lea(rdi, ptr(other)).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(rdx, rsi).unwrap();
        a.cmp(ecx, 80_000u32).unwrap();
        a.cmovb(rdx, rdi).unwrap();
        a.jmp(rdx).unwrap();
        a.set_label(&mut one).unwrap();
        a.inc(ebx).unwrap();
        a.jmp(on).unwrap();
        a.set_label(&mut other).unwrap();
        a.add(ebx, 3).unwrap();
        a.set_label(&mut on).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    assert!(stats.hops + stats.entered < 1000, "the second place is in the region, too: {stats:?}");
}

#[test]
fn a_switch_to_the_same_code_in_another_page() {
    const OTHER: u64 = 0x12_1000;
    let stats = run("a switch", true, |a| {
        let [mut again, mut one, mut on] = [(); 3].map(|()| a.create_label());
        a.mov(qword_ptr(TABLES[3] + 8 * (OTHER >> 12)), CODE as i32 | 3).unwrap();
        a.mov(ecx, 60_000u32).unwrap();
        a.lea(rsi, ptr(one)).unwrap();
        a.lea(rdi, ptr(on)).unwrap();
        a.set_label(&mut again).unwrap();
        a.mov(rdx, rsi).unwrap();
        a.lea(rax, ptr(rsi + (OTHER - CODE) as i32)).unwrap();
        a.test(cl, 7).unwrap();
        a.cmove(rdx, rax).unwrap();
        a.jmp(rdx).unwrap();
        a.set_label(&mut one).unwrap();
        a.lea(rax, ptr(one)).unwrap();
        a.add(rbx, rax).unwrap();
        a.jmp(rdi).unwrap();
        a.set_label(&mut on).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
    assert!(stats.regions > 0, "{stats:?}");
}

#[test]
fn code_that_changes_itself() {
    same("an immediate", true, |a| {
        let mut again = a.create_label();
        a.mov(ecx, 9000u32).unwrap();
        a.lea(rdi, ptr(again)).unwrap();
        a.set_label(&mut again).unwrap();
        a.add(eax, 0x1234_5678).unwrap();
        a.rol(eax, 5).unwrap();
        a.mov(edx, ecx).unwrap();
        a.and(edx, 0xfff).unwrap();
        let mut keep = a.create_label();
        a.jne(keep).unwrap();
        a.mov(dword_ptr(rdi + 1), ecx).unwrap();
        a.set_label(&mut keep).unwrap();
        a.dec(ecx).unwrap();
        a.jne(again).unwrap();
    });
}

#[test]
fn what_was_decoded_makes_no_difference_to_counts() {
    // A repeated store overwrites code, which was run before, and in one of two runs is forgotten in between.
    let mut a = CodeAssembler::new(64).unwrap();
    let [mut f, mut main] = [(); 2].map(|()| a.create_label());
    a.jmp(main).unwrap();
    (0..4096).for_each(|_| a.nop().unwrap());
    a.set_label(&mut f).unwrap();
    a.add(eax, 1).unwrap();
    a.ret().unwrap();
    (0..9000).for_each(|_| a.nop().unwrap());
    a.set_label(&mut main).unwrap();
    a.call(f).unwrap();
    a.lea(rdi, qword_ptr(f)).unwrap();
    a.sub(rdi, 100).unwrap();
    a.mov(ecx, 8500u32).unwrap();
    a.rep().stosb().unwrap();
    let code = a.assemble(CODE).unwrap();
    let ends = [false, true].map(|forget| {
        let mut g = Guest::long();
        g.load(&code);
        g.start();
        g.run_for(5);
        if forget {
            g.vcpu.set_code_host(Box::new(wasm::Wasmi::new()));
        }
        (g.go_on(), g.vcpu.retired(), g.vcpu.cpu.regs[..16].to_vec())
    });
    assert_eq!(ends[0], ends[1]);
}

#[test]
fn more_code_than_there_is_room_for() {
    // A hot loop, then three times more code than is kept decoded, then the loop again.
    const FAR: u64 = 0x20_0000;
    const FAR_LEN: usize = 0x30_0000;
    let mut a = CodeAssembler::new(32).unwrap();
    let [mut all, mut hot] = [(); 2].map(|()| a.create_label());
    a.mov(esi, 2u32).unwrap();
    a.set_label(&mut all).unwrap();
    a.mov(ecx, 2_000_000u32).unwrap();
    a.set_label(&mut hot).unwrap();
    a.lea(ebx, dword_ptr(ebx + ecx)).unwrap();
    a.dec(ecx).unwrap();
    a.jne(hot).unwrap();
    a.call(FAR).unwrap();
    a.dec(esi).unwrap();
    a.jne(all).unwrap();
    let code = a.assemble(CODE).unwrap();
    let ends = [false, true].map(|jit| {
        let mut g = Guest::protected();
        if jit {
            g.vcpu.set_code_host(Box::new(wasm::Wasmi::new()));
        }
        // INC EAX, and RET.
        g.ram.write(FAR, &[0x40; FAR_LEN]);
        g.ram.write(FAR + FAR_LEN as u64, &[0xc3]);
        g.load(&code);
        assert_eq!(g.run_for(100_000_000), CpuExit::Halt);
        let stats = g.vcpu.jit().map(|jit| jit.stats);
        (g.vcpu.retired(), g.vcpu.cpu.regs[..16].to_vec(), stats)
    });
    assert_eq!(ends[0].1[0], 2 * FAR_LEN as u64);
    assert_eq!((ends[0].0, &ends[0].1), (ends[1].0, &ends[1].1));
    let stats = ends[1].2.unwrap();
    assert!(stats.regions == 1 && stats.retired > 8_000_000, "the loop stays compiled: {stats:?}");
}
