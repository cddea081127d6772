//! What only system software sees: non-maskable interrupts, task and local descriptor table registers, CPUID bits
//! that follow the machine's state.

mod bare;

use bare::*;
use tabvisor_core::cpu::reg;
use tabvisor_core::mem::GuestRam;
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// Where [`stopped_at`] finds the exception's frame: the fault handlers are HLT.
fn stopped_at(ram: &GuestRam, v: &Vcpu) -> (u64, u64) {
    let at = v.cpu.regs[reg::RSP as usize];
    assert_eq!(v.cpu.rip, HANDLER + 1, "in the handler");
    (u64::from_le_bytes(ram.read_le(at)), u64::from_le_bytes(ram.read_le(at + 8)))
}

#[test]
fn an_nmi_waits_until_the_handler_of_the_last_one_returns() {
    // out E8h, al; hlt
    let (ram, mut v) = with_handlers(&[0xe6, NMI_PORT as u8, 0xf4]);
    // The handler: inc ebx; cmp ebx, 2; jae +2; out E8h, al; mov ecx, ebx; iretq. The first one asks for a second
    // NMI, which may come only behind its IRET.
    let handler = [0xff, 0xc3, 0x83, 0xfb, 2, 0x73, 2, 0xe6, NMI_PORT as u8, 0x89, 0xd9, 0x48, 0xcf];
    ram.write(CODE + 0x100, &handler);
    let gate = (CODE + 0x100) & 0xffff | 0x10 << 16 | 0x8e << 40 | ((CODE + 0x100) >> 16) << 48;
    ram.write(IDT + 16 * 2, &gate.to_le_bytes());
    assert_eq!(run(&mut v, 100), CpuExit::Halt);
    assert_eq!((v.cpu.regs[reg::RBX as usize], v.cpu.regs[reg::RCX as usize]), (2, 2));
    assert_eq!(v.cpu.rip, CODE + 3);
    // A frame has 40 bytes and begins at a multiple of 16: a nested one would lie here.
    let nested = u64::from_le_bytes(ram.read_le(STACK - 48 - 40));
    assert_eq!((v.cpu.regs[reg::RSP as usize], nested), (STACK, 0), "no frame below the first one's");
}

#[test]
fn ltr_and_lldt_want_a_canonical_base() {
    for (code, kind) in [([0x0f, 0x00, 0xd8], 9u64), ([0x0f, 0x00, 0xd0], 2)] {
        for (base, good) in [(0xffff_8000_0000_0000u64, true), (0xffaa_aaaa_aaaa_aaaa, false), (1 << 47, false)] {
            // ltr ax or lldt ax; hlt
            let (ram, mut v) = with_handlers(&[code[0], code[1], code[2], 0xf4]);
            let low = 0x67 | (base & 0xff_ffff) << 16 | kind << 40 | 1 << 47 | (base >> 24 & 0xff) << 56;
            ram.write(GDT + 0x20, &low.to_le_bytes());
            ram.write(GDT + 0x28, &(base >> 32).to_le_bytes());
            v.cpu.regs[reg::RAX as usize] = 0x20;
            assert_eq!(run(&mut v, 100), CpuExit::Halt);
            if good {
                assert_eq!(v.cpu.rip, CODE + 4);
                assert_eq!(v.cpu.seg[if kind == 9 { 7 } else { 6 }].base, base);
            } else {
                assert_eq!(stopped_at(&ram, &v), (0x20, CODE), "error code and address");
            }
        }
    }
}

#[test]
fn cpuid_announces_a_local_apic_that_is_switched_on() {
    const ENABLED: u64 = 0xfee0_0900;
    for (apic_base, bit) in [(Some(ENABLED), 1), (Some(ENABLED & !(1 << 11)), 0), (None, 1)] {
        // cpuid; hlt
        let (_, mut v) = long64(&[0x0f, 0xa2, 0xf4]);
        v.cpu.regs[reg::RAX as usize] = 1;
        assert_eq!(v.run(&mut Bare { apic_base, ..Bare::default() }, 100), CpuExit::Halt);
        assert_eq!(v.cpu.regs[reg::RDX as usize] >> 9 & 1, bit);
    }
}
