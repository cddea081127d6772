//! Hardware task switches (SDM 3A chapter 7), 16- and 32-bit TSS.

use super::debug::{dr6, dr7};
use super::exception::with_ext;
use super::segment::{Descriptor, Segment, attr, sys};
use super::{Cpu, Done, Fault, Stop, Vector, cr0, cr4, event, reg};
use crate::flags;
use crate::size::Size;

/// Why the task is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// JMP: the old task is no longer busy.
    Jump,
    /// CALL or interrupt: the old task stays busy, the new one nests.
    Call,
    /// IRET with NT: back along the link.
    Return,
}

/// What a TSS holds, widened to 32 bits.
struct Image {
    cr3: u32,
    eip: u32,
    eflags: u32,
    regs: [u32; 8],
    /// ES, CS, SS, DS, FS, GS.
    sel: [u16; 6],
    ldt: u16,
    trap: bool,
}

impl Cpu {
    /// A task gate in the IDT.
    pub(crate) fn task_gate(&mut self, sel: u16, code: Option<u16>, ext: u16) -> Done {
        let bad = |v: Vector| Stop::Fault(Fault { vector: v, code: sel & !3 | ext });
        if sel & 4 != 0 || sel & !3 == 0 {
            return Err(bad(Vector::GP));
        }
        let d = self.descriptor(sel, Vector::GP)?;
        if d.is_segment() || !matches!(d.kind(), sys::TSS16 | sys::TSS32) {
            return Err(bad(Vector::GP));
        }
        if !d.present() {
            return Err(bad(Vector::NP));
        }
        self.switch_task(sel, &d, Reason::Call, self.rip).map_err(|s| with_ext(s, ext))?;
        if let Some(code) = code {
            let size = if d.kind() & 8 != 0 { Size::B4 } else { Size::B2 };
            let mut f = super::exception::Frame {
                seg: self.seg[reg::SS as usize],
                sp: self.regs[reg::RSP as usize],
                cpl: self.cpl,
                flat: false,
                error: ext,
            };
            f.push(self, size, u64::from(code)).inspect_err(|_| self.task_entered = true)?;
            self.set_sp(f.sp);
        }
        Ok(())
    }

    fn read_tss(&mut self, base: u64, wide: bool) -> Result<Image, Stop> {
        let mut r = |off: u64, size: Size| self.sys_read(base + off, size).map(|v| v as u32);
        let mut t = Image { cr3: 0, eip: 0, eflags: 0, regs: [0; 8], sel: [0; 6], ldt: 0, trap: false };
        if wide {
            t.cr3 = r(0x1c, Size::B4)?;
            t.eip = r(0x20, Size::B4)?;
            t.eflags = r(0x24, Size::B4)?;
            for (i, v) in t.regs.iter_mut().enumerate() {
                *v = r(0x28 + 4 * i as u64, Size::B4)?;
            }
            for (i, v) in t.sel.iter_mut().enumerate() {
                *v = r(0x48 + 4 * i as u64, Size::B2)? as u16;
            }
            t.ldt = r(0x60, Size::B2)? as u16;
            t.trap = r(0x64, Size::B2)? & 1 != 0;
        } else {
            t.eip = r(0x0e, Size::B2)?;
            t.eflags = r(0x10, Size::B2)?;
            for (i, v) in t.regs.iter_mut().enumerate() {
                *v = r(0x12 + 2 * i as u64, Size::B2)? | 0xffff_0000;
            }
            for (i, v) in t.sel.iter_mut().take(4).enumerate() {
                *v = r(0x22 + 2 * i as u64, Size::B2)? as u16;
            }
            t.ldt = r(0x2a, Size::B2)? as u16;
        }
        Ok(t)
    }

    fn save_tss(&mut self, base: u64, wide: bool, rip: u64, eflags: u64) -> Done {
        let regs = self.regs;
        let seg = self.seg;
        if wide {
            self.sys_write(base + 0x20, Size::B4, rip)?;
            self.sys_write(base + 0x24, Size::B4, eflags)?;
            for (i, r) in regs.iter().take(8).enumerate() {
                self.sys_write(base + 0x28 + 4 * i as u64, Size::B4, *r)?;
            }
            for (i, s) in seg.iter().take(6).enumerate() {
                self.sys_write(base + 0x48 + 4 * i as u64, Size::B2, u64::from(s.sel))?;
            }
        } else {
            self.sys_write(base + 0x0e, Size::B2, rip)?;
            self.sys_write(base + 0x10, Size::B2, eflags)?;
            for (i, r) in regs.iter().take(8).enumerate() {
                self.sys_write(base + 0x12 + 2 * i as u64, Size::B2, *r)?;
            }
            for (i, s) in seg.iter().take(4).enumerate() {
                self.sys_write(base + 0x22 + 2 * i as u64, Size::B2, u64::from(s.sel))?;
            }
        }
        Ok(())
    }

    /// Switches to the task `sel`, whose descriptor the caller has checked for type, privilege
    /// and presence. `rip` is saved as the old task's next instruction.
    pub(crate) fn switch_task(&mut self, sel: u16, d: &Descriptor, why: Reason, rip: u64) -> Done {
        let wide = d.kind() & 8 != 0;
        let new = d.segment(sel);
        if new.limit < if wide { 0x67 } else { 0x2b } {
            return Err(Self::sel_fault(Vector::TS, sel));
        }
        let old = self.seg[7];
        let old_wide = old.attr & 8 != 0;
        // Everything that can fault on memory before the first change.
        let image = self.read_tss(new.base, wide)?;
        let mut eflags = self.rflags_image();
        if why == Reason::Return {
            eflags &= !flags::NT;
        }
        self.save_tss(old.base, old_wide, rip, eflags)?;
        if why == Reason::Call {
            self.sys_write(new.base, Size::B2, u64::from(old.sel))?;
        }
        if why != Reason::Call {
            self.set_busy(old.sel, false)?;
        }
        if why != Reason::Return {
            self.set_busy(sel, true)?;
        }
        // The point of no return: faults from here on belong to the new task.
        self.seg[7] = Segment { attr: new.attr | 2, ..new };
        self.cr0 |= cr0::TS;
        let entered = self.enter_task(&image, wide, why);
        self.mode_changed();
        self.task_entered = entered.is_err();
        entered
    }

    fn enter_task(&mut self, image: &Image, wide: bool, why: Reason) -> Done {
        for (r, v) in self.regs.iter_mut().zip(image.regs) {
            *r = u64::from(v);
        }
        self.rip = u64::from(image.eip);
        let mut fl = u64::from(image.eflags);
        if why == Reason::Call {
            fl |= flags::NT;
        }
        self.set_rflags_image(fl);
        self.dr[7] &= !dr7::LOCAL;
        for (s, &sel) in image.sel.iter().enumerate() {
            self.seg[s] = Segment::null(sel);
        }
        self.seg[6] = Segment::null(image.ldt);
        // SDM 3A 7.3: without a usable CS the new task is what its selector says.
        self.cpl = if self.v86() { 3 } else { (image.sel[reg::CS as usize] & 3) as u8 };
        if wide && self.cr0 & cr0::PG != 0 {
            let cr3 = u64::from(image.cr3);
            if self.cr4 & cr4::PAE != 0 {
                self.load_pdptes(cr3)?;
            }
            self.cr3 = cr3;
            self.tlb.flush_local();
            self.stats.tlb_flushes += 1;
        }
        self.load_task_segments(image)?;
        if image.trap {
            self.pending_db |= dr6::BT;
            self.events |= event::CHECK;
        }
        if u64::from(image.eip) > u64::from(self.seg[reg::CS as usize].limit) {
            return Err(super::gp(0));
        }
        Ok(())
    }

    fn load_task_segments(&mut self, t: &Image) -> Done {
        let ts = |sel: u16| Self::sel_fault(Vector::TS, sel);
        if t.ldt & !3 != 0 {
            if t.ldt & 4 != 0 {
                return Err(ts(t.ldt));
            }
            let d = self.descriptor(t.ldt, Vector::TS)?;
            if d.is_segment() || d.kind() != sys::LDT || !d.present() {
                return Err(ts(t.ldt));
            }
            self.seg[6] = d.segment(t.ldt);
        }
        if self.v86() {
            for (s, &sel) in t.sel.iter().enumerate() {
                self.seg[s] = Segment::v86(sel);
            }
            return Ok(());
        }
        let cs = t.sel[reg::CS as usize];
        if cs & !3 == 0 {
            return Err(ts(cs));
        }
        let mut d = self.descriptor(cs, Vector::TS)?;
        let seg = d.segment(cs);
        let dpl_ok = if seg.attr & attr::DC != 0 { seg.dpl() <= self.cpl } else { seg.dpl() == self.cpl };
        if !d.is_segment() || !seg.is_code() || !dpl_ok {
            return Err(ts(cs));
        }
        if !d.present() {
            return Err(Self::sel_fault(Vector::NP, cs));
        }
        self.mark_accessed(cs, &mut d)?;
        self.seg[reg::CS as usize] = d.segment(cs);
        self.mode_changed();
        let ss = t.sel[reg::SS as usize];
        self.seg[reg::SS as usize] = self.stack_segment(ss, self.cpl, Vector::TS)?;
        for s in [reg::ES, reg::DS, reg::FS, reg::GS] {
            self.load_segment(s, t.sel[s as usize]).map_err(|e| match e {
                Stop::Fault(Fault { vector: Vector::GP, code }) => Stop::Fault(Fault { vector: Vector::TS, code }),
                e => e,
            })?;
        }
        Ok(())
    }
}
