//! Which feature an instruction belongs to, so that CPU models without it raise #UD. Decided when an instruction is
//! decoded: a machine's model never changes.

use crate::cpu::features::Feature;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Is an operand of the class `first..=last`?
fn uses(x: &Instruction, first: Register, last: Register) -> bool {
    (0..x.op_count())
        .any(|n| x.op_kind(n) == OpKind::Register && (first as u32..=last as u32).contains(&(x.op_register(n) as u32)))
}

/// What the CPU must have for `x`, decoded for 64-bit mode if `long`.
pub fn needs(x: &Instruction, long: bool) -> Feature {
    use Mnemonic::*;
    match x.mnemonic() {
        Cmovo | Cmovno | Cmovb | Cmovae | Cmove | Cmovne | Cmovbe | Cmova | Cmovs | Cmovns | Cmovp | Cmovnp | Cmovl
        | Cmovge | Cmovle | Cmovg | Fcmovb | Fcmove | Fcmovbe | Fcmovu | Fcmovnb | Fcmovne | Fcmovnbe | Fcmovnu
        | Fcomi | Fcomip | Fucomi | Fucomip => Feature::Cmov,
        // The group of hints at 0F 0D and 0F 18 to 0F 1F; one-byte NOPs and PAUSE are as old as the 8086.
        Prefetchnta | Prefetcht0 | Prefetcht1 | Prefetcht2 | Prefetch | Prefetchw | Prefetchwt1 | Prefetchit0
        | Prefetchit1 | Endbr32 | Endbr64 | Rdsspd | Rdsspq | Cldemote | Reservednop => Feature::Hints,
        Nop if x.op_count() > 0 => Feature::Hints,
        Sysenter | Sysexit | Sysexitq => Feature::Sep,
        Syscall | Sysret | Sysretq => Feature::Syscall,
        Fxsave | Fxsave64 | Fxrstor | Fxrstor64 => Feature::Fxsr,
        Clflush => Feature::Clflush,
        Emms => Feature::Mmx,
        Ldmxcsr | Stmxcsr | Lfence | Mfence | Sfence | Movnti | Cvtss2si | Cvttss2si | Cvtsd2si | Cvttsd2si => {
            Feature::Sse2
        }
        Fisttp | Addsubps | Addsubpd | Haddps | Haddpd | Hsubps | Hsubpd | Lddqu | Movddup | Movshdup | Movsldup => {
            Feature::Sse3
        }
        Pshufb | Phaddw | Phaddd | Phaddsw | Phsubw | Phsubd | Phsubsw | Pmaddubsw | Pmulhrsw | Psignb | Psignw
        | Psignd | Pabsb | Pabsw | Pabsd | Palignr => Feature::Ssse3,
        Pmulld | Pmuldq | Pminsb | Pminuw | Pminud | Pminsd | Pmaxsb | Pmaxuw | Pmaxud | Pmaxsd | Pcmpeqq
        | Phminposuw | Mpsadbw | Ptest | Packusdw | Pblendw | Blendps | Blendpd | Pblendvb | Blendvps | Blendvpd
        | Insertps | Extractps | Pextrb | Pextrd | Pextrq | Pinsrb | Pinsrd | Pinsrq | Movntdqa | Roundps | Roundpd
        | Roundss | Roundsd | Dpps | Dppd | Pmovsxbw | Pmovsxbd | Pmovsxbq | Pmovsxwd | Pmovsxwq | Pmovsxdq
        | Pmovzxbw | Pmovzxbd | Pmovzxbq | Pmovzxwd | Pmovzxwq | Pmovzxdq => Feature::Sse41,
        // SSE2 has it with a register as destination, in another encoding.
        Pextrw if is_pextrw_of_sse41(x) => Feature::Sse41,
        Pcmpgtq | Pcmpistri | Pcmpistrm | Pcmpestri | Pcmpestri64 | Pcmpestrm | Pcmpestrm64 | Crc32 => Feature::Sse42,
        Popcnt => Feature::Popcnt,
        Cmpxchg16b => Feature::Cx16,
        Lahf | Sahf if long => Feature::Lahf64,
        Rdtscp => Feature::Rdtscp,
        Rdpid => Feature::Rdpid,
        Rdrand => Feature::Rdrand,
        Rdseed => Feature::Rdseed,
        Invpcid => Feature::Invpcid,
        Clac | Stac => Feature::Smap,
        Clflushopt => Feature::Clflushopt,
        Clwb => Feature::Clwb,
        Rdfsbase | Rdgsbase | Wrfsbase | Wrgsbase => Feature::Fsgsbase,
        Xsave | Xsave64 | Xrstor | Xrstor64 | Xgetbv | Xsetbv => Feature::Xsave,
        // What SSE added for MMX registers counts as MMX: no model has the one without the other.
        _ if uses(x, Register::MM0, Register::MM7) => Feature::Mmx,
        _ if uses(x, Register::XMM0, Register::XMM15) => Feature::Sse2,
        _ => Feature::Always,
    }
}

fn is_pextrw_of_sse41(x: &Instruction) -> bool {
    use iced_x86::Code;
    matches!(x.code(), Code::Pextrw_r32m16_xmm_imm8 | Code::Pextrw_r64m16_xmm_imm8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::features::Model;
    use crate::isa;
    use iced_x86::{CpuidFeature, Decoder, DecoderOptions};

    /// What a feature of iced's list is called here.
    fn feature(f: CpuidFeature) -> Feature {
        use CpuidFeature as C;
        match f {
            C::CMOV => Feature::Cmov,
            C::MULTIBYTENOP | C::CET_IBT | C::CET_SS | C::CLDEMOTE | C::PREFETCHW | C::PREFETCHWT1 | C::PREFETCHITI => {
                Feature::Hints
            }
            C::SEP => Feature::Sep,
            C::SYSCALL => Feature::Syscall,
            C::FXSR => Feature::Fxsr,
            C::CLFSH => Feature::Clflush,
            C::MMX => Feature::Mmx,
            C::SSE | C::SSE2 => Feature::Sse2,
            C::SSE3 => Feature::Sse3,
            C::SSSE3 => Feature::Ssse3,
            C::SSE4_1 => Feature::Sse41,
            C::SSE4_2 => Feature::Sse42,
            C::POPCNT => Feature::Popcnt,
            C::CMPXCHG16B => Feature::Cx16,
            C::RDTSCP => Feature::Rdtscp,
            C::RDPID => Feature::Rdpid,
            C::RDRAND => Feature::Rdrand,
            C::RDSEED => Feature::Rdseed,
            C::INVPCID => Feature::Invpcid,
            C::SMAP => Feature::Smap,
            C::CLFLUSHOPT => Feature::Clflushopt,
            C::CLWB => Feature::Clwb,
            C::FSGSBASE => Feature::Fsgsbase,
            C::XSAVE => Feature::Xsave,
            _ => Feature::Always,
        }
    }

    #[test]
    fn every_encoding_needs_what_the_decoder_library_says() {
        let mut seen = 0;
        for bits in [32, 64] {
            for prefix in [&[][..], &[0x66], &[0xf2], &[0xf3], &[0x48], &[0x66, 0x48], &[0xf3, 0x48]] {
                for map in [&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]] {
                    for code in 0..=0xffff_u16 {
                        let [opcode, modrm] = code.to_be_bytes();
                        if bits == 32 && prefix.contains(&0x48) {
                            continue;
                        }
                        let bytes = [prefix, map, &[opcode, modrm, 0, 0, 0, 0, 0, 0, 0]].concat();
                        let x = Decoder::new(bits, &bytes, DecoderOptions::NONE).decode();
                        if x.is_invalid() || isa::op_of(&x).is_none() {
                            continue;
                        }
                        // Prefetches among the hints are SSE in the list, as LAHF in 64-bit mode is nothing of its own.
                        let needs = needs(&x, bits == 64);
                        if matches!(x.mnemonic(), Mnemonic::Lahf | Mnemonic::Sahf) {
                            continue;
                        }
                        seen += 1;
                        for model in [Model::Pentium, Model::X64V1, Model::X64V2] {
                            let want = x.cpuid_features().iter().all(|&f| model.has(feature(f)));
                            let features = x.cpuid_features();
                            assert_eq!(model.has(needs), want, "{:?} {bytes:x?} {features:?} {model:?}", x.code());
                        }
                    }
                }
            }
        }
        assert!(seen > 100_000, "{seen}");
    }
}
