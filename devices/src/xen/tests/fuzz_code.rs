//! Code of PV guests, kernels and users, that may be anything. See `fuzz.rs`.

use super::fuzz::{Random, rounds};
use super::*;
use crate::xen::hypercall::COUNT;

/// A few instructions, privileged ones among them; else bytes.
fn code(r: &mut Random) -> Vec<u8> {
    const SOME: [&[u8]; 40] = [
        &[0x0f, 0x05],
        &[0x0f, 0x34],
        &[0x0f, 0x0b],
        &[0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2],
        &[0x0f, 0xa2],
        &[0xcc],
        &[0xcd, 0x80],
        &[0xcd, 0x30],
        &[0xf4],
        &[0xfa],
        &[0xfb],
        &[0x9c],
        &[0x9d],
        &[0x48, 0xcf],
        &[0xcf],
        &[0x0f, 0x20, 0xd8],
        &[0x0f, 0x22, 0xd8],
        &[0x0f, 0x22, 0xc0],
        &[0x0f, 0x22, 0xe0],
        &[0x0f, 0x23, 0xf8],
        &[0x0f, 0x21, 0xf8],
        &[0x0f, 0x30],
        &[0x0f, 0x32],
        &[0x0f, 0x01, 0xd1],
        &[0x0f, 0x01, 0xf8],
        &[0x0f, 0x01, 0xc1],
        &[0x8e, 0xd8],
        &[0x8e, 0xd0],
        &[0x8e, 0xe8],
        &[0x0f, 0x01, 0x17],
        &[0x0f, 0x00, 0xd0],
        &[0x6c],
        &[0xf3, 0x6f],
        &[0xe4, 0x71],
        &[0xef],
        &[0xf3, 0x48, 0xab],
        &[0xf3, 0x48, 0xa5],
        &[0x48, 0x89, 0x07],
        &[0xf0, 0x48, 0x0f, 0xba, 0x37, 1],
        &[0x0f, 0xae, 0x07],
    ];
    let mut all = Vec::new();
    while all.len() < 64 {
        if r.one_in(3) {
            let n = r.next();
            all.extend(&n.to_le_bytes()[..1 + (n >> 61) as usize]);
        } else {
            all.extend(r.of(&SOME));
        }
    }
    all
}

#[test]
fn code_of_a_pv_guest_may_be_anything() {
    for round in rounds(300) {
        let r = &mut Random::new(round);
        let user = code(r);
        let mut b = Bench::pv_code(&code(r));
        b.users(&user);
        // All that happens leads back to the code, somewhere.
        for vector in 0..32 {
            if !r.one_in(8) {
                b.gate(vector, r.below(8) as u8, va(CODE) + r.below(32));
            }
        }
        b.gate(0x80, 3, va(CODE) + r.below(32));
        for kind in [0, 2, 5] {
            b.call_with(30, &[0], &[kind | r.below(2) << 16, va(CODE) + r.below(32)]);
        }
        b.call(21, &[0, r.of(&[2, 4])]);
        b.call(21, &[0, 2]);
        b.call_with(33, &[6], &[r.below(4)]);
        b.remap(MAPPED, leaf(MAPPED, 0));
        b.put(MAPPED, 8, &words(&[0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff, 0x0000_8900_0000_0067]));
        b.mmuext(13, va(MAPPED), 512);
        for n in 0..16 {
            let slot = b.slot_of(MAPPED + r.below(16));
            let v = match r.below(8) {
                0 => VIRT + slot,
                1 => r.below(COUNT as u64),
                2 => r.next(),
                3 => r.below(8) | 0x10,
                4 => leaf(FREE + r.below(4), pte::RW),
                5 => crate::xen::frames::Frames::table_address(0, r.below(32)) + 8 * r.below(16),
                6 => r.of(&[0xf, 0x17, 0x1f, 0xe033, 0xe02b, 0xe008]),
                _ => va(MAPPED + 2) + r.below(8192),
            };
            b.set(n, v);
        }
        if r.one_in(2) {
            b.enter_users();
        }
        b.set(reg::RSP, va(MAPPED + 4));
        for _ in 0..20 {
            b.run(1 + r.below(40));
            if b.stop().is_some() {
                break;
            }
        }
        let r = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| b.check()));
        assert!(r.is_ok(), "round {round}");
    }
}
