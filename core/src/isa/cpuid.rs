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
        processor_leaf(cpu, leaf, sub)
    };
    set(cpu, r);
    Ok(())
}

/// Puts the result of CPUID into EAX, EBX, ECX, EDX.
pub fn set(cpu: &mut Cpu, r: [u32; 4]) {
    for (n, v) in [0, 3, 1, 2].into_iter().zip(r) {
        cpu.regs[n] = u64::from(v);
    }
}

/// A leaf that is not the hypervisor's, with the bits that follow control registers.
pub fn processor_leaf(cpu: &mut Cpu, leaf: u32, sub: u32) -> [u32; 4] {
    let mut r = cpu.model.leaf(leaf, sub);
    if cpu.is_paravirtual() {
        r = paravirtual(leaf, r);
    }
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
}

/// A leaf without what a paravirtualized kernel cannot have: it has no say about paging, the APIC's timer, MTRRs and
/// machine checks (Xen: `xen/arch/x86/cpu-policy.c`, features without the mark of PV).
fn paravirtual(leaf: u32, mut r: [u32; 4]) -> [u32; 4] {
    match leaf {
        // PCID, x2APIC, TSC deadline; VME, PSE, MCE, MTRR, PGE, MCA, PSE36.
        1 => {
            r[2] &= !(1 << 17 | 1 << 21 | 1 << 24);
            r[3] &= !(1 << 1 | 1 << 3 | 1 << 7 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17);
        }
        // TSC_ADJUST, SMEP, INVPCID, SMAP; UMIP.
        7 => {
            r[1] &= !(1 << 1 | 1 << 7 | 1 << 10 | 1 << 20);
            r[2] &= !(1 << 2);
        }
        // 1 GiB pages.
        0x8000_0001 => r[3] &= !(1 << 26),
        _ => {}
    }
    r
}
