//! Control and debug registers: MOV CR and DR, CLTS, LMSW, SMSW, XGETBV, XSETBV (SDM 2; 3A 2.5).

use super::operand::*;
use super::system::{load_16, privileged, set_edx_eax, store_16, umip, wide};
use crate::cpu::debug::{dr6, dr7};
use crate::cpu::segment::attr;
use crate::cpu::{Cpu, Done, Stop, Vector, cr0, cr4, efer, event, fault, gp, reg};
use crate::decode::insn::Insn;
use crate::flags;

/// MOV r, CRn.
pub fn mov_from_cr(cpu: &mut Cpu, i: &Insn) -> Done {
    let v = match i.b & 15 {
        0 => cpu.cr0,
        2 => cpu.cr2,
        3 => cpu.cr3,
        4 => cpu.cr4,
        8 => 0,
        _ => return Err(fault(Vector::UD)),
    };
    privileged(cpu)?;
    let v = if i.b & 15 == 8 { u64::from(cpu.bus().cr8_read()) } else { v };
    let s = wide(cpu);
    set_reg(cpu, i.a, s, false, s.zx(v));
    Ok(())
}

/// MOV CRn, r.
pub fn mov_to_cr(cpu: &mut Cpu, i: &Insn) -> Done {
    if !matches!(i.a & 15, 0 | 2 | 3 | 4 | 8) {
        return Err(fault(Vector::UD));
    }
    privileged(cpu)?;
    let v = wide(cpu).zx(cpu.regs[(i.b & 15) as usize]);
    match i.a & 15 {
        0 => set_cr0(cpu, v)?,
        2 => cpu.cr2 = v,
        3 => set_cr3(cpu, v)?,
        4 => set_cr4(cpu, v)?,
        _ => {
            if v & !15 != 0 {
                return Err(gp(0));
            }
            cpu.bus().cr8_write(v as u8);
            cpu.events |= event::CHECK;
        }
    }
    Ok(())
}

/// Flushes translations after a change of what they mean.
fn flush_all(cpu: &mut Cpu) {
    cpu.stats.tlb_flushes += 1;
    cpu.tlb.flush_all();
}

fn set_cr0(cpu: &mut Cpu, v: u64) -> Done {
    const KNOWN: u64 =
        cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::NW | cr0::CD | cr0::PG;
    if v >> 32 != 0 || v & cr0::PG != 0 && v & cr0::PE == 0 || v & cr0::NW != 0 && v & cr0::CD == 0 {
        return Err(gp(0));
    }
    let new = v & KNOWN | cr0::ET;
    let changed = cpu.cr0 ^ new;
    if changed & cr0::PG != 0 {
        let long = cpu.efer & efer::LME != 0;
        if new & cr0::PG != 0 {
            if long {
                if cpu.cr4 & cr4::PAE == 0 || cpu.seg[reg::CS as usize].attr & attr::L != 0 {
                    return Err(gp(0));
                }
                cpu.efer |= efer::LMA;
            }
        } else {
            // SDM 2 MOV: not from 64-bit mode, nor with PCIDs on.
            if cpu.long || cpu.cr4 & cr4::PCIDE != 0 {
                return Err(gp(0));
            }
            cpu.efer &= !efer::LMA;
        }
    }
    if new & cr0::PG != 0
        && cpu.cr4 & cr4::PAE != 0
        && cpu.efer & efer::LMA == 0
        && changed & (cr0::PG | cr0::CD | cr0::NW) != 0
    {
        let cr3 = cpu.cr3;
        cpu.load_pdptes(cr3)?;
    }
    cpu.cr0 = new;
    if changed & (cr0::PG | cr0::WP | cr0::PE) != 0 {
        flush_all(cpu);
    }
    cpu.mode_changed();
    Ok(())
}

fn set_cr3(cpu: &mut Cpu, v: u64) -> Done {
    let keep = cpu.cr4 & cr4::PCIDE != 0 && v >> 63 != 0;
    let v = if cpu.cr4 & cr4::PCIDE != 0 { v & !(1 << 63) } else { v };
    if cpu.long_mode() && v >> crate::cpu::paging::PHYS_BITS != 0 {
        return Err(gp(0));
    }
    if cpu.cr0 & cr0::PG != 0 && cpu.cr4 & cr4::PAE != 0 && !cpu.long_mode() {
        cpu.load_pdptes(v)?;
    }
    // With a PCID kept, the old space's translations still must not serve the new one: the TLB
    // is not tagged by PCID.
    let same = cpu.cr3 == v;
    cpu.cr3 = v;
    if !(keep && same) {
        cpu.stats.tlb_flushes += 1;
        cpu.tlb.flush_local();
    }
    Ok(())
}

fn set_cr4(cpu: &mut Cpu, v: u64) -> Done {
    if v & !cpu.model.cr4_mask() != 0 {
        return Err(gp(0));
    }
    let changed = cpu.cr4 ^ v;
    if cpu.long_mode() && v & cr4::PAE == 0 {
        return Err(gp(0));
    }
    if changed & v & cr4::PCIDE != 0 && (!cpu.long_mode() || cpu.cr3 & 0xfff != 0) {
        return Err(gp(0));
    }
    let paging = cr4::PAE | cr4::PSE | cr4::PGE | cr4::SMEP;
    if cpu.cr0 & cr0::PG != 0 && v & cr4::PAE != 0 && !cpu.long_mode() && changed & paging != 0 {
        let cr3 = cpu.cr3;
        cpu.load_pdptes(cr3)?;
    }
    cpu.cr4 = v;
    if changed & (paging | cr4::SMAP | cr4::PCIDE) != 0 {
        flush_all(cpu);
    }
    cpu.mode_changed();
    Ok(())
}

/// CLTS: CR0.TS = 0.
pub fn clts(cpu: &mut Cpu, _: &Insn) -> Done {
    privileged(cpu)?;
    cpu.cr0 &= !cr0::TS;
    cpu.mode_changed();
    Ok(())
}

/// LMSW: the low four bits of CR0; PE cannot be cleared.
pub fn lmsw(cpu: &mut Cpu, i: &Insn) -> Done {
    privileged(cpu)?;
    let v = u64::from(load_16(cpu, i, i.a)?);
    let new = cpu.cr0 & !0xe | v & 0xf;
    set_cr0(cpu, new)
}

/// SMSW: CR0, 16 bits to memory.
pub fn smsw(cpu: &mut Cpu, i: &Insn) -> Done {
    umip(cpu)?;
    let v = i.size.zx(cpu.cr0);
    store_16(cpu, i, v)
}

/// MOV r, DRn.
pub fn mov_from_dr(cpu: &mut Cpu, i: &Insn) -> Done {
    let n = debug_register(cpu, i.b)?;
    let s = wide(cpu);
    let v = s.zx(cpu.dr[n]);
    set_reg(cpu, i.a, s, false, v);
    Ok(())
}

/// MOV DRn, r.
pub fn mov_to_dr(cpu: &mut Cpu, i: &Insn) -> Done {
    let n = debug_register(cpu, i.a)?;
    let v = wide(cpu).zx(cpu.regs[(i.b & 15) as usize]);
    if n >= 6 && v >> 32 != 0 {
        return Err(gp(0));
    }
    cpu.set_debug_register(n, v);
    Ok(())
}

impl Cpu {
    /// Sets DR0 to DR3, DR6 or DR7, whose fixed bits stay as they are.
    pub fn set_debug_register(&mut self, n: usize, v: u64) {
        self.dr[n] = match n {
            6 => v & dr6::WRITABLE | dr6::ONES,
            7 => v & dr7::WRITABLE | dr7::ONE,
            _ => v,
        };
        self.breakpoints_changed();
    }
}

/// The number of a debug register, with the checks of SDM 3A 18.2.2; DR4 and DR5 are aliases.
fn debug_register(cpu: &mut Cpu, o: u8) -> Result<usize, Stop> {
    let n = (o & 7) as usize;
    if matches!(n, 4 | 5) && cpu.cr4 & cr4::DE != 0 {
        return Err(fault(Vector::UD));
    }
    privileged(cpu)?;
    if cpu.dr[7] & dr7::GD != 0 {
        cpu.tell_dr6(dr6::BD);
        cpu.rflags |= flags::RF;
        return Err(fault(Vector::DB));
    }
    Ok(if matches!(n, 4 | 5) { n + 2 } else { n })
}

/// XGETBV.
pub fn xgetbv(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.cr4 & cr4::OSXSAVE == 0 {
        return Err(fault(Vector::UD));
    }
    match cpu.regs[1] as u32 {
        0 => {
            let v = cpu.xcr0;
            set_edx_eax(cpu, v);
            Ok(())
        }
        _ => Err(gp(0)),
    }
}

/// XSETBV: x87 (always) and SSE.
pub fn xsetbv(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.cr4 & cr4::OSXSAVE == 0 {
        return Err(fault(Vector::UD));
    }
    privileged(cpu)?;
    let v = cpu.regs[2] << 32 | cpu.regs[0] & 0xffff_ffff;
    if cpu.regs[1] as u32 != 0 || v & 1 == 0 || v & !3 != 0 {
        return Err(gp(0));
    }
    cpu.xcr0 = v;
    Ok(())
}
