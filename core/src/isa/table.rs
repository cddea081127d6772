//! The instruction set: one line per mnemonic says which function is its meaning.
//!
//! `emit` functions are generic over [`Emit`](crate::emit::Emit): the interpreter runs them, the JIT compiles them.
//! `plain` functions work on the CPU directly; `unit` ones work on the x87 unit and memory alone, and need registers for
//! addresses only. `last` ones (plain) and `jump` ones (emit) end a block, because they may
//! change RIP, the mode, IF or the board, or read the time.

use super::operand::Any;
use super::*;
use crate::jit::{Builder, Leave};

macro_rules! handler {
    (plain $f:path) => {
        $f
    };
    (last $f:path) => {
        $f
    };
    (unit $f:path) => {
        $f
    };
    ($generic:ident $f:path) => {
        |cpu: &mut Cpu, i: &Insn| $f(cpu, Any(i))
    };
}
macro_rules! compile {
    (emit $f:path) => {
        Compile::Emit(|b: &mut Builder<'_>, i: &Insn| $f(b, Any(i)))
    };
    (jump $f:path) => {
        Compile::Emit(|b: &mut Builder<'_>, i: &Insn| $f(b, Any(i)))
    };
    (plain $f:path) => {
        Compile::Call
    };
    (unit $f:path) => {
        Compile::CallUnit
    };
    (last $f:path) => {
        Compile::Call
    };
}
macro_rules! ends {
    (emit) => {
        false
    };
    (plain) => {
        false
    };
    (unit) => {
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
        static COMPILE: [Compile; COUNT] = [$(compile!($kind $f),)*];
        /// Does the operation end its block?
        pub const fn ends(op: Op) -> bool {
            match op { $(Op::$op => ends!($kind),)* }
        }
        /// All operations, in order.
        static OPS: [Op; COUNT] = [$(Op::$op,)*];
        /// Names, for people.
        pub static NAMES: [&str; COUNT] = [$(stringify!($op),)*];
        /// Number of operations.
        pub const COUNT: usize = [$(Op::$op,)*].len();

        /// The operation of a mnemonic that means the same in all its forms.
        pub(super) fn by_mnemonic(m: Mnemonic) -> Option<Op> {
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
    MovMoffs => plain mov::mov_moffs;
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
    Nop Nop Pause Endbr32 Endbr64 Prefetchnta Prefetcht0 Prefetcht1 Prefetcht2 Prefetch Prefetchw Prefetchwt1 Prefetchit0 Prefetchit1 Rdsspd Rdsspq Cldemote Reservednop => emit mov::nop;
    Fence Lfence Mfence Sfence => emit system::fence;
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
    Div Div => emit muldiv::div;
    Idiv Idiv => emit muldiv::idiv;
    Xchg Xchg => emit exchange::xchg;
    Xadd Xadd => emit exchange::xadd;
    Cmpxchg Cmpxchg => emit exchange::cmpxchg;
    Cmpxchg8b Cmpxchg8b => emit exchange::cmpxchg8b;
    Cmpxchg16b Cmpxchg16b => emit exchange::cmpxchg16b;
    Push => emit stack::push_op;
    Pop => emit stack::pop_op;
    PushSeg => emit stack::push_seg;
    PopSeg => jump stack::pop_seg;
    Pusha Pusha Pushad => plain stack::pusha;
    Popa Popa Popad => plain stack::popa;
    Enter Enter => plain stack::enter;
    Leave Leave => emit stack::leave;
    Pushf Pushf Pushfd Pushfq => emit stack::pushf;
    Popf Popf Popfd Popfq => jump stack::popf;
    Jmp => jump branch::jmp;
    Jcc => jump branch::jcc;
    Jcxz Jcxz Jecxz Jrcxz => jump branch::jcxz;
    Loop => jump branch::loop_;
    Call => jump branch::call;
    Ret Ret => jump branch::ret;
    JmpFar => last far::jmp_far;
    CallFar => last far::call_far;
    RetFar Retf => last ret::ret_far;
    Iret Iret Iretd Iretq => last ret::iret;
    Int Int => last trap::int;
    Int3 Int3 => last trap::int3;
    Int1 Int1 => last trap::int1;
    Into Into => last trap::into;
    Bound Bound => plain trap::bound;
    LoadFar => last far::load_far;
    Vmcall Vmcall Vmmcall => last syscall::vmcall;
    Syscall Syscall => last syscall::syscall;
    Sysret Sysret Sysretq => last syscall::sysret;
    Sysenter Sysenter => last syscall::sysenter;
    Sysexit Sysexit Sysexitq => last syscall::sysexit;
    Movs Movsb Movsw Movsq => emit string::movs;
    Stos Stosb Stosw Stosd Stosq => emit string::stos;
    Lods Lodsb Lodsw Lodsd Lodsq => emit string::lods;
    Scas Scasb Scasw Scasd Scasq => emit string::scas;
    Cmps Cmpsb Cmpsw Cmpsq => emit string::cmps;
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
    Cld Cld => emit flagctl::cld;
    Std Std => emit flagctl::std;
    Cli Cli => emit flagctl::cli;
    Sti Sti => jump flagctl::sti;
    Daa Daa => plain bcd::daa;
    Das Das => plain bcd::das;
    Aaa Aaa => plain bcd::aaa;
    Aas Aas => plain bcd::aas;
    Aam Aam => plain bcd::aam;
    Aad Aad => plain bcd::aad;
    MovFromSeg => emit descriptor::mov_from_seg;
    MovToSeg => jump descriptor::mov_to_seg;
    MovFromCr => last control::mov_from_cr;
    MovToCr => last control::mov_to_cr;
    MovFromDr => last control::mov_from_dr;
    MovToDr => last control::mov_to_dr;
    Clts Clts => last control::clts;
    Lmsw Lmsw => last control::lmsw;
    Smsw Smsw => plain control::smsw;
    Lgdt Lgdt => last descriptor::lgdt;
    Lidt Lidt => last descriptor::lidt;
    Sgdt Sgdt => plain descriptor::sgdt;
    Sidt Sidt => plain descriptor::sidt;
    Lldt Lldt => last descriptor::lldt;
    Ltr Ltr => last descriptor::ltr;
    Sldt Sldt => plain descriptor::sldt;
    Str Str => plain descriptor::str;
    Lar Lar => plain descriptor::lar;
    Lsl Lsl => plain descriptor::lsl;
    Verr Verr => plain descriptor::verr;
    Verw Verw => plain descriptor::verw;
    Arpl Arpl => plain descriptor::arpl;
    Invlpg Invlpg => last system::invlpg;
    Invpcid Invpcid => last system::invpcid;
    Wbinvd Wbinvd Invd Wbnoinvd => last system::wbinvd;
    Hlt Hlt => last system::hlt;
    Clflush Clflush Clflushopt Clwb => plain system::clflush;
    Swapgs Swapgs => emit system::swapgs;
    Rdfsbase Rdfsbase => emit system::rdfsbase;
    Rdgsbase Rdgsbase => emit system::rdgsbase;
    Wrfsbase Wrfsbase => emit system::wrfsbase;
    Wrgsbase Wrgsbase => emit system::wrgsbase;
    Clac Clac => emit system::clac;
    Stac Stac => emit system::stac;
    Rdtsc Rdtsc => jump system::rdtsc;
    Rdtscp Rdtscp => last system::rdtscp;
    Rdpid Rdpid => plain system::rdpid;
    Rdpmc Rdpmc => plain system::rdpmc;
    Rdrand Rdrand => last system::rdrand;
    Rdseed Rdseed => last system::rdrand;
    Rdmsr Rdmsr => last msr::rdmsr;
    Wrmsr Wrmsr => last msr::wrmsr;
    Xgetbv Xgetbv => plain control::xgetbv;
    Xsetbv Xsetbv => last control::xsetbv;
    Cpuid Cpuid => last cpuid::cpuid;
    Movaps Movaps Movapd Movdqa Movntps Movntpd Movntdq Movntdqa => emit sse::mov::movaps;
    Movups Movups Movupd Movdqu Lddqu => emit sse::mov::movups;
    Movss Movss => emit sse::mov::movss;
    Movd Movd => emit sse::mov::movd;
    Movq Movq Movntq => emit sse::mov::movq;
    Movq2dq Movq2dq Movdq2q => emit sse::mov::movq2dq;
    Movlps Movlps Movlpd Movhlps => emit sse::mov::movlps;
    Movhps Movhps Movhpd Movlhps => emit sse::mov::movhps;
    Pmovmskb Pmovmskb => emit sse::mov::pmovmskb;
    Movmskps Movmskps => emit sse::mov::movmskps;
    Movmskpd Movmskpd => emit sse::mov::movmskpd;
    Pextrb Pextrb => emit sse::mov::pextrb;
    Pextrw Pextrw => emit sse::mov::pextrw;
    Pextrd Pextrd Extractps => emit sse::mov::pextrd;
    Pextrq Pextrq => emit sse::mov::pextrq;
    Pinsrb Pinsrb => emit sse::mov::pinsrb;
    Pinsrw Pinsrw => emit sse::mov::pinsrw;
    Pinsrd Pinsrd => emit sse::mov::pinsrd;
    Pinsrq Pinsrq => emit sse::mov::pinsrq;
    MovScalarD => emit sse::mov::movsd;
    Maskmov Maskmovdqu Maskmovq => plain sse::mov::maskmov;
    Pand Pand Andps Andpd => emit sse::int::pand;
    Pandn Pandn Andnps Andnpd => emit sse::int::pandn;
    Por Por Orps Orpd => emit sse::int::por;
    Pxor Pxor Xorps Xorpd => emit sse::int::pxor;
    Paddb Paddb => emit sse::int::paddb;
    Paddw Paddw => emit sse::int::paddw;
    Paddd Paddd => emit sse::int::paddd;
    Paddq Paddq => emit sse::int::paddq;
    Psubb Psubb => emit sse::int::psubb;
    Psubw Psubw => emit sse::int::psubw;
    Psubd Psubd => emit sse::int::psubd;
    Psubq Psubq => emit sse::int::psubq;
    Paddsb Paddsb => emit sse::int::paddsb;
    Paddsw Paddsw => emit sse::int::paddsw;
    Paddusb Paddusb => emit sse::int::paddusb;
    Paddusw Paddusw => emit sse::int::paddusw;
    Psubsb Psubsb => emit sse::int::psubsb;
    Psubsw Psubsw => emit sse::int::psubsw;
    Psubusb Psubusb => emit sse::int::psubusb;
    Psubusw Psubusw => emit sse::int::psubusw;
    Pmullw Pmullw => emit sse::int::pmullw;
    Pmulld Pmulld => emit sse::int::pmulld;
    Pmulhw Pmulhw => emit sse::int::pmulhw;
    Pmulhuw Pmulhuw => emit sse::int::pmulhuw;
    Pmulhrsw Pmulhrsw => emit sse::int::pmulhrsw;
    Pmuludq Pmuludq => emit sse::int::pmuludq;
    Pmuldq Pmuldq => emit sse::int::pmuldq;
    Pmaddwd Pmaddwd => emit sse::int::pmaddwd;
    Pmaddubsw Pmaddubsw => emit sse::int::pmaddubsw;
    Psadbw Psadbw => emit sse::int::psadbw;
    Pavgb Pavgb => emit sse::int::pavgb;
    Pavgw Pavgw => emit sse::int::pavgw;
    Pminub Pminub => emit sse::int::pminub;
    Pminsb Pminsb => emit sse::int::pminsb;
    Pminuw Pminuw => emit sse::int::pminuw;
    Pminsw Pminsw => emit sse::int::pminsw;
    Pminud Pminud => emit sse::int::pminud;
    Pminsd Pminsd => emit sse::int::pminsd;
    Pmaxub Pmaxub => emit sse::int::pmaxub;
    Pmaxsb Pmaxsb => emit sse::int::pmaxsb;
    Pmaxuw Pmaxuw => emit sse::int::pmaxuw;
    Pmaxsw Pmaxsw => emit sse::int::pmaxsw;
    Pmaxud Pmaxud => emit sse::int::pmaxud;
    Pmaxsd Pmaxsd => emit sse::int::pmaxsd;
    Pcmpeqb Pcmpeqb => emit sse::int::pcmpeqb;
    Pcmpeqw Pcmpeqw => emit sse::int::pcmpeqw;
    Pcmpeqd Pcmpeqd => emit sse::int::pcmpeqd;
    Pcmpeqq Pcmpeqq => emit sse::int::pcmpeqq;
    Pcmpgtb Pcmpgtb => emit sse::int::pcmpgtb;
    Pcmpgtw Pcmpgtw => emit sse::int::pcmpgtw;
    Pcmpgtd Pcmpgtd => emit sse::int::pcmpgtd;
    Pcmpgtq Pcmpgtq => emit sse::int::pcmpgtq;
    Psignb Psignb => emit sse::int::psignb;
    Psignw Psignw => emit sse::int::psignw;
    Psignd Psignd => emit sse::int::psignd;
    Pabsb Pabsb => emit sse::int::pabsb;
    Pabsw Pabsw => emit sse::int::pabsw;
    Pabsd Pabsd => emit sse::int::pabsd;
    Phminposuw Phminposuw => emit sse::int::phminposuw;
    Phaddw Phaddw => emit sse::int::phaddw;
    Phaddd Phaddd => emit sse::int::phaddd;
    Phaddsw Phaddsw => emit sse::int::phaddsw;
    Phsubw Phsubw => emit sse::int::phsubw;
    Phsubd Phsubd => emit sse::int::phsubd;
    Phsubsw Phsubsw => emit sse::int::phsubsw;
    Psllw Psllw => emit sse::int::psllw;
    Pslld Pslld => emit sse::int::pslld;
    Psllq Psllq => emit sse::int::psllq;
    Psrlw Psrlw => emit sse::int::psrlw;
    Psrld Psrld => emit sse::int::psrld;
    Psrlq Psrlq => emit sse::int::psrlq;
    Psraw Psraw => emit sse::int::psraw;
    Psrad Psrad => emit sse::int::psrad;
    Mpsadbw Mpsadbw => emit sse::int::mpsadbw;
    Ptest Ptest => emit sse::int::ptest;
    Packsswb Packsswb => emit sse::shuffle::packsswb;
    Packuswb Packuswb => emit sse::shuffle::packuswb;
    Packssdw Packssdw => emit sse::shuffle::packssdw;
    Packusdw Packusdw => emit sse::shuffle::packusdw;
    Punpcklbw Punpcklbw => emit sse::shuffle::punpcklbw;
    Punpcklwd Punpcklwd => emit sse::shuffle::punpcklwd;
    Punpckldq Punpckldq => emit sse::shuffle::punpckldq;
    Unpcklps Unpcklps => emit sse::shuffle::unpcklps;
    Unpckhps Unpckhps => emit sse::shuffle::unpckhps;
    Punpcklqdq Punpcklqdq Unpcklpd => emit sse::shuffle::punpcklqdq;
    Punpckhqdq Punpckhqdq Unpckhpd => emit sse::shuffle::punpckhqdq;
    Punpckhbw Punpckhbw => emit sse::shuffle::punpckhbw;
    Punpckhwd Punpckhwd => emit sse::shuffle::punpckhwd;
    Punpckhdq Punpckhdq => emit sse::shuffle::punpckhdq;
    Movsldup Movsldup => emit sse::shuffle::movsldup;
    Movshdup Movshdup => emit sse::shuffle::movshdup;
    Movddup Movddup => emit sse::shuffle::movddup;
    Pshufd Pshufd => emit sse::shuffle::pshufd;
    Pshuflw Pshuflw => emit sse::shuffle::pshuflw;
    Pshufhw Pshufhw => emit sse::shuffle::pshufhw;
    Pshufw Pshufw => emit sse::shuffle::pshufw;
    Shufps Shufps => emit sse::shuffle::shufps;
    Shufpd Shufpd => emit sse::shuffle::shufpd;
    Pshufb Pshufb => emit sse::shuffle::pshufb;
    Palignr Palignr => emit sse::shuffle::palignr;
    Pslldq Pslldq => emit sse::shuffle::pslldq;
    Psrldq Psrldq => emit sse::shuffle::psrldq;
    Pblendw Pblendw => emit sse::shuffle::pblendw;
    Blendps Blendps => emit sse::shuffle::blendps;
    Blendpd Blendpd => emit sse::shuffle::blendpd;
    Pblendvb Pblendvb => emit sse::shuffle::pblendvb;
    Blendvps Blendvps => emit sse::shuffle::blendvps;
    Blendvpd Blendvpd => emit sse::shuffle::blendvpd;
    Insertps Insertps => emit sse::shuffle::insertps;
    Pmovsxbw Pmovsxbw => emit sse::shuffle::pmovsxbw;
    Pmovsxbd Pmovsxbd => emit sse::shuffle::pmovsxbd;
    Pmovsxbq Pmovsxbq => emit sse::shuffle::pmovsxbq;
    Pmovsxwd Pmovsxwd => emit sse::shuffle::pmovsxwd;
    Pmovsxwq Pmovsxwq => emit sse::shuffle::pmovsxwq;
    Pmovsxdq Pmovsxdq => emit sse::shuffle::pmovsxdq;
    Pmovzxbw Pmovzxbw => emit sse::shuffle::pmovzxbw;
    Pmovzxbd Pmovzxbd => emit sse::shuffle::pmovzxbd;
    Pmovzxbq Pmovzxbq => emit sse::shuffle::pmovzxbq;
    Pmovzxwd Pmovzxwd => emit sse::shuffle::pmovzxwd;
    Pmovzxwq Pmovzxwq => emit sse::shuffle::pmovzxwq;
    Pmovzxdq Pmovzxdq => emit sse::shuffle::pmovzxdq;
    Addps Addps => emit sse::float::addps;
    Addpd Addpd => emit sse::float::addpd;
    Addss Addss => emit sse::float::addss;
    Addsd Addsd => emit sse::float::addsd;
    Subps Subps => emit sse::float::subps;
    Subpd Subpd => emit sse::float::subpd;
    Subss Subss => emit sse::float::subss;
    Subsd Subsd => emit sse::float::subsd;
    Mulps Mulps => emit sse::float::mulps;
    Mulpd Mulpd => emit sse::float::mulpd;
    Mulss Mulss => emit sse::float::mulss;
    Mulsd Mulsd => emit sse::float::mulsd;
    Divps Divps => emit sse::float::divps;
    Divpd Divpd => emit sse::float::divpd;
    Divss Divss => emit sse::float::divss;
    Divsd Divsd => emit sse::float::divsd;
    Minps Minps => emit sse::float::minps;
    Minpd Minpd => emit sse::float::minpd;
    Minss Minss => emit sse::float::minss;
    Minsd Minsd => emit sse::float::minsd;
    Maxps Maxps => emit sse::float::maxps;
    Maxpd Maxpd => emit sse::float::maxpd;
    Maxss Maxss => emit sse::float::maxss;
    Maxsd Maxsd => emit sse::float::maxsd;
    Sqrtps Sqrtps => emit sse::float::sqrtps;
    Sqrtpd Sqrtpd => emit sse::float::sqrtpd;
    Sqrtss Sqrtss => emit sse::float::sqrtss;
    Sqrtsd Sqrtsd => emit sse::float::sqrtsd;
    Rcpps Rcpps => plain sse::float::rcpps;
    Rcpss Rcpss => plain sse::float::rcpss;
    Rsqrtps Rsqrtps => plain sse::float::rsqrtps;
    Rsqrtss Rsqrtss => plain sse::float::rsqrtss;
    Roundps Roundps => plain sse::float::roundps;
    Roundpd Roundpd => plain sse::float::roundpd;
    Roundss Roundss => plain sse::float::roundss;
    Roundsd Roundsd => plain sse::float::roundsd;
    Addsubps Addsubps => plain sse::float::addsubps;
    Addsubpd Addsubpd => plain sse::float::addsubpd;
    Haddps Haddps => plain sse::float::haddps;
    Haddpd Haddpd => plain sse::float::haddpd;
    Hsubps Hsubps => plain sse::float::hsubps;
    Hsubpd Hsubpd => plain sse::float::hsubpd;
    Dpps Dpps => plain sse::float::dpps;
    Dppd Dppd => plain sse::float::dppd;
    Cmpps Cmpps => emit sse::compare::cmpps;
    Cmppd Cmppd => emit sse::compare::cmppd;
    Cmpss Cmpss => emit sse::compare::cmpss;
    CmpScalarD => emit sse::compare::cmpsd;
    Comiss Comiss => emit sse::compare::comiss;
    Ucomiss Ucomiss => emit sse::compare::ucomiss;
    Comisd Comisd => emit sse::compare::comisd;
    Ucomisd Ucomisd => emit sse::compare::ucomisd;
    Cvtsi2ss Cvtsi2ss => emit sse::convert::cvtsi2ss;
    Cvtsi2sd Cvtsi2sd => emit sse::convert::cvtsi2sd;
    Cvtss2si Cvtss2si => emit sse::convert::cvtss2si;
    Cvttss2si Cvttss2si => emit sse::convert::cvttss2si;
    Cvtsd2si Cvtsd2si => emit sse::convert::cvtsd2si;
    Cvttsd2si Cvttsd2si => emit sse::convert::cvttsd2si;
    Cvtss2sd Cvtss2sd => emit sse::convert::cvtss2sd;
    Cvtsd2ss Cvtsd2ss => emit sse::convert::cvtsd2ss;
    Cvtps2pd Cvtps2pd => emit sse::convert::cvtps2pd;
    Cvtpd2ps Cvtpd2ps => emit sse::convert::cvtpd2ps;
    Cvtdq2ps Cvtdq2ps => emit sse::convert::cvtdq2ps;
    Cvtdq2pd Cvtdq2pd => emit sse::convert::cvtdq2pd;
    Cvtps2dq Cvtps2dq => emit sse::convert::cvtps2dq;
    Cvttps2dq Cvttps2dq => emit sse::convert::cvttps2dq;
    Cvtpd2dq Cvtpd2dq => emit sse::convert::cvtpd2dq;
    Cvttpd2dq Cvttpd2dq => emit sse::convert::cvttpd2dq;
    Cvtpi2ps Cvtpi2ps => plain sse::convert::cvtpi2ps;
    Cvtpi2pd Cvtpi2pd => plain sse::convert::cvtpi2pd;
    Cvtps2pi Cvtps2pi => plain sse::convert::cvtps2pi;
    Cvttps2pi Cvttps2pi => plain sse::convert::cvttps2pi;
    Cvtpd2pi Cvtpd2pi => plain sse::convert::cvtpd2pi;
    Cvttpd2pi Cvttpd2pi => plain sse::convert::cvttpd2pi;
    Pcmpistri Pcmpistri => plain sse::string::pcmpistri;
    Pcmpistrm Pcmpistrm => plain sse::string::pcmpistrm;
    Pcmpestri Pcmpestri => plain sse::string::pcmpestri;
    Pcmpestri64 Pcmpestri64 => plain sse::string::pcmpestri64;
    Pcmpestrm Pcmpestrm => plain sse::string::pcmpestrm;
    Pcmpestrm64 Pcmpestrm64 => plain sse::string::pcmpestrm64;
    Crc32 Crc32 => plain sse::crc::crc32;
    // The x87 unit and the instructions that save it.
    Fadd Fadd Faddp => emit x87::arith::fadd;
    Fiadd Fiadd => emit x87::arith::fiadd;
    Fmul Fmul Fmulp => emit x87::arith::fmul;
    Fimul Fimul => emit x87::arith::fimul;
    Fsub Fsub Fsubp => emit x87::arith::fsub;
    Fisub Fisub => emit x87::arith::fisub;
    Fsubr Fsubr Fsubrp => emit x87::arith::fsubr;
    Fisubr Fisubr => emit x87::arith::fisubr;
    Fdiv Fdiv Fdivp => emit x87::arith::fdiv;
    Fidiv Fidiv => emit x87::arith::fidiv;
    Fdivr Fdivr Fdivrp => emit x87::arith::fdivr;
    Fidivr Fidivr => emit x87::arith::fidivr;
    Fchs Fchs => emit x87::arith::fchs;
    Fabs Fabs => emit x87::arith::fabs;
    Fsqrt Fsqrt => emit x87::arith::fsqrt;
    Frndint Frndint => unit x87::arith::frndint;
    Fscale Fscale => unit x87::arith::fscale;
    Fxtract Fxtract => unit x87::arith::fxtract;
    Fprem Fprem => unit x87::arith::fprem;
    Fprem1 Fprem1 => unit x87::arith::fprem1;
    F2xm1 F2xm1 => unit x87::arith::f2xm1;
    Fyl2x Fyl2x => unit x87::arith::fyl2x;
    Fyl2xp1 Fyl2xp1 => unit x87::arith::fyl2xp1;
    Fpatan Fpatan => unit x87::arith::fpatan;
    Fptan Fptan => unit x87::arith::fptan;
    Fsin Fsin => unit x87::arith::fsin;
    Fcos Fcos => unit x87::arith::fcos;
    Fsincos Fsincos => unit x87::arith::fsincos;
    Fcom Fcom => emit x87::compare::fcom;
    Fcomp Fcomp => emit x87::compare::fcomp;
    Fcompp Fcompp => emit x87::compare::fcompp;
    Ficom Ficom => emit x87::compare::ficom;
    Ficomp Ficomp => emit x87::compare::ficomp;
    Fucom Fucom => emit x87::compare::fucom;
    Fucomp Fucomp => emit x87::compare::fucomp;
    Fucompp Fucompp => emit x87::compare::fucompp;
    Fcomi Fcomi => emit x87::compare::fcomi;
    Fcomip Fcomip => emit x87::compare::fcomip;
    Fucomi Fucomi => emit x87::compare::fucomi;
    Fucomip Fucomip => emit x87::compare::fucomip;
    Ftst Ftst => unit x87::compare::ftst;
    Fxam Fxam => unit x87::compare::fxam;
    Fcmovcc Fcmovb Fcmove Fcmovbe Fcmovu Fcmovnb Fcmovne Fcmovnbe Fcmovnu => plain x87::compare::fcmovcc;
    Fld Fld => emit x87::data::fld;
    Fild Fild => emit x87::data::fild;
    Fbld Fbld => unit x87::data::fbld;
    Fst Fst => emit x87::data::fst;
    Fstp Fstp => emit x87::data::fstp;
    Fstpnce Fstpnce => unit x87::data::fstpnce;
    Fist Fist => unit x87::data::fist;
    Fistp Fistp => unit x87::data::fistp;
    Fisttp Fisttp => unit x87::data::fisttp;
    Fbstp Fbstp => unit x87::data::fbstp;
    Fxch Fxch => emit x87::data::fxch;
    FldConstant Fld1 Fldl2t Fldl2e Fldpi Fldlg2 Fldln2 Fldz => emit x87::data::fld_constant;
    Fwait Wait => plain x87::control::fwait;
    Emms Emms => plain x87::control::emms;
    Fnop Fnop => plain x87::control::fnop;
    FpuOldNop Fneni Fndisi Fnsetpm => plain x87::control::old_nop;
    Fincstp Fincstp => plain x87::control::fincstp;
    Fdecstp Fdecstp => plain x87::control::fdecstp;
    Ffree Ffree => plain x87::control::ffree;
    Ffreep Ffreep => plain x87::control::ffreep;
    Fninit Fninit => plain x87::control::fninit;
    Fnclex Fnclex => plain x87::control::fnclex;
    Fldcw Fldcw => plain x87::control::fldcw;
    Fnstcw Fnstcw => plain x87::control::fnstcw;
    Fnstsw Fnstsw => plain x87::control::fnstsw;
    Fldenv Fldenv => plain x87::control::fldenv;
    Fnstenv Fnstenv => plain x87::control::fnstenv;
    Frstor Frstor => plain x87::control::frstor;
    Fnsave Fnsave => plain x87::control::fnsave;
    Fxsave Fxsave Fxsave64 => plain fxsave::fxsave;
    Fxrstor Fxrstor Fxrstor64 => plain fxsave::fxrstor;
    Xsave Xsave Xsave64 => plain fxsave::xsave;
    Xrstor Xrstor Xrstor64 => plain fxsave::xrstor;
    Ldmxcsr Ldmxcsr => plain fxsave::ldmxcsr;
    Stmxcsr Stmxcsr => plain fxsave::stmxcsr;
    // End of the x87 unit.
    Ud Ud0 Ud1 Ud2 => last system::ud;
}

/// How the JIT deals with an operation.
#[derive(Clone, Copy)]
pub enum Compile {
    /// It compiles what this leaves behind.
    Emit(fn(&mut Builder<'_>, &Insn) -> Result<(), Leave>),
    /// It calls the interpreter's function.
    Call,
    /// It calls the interpreter's function, which reads no registers but those of an address, and writes none, no flags
    /// either.
    CallUnit,
}

/// How the JIT deals with an operation.
pub fn compile(op: Op) -> Compile {
    COMPILE[op as usize]
}

/// The operation with this number.
pub fn op_at(n: u16) -> Option<Op> {
    OPS.get(usize::from(n)).copied()
}
