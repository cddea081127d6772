//! RDMSR and WRMSR: the registers the CPU keeps; the board has the others (SDM 4).

use crate::bus::Trap;
use crate::cpu::features::Feature;
use crate::cpu::memory::canonical;
use crate::cpu::{Cpu, Done, cr0, efer, event, gp, reg};
use crate::decode::insn::Insn;
use crate::emit::Emit;

/// Numbers, by the SDM's names.
#[allow(missing_docs, reason = "the SDM's names")]
pub mod number {
    pub const TIME_STAMP_COUNTER: u32 = 0x10;
    pub const APIC_BASE: u32 = 0x1b;
    pub const FEATURE_CONTROL: u32 = 0x3a;
    pub const TSC_ADJUST: u32 = 0x3b;
    pub const SPEC_CTRL: u32 = 0x48;
    pub const PRED_CMD: u32 = 0x49;
    pub const BIOS_SIGN_ID: u32 = 0x8b;
    pub const PLATFORM_INFO: u32 = 0xce;
    pub const MTRRCAP: u32 = 0xfe;
    pub const ARCH_CAPABILITIES: u32 = 0x10a;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const MCG_CAP: u32 = 0x179;
    pub const MCG_STATUS: u32 = 0x17a;
    pub const MISC_ENABLE: u32 = 0x1a0;
    pub const DEBUGCTL: u32 = 0x1d9;
    pub const MTRR_PHYSBASE0: u32 = 0x200;
    pub const MTRR_PHYSMASK7: u32 = 0x20f;
    pub const MTRR_FIX64K: u32 = 0x250;
    pub const MTRR_FIX16K_80000: u32 = 0x258;
    pub const MTRR_FIX16K_A0000: u32 = 0x259;
    pub const MTRR_FIX4K_C0000: u32 = 0x268;
    pub const MTRR_FIX4K_F8000: u32 = 0x26f;
    pub const PAT: u32 = 0x277;
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const X2APIC: u32 = 0x800;
    pub const X2APIC_LAST: u32 = 0x8ff;
    pub const EFER: u32 = 0xc000_0080;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const FMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const TSC_AUX: u32 = 0xc000_0103;
}
use number::*;

/// x2APIC mode in IA32_APIC_BASE.
const APIC_EXTD: u64 = 1 << 10;

/// What an interpreter is not vulnerable to (SDM 4, IA32_ARCH_CAPABILITIES): RDCL, L1TF, SSB,
/// MDS, TAA, SBDR, FBSDP, PSDP, BHI, PBRSB, GDS, RFDS and ITS, with enhanced IBRS.
const ARCH_CAPS: u64 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 20
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 62;

/// The feature an MSR came with (SDM 4, chapter 2).
fn needs(n: u32) -> Feature {
    match n {
        TSC_ADJUST => Feature::TscAdjust,
        SPEC_CTRL | PRED_CMD => Feature::SpecCtrl,
        ARCH_CAPABILITIES => Feature::ArchCapabilities,
        SYSENTER_CS..=SYSENTER_EIP => Feature::Sep,
        MTRRCAP | MTRR_PHYSBASE0..=MTRR_PHYSMASK7 | MTRR_DEF_TYPE => Feature::Mtrr,
        PAT => Feature::Pat,
        TSC_DEADLINE => Feature::TscDeadline,
        X2APIC..=X2APIC_LAST => Feature::X2apic,
        EFER | STAR | LSTAR | CSTAR | FMASK | FS_BASE | GS_BASE | KERNEL_GS_BASE => Feature::LongMode,
        TSC_AUX => Feature::Rdtscp,
        _ if fixed_mtrr(n).is_some() => Feature::Mtrr,
        _ => Feature::Always,
    }
}

impl Cpu {
    /// Reads an MSR; `None`: #GP(0).
    pub fn read_msr(&mut self, n: u32) -> Option<u64> {
        if !self.model.has(needs(n)) {
            return None;
        }
        let m = &self.msr;
        Some(match n {
            TIME_STAMP_COUNTER => self.time_stamp(),
            FEATURE_CONTROL => 1,
            TSC_ADJUST => m.tsc_adjust,
            SPEC_CTRL => m.spec_ctrl,
            BIOS_SIGN_ID => m.bios_sign,
            PLATFORM_INFO => 10 << 8,
            // 8 variable ranges, fixed ranges, write combining.
            MTRRCAP => 0x508,
            ARCH_CAPABILITIES => ARCH_CAPS,
            SYSENTER_CS => m.sysenter_cs,
            SYSENTER_ESP => m.sysenter_esp,
            SYSENTER_EIP => m.sysenter_eip,
            MCG_CAP => 0,
            MCG_STATUS => m.mcg_status,
            MISC_ENABLE => m.misc_enable,
            DEBUGCTL => m.debugctl,
            MTRR_PHYSBASE0..=MTRR_PHYSMASK7 => m.mtrr_var[(n - MTRR_PHYSBASE0) as usize],
            MTRR_DEF_TYPE => m.mtrr_def_type,
            PAT => m.pat,
            EFER => self.efer,
            STAR => m.star,
            LSTAR => m.lstar,
            CSTAR => m.cstar,
            FMASK => m.fmask,
            FS_BASE => self.seg[reg::FS as usize].base,
            GS_BASE => self.seg[reg::GS as usize].base,
            KERNEL_GS_BASE => m.kernel_gs_base,
            TSC_AUX => m.tsc_aux,
            // The board compares with its own counter; 0 means disarmed and stays 0.
            TSC_DEADLINE => {
                let adjust = m.tsc_adjust;
                let v = self.bus().msr_read(n)?;
                if v == 0 { 0 } else { v.wrapping_add(adjust) }
            }
            _ => match fixed_mtrr(n) {
                Some(k) => m.mtrr_fix[k],
                None => return self.bus().msr_read(n),
            },
        })
    }

    /// Writes an MSR; `false`: #GP(0).
    pub fn write_msr(&mut self, n: u32, v: u64) -> bool {
        let switches_x2apic = n == APIC_BASE && v & APIC_EXTD != 0;
        if !self.model.has(needs(n)) || switches_x2apic && !self.model.has(Feature::X2apic) {
            return false;
        }
        let address = canonical(v);
        match n {
            TIME_STAMP_COUNTER => {
                // Moves TSC_ADJUST by as much (SDM 3B 18.17.3).
                let now = self.time_stamp();
                self.msr.tsc_adjust = self.msr.tsc_adjust.wrapping_add(v.wrapping_sub(now));
            }
            TSC_ADJUST => self.msr.tsc_adjust = v,
            SPEC_CTRL if v & !7 == 0 => self.msr.spec_ctrl = v,
            PRED_CMD if v & !1 == 0 => {}
            // A microcode signature is read by writing 0 and CPUID first.
            BIOS_SIGN_ID => self.msr.bios_sign = v,
            SYSENTER_CS => self.msr.sysenter_cs = v & 0xffff_ffff,
            SYSENTER_ESP if address => self.msr.sysenter_esp = v,
            SYSENTER_EIP if address => self.msr.sysenter_eip = v,
            MCG_STATUS => self.msr.mcg_status = v & 7,
            MISC_ENABLE => self.msr.misc_enable = v,
            DEBUGCTL => self.msr.debugctl = v & 3,
            MTRR_PHYSBASE0..=MTRR_PHYSMASK7 => self.msr.mtrr_var[(n - MTRR_PHYSBASE0) as usize] = v,
            MTRR_DEF_TYPE => self.msr.mtrr_def_type = v,
            PAT if (0..8).all(|k| matches!(v >> (8 * k) & 0xff, 0 | 1 | 4..=7)) => self.msr.pat = v,
            EFER => return self.write_efer(v),
            STAR => self.msr.star = v,
            LSTAR if address => self.msr.lstar = v,
            CSTAR if address => self.msr.cstar = v,
            FMASK => self.msr.fmask = v & 0xffff_ffff,
            FS_BASE if address => self.seg[reg::FS as usize].base = v,
            GS_BASE if address => self.seg[reg::GS as usize].base = v,
            KERNEL_GS_BASE if address => self.msr.kernel_gs_base = v,
            TSC_AUX if v >> 32 == 0 => self.msr.tsc_aux = v,
            SPEC_CTRL | PRED_CMD | SYSENTER_ESP | SYSENTER_EIP | PAT | LSTAR | CSTAR | FS_BASE | GS_BASE
            | KERNEL_GS_BASE | TSC_AUX | MTRRCAP | MCG_CAP | ARCH_CAPABILITIES | PLATFORM_INFO | FEATURE_CONTROL => {
                return false;
            }
            TSC_DEADLINE => {
                let v = if v == 0 { 0 } else { v.wrapping_sub(self.msr.tsc_adjust).max(1) };
                return self.bus().msr_write(n, v);
            }
            _ => match fixed_mtrr(n) {
                Some(k) => self.msr.mtrr_fix[k] = v,
                None => return self.bus().msr_write(n, v),
            },
        }
        true
    }

    fn write_efer(&mut self, v: u64) -> bool {
        let known = efer::SCE | efer::LME | efer::LMA | efer::NXE;
        let changed = self.efer ^ v;
        if v & !known != 0 || changed & efer::LME != 0 && self.cr0 & cr0::PG != 0 {
            return false;
        }
        self.efer = v & !efer::LMA | self.efer & efer::LMA;
        if changed & efer::NXE != 0 {
            self.tlb.flush_all();
        }
        self.mode_changed();
        true
    }
}

/// Index of a fixed-range MTRR.
fn fixed_mtrr(n: u32) -> Option<usize> {
    Some(match n {
        MTRR_FIX64K => 0,
        MTRR_FIX16K_80000 => 1,
        MTRR_FIX16K_A0000 => 2,
        MTRR_FIX4K_C0000..=MTRR_FIX4K_F8000 => 3 + (n - MTRR_FIX4K_C0000) as usize,
        _ => return None,
    })
}

/// What a processor refuses without privilege, and a hypervisor may do for its guest's kernel. Linux does two of these per
/// context switch; going through the exception takes several times as long.
fn for_kernel(cpu: &mut Cpu, trap: Trap) -> Done {
    if cpu.is_paravirtual() && cpu.guest_kernel { cpu.trap(trap) } else { Err(gp(0)) }
}

/// RDMSR.
pub fn rdmsr(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.cpl != 0 {
        return for_kernel(cpu, Trap::ReadMsr);
    }
    let n = cpu.regs[1] as u32;
    let v = cpu.read_msr(n).ok_or(gp(0))?;
    cpu.regs[0] = v & 0xffff_ffff;
    cpu.regs[2] = v >> 32;
    Ok(())
}

/// WRMSR.
pub fn wrmsr(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.cpl != 0 {
        return for_kernel(cpu, Trap::WriteMsr);
    }
    let v = cpu.regs[2] << 32 | cpu.regs[0] & 0xffff_ffff;
    let n = cpu.regs[1] as u32;
    cpu.events |= event::CHECK;
    if cpu.write_msr(n, v) { Ok(()) } else { Err(gp(0)) }
}
