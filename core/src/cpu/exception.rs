//! Interrupt and exception delivery (SDM 3A chapter 6), double and triple faults.

use super::debug::{DEBUGCTL_BTF, dr7};
use super::segment::{Descriptor, Segment, attr, sys};
use super::{Cpu, Done, Fault, Shadow, Stop, Vector, event, fault, reg};
use crate::bus::Trap;
use crate::cpu::memory::canonical;
use crate::flags;
use crate::size::Size;

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// INTR or NMI.
    External,
    /// A fault, trap or INT1, with its error code.
    Exception(Option<u16>),
    /// INT n, INT3, INTO: the gate's DPL is checked.
    Software,
}

impl Source {
    /// The EXT bit of error codes that arise during delivery.
    fn ext(self) -> u16 {
        u16::from(self != Self::Software)
    }
    fn code(self) -> Option<u16> {
        if let Self::Exception(c) = self { c } else { None }
    }
}

/// Pushes onto a stack that is not (yet) the current one.
pub(crate) struct Frame {
    pub seg: Segment,
    pub sp: u64,
    /// Privilege the pushes are made with.
    pub cpl: u8,
    /// Long mode: no segment.
    pub flat: bool,
    /// Error code of #SS: the new stack's selector and EXT.
    pub error: u16,
}

impl Frame {
    fn mask(&self) -> u64 {
        if self.flat {
            u64::MAX
        } else if self.seg.attr & attr::DB != 0 {
            0xffff_ffff
        } else {
            0xffff
        }
    }
    fn no_room(&self) -> Stop {
        Stop::Fault(Fault { vector: Vector::SS, code: self.error })
    }
    /// Pushes `v`; nothing of the CPU changes.
    pub fn push(&mut self, cpu: &mut Cpu, size: Size, v: u64) -> Done {
        let sp = self.sp.wrapping_sub(size.bytes()) & self.mask();
        let la = if self.flat {
            if !canonical(sp) || !canonical(sp.wrapping_add(7)) {
                return Err(self.no_room());
            }
            sp
        } else {
            if !self.seg.covers(sp, size.bytes()) {
                return Err(self.no_room());
            }
            self.seg.base.wrapping_add(sp) & 0xffff_ffff
        };
        let who = cpu.as_cpl(self.cpl);
        cpu.store_as(who, la, size, v)?;
        self.sp = sp;
        Ok(())
    }
}

impl Cpu {
    /// Delivers a fault of the instruction at `rip`, with double-fault and shutdown rules.
    pub(crate) fn deliver_fault(&mut self, f: Fault, rip: u64) {
        let rip = self.rip_of_fault(rip);
        self.rip = rip;
        self.stats.exceptions += 1;
        let code = f.vector.has_code().then_some(f.code);
        // SDM 3A 18.3.1.1: RF is set in the pushed image for faults, not for instruction breakpoints.
        let rf = f.vector != Vector::DB;
        if rf {
            self.rflags |= flags::RF;
        }
        let mut current = f.vector;
        let mut result = self.interrupt(f.vector as u8, Source::Exception(code), rip);
        for _ in 0..2 {
            let Err(Stop::Fault(second)) = result else { break };
            if current == Vector::DF {
                break;
            }
            let rip = self.rip_of_fault(rip);
            // SDM 3A table 6-5.
            let contributory = |v: Vector| matches!(v, Vector::DE | Vector::TS | Vector::NP | Vector::SS | Vector::GP);
            let double = contributory(current) && contributory(second.vector)
                || current == Vector::PF && (contributory(second.vector) || second.vector == Vector::PF);
            if double {
                current = Vector::DF;
                result = self.interrupt(Vector::DF as u8, Source::Exception(Some(0)), rip);
            } else {
                current = second.vector;
                let code = second.vector.has_code().then_some(second.code);
                result = self.interrupt(second.vector as u8, Source::Exception(code), rip);
            }
        }
        if result.is_err() {
            self.events |= event::SHUTDOWN;
        }
    }

    /// Where a fault of the instruction or delivery at `rip` belongs: to the new task once that has been entered.
    fn rip_of_fault(&mut self, rip: u64) -> u64 {
        if core::mem::take(&mut self.task_entered) { self.rip } else { rip }
    }

    /// Delivers an interrupt; a fault during delivery is delivered in turn.
    pub(crate) fn deliver(&mut self, vector: u8, source: Source) {
        let rip = self.rip;
        match self.interrupt(vector, source, rip) {
            Ok(()) => {}
            Err(Stop::Fault(f)) => self.deliver_fault(f, rip),
            Err(Stop::Alone) => unreachable!("deliveries run alone"),
        }
    }

    /// Goes through the IDT with `return_rip` on the stack.
    ///
    /// # Errors
    /// Faults of the delivery; nothing but the stack memory has changed then.
    pub(crate) fn interrupt(&mut self, vector: u8, source: Source, return_rip: u64) -> Done {
        let alone = core::mem::replace(&mut self.alone, true);
        let r = if self.is_paravirtual() {
            self.trap(Trap::Interrupt { vector, source, return_rip })
        } else if !self.protected() {
            self.interrupt_real(vector, return_rip)
        } else if self.long_mode() {
            self.interrupt_long(vector, source, return_rip)
        } else {
            self.interrupt_protected(vector, source, return_rip)
        };
        self.alone = alone;
        if r.is_ok() {
            self.shadow = Shadow::None;
            self.single_step = false;
            self.events &= !event::HALTED;
            if vector == Vector::DB as u8 && matches!(source, Source::Exception(_)) {
                // SDM 3B 18.2.4, 18.4.4: the handler may use the debug registers, and does not step from branch to branch.
                self.dr[7] &= !dr7::GD;
                self.msr.debugctl &= !DEBUGCTL_BTF;
            }
            self.rflags_changed();
        }
        r
    }

    fn interrupt_real(&mut self, vector: u8, return_rip: u64) -> Done {
        let at = u64::from(vector) * 4;
        if at + 3 > u64::from(self.idtr.limit) {
            return Err(fault(Vector::GP));
        }
        let entry = self.sys_read(self.idtr.base + at, Size::B4)?;
        let flags = self.rflags_image() & !flags::RF;
        let cs = self.seg[reg::CS as usize];
        let ss = self.seg[reg::SS as usize];
        let mut f = Frame { seg: ss, sp: self.regs[reg::RSP as usize], cpl: 0, flat: false, error: 0 };
        f.push(self, Size::B2, flags)?;
        f.push(self, Size::B2, u64::from(cs.sel))?;
        f.push(self, Size::B2, return_rip)?;
        self.set_sp(f.sp);
        let sel = (entry >> 16) as u16;
        let c = &mut self.seg[reg::CS as usize];
        (c.sel, c.base) = (sel, u64::from(sel) << 4);
        self.rip = entry & 0xffff;
        self.rflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
        Ok(())
    }

    /// Writes the stack pointer with the width of the stack segment: SP keeps the rest of ESP,
    /// ESP clears the upper half of RSP as every 32-bit write does (IRET out of a 64-bit kernel
    /// must not leave the kernel's upper half in it).
    pub(crate) fn set_sp(&mut self, sp: u64) {
        let m = self.stack_mask();
        let r = &mut self.regs[reg::RSP as usize];
        let keep = if m == 0xffff { 0xffff_0000 } else { 0 };
        *r = *r & keep | sp & m;
    }

    /// The gate of `vector`, checked for presence, type and privilege.
    fn gate(&mut self, vector: u8, source: Source) -> Result<Descriptor, Stop> {
        let long = self.long_mode();
        let size = if long { 16 } else { 8 };
        let at = u64::from(vector) * size;
        let code = u16::from(vector) << 3 | 2;
        let gp = Stop::Fault(Fault { vector: Vector::GP, code: code | source.ext() });
        if at + size - 1 > u64::from(self.idtr.limit) {
            return Err(gp);
        }
        let base = self.idtr.base.wrapping_add(at);
        let raw = self.sys_read(base, Size::B8)?;
        let high = if long { self.sys_read(base.wrapping_add(8), Size::B8)? } else { 0 };
        let g = Descriptor { raw, high };
        let known = match g.kind() {
            sys::INT32 | sys::TRAP32 => true,
            sys::TASK_GATE | sys::INT16 | sys::TRAP16 => !long,
            _ => false,
        };
        if g.is_segment() || !known || source == Source::Software && g.dpl() < self.cpl {
            return Err(gp);
        }
        if !g.present() {
            return Err(Stop::Fault(Fault { vector: Vector::NP, code: code | source.ext() }));
        }
        Ok(g)
    }

    /// The handler's code segment, and the privilege level it runs at.
    fn handler(&mut self, sel: u16, ext: u16) -> Result<(Segment, u8), Stop> {
        let bad = |v: Vector, sel: u16| Stop::Fault(Fault { vector: v, code: sel & !3 | ext });
        if sel & !3 == 0 {
            return Err(bad(Vector::GP, 0));
        }
        let mut d = self.descriptor(sel, Vector::GP).map_err(|s| with_ext(s, ext))?;
        let seg = d.segment(sel);
        let long = self.long_mode();
        if !d.is_segment()
            || !seg.is_code()
            || seg.dpl() > self.cpl
            || long && seg.attr & (attr::L | attr::DB) != attr::L
        {
            return Err(bad(Vector::GP, sel));
        }
        if !d.present() {
            return Err(bad(Vector::NP, sel));
        }
        self.mark_accessed(sel, &mut d)?;
        let seg = d.segment(sel);
        let cpl = if seg.attr & attr::DC != 0 { self.cpl } else { seg.dpl() };
        Ok((seg, cpl))
    }

    fn interrupt_long(&mut self, vector: u8, source: Source, return_rip: u64) -> Done {
        let g = self.gate(vector, source)?;
        let (cs, cpl) = self.handler(g.gate_selector(), source.ext())?;
        let ext = source.ext();
        let ist = (g.raw >> 32) as u8 & 7;
        let sp = if ist != 0 {
            self.tss64(0x24 + 8 * (u64::from(ist) - 1)).map_err(|s| with_ext(s, ext))?
        } else if cpl != self.cpl {
            self.tss64(4 + 8 * u64::from(cpl)).map_err(|s| with_ext(s, ext))?
        } else {
            self.regs[reg::RSP as usize]
        };
        let flags = self.rflags_image();
        let (old_ss, old_cs, old_sp) =
            (self.seg[reg::SS as usize].sel, self.seg[reg::CS as usize].sel, self.regs[reg::RSP as usize]);
        let mut f = Frame { seg: Segment::default(), sp: sp & !0xf, cpl, flat: true, error: ext };
        f.push(self, Size::B8, u64::from(old_ss))?;
        f.push(self, Size::B8, old_sp)?;
        f.push(self, Size::B8, flags)?;
        f.push(self, Size::B8, u64::from(old_cs))?;
        f.push(self, Size::B8, return_rip)?;
        if let Some(code) = source.code() {
            f.push(self, Size::B8, u64::from(code))?;
        }
        let target = g.gate_offset();
        if !canonical(target) {
            return Err(Stop::Fault(Fault { vector: Vector::GP, code: source.ext() }));
        }
        if cpl != self.cpl {
            self.seg[reg::SS as usize] = Segment { attr: u16::from(cpl) << 5, ..Segment::null(u16::from(cpl)) };
        }
        self.enter(cs, cpl, target, g.kind() == sys::INT32);
        self.regs[reg::RSP as usize] = f.sp;
        Ok(())
    }

    /// CS:RIP, CPL and the flags at the entry of a handler.
    fn enter(&mut self, cs: Segment, cpl: u8, rip: u64, mask: bool) {
        self.seg[reg::CS as usize] = Segment { sel: cs.sel & !3 | u16::from(cpl), ..cs };
        self.cpl = cpl;
        self.rip = rip;
        self.rflags &= !(flags::TF | flags::NT | flags::RF | flags::VM);
        if mask {
            self.rflags &= !flags::IF;
        }
        self.segments_changed();
    }

    /// A 64-bit field of the TSS.
    pub(crate) fn tss64(&mut self, off: u64) -> Result<u64, Stop> {
        let tr = self.seg[7];
        if off + 7 > u64::from(tr.limit) {
            return Err(Self::sel_fault(Vector::TS, tr.sel));
        }
        let sp = self.sys_read(tr.base.wrapping_add(off), Size::B8)?;
        if !canonical(sp) {
            return Err(fault(Vector::SS));
        }
        Ok(sp)
    }

    /// SS:SP of privilege level `cpl` from the TSS (SDM 3A 7.2.1, 7.6).
    pub(crate) fn tss_stack(&mut self, cpl: u8) -> Result<(u16, u64), Stop> {
        let tr = self.seg[7];
        let bad = Self::sel_fault(Vector::TS, tr.sel);
        if tr.attr & 8 != 0 {
            let off = 4 + 8 * u64::from(cpl);
            if off + 5 > u64::from(tr.limit) {
                return Err(bad);
            }
            let sp = self.sys_read(tr.base + off, Size::B4)?;
            Ok((self.sys_read(tr.base + off + 4, Size::B2)? as u16, sp))
        } else {
            let off = 2 + 4 * u64::from(cpl);
            if off + 3 > u64::from(tr.limit) {
                return Err(bad);
            }
            let sp = self.sys_read(tr.base + off, Size::B2)?;
            Ok((self.sys_read(tr.base + off + 2, Size::B2)? as u16, sp))
        }
    }

    fn interrupt_protected(&mut self, vector: u8, source: Source, return_rip: u64) -> Done {
        // SDM 3A 20.3: INT n in virtual-8086 mode needs IOPL 3 (checked by INT itself).
        let g = self.gate(vector, source)?;
        if g.kind() == sys::TASK_GATE {
            self.rip = return_rip;
            return self.task_gate(g.gate_selector(), source.code(), source.ext());
        }
        let v86 = self.v86();
        let (cs, cpl) = self.handler(g.gate_selector(), source.ext())?;
        if v86 && cpl != 0 {
            return Err(Stop::Fault(Fault { vector: Vector::GP, code: cs.sel & !3 | source.ext() }));
        }
        let wide = g.kind() & 8 != 0;
        let size = if wide { Size::B4 } else { Size::B2 };
        let offset = g.gate_offset() & if wide { 0xffff_ffff } else { 0xffff };
        let flags = self.rflags_image();
        let old_cs = self.seg[reg::CS as usize].sel;
        let old_ss = self.seg[reg::SS as usize].sel;
        let old_sp = self.regs[reg::RSP as usize];
        let ext = source.ext();
        let mut f;
        if cpl != self.cpl {
            let (ss, sp) = self.tss_stack(cpl).map_err(|s| with_ext(s, ext))?;
            let seg = self.stack_segment(ss, cpl, Vector::TS).map_err(|s| with_ext(s, ext))?;
            f = Frame { seg, sp, cpl, flat: false, error: ss & !3 | ext };
            if v86 {
                for s in [reg::GS, reg::FS, reg::DS, reg::ES] {
                    let sel = self.seg[s as usize].sel;
                    f.push(self, size, u64::from(sel))?;
                }
            }
            f.push(self, size, u64::from(old_ss))?;
            f.push(self, size, old_sp)?;
        } else {
            f = Frame { seg: self.seg[reg::SS as usize], sp: old_sp, cpl, flat: false, error: ext };
        }
        f.push(self, size, flags)?;
        f.push(self, size, u64::from(old_cs))?;
        f.push(self, size, return_rip)?;
        if let Some(code) = source.code() {
            f.push(self, size, u64::from(code))?;
        }
        if offset > u64::from(cs.limit) {
            return Err(Stop::Fault(Fault { vector: Vector::GP, code: source.ext() }));
        }
        if cpl != self.cpl {
            self.seg[reg::SS as usize] = f.seg;
            if v86 {
                for s in [reg::GS, reg::FS, reg::DS, reg::ES] {
                    self.seg[s as usize] = Segment::null(0);
                }
            }
        }
        self.enter(cs, cpl, offset, matches!(g.kind(), sys::INT32 | sys::INT16));
        self.set_sp(f.sp);
        Ok(())
    }
}

/// Adds the EXT bit to an error code that came out of a check shared with ordinary loads.
pub(super) fn with_ext(s: Stop, ext: u16) -> Stop {
    match s {
        Stop::Fault(Fault { vector, code }) if matches!(vector, Vector::TS | Vector::NP | Vector::SS | Vector::GP) => {
            Stop::Fault(Fault { vector, code: code | ext })
        }
        s => s,
    }
}
