//! VCPUOP_initialise of a domain with its own paging: where a further vCPU begins, and in which mode
//! (public/hvm/hvm_vcpu.h; Xen: arch_set_info_hvm_guest in xen/arch/x86/hvm/domain.c).
//!
//! What a processor would not take from VMLAUNCH, so that Xen would end the domain, is refused here.

use super::abi::{Answer, Errno};
use super::domain::Domain;
use super::guest::{self, Struct};
use super::hypercall::Call;
use tabvisor_core::cpu::memory::canonical;
use tabvisor_core::cpu::segment::{Segment, attr, sys};
use tabvisor_core::cpu::{Cpu, context::Context, cr0, cr4, efer, paging, reg};
use tabvisor_core::mem::GuestRam;

/// Bytes of `struct vcpu_hvm_context`, of which the first eight are the mode.
const LEN: usize = 128;
/// `VCPU_HVM_MODE_*`.
const MODE_32B: u32 = 0;
const MODE_64B: u32 = 1;
/// Offsets in `struct vcpu_hvm_x86_32`; the segments are in the order of [`SEGMENTS`].
mod at32 {
    pub const EIP: usize = 32;
    pub const EFLAGS: usize = 36;
    pub const CR: [usize; 3] = [40, 44, 48];
    pub const PAD1: usize = 52;
    pub const EFER: usize = 56;
    pub const BASES: usize = 64;
    pub const LIMITS: usize = 84;
    pub const ATTRIBUTES: usize = 104;
    pub const PAD2: usize = 114;
}
/// Offsets in `struct vcpu_hvm_x86_64`.
mod at64 {
    pub const RIP: usize = 64;
    pub const RFLAGS: usize = 72;
    pub const CR: [usize; 3] = [80, 88, 96];
    pub const EFER: usize = 104;
}
const LDTR: usize = 6;
const TR: usize = 7;
const SEGMENTS: [usize; 5] = [reg::CS as usize, reg::DS as usize, reg::SS as usize, reg::ES as usize, TR];
/// RFLAGS that a vCPU may begin with: all but virtual-8086 mode, whose segments have no place here.
const RFLAGS: u64 = 0x003d_7fd5;

/// Attributes as the guest gives them: the descriptor's bits without the gap.
fn attributes(ar: u16) -> u16 {
    ar & 0xff | (ar & 0xf00) << 4
}

impl Domain {
    pub(super) fn initialise_hvm(&mut self, call: &mut Call<'_, '_>, id: u32) -> Answer {
        let c = guest::get::<LEN>(call.cpu, call.args[2])?;
        let n = id as usize;
        if self.vcpus[n].initialised {
            return Err(Errno::EEXIST);
        }
        let mut new = super::hvm::fresh(call.cpu);
        if c.u32(4) != 0 {
            return Err(Errno::EINVAL);
        }
        match c.u32(0) {
            MODE_32B => read_32(&Fields(&c), &mut new)?,
            MODE_64B => read_64(&Fields(&c), &mut new)?,
            _ => return Err(Errno::EINVAL),
        }
        check_mode(call.cpu, &self.ram, &mut new)?;
        let v = &mut self.vcpus[n];
        (v.context, v.start_at) = (Some(Box::new(new)), None);
        v.initialised = true;
        Ok(0)
    }
}

/// The part of the structure that depends on the mode.
struct Fields<'a>(&'a Struct<LEN>);

impl Fields<'_> {
    fn u64(&self, at: usize) -> u64 {
        self.0.u64(8 + at)
    }
    fn u32(&self, at: usize) -> u64 {
        self.0.u32(8 + at).into()
    }
    fn u16(&self, at: usize) -> u16 {
        self.0.u16(8 + at)
    }
}

fn read_32(f: &Fields<'_>, c: &mut Context) -> Result<(), Errno> {
    if f.u32(at32::PAD1) != 0 || (0..3).any(|k| f.u16(at32::PAD2 + 2 * k) != 0) {
        return Err(Errno::EINVAL);
    }
    for (k, slot) in SEGMENTS.into_iter().enumerate() {
        let ar = f.u16(at32::ATTRIBUTES + 2 * k);
        if ar >> 12 != 0 {
            return Err(Errno::EINVAL);
        }
        let [base, limit] = [at32::BASES, at32::LIMITS].map(|at| f.u32(at + 4 * k));
        c.seg[slot] = Segment { base, limit: limit as u32, sel: 0, attr: attributes(ar) };
        check_segment(slot, &c.seg[slot])?;
    }
    let [cs, ss, ds, es] = [reg::CS, reg::SS, reg::DS, reg::ES].map(|r| c.seg[usize::from(r)]);
    let eip = f.u32(at32::EIP);
    let above = |s: Segment| s.present() && s.dpl() > cs.dpl();
    if eip > u64::from(cs.limit) || ss.dpl() != cs.dpl() || above(ds) || above(es) {
        return Err(Errno::EINVAL);
    }
    (0..8).for_each(|k| c.regs[k] = f.u32(4 * k));
    (c.rip, c.rflags, c.cpl) = (eip, f.u32(at32::EFLAGS), ss.dpl());
    let [cr0, cr3, cr4] = at32::CR.map(|at| f.u32(at));
    (c.cr, c.efer) = ([cr0, 0, cr3, cr4], f.u64(at32::EFER));
    // Whoever sets LMA has to mean it.
    let long = c.efer & efer::LME != 0;
    if c.efer & efer::LMA != 0 && !long { Err(Errno::EINVAL) } else { Ok(()) }
}

fn check_segment(slot: usize, s: &Segment) -> Result<(), Errno> {
    let kind = s.attr & attr::TYPE;
    let system = s.attr & attr::S == 0;
    let ok = match slot {
        _ if !s.present() => slot == usize::from(reg::DS) || slot == usize::from(reg::ES),
        TR => system && kind == sys::TSS32_BUSY,
        _ if system => false,
        _ if slot == usize::from(reg::CS) => s.is_code(),
        _ if slot == usize::from(reg::SS) => s.is_writable(),
        _ => !s.is_code() || kind & attr::RW != 0,
    };
    if ok { Ok(()) } else { Err(Errno::EINVAL) }
}

fn read_64(f: &Fields<'_>, c: &mut Context) -> Result<(), Errno> {
    (0..8).for_each(|k| c.regs[k] = f.u64(8 * k));
    (c.rip, c.rflags) = (f.u64(at64::RIP), f.u64(at64::RFLAGS));
    let [cr0, cr3, cr4] = at64::CR.map(|at| f.u64(at));
    (c.cr, c.efer) = ([cr0, 0, cr3, cr4], f.u64(at64::EFER));
    let long = cr0 & cr0::PG != 0 && cr4 & cr4::PAE != 0 && c.efer & efer::LME != 0;
    if !long || !canonical(c.rip) {
        return Err(Errno::EINVAL);
    }
    let flat = |ar| Segment { base: 0, limit: u32::MAX, sel: 0, attr: attributes(ar) };
    c.seg[usize::from(reg::CS)] = flat(0xa9b);
    [reg::DS, reg::SS, reg::ES].iter().for_each(|&r| c.seg[usize::from(r)] = flat(0xc93));
    c.seg[TR] = Segment { limit: 0x67, attr: 0x8b, ..Segment::default() };
    Ok(())
}

/// Do the control registers go together? What follows from them is filled in.
fn check_mode(cpu: &Cpu, ram: &GuestRam, c: &mut Context) -> Result<(), Errno> {
    let [cr0, _, cr3, cr4] = c.cr;
    let (paged, pae, long) = (cr0 & cr0::PG != 0, cr4 & cr4::PAE != 0, c.efer & efer::LME != 0);
    let known = cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::ET | cr0::NE | cr0::WP | cr0::AM;
    let known = known | cr0::NW | cr0::CD | cr0::PG;
    let nonsense = [
        cr0 & !known != 0,
        cr0 & cr0::NW != 0 && cr0 & cr0::CD == 0,
        paged && cr0 & cr0::PE == 0,
        cr4 & !cpu.model.cr4_mask() != 0,
        cr3 >> paging::PHYS_BITS != 0,
        c.efer & !(efer::SCE | efer::LME | efer::LMA | efer::NXE) != 0,
        paged && long && !pae,
        // Without protection there are no segments such as these, but those of real mode.
        cr0 & cr0::PE == 0 && c.cpl != 0,
        c.efer & efer::LMA != 0 && !(paged && long),
        cr4 & cr4::PCIDE != 0 && !(paged && long),
    ];
    if nonsense.contains(&true) {
        return Err(Errno::EINVAL);
    }
    c.cr[0] |= cr0::ET;
    c.efer = c.efer & !efer::LMA | if paged && long { efer::LMA } else { 0 };
    c.rflags = c.rflags & RFLAGS | 2;
    let whole = Segment { base: 0, limit: u32::MAX, sel: 0, attr: attributes(0xc93) };
    [reg::FS, reg::GS].iter().for_each(|&r| c.seg[usize::from(r)] = whole);
    c.seg[LDTR] = Segment::default();
    if paged && pae && !long {
        c.pdpte = core::array::from_fn(|k| u64::from_le_bytes(ram.read_le((cr3 & !0x1f) + 8 * k as u64)));
        // Bits 2:1, 8:5, and those beyond the physical addresses are reserved.
        const RESERVED: u64 = 0x1e6 | !((1 << paging::PHYS_BITS) - 1);
        if c.pdpte.iter().any(|e| e & 1 != 0 && e & RESERVED != 0) {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}
