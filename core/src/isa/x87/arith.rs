//! FADD to FDIVR with registers, floating-point and integer memory operands; the instructions on
//! ST(0) and ST(1) alone.

use super::{enter, integer, opcode, real};
use crate::cpu::fpu::{Arith, Fpu};
use crate::cpu::{Cpu, Done};
use crate::decode::insn::Insn;
use crate::emit::{Emit, Number, Unit87};
use crate::isa::operand::Form;

/// ST(0) op= memory or ST(i); ST(i) op= ST(0) with the opcodes DC and (popping) DE.
#[inline(always)]
fn arith<E: Emit>(e: &mut E, i: &Insn, op: Arith) -> Result<(), E::Stop> {
    e.x87()?;
    let (src, at) = real(e, i)?;
    e.x87_note(i, at);
    e.x87_do(match (src, opcode(i) >> 8) {
        (Number::St(n), 4) => Unit87::Arith(op, n, Number::St(0), false),
        (Number::St(n), 6) => Unit87::Arith(op, n, Number::St(0), true),
        _ => Unit87::Arith(op, 0, src, false),
    });
    Ok(())
}

/// ST(0) op= integer.
#[inline(always)]
fn arith_integer<E: Emit>(e: &mut E, i: &Insn, op: Arith) -> Result<(), E::Stop> {
    e.x87()?;
    let (src, at) = integer(e, i)?;
    e.x87_note(i, Some(at));
    e.x87_do(Unit87::Arith(op, 0, src, false));
    Ok(())
}

/// An instruction on the stack alone.
#[inline(always)]
pub(super) fn on_the_stack<E: Emit>(e: &mut E, i: &Insn, what: Unit87<E::Val>) -> Result<(), E::Stop> {
    e.x87()?;
    e.x87_note(i, None);
    e.x87_do(what);
    Ok(())
}

macro_rules! arithmetic {
    ($($f:ident $int:ident $op:ident $name:literal;)*) => { $(
        #[doc = concat!($name, " and ", $name, "P.")]
        pub fn $f<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
            arith(e, &f, Arith::$op)
        }
        #[doc = concat!($name, " with an integer in memory.")]
        pub fn $int<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
            arith_integer(e, &f, Arith::$op)
        }
    )* };
}
arithmetic! {
    fadd fiadd Add "FADD";
    fmul fimul Mul "FMUL";
    fsub fisub Sub "FSUB";
    fsubr fisubr SubR "FSUBR";
    fdiv fidiv Div "FDIV";
    fdivr fidivr DivR "FDIVR";
}

macro_rules! simple {
    ($($f:ident $name:literal $what:ident;)*) => { $(
        #[doc = concat!($name, ".")]
        pub fn $f<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
            on_the_stack(e, &f, Unit87::$what)
        }
    )* };
}
simple! {
    fchs "FCHS" Negate;
    fabs "FABS" Absolute;
    fsqrt "FSQRT" Root;
}

macro_rules! plain_ones {
    ($($f:ident $name:literal $call:expr;)*) => { $(
        #[doc = concat!($name, ".")]
        pub fn $f(cpu: &mut Cpu, i: &Insn) -> Done {
            enter(cpu)?;
            cpu.x87_note(i, None);
            $call(&mut cpu.fpu);
            Ok(())
        }
    )* };
}
plain_ones! {
    frndint "FRNDINT" Fpu::frndint;
    fscale "FSCALE" Fpu::fscale;
    fxtract "FXTRACT" Fpu::fxtract;
    fprem "FPREM" |f: &mut Fpu| f.fprem(false);
    fprem1 "FPREM1" |f: &mut Fpu| f.fprem(true);
    f2xm1 "F2XM1" Fpu::f2xm1;
    fyl2x "FYL2X" Fpu::fyl2x;
    fyl2xp1 "FYL2XP1" Fpu::fyl2xp1;
    fpatan "FPATAN" Fpu::fpatan;
    fptan "FPTAN" Fpu::fptan;
    fsin "FSIN" Fpu::fsin;
    fcos "FCOS" Fpu::fcos;
    fsincos "FSINCOS" Fpu::fsincos;
}
