//! The instruction set: one line per mnemonic says which function is its meaning.
//!
//! `emit` functions are generic over [`Emit`](crate::emit::Emit): the interpreter runs them,
//! the JIT compiles them. `plain` functions work on the CPU directly. `last` ones (plain) and
//! `jump` ones (emit) end a block, because they may change RIP, the mode, IF or the board.

pub mod arith;
pub mod bcd;
pub mod bit;
pub mod branch;
pub mod cpuid;
pub mod exchange;
pub mod far;
pub mod flagctl;
pub mod hot;
pub mod io;
pub mod logic;
pub mod mov;
pub mod msr;
pub mod muldiv;
pub mod operand;
pub mod shift;
pub mod stack;
pub mod string;
pub mod system;

use crate::cpu::{Cpu, Done};
use crate::decode::insn::{Insn, opnd};
use iced_x86::{Instruction, Mnemonic, OpKind};
use operand::Any;

/// What the interpreter calls for an instruction.
pub type Handler = fn(&mut Cpu, &Insn) -> Done;

macro_rules! handler {
    (emit $f:path) => {
        |cpu: &mut Cpu, i: &Insn| $f(cpu, Any(i))
    };
    (jump $f:path) => {
        |cpu: &mut Cpu, i: &Insn| $f(cpu, Any(i))
    };
    (plain $f:path) => {
        $f
    };
    (last $f:path) => {
        $f
    };
}
macro_rules! ends {
    (emit) => {
        false
    };
    (plain) => {
        false
    };
    (jump) => {
        true
    };
    (last) => {
        true
    };
}

macro_rules! table {
    ($($op:ident $($m:ident)* => $kind:ident $f:path;)*) => {
        /// The operations, one per meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[allow(missing_docs, reason = "mnemonics")]
        pub enum Op { $($op,)* }

        /// The interpreter's functions, by [`Op`].
        pub static HANDLERS: [Handler; COUNT] = [$(handler!($kind $f),)*];
        /// Does the operation end a block?
        static ENDS: [bool; COUNT] = [$(ends!($kind),)*];
        /// Names, for people.
        pub static NAMES: [&str; COUNT] = [$(stringify!($op),)*];
        /// Number of operations.
        pub const COUNT: usize = [$(Op::$op,)*].len();

        /// The operation of a mnemonic that means the same in all its forms.
        fn by_mnemonic(m: Mnemonic) -> Option<Op> {
            Some(match m {
                $($(Mnemonic::$m => Op::$op,)*)*
                _ => return None,
            })
        }
    };
}

// Operation, its mnemonics (none: chosen by `op_of` from the operands), kind, meaning.
table! {
    Add Add => emit arith::add;
    Adc Adc => emit arith::adc;
    Sub Sub => emit arith::sub;
    Sbb Sbb => emit arith::sbb;
    Cmp Cmp => emit arith::cmp;
    Inc Inc => emit arith::inc;
    Dec Dec => emit arith::dec;
    Neg Neg => emit arith::neg;
    And And => emit logic::and;
    Or Or => emit logic::or;
    Xor Xor => emit logic::xor;
    Test Test => emit logic::test;
    Not Not => emit logic::not;
    Mov => emit mov::mov;
    MovMoffs => plain system::mov_moffs;
    Movzx Movzx => emit mov::movzx;
    Movsx Movsx Movsxd => emit mov::movsx;
    Lea Lea => emit mov::lea;
    Cmovcc => emit mov::cmovcc;
    Setcc => emit mov::setcc;
    Bswap Bswap => emit mov::bswap;
    Xlatb Xlatb => emit mov::xlatb;
    Cbw Cbw Cwde Cdqe => emit mov::cbw;
    Cwd Cwd Cdq Cqo => emit mov::cwd;
    Movnti Movnti => emit mov::movnti;
    Nop Nop Pause Endbr32 Endbr64 Prefetchnta Prefetcht0 Prefetcht1 Prefetcht2 Prefetchw Reservednop => emit mov::nop;
    Fence Lfence Mfence Sfence => plain system::fence;
    Shl Shl Sal => emit shift::shl;
    Shr Shr => emit shift::shr;
    Sar Sar => emit shift::sar;
    Rol Rol => emit shift::rol;
    Ror Ror => emit shift::ror;
    Rcl Rcl => emit shift::rcl;
    Rcr Rcr => emit shift::rcr;
    Shld Shld => emit shift::shld;
    Shrd Shrd => emit shift::shrd;
    Bt Bt => emit bit::bt;
    Bts Bts => emit bit::bts;
    Btr Btr => emit bit::btr;
    Btc Btc => emit bit::btc;
    Bsf Bsf => emit bit::bsf;
    Bsr Bsr => emit bit::bsr;
    Popcnt Popcnt => emit bit::popcnt;
    Mul Mul => emit muldiv::mul;
    Imul Imul => emit muldiv::imul;
    Div Div => plain muldiv::div;
    Idiv Idiv => plain muldiv::idiv;
    Xchg Xchg => emit exchange::xchg;
    Xadd Xadd => emit exchange::xadd;
    Cmpxchg Cmpxchg => emit exchange::cmpxchg;
    Cmpxchg8b Cmpxchg8b => emit exchange::cmpxchg8b;
    Cmpxchg16b Cmpxchg16b => plain exchange::cmpxchg16b;
    Push => emit stack::push_op;
    Pop => emit stack::pop_op;
    PushSeg => plain stack::push_seg;
    PopSeg => last stack::pop_seg;
    Pusha Pusha Pushad => plain stack::pusha;
    Popa Popa Popad => plain stack::popa;
    Enter Enter => plain stack::enter;
    Leave Leave => emit stack::leave;
    Pushf Pushf Pushfd Pushfq => plain stack::pushf;
    Popf Popf Popfd Popfq => last stack::popf;
    Jmp => jump branch::jmp;
    Jcc => jump branch::jcc;
    Jcxz Jcxz Jecxz Jrcxz => jump branch::jcxz;
    Loop => jump branch::loop_;
    Call => jump branch::call;
    Ret Ret => jump branch::ret;
    JmpFar => last far::jmp_far;
    CallFar => last far::call_far;
    RetFar Retf => last far::ret_far;
    Iret Iret Iretd Iretq => last far::iret;
    Int Int => last far::int;
    Int3 Int3 => last far::int3;
    Int1 Int1 => last far::int1;
    Into Into => last far::into;
    Bound Bound => plain far::bound;
    LoadFar => last far::load_far;
    Syscall Syscall => last far::syscall;
    Sysret Sysret Sysretq => last far::sysret;
    Sysenter Sysenter => last far::sysenter;
    Sysexit Sysexit Sysexitq => last far::sysexit;
    Movs Movsb Movsw Movsq => plain string::movs;
    Stos Stosb Stosw Stosd Stosq => plain string::stos;
    Lods Lodsb Lodsw Lodsd Lodsq => plain string::lods;
    Scas Scasb Scasw Scasd Scasq => plain string::scas;
    Cmps Cmpsb Cmpsw Cmpsq => plain string::cmps;
    Ins Insb Insw Insd => last string::ins;
    Outs Outsb Outsw Outsd => last string::outs;
    In In => last io::in_;
    Out Out => last io::out;
    Clc Clc => emit flagctl::clc;
    Stc Stc => emit flagctl::stc;
    Cmc Cmc => emit flagctl::cmc;
    Lahf Lahf => emit flagctl::lahf;
    Sahf Sahf => emit flagctl::sahf;
    Salc Salc => emit flagctl::salc;
    Cld Cld => plain flagctl::cld;
    Std Std => plain flagctl::std;
    Cli Cli => plain flagctl::cli;
    Sti Sti => last flagctl::sti;
    Daa Daa => plain bcd::daa;
    Das Das => plain bcd::das;
    Aaa Aaa => plain bcd::aaa;
    Aas Aas => plain bcd::aas;
    Aam Aam => plain bcd::aam;
    Aad Aad => plain bcd::aad;
    MovFromSeg => plain system::mov_from_seg;
    MovToSeg => last system::mov_to_seg;
    MovFromCr => last system::mov_from_cr;
    MovToCr => last system::mov_to_cr;
    MovFromDr => last system::mov_from_dr;
    MovToDr => last system::mov_to_dr;
    Clts Clts => last system::clts;
    Lmsw Lmsw => last system::lmsw;
    Smsw Smsw => plain system::smsw;
    Lgdt Lgdt => last system::lgdt;
    Lidt Lidt => last system::lidt;
    Sgdt Sgdt => plain system::sgdt;
    Sidt Sidt => plain system::sidt;
    Lldt Lldt => last system::lldt;
    Ltr Ltr => last system::ltr;
    Sldt Sldt => plain system::sldt;
    Str Str => plain system::str;
    Lar Lar => plain system::lar;
    Lsl Lsl => plain system::lsl;
    Verr Verr => plain system::verr;
    Verw Verw => plain system::verw;
    Arpl Arpl => plain system::arpl;
    Invlpg Invlpg => last system::invlpg;
    Invpcid Invpcid => last system::invpcid;
    Wbinvd Wbinvd Invd Wbnoinvd => last system::wbinvd;
    Hlt Hlt => last system::hlt;
    Monitor Monitor => plain system::monitor;
    Mwait Mwait => last system::mwait;
    Clflush Clflush Clflushopt Clwb => plain system::clflush;
    Swapgs Swapgs => last system::swapgs;
    Rdfsbase Rdfsbase => plain system::rdfsbase;
    Rdgsbase Rdgsbase => plain system::rdgsbase;
    Wrfsbase Wrfsbase => last system::wrfsbase;
    Wrgsbase Wrgsbase => last system::wrgsbase;
    Clac Clac => last system::clac;
    Stac Stac => last system::stac;
    Rdtsc Rdtsc => last system::rdtsc;
    Rdtscp Rdtscp => last system::rdtscp;
    Rdpid Rdpid => plain system::rdpid;
    Rdpmc Rdpmc => plain system::rdpmc;
    Rdrand Rdrand => last system::rdrand;
    Rdseed Rdseed => last system::rdrand;
    Rdmsr Rdmsr => last msr::rdmsr;
    Wrmsr Wrmsr => last msr::wrmsr;
    Xgetbv Xgetbv => plain system::xgetbv;
    Xsetbv Xsetbv => last system::xsetbv;
    Cpuid Cpuid => last cpuid::cpuid;
    Ud Ud0 Ud1 Ud2 => last system::ud;
}

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
        OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI | OpKind::MemorySegSI | OpKind::MemorySegESI | OpKind::MemorySegRSI
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
        M::Push => if is(special(0), seg) { Op::PushSeg } else { Op::Push },
        M::Pop => if is(special(0), seg) { Op::PopSeg } else { Op::Pop },
        M::Movsd if is_string(x) => Op::Movs,
        M::Cmpsd if is_string(x) => Op::Cmps,
        M::Jmp => if crate::decode::is_far(x) { Op::JmpFar } else { Op::Jmp },
        M::Call => if crate::decode::is_far(x) { Op::CallFar } else { Op::Call },
        M::Loop => return Some((Op::Loop, 0)),
        M::Loope => return Some((Op::Loop, 1)),
        M::Loopne => return Some((Op::Loop, 2)),
        M::Les => return Some((Op::LoadFar, 0)),
        M::Lss => return Some((Op::LoadFar, 2)),
        M::Lds => return Some((Op::LoadFar, 3)),
        M::Lfs => return Some((Op::LoadFar, 4)),
        M::Lgs => return Some((Op::LoadFar, 5)),
        _ => return condition(m).or_else(|| by_mnemonic(m).map(|op| (op, 0))),
    };
    Some((op, 0))
}

/// The dispatch number of an instruction: a hot form if there is one, else its operation.
pub fn dispatch(op: Op, i: &Insn) -> u16 {
    if op == Op::Mov && i.bytes == 0xff && (i.a == opnd::MEM || i.b == opnd::MEM) {
        return hot::COUNT + Op::MovMoffs as u16;
    }
    hot::select(op, i).unwrap_or(hot::COUNT + op as u16)
}

/// Does the operation with this number end its block?
pub fn ends_at(n: u16) -> bool {
    ENDS.get(usize::from(n)).copied().unwrap_or(true)
}
