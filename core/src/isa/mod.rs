//! The instruction set. [`Op`] names the operations, one per meaning; `table.rs` says which function each is. Families of
//! instructions are files beside this one, which tells from a decoded instruction what it is.

pub mod arith;
pub mod bcd;
pub mod bit;
pub mod branch;
pub mod control;
pub mod cpuid;
pub mod descriptor;
pub mod exchange;
pub mod far;
pub mod flagctl;
pub mod fxsave;
pub mod hot;
pub mod io;
pub mod logic;
pub mod mov;
pub mod msr;
pub mod muldiv;
pub mod operand;
pub mod ret;
pub mod shift;
pub mod sse;
pub mod stack;
pub mod string;
pub mod syscall;
pub mod system;
mod table;
pub mod trap;
pub mod x87;

use crate::cpu::{Cpu, Done};
use crate::decode::insn::{Insn, opnd};
use iced_x86::{Instruction, Mnemonic, OpKind};
pub use table::{COUNT, Compile, HANDLERS, NAMES, Op, compile, ends, op_at};

/// What the interpreter calls for an instruction.
pub type Handler = fn(&mut Cpu, &Insn) -> Done;

/// The condition number of a Jcc, SETcc or CMOVcc.
fn condition(m: Mnemonic) -> Option<(Op, u8)> {
    macro_rules! cc {
        ($($n:literal $j:ident $s:ident $c:ident,)*) => {
            match m {
                $(Mnemonic::$j => Some((Op::Jcc, $n)),
                  Mnemonic::$s => Some((Op::Setcc, $n)),
                  Mnemonic::$c => Some((Op::Cmovcc, $n)),)*
                _ => None,
            }
        };
    }
    cc! {
        0 Jo Seto Cmovo, 1 Jno Setno Cmovno, 2 Jb Setb Cmovb, 3 Jae Setae Cmovae,
        4 Je Sete Cmove, 5 Jne Setne Cmovne, 6 Jbe Setbe Cmovbe, 7 Ja Seta Cmova,
        8 Js Sets Cmovs, 9 Jns Setns Cmovns, 10 Jp Setp Cmovp, 11 Jnp Setnp Cmovnp,
        12 Jl Setl Cmovl, 13 Jge Setge Cmovge, 14 Jle Setle Cmovle, 15 Jg Setg Cmovg,
    }
}

/// Is this one of the mnemonics MOVSD and CMPSD share with SSE2, and the string instruction?
pub(crate) fn is_string(x: &Instruction) -> bool {
    matches!(
        x.op0_kind(),
        OpKind::MemoryESDI
            | OpKind::MemoryESEDI
            | OpKind::MemoryESRDI
            | OpKind::MemorySegSI
            | OpKind::MemorySegESI
            | OpKind::MemorySegRSI
    )
}

/// The operation of a decoded instruction, and its variant number.
pub fn op_of(x: &Instruction) -> Option<(Op, u8)> {
    use Mnemonic as M;
    let m = x.mnemonic();
    let special = |k: usize| -> Option<iced_x86::Register> {
        (x.op_kind(k as u32) == OpKind::Register).then(|| x.op_register(k as u32))
    };
    let is = |r: Option<iced_x86::Register>, f: fn(iced_x86::Register) -> bool| r.is_some_and(f);
    use iced_x86::Register as R;
    let seg = |r: R| (R::ES as u32..=R::GS as u32).contains(&(r as u32));
    let cr = |r: R| (R::CR0 as u32..=R::CR15 as u32).contains(&(r as u32));
    let dr = |r: R| (R::DR0 as u32..=R::DR15 as u32).contains(&(r as u32));
    let op = match m {
        M::Mov => {
            let (a, b) = (special(0), special(1));
            if is(a, seg) {
                Op::MovToSeg
            } else if is(b, seg) {
                Op::MovFromSeg
            } else if is(a, cr) {
                Op::MovToCr
            } else if is(b, cr) {
                Op::MovFromCr
            } else if is(a, dr) {
                Op::MovToDr
            } else if is(b, dr) {
                Op::MovFromDr
            } else {
                Op::Mov
            }
        }
        M::Push => {
            if is(special(0), seg) {
                Op::PushSeg
            } else {
                Op::Push
            }
        }
        M::Pop => {
            if is(special(0), seg) {
                Op::PopSeg
            } else {
                Op::Pop
            }
        }
        M::Movsd if is_string(x) => Op::Movs,
        M::Cmpsd if is_string(x) => Op::Cmps,
        M::Movsd => Op::MovScalarD,
        M::Cmpsd => Op::CmpScalarD,
        M::Jmp => {
            if crate::decode::is_far(x) {
                Op::JmpFar
            } else {
                Op::Jmp
            }
        }
        M::Call => {
            if crate::decode::is_far(x) {
                Op::CallFar
            } else {
                Op::Call
            }
        }
        M::Loop => return Some((Op::Loop, 0)),
        M::Loope => return Some((Op::Loop, 1)),
        M::Loopne => return Some((Op::Loop, 2)),
        M::Les => return Some((Op::LoadFar, 0)),
        M::Lss => return Some((Op::LoadFar, 2)),
        M::Lds => return Some((Op::LoadFar, 3)),
        M::Lfs => return Some((Op::LoadFar, 4)),
        M::Lgs => return Some((Op::LoadFar, 5)),
        _ => return condition(m).or_else(|| table::by_mnemonic(m).map(|op| (op, 0))),
    };
    Some((op, 0))
}

/// The dispatch number of an instruction: a hot form if there is one, else its operation.
pub fn dispatch(op: Op, i: &Insn) -> u16 {
    if op == Op::Mov && (i.a == opnd::MOFFS || i.b == opnd::MOFFS) {
        return hot::COLD + Op::MovMoffs as u16;
    }
    hot::select(op, i).unwrap_or(hot::COLD + op as u16)
}
