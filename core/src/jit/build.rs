//! The compiler's side of [`Emit`](crate::emit::Emit): an instruction's semantics, run once, leave behind the values it computes and the
//! steps it takes, which `lower.rs` then writes as WebAssembly.
//!
//! What an instruction changes is committed when it is complete, all at once. So wherever it may have to stop, the
//! locals hold the state before it, and leaving the region there is exact.

use super::float::Guarded;
use super::ir::{Node, VECTOR, Val, Values};
use super::locals::{Locals, REGISTERS, XMM, told};
use super::x87::{Known, Part87};
use crate::emit::{Bin, Slot};
use crate::flags::{self, FlagOp};
use crate::size::Size;
use alloc::vec::Vec;
use core::mem::replace;
use wasm_encoder::ValType;

mod emit;

/// The instruction cannot go on here: the interpreter runs it instead.
#[derive(Clone, Copy, Debug)]
pub struct Leave;

/// Something that happens in its place in the order.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Loads to a local.
    Load { to: u32, at: Val, size: Size },
    /// Stores.
    Store { at: Val, size: Size, v: Val },
    /// Finds where `at` may be stored to, for [`Step::Modified`], and loads to a local.
    Modify { to: u32, at: Val, size: Size },
    /// Stores where [`Step::Modify`] found.
    Modified { size: Size, v: Val },
    /// Loads four or eight bytes to a local that holds a vector; the others are 0.
    LoadLow { to: u32, at: Val, size: Size },
    /// Loads 16 bytes to a local; leaves the region if they have to be aligned and are not.
    LoadVector { to: u32, at: Val, aligned: bool },
    /// Stores 16 bytes, likewise.
    StoreVector { at: Val, aligned: bool, v: Val },
    /// As [`Step::Modify`], of 16 aligned bytes.
    ModifyVector { to: u32, at: Val },
    /// As [`Step::Modified`], of 16 bytes.
    ModifiedVector { v: Val },
    /// Chooses the TLB context of privilege level 0 with RFLAGS.AC set or clear.
    Access(bool),
    /// Leaves the region if an interrupt may be waiting behind the instruction.
    Quiet,
    /// Loads a segment register, or leaves the region.
    Segment { s: u8, selector: Val },
    /// Reads the time stamp counter to a local.
    Time { to: u32 },
    /// Loads a part of the x87 unit to a local.
    Get { to: u32, of: Part87, index: Option<Val> },
    /// Stores a part of the x87 unit.
    Put { of: Part87, index: Option<Val>, v: Val },
    /// Sets a local.
    Set { to: u32, v: Val },
    /// Leaves the region if vector instructions may not be used.
    Simd,
    /// Leaves the region unless every 32-bit offset in the segment can be read and written.
    Whole(u8),
    /// Does what is up to [`Step::End`] if the value is not 0.
    If(Val),
    /// See [`Step::If`].
    End,
    /// Leaves the region in front of the instruction.
    Leave,
    /// Leaves it if this is not a canonical address.
    Canonical(Val),
}

/// What is known of the flags where an instruction begins: values in their locals, not sign-extended (`locals.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// They are of this operation in this size.
    Of(FlagOp, Size),
    /// A local says.
    Told,
}

/// Where a branch goes.
#[derive(Clone, Copy, Debug)]
pub struct Jump {
    /// It is taken if this is not 0; `None`: always.
    pub when: Option<Val>,
    /// A RIP.
    pub to: Val,
}

/// One instruction, as its semantics leave it behind.
pub struct Builder<'a> {
    /// Its values.
    pub values: Values,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Where it goes, if it is a branch.
    pub jump: Option<Jump>,
    /// What it writes is right if none of these is 0; else it has to be called.
    pub guards: Vec<Val>,
    /// Steps that are taken only if they are not.
    pub guarded: Vec<Step>,
    /// The registers it reads, numbered as in [`Locals`].
    pub read: u32,
    /// The registers it writes.
    pub regs: [Option<Val>; REGISTERS],
    /// The flags it writes: operation, then `a`, `b`, `r`.
    pub flags: [Option<Val>; 3],
    /// The fields of the CPU it writes that have no local, or a base's.
    pub fields: Vec<(Slot, Val)>,
    /// The operation they are of: known, or a value `op | size << 8`, in which case `a`, `b` and `r` are raw.
    pub flag_op: Option<Op>,
    /// Does it work on the x87 unit and memory alone?
    pub unit: bool,
    /// The parts of the unit it writes, and their locals.
    pub parts: Vec<(Part87, Val, u32)>,
    /// Does it note its address, and that of a memory operand?
    pub noted: Option<bool>,
    /// It needs something that is not compiled.
    pub failed: bool,
    /// Is it known that vector instructions may be used?
    pub simd: bool,
    /// What is known of the x87 unit.
    pub x87: Known,
    /// What is known of the flags before it.
    before: Flags,
    /// What they probably are of, if only a local knows.
    pub likely: Option<(FlagOp, Size)>,
    pub(super) locals: &'a mut Locals,
    /// Mode: 64-bit code?
    long: bool,
    /// The block's first byte, counted from the beginning of the region's page.
    block: i64,
    /// Inside [`Emit::when`].
    depth: u32,
}

/// The operation of new flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It is this; the values are sign-extended.
    Is(FlagOp),
    /// `op | size << 8`; the values are raw.
    Told(Val),
}

impl<'a> Builder<'a> {
    /// For an instruction of a block that begins this far from the beginning of the region's page.
    pub fn new(locals: &'a mut Locals, long: bool, block: i64, before: Flags, simd: bool, x87: Known) -> Self {
        Self {
            values: Values::default(),
            steps: Vec::new(),
            jump: None,
            guards: Vec::new(),
            guarded: Vec::new(),
            unit: false,
            parts: Vec::new(),
            noted: None,
            read: 0,
            regs: [None; REGISTERS],
            flags: [None; 3],
            fields: Vec::new(),
            flag_op: None,
            failed: false,
            simd,
            x87,
            before,
            likely: None,
            locals,
            long,
            block,
            depth: 0,
        }
    }

    /// Bits of RIP.
    fn width(&self) -> u8 {
        if self.long { 64 } else { 32 }
    }

    /// A register as it was before the instruction. Its upper half counts even in 32-bit code: it may be left over
    /// from 64-bit code.
    fn register(&mut self, r: u8) -> Val {
        self.read |= 1 << r;
        let local = self.locals.register(r);
        self.values.local(local, if r < XMM { 64 } else { VECTOR })
    }

    /// A field without a local, as it is now.
    fn field(&mut self, s: Slot, bits: u8) -> Val {
        let set = self.fields.iter().find(|f| f.0 == s).map(|f| f.1);
        set.unwrap_or_else(|| self.values.push(Node::Field(s), bits))
    }
    /// Writes such a field, or a base, when everything else is done.
    fn set_field(&mut self, s: Slot, v: Val) {
        self.failed |= self.depth > 0;
        self.fields.retain(|f| f.0 != s);
        self.fields.push((s, v));
    }

    /// The instruction is not compiled; some value.
    fn fail(&mut self) -> Val {
        self.failed = true;
        self.values.imm(0)
    }

    /// Can a branch to this RIP fault? The region's page is there; and code without limit has no other addresses.
    fn may_leave_canonical(&self, to: Val) -> bool {
        self.long && !matches!(self.values.node(to), Node::Rip(_))
    }
    fn check_target(&mut self, to: Val) {
        if self.may_leave_canonical(to) {
            self.steps.push(Step::Canonical(to));
        }
    }

    /// Does MXCSR let floating point take the fast way?
    fn fast(&mut self) -> Val {
        let local = self.locals.fast();
        self.values.local(local, 2)
    }
    /// The value, which is right if the instruction's guard holds.
    fn guarded(&mut self, r: Guarded) -> Val {
        self.guards.extend(r.guards);
        r.value
    }

    /// Leaves the region if the value is not 0.
    fn leave_if(&mut self, c: Val) {
        if self.values.constant(c) != Some(0) {
            self.steps.extend([Step::If(c), Step::Leave, Step::End]);
        }
    }

    fn flag(&mut self, n: usize) -> Val {
        if let Some(v) = self.flags[n] {
            return v;
        }
        let local = self.locals.flag(n);
        let raw = self.values.local(local, 64);
        match self.before {
            Flags::Of(_, size) => self.values.sx(size, raw),
            Flags::Told => raw,
        }
    }

    /// `op | size << 8` of the flags before the instruction, of which only a local knows.
    fn told_before(&mut self) -> Val {
        let local = self.locals.flag_op();
        self.values.local(local, 16)
    }

    /// CF of flags of which only a local knows the operation. The cases are those of [`crate::flags::cf_of_op`].
    fn carry_told(&mut self) -> Val {
        let rest = self.carry_of_any();
        let Some((op, size)) = self.likely else { return rest };
        let (is, likely) = (self.told_before(), self.values.imm(told(op, size)));
        let is = self.values.bin(Bin::Eq, is, likely);
        let before = replace(&mut self.before, Flags::Of(op, size));
        let c = flags::cf_of_op(self, op, ());
        self.before = before;
        self.values.likely(is, c, rest)
    }

    fn carry_of_any(&mut self) -> Val {
        let [a, b, r] = [0, 1, 2].map(|n| self.flag(n));
        let told = self.told_before();
        let v = &mut self.values;
        let [one, eight, most, all] = [1, 8, 63, u64::MAX].map(|c| v.imm(c));
        // Their top bits at the top: 64 - 8 * size.
        let (three, full) = (v.imm(3), v.imm(64));
        let size = v.bin(Bin::Shr, told, eight);
        let bits = v.bin(Bin::Shl, size, three);
        let up = v.bin(Bin::Sub, full, bits);
        let up = v.bin(Bin::And, up, most);
        let [x, y, z] = [a, b, r].map(|n| v.bin(Bin::Shl, n, up));
        let (not_x, not_z) = (v.bin(Bin::Xor, x, all), v.bin(Bin::Xor, z, all));
        let mut sum = |x, not_z| {
            let (both, any) = (v.bin(Bin::And, x, y), v.bin(Bin::Or, x, y));
            let through = v.bin(Bin::And, any, not_z);
            let out = v.bin(Bin::Or, both, through);
            v.bin(Bin::Shr, out, most)
        };
        let (carry, borrow) = (sum(x, not_z), sum(not_x, z));
        let [kept, given, image] = [b, a, r].map(|n| v.bin(Bin::And, n, one));
        let (above, below) = (v.bin(Bin::LtU, z, x), v.bin(Bin::LtU, x, y));
        let fifteen = v.imm(15);
        let op = v.bin(Bin::And, told, fifteen);
        let cases = [
            (FlagOp::Image, image),
            (FlagOp::Given, given),
            (FlagOp::Inc, kept),
            (FlagOp::Dec, kept),
            (FlagOp::Adc, carry),
            (FlagOp::Sbb, borrow),
            (FlagOp::Add, above),
            (FlagOp::Sub, below),
        ];
        // The rest is `Logic`.
        cases.into_iter().fold(v.imm(0), |rest, (of, c)| {
            let of = v.imm(of as u64);
            let is = v.bin(Bin::Eq, op, of);
            v.select(is, c, rest)
        })
    }

    /// The operation the flags belong to now. If only a local knows, they become an image.
    #[inline(never)]
    fn known_flags(&mut self) -> FlagOp {
        match (self.flag_op, self.before) {
            (Some(Op::Is(op)), _) | (None, Flags::Of(op, _)) => op,
            (told, _) => {
                let of = match told {
                    Some(Op::Told(op)) => op,
                    _ => self.told_before(),
                };
                let [a, b, r] = [0, 1, 2].map(|n| self.flag(n));
                let image = self.values.image([of, a, b, r]);
                self.flags = [None, None, Some(image)];
                self.flag_op = Some(Op::Is(FlagOp::Image));
                FlagOp::Image
            }
        }
    }

    /// The new flags as raw values and `op | size << 8`; values that do not count are left out.
    pub fn raw_flags(&mut self) -> Option<([Option<Val>; 3], Raw)> {
        let op = match (self.flag_op, self.before) {
            (Some(Op::Told(op)), _) => return Some((self.flags, Raw::Told(op))),
            (Some(Op::Is(op)), _) => op,
            // Bits of an image change, and it stays one.
            (None, Flags::Of(op, _)) if self.flags.iter().any(Option::is_some) => op,
            (None, _) => return None,
        };
        // All have to be of one size. Small values may be taken for sign-extended ones of any.
        let size = self.flags.iter().flatten().find_map(|&v| match self.values.node(v) {
            Node::Sx(size, _) => Some(size),
            _ => None,
        });
        let fits = |size: Size| {
            self.flags.iter().flatten().all(|&v| match self.values.node(v) {
                Node::Sx(s, _) => s == size,
                _ => u32::from(self.values.bits(v)) < size.bits(),
            })
        };
        let size = size.filter(|&s| op != FlagOp::Image && fits(s)).unwrap_or(Size::B8);
        let raw = self.flags.map(|v| {
            v.map(|v| match self.values.node(v) {
                Node::Sx(s, x) if s == size => x,
                _ => v,
            })
        });
        Some((raw, Raw::Is(op, size)))
    }

    /// The value of a local that a step sets.
    fn temporary(&mut self, bits: u8) -> (u32, Val) {
        let local = self.locals.take(if bits == VECTOR { ValType::V128 } else { ValType::I64 });
        (local, self.values.local(local, bits))
    }

    /// What the last step has loaded to this local, as a vector, if it is as large as a number.
    fn loaded_low(&mut self, lo: Val, local: u32) -> Option<Val> {
        let (at, size) = match *self.steps.last()? {
            Step::Load { to, at, size: size @ (Size::B4 | Size::B8) } if to == local => (at, size),
            _ => return None,
        };
        let (to, v) = self.temporary(VECTOR);
        *self.steps.last_mut()? = Step::LoadLow { to, at, size };
        self.values.becomes_lane(lo, size, v);
        Some(v)
    }

    /// `op | size << 8` of the flags as they are now.
    #[inline(never)]
    fn told(&mut self) -> ([Val; 3], Val) {
        match (self.raw_flags(), self.before) {
            (Some((raw, is)), _) => {
                let zero = self.values.imm(0);
                let of = match is {
                    Raw::Told(v) => v,
                    Raw::Is(op, size) => self.values.imm(told(op, size)),
                };
                (raw.map(|v| v.unwrap_or(zero)), of)
            }
            (None, before) => {
                let raw = [0, 1, 2].map(|n| {
                    let local = self.locals.flag(n);
                    self.values.local(local, 64)
                });
                let of = match before {
                    Flags::Of(op, size) => self.values.imm(told(op, size)),
                    Flags::Told => self.told_before(),
                };
                (raw, of)
            }
        }
    }
}

/// New flags: what they are of.
#[derive(Clone, Copy, Debug)]
pub enum Raw {
    /// Known.
    Is(FlagOp, Size),
    /// A value `op | size << 8`.
    Told(Val),
}

impl Raw {
    /// Such a value.
    pub fn value(self) -> Option<Val> {
        match self {
            Self::Is(..) => None,
            Self::Told(v) => Some(v),
        }
    }
}
