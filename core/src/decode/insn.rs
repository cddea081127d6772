//! The pre-decoded instruction: what the interpreter runs and the JIT compiles.
//! 32 bytes, no pointers, position independent: `off` counts from the start of the block.

use crate::isa::Op;
use crate::isa::hot::{self, LEAVE};
use crate::size::Size;

/// An operand of an instruction, in one byte: a register with its class, memory or immediate.
pub mod opnd {
    /// 0..=15: general registers (low part), numbered as the SDM does.
    pub const GPR: u8 = 0x00;
    /// 0x10..=0x13: AH, CH, DH, BH.
    pub const HIGH: u8 = 0x10;
    /// 0x20..=0x2f: XMM0..XMM15.
    pub const XMM: u8 = 0x20;
    /// 0x30..=0x37: MM0..MM7.
    pub const MM: u8 = 0x30;
    /// 0x38..=0x3f: ST(0)..ST(7).
    pub const ST: u8 = 0x38;
    /// 0x40..=0x45: ES, CS, SS, DS, FS, GS.
    pub const SEG: u8 = 0x40;
    /// 0x50..=0x5f: CR0..CR15.
    pub const CR: u8 = 0x50;
    /// 0x60..=0x67: DR0..DR7.
    pub const DR: u8 = 0x60;
    /// The memory operand described by `base`, `index`, `scale`, `disp`, `seg`, `ea`.
    pub const MEM: u8 = 0xf0;
    /// The immediate in `imm`.
    pub const IMM: u8 = 0xf1;
    /// Memory at the 64-bit offset in `imm`.
    pub const MOFFS: u8 = 0xf2;
    /// No operand.
    pub const NONE: u8 = 0xff;
}

/// Slots of the register array beyond the 16 general registers.
pub mod slot {
    /// Always zero: the base or index that is not there.
    pub const ZERO: u8 = 16;
    /// RIP at the start of the running block.
    pub const BLOCK: u8 = 17;
    /// Number of slots: all a byte can name, so that no index needs a check.
    pub const COUNT: usize = 256;
}

/// How an effective address becomes a linear address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ea {
    /// 64-bit offset, segment base 0.
    Flat64,
    /// 32-bit offset, segment base 0, no limit.
    Flat32,
    /// 64-bit mode with the base of FS or GS, or a 32-bit offset plus that base.
    Based64,
    /// Through the segment's base, limit and type.
    Segmented,
}

/// How the stack is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stack {
    /// RSP, no segment.
    Flat64,
    /// ESP, SS with base 0 and no limit.
    Flat32,
    /// ESP through SS.
    Seg32,
    /// SP through SS.
    Seg16,
}

/// Prefix bits of [`Insn::prefix`].
pub mod prefix {
    /// F3.
    pub const REP: u8 = 1;
    /// F2.
    pub const REPNE: u8 = 2;
    /// F0.
    pub const LOCK: u8 = 4;
    /// The instruction was decoded in 64-bit mode.
    pub const LONG: u8 = 8;
    /// The memory operand defaults to SS: its faults are #SS.
    pub const STACK_EA: u8 = 16;
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Insn {
    /// Which code runs it: a hot form, or an operation of `isa::Op` behind those.
    pub op: u16,
    /// Bytes from the start of the block.
    pub off: u16,
    /// Length in bytes, 1..=15.
    pub len: u8,
    /// Operand size.
    pub size: Size,
    /// First operand ([`opnd`]).
    pub a: u8,
    /// Second operand.
    pub b: u8,
    /// Third operand.
    pub c: u8,
    /// Base register slot ([`slot::ZERO`] if none, [`slot::BLOCK`] for RIP-relative).
    pub base: u8,
    /// Index register slot.
    pub index: u8,
    /// log2 of the scale.
    pub scale: u8,
    /// From effective to linear address.
    pub ea: Ea,
    /// Segment number: ES, CS, SS, DS, FS, GS.
    pub seg: u8,
    /// Prefix bits.
    pub prefix: u8,
    /// Condition code, or a small number that selects a variant.
    pub sub: u8,
    /// Displacement (relative to the block's start when RIP-relative).
    pub disp: i32,
    /// Size of the memory operand or source where it differs from `size`, in bytes.
    pub size2: u8,
    /// Address size in bytes: 2, 4, 8.
    pub asize: u8,
    /// Stack addressing.
    pub stack: Stack,
    /// iced's operand size in bytes for instructions that need it raw (0 if unused).
    pub bytes: u8,
    /// Immediate, sign-extended; relative branch targets count from the block's start.
    pub imm: u64,
}

const _: () = assert!(size_of::<Insn>() == 32);

/// Ends of a block that lead elsewhere, as places of head records; see [`Insn::leave`].
pub mod link {
    /// Not looked for yet.
    pub const UNKNOWN: u32 = 0;
    /// May lead to a different block every time.
    pub const NEVER: u32 = u32::MAX;
}

impl Insn {
    /// Is it a jump that may lead anywhere?
    pub fn jumps_anywhere(&self) -> bool {
        hot::op(self.op) == Some(Op::Jmp) && self.a != opnd::IMM
    }
}

/// Bits of a head record's `len`.
mod mark {
    pub const WATCHED: u8 = 1;
    pub const TARGET: u8 = 2;
}

/// A block lies in the arena as a head record, its instructions, and a leave record. Records
/// have the shape of instructions, so that the interpreter walks over one array.
impl Insn {
    /// The record in front of a block: number of instructions and bytes of code.
    pub fn head(count: usize, bytes: u16) -> Self {
        Self { op: HEAD, disp: i32::from(bytes), imm: count as u64, ..NOTHING }
    }
    /// Instructions of the block this is the head of.
    #[inline(always)]
    pub fn block_count(&self) -> u64 {
        self.imm & 0xff
    }
    /// The budget that lets the interpreter begin the block: its instructions, or more than any budget has if it is
    /// compiled.
    #[inline(always)]
    pub fn block_price(&self) -> u64 {
        self.imm
    }
    /// The function, and its entry, in which the block this is the head of is compiled.
    #[inline(always)]
    pub fn compiled(&self) -> Option<(u32, u32)> {
        let entry = (self.imm >> place::ENTRY) as u32 & place::ENTRIES as u32;
        (self.imm & COMPILED != 0).then_some(((self.imm >> place::FUNCTION) as u32, entry))
    }
    /// See [`Insn::compiled`].
    pub fn set_compiled(&mut self, to: Option<(u32, u32)>) {
        let place = |(function, entry): (u32, u32)| {
            let entry = u64::from(entry & place::ENTRIES as u32);
            COMPILED | u64::from(function) << place::FUNCTION | entry << place::ENTRY
        };
        if !self.is_dead() {
            self.imm = self.block_count() | to.map_or(0, place);
        }
    }
    /// How often the block this is the head of was seen when it was looked where the interpreter is, as far as 16 bits
    /// count.
    pub fn block_samples(&self) -> u16 {
        self.off
    }
    /// The block was seen once more.
    pub fn count_sample(&mut self) {
        self.off = self.off.saturating_add(1);
    }
    /// How often one of its accesses was not in the page of one before it that differs from it by a constant
    /// (`jit/windows.rs`).
    pub fn block_apart(&self) -> u8 {
        self.sub
    }
    /// See [`Insn::block_apart`].
    pub fn set_apart(&mut self, times: u8) {
        self.sub = times;
    }
    /// From now on generated code looks at this head record, whatever becomes of its block.
    pub fn watch(&mut self) {
        self.len |= mark::WATCHED;
    }
    /// Does it?
    pub fn is_watched(&self) -> bool {
        self.len & mark::WATCHED != 0
    }
    /// A jump that may lead anywhere has led to the block this is the head of.
    pub fn set_target(&mut self) {
        self.len |= mark::TARGET;
    }
    /// Has one?
    pub fn is_target(&self) -> bool {
        self.len & mark::TARGET != 0
    }
    /// The block this is the head of is gone: nobody begins it any more.
    pub fn kill(&mut self) {
        self.imm = DEAD;
    }
    /// Is it?
    #[inline(always)]
    pub fn is_dead(&self) -> bool {
        self.imm == DEAD
    }
    /// Bytes of code of the block this is the head or the leave record of.
    #[inline(always)]
    pub fn block_bytes(&self) -> u64 {
        u64::from(self.disp as u32)
    }
    /// The record behind a block: where a taken branch and falling through lead.
    pub fn leave(bytes: u16, links: u32) -> Self {
        Self { op: LEAVE, disp: i32::from(bytes), imm: u64::from(links) << 32 | u64::from(links), ..NOTHING }
    }
    /// The head record that `side` (0: branch taken, 1: fallen through) leads to, or a [`link`].
    #[inline(always)]
    pub fn link(&self, side: bool) -> u32 {
        (self.imm >> (u32::from(side) * 32)) as u32
    }
    /// Remembers where `side` leads.
    pub fn set_link(&mut self, side: bool, to: u32) {
        let shift = u32::from(side) * 32;
        self.imm = self.imm & !(0xffff_ffff << shift) | u64::from(to) << shift;
    }
}

/// Where a compiled block's head record has its place in generated code, as bits of `imm`.
pub mod place {
    /// The function: 32 bits.
    pub const FUNCTION: i64 = 8;
    /// Its entry.
    pub const ENTRY: i64 = 40;
    /// Mask of the entry's bits.
    pub const ENTRIES: i32 = 0xffff;
}

/// In a head record's `imm`: the block is compiled. It is the sign.
pub const COMPILED: u64 = 1 << 63;

/// All of a dead head record's `imm`: no instructions, and a price that no budget covers.
const DEAD: u64 = 1 << 62;

/// [`Insn::op`] of a head record; it is never run.
pub const HEAD: u16 = u16::MAX;

/// No instruction; what the records have in the fields they do not use.
pub const NOTHING: Insn = Insn {
    op: HEAD,
    off: 0,
    len: 0,
    size: Size::B1,
    a: opnd::NONE,
    b: opnd::NONE,
    c: opnd::NONE,
    base: slot::ZERO,
    index: slot::ZERO,
    scale: 0,
    ea: Ea::Flat64,
    seg: 0,
    prefix: 0,
    sub: 0,
    disp: 0,
    size2: 0,
    asize: 8,
    stack: Stack::Flat64,
    bytes: 0,
    imm: 0,
};

impl Insn {
    /// Has the LOCK prefix?
    #[inline(always)]
    pub fn locked(&self) -> bool {
        self.prefix & prefix::LOCK != 0
    }
    /// REP or REPNE?
    #[inline(always)]
    pub fn repeated(&self) -> bool {
        self.prefix & (prefix::REP | prefix::REPNE) != 0
    }
    /// Decoded in 64-bit mode?
    #[inline(always)]
    pub fn long(&self) -> bool {
        self.prefix & prefix::LONG != 0
    }
    /// Do faults of the memory operand count as stack faults?
    #[inline(always)]
    pub fn stack_ea(&self) -> bool {
        self.prefix & prefix::STACK_EA != 0
    }
}
