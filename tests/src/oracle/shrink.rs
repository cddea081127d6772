//! Makes a failing test simpler while it keeps failing.

use super::state::*;

/// Simplifies `t` as long as `fails` says it still fails in the same way.
pub fn shrink(t: &Test, fails: &mut dyn FnMut(&Test) -> bool) -> Test {
    let mut best = *t;
    loop {
        let before = best;
        let mut attempt = |change: &dyn Fn(&mut Test)| {
            let mut next = best;
            change(&mut next);
            next.make_valid();
            if next != best && fails(&next) {
                best = next;
            }
        };
        for i in 0..16 {
            attempt(&|t| t.gpr[i] = 0);
            attempt(&|t| t.gpr[i] = t.gpr[i].min(1));
            for keep in [0xff, 0xffff, 0xffff_ffff] {
                attempt(&|t| t.gpr[i] &= keep);
            }
            attempt(&|t| t.fx.0[Fx::xmm(i)..Fx::xmm(i) + 16].fill(0));
        }
        for bit in [0, 2, 4, 6, 7, 8, 10, 11, 18] {
            attempt(&|t| t.rflags &= !(1 << bit));
        }
        attempt(&|t| t.fx = Fx::INIT);
        attempt(&|t| t.fx.set_mxcsr(0x1f80));
        attempt(&|t| t.fx.set_u16(0, 0x37f));
        for bit in 0..16 {
            attempt(&|t| t.fx.set_u16(2, t.fx.u16(2) & !(1 << bit)));
            // Exception masks are simpler set, everything else clear.
            let masks = 0x1f80 & 1 << bit;
            attempt(&|t| t.fx.set_mxcsr(t.fx.mxcsr() & !(1 << bit) | masks));
        }
        for i in 0..8 {
            attempt(&|t| t.fx.0[Fx::st(i)..Fx::st(i) + 10].fill(0));
            attempt(&|t| t.fx.0[4] &= !(1 << i));
        }
        for i in 0..4 {
            attempt(&|t| t.patch[i] = Patch::default());
            for b in 0..16 {
                attempt(&|t| t.patch[i].bytes[b] = 0);
            }
        }
        attempt(&|t| (t.fs_base, t.gs_base) = (0, 0));
        for i in 0..6 {
            attempt(&|t| t.sel[i] = if i < FS { SEL_DATA } else { 0 });
        }
        attempt(&|t| t.fill = 0);
        attempt(&|t| t.entry = 0x800);
        for i in 0..before.len as usize {
            attempt(&|t| t.code[i] = 0);
            // Without this byte: prefixes.
            attempt(&|t| {
                t.code.copy_within(i + 1.., i);
                t.len = t.len.saturating_sub(1).max(1);
            });
        }
        if best == before {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::generator::generate;

    #[test]
    fn only_what_matters_is_left() {
        let mut t = generate(Mode::Long64, 1, 2);
        t.gpr[7] = 0x1234_5678;
        let mut fails = |t: &Test| t.gpr[7] & 0xffff == 0x5678 && t.fx.0[4] & 1 == 1;
        t.fx.0[4] |= 1;
        assert!(fails(&t));
        let s = shrink(&t, &mut fails);
        assert_eq!(s.gpr[7], 0x5678);
        assert_eq!(s.gpr.iter().filter(|&&g| g != 0).count(), 1);
        let mut simplest = Fx::INIT;
        simplest.0[4] = 1;
        assert!(s.fx == simplest);
    }
}
