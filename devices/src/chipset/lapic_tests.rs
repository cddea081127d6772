//! Register-level tests of the local APIC.

use super::*;
use crate::device::bench::Bench;

struct A(Lapic, Bench);
impl A {
    /// Software-enabled with spurious vector FFh.
    fn new() -> Self {
        let mut a = Self(Lapic::default(), Bench::new());
        a.w(SVR, 0x1ff);
        a
    }
    fn w(&mut self, at: u32, v: u32) {
        self.0.write(&mut self.1.cx(), u64::from(at), &v.to_le_bytes());
    }
    fn r(&mut self, at: u32) -> u32 {
        let mut b = [0; 4];
        self.0.read(&mut self.1.cx(), u64::from(at), &mut b);
        u32::from_le_bytes(b)
    }
    fn fixed(&mut self, vector: u8, level: bool) -> bool {
        self.0.accept(Message { dest: 0, logical: false, mode: Delivery::Fixed, vector, level })
    }
    fn ended(&mut self) -> Vec<u8> {
        self.0.take_ended().collect()
    }
    fn at(&mut self, ns: u64) {
        self.1.now = VmTime::from_nanos(ns);
        self.0.advance(&mut self.1.cx());
    }
    fn wrmsr(&mut self, msr: u32, v: u64) -> bool {
        let now = self.1.now;
        self.0.msr_write(now, msr, v)
    }
    fn rdmsr(&mut self, msr: u32) -> Option<u64> {
        let now = self.1.now;
        self.0.msr_read(now, msr)
    }
}

#[test]
fn registers_after_reset() {
    let mut a = A(Lapic::default(), Bench::new());
    assert_eq!(a.r(VERSION), 0x0005_0014);
    assert_eq!((a.r(SVR), a.r(DFR), a.r(LDR)), (0xff, 0xffff_ffff, 0));
    for lvt in (LVT_TIMER..=LVT_ERROR).step_by(16) {
        assert_eq!(a.r(lvt), LVT_MASK);
    }
    assert_eq!(a.rdmsr(MSR_APIC_BASE), Some(0xfee0_0900));
    assert!(!a.fixed(0x40, false)); // software-disabled
}

#[test]
fn higher_classes_interrupt_lower_ones_and_eoi_returns() {
    let mut a = A::new();
    assert!(a.fixed(0x41, false));
    assert_eq!(a.0.acknowledge(), Some(0x41));
    a.fixed(0x4f, false); // same class: waits
    assert!(!a.0.pending());
    a.fixed(0x51, false);
    assert_eq!(a.0.acknowledge(), Some(0x51));
    assert_eq!(a.r(PPR), 0x50);
    assert_eq!(a.r(ISR + 0x20), 1 << (0x51 - 0x40) | 1 << 1);
    a.w(EOI, 0);
    assert!(!a.0.pending());
    a.w(EOI, 0);
    assert_eq!(a.0.acknowledge(), Some(0x4f));
    assert_eq!(a.ended(), []);
}

#[test]
fn task_priority_holds_back_its_class() {
    let mut a = A::new();
    a.fixed(0x63, false);
    a.w(TPR, 0x60);
    assert!(!a.0.pending());
    assert_eq!(a.0.cr8(), 6);
    assert_eq!(a.0.acknowledge(), Some(0xff)); // spurious: the request is below the priority
    assert_eq!(a.r(ISR + 0x70), 0);
    a.0.set_cr8(5);
    assert_eq!(a.r(TPR), 0x50);
    assert_eq!(a.0.acknowledge(), Some(0x63));
    assert_eq!(a.0.acknowledge(), None);
}

#[test]
fn the_end_of_a_level_interrupt_is_broadcast() {
    let mut a = A::new();
    a.fixed(0x71, true);
    assert_eq!(a.r(TMR + 0x30), 1 << 0x11);
    a.0.acknowledge();
    a.w(EOI, 0);
    assert_eq!(a.ended(), [0x71]);
    a.fixed(0x71, false);
    assert_eq!(a.r(TMR + 0x30), 0);
}

#[test]
fn destinations_are_physical_flat_or_cluster() {
    let mut a = A::new();
    let to = |a: &mut A, dest, logical| {
        a.0.accept(Message { dest, logical, mode: Delivery::LowestPriority, vector: 0x30, level: false })
    };
    assert!(to(&mut a, 0, false) && to(&mut a, 0xff, false) && !to(&mut a, 1, false));
    a.w(LDR, 0x0100_0000);
    assert!(to(&mut a, 0x03, true) && !to(&mut a, 0x02, true));
    a.w(DFR, 0);
    a.w(LDR, 0x2100_0000);
    assert!(to(&mut a, 0x21, true) && !to(&mut a, 0x11, true) && !to(&mut a, 0x22, true));
}

#[test]
fn the_icr_reaches_oneself() {
    let mut a = A::new();
    a.w(ICR_LOW, 0x0004_0045); // self
    assert_eq!(a.0.acknowledge(), Some(0x45));
    a.w(EOI, 0);
    a.w(ICR_LOW, 0x000c_0046); // all but self
    assert!(!a.0.pending());
    a.w(ICR_HIGH, 0x0100_0000);
    a.w(ICR_LOW, 0x0000_0047); // somebody else
    assert!(!a.0.pending());
    a.w(ICR_HIGH, 0);
    a.w(ICR_LOW, 0x0000_0047);
    assert_eq!(a.0.acknowledge(), Some(0x47));
    a.w(ICR_LOW, 0x0004_0400); // NMI to self
    assert!(a.0.take_nmi() && !a.0.take_nmi());
    assert_eq!(a.r(ICR_LOW) & 1 << 12, 0); // never "send pending"
}

#[test]
fn errors_are_latched_by_a_write_and_interrupt() {
    let mut a = A::new();
    a.w(LVT_ERROR, 0xfe);
    a.w(ICR_LOW, 0x0004_0005); // vector 5 is illegal
    assert_eq!(a.r(ESR), 0);
    a.w(ESR, 0);
    assert_eq!(a.r(ESR), ESR_SEND_ILLEGAL);
    assert_eq!(a.0.acknowledge(), Some(0xfe));
    assert!(!a.fixed(3, false));
    a.r(0x40);
    a.w(ESR, 0);
    assert_eq!(a.r(ESR), ESR_RECEIVE_ILLEGAL | ESR_ILLEGAL_REGISTER);
    a.w(ESR, 0);
    assert_eq!(a.r(ESR), 0);
    // The entry for errors has a vector, too.
    a.w(LVT_ERROR, 0xf);
    a.w(ICR_LOW, 0x0004_0005);
    a.w(ESR, 0);
    assert_eq!(a.r(ESR), ESR_SEND_ILLEGAL | ESR_RECEIVE_ILLEGAL);
}

#[test]
fn the_timer_interrupts_by_its_entry() {
    let mut a = A::new();
    a.w(TIMER_DCR, 0xb);
    a.w(LVT_TIMER, 0x31);
    a.w(TIMER_ICT, 5000);
    assert_eq!(a.0.deadline(), Some(VmTime::from_nanos(5000)));
    a.at(4999);
    assert_eq!(a.r(TIMER_CCT), 1);
    assert!(!a.0.pending());
    a.at(5000);
    assert_eq!(a.0.acknowledge(), Some(0x31));
    a.w(EOI, 0);
    a.w(LVT_TIMER, 0x2_0032 | LVT_MASK); // periodic, masked
    a.w(TIMER_ICT, 2000);
    a.at(9001);
    assert!(!a.0.pending());
    a.w(LVT_TIMER, 0x2_0032);
    a.at(11_000);
    assert_eq!(a.0.acknowledge(), Some(0x32));
}

#[test]
fn a_tsc_deadline_in_the_past_fires_at_once() {
    let mut a = A::new();
    a.w(LVT_TIMER, 0x4_00ec);
    a.at(1000);
    assert!(a.wrmsr(MSR_TSC_DEADLINE, 1500));
    assert_eq!(a.rdmsr(MSR_TSC_DEADLINE), Some(1500));
    assert!(!a.0.pending());
    assert!(a.wrmsr(MSR_TSC_DEADLINE, 900));
    assert_eq!(a.0.acknowledge(), Some(0xec));
    assert_eq!(a.rdmsr(MSR_TSC_DEADLINE), Some(0));
}

#[test]
fn switching_the_software_enable_off_masks_all_entries() {
    let mut a = A::new();
    a.w(LVT_TIMER, 0x31);
    a.w(SVR, 0xff);
    assert_eq!(a.r(LVT_TIMER), 0x31 | LVT_MASK);
    a.w(LVT_TIMER, 0x31);
    assert_eq!(a.r(LVT_TIMER), 0x31 | LVT_MASK);
}

#[test]
fn lint0_passes_ext_int_or_its_own_vector() {
    let mut a = A::new();
    assert!(!a.0.passes_ext_int());
    a.0.virtual_wire();
    assert!(a.0.passes_ext_int());
    a.w(0x350, 0x44); // fixed
    a.0.set_lint(0, true);
    a.0.set_lint(0, true);
    assert_eq!(a.0.acknowledge(), Some(0x44));
    assert_eq!(a.0.acknowledge(), None);
    a.0.set_lint(1, true);
    assert!(a.0.take_nmi());
    a.wrmsr(MSR_APIC_BASE, 0xfee0_0100); // globally off
    assert!(a.0.passes_ext_int());
    assert_eq!(a.0.page(), None);
}

#[test]
fn x2apic_mode_follows_the_state_diagram() {
    let mut a = A::new();
    assert_eq!(a.rdmsr(0x802), None);
    assert!(!a.wrmsr(MSR_APIC_BASE, 0xfee0_0500)); // EXTD without EN
    assert!(!a.wrmsr(MSR_APIC_BASE, 1 << 60));
    assert!(a.wrmsr(MSR_APIC_BASE, 0xfee0_0d00));
    assert_eq!((a.rdmsr(0x802), a.rdmsr(0x80d), a.0.page()), (Some(0), Some(1), None));
    assert!(!a.wrmsr(MSR_APIC_BASE, 0xfee0_0900)); // not straight back
    assert!(a.wrmsr(0x80f, 0x1ff));
    assert!(a.wrmsr(0x83f, 0x55)); // self IPI
    assert_eq!(a.0.acknowledge(), Some(0x55));
    assert!(!a.wrmsr(0x80b, 1)); // EOI takes zero only
    assert!(a.wrmsr(0x80b, 0));
    assert!(a.wrmsr(0x830, 0x0000_0000_0000_0056));
    assert_eq!(a.0.acknowledge(), Some(0x56));
    assert!(!a.wrmsr(0x80e, 0) && a.rdmsr(0x80e).is_none()); // no DFR
    assert!(!a.wrmsr(0x808, 0x100)); // reserved bits of TPR
    assert!(a.rdmsr(0x831).is_none());
    assert!(a.wrmsr(MSR_APIC_BASE, 0xfee0_0100) && a.wrmsr(MSR_APIC_BASE, 0xfee0_0900));
    assert_eq!(a.r(SVR), 0xff); // as after reset
}

#[test]
fn only_aligned_double_words_write() {
    let mut a = A::new();
    let mut cx = a.1.cx();
    a.0.write(&mut cx, u64::from(TPR), &[0x70]);
    a.0.write(&mut cx, u64::from(TPR) + 4, &[0x70, 0, 0, 0]);
    assert_eq!(a.r(TPR), 0);
}

#[test]
fn any_access_is_survived() {
    let mut b = Bench::new();
    let mut l = Lapic::default();
    b.torture(&mut l, 0x1000);
    let mut x = 1u64;
    for i in 0..20_000u32 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let now = VmTime::from_nanos(x >> 20);
        let msr = [MSR_APIC_BASE, MSR_TSC_DEADLINE, 0x800 + (x >> 50) as u32 % 0x100][(i % 3) as usize];
        l.msr_write(now, msr, if x & 1 << 40 != 0 { x } else { x >> 52 });
        l.msr_read(now, msr);
        l.acknowledge();
        l.take_ended().count();
        let _ = l.deadline();
    }
}
