//! Segments: descriptors, the hidden part of segment registers, loading them with the
//! checks of protected mode (SDM 3A chapters 3 and 5).

use super::{Cpu, Done, Fault, Stop, Vector, gp, reg};
use crate::size::Size;

/// Bits of [`Segment::attr`]: the descriptor's bytes 5 and 6 (high nibble), as VMX packs them.
#[allow(missing_docs, reason = "the SDM's names")]
pub mod attr {
    pub const TYPE: u16 = 0xf;
    pub const ACCESSED: u16 = 1;
    /// Readable code or writable data.
    pub const RW: u16 = 2;
    /// Conforming code or expand-down data.
    pub const DC: u16 = 4;
    pub const CODE: u16 = 8;
    pub const S: u16 = 0x10;
    pub const P: u16 = 0x80;
    pub const L: u16 = 0x2000;
    pub const DB: u16 = 0x4000;
    pub const G: u16 = 0x8000;
}

/// System descriptor types (SDM 3A table 3-2), with S = 0.
#[allow(missing_docs, reason = "the SDM's names")]
pub mod sys {
    pub const TSS16: u16 = 1;
    pub const LDT: u16 = 2;
    pub const TSS16_BUSY: u16 = 3;
    pub const CALL16: u16 = 4;
    pub const TASK_GATE: u16 = 5;
    pub const INT16: u16 = 6;
    pub const TRAP16: u16 = 7;
    pub const TSS32: u16 = 9;
    pub const TSS32_BUSY: u16 = 11;
    pub const CALL32: u16 = 12;
    pub const INT32: u16 = 14;
    pub const TRAP32: u16 = 15;
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Base, linear.
    pub base: u64,
    /// Limit in bytes (granularity applied).
    pub limit: u32,
    /// Selector.
    pub sel: u16,
    /// [`attr`]; without `P` the segment is unusable (a null selector).
    pub attr: u16,
}

impl Segment {
    /// As a load in real mode makes it; limit and attributes of a fresh CPU.
    pub fn real(sel: u16) -> Self {
        Self { sel, base: u64::from(sel) << 4, limit: 0xffff, attr: 0x93 }
    }
    /// As virtual-8086 mode sees it.
    pub fn v86(sel: u16) -> Self {
        Self { attr: 0xf3, ..Self::real(sel) }
    }
    /// A null selector.
    pub fn null(sel: u16) -> Self {
        Self { sel, ..Self::default() }
    }
    /// Descriptor privilege level.
    pub fn dpl(&self) -> u8 {
        (self.attr >> 5) as u8 & 3
    }
    /// Present and usable?
    pub fn present(&self) -> bool {
        self.attr & attr::P != 0
    }
    /// Code segment?
    pub fn is_code(&self) -> bool {
        self.attr & (attr::S | attr::CODE) == attr::S | attr::CODE
    }
    /// Writable data?
    pub fn is_writable(&self) -> bool {
        self.attr & (attr::S | attr::CODE | attr::RW) == attr::S | attr::RW
    }
    /// Limit and attributes in one number, as they lie in memory with the selector between them.
    const fn limit_and_attr(limit: u32, attr: u16) -> u64 {
        limit as u64 | (attr as u64) << 48
    }
    /// The bits of that which say whether every 32-bit offset can be read and written, and what they are then.
    pub const WHOLE: (u64, u64) = {
        let mask = attr::P | attr::S | attr::CODE | attr::DC | attr::RW;
        (Self::limit_and_attr(u32::MAX, mask), Self::limit_and_attr(u32::MAX, attr::P | attr::S | attr::RW))
    };
    /// Can every 32-bit address be read and written without a check?
    pub fn is_flat(&self) -> bool {
        self.base == 0 && Self::limit_and_attr(self.limit, self.attr) & Self::WHOLE.0 == Self::WHOLE.1
    }
    /// Do `size` bytes at `off` lie within the limit?
    pub fn covers(&self, off: u64, size: u64) -> bool {
        let last = off + (size - 1);
        if self.attr & (attr::S | attr::CODE | attr::DC) == attr::S | attr::DC {
            let top = if self.attr & attr::DB != 0 { 0xffff_ffff } else { 0xffff };
            off > u64::from(self.limit) && last <= top
        } else {
            last <= u64::from(self.limit)
        }
    }
}

/// A descriptor as it lies in a table.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// The low eight bytes.
    pub raw: u64,
    /// The high eight bytes of a 16-byte system descriptor in long mode.
    pub high: u64,
}

impl Descriptor {
    /// [`attr`] bits.
    pub fn attr(&self) -> u16 {
        (self.raw >> 40) as u16 & 0xf0ff
    }
    /// Type of a system descriptor.
    pub fn kind(&self) -> u16 {
        self.attr() & attr::TYPE
    }
    /// Code or data (S)?
    pub fn is_segment(&self) -> bool {
        self.attr() & attr::S != 0
    }
    /// Present?
    pub fn present(&self) -> bool {
        self.attr() & attr::P != 0
    }
    /// DPL.
    pub fn dpl(&self) -> u8 {
        (self.raw >> 45) as u8 & 3
    }
    /// The hidden part for a segment register.
    pub fn segment(&self, sel: u16) -> Segment {
        let r = self.raw;
        let base = r >> 16 & 0xff_ffff | (r >> 56 & 0xff) << 24 | (self.high & 0xffff_ffff) << 32;
        let limit = (r & 0xffff | r >> 32 & 0xf_0000) as u32;
        let limit = if r >> 55 & 1 != 0 { limit << 12 | 0xfff } else { limit };
        Segment { sel, base, limit, attr: self.attr() }
    }
    /// Selector of a gate.
    pub fn gate_selector(&self) -> u16 {
        (self.raw >> 16) as u16
    }
    /// Offset of a gate, 32 bits (plus the high half in long mode).
    pub fn gate_offset(&self) -> u64 {
        self.raw & 0xffff | self.raw >> 32 & 0xffff_0000 | (self.high & 0xffff_ffff) << 32
    }
}

impl Cpu {
    /// A fault with a selector as error code.
    pub(crate) fn sel_fault(vector: Vector, sel: u16) -> Stop {
        Stop::Fault(Fault { vector, code: sel & !3 })
    }

    /// The linear address of the descriptor `sel` names.
    ///
    /// # Errors
    /// `vector`(sel) beyond the table's limit or without an LDT.
    pub(crate) fn descriptor_at(&self, sel: u16, bytes: u64, vector: Vector) -> Result<u64, Stop> {
        let (base, limit) = if sel & 4 != 0 {
            let ldt = &self.seg[6];
            if !ldt.present() {
                return Err(Self::sel_fault(vector, sel));
            }
            (ldt.base, ldt.limit)
        } else {
            (self.gdtr.base, self.gdtr.limit)
        };
        let off = u64::from(sel & !7);
        if off + (bytes - 1) > u64::from(limit) {
            return Err(Self::sel_fault(vector, sel));
        }
        Ok(base.wrapping_add(off))
    }

    /// Reads the descriptor `sel` names; 16-byte system descriptors in long mode whole.
    ///
    /// # Errors
    /// `vector`(sel) beyond the table, page faults.
    pub(crate) fn descriptor(&mut self, sel: u16, vector: Vector) -> Result<Descriptor, Stop> {
        let at = self.descriptor_at(sel, 8, vector)?;
        let raw = self.sys_read(at, Size::B8)?;
        let mut d = Descriptor { raw, high: 0 };
        let wide = !d.is_segment() && !matches!(d.kind(), 0 | 5 | 6 | 7);
        if self.long_mode() && wide {
            let at = self.descriptor_at(sel, 16, vector)?;
            d.high = self.sys_read(at + 8, Size::B8)?;
        }
        Ok(d)
    }

    /// Sets the accessed bit of a code or data descriptor.
    pub(crate) fn mark_accessed(&mut self, sel: u16, d: &mut Descriptor) -> Done {
        if d.raw >> 40 & 1 == 0 {
            let at = self.descriptor_at(sel, 8, Vector::GP)?;
            let byte = (d.raw >> 40) as u8 | 1;
            self.sys_write(at + 5, Size::B1, u64::from(byte))?;
            d.raw |= 1 << 40;
        }
        Ok(())
    }

    /// Sets or clears the busy bit of the TSS descriptor `sel`.
    pub(crate) fn set_busy(&mut self, sel: u16, busy: bool) -> Done {
        let at = self.descriptor_at(sel, 8, Vector::GP)?;
        let b = self.sys_read(at + 5, Size::B1)?;
        let b = if busy { b | 2 } else { b & !2 };
        self.sys_write(at + 5, Size::B1, b)
    }

    /// MOV/POP/LxS to ES, SS, DS, FS, GS (SDM 2: MOV). For CS see `far.rs`.
    ///
    /// # Errors
    /// #GP, #SS, #NP with the selector; page faults of the table.
    pub(crate) fn load_segment(&mut self, s: u8, sel: u16) -> Done {
        if !self.protected() || self.v86() {
            let seg = &mut self.seg[s as usize];
            if self.rflags & crate::flags::VM != 0 {
                *seg = Segment::v86(sel);
            } else {
                // Real mode keeps limit and attributes (unreal mode).
                (seg.sel, seg.base) = (sel, u64::from(sel) << 4);
                if !seg.present() {
                    *seg = Segment::real(sel);
                }
            }
            self.mode_changed();
            return Ok(());
        }
        let new = if s == reg::SS { self.stack_segment(sel, self.cpl, Vector::GP)? } else { self.data_segment(sel)? };
        let old = core::mem::replace(&mut self.seg[s as usize], new);
        // The mode key speaks of neither FS nor GS, nor of selectors.
        if s < reg::FS && (old.base, old.limit, old.attr) != (new.base, new.limit, new.attr) {
            self.segments_changed();
        }
        Ok(())
    }

    fn data_segment(&mut self, sel: u16) -> Result<Segment, Stop> {
        if sel & !3 == 0 {
            return Ok(Segment::null(sel));
        }
        let mut d = self.descriptor(sel, Vector::GP)?;
        let seg = d.segment(sel);
        let readable = d.is_segment() && seg.attr & (attr::CODE | attr::RW) != attr::CODE;
        let conforming = seg.attr & (attr::CODE | attr::DC) == attr::CODE | attr::DC;
        let rpl = (sel & 3) as u8;
        if !readable || !conforming && (rpl > seg.dpl() || self.cpl > seg.dpl()) {
            return Err(Self::sel_fault(Vector::GP, sel));
        }
        if !d.present() {
            return Err(Self::sel_fault(Vector::NP, sel));
        }
        self.mark_accessed(sel, &mut d)?;
        Ok(d.segment(sel))
    }

    /// Checks and fetches a stack segment for privilege `cpl`; `vector` is #GP, or #TS when the
    /// selector comes from a TSS.
    pub(crate) fn stack_segment(&mut self, sel: u16, cpl: u8, vector: Vector) -> Result<Segment, Stop> {
        if sel & !3 == 0 {
            // SDM 2 MOV: a null SS is allowed in 64-bit mode below CPL 3 with RPL = CPL.
            if self.long && cpl < 3 && (sel & 3) as u8 == cpl && vector == Vector::GP {
                return Ok(Segment { attr: u16::from(cpl) << 5, ..Segment::null(sel) });
            }
            return Err(if vector == Vector::GP { gp(0) } else { Self::sel_fault(vector, sel) });
        }
        let mut d = self.descriptor(sel, vector)?;
        let seg = d.segment(sel);
        if (sel & 3) as u8 != cpl || !d.is_segment() || !seg.is_writable() || seg.dpl() != cpl {
            return Err(Self::sel_fault(vector, sel));
        }
        if !d.present() {
            return Err(Self::sel_fault(Vector::SS, sel));
        }
        self.mark_accessed(sel, &mut d)?;
        Ok(d.segment(sel))
    }
}
