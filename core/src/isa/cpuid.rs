//! CPUID: the leaves of the CPU's model (`cpu/features.rs`).

use crate::cpu::features::edx1;
use crate::cpu::{Cpu, Done, cr4};
use crate::decode::insn::Insn;
use crate::isa::msr::number::APIC_BASE;

/// The global enable bit of IA32_APIC_BASE, which the board keeps.
const APIC_ENABLE: u64 = 1 << 11;

/// CPUID: EAX, EBX, ECX, EDX of leaf EAX, subleaf ECX.
pub fn cpuid(cpu: &mut Cpu, _: &Insn) -> Done {
    let (leaf, sub) = (cpu.regs[0] as u32, cpu.regs[1] as u32);
    let r = if leaf >> 28 == 4 {
        cpu.bus().hypervisor_leaf(leaf, sub).unwrap_or([0; 4])
    } else {
        let mut r = cpu.model.leaf(leaf, sub);
        if leaf == 1 && cpu.cr4 & cr4::OSXSAVE != 0 {
            r[2] |= 1 << 27;
        }
        // SDM 3A 11.4.3: a local APIC that IA32_APIC_BASE switches off is not announced.
        if leaf == 1 && cpu.bus().msr_read(APIC_BASE).is_some_and(|v| v & APIC_ENABLE == 0) {
            r[3] &= !edx1::APIC;
        }
        if leaf == 0xd && sub == 0 {
            // EBX: what the features enabled in XCR0 need; both fit the legacy area.
            r[1] = 576;
        }
        r
    };
    cpu.regs[0] = u64::from(r[0]);
    cpu.regs[3] = u64::from(r[1]);
    cpu.regs[1] = u64::from(r[2]);
    cpu.regs[2] = u64::from(r[3]);
    Ok(())
}
