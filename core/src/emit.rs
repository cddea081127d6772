//! The vocabulary of instructions. Semantics (`isa/`) are generic functions over [`Emit`]:
//! the interpreter does what they say at once, the JIT writes code that does it later.
//!
//! Values are 64 bits wide; an operand of a smaller size is kept zero-extended.

use crate::cpu::fpu::Arith;
use crate::cpu::{Cpu, Done};
use crate::decode::insn::Insn;
use crate::flags::{self, FlagOp};
use crate::isa::Handler;
use crate::size::Size;
use crate::vector::{V128, VecImm, VecOp, VecShift};

/// A 64-bit operation on two values. Comparisons give 0 or 1; shift counts are taken modulo 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Bin {
    Add,
    Sub,
    Mul,
    /// High half of the unsigned 128-bit product.
    MulHiU,
    /// High half of the signed 128-bit product.
    MulHiS,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Sar,
    Eq,
    Ne,
    LtU,
    LtS,
}

impl Bin {
    /// Does it.
    #[inline(always)]
    pub fn run(self, a: u64, b: u64) -> u64 {
        match self {
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::MulHiU => ((u128::from(a) * u128::from(b)) >> 64) as u64,
            Self::MulHiS => ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64,
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            Self::Shl => a.wrapping_shl(b as u32),
            Self::Shr => a.wrapping_shr(b as u32),
            Self::Sar => (a as i64).wrapping_shr(b as u32) as u64,
            Self::Eq => u64::from(a == b),
            Self::Ne => u64::from(a != b),
            Self::LtU => u64::from(a < b),
            Self::LtS => u64::from((a as i64) < b as i64),
        }
    }
}

/// A 64-bit operation on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Un {
    /// Leading zeros of 64.
    Clz,
    /// Trailing zeros of 64.
    Ctz,
    Popcnt,
    /// Reverses eight bytes.
    Bswap,
    /// 1 if the low byte has an even number of ones.
    Parity,
}

/// A place in the CPU state that instructions name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A general register or one of `decode::insn::slot`, all 64 bits.
    Gpr(u8),
    /// First operand of the last flag-setting operation (`flags.rs`).
    FlagA,
    /// Second operand.
    FlagB,
    /// Result.
    FlagR,
    /// The base of a segment, by number.
    SegBase(u8),
    /// RFLAGS without the six arithmetic flags. Set like this only where IF or DF changes.
    System,
    /// The selector of a segment, by number; only read.
    Selector(u8),
    /// IA32_KERNEL_GS_BASE.
    KernelGsBase,
    /// The current privilege level; only read.
    Cpl,
    /// CR4; only read.
    Cr4,
}

/// A mode of the processor (SDM 3A 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Protected mode with all its submodes: CR0.PE.
    Protected,
    /// Virtual-8086 mode.
    V86,
    /// 64-bit mode.
    Long,
}

/// A unit of the CPU that may be switched off (CR0.EM, CR0.TS, CR4.OSFXSR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// XMM registers and MXCSR.
    Sse,
    /// MMX registers, which are the x87's.
    Mmx,
    /// Both.
    SseMmx,
}

/// Floating-point numbers in a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floats {
    /// Four f32.
    Ps,
    /// Two f64.
    Pd,
    /// An f32; what is above it is not part of it.
    Ss,
    /// An f64; likewise.
    Sd,
}

/// An operation on floating-point numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum FloatOp {
    Add,
    Sub,
    Mul,
    Div,
    /// `b` when equal or unordered.
    Min,
    /// `b` when equal or unordered.
    Max,
    /// Of `b`.
    Sqrt,
    /// All ones or zero, by a predicate from 0 to 7 (SDM 2, CMPPD table 3-1).
    Compare(u8),
}

/// A conversion of the numbers in a vector; where the result is smaller, zeros follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Dq: 32-bit integers")]
pub enum FloatConversion {
    PsToPd,
    PdToPs,
    DqToPs,
    DqToPd,
    PsToDq,
    PdToDq,
    /// Truncates.
    PsToDqT,
    /// Truncates.
    PdToDqT,
}

/// A number that an x87 instruction works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number<V> {
    /// ST(i).
    St(u8),
    /// The bits of an f32.
    Single(V),
    /// The bits of an f64.
    Double(V),
    /// An integer, sign-extended.
    Integer(V),
    /// +1.
    One,
    /// +0.
    Zero,
}

/// What an x87 instruction does to the unit ([`Fpu`](crate::cpu::fpu::Fpu)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit87<V> {
    /// Pushes a number.
    Load(Number<V>),
    /// ST(i) = ST(i) op number, then pops if asked for.
    Arith(Arith, u8, Number<V>, bool),
    /// FCHS.
    Negate,
    /// FABS.
    Absolute,
    /// FSQRT.
    Root,
    /// FXCH with ST(i).
    Exchange(u8),
    /// ST(i) = ST(0), then pops if asked for.
    Copy(u8, bool),
    /// FCOM, or FUCOM if it is `quiet`, and so many pops.
    Compare {
        /// With this number.
        with: Number<V>,
        /// Quiet NaNs are no exception.
        quiet: bool,
        /// How often it pops.
        pops: u8,
    },
}

/// A linear address.
#[derive(Clone, Copy, Debug)]
pub struct Linear<V> {
    /// The address.
    pub at: V,
    /// Was it made with SS? A non-canonical address then faults as #SS.
    pub stack: bool,
}

/// What an instruction can do.
///
/// Order inside an instruction: read, compute, store to memory, then commit registers and
/// flags. Whatever can stop stops before the commit, and the fault is precise.
pub trait Emit: Sized {
    /// A 64-bit value.
    type Val: Copy;
    /// A 128-bit value.
    type Vec: Copy;
    /// Why an instruction did not complete.
    type Stop;
    /// Should each instruction have a copy of what it shares with others? Whoever runs them is quicker so, and whoever
    /// only writes them down is smaller without.
    const COPIES: bool;

    /// A constant.
    fn imm(&mut self, v: u64) -> Self::Val;
    /// Reads a slot.
    fn get(&mut self, s: Slot) -> Self::Val;
    /// Writes a slot.
    fn set(&mut self, s: Slot, v: Self::Val);
    /// `a op b`.
    fn bin(&mut self, op: Bin, a: Self::Val, b: Self::Val) -> Self::Val;
    /// `op a`.
    fn un(&mut self, op: Un, a: Self::Val) -> Self::Val;
    /// `c != 0 ? yes : no`; both are computed.
    fn select(&mut self, c: Self::Val, yes: Self::Val, no: Self::Val) -> Self::Val;
    /// Does `then` if `c != 0`.
    ///
    /// # Errors
    /// What `then` returns.
    fn when(&mut self, c: Self::Val, then: impl FnOnce(&mut Self) -> Result<(), Self::Stop>) -> Result<(), Self::Stop>;
    /// Loads `size` bytes, zero-extended.
    ///
    /// # Errors
    /// A fault of the address.
    fn load(&mut self, at: Linear<Self::Val>, size: Size) -> Result<Self::Val, Self::Stop>;
    /// Stores the low `size` bytes of `v`.
    ///
    /// # Errors
    /// A fault of the address.
    fn store(&mut self, at: Linear<Self::Val>, size: Size, v: Self::Val) -> Result<(), Self::Stop>;
    /// Loads, computes, stores back, as one locked operation. The access is checked for writing
    /// first, so `f` may commit. Returns the old value.
    ///
    /// # Errors
    /// A fault of the address, before `f` runs.
    fn modify(
        &mut self,
        at: Linear<Self::Val>,
        size: Size,
        f: impl FnOnce(&mut Self, Self::Val) -> Self::Val,
    ) -> Result<Self::Val, Self::Stop>;
    /// The linear address of `size` bytes at `offset` of a segment, checked for type and limit.
    ///
    /// # Errors
    /// #GP or #SS.
    fn segmented(&mut self, seg: u8, offset: Self::Val, size: u8, write: bool)
    -> Result<Linear<Self::Val>, Self::Stop>;
    /// A fault with error code 0 where the exception has one.
    fn raise(&mut self, v: crate::cpu::Vector) -> Self::Stop;
    /// Goes to `target`, a RIP, after checking it.
    ///
    /// # Errors
    /// #GP(0) if the target lies beyond the code segment's limit or is not canonical.
    fn jump(&mut self, target: Self::Val) -> Result<(), Self::Stop>;
    /// Goes to `target` if `c != 0`.
    ///
    /// # Errors
    /// As [`Emit::jump`].
    #[inline(always)]
    fn jump_if(&mut self, c: Self::Val, target: Self::Val) -> Result<(), Self::Stop> {
        self.when(c, |e| e.jump(target))
    }

    /// Says what operation the flag slots belong to.
    fn set_flag_op(&mut self, op: FlagOp);
    /// Does `f` with `x` for the operation the flag slots belong to. Whoever knows it at compile
    /// time emits one case.
    fn by_flag_op<T, X: Copy>(&mut self, f: impl Fn(&mut Self, FlagOp, X) -> T, x: X) -> T;
    /// As [`Emit::by_flag_op`], where `f` treats all operations but [`FlagOp::Image`] alike.
    fn by_flag_image<T, X: Copy>(&mut self, f: impl Fn(&mut Self, FlagOp, X) -> T, x: X) -> T;

    /// CF as 0 or 1.
    #[inline(always)]
    fn carry(&mut self) -> Self::Val {
        self.by_flag_op(flags::cf_of_op, ())
    }

    /// Records what the flags of `r = a op b` in this size would be. `a`, `b` and `r` are
    /// zero-extended.
    #[inline(always)]
    fn flags(&mut self, op: FlagOp, size: Size, a: Self::Val, b: Self::Val, r: Self::Val) {
        flags::record(self, op, size, a, b, r);
    }

    /// Is this the mode? 0 or 1.
    fn mode_is(&mut self, mode: Mode) -> Self::Val;
    /// Sets all of RFLAGS but the arithmetic flags, and what follows from it. Nothing may be committed before.
    ///
    /// # Errors
    /// None that an instruction sees.
    fn set_system(&mut self, v: Self::Val) -> Result<(), Self::Stop>;
    /// IF changes from 0 to 1 if `c != 0`. Interrupts are let in behind the instruction, or behind the next one if this
    /// one holds them off (`held`). Nothing may be committed before.
    ///
    /// # Errors
    /// None that an instruction sees.
    fn let_interrupts_in(&mut self, c: Self::Val, held: bool) -> Result<(), Self::Stop>;
    /// Interrupts and debug exceptions are held off behind the next instruction (MOV SS, POP SS).
    fn hold_off(&mut self);
    /// Sets or clears RFLAGS.AC, at privilege level 0.
    fn set_ac(&mut self, on: bool);
    /// Loads a segment register other than CS. Nothing may be committed before.
    ///
    /// # Errors
    /// #GP, #SS, #NP with the selector; page faults of the table.
    fn load_segment(&mut self, s: u8, selector: Self::Val) -> Result<(), Self::Stop>;
    /// The time stamp counter as the guest sees it. The instruction has to end its block: only there the time is exact.
    fn time_stamp(&mut self) -> Self::Val;
    /// Does what is too large for compiled code.
    ///
    /// # Errors
    /// What the function returns.
    fn whole(&mut self, i: &Insn, f: fn(&mut Cpu, &Insn) -> Done) -> Result<(), Self::Stop>;
    /// The quotient of the 128-bit number `hi:lo` and `d`, rounded toward zero. Nothing may be committed before.
    ///
    /// # Errors
    /// #DE if it does not fit 64 bits, or `d` is 0.
    fn divide(&mut self, signed: bool, hi: Self::Val, lo: Self::Val, d: Self::Val) -> Result<Self::Val, Self::Stop>;

    // Vectors. ----------------------------------------------------------------------------

    /// May the unit be used now? First thing in every instruction of it.
    ///
    /// # Errors
    /// #UD, #NM, #MF.
    fn simd(&mut self, unit: Unit) -> Result<(), Self::Stop>;
    /// Reads XMM `n`.
    fn vget(&mut self, n: u8) -> Self::Vec;
    /// Writes XMM `n`.
    fn vset(&mut self, n: u8, v: Self::Vec);
    /// Reads MM `n`.
    fn mget(&mut self, n: u8) -> Self::Val;
    /// Writes MM `n`. Implies [`Emit::enter_mmx`].
    fn mset(&mut self, n: u8, v: Self::Val);
    /// TOP = 0 and all tags valid, as every MMX instruction that completes leaves it.
    fn enter_mmx(&mut self);
    /// Loads 16 bytes.
    ///
    /// # Errors
    /// A fault of the address; #GP(0) if it must be and is not a multiple of 16.
    fn vload(&mut self, at: Linear<Self::Val>, aligned: bool) -> Result<Self::Vec, Self::Stop>;
    /// Stores 16 bytes.
    ///
    /// # Errors
    /// As [`Emit::vload`].
    fn vstore(&mut self, at: Linear<Self::Val>, aligned: bool, v: Self::Vec) -> Result<(), Self::Stop>;
    /// As [`Emit::modify`], of 16 aligned bytes.
    ///
    /// # Errors
    /// As [`Emit::vload`], before `f` runs.
    fn vmodify(
        &mut self,
        at: Linear<Self::Val>,
        f: impl FnOnce(&mut Self, Self::Vec) -> Self::Vec,
    ) -> Result<Self::Vec, Self::Stop>;
    /// A constant.
    fn vimm(&mut self, v: V128) -> Self::Vec;
    /// A vector of two halves, the low one first.
    fn vpair(&mut self, lo: Self::Val, hi: Self::Val) -> Self::Vec;
    /// Lane `k`, zero-extended.
    fn vextract(&mut self, v: Self::Vec, lane: Size, k: u8) -> Self::Val;
    /// `v` with lane `k` replaced by the low bits of `x`.
    fn vinsert(&mut self, v: Self::Vec, lane: Size, k: u8, x: Self::Val) -> Self::Vec;
    /// The sign bits of the lanes, lane 0 in bit 0.
    fn vsigns(&mut self, v: Self::Vec, lane: Size) -> Self::Val;
    /// `a op b`.
    fn vec(&mut self, op: VecOp, a: Self::Vec, b: Self::Vec) -> Self::Vec;
    /// `a op b` with a constant.
    fn vec_imm(&mut self, op: VecImm, a: Self::Vec, b: Self::Vec, imm: u8) -> Self::Vec;
    /// All lanes of `v` shifted by the whole of `count`.
    fn vec_shift(&mut self, op: VecShift, v: Self::Vec, count: Self::Val) -> Self::Vec;

    // Floating point of SSE, with MXCSR's controls and flags. -------------------------------

    /// `a op b`; what is not part of it is `a`'s.
    ///
    /// # Errors
    /// #XM (#UD without CR4.OSXMMEXCPT).
    fn float(&mut self, op: FloatOp, of: Floats, a: Self::Vec, b: Self::Vec) -> Result<Self::Vec, Self::Stop>;
    /// ZF, PF and CF of a comparison of the low numbers; quiet NaNs are an exception if it is `signaling`.
    ///
    /// # Errors
    /// As [`Emit::float`].
    fn float_relation(
        &mut self,
        signaling: bool,
        of: Floats,
        a: Self::Vec,
        b: Self::Vec,
    ) -> Result<Self::Val, Self::Stop>;
    /// The numbers of `b` in another format.
    ///
    /// # Errors
    /// As [`Emit::float`].
    fn float_convert(&mut self, how: FloatConversion, b: Self::Vec) -> Result<Self::Vec, Self::Stop>;
    /// The low number of `b` in the other format of floating-point numbers, above it `a`; `of` is that of the result.
    ///
    /// # Errors
    /// As [`Emit::float`].
    fn float_resize(&mut self, of: Floats, a: Self::Vec, b: Self::Vec) -> Result<Self::Vec, Self::Stop>;
    /// The integer `x` as the low number, above it `a`. `x` is sign-extended from `size`.
    ///
    /// # Errors
    /// As [`Emit::float`].
    fn float_of_int(&mut self, of: Floats, a: Self::Vec, x: Self::Val, size: Size) -> Result<Self::Vec, Self::Stop>;
    /// The low number of `b` as an integer of `size`, zero-extended.
    ///
    /// # Errors
    /// As [`Emit::float`].
    fn float_to_int(&mut self, of: Floats, b: Self::Vec, truncate: bool, size: Size) -> Result<Self::Val, Self::Stop>;

    // The x87 unit. ------------------------------------------------------------------------

    /// May it be used, and is no exception pending? First thing in every instruction of it that waits.
    ///
    /// # Errors
    /// #NM, #MF, or waiting for FERR#.
    fn x87(&mut self) -> Result<(), Self::Stop>;
    /// Notes opcode and address of the instruction (SDM 1, 8.1.8), and the offset of its memory operand.
    fn x87_note(&mut self, i: &Insn, at: Option<Self::Val>);
    /// Does it. Nothing stops an instruction from here on: exceptions are pending for the next one.
    fn x87_do(&mut self, what: Unit87<Self::Val>);
    /// Stores ST(0) as an f32 (`single`) or an f64, then pops if asked for.
    ///
    /// # Errors
    /// A fault of the address.
    fn x87_store(&mut self, at: Linear<Self::Val>, single: bool, pop: bool) -> Result<(), Self::Stop>;
    /// ZF, PF and CF of a comparison of ST(0) with ST(i), which then pops if asked for. Quiet NaNs are no exception if
    /// it is `quiet`.
    fn x87_relation(&mut self, i: u8, quiet: bool, pop: bool) -> Self::Val;
    /// What is not made of operations.
    ///
    /// # Errors
    /// Those of the function.
    fn x87_plain(&mut self, i: &Insn, f: Handler) -> Result<(), Self::Stop>;

    // Shorthands. -------------------------------------------------------------------------

    /// `a + b`
    #[inline(always)]
    fn add(&mut self, a: Self::Val, b: Self::Val) -> Self::Val {
        self.bin(Bin::Add, a, b)
    }
    /// `a - b`
    #[inline(always)]
    fn sub(&mut self, a: Self::Val, b: Self::Val) -> Self::Val {
        self.bin(Bin::Sub, a, b)
    }
    /// `a & b`
    #[inline(always)]
    fn and(&mut self, a: Self::Val, b: Self::Val) -> Self::Val {
        self.bin(Bin::And, a, b)
    }
    /// `a | b`
    #[inline(always)]
    fn or(&mut self, a: Self::Val, b: Self::Val) -> Self::Val {
        self.bin(Bin::Or, a, b)
    }
    /// `a ^ b`
    #[inline(always)]
    fn xor(&mut self, a: Self::Val, b: Self::Val) -> Self::Val {
        self.bin(Bin::Xor, a, b)
    }
    /// `a << (b & 63)`
    #[inline(always)]
    fn shl(&mut self, a: Self::Val, b: Self::Val) -> Self::Val {
        self.bin(Bin::Shl, a, b)
    }
    /// `a >> (b & 63)`, unsigned
    #[inline(always)]
    fn shr(&mut self, a: Self::Val, b: Self::Val) -> Self::Val {
        self.bin(Bin::Shr, a, b)
    }
    /// `a << n` with a constant count below 64
    #[inline(always)]
    fn shli(&mut self, a: Self::Val, n: u32) -> Self::Val {
        let n = self.imm(u64::from(n));
        self.shl(a, n)
    }
    /// `a >> n` with a constant count below 64
    #[inline(always)]
    fn shri(&mut self, a: Self::Val, n: u32) -> Self::Val {
        let n = self.imm(u64::from(n));
        self.shr(a, n)
    }
    /// `a & m` with a constant
    #[inline(always)]
    fn andi(&mut self, a: Self::Val, m: u64) -> Self::Val {
        let m = self.imm(m);
        self.and(a, m)
    }
    /// `a | m` with a constant
    #[inline(always)]
    fn ori(&mut self, a: Self::Val, m: u64) -> Self::Val {
        let m = self.imm(m);
        self.or(a, m)
    }
    /// `a ^ m` with a constant
    #[inline(always)]
    fn xori(&mut self, a: Self::Val, m: u64) -> Self::Val {
        let m = self.imm(m);
        self.xor(a, m)
    }
    /// `!a`
    #[inline(always)]
    fn not(&mut self, a: Self::Val) -> Self::Val {
        self.xori(a, u64::MAX)
    }
    /// The top bit of `a` in all bits.
    #[inline(always)]
    fn sign(&mut self, a: Self::Val) -> Self::Val {
        let n = self.imm(63);
        self.bin(Bin::Sar, a, n)
    }
    /// `a == 0`
    #[inline(always)]
    fn is_zero(&mut self, a: Self::Val) -> Self::Val {
        let z = self.imm(0);
        self.bin(Bin::Eq, a, z)
    }
    /// `a` cut to `size`, zero-extended.
    #[inline(always)]
    fn zx(&mut self, size: Size, a: Self::Val) -> Self::Val {
        if size == Size::B8 { a } else { self.andi(a, size.mask()) }
    }
    /// `a` cut to `size`, sign-extended to 64 bits.
    #[inline(always)]
    fn sx(&mut self, size: Size, a: Self::Val) -> Self::Val {
        if size == Size::B8 {
            return a;
        }
        let n = self.imm(u64::from(64 - size.bits()));
        let up = self.shl(a, n);
        self.bin(Bin::Sar, up, n)
    }
}
