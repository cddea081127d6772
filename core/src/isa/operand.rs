//! Operands of instructions: registers, memory and immediates behind a few functions, and the
//! [`Form`] that lets the interpreter's hot forms know them when they are compiled.

use crate::decode::insn::{Ea, Insn, Stack, opnd};
use crate::emit::{Emit, Linear, Slot};
use crate::flags::FlagOp;
use crate::size::Size;
use core::ops::Deref;

/// An instruction as semantics see it: the [`Insn`], with some of its fields perhaps known
/// at compile time.
pub trait Form: Copy + Deref<Target = Insn> {
    /// Operand size.
    fn size(self) -> Size;
    /// Is the first operand memory?
    fn a_mem(self) -> bool;
    /// Is the second operand memory?
    fn b_mem(self) -> bool;
    /// Is the second operand an immediate?
    fn b_imm(self) -> bool;
    /// May registers be AH, CH, DH or BH?
    fn high(self) -> bool;
    /// May registers of a vector instruction be MMX registers?
    fn mmx(self) -> bool;
    /// How the memory operand is addressed.
    fn ea(self) -> Ea;
    /// How the stack is addressed.
    fn stack(self) -> Stack;
    /// The condition code.
    fn cc(self) -> u8;
    /// The operation that set the flags, if the block says so.
    fn flag_op(self) -> Option<FlagOp>;
}

/// Nothing is known.
#[derive(Clone, Copy)]
pub struct Any<'a>(pub &'a Insn);

impl Deref for Any<'_> {
    type Target = Insn;
    #[inline(always)]
    fn deref(&self) -> &Insn {
        self.0
    }
}
impl Form for Any<'_> {
    #[inline(always)]
    fn size(self) -> Size {
        self.0.size
    }
    #[inline(always)]
    fn a_mem(self) -> bool {
        self.0.a == opnd::MEM
    }
    #[inline(always)]
    fn b_mem(self) -> bool {
        self.0.b == opnd::MEM
    }
    #[inline(always)]
    fn b_imm(self) -> bool {
        self.0.b == opnd::IMM
    }
    #[inline(always)]
    fn high(self) -> bool {
        true
    }
    #[inline(always)]
    fn mmx(self) -> bool {
        true
    }
    #[inline(always)]
    fn ea(self) -> Ea {
        self.0.ea
    }
    #[inline(always)]
    fn stack(self) -> Stack {
        self.0.stack
    }
    #[inline(always)]
    fn cc(self) -> u8 {
        self.0.sub
    }
    #[inline(always)]
    fn flag_op(self) -> Option<FlagOp> {
        None
    }
}

/// Kinds of operands of a hot form.
pub mod kind {
    /// A general register (not AH..BH).
    pub const R: u8 = 0;
    /// Memory without a segment to check.
    pub const M: u8 = 1;
    /// An immediate.
    pub const I: u8 = 2;
    /// Whatever it is, the semantics do not ask.
    pub const N: u8 = 3;
    /// An XMM register.
    pub const X: u8 = 4;
}

/// What set the flags a conditional branch reads, where the block tells.
pub mod after {
    /// Unknown.
    pub const ANY: u8 = 0;
    /// CMP, SUB or NEG.
    pub const SUB: u8 = 1;
    /// TEST, AND, OR or XOR.
    pub const LOGIC: u8 = 2;
}

/// The operand size is not known.
pub const NO_SIZE: u8 = 0;

/// No condition code is known.
pub const NO_CC: u8 = 16;

/// Size, kinds of the first two operands and perhaps the condition are known. Memory is
/// addressed without a segment, and with 64-bit operands with 64-bit addresses.
#[derive(Clone, Copy)]
pub struct Hot<'a, const SIZE: u8, const A: u8, const B: u8, const CC: u8, const AFTER: u8>(pub &'a Insn);

impl<const SIZE: u8, const A: u8, const B: u8, const CC: u8, const AFTER: u8> Deref for Hot<'_, SIZE, A, B, CC, AFTER> {
    type Target = Insn;
    #[inline(always)]
    fn deref(&self) -> &Insn {
        self.0
    }
}
impl<const SIZE: u8, const A: u8, const B: u8, const CC: u8, const AFTER: u8> Form for Hot<'_, SIZE, A, B, CC, AFTER> {
    #[inline(always)]
    fn size(self) -> Size {
        match SIZE {
            1 => Size::B1,
            2 => Size::B2,
            4 => Size::B4,
            8 => Size::B8,
            _ => self.0.size,
        }
    }
    #[inline(always)]
    fn a_mem(self) -> bool {
        A == kind::M
    }
    #[inline(always)]
    fn b_mem(self) -> bool {
        B == kind::M
    }
    #[inline(always)]
    fn b_imm(self) -> bool {
        B == kind::I
    }
    #[inline(always)]
    fn high(self) -> bool {
        false
    }
    #[inline(always)]
    fn mmx(self) -> bool {
        A != kind::X && B != kind::X
    }
    #[inline(always)]
    fn ea(self) -> Ea {
        // `hot::select` admits no other.
        if SIZE == 8 || self.0.ea == Ea::Flat64 { Ea::Flat64 } else { Ea::Flat32 }
    }
    #[inline(always)]
    fn stack(self) -> Stack {
        // Pushes of 64 bits exist in 64-bit mode only.
        if SIZE == 8 { Stack::Flat64 } else { self.0.stack }
    }
    #[inline(always)]
    fn cc(self) -> u8 {
        if CC < NO_CC { CC } else { self.0.sub }
    }
    #[inline(always)]
    fn flag_op(self) -> Option<FlagOp> {
        match AFTER {
            after::SUB => Some(FlagOp::Sub),
            after::LOGIC => Some(FlagOp::Logic),
            _ => None,
        }
    }
}

/// Reads a general register, zero-extended.
#[inline(always)]
pub fn reg<E: Emit>(e: &mut E, r: u8, size: Size, high: bool) -> E::Val {
    if high && r & opnd::HIGH != 0 {
        let v = e.get(Slot::Gpr(r & 3));
        let v = e.shri(v, 8);
        return e.andi(v, 0xff);
    }
    let v = e.get(Slot::Gpr(r));
    e.zx(size, v)
}

/// Writes a general register: 32-bit writes clear the upper half, smaller ones keep the rest.
/// `v` is zero-extended.
#[inline(always)]
pub fn set_reg<E: Emit>(e: &mut E, r: u8, size: Size, high: bool, v: E::Val) {
    match size {
        Size::B8 | Size::B4 => e.set(Slot::Gpr(r), v),
        _ if high && r & opnd::HIGH != 0 => {
            let r = r & 3;
            let old = e.get(Slot::Gpr(r));
            let old = e.andi(old, !0xff00);
            let v = e.shli(v, 8);
            let v = e.or(old, v);
            e.set(Slot::Gpr(r), v);
        }
        _ => {
            let old = e.get(Slot::Gpr(r));
            let old = e.andi(old, !size.mask());
            let v = e.or(old, v);
            e.set(Slot::Gpr(r), v);
        }
    }
}

/// base + index * scale + displacement, in the address size.
#[inline(always)]
pub fn offset<E: Emit>(e: &mut E, i: &Insn) -> E::Val {
    let base = e.get(Slot::Gpr(i.base));
    let index = e.get(Slot::Gpr(i.index));
    let index = e.shli(index, u32::from(i.scale));
    let disp = e.imm(i.disp as i64 as u64);
    let sum = e.add(base, index);
    e.add(sum, disp)
}

/// The offset with the wrap of its address size (LEA).
#[inline(always)]
pub fn wrapped_offset<E: Emit>(e: &mut E, i: &Insn) -> E::Val {
    let off = offset(e, i);
    match i.asize {
        8 => off,
        4 => e.andi(off, 0xffff_ffff),
        _ => e.andi(off, 0xffff),
    }
}

/// The linear address of the memory operand, `size` bytes.
///
/// # Errors
/// Segment faults.
#[inline(always)]
pub fn linear_of<E: Emit, F: Form>(e: &mut E, i: F, size: u8, write: bool) -> Result<Linear<E::Val>, E::Stop> {
    let stack = i.stack_ea();
    let off = offset(e, &i);
    match i.ea() {
        Ea::Flat64 => Ok(Linear { at: off, stack }),
        Ea::Flat32 => Ok(Linear { at: e.andi(off, 0xffff_ffff), stack }),
        Ea::Based64 => {
            let off = if i.asize == 4 { e.andi(off, 0xffff_ffff) } else { off };
            let base = if i.seg >= 4 { e.get(Slot::SegBase(i.seg)) } else { e.imm(0) };
            Ok(Linear { at: e.add(base, off), stack })
        }
        Ea::Segmented => segmented(e, &i, size, write),
    }
}

/// [`linear_of`] of an instruction nothing is known about.
///
/// # Errors
/// Segment faults.
pub fn linear<E: Emit>(e: &mut E, i: &Insn, size: u8, write: bool) -> Result<Linear<E::Val>, E::Stop> {
    linear_of(e, Any(i), size, write)
}

/// Kept out of line: real mode, 16-bit code, segments that are not flat.
#[inline(never)]
fn segmented<E: Emit>(e: &mut E, i: &Insn, size: u8, write: bool) -> Result<Linear<E::Val>, E::Stop> {
    let off = wrapped_offset(e, i);
    e.segmented(i.seg, off, size, write)
}

/// Reads the first operand.
///
/// # Errors
/// Faults of the memory operand.
#[inline(always)]
pub fn read_a<E: Emit, F: Form>(e: &mut E, f: F) -> Result<E::Val, E::Stop> {
    if f.a_mem() {
        let at = linear_of(e, f, f.size() as u8, false)?;
        e.load(at, f.size())
    } else {
        Ok(reg(e, f.a, f.size(), f.high()))
    }
}

/// Reads the second operand.
///
/// # Errors
/// Faults of the memory operand.
#[inline(always)]
pub fn read_b<E: Emit, F: Form>(e: &mut E, f: F) -> Result<E::Val, E::Stop> {
    read_b_as(e, f, f.size())
}

/// Reads the second operand with a size of its own (MOVZX, shifts).
///
/// # Errors
/// Faults of the memory operand.
#[inline(always)]
pub fn read_b_as<E: Emit, F: Form>(e: &mut E, f: F, size: Size) -> Result<E::Val, E::Stop> {
    if f.b_imm() {
        Ok(e.imm(size.zx(f.imm)))
    } else if f.b_mem() {
        let at = linear_of(e, f, size as u8, false)?;
        e.load(at, size)
    } else {
        Ok(reg(e, f.b, size, f.high()))
    }
}

/// Writes the first operand. `v` is zero-extended.
///
/// # Errors
/// Faults of the memory operand; registers and flags must not have changed yet.
#[inline(always)]
pub fn write_a<E: Emit, F: Form>(e: &mut E, f: F, v: E::Val) -> Result<(), E::Stop> {
    if f.a_mem() {
        let at = linear_of(e, f, f.size() as u8, true)?;
        e.store(at, f.size(), v)
    } else {
        set_reg(e, f.a, f.size(), f.high(), v);
        Ok(())
    }
}

/// Replaces the first operand by what `g` makes of it; `g` may commit flags. Returns the old
/// value.
///
/// # Errors
/// Faults of the memory operand, before `g` runs.
#[inline(always)]
pub fn modify_a<E: Emit, F: Form>(
    e: &mut E,
    f: F,
    g: impl FnOnce(&mut E, E::Val) -> E::Val,
) -> Result<E::Val, E::Stop> {
    if f.a_mem() {
        let at = linear_of(e, f, f.size() as u8, true)?;
        e.modify(at, f.size(), g)
    } else {
        let old = reg(e, f.a, f.size(), f.high());
        let new = g(e, old);
        set_reg(e, f.a, f.size(), f.high(), new);
        Ok(old)
    }
}

/// `sp + delta` with the wrap of the stack.
#[inline(always)]
pub fn stack_add<E: Emit, F: Form>(e: &mut E, i: F, sp: E::Val, delta: i64) -> E::Val {
    let d = e.imm(delta as u64);
    let new = e.add(sp, d);
    match i.stack() {
        Stack::Flat64 => new,
        Stack::Flat32 | Stack::Seg32 => e.andi(new, 0xffff_ffff),
        Stack::Seg16 => e.andi(new, 0xffff),
    }
}

/// The stack pointer as an offset in SS.
#[inline(always)]
pub fn stack_ptr<E: Emit, F: Form>(e: &mut E, i: F) -> E::Val {
    let sp = e.get(Slot::Gpr(4));
    match i.stack() {
        Stack::Flat64 => sp,
        Stack::Flat32 | Stack::Seg32 => e.andi(sp, 0xffff_ffff),
        Stack::Seg16 => e.andi(sp, 0xffff),
    }
}

/// Sets the stack pointer (16-bit stacks keep the upper half of ESP).
#[inline(always)]
pub fn set_stack_ptr<E: Emit, F: Form>(e: &mut E, i: F, sp: E::Val) {
    if i.stack() == Stack::Seg16 {
        set_reg(e, 4, Size::B2, false, sp);
    } else {
        e.set(Slot::Gpr(4), sp);
    }
}

/// The linear address of an offset in SS.
///
/// # Errors
/// #SS.
#[inline(always)]
pub fn stack_linear<E: Emit, F: Form>(
    e: &mut E,
    i: F,
    sp: E::Val,
    size: Size,
    write: bool,
) -> Result<Linear<E::Val>, E::Stop> {
    match i.stack() {
        Stack::Flat64 | Stack::Flat32 => Ok(Linear { at: sp, stack: true }),
        _ => e.segmented(2, sp, size as u8, write),
    }
}

/// Pushes `v`.
///
/// # Errors
/// Faults of the stack; RSP is unchanged then.
#[inline(always)]
pub fn push<E: Emit, F: Form>(e: &mut E, i: F, size: Size, v: E::Val) -> Result<(), E::Stop> {
    let sp = stack_ptr(e, i);
    let sp = stack_add(e, i, sp, -(size as i64));
    let at = stack_linear(e, i, sp, size, true)?;
    e.store(at, size, v)?;
    set_stack_ptr(e, i, sp);
    Ok(())
}

/// The value on top of the stack, and the stack pointer after it is popped.
///
/// # Errors
/// Faults of the stack.
#[inline(always)]
pub fn peek<E: Emit, F: Form>(e: &mut E, i: F, size: Size) -> Result<(E::Val, E::Val), E::Stop> {
    let sp = stack_ptr(e, i);
    let at = stack_linear(e, i, sp, size, false)?;
    let v = e.load(at, size)?;
    let after = stack_add(e, i, sp, size as i64);
    Ok((v, after))
}
