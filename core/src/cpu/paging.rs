//! Paging: 2-, 3- and 4-level walks with PSE, NX, WP, SMEP, SMAP, global pages, accessed and
//! dirty bits (SDM 3A chapter 4).

use super::features::Feature;
use super::{Cpu, Fault, Stop, Vector, cr0, cr4, efer, gp};
use crate::mem::PAGE_SIZE;

/// MAXPHYADDR, as CPUID leaf 8000_0008h says.
pub const PHYS_BITS: u32 = 40;
/// Address bits of an 8-byte entry.
pub(super) const ADDR: u64 = ((1 << PHYS_BITS) - 1) & !0xfff;

pub(super) const P: u64 = 1;
pub(super) const RW: u64 = 1 << 1;
pub(super) const US: u64 = 1 << 2;
pub(super) const A: u64 = 1 << 5;
pub(super) const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
pub(super) const XD: u64 = 1 << 63;

/// What an access wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// A store.
    pub write: bool,
    /// An instruction fetch.
    pub exec: bool,
    /// Made at CPL 3 and not an implicit supervisor access.
    pub user: bool,
    /// May a supervisor data access touch user pages under SMAP (RFLAGS.AC, explicit access)?
    pub ac: bool,
}

/// Where a page leads.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// Guest-physical address.
    pub pa: u64,
    /// May stores go there without another walk (writable by this kind of access and dirty)?
    pub writable: bool,
    /// Global page.
    pub global: bool,
    /// Larger than 4 KiB.
    pub large: bool,
}

/// Error-code bits of #PF.
mod pf {
    pub const P: u16 = 1;
    pub const W: u16 = 2;
    pub const U: u16 = 4;
    pub const RSVD: u16 = 8;
    pub const I: u16 = 16;
}

impl Cpu {
    /// #PF at `la`: sets CR2 and makes the error code.
    fn page_fault(&mut self, la: u64, a: Access, bits: u16) -> Stop {
        self.cr2 = la;
        let mut code = bits;
        if a.write {
            code |= pf::W;
        }
        if a.user {
            code |= pf::U;
        }
        let nx = self.efer & efer::NXE != 0 && self.cr4 & cr4::PAE != 0;
        if a.exec && (nx || self.cr4 & cr4::SMEP != 0) {
            code |= pf::I;
        }
        Stop::Fault(Fault { vector: Vector::PF, code })
    }

    /// Translates `la` (canonical or 32 bits wide already), setting accessed and dirty bits.
    ///
    /// # Errors
    /// #PF.
    pub fn translate(&mut self, la: u64, a: Access) -> Result<Translation, Stop> {
        if self.cr0 & cr0::PG == 0 {
            return Ok(Translation { pa: la, writable: true, global: false, large: false });
        }
        if self.cr4 & cr4::PAE == 0 { self.walk32(la, a) } else { self.walk64(la, a) }
    }

    /// May access `a` be made at `la` with the combined rights of a walk? `rights` has RW and US
    /// and-ed over all levels and XD or-ed.
    fn allowed(&self, la: u64, rights: u64, a: Access) -> bool {
        if a.user {
            if rights & US == 0 || a.write && rights & RW == 0 {
                return false;
            }
        } else {
            if a.write && rights & RW == 0 && self.cr0 & cr0::WP != 0 && self.write_through != Some(la & !7) {
                return false;
            }
            if rights & US != 0 {
                if a.exec {
                    if self.cr4 & cr4::SMEP != 0 {
                        return false;
                    }
                } else if self.cr4 & cr4::SMAP != 0 && !a.ac {
                    return false;
                }
            }
        }
        !(a.exec && rights & XD != 0)
    }

    fn finish(
        &mut self,
        la: u64,
        a: Access,
        rights: u64,
        leaf: u64,
        base: u64,
        size: u64,
    ) -> Result<Translation, Stop> {
        let write = Access { write: true, exec: false, ..a };
        let writable = leaf & D != 0 && self.allowed(la, rights, write);
        Ok(Translation {
            pa: base | la & (size - 1),
            writable,
            global: leaf & G != 0 && self.cr4 & cr4::PGE != 0 || self.keeps(la),
            large: size > PAGE_SIZE,
        })
    }

    fn walk32(&mut self, la: u64, a: Access) -> Result<Translation, Stop> {
        let pde_at = (self.cr3 & 0xffff_f000) + (la >> 22 & 0x3ff) * 4;
        let pde = u64::from(self.phys_read4(pde_at));
        if pde & P == 0 {
            return Err(self.page_fault(la, a, 0));
        }
        if pde & PS != 0 && self.cr4 & cr4::PSE != 0 {
            // PSE-36: bits 20:13 are address bits 39:32; bit 21 is reserved (table 4-4). Without it all are.
            let reserved = if self.model.has(Feature::Pse36) { 1 << 21 } else { 0x3f_e000 };
            if pde & reserved != 0 {
                return Err(self.page_fault(la, a, pf::P | pf::RSVD));
            }
            if !self.allowed(la, pde, a) {
                return Err(self.page_fault(la, a, pf::P));
            }
            let new = pde | A | if a.write { D } else { 0 };
            if new != pde {
                self.phys_write4(pde_at, new as u32);
            }
            let base = pde & 0xffc0_0000 | (pde >> 13 & 0xff) << 32;
            return self.finish(la, a, pde, new, base, 4 << 20);
        }
        let pte_at = (pde & 0xffff_f000) + (la >> 12 & 0x3ff) * 4;
        let pte = u64::from(self.phys_read4(pte_at));
        if pte & P == 0 {
            return Err(self.page_fault(la, a, 0));
        }
        let rights = pde & pte;
        if !self.allowed(la, rights, a) {
            return Err(self.page_fault(la, a, pf::P));
        }
        if pde & A == 0 {
            self.phys_write4(pde_at, (pde | A) as u32);
        }
        let new = pte | A | if a.write { D } else { 0 };
        if new != pte {
            self.phys_write4(pte_at, new as u32);
        }
        self.finish(la, a, rights, new, pte & 0xffff_f000, PAGE_SIZE)
    }

    /// Reserved bits of an entry in PAE and 4-level paging.
    fn reserved(&self, entry: u64, extra: u64) -> bool {
        let high = if self.long_mode() { 0x000f_ffff_ffff_ffff } else { 0x7fff_ffff_ffff_ffff };
        let nx = if self.efer & efer::NXE == 0 { XD } else { 0 };
        entry & (high & !ADDR & !0xfff | nx | extra) != 0
    }

    fn walk64(&mut self, la: u64, a: Access) -> Result<Translation, Stop> {
        let mut rights = RW | US;
        let mut xd = 0;
        let mut at;
        let mut level;
        // (entry address, entry) of each level that still needs its accessed bit.
        let mut pending: [(u64, u64); 4] = [(0, 0); 4];
        let mut n = 0;
        // Where the entries of level 3 and below are.
        let mut walked = [0; 3];
        if self.long_mode() {
            at = (self.cr3 & ADDR) + (la >> 39 & 0x1ff) * 8;
            level = 4u32;
        } else {
            let pdpte = self.pdpte[(la >> 30 & 3) as usize];
            if pdpte & P == 0 {
                return Err(self.page_fault(la, a, 0));
            }
            at = (pdpte & ADDR) + (la >> 21 & 0x1ff) * 8;
            level = 2;
        }
        loop {
            let entry = self.phys_read8(at);
            if entry & P == 0 {
                return Err(self.page_fault(la, a, 0));
            }
            let leaf = level == 1 || entry & PS != 0 && level <= 3;
            let shift = 12 + 9 * (level - 1);
            // PS in a PML4E, and address bits below a large page (except PAT, bit 12).
            let extra = match (leaf, level) {
                (false, 4) => PS,
                (true, 3) if !self.model.has(Feature::Page1Gb) => PS,
                (true, 2 | 3) => ((1 << shift) - 1) & !0x1fff,
                _ => 0,
            };
            if self.reserved(entry, extra) {
                return Err(self.page_fault(la, a, pf::P | pf::RSVD));
            }
            rights &= entry;
            xd |= entry & XD;
            if !leaf {
                if entry & A == 0 {
                    pending[n] = (at, entry);
                    n += 1;
                }
                level -= 1;
                at = (entry & ADDR) + (la >> (12 + 9 * (level - 1)) & 0x1ff) * 8;
                walked[level as usize - 1] = at;
                continue;
            }
            let rights = rights | xd;
            if !self.allowed(la, rights, a) {
                return Err(self.page_fault(la, a, pf::P));
            }
            for &(at, entry) in &pending[..n] {
                self.phys_write8(at, entry | A);
            }
            let new = entry | A | if a.write { D } else { 0 };
            if new != entry {
                self.phys_write8(at, new);
            }
            if self.keeps(la) {
                self.note_walk(&walked);
            }
            let size = 1 << shift;
            return self.finish(la, a, rights, new, entry & ADDR & !(size - 1), size);
        }
    }

    /// Loads the four PDPTEs from CR3 (PAE paging, SDM 3A 4.4.1).
    ///
    /// # Errors
    /// #GP(0) if a present one has reserved bits set.
    pub fn load_pdptes(&mut self, cr3: u64) -> Result<(), Stop> {
        let mut new = [0; 4];
        for (i, e) in new.iter_mut().enumerate() {
            *e = self.phys_read8((cr3 & 0xffff_ffe0) + 8 * i as u64);
            let reserved = !ADDR & !0xfff | 0x1e6;
            if *e & P != 0 && *e & reserved != 0 {
                return Err(gp(0));
            }
        }
        self.pdpte = new;
        Ok(())
    }
}
