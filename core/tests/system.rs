//! What only system software sees: non-maskable interrupts, task and local descriptor table registers, CPUID bits
//! that follow the machine's state, what is left in RSP.

mod guest;

use guest::*;
use tabvisor_core::cpu::reg;

const GP: u8 = 13;

#[test]
fn an_nmi_waits_until_the_handler_of_the_last_one_returns() {
    let mut g = Guest::long();
    // The handler: inc ebx; cmp ebx, 2; jae +2; out E8h, al; mov ecx, ebx; iretq. The first one asks for a second
    // NMI, which may come only behind its IRET.
    const HANDLER: u64 = CODE + 0x100;
    let handler = [0xff, 0xc3, 0x83, 0xfb, 2, 0x73, 2, 0xe6, NMI_PORT as u8, 0x89, 0xd9, 0x48, 0xcf];
    g.ram.write(HANDLER, &handler);
    g.gate(2, CODE0, HANDLER, 0x8e, true);
    assert_eq!(g.run_code(&[0xe6, NMI_PORT as u8]), None);
    assert_eq!((g.vcpu.cpu.regs[reg::RBX as usize], g.vcpu.cpu.regs[reg::RCX as usize]), (2, 2));
    // A frame has 40 bytes and begins at a multiple of 16: a nested one would lie here.
    assert_eq!((g.vcpu.cpu.regs[reg::RSP as usize], g.get(STACK - 48 - 40)), (STACK, 0), "no frame below the first");
}

#[test]
fn ltr_and_lldt_want_a_canonical_base() {
    for (code, kind) in [([0x0f, 0x00, 0xd8], 9u64), ([0x0f, 0x00, 0xd0], 2)] {
        for (base, good) in [(0xffff_8000_0000_0000u64, true), (0xffaa_aaaa_aaaa_aaaa, false), (1 << 47, false)] {
            let mut g = Guest::long();
            let at = GDT + u64::from(FREE_SEL);
            g.put(at, 0x67 | (base & 0xff_ffff) << 16 | kind << 40 | 1 << 47 | (base >> 24 & 0xff) << 56);
            g.put(at + 8, base >> 32);
            g.vcpu.cpu.regs[reg::RAX as usize] = u64::from(FREE_SEL);
            let stopped = g.run_code(&code);
            if good {
                assert_eq!(stopped, None);
                assert_eq!(g.vcpu.cpu.seg[if kind == 9 { 7 } else { 6 }].base, base);
            } else {
                assert_eq!(stopped, Some(GP));
                let frame = g.frame(GP);
                assert_eq!((frame.code, frame.ip), (u64::from(FREE_SEL), CODE));
            }
        }
    }
}

#[test]
fn cpuid_announces_a_local_apic_that_is_switched_on() {
    const ENABLED: u64 = 0xfee0_0900;
    for (apic_base, bit) in [(Some(ENABLED), 1), (Some(ENABLED & !(1 << 11)), 0), (None, 1)] {
        let mut g = Guest::long();
        g.board.apic_base = apic_base;
        g.vcpu.cpu.regs[reg::RAX as usize] = 1;
        assert_eq!(g.run_code(&[0x0f, 0xa2]), None);
        assert_eq!(g.vcpu.cpu.regs[reg::RDX as usize] >> 9 & 1, bit);
    }
}

#[test]
fn nothing_of_a_64_bit_stack_pointer_is_left_in_32_bit_code() {
    let mut g = Guest::long();
    // A 32-bit code segment of CPL 3, and the supervisor's stack mapped once more far above.
    let code32 = FREE_SEL | 3;
    g.put(GDT + u64::from(FREE_SEL), 0x00cf_fb00_0000_ffff);
    let [pml4, pdpt, pd, pt] = TABLES;
    for (table, entry) in [(pml4, pdpt | 7), (pdpt, pd | 7), (pd, pt | 7)] {
        g.put(table, entry);
    }
    g.put(pml4 + 8 * 511, pdpt | 7);
    for page in 0..512 {
        g.put(pt + 8 * page, page << 12 | 7);
    }
    const HIGH: u64 = 0xffff_ff80_0000_0000;
    // mov rsp, HIGH + STACK - 40; iretq
    let frame = STACK - 40;
    for (word, k) in [CODE + 0x80, code32.into(), 0x202, STACK - 0x200, DATA3.into()].into_iter().zip(0..) {
        g.put(frame + 8 * k, word);
    }
    let mut code = vec![0x48, 0xbc];
    code.extend((HIGH + frame).to_le_bytes());
    code.extend([0x48, 0xcf]);
    // int 80h at the 32-bit code pushes what RSP was.
    g.load(&code);
    g.ram.write(CODE + 0x80, &[0xcd, USER_END]);
    assert_eq!(g.go_on(), Some(USER_END));
    assert_eq!(g.frame(USER_END).outer, Some((STACK - 0x200, DATA3)));
}
