//! The interpreter: [`Emit`] that does it now.

use crate::cpu::fpu::Eflags;
use crate::cpu::mode::{ctx, simd_off};
use crate::cpu::tlb::CTX_SHIFT;
use crate::cpu::{Cpu, Done, Shadow, Stop, Vector, event, fault, gp, memory::canonical};
use crate::decode::insn::{Insn, slot};
use crate::emit::{Bin, Emit, FloatConversion, FloatOp, Floats, Linear, Mode, Slot, Un, Unit, Unit87};
use crate::flags::{self, FlagOp};
use crate::isa::Handler;
use crate::isa::sse::lane::Lanes;
use crate::isa::x87::{self, pending_error};
use crate::size::Size;
use crate::vector::{self, V128, VecImm, VecOp, VecShift};

impl Emit for Cpu {
    type Val = u64;
    type Vec = V128;
    type Stop = Stop;
    const COPIES: bool = true;

    #[inline(always)]
    fn imm(&mut self, v: u64) -> u64 {
        v
    }
    #[inline(always)]
    fn get(&mut self, s: Slot) -> u64 {
        match s {
            Slot::Gpr(r) => self.regs[r as usize],
            Slot::FlagA => self.flag_a,
            Slot::FlagB => self.flag_b,
            Slot::FlagR => self.flag_r,
            Slot::SegBase(s) => self.seg[(s & 7) as usize].base,
            Slot::System => self.rflags,
            Slot::Selector(s) => u64::from(self.seg[(s & 7) as usize].sel),
            Slot::KernelGsBase => self.msr.kernel_gs_base,
            Slot::Cpl => u64::from(self.cpl),
            Slot::Cr4 => self.cr4,
        }
    }
    #[inline(always)]
    fn set(&mut self, s: Slot, v: u64) {
        match s {
            Slot::Gpr(r) => self.regs[r as usize] = v,
            Slot::FlagA => self.flag_a = v,
            Slot::FlagB => self.flag_b = v,
            Slot::FlagR => self.flag_r = v,
            Slot::SegBase(s) => self.seg[(s & 7) as usize].base = v,
            Slot::System => self.rflags = v,
            Slot::KernelGsBase => self.msr.kernel_gs_base = v,
            Slot::Selector(_) | Slot::Cpl | Slot::Cr4 => unreachable!("only read"),
        }
    }
    #[inline(always)]
    fn bin(&mut self, op: Bin, a: u64, b: u64) -> u64 {
        op.run(a, b)
    }
    #[inline(always)]
    fn un(&mut self, op: Un, a: u64) -> u64 {
        match op {
            Un::Clz => u64::from(a.leading_zeros()),
            Un::Ctz => u64::from(a.trailing_zeros()),
            Un::Popcnt => u64::from(a.count_ones()),
            Un::Bswap => a.swap_bytes(),
            Un::Parity => u64::from((a as u8).count_ones() & 1 == 0),
        }
    }
    #[inline(always)]
    fn select(&mut self, c: u64, yes: u64, no: u64) -> u64 {
        if c != 0 { yes } else { no }
    }
    #[inline(always)]
    fn when(&mut self, c: u64, then: impl FnOnce(&mut Self) -> Result<(), Stop>) -> Result<(), Stop> {
        if c != 0 { then(self) } else { Ok(()) }
    }
    #[inline(always)]
    fn load(&mut self, at: Linear<u64>, size: Size) -> Result<u64, Stop> {
        self.read(at, size)
    }
    #[inline(always)]
    fn store(&mut self, at: Linear<u64>, size: Size, v: u64) -> Result<(), Stop> {
        self.write(at, size, v)
    }
    #[inline(always)]
    fn modify(&mut self, at: Linear<u64>, size: Size, f: impl FnOnce(&mut Self, u64) -> u64) -> Result<u64, Stop> {
        // One call of `f`, which is compiled in place.
        let host = self.rmw_host(at.at, size);
        let old = match &host {
            Some(host) => host.load(size),
            None => self.modify_begin(at, size)?,
        };
        let new = f(self, old);
        match host {
            Some(host) => host.store(size, new),
            None => self.write(at, size, new)?,
        }
        Ok(old)
    }
    #[inline(always)]
    fn set_flag_op(&mut self, op: FlagOp) {
        self.flag_op = op;
    }
    #[inline(always)]
    fn by_flag_op<T, X: Copy>(&mut self, f: impl Fn(&mut Self, FlagOp, X) -> T, x: X) -> T {
        // One arm per operation, so that each is compiled with the operation known.
        match self.flag_op {
            FlagOp::Image => f(self, FlagOp::Image, x),
            FlagOp::Given => f(self, FlagOp::Given, x),
            FlagOp::Add => f(self, FlagOp::Add, x),
            FlagOp::Adc => f(self, FlagOp::Adc, x),
            FlagOp::Sub => f(self, FlagOp::Sub, x),
            FlagOp::Sbb => f(self, FlagOp::Sbb, x),
            FlagOp::Inc => f(self, FlagOp::Inc, x),
            FlagOp::Dec => f(self, FlagOp::Dec, x),
            FlagOp::Logic => f(self, FlagOp::Logic, x),
        }
    }
    #[inline(always)]
    fn by_flag_image<T, X: Copy>(&mut self, f: impl Fn(&mut Self, FlagOp, X) -> T, x: X) -> T {
        if self.flag_op == FlagOp::Image { f(self, FlagOp::Image, x) } else { f(self, FlagOp::Sub, x) }
    }
    fn segmented(&mut self, seg: u8, offset: u64, size: u8, write: bool) -> Result<Linear<u64>, Stop> {
        self.linear(seg, offset, size, write)
    }
    fn raise(&mut self, v: Vector) -> Stop {
        fault(v)
    }
    #[inline(always)]
    fn jump(&mut self, target: u64) -> Result<(), Stop> {
        if self.long {
            if !canonical(target) {
                return Err(gp(0));
            }
        } else if target > u64::from(self.seg[1].limit) {
            return Err(gp(0));
        }
        self.rip = target;
        Ok(())
    }

    #[inline(always)]
    fn mode_is(&mut self, mode: Mode) -> u64 {
        u64::from(match mode {
            Mode::Protected => self.protected(),
            Mode::V86 => self.v86(),
            Mode::Long => self.long,
        })
    }
    #[inline(always)]
    fn set_system(&mut self, v: u64) -> Result<(), Stop> {
        self.set_system_flags(v);
        Ok(())
    }
    #[inline(always)]
    fn let_interrupts_in(&mut self, c: u64, held: bool) -> Result<(), Stop> {
        if c != 0 {
            self.interrupts_let_in(held);
        }
        Ok(())
    }
    fn hold_off(&mut self) {
        self.shadow = Shadow::MovSs;
        self.events |= event::STEP;
    }
    fn set_ac(&mut self, on: bool) {
        self.rflags = if on { self.rflags | flags::AC } else { self.rflags & !flags::AC };
        self.update_tlb_ctx();
    }
    fn load_segment(&mut self, s: u8, selector: u64) -> Result<(), Stop> {
        Cpu::load_segment(self, s, selector as u16)
    }
    fn time_stamp(&mut self) -> u64 {
        self.bus().tsc().wrapping_add(self.msr.tsc_adjust)
    }
    fn whole(&mut self, i: &Insn, f: fn(&mut Cpu, &Insn) -> Done) -> Result<(), Stop> {
        f(self, i)
    }
    #[inline(always)]
    fn divide(&mut self, signed: bool, hi: u64, lo: u64, d: u64) -> Result<u64, Stop> {
        let q = if !signed && hi == 0 {
            lo.checked_div(d)
        } else if signed && hi == (lo as i64 >> 63) as u64 {
            (lo as i64).checked_div(d as i64).map(|q| q as u64)
        } else {
            wide_quotient(signed, hi, lo, d)
        };
        q.ok_or_else(|| fault(Vector::DE))
    }

    #[inline(always)]
    fn simd(&mut self, unit: Unit) -> Result<(), Stop> {
        let pending = unit != Unit::Sse && self.fpu.pending();
        if self.simd_off == 0 && !pending { Ok(()) } else { self.simd_stop(unit) }
    }
    #[inline(always)]
    fn vget(&mut self, n: u8) -> V128 {
        self.xmm[(n & 15) as usize]
    }
    #[inline(always)]
    fn vset(&mut self, n: u8, v: V128) {
        self.xmm[(n & 15) as usize] = v;
    }
    #[inline(always)]
    fn mget(&mut self, n: u8) -> u64 {
        self.fpu.mm(n)
    }
    #[inline(always)]
    fn mset(&mut self, n: u8, v: u64) {
        self.fpu.enter_mmx();
        self.fpu.set_mm(n, v);
    }
    #[inline(always)]
    fn enter_mmx(&mut self) {
        self.fpu.enter_mmx();
    }
    #[inline(always)]
    fn vload(&mut self, at: Linear<u64>, aligned: bool) -> Result<V128, Stop> {
        if !aligned || at.at & 15 == 0 {
            if let Some(v) = self.read128_fast(at.at) {
                return Ok(v);
            }
        }
        self.read128_slow(at, aligned)
    }
    #[inline(always)]
    fn vstore(&mut self, at: Linear<u64>, aligned: bool, v: V128) -> Result<(), Stop> {
        if (!aligned || at.at & 15 == 0) && self.write128_fast(at.at, v) {
            return Ok(());
        }
        self.write128_slow(at, aligned, v)
    }
    fn vmodify(&mut self, at: Linear<u64>, f: impl FnOnce(&mut Self, V128) -> V128) -> Result<V128, Stop> {
        self.check128(at, true)?;
        self.probe_write(at, 16)?;
        let old = self.read128(at)?;
        let new = f(self, old);
        self.write128(at, new)?;
        Ok(old)
    }
    #[inline(always)]
    fn vimm(&mut self, v: V128) -> V128 {
        v
    }
    #[inline(always)]
    fn vpair(&mut self, lo: u64, hi: u64) -> V128 {
        [lo, hi]
    }
    #[inline(always)]
    fn vextract(&mut self, v: V128, lane: Size, k: u8) -> u64 {
        vector::extract(v, lane, k)
    }
    #[inline(always)]
    fn vinsert(&mut self, v: V128, lane: Size, k: u8, x: u64) -> V128 {
        vector::insert(v, lane, k, x)
    }
    #[inline(always)]
    fn vsigns(&mut self, v: V128, lane: Size) -> u64 {
        vector::signs(v, lane)
    }
    #[inline(always)]
    fn vec(&mut self, op: VecOp, a: V128, b: V128) -> V128 {
        op.run(a, b)
    }
    #[inline(always)]
    fn vec_imm(&mut self, op: VecImm, a: V128, b: V128, imm: u8) -> V128 {
        op.run(a, b, imm)
    }
    #[inline(always)]
    fn vec_shift(&mut self, op: VecShift, v: V128, count: u64) -> V128 {
        op.run(v, count)
    }

    #[inline(always)]
    fn float(&mut self, op: FloatOp, of: Floats, a: V128, b: V128) -> Result<V128, Stop> {
        Lanes::settled(self, |l| l.run(op, of, a, b))
    }
    #[inline(always)]
    fn float_relation(&mut self, signaling: bool, of: Floats, a: V128, b: V128) -> Result<u64, Stop> {
        Lanes::settled(self, |l| l.relation(signaling, of, a, b))
    }
    #[inline(always)]
    fn float_convert(&mut self, how: FloatConversion, b: V128) -> Result<V128, Stop> {
        Lanes::settled(self, |l| l.convert(how, b))
    }
    #[inline(always)]
    fn float_resize(&mut self, of: Floats, a: V128, b: V128) -> Result<V128, Stop> {
        Lanes::settled(self, |l| l.resize(of, a, b))
    }
    #[inline(always)]
    fn float_of_int(&mut self, of: Floats, a: V128, x: u64, _: Size) -> Result<V128, Stop> {
        Lanes::settled(self, |l| l.of_int(of, a, x as i64))
    }
    #[inline(always)]
    fn float_to_int(&mut self, of: Floats, b: V128, truncate: bool, size: Size) -> Result<u64, Stop> {
        Lanes::settled(self, |l| size.zx(l.to_int(of, b, truncate, size.bits()) as u64))
    }

    #[inline(always)]
    fn x87(&mut self) -> Result<(), Stop> {
        x87::enter(self)
    }
    #[inline(always)]
    fn x87_note(&mut self, i: &Insn, at: Option<u64>) {
        let start = self.regs[slot::BLOCK as usize].wrapping_add(i.off.into());
        x87::note(self, i, start);
        if let Some(at) = at {
            x87::note_data(self, i, at);
        }
    }
    #[inline(always)]
    fn x87_do(&mut self, what: Unit87<u64>) {
        self.fpu.run(what);
    }
    #[inline(always)]
    fn x87_store(&mut self, at: Linear<u64>, single: bool, pop: bool) -> Result<(), Stop> {
        if single {
            let s = self.fpu.fst_f32(pop);
            x87::data::finish(self, at, Size::B4, s, u64::from)
        } else {
            let s = self.fpu.fst_f64(pop);
            x87::data::finish(self, at, Size::B8, s, |v| v)
        }
    }
    #[inline(always)]
    fn x87_relation(&mut self, i: u8, quiet: bool, pop: bool) -> u64 {
        let Eflags { zf, pf, cf } = self.fpu.fcomi(i, quiet, pop);
        let bit = |on: bool, f: u64| if on { f } else { 0 };
        bit(zf, flags::ZF) | bit(pf, flags::PF) | bit(cf, flags::CF)
    }
    #[inline(always)]
    fn x87_plain(&mut self, i: &Insn, f: Handler) -> Result<(), Stop> {
        f(self, i)
    }
}

/// [`Emit::divide`] of what has more than 64 bits.
#[inline(never)]
fn wide_quotient(signed: bool, hi: u64, lo: u64, d: u64) -> Option<u64> {
    let n = u128::from(hi) << 64 | u128::from(lo);
    if signed {
        let q = (n as i128).checked_div(i128::from(d as i64))?;
        i64::try_from(q).ok().map(|q| q as u64)
    } else {
        n.checked_div(u128::from(d)).and_then(|q| u64::try_from(q).ok())
    }
}

impl Cpu {
    /// Why the unit cannot be used: #UD before #NM before #MF (SDM 2, table 2-18 and following).
    #[cold]
    #[inline(never)]
    fn simd_stop(&mut self, unit: Unit) -> Result<(), Stop> {
        let off = self.simd_off;
        let undefined = match unit {
            Unit::Sse => simd_off::SSE,
            Unit::Mmx => simd_off::MMX,
            Unit::SseMmx => simd_off::SSE | simd_off::MMX,
        };
        if off & undefined != 0 {
            return Err(fault(Vector::UD));
        }
        if off & simd_off::TASK != 0 {
            return Err(fault(Vector::NM));
        }
        if unit != Unit::Sse && self.fpu.pending() {
            return pending_error(self);
        }
        Ok(())
    }

    /// Address checks of a 16-byte access: alignment where it is demanded (before canonical, so
    /// the host; the manual gives no order), canonical, alignment where it is checked.
    fn check128(&self, at: Linear<u64>, aligned: bool) -> Result<(), Stop> {
        let misaligned = at.at & 15 != 0;
        if aligned && misaligned {
            return Err(gp(0));
        }
        let last = at.at.wrapping_add(15);
        if self.long && (!canonical(at.at) || !canonical(last)) {
            return Err(if at.stack { fault(Vector::SS) } else { gp(0) });
        }
        if misaligned && self.tlb_ctx == ctx::CHECKED << CTX_SHIFT {
            return Err(fault(Vector::AC));
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn read128_slow(&mut self, at: Linear<u64>, aligned: bool) -> Result<V128, Stop> {
        self.check128(at, aligned)?;
        self.read128(at)
    }

    #[cold]
    #[inline(never)]
    fn write128_slow(&mut self, at: Linear<u64>, aligned: bool, v: V128) -> Result<(), Stop> {
        self.check128(at, aligned)?;
        self.write128(at, v)
    }

    /// The slow half of `modify`: everything that can fault, and the old value.
    #[cold]
    #[inline(never)]
    fn modify_begin(&mut self, at: Linear<u64>, size: Size) -> Result<u64, Stop> {
        self.check_address(at, size)?;
        self.probe_write(at, size.bytes())?;
        self.read(at, size)
    }

    /// Counts `n` more retired instructions than the running one (long string operations).
    pub(crate) fn charge(&mut self, n: u64) {
        let paid = n.min(self.left);
        self.left -= paid;
        self.retired_end = self.retired_end.wrapping_add(n - paid);
    }
}
