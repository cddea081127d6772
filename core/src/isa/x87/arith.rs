//! FADD to FDIVR with registers, floating-point and integer memory operands; the instructions on
//! ST(0) and ST(1) alone.

use super::{enter, note, note_memory, opcode, sti};
use crate::cpu::fpu::{Arith, Operand};
use crate::cpu::{Cpu, Done, Stop};
use crate::decode::insn::{Insn, opnd};
use crate::isa::operand::linear;
use crate::size::Size;

/// The floating-point or ST(i) source operand.
#[inline(always)]
pub(super) fn real(cpu: &mut Cpu, i: &Insn) -> Result<Operand, Stop> {
    if i.a != opnd::MEM {
        note(cpu, i);
        return Ok(Operand::St(sti(i)));
    }
    let at = linear(cpu, i, i.size2, false)?;
    let v =
        if i.size2 == 4 { Operand::F32(cpu.read(at, Size::B4)? as u32) } else { Operand::F64(cpu.read(at, Size::B8)?) };
    note_memory(cpu, i);
    Ok(v)
}

/// The integer memory operand.
#[inline(always)]
pub(super) fn integer(cpu: &mut Cpu, i: &Insn) -> Result<Operand, Stop> {
    let at = linear(cpu, i, i.size2, false)?;
    let v = if i.size2 == 2 {
        Operand::I16(cpu.read(at, Size::B2)? as i16)
    } else {
        Operand::I32(cpu.read(at, Size::B4)? as i32)
    };
    note_memory(cpu, i);
    Ok(v)
}

/// ST(0) op= memory or ST(i); ST(i) op= ST(0) with the opcodes DC and (popping) DE.
#[inline(always)]
fn arith(cpu: &mut Cpu, i: &Insn, op: Arith) -> Done {
    enter(cpu)?;
    let src = real(cpu, i)?;
    match (src, opcode(i) >> 8) {
        (Operand::St(n), 4) => cpu.fpu.arith_to(op, n, false),
        (Operand::St(n), 6) => cpu.fpu.arith_to(op, n, true),
        _ => cpu.fpu.arith(op, src),
    }
    Ok(())
}

macro_rules! arithmetic {
    ($($f:ident $int:ident $op:ident $name:literal;)*) => { $(
        #[doc = concat!($name, " and ", $name, "P.")]
        pub fn $f(cpu: &mut Cpu, i: &Insn) -> Done {
            arith(cpu, i, Arith::$op)
        }
        #[doc = concat!($name, " with an integer in memory.")]
        pub fn $int(cpu: &mut Cpu, i: &Insn) -> Done {
            enter(cpu)?;
            let src = integer(cpu, i)?;
            cpu.fpu.arith(Arith::$op, src);
            Ok(())
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

macro_rules! on_the_stack {
    ($($f:ident $name:literal $call:expr;)*) => { $(
        #[doc = concat!($name, ".")]
        pub fn $f(cpu: &mut Cpu, i: &Insn) -> Done {
            enter(cpu)?;
            note(cpu, i);
            $call(&mut cpu.fpu);
            Ok(())
        }
    )* };
}
use crate::cpu::fpu::Fpu;
on_the_stack! {
    fchs "FCHS" Fpu::fchs;
    fabs "FABS" Fpu::fabs;
    fsqrt "FSQRT" Fpu::fsqrt;
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
