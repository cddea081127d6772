//! Hot forms: instructions with known operand size and kinds, compiled into the arms of the
//! interpreter's `match`. Everything else goes through a function pointer. Chosen by profiling
//! boots and benchmarks; both run the same semantics.
#![allow(non_upper_case_globals, reason = "one name serves the enum, the constant and the profile")]

use super::operand::{Hot, NO_CC, NO_SIZE, after, kind::*};
use super::{Op, arith, branch, logic, mov, muldiv, shift, sse, stack};
use crate::cpu::{Cpu, Done, Stop};
use crate::decode::cache::CodeCache;
use crate::decode::cursor::Sealed;
use crate::decode::insn::{Ea, Insn, link, opnd, slot};
use crate::flags::FlagOp;

macro_rules! cc {
    () => {
        _
    };
    ($cc:literal) => {
        $cc
    };
    // Variants are chosen by `after_flags`, never by the instruction alone.
    ($cc:literal $after:ident) => {
        NEVER
    };
}
macro_rules! after {
    () => {
        after::ANY
    };
    ($after:ident) => {
        after::$after
    };
}
macro_rules! size {
    (_) => {
        NO_SIZE
    };
    ($s:literal) => {
        $s
    };
}
macro_rules! known {
    () => {
        NO_CC
    };
    ($cc:literal) => {
        $cc
    };
}
macro_rules! hot {
    ($($name:ident $op:ident $f:path, $s:tt $a:ident $b:ident $($cc:literal $($after:ident)?)?;)*) => {
        #[repr(u16)]
        enum Number { $($name,)* }
        $(const $name: u16 = Number::$name as u16;)*
        /// How many there are; then come [`LEAVE`] and the other operations.
        pub const COUNT: u16 = [$($name,)*].len() as u16;
        /// The operations they are forms of.
        static OPS: [Op; COUNT as usize] = [$(Op::$op,)*];
        /// Names, for profiles.
        pub static NAMES: [&str; COUNT as usize] = [$(stringify!($name),)*];

        /// The form's number, if this instruction has one.
        pub fn select(op: Op, i: &Insn) -> Option<u16> {
            let (a, b) = (kind_of(i.a)?, kind_of(i.b)?);
            let flat = i.ea == Ea::Flat64 || i.ea == Ea::Flat32 && i.size as u8 != 8;
            if (a == M || b == M) && !flat {
                return None;
            }
            #[allow(unreachable_patterns, reason = "the variants of jumps are never chosen here")]
            Some(match (op, i.size as u8, a, b, i.sub) {
                $((Op::$op, $s, $a, $b, cc!($($cc $($after)?)?)) => $name,)*
                _ => return None,
            })
        }

        /// Runs instructions from place `at` on, and the blocks they lead to.
        ///
        /// One loop over instructions and blocks, whose only variable is the place: of two nested
        /// ones, compilers prepare the inner one anew for every block, at a fifth of the whole speed.
        pub fn run(cpu: &mut Cpu, insns: Sealed<'_>, code: &CodeCache, at: usize) -> Left {
            let Some(mut at) = insns.cursor(at) else { return Left::Look };
            'next: loop {
                let i = at.get();
                let leave = 'ran: {
                    // Every arm returns for itself, so that success goes straight on.
                    match i.op {
                        $($name => {
                            if let Err(stop) = $f(cpu, Hot::<{ size!($s) }, $a, $b, { known!($($cc)?) }, { after!($($($after)?)?) }>(i)) {
                                return Left::Stopped(insns.place(at), stop);
                            }
                            if const { super::ends(Op::$op) } {
                                // SAFETY: a hot form is no leave record.
                                break 'ran unsafe { at.next() };
                            }
                        })*
                        LEAVE => break 'ran at,
                        n => if let Err(stop) = cold(cpu, i, n) {
                            return Left::Stopped(insns.place(at), stop);
                        },
                    }
                    // SAFETY: leave records have an arm of their own.
                    at = unsafe { at.next() };
                    continue 'next;
                };
                // The block is done.
                if cpu.events != 0 {
                    return Left::Look;
                }
                let end = leave.get();
                let through = cpu.rip_mask(cpu.regs[slot::BLOCK as usize].wrapping_add(end.block_bytes()));
                let mut head = end.link(cpu.rip == through);
                if head == link::NEVER {
                    head = code.jump(cpu).unwrap_or(link::UNKNOWN);
                }
                if head == link::UNKNOWN {
                    return Left::Unlinked(insns.place(leave));
                }
                match enter(cpu, insns, head).and_then(|first| insns.cursor(first)) {
                    Some(first) => at = first,
                    None => return Left::Short(head),
                }
            }
        }
    };
}

/// Why [`run`] came back.
pub enum Left {
    /// There are events to look at.
    Look,
    /// The budget, or this stretch, does not cover the block with this head record; or it is compiled.
    Short(u32),
    /// It is not known where the block with this leave record leads now.
    Unlinked(usize),
    /// The instruction at this place did not complete.
    Stopped(usize, Stop),
}

/// Begins the block with a head record, if the budget covers it: the place of its first instruction.
/// RIP is then that of the block's end, until a branch says otherwise.
#[inline(always)]
pub fn enter(cpu: &mut Cpu, insns: Sealed<'_>, head: u32) -> Option<usize> {
    let record = insns.get(head as usize)?;
    let count = record.block_price();
    if cpu.left < count + cpu.floor {
        return None;
    }
    cpu.left -= count;
    let entry = cpu.rip;
    cpu.regs[slot::BLOCK as usize] = entry;
    cpu.rip = cpu.rip_mask(entry.wrapping_add(record.block_bytes()));
    #[cfg(feature = "profile")]
    crate::profile::sample(insns.range(head as usize + 1, head as usize + 1 + count as usize));
    Some(head as usize + 1)
}

/// The dispatch number of leave records ([`Insn::leave`]).
pub const LEAVE: u16 = COUNT;
/// The first dispatch number of the operations that are not hot.
pub const COLD: u16 = COUNT + 1;

/// The operation a dispatch number stands for.
pub fn op(n: u16) -> Option<Op> {
    match n.checked_sub(COLD) {
        Some(n) => super::op_at(n),
        None => OPS.get(usize::from(n)).copied(),
    }
}

/// The handler of an instruction that is not hot.
#[inline(always)]
fn cold(cpu: &mut Cpu, i: &Insn, n: u16) -> Done {
    match super::HANDLERS.get(usize::from(n - COLD)) {
        Some(h) => h(cpu, i),
        None => Ok(()),
    }
}

/// A condition that no instruction has.
const NEVER: u8 = 0xff;

/// The number of conditional jumps that know nothing of what set the flags.
const JUMPS: u16 = 32;

/// The form of a conditional jump that reads flags which `op` set earlier in the block.
pub fn after_flags(n: u16, op: FlagOp) -> u16 {
    // The list below has the jumps three times, in the same order.
    let is_jump = (Jo8..Jo8 + JUMPS).contains(&n);
    match op {
        FlagOp::Sub if is_jump => n + (Jo8AfterSub - Jo8),
        FlagOp::Logic if is_jump => n + (Jo8AfterLogic - Jo8),
        _ => n,
    }
}

/// The operand's kind, if hot forms know it.
fn kind_of(o: u8) -> Option<u8> {
    match o {
        0..=15 => Some(R),
        0x20..=0x2f => Some(X),
        opnd::MEM => Some(M),
        opnd::IMM => Some(I),
        opnd::NONE => Some(N),
        _ => None,
    }
}

hot! {
    MovRr4 Mov mov::mov, 4 R R;
    MovRr8 Mov mov::mov, 8 R R;
    MovRi4 Mov mov::mov, 4 R I;
    MovRi8 Mov mov::mov, 8 R I;
    MovRm1 Mov mov::mov, 1 R M;
    MovRm2 Mov mov::mov, 2 R M;
    MovRm4 Mov mov::mov, 4 R M;
    Bswap4 Bswap mov::bswap, 4 R N;
    MovRm8 Mov mov::mov, 8 R M;
    MovMr1 Mov mov::mov, 1 M R;
    MovMr2 Mov mov::mov, 2 M R;
    MovMr4 Mov mov::mov, 4 M R;
    MovMr8 Mov mov::mov, 8 M R;
    MovMi1 Mov mov::mov, 1 M I;
    MovMi4 Mov mov::mov, 4 M I;
    MovMi8 Mov mov::mov, 8 M I;
    MovzxRr4 Movzx mov::movzx, 4 R R;
    MovzxRm4 Movzx mov::movzx, 4 R M;
    MovsxRr4 Movsx mov::movsx, 4 R R;
    MovsxRm4 Movsx mov::movsx, 4 R M;
    MovsxRr8 Movsx mov::movsx, 8 R R;
    MovsxRm8 Movsx mov::movsx, 8 R M;
    Lea4 Lea mov::lea, 4 R M;
    Lea8 Lea mov::lea, 8 R M;
    AddRr4 Add arith::add, 4 R R;
    AddRr8 Add arith::add, 8 R R;
    AddRi4 Add arith::add, 4 R I;
    AddRi8 Add arith::add, 8 R I;
    AddRm4 Add arith::add, 4 R M;
    AddRm8 Add arith::add, 8 R M;
    AddMr4 Add arith::add, 4 M R;
    AddMr8 Add arith::add, 8 M R;
    AddMi4 Add arith::add, 4 M I;
    AddMi8 Add arith::add, 8 M I;
    SubRr4 Sub arith::sub, 4 R R;
    SubRr8 Sub arith::sub, 8 R R;
    SubRi4 Sub arith::sub, 4 R I;
    SubRi8 Sub arith::sub, 8 R I;
    SubRm4 Sub arith::sub, 4 R M;
    SubRm8 Sub arith::sub, 8 R M;
    SubMi4 Sub arith::sub, 4 M I;
    AdcRr4 Adc arith::adc, 4 R R;
    AdcRr8 Adc arith::adc, 8 R R;
    SbbRr4 Sbb arith::sbb, 4 R R;
    SbbRr8 Sbb arith::sbb, 8 R R;
    CmpRr1 Cmp arith::cmp, 1 R R;
    CmpRr4 Cmp arith::cmp, 4 R R;
    CmpRr8 Cmp arith::cmp, 8 R R;
    CmpRi1 Cmp arith::cmp, 1 R I;
    CmpRi4 Cmp arith::cmp, 4 R I;
    CmpRi8 Cmp arith::cmp, 8 R I;
    CmpRm4 Cmp arith::cmp, 4 R M;
    CmpRm8 Cmp arith::cmp, 8 R M;
    CmpMr4 Cmp arith::cmp, 4 M R;
    CmpMr8 Cmp arith::cmp, 8 M R;
    CmpMi1 Cmp arith::cmp, 1 M I;
    CmpMi4 Cmp arith::cmp, 4 M I;
    CmpMi8 Cmp arith::cmp, 8 M I;
    CmpRm1 Cmp arith::cmp, 1 R M;
    CmpMr1 Cmp arith::cmp, 1 M R;
    CmpMr2 Cmp arith::cmp, 2 M R;
    CmpRr2 Cmp arith::cmp, 2 R R;
    AdcRi8 Adc arith::adc, 8 R I;
    AddRi2 Add arith::add, 2 R I;
    IncR8 Inc arith::inc, 8 R N;
    DecR8 Dec arith::dec, 8 R N;
    IncR4 Inc arith::inc, 4 R N;
    IncM4 Inc arith::inc, 4 M N;
    DecR4 Dec arith::dec, 4 R N;
    DecM4 Dec arith::dec, 4 M N;
    NegR4 Neg arith::neg, 4 R N;
    NegR8 Neg arith::neg, 8 R N;
    NotR4 Not logic::not, 4 R N;
    NotR8 Not logic::not, 8 R N;
    OrRr1 Or logic::or, 1 R R;
    Cbw8 Cbw mov::cbw, 8 N N;
    NopM2 Nop mov::nop, 2 M N;
    NopM4 Nop mov::nop, 4 M N;
    AndRr4 And logic::and, 4 R R;
    AndRr8 And logic::and, 8 R R;
    AndRi1 And logic::and, 1 R I;
    AndRi4 And logic::and, 4 R I;
    AndRi2 And logic::and, 2 R I;
    AndRi8 And logic::and, 8 R I;
    AndRm4 And logic::and, 4 R M;
    AndRm8 And logic::and, 8 R M;
    OrRr4 Or logic::or, 4 R R;
    OrRr8 Or logic::or, 8 R R;
    OrRi4 Or logic::or, 4 R I;
    OrRm4 Or logic::or, 4 R M;
    OrRm8 Or logic::or, 8 R M;
    XorRr4 Xor logic::xor, 4 R R;
    XorRr8 Xor logic::xor, 8 R R;
    XorRi4 Xor logic::xor, 4 R I;
    XorRm4 Xor logic::xor, 4 R M;
    XorRm8 Xor logic::xor, 8 R M;
    TestRr1 Test logic::test, 1 R R;
    TestRr4 Test logic::test, 4 R R;
    TestRr8 Test logic::test, 8 R R;
    TestRi1 Test logic::test, 1 R I;
    TestRi4 Test logic::test, 4 R I;
    TestMi1 Test logic::test, 1 M I;
    ShlRi4 Shl shift::shl, 4 R I;
    ShlRi8 Shl shift::shl, 8 R I;
    ShlRr4 Shl shift::shl, 4 R R;
    ShrRi4 Shr shift::shr, 4 R I;
    ShrRi8 Shr shift::shr, 8 R I;
    ShrRr4 Shr shift::shr, 4 R R;
    ShlRr8 Shl shift::shl, 8 R R;
    ShrRr8 Shr shift::shr, 8 R R;
    SarRi4 Sar shift::sar, 4 R I;
    SarRi8 Sar shift::sar, 8 R I;
    RolRi4 Rol shift::rol, 4 R I;
    RolRi8 Rol shift::rol, 8 R I;
    RorRi4 Ror shift::ror, 4 R I;
    RorRi8 Ror shift::ror, 8 R I;
    ImulRr4 Imul muldiv::imul, 4 R R;
    ImulRr8 Imul muldiv::imul, 8 R R;
    ImulRm4 Imul muldiv::imul, 4 R M;
    ImulRm8 Imul muldiv::imul, 8 R M;
    PushR8 Push stack::push_op, 8 R N;
    PushR4 Push stack::push_op, 4 R N;
    PushM4 Push stack::push_op, 4 M N;
    PopR8 Pop stack::pop_op, 8 R N;
    PopR4 Pop stack::pop_op, 4 R N;
    Jo8 Jcc branch::jcc, 8 I N 0;
    Jo4 Jcc branch::jcc, 4 I N 0;
    Jno8 Jcc branch::jcc, 8 I N 1;
    Jno4 Jcc branch::jcc, 4 I N 1;
    Jb8 Jcc branch::jcc, 8 I N 2;
    Jb4 Jcc branch::jcc, 4 I N 2;
    Jae8 Jcc branch::jcc, 8 I N 3;
    Jae4 Jcc branch::jcc, 4 I N 3;
    Je8 Jcc branch::jcc, 8 I N 4;
    Je4 Jcc branch::jcc, 4 I N 4;
    Jne8 Jcc branch::jcc, 8 I N 5;
    Jne4 Jcc branch::jcc, 4 I N 5;
    Jbe8 Jcc branch::jcc, 8 I N 6;
    Jbe4 Jcc branch::jcc, 4 I N 6;
    Ja8 Jcc branch::jcc, 8 I N 7;
    Ja4 Jcc branch::jcc, 4 I N 7;
    Js8 Jcc branch::jcc, 8 I N 8;
    Js4 Jcc branch::jcc, 4 I N 8;
    Jns8 Jcc branch::jcc, 8 I N 9;
    Jns4 Jcc branch::jcc, 4 I N 9;
    Jp8 Jcc branch::jcc, 8 I N 10;
    Jp4 Jcc branch::jcc, 4 I N 10;
    Jnp8 Jcc branch::jcc, 8 I N 11;
    Jnp4 Jcc branch::jcc, 4 I N 11;
    Jl8 Jcc branch::jcc, 8 I N 12;
    Jl4 Jcc branch::jcc, 4 I N 12;
    Jge8 Jcc branch::jcc, 8 I N 13;
    Jge4 Jcc branch::jcc, 4 I N 13;
    Jle8 Jcc branch::jcc, 8 I N 14;
    Jle4 Jcc branch::jcc, 4 I N 14;
    Jg8 Jcc branch::jcc, 8 I N 15;
    Jg4 Jcc branch::jcc, 4 I N 15;
    Jo8AfterSub Jcc branch::jcc, 8 I N 0 SUB;
    Jo4AfterSub Jcc branch::jcc, 4 I N 0 SUB;
    Jno8AfterSub Jcc branch::jcc, 8 I N 1 SUB;
    Jno4AfterSub Jcc branch::jcc, 4 I N 1 SUB;
    Jb8AfterSub Jcc branch::jcc, 8 I N 2 SUB;
    Jb4AfterSub Jcc branch::jcc, 4 I N 2 SUB;
    Jae8AfterSub Jcc branch::jcc, 8 I N 3 SUB;
    Jae4AfterSub Jcc branch::jcc, 4 I N 3 SUB;
    Je8AfterSub Jcc branch::jcc, 8 I N 4 SUB;
    Je4AfterSub Jcc branch::jcc, 4 I N 4 SUB;
    Jne8AfterSub Jcc branch::jcc, 8 I N 5 SUB;
    Jne4AfterSub Jcc branch::jcc, 4 I N 5 SUB;
    Jbe8AfterSub Jcc branch::jcc, 8 I N 6 SUB;
    Jbe4AfterSub Jcc branch::jcc, 4 I N 6 SUB;
    Ja8AfterSub Jcc branch::jcc, 8 I N 7 SUB;
    Ja4AfterSub Jcc branch::jcc, 4 I N 7 SUB;
    Js8AfterSub Jcc branch::jcc, 8 I N 8 SUB;
    Js4AfterSub Jcc branch::jcc, 4 I N 8 SUB;
    Jns8AfterSub Jcc branch::jcc, 8 I N 9 SUB;
    Jns4AfterSub Jcc branch::jcc, 4 I N 9 SUB;
    Jp8AfterSub Jcc branch::jcc, 8 I N 10 SUB;
    Jp4AfterSub Jcc branch::jcc, 4 I N 10 SUB;
    Jnp8AfterSub Jcc branch::jcc, 8 I N 11 SUB;
    Jnp4AfterSub Jcc branch::jcc, 4 I N 11 SUB;
    Jl8AfterSub Jcc branch::jcc, 8 I N 12 SUB;
    Jl4AfterSub Jcc branch::jcc, 4 I N 12 SUB;
    Jge8AfterSub Jcc branch::jcc, 8 I N 13 SUB;
    Jge4AfterSub Jcc branch::jcc, 4 I N 13 SUB;
    Jle8AfterSub Jcc branch::jcc, 8 I N 14 SUB;
    Jle4AfterSub Jcc branch::jcc, 4 I N 14 SUB;
    Jg8AfterSub Jcc branch::jcc, 8 I N 15 SUB;
    Jg4AfterSub Jcc branch::jcc, 4 I N 15 SUB;
    Jo8AfterLogic Jcc branch::jcc, 8 I N 0 LOGIC;
    Jo4AfterLogic Jcc branch::jcc, 4 I N 0 LOGIC;
    Jno8AfterLogic Jcc branch::jcc, 8 I N 1 LOGIC;
    Jno4AfterLogic Jcc branch::jcc, 4 I N 1 LOGIC;
    Jb8AfterLogic Jcc branch::jcc, 8 I N 2 LOGIC;
    Jb4AfterLogic Jcc branch::jcc, 4 I N 2 LOGIC;
    Jae8AfterLogic Jcc branch::jcc, 8 I N 3 LOGIC;
    Jae4AfterLogic Jcc branch::jcc, 4 I N 3 LOGIC;
    Je8AfterLogic Jcc branch::jcc, 8 I N 4 LOGIC;
    Je4AfterLogic Jcc branch::jcc, 4 I N 4 LOGIC;
    Jne8AfterLogic Jcc branch::jcc, 8 I N 5 LOGIC;
    Jne4AfterLogic Jcc branch::jcc, 4 I N 5 LOGIC;
    Jbe8AfterLogic Jcc branch::jcc, 8 I N 6 LOGIC;
    Jbe4AfterLogic Jcc branch::jcc, 4 I N 6 LOGIC;
    Ja8AfterLogic Jcc branch::jcc, 8 I N 7 LOGIC;
    Ja4AfterLogic Jcc branch::jcc, 4 I N 7 LOGIC;
    Js8AfterLogic Jcc branch::jcc, 8 I N 8 LOGIC;
    Js4AfterLogic Jcc branch::jcc, 4 I N 8 LOGIC;
    Jns8AfterLogic Jcc branch::jcc, 8 I N 9 LOGIC;
    Jns4AfterLogic Jcc branch::jcc, 4 I N 9 LOGIC;
    Jp8AfterLogic Jcc branch::jcc, 8 I N 10 LOGIC;
    Jp4AfterLogic Jcc branch::jcc, 4 I N 10 LOGIC;
    Jnp8AfterLogic Jcc branch::jcc, 8 I N 11 LOGIC;
    Jnp4AfterLogic Jcc branch::jcc, 4 I N 11 LOGIC;
    Jl8AfterLogic Jcc branch::jcc, 8 I N 12 LOGIC;
    Jl4AfterLogic Jcc branch::jcc, 4 I N 12 LOGIC;
    Jge8AfterLogic Jcc branch::jcc, 8 I N 13 LOGIC;
    Jge4AfterLogic Jcc branch::jcc, 4 I N 13 LOGIC;
    Jle8AfterLogic Jcc branch::jcc, 8 I N 14 LOGIC;
    Jle4AfterLogic Jcc branch::jcc, 4 I N 14 LOGIC;
    Jg8AfterLogic Jcc branch::jcc, 8 I N 15 LOGIC;
    Jg4AfterLogic Jcc branch::jcc, 4 I N 15 LOGIC;
    Jmp8 Jmp branch::jmp, 8 I N;
    Jmp4 Jmp branch::jmp, 4 I N;
    JmpR8 Jmp branch::jmp, 8 R N;
    JmpM8 Jmp branch::jmp, 8 M N;
    Call8 Call branch::call, 8 I N;
    Call4 Call branch::call, 4 I N;
    CallR8 Call branch::call, 8 R N;
    Ret8 Ret branch::ret, 8 N N;
    Ret4 Ret branch::ret, 4 N N;
    Cmov4 Cmovcc mov::cmovcc, 4 R R;
    Cmov8 Cmovcc mov::cmovcc, 8 R R;
    Setcc1 Setcc mov::setcc, 1 R N;
    MovapsXx Movaps sse::mov::movaps, _ X X;
    MovapsXm Movaps sse::mov::movaps, _ X M;
    MovapsMx Movaps sse::mov::movaps, _ M X;
    MovupsXm Movups sse::mov::movups, _ X M;
    MovupsMx Movups sse::mov::movups, _ M X;
    MovqXm Movq sse::mov::movq, _ X M;
    MovqMx Movq sse::mov::movq, _ M X;
    MovdXr Movd sse::mov::movd, _ X R;
    PadddXx Paddd sse::int::paddd, _ X X;
    PxorXx Pxor sse::int::pxor, _ X X;
    PorXx Por sse::int::por, _ X X;
    PslldXi Pslld sse::int::pslld, _ X I;
    PsrldXi Psrld sse::int::psrld, _ X I;
    PshufdXx Pshufd sse::shuffle::pshufd, _ X X;
}
