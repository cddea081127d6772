//! FXSAVE, FXRSTOR, XSAVE, XRSTOR (standard form, x87 and SSE), LDMXCSR, STMXCSR
//! (SDM 1, 10.5 and chapter 13; SDM 2).
//!
//! Without CR4.OSFXSR the FXSAVE pair leaves XMM registers and MXCSR alone, which the SDM leaves
//! to the implementation. XSAVE reports a component as in use if it differs from its initial
//! state. Compaction, XSAVEOPT and supervisor states do not exist: CPUID leaf 0Dh says so.

use super::operand::linear;
use super::x87::area::Area;
use super::x87::{after_clearing, before_clearing, enter_no_wait};
use crate::cpu::fpu::Fpu;
use crate::cpu::{Cpu, Done, Vector, cr0, cr4, fault, gp};
use crate::decode::insn::Insn;
use crate::size::Size;

/// The bits of MXCSR that exist.
pub const MXCSR_MASK: u32 = 0xffff;
/// Bytes of the legacy area that hold the XMM registers begin here.
const XMM: usize = 160;
/// The XSAVE header begins here.
const HEADER: usize = 512;
/// State components.
const X87: u64 = 1;
const SSE: u64 = 2;

/// XMM registers there are: 16 in 64-bit mode.
fn xmm_count(i: &Insn) -> usize {
    if i.long() { 16 } else { 8 }
}

/// Does REX.W make FIP and FDP 64 bits wide?
fn wide(i: &Insn) -> bool {
    i.size == Size::B8
}

fn put_mxcsr(cpu: &Cpu, image: &mut [u8; 512]) {
    image[24..28].copy_from_slice(&cpu.mxcsr.to_le_bytes());
    image[28..32].copy_from_slice(&MXCSR_MASK.to_le_bytes());
}

fn put_xmm(cpu: &Cpu, image: &mut [u8; 512], n: usize) {
    for (x, to) in cpu.xmm.iter().zip(image[XMM..].chunks_exact_mut(16)).take(n) {
        to[..8].copy_from_slice(&x[0].to_le_bytes());
        to[8..].copy_from_slice(&x[1].to_le_bytes());
    }
}

fn quad(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |v, &b| v << 8 | u64::from(b))
}

fn take_xmm(cpu: &mut Cpu, image: &[u8; 512], n: usize) {
    for (x, from) in cpu.xmm.iter_mut().zip(image[XMM..].chunks_exact(16)).take(n) {
        *x = [quad(&from[..8]), quad(&from[8..])];
    }
}

/// The MXCSR in an image; #GP(0) if it has bits that do not exist.
fn checked_mxcsr(image: &[u8; 512]) -> Result<u32, crate::cpu::Stop> {
    let v = quad(&image[24..32]) as u32;
    if v & !MXCSR_MASK != 0 { Err(gp(0)) } else { Ok(v) }
}

/// FXSAVE's and FXRSTOR's checks, and their area.
fn fx_area(cpu: &mut Cpu, i: &Insn, write: bool) -> Result<Area, crate::cpu::Stop> {
    enter_no_wait(cpu)?;
    before_clearing(cpu)?;
    let area = Area::new(cpu, i, 512, write)?;
    if area.is_aligned(16) { Ok(area) } else { Err(gp(0)) }
}

/// FXSAVE. Bytes the processor reserves are not touched.
pub fn fxsave(cpu: &mut Cpu, i: &Insn) -> Done {
    let area = fx_area(cpu, i, true)?;
    let mut image = [0; 512];
    cpu.fpu.fxsave(&mut image, wide(i));
    put_mxcsr(cpu, &mut image);
    let n = if cpu.cr4 & cr4::OSFXSR != 0 { xmm_count(i) } else { 0 };
    put_xmm(cpu, &mut image, n);
    // All of the area must be there, as processors have it.
    area.probe(cpu, 0, HEADER, Size::B1)?;
    area.write(cpu, 0, &image[..XMM + 16 * n], Size::B8)
}

/// FXRSTOR.
pub fn fxrstor(cpu: &mut Cpu, i: &Insn) -> Done {
    let area = fx_area(cpu, i, false)?;
    let sse = cpu.cr4 & cr4::OSFXSR != 0;
    let n = if sse { xmm_count(i) } else { 0 };
    let mut image = [0; 512];
    area.read(cpu, 0, &mut image, Size::B8)?;
    if sse {
        cpu.mxcsr = checked_mxcsr(&image)?;
        take_xmm(cpu, &image, n);
    }
    cpu.fpu.fxrstor(&image, wide(i));
    after_clearing(cpu);
    Ok(())
}

/// XSAVE's and XRSTOR's checks, their area, and the requested components.
fn x_area(cpu: &mut Cpu, i: &Insn, write: bool) -> Result<(Area, u64), crate::cpu::Stop> {
    if cpu.cr4 & cr4::OSXSAVE == 0 {
        return Err(fault(Vector::UD));
    }
    if cpu.cr0 & cr0::TS != 0 {
        return Err(fault(Vector::NM));
    }
    before_clearing(cpu)?;
    let area = Area::new(cpu, i, HEADER as u64 + 64, write)?;
    if !area.is_aligned(64) {
        return Err(gp(0));
    }
    let asked = cpu.regs[2] << 32 | cpu.regs[0] & 0xffff_ffff;
    Ok((area, asked & cpu.xcr0))
}

/// Components that are not in their initial state.
fn in_use(cpu: &Cpu) -> u64 {
    let x87 = if cpu.fpu == Fpu::default() { 0 } else { X87 };
    let sse = if cpu.xmm.iter().all(|x| *x == [0, 0]) { 0 } else { SSE };
    x87 | sse
}

/// XSAVE: the requested components, and their bits in XSTATE_BV.
pub fn xsave(cpu: &mut Cpu, i: &Insn) -> Done {
    let (area, rfbm) = x_area(cpu, i, true)?;
    let mut image = [0; 512];
    cpu.fpu.fxsave(&mut image, wide(i));
    put_mxcsr(cpu, &mut image);
    let xmm = 16 * xmm_count(i);
    put_xmm(cpu, &mut image, xmm / 16);
    let mut header = [0; 8];
    area.read(cpu, HEADER, &mut header, Size::B8)?;
    let bv = quad(&header) & !rfbm | in_use(cpu) & rfbm;
    // Where each component lies; MXCSR goes with SSE.
    let parts = [(X87, 0, 24), (SSE, 24, 8), (X87, 32, 128), (SSE, XMM, xmm)];
    for (component, at, len) in parts {
        if rfbm & component != 0 {
            area.probe(cpu, at, len, Size::B1)?;
        }
    }
    area.probe(cpu, HEADER, 8, Size::B1)?;
    for (component, at, len) in parts {
        if rfbm & component != 0 {
            area.write(cpu, at, &image[at..at + len], Size::B8)?;
        }
    }
    area.write(cpu, HEADER, &bv.to_le_bytes(), Size::B8)
}

/// XRSTOR: requested components from memory, or their initial state if XSTATE_BV lacks them.
/// MXCSR is loaded whenever SSE is requested.
pub fn xrstor(cpu: &mut Cpu, i: &Insn) -> Done {
    let (area, rfbm) = x_area(cpu, i, false)?;
    let mut header = [0; 24];
    area.read(cpu, HEADER, &mut header, Size::B8)?;
    let bv = quad(&header);
    // SDM 1, 13.8.1: without compaction bytes 8 to 23 must be zero.
    if bv & !cpu.xcr0 != 0 || header[8..].iter().any(|&b| b != 0) {
        return Err(gp(0));
    }
    let n = xmm_count(i);
    let mut image = [0; 512];
    if rfbm & bv & X87 != 0 {
        area.read(cpu, 0, &mut image[..24], Size::B8)?;
        area.read(cpu, 32, &mut image[32..XMM], Size::B8)?;
    }
    if rfbm & SSE != 0 {
        area.read(cpu, 24, &mut image[24..32], Size::B8)?;
        if bv & SSE != 0 {
            area.read(cpu, XMM, &mut image[XMM..XMM + 16 * n], Size::B8)?;
        }
        cpu.mxcsr = checked_mxcsr(&image)?;
        // Zeroes, the initial state, if they were not read.
        take_xmm(cpu, &image, n);
    }
    if rfbm & X87 != 0 {
        if bv & X87 != 0 {
            cpu.fpu.fxrstor(&image, wide(i));
        } else {
            cpu.fpu = Fpu::default();
        }
    }
    after_clearing(cpu);
    Ok(())
}

/// LDMXCSR's and STMXCSR's checks.
fn enter_sse(cpu: &Cpu) -> Done {
    if cpu.cr0 & cr0::EM != 0 || cpu.cr4 & cr4::OSFXSR == 0 {
        return Err(fault(Vector::UD));
    }
    if cpu.cr0 & cr0::TS != 0 { Err(fault(Vector::NM)) } else { Ok(()) }
}

/// LDMXCSR.
pub fn ldmxcsr(cpu: &mut Cpu, i: &Insn) -> Done {
    enter_sse(cpu)?;
    let at = linear(cpu, i, 4, false)?;
    let v = cpu.read(at, Size::B4)? as u32;
    if v & !MXCSR_MASK != 0 {
        return Err(gp(0));
    }
    cpu.mxcsr = v;
    Ok(())
}

/// STMXCSR.
pub fn stmxcsr(cpu: &mut Cpu, i: &Insn) -> Done {
    enter_sse(cpu)?;
    let at = linear(cpu, i, 4, true)?;
    let v = u64::from(cpu.mxcsr);
    cpu.write(at, Size::B4, v)
}
