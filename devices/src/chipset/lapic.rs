//! The local APIC: xAPIC registers in memory and x2APIC registers as MSRs. Source: Intel SDM 3A
//! chapter 11 (section numbers below). The timer counts [`VmTime`] nanoseconds, that is 1 GHz
//! before its divider; the TSC deadline is in the same unit.
//!
//! Deliberately absent: interrupts between processors other than to oneself (one vCPU), CMCI,
//! EOI broadcast suppression, SMI and INIT delivery.
//!
//! Offsets are the xAPIC page's (FEE00000h).

use super::lapic_timer::Timer;
use crate::device::{Cx, Device, le, put_le, put_state};
use crate::irq::{Delivery, Message};
use serde::{Deserialize, Serialize};
use tabvisor_core::time::VmTime;

/// IA32_APIC_BASE.
pub const MSR_APIC_BASE: u32 = 0x1b;
/// IA32_TSC_DEADLINE.
pub const MSR_TSC_DEADLINE: u32 = 0x6e0;
/// The first x2APIC MSR; register offset = (msr - this) * 16.
pub const MSR_X2APIC: u32 = 0x800;
const MSR_X2APIC_LAST: u32 = 0x8ff;

const BASE_BSP: u64 = 1 << 8;
const BASE_EXTD: u64 = 1 << 10;
const BASE_EN: u64 = 1 << 11;
/// 40 bits of physical address.
const BASE_ADDRESS: u64 = 0xff_ffff_f000;
const BASE_RESET: u64 = 0xfee0_0000;

// Register offsets (table 11-1).
const ID: u32 = 0x20;
const VERSION: u32 = 0x30;
const TPR: u32 = 0x80;
const APR: u32 = 0x90;
const PPR: u32 = 0xa0;
const EOI: u32 = 0xb0;
const RRD: u32 = 0xc0;
const LDR: u32 = 0xd0;
const DFR: u32 = 0xe0;
const SVR: u32 = 0xf0;
const ISR: u32 = 0x100;
const TMR: u32 = 0x180;
const IRR: u32 = 0x200;
const ESR: u32 = 0x280;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_ERROR: u32 = 0x370;
const TIMER_ICT: u32 = 0x380;
const TIMER_CCT: u32 = 0x390;
const TIMER_DCR: u32 = 0x3e0;
const SELF_IPI: u32 = 0x3f0;

/// Version 14h, six LVT entries.
const VERSION_VALUE: u32 = 0x0005_0014;
const SVR_ENABLE: u32 = 1 << 8;
const SVR_WRITABLE: u32 = 0x3ff;
const LVT_MASK: u32 = 1 << 16;
/// Error status bits (11.5.3).
const ESR_SEND_ILLEGAL: u32 = 1 << 5;
const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

/// Places in [`State::lvt`].
const TIMER: usize = 0;
const LINT0: usize = 3;
const LINT1: usize = 4;
const ERROR: usize = 5;
/// Bits of each LVT entry that software can write (figure 11-8): timer, thermal, performance,
/// LINT0, LINT1, error.
const LVT_WRITABLE: [u32; 6] = [0x0007_00ff, 0x0001_07ff, 0x0001_07ff, 0x0001_a7ff, 0x0001_a7ff, 0x0001_00ff];

/// 256 bits, one per vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, v: u8, on: bool) {
        let word = &mut self.0[usize::from(v >> 5)];
        *word = if on { *word | 1 << (v & 31) } else { *word & !(1 << (v & 31)) };
    }
    fn has(&self, v: u8) -> bool {
        self.0[usize::from(v >> 5)] >> (v & 31) & 1 != 0
    }
    fn highest(&self) -> Option<u8> {
        let word = self.0.iter().rposition(|&w| w != 0)?;
        Some((word as u32 * 32 + 31 - self.0[word].leading_zeros()) as u8)
    }
}

/// Everything the guest can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    base: u64,
    id: u32,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    /// Errors as last latched by a write, and those since.
    esr: u32,
    errors: u32,
    icr: u64,
    lvt: [u32; 6],
    timer: Timer,
    /// LINT pins.
    lint: [bool; 2],
    nmi: bool,
}

impl Default for State {
    /// Section 11.4.7.1.
    fn default() -> Self {
        Self {
            base: BASE_RESET | BASE_EN | BASE_BSP,
            id: 0,
            tpr: 0,
            ldr: 0,
            dfr: u32::MAX,
            svr: 0xff,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            esr: 0,
            errors: 0,
            icr: 0,
            lvt: [LVT_MASK; 6],
            timer: Timer::default(),
            lint: [false; 2],
            nmi: false,
        }
    }
}

/// The local APIC of the boot processor.
#[derive(Default)]
pub struct Lapic {
    state: State,
    /// Ended level-triggered interrupts that the I/O APIC has to hear of.
    ended: Vec<u8>,
    /// Interprocessor interrupts on their way to others; `None` where there are none.
    sent: Option<Vec<Ipi>>,
}

/// An interprocessor interrupt for other processors than the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipi {
    /// To all others, whatever the message says.
    pub others: bool,
    /// What is sent, and to whom else.
    pub message: Message,
}

/// IPIs that wait to be carried on; software sends one at a time.
const MAX_SENT: usize = 64;

impl Lapic {
    /// The APIC of one of several processors, after reset; 0 is the bootstrap processor's.
    pub fn of_processor(id: u8) -> Self {
        let base = BASE_RESET | BASE_EN | if id == 0 { BASE_BSP } else { 0 };
        Self { state: State { id: id.into(), base, ..State::default() }, ended: Vec::new(), sent: Some(Vec::new()) }
    }
    /// INIT: all but the ID and IA32_APIC_BASE is as after reset (11.4.7.3).
    pub fn init(&mut self) {
        self.state = State { id: self.state.id, base: self.state.base, ..State::default() };
    }
    /// Takes the interprocessor interrupts that were sent to others.
    pub fn take_sent(&mut self) -> Vec<Ipi> {
        self.sent.as_mut().map(core::mem::take).unwrap_or_default()
    }
    /// Is this APIC addressed?
    pub fn is_addressed(&self, ipi: &Ipi) -> bool {
        self.enabled() && (ipi.others || self.addressed(ipi.message.dest, ipi.message.logical))
    }
    /// A hypervisor's request, which waits until software enables the APIC.
    pub fn request(&mut self, vector: u8) {
        self.state.irr.set(vector, true);
        self.state.tmr.set(vector, false);
    }
    /// Takes an interrupt, whoever is addressed.
    pub fn deliver(&mut self, mode: Delivery, vector: u8) -> bool {
        self.take(mode, vector, false)
    }

    fn enabled(&self) -> bool {
        self.state.base & BASE_EN != 0
    }
    fn x2apic(&self) -> bool {
        self.state.base & BASE_EXTD != 0
    }
    fn software_enabled(&self) -> bool {
        self.enabled() && self.state.svr & SVR_ENABLE != 0
    }

    /// Where the register page is, while it is visible (globally enabled, not x2APIC mode).
    pub fn page(&self) -> Option<u64> {
        (self.enabled() && !self.x2apic()).then_some(self.state.base & BASE_ADDRESS)
    }

    /// Does LINT0 pass the 8259A's requests through? So it does with the APIC switched off, when
    /// the pin is INTR itself (11.4.3), and after reset firmware leaves virtual wire mode behind.
    pub fn passes_ext_int(&self) -> bool {
        let lint0 = self.state.lvt[LINT0];
        !self.enabled() || lint0 & LVT_MASK == 0 && Delivery::of_bits(lint0 >> 8) == Delivery::ExtInt
    }

    /// Virtual wire mode, as firmware leaves it for the operating system (MultiProcessor
    /// Specification 1.4, section 3.6.2.2): enabled, LINT0 = ExtINT, LINT1 = NMI.
    pub fn virtual_wire(&mut self) {
        self.state.svr = SVR_ENABLE | 0xff;
        self.state.lvt[LINT0] = 0x700;
        self.state.lvt[LINT1] = 0x400;
    }

    /// The level of LINT0 (8259A) or LINT1 (NMI). ExtINT is handled by the board.
    pub fn set_lint(&mut self, pin: usize, high: bool) {
        let Some(level) = self.state.lint.get_mut(pin) else { return };
        let rose = high && !core::mem::replace(level, high);
        let entry = self.state.lvt[LINT0 + pin];
        match Delivery::of_bits(entry >> 8) {
            _ if !self.enabled() => self.state.nmi |= pin == 1 && rose,
            Delivery::Nmi if rose && entry & LVT_MASK == 0 => self.state.nmi = true,
            Delivery::Fixed if rose => self.local(LINT0 + pin),
            _ => {}
        }
    }

    /// Takes a pending NMI.
    pub fn take_nmi(&mut self) -> bool {
        core::mem::take(&mut self.state.nmi)
    }
    /// Is an NMI pending?
    pub fn nmi(&self) -> bool {
        self.state.nmi
    }

    /// Takes the vectors of ended level-triggered interrupts (EOI broadcast, 11.8.5).
    pub fn take_ended(&mut self) -> impl Iterator<Item = u8> + use<> {
        core::mem::take(&mut self.ended).into_iter()
    }

    /// Offers a message; says whether this APIC is addressed and took it.
    pub fn accept(&mut self, m: Message) -> bool {
        if !self.enabled() || !self.addressed(m.dest, m.logical) {
            return false;
        }
        self.take(m.mode, m.vector, m.level)
    }

    fn addressed(&self, dest: u32, logical: bool) -> bool {
        let s = &self.state;
        // I/O APIC entries have 8 destination bits, so FFh is everybody in both modes.
        if dest == 0xff || dest == u32::MAX {
            return true;
        }
        if !logical {
            return dest == s.id;
        }
        if self.x2apic() {
            let ldr = self.logical_x2apic_id();
            return dest >> 16 == ldr >> 16 && dest & ldr & 0xffff != 0;
        }
        let ldr = s.ldr >> 24;
        if s.dfr >> 28 == 0xf {
            dest & ldr != 0 // flat model (11.6.2.2)
        } else {
            dest >> 4 == ldr >> 4 && dest & ldr & 0xf != 0
        }
    }

    fn take(&mut self, mode: Delivery, vector: u8, level: bool) -> bool {
        match mode {
            Delivery::Fixed | Delivery::LowestPriority => {
                if !self.software_enabled() {
                    return false;
                }
                if vector < 16 {
                    self.error(ESR_RECEIVE_ILLEGAL);
                    return false;
                }
                self.state.irr.set(vector, true);
                self.state.tmr.set(vector, level);
                true
            }
            Delivery::Nmi => {
                self.state.nmi = true;
                true
            }
            _ => false,
        }
    }

    /// A local source asks by its LVT entry.
    fn local(&mut self, entry: usize) {
        let lvt = self.state.lvt[entry];
        if lvt & LVT_MASK == 0 {
            let mode = if entry == TIMER || entry == ERROR { Delivery::Fixed } else { Delivery::of_bits(lvt >> 8) };
            self.take(mode, lvt as u8, false);
        }
    }
    fn error(&mut self, bit: u32) {
        let new = self.state.errors & bit == 0;
        self.state.errors |= bit;
        if !new {
            return;
        }
        let entry = self.state.lvt[ERROR];
        if entry & 0xff >= 16 {
            self.local(ERROR);
        } else if entry & LVT_MASK == 0 && self.software_enabled() {
            // That entry's vector is itself an illegal one, and that is all then.
            self.state.errors |= ESR_RECEIVE_ILLEGAL;
        }
    }

    /// Processor priority: the higher class of TPR and the interrupt in service (11.8.3.1).
    fn ppr(&self) -> u8 {
        let isrv = self.state.isr.highest().unwrap_or(0);
        if self.state.tpr >> 4 >= isrv >> 4 { self.state.tpr } else { isrv & 0xf0 }
    }
    fn deliverable(&self) -> Option<u8> {
        if !self.enabled() {
            return None;
        }
        self.state.irr.highest().filter(|v| v >> 4 > self.ppr() >> 4)
    }
    /// Does the APIC want to interrupt the processor?
    pub fn pending(&self) -> bool {
        self.deliverable().is_some()
    }
    /// Dispenses the vector to the processor; the spurious vector if the request is now below the
    /// priority (11.9); nothing if there is no request at all.
    pub fn acknowledge(&mut self) -> Option<u8> {
        match self.deliverable() {
            Some(v) => {
                self.state.irr.set(v, false);
                self.state.isr.set(v, true);
                Some(v)
            }
            None => self.state.irr.highest().map(|_| self.state.svr as u8),
        }
    }
    fn end_of_interrupt(&mut self) {
        if let Some(v) = self.state.isr.highest() {
            self.state.isr.set(v, false);
            if self.state.tmr.has(v) {
                self.ended.push(v);
            }
        }
    }

    /// Bits 3:0 of CR8.
    pub fn cr8(&self) -> u8 {
        self.state.tpr >> 4
    }
    /// MOV to CR8 (11.8.6).
    pub fn set_cr8(&mut self, v: u8) {
        self.state.tpr = v << 4;
    }

    fn logical_x2apic_id(&self) -> u32 {
        (self.state.id >> 4) << 16 | 1 << (self.state.id & 0xf)
    }

    fn read_register(&mut self, now: VmTime, at: u32) -> u32 {
        let s = &self.state;
        let bank = |v: &Vectors| v.0[(at >> 4 & 7) as usize];
        match at {
            ID if self.x2apic() => s.id,
            ID => s.id << 24,
            VERSION => VERSION_VALUE,
            TPR => s.tpr.into(),
            PPR => self.ppr().into(),
            APR | RRD | EOI => 0,
            LDR if self.x2apic() => self.logical_x2apic_id(),
            LDR => s.ldr,
            DFR => s.dfr,
            SVR => s.svr,
            ISR..0x180 => bank(&s.isr),
            TMR..0x200 => bank(&s.tmr),
            IRR..0x280 => bank(&s.irr),
            ESR => s.esr,
            ICR_LOW => s.icr as u32,
            ICR_HIGH => (s.icr >> 32) as u32,
            LVT_TIMER..=LVT_ERROR => s.lvt[((at - LVT_TIMER) >> 4) as usize],
            TIMER_ICT => s.timer.initial(),
            TIMER_CCT => s.timer.current(now),
            TIMER_DCR => s.timer.divide_register(),
            _ => {
                self.error(ESR_ILLEGAL_REGISTER);
                0
            }
        }
    }

    fn write_register(&mut self, now: VmTime, at: u32, v: u32) {
        match at {
            ID => self.state.id = v >> 24,
            TPR => self.state.tpr = v as u8,
            EOI => self.end_of_interrupt(),
            LDR => self.state.ldr = v & 0xff00_0000,
            DFR => self.state.dfr = v | 0x0fff_ffff,
            SVR => {
                self.state.svr = v & SVR_WRITABLE;
                if v & SVR_ENABLE == 0 {
                    // 11.4.7.2: all LVT mask bits are set.
                    self.state.lvt.iter_mut().for_each(|e| *e |= LVT_MASK);
                }
            }
            // A write latches what has happened since the last one (11.5.3).
            ESR => self.state.esr = core::mem::take(&mut self.state.errors),
            ICR_LOW => {
                self.state.icr = self.state.icr & !0xffff_ffff | u64::from(v & 0x000c_cfff);
                self.send();
            }
            ICR_HIGH => self.state.icr = self.state.icr & 0xffff_ffff | u64::from(v & 0xff00_0000) << 32,
            LVT_TIMER..=LVT_ERROR => {
                let n = ((at - LVT_TIMER) >> 4) as usize;
                let mut e = v & LVT_WRITABLE[n];
                if self.state.svr & SVR_ENABLE == 0 {
                    e |= LVT_MASK;
                }
                self.state.lvt[n] = e;
                if n == TIMER {
                    self.state.timer.set_mode(now, e >> 17 & 3);
                }
            }
            TIMER_ICT => self.state.timer.set_initial(now, v),
            TIMER_DCR => self.state.timer.set_divide(now, v),
            VERSION | APR | PPR | RRD | TIMER_CCT | 0x100..=0x270 => {} // read-only
            _ => self.error(ESR_ILLEGAL_REGISTER),
        }
    }

    /// Interrupt command register.
    fn send(&mut self) {
        let icr = self.state.icr;
        let mode = Delivery::of_bits((icr >> 8) as u32);
        let vector = icr as u8;
        if matches!(mode, Delivery::Fixed | Delivery::LowestPriority) && vector < 16 {
            self.error(ESR_SEND_ILLEGAL);
            return;
        }
        let to_self = match icr >> 18 & 3 {
            0 => {
                let dest = if self.x2apic() { icr >> 32 } else { icr >> 56 };
                self.addressed(dest as u32, icr & 1 << 11 != 0)
            }
            3 => false, // all excluding self
            _ => true,
        };
        let shorthand = icr >> 18 & 3;
        let x2apic = self.x2apic();
        if let Some(sent) = self.sent.as_mut().filter(|s| shorthand != 1 && s.len() < MAX_SENT) {
            let dest = if x2apic { icr >> 32 } else { icr >> 56 } as u32;
            let message = Message { dest, logical: icr & 1 << 11 != 0, mode, vector, level: icr & 1 << 15 != 0 };
            // Level-triggered without the assert bit is an INIT's end, which means nothing any more.
            if !(mode == Delivery::Init && message.level && icr & 1 << 14 == 0) {
                sent.push(Ipi { others: shorthand >= 2, message });
            }
        }
        if to_self {
            self.take(mode, vector, false);
        }
    }

    /// An MSR of the APIC; `None`: not one of ours, or #GP.
    pub fn msr_read(&mut self, now: VmTime, msr: u32) -> Option<u64> {
        match msr {
            MSR_APIC_BASE => Some(self.state.base),
            MSR_TSC_DEADLINE => Some(self.state.timer.deadline_msr()),
            MSR_X2APIC..=MSR_X2APIC_LAST if self.x2apic() => {
                let at = (msr - MSR_X2APIC) << 4;
                match at {
                    ICR_LOW => Some(self.state.icr),
                    // Table 11-6: DFR, ICR high and the write-only registers.
                    ID | VERSION | TPR | PPR | LDR | SVR | ISR..=ESR | LVT_TIMER..=TIMER_CCT | TIMER_DCR => {
                        let defined = at <= 0x280 || at >= LVT_TIMER;
                        defined.then(|| u64::from(self.read_register(now, at)))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Writes an MSR of the APIC; `false`: not one of ours, or #GP.
    pub fn msr_write(&mut self, now: VmTime, msr: u32, v: u64) -> bool {
        match msr {
            MSR_APIC_BASE => self.write_base(v),
            MSR_TSC_DEADLINE => {
                self.state.timer.set_deadline_msr(v);
                self.advance_timer(now);
                true
            }
            MSR_X2APIC..=MSR_X2APIC_LAST if self.x2apic() => self.write_x2apic(now, (msr - MSR_X2APIC) << 4, v),
            _ => false,
        }
    }

    fn write_base(&mut self, v: u64) -> bool {
        if v & !(BASE_ADDRESS | BASE_EN | BASE_EXTD | BASE_BSP) != 0 {
            return false;
        }
        let modes = |b: u64| (b & BASE_EN != 0, b & BASE_EXTD != 0);
        // Figure 11-28: x2APIC mode is entered from xAPIC mode and left by switching off.
        match (modes(self.state.base), modes(v)) {
            (_, (false, true)) | ((true, true), (true, false)) | ((false, false), (true, true)) => return false,
            (old, (false, false)) if old.0 => self.reset_keeping_base(),
            ((true, false), (true, true)) => self.state.icr = 0,
            _ => {}
        }
        self.state.base = v & !BASE_BSP | self.state.base & BASE_BSP;
        true
    }
    /// 11.4.3: switched off and on again, the APIC is as after a reset.
    fn reset_keeping_base(&mut self) {
        self.state = State {
            base: self.state.base,
            id: self.state.id,
            lint: self.state.lint,
            nmi: self.state.nmi,
            ..State::default()
        };
    }

    fn write_x2apic(&mut self, now: VmTime, at: u32, v: u64) -> bool {
        // 11.12.1.3: reserved bits raise #GP.
        let allowed = match at {
            TPR | SELF_IPI => 0xff,
            EOI | ESR => 0,
            SVR => u64::from(SVR_WRITABLE),
            ICR_LOW => 0xffff_ffff_000c_cfff,
            LVT_TIMER..=LVT_ERROR => u64::from(LVT_WRITABLE[((at - LVT_TIMER) >> 4) as usize]) | 0x5000,
            TIMER_ICT => 0xffff_ffff,
            TIMER_DCR => 0xb,
            _ => return false,
        };
        if v & !allowed != 0 {
            return false;
        }
        match at {
            ICR_LOW => {
                self.state.icr = v;
                self.send();
            }
            SELF_IPI => {
                if v < 16 {
                    self.error(ESR_SEND_ILLEGAL);
                } else {
                    self.take(Delivery::Fixed, v as u8, false);
                }
            }
            _ => self.write_register(now, at, v as u32),
        }
        true
    }

    pub(crate) fn advance_timer(&mut self, now: VmTime) {
        if self.state.timer.advance(now) {
            self.local(TIMER);
        }
    }
}

impl Device for Lapic {
    fn read(&mut self, cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        self.advance_timer(cx.now);
        // Table 11-1: registers are 32 bits at 16-byte boundaries; the bytes between are undefined.
        let word = at & 0xffc;
        let v = if word & 0xf == 0 { self.read_register(cx.now, word as u32) } else { 0 };
        put_le(data, u64::from(v) >> (8 * (at & 3)));
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        self.advance_timer(cx.now);
        if at & 0xf == 0 && data.len() == 4 {
            self.write_register(cx.now, (at & 0xff0) as u32, le(data) as u32);
        }
        self.advance_timer(cx.now);
    }

    fn deadline(&self) -> Option<VmTime> {
        self.state.timer.deadline()
    }
    fn advance(&mut self, cx: &mut Cx<'_>) {
        self.advance_timer(cx.now);
    }

    fn reset(&mut self, _cx: &mut Cx<'_>) {
        self.state = State { lint: self.state.lint, ..State::default() };
        self.ended.clear();
    }

    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
#[path = "lapic_tests.rs"]
mod tests;
