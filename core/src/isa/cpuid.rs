//! CPUID: the leaves of the CPU's model (`cpu/features.rs`).

use crate::cpu::{Cpu, Done, cr4};
use crate::decode::insn::Insn;

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
