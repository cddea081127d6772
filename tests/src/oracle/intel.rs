//! What Intel CPUs (seen on a Xeon of model 167) were found to do differently from Tabvisor, which was checked on AMD CPUs
//! until then. Each row is work that is left; a test that is left out here is one that AMD hosts still compare.

use super::vendor::{Context, Difference};
use iced_x86::{Mnemonic as M, OpKind};

fn faults(c: &Context) -> bool {
    !c.truth.completed(c.t)
}

fn stores_to_memory(c: &Context) -> bool {
    c.ins.op0_kind() == OpKind::Memory || matches!(c.ins.mnemonic(), M::Maskmovq | M::Maskmovdqu)
}

pub(super) const INTEL: &[Difference] = &[
    Difference {
        when: |c| c.ins.mnemonic() == M::Cvtpi2ps && c.ins.op1_kind() == OpKind::Memory,
        what: |m, _| m.skip = Some("CVTPI2PS from memory"),
        reason: "CVTPI2PS from memory does not go over to MMX on Intel (SDM 1 11.6.7 names registers only)",
    },
    Difference {
        when: |c| matches!(c.ins.mnemonic(), M::Dpps | M::Dppd),
        what: |m, _| m.skip = Some("dot product"),
        reason: "which NaN a dot product returns depends on the order of its sums, which differs (SDM 2A DPPS)",
    },
    Difference {
        when: |c| {
            matches!(c.ins.mnemonic(), M::Movntq | M::Movq | M::Movd | M::Maskmovq) && stores_to_memory(c) && faults(c)
        },
        what: |m, _| m.skip = Some("a store of MMX that faults"),
        reason: "a store of an MMX register that faults has gone over to MMX already",
    },
    Difference {
        when: |c| {
            let stores = matches!(c.ins.mnemonic(), M::Fst | M::Fstp | M::Fist | M::Fistp | M::Fisttp | M::Fbstp);
            stores && stores_to_memory(c) && (c.truth.fx.u16(2) & 0x80 != 0 || faults(c))
        },
        what: |m, _| m.skip = Some("an x87 store with an unmasked exception"),
        reason: "an x87 store that an unmasked exception stops does not check its address; one of 10 bytes that faults \
                 may have stored a part",
    },
    Difference {
        when: |c| {
            let string = matches!(
                c.ins.mnemonic(),
                M::Cmpsb
                    | M::Cmpsw
                    | M::Cmpsd
                    | M::Cmpsq
                    | M::Scasb
                    | M::Scasw
                    | M::Scasd
                    | M::Scasq
                    | M::Movsb
                    | M::Movsw
                    | M::Movsd
                    | M::Movsq
                    | M::Stosb
                    | M::Stosw
                    | M::Stosd
                    | M::Stosq
                    | M::Lodsb
                    | M::Lodsw
                    | M::Lodsd
                    | M::Lodsq
            );
            string && faults(c)
        },
        what: |m, _| m.skip = Some("a string instruction that faults"),
        reason: "flags and registers of a repeated instruction that faults are those of another element",
    },
    Difference {
        when: |c| {
            let several = matches!(
                c.ins.mnemonic(),
                M::Call | M::Enter | M::Maskmovdqu | M::Bound | M::Popa | M::Popad | M::Pusha | M::Pushad
            );
            c.ins.mnemonic() == M::Retf || several && faults(c)
        },
        what: |m, _| m.skip = Some("an instruction of several accesses that faults"),
        reason: "which of several faults comes first, and what an instruction of several accesses has done before, differ",
    },
    Difference {
        when: |c| {
            c.t.rflags & 1 << 18 != 0
                && matches!(
                    c.ins.mnemonic(),
                    M::Movups
                        | M::Movupd
                        | M::Movdqu
                        | M::Lddqu
                        | M::Pcmpestri
                        | M::Pcmpestrm
                        | M::Pcmpistri
                        | M::Pcmpistrm
                        | M::Pcmpestri64
                        | M::Pcmpestrm64
                )
        },
        what: |m, _| m.skip = Some("16 bytes that need not be aligned"),
        reason: "no alignment check of 16 bytes that need not be aligned (SDM 2B MOVUPS leaves it to the implementation)",
    },
];
