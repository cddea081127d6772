//! Register-level tests of the MC146818A.

use super::*;
use crate::device::bench::Bench;

/// 2024-02-28 23:59:58 UTC, a Wednesday before a leap day.
const START: i64 = 1_709_164_798;

struct R(Rtc146818, Bench);
impl R {
    fn new() -> Self {
        let mut b = Bench::new();
        let irq = b.irq.connect(8).unwrap();
        Self(Rtc146818::new(START, irq), b)
    }
    fn get(&mut self, index: u8) -> u8 {
        self.1.write(&mut self.0, 0, index);
        self.1.read(&mut self.0, 1)
    }
    fn set(&mut self, index: u8, v: u8) {
        self.1.write(&mut self.0, 0, index);
        self.1.write(&mut self.0, 1, v);
    }
    fn at_ms(&mut self, ms: u64) -> &mut Self {
        self.1.run_to(&mut self.0, VmTime::from_nanos(ms * 1_000_000));
        self
    }
    fn clock(&mut self) -> [u8; 8] {
        [CENTURY, YEAR, MONTH, DAY, DAY_OF_WEEK, HOURS, MINUTES, SECONDS].map(|i| self.get(i))
    }
    fn irq(&self) -> bool {
        self.1.level(8)
    }
}

#[test]
fn the_time_runs_over_a_leap_day_in_bcd() {
    let mut r = R::new();
    assert_eq!(r.clock(), [0x20, 0x24, 0x02, 0x28, 4, 0x23, 0x59, 0x58]);
    assert_eq!(r.at_ms(2000).clock(), [0x20, 0x24, 0x02, 0x29, 5, 0x00, 0x00, 0x00]);
    assert_eq!(r.at_ms(2000 + 86_400_000).clock(), [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00]);
}

#[test]
fn binary_and_twelve_hour_modes() {
    let mut r = R::new();
    r.set(B, B_DM | B_24);
    assert_eq!(r.clock(), [20, 24, 2, 28, 4, 23, 59, 58]);
    r.set(B, 0);
    assert_eq!(r.get(HOURS), 0x91); // 11 PM
    assert_eq!(r.at_ms(2000).get(HOURS), 0x12); // midnight is 12 AM
    r.set(HOURS, 0x92); // 12 PM
    r.set(B, B_24);
    assert_eq!(r.get(HOURS), 0x12);
}

#[test]
fn set_holds_the_registers_and_the_phase_goes_on() {
    let mut r = R::new();
    r.at_ms(300).set(B, B_24 | B_SET);
    for (i, v) in
        [(CENTURY, 0x19), (YEAR, 0x99), (MONTH, 0x12), (DAY, 0x31), (HOURS, 0x23), (MINUTES, 0x59), (SECONDS, 0x59)]
    {
        r.set(i, v);
    }
    r.set(DAY_OF_WEEK, 6);
    assert_eq!(r.at_ms(5500).get(SECONDS), 0x59);
    assert_eq!(r.get(A) & A_UIP, 0);
    r.set(B, B_24);
    assert_eq!(r.at_ms(5999).get(SECONDS), 0x59);
    assert_eq!(r.at_ms(6000).clock(), [0x20, 0, 1, 1, 7, 0, 0, 0]);
}

#[test]
fn leaving_divider_reset_updates_half_a_second_later() {
    let mut r = R::new();
    r.at_ms(100).set(A, 0x70);
    assert_eq!(r.at_ms(3000).get(SECONDS), 0x58);
    r.set(A, 0x26);
    assert_eq!(r.at_ms(3499).get(SECONDS), 0x58);
    assert_eq!(r.at_ms(3500).get(SECONDS), 0x59);
}

#[test]
fn update_in_progress_announces_the_next_second() {
    let mut r = R::new();
    assert_eq!(r.at_ms(997).get(A), 0x26);
    assert_eq!(r.at_ms(998).get(A), 0xa6);
    assert_eq!(r.at_ms(1000).get(A), 0x26);
}

#[test]
fn the_periodic_interrupt_has_the_selected_rate_and_needs_a_read_of_c() {
    let mut r = R::new();
    r.set(A, 0x2f); // 2 Hz
    r.set(B, B_24 | B_PIE);
    assert_eq!(r.0.deadline(), Some(VmTime::from_nanos(500_000_000)));
    r.at_ms(500);
    assert!(r.irq());
    assert_eq!(r.0.deadline(), None); // until C is read
    assert_eq!(r.get(C), C_IRQF | C_PF);
    assert!(!r.irq());
    assert_eq!(r.get(C), 0);
    r.set(A, 0x26); // 1024 Hz: 976.5625 us
    r.get(C);
    assert_eq!(r.0.deadline(), Some(VmTime::from_nanos(500_976_563)));
    r.set(A, 0x21);
    assert_eq!(r.0.deadline(), Some(VmTime::from_nanos(503_906_250)));
}

#[test]
fn flags_are_set_without_their_enables_but_do_not_interrupt() {
    let mut r = R::new();
    r.set(HOURS_ALARM, 0xff);
    r.set(MINUTES_ALARM, 0xff);
    r.set(SECONDS_ALARM, 0x59);
    r.at_ms(1000);
    assert!(!r.irq());
    assert_eq!(r.get(C), C_PF | C_AF | C_UF);
}

#[test]
fn update_and_alarm_interrupts() {
    let mut r = R::new();
    r.set(A, 0x20);
    r.set(B, B_24 | B_UIE);
    r.at_ms(1000);
    assert_eq!(r.get(C), C_IRQF | C_UF);
    r.set(B, B_24 | B_AIE);
    for (i, v) in [(HOURS_ALARM, 0x00), (MINUTES_ALARM, 0x01), (SECONDS_ALARM, 0x30)] {
        r.set(i, v);
    }
    assert_eq!(r.0.deadline(), Some(VmTime::from_nanos(92_000_000_000)));
    r.at_ms(91_999);
    assert!(!r.irq());
    r.at_ms(92_000);
    assert!(r.irq());
    assert_eq!(r.get(C), C_IRQF | C_AF | C_UF);
    assert_eq!(r.0.deadline(), Some(VmTime::from_nanos(86_492_000_000_000))); // tomorrow
    r.set(HOURS_ALARM, 0x77); // never
    assert_eq!(r.0.deadline(), None);
}

#[test]
fn nvram_and_time_survive_a_reset_but_enables_do_not() {
    let mut r = R::new();
    r.set(0x40, 0xa5);
    r.set(B, B_24 | B_PIE);
    r.at_ms(1000);
    r.0.reset(&mut r.1.cx());
    assert!(!r.irq());
    assert_eq!((r.get(0x40), r.get(B), r.get(C), r.get(SECONDS), r.get(D)), (0xa5, B_24, 0, 0x59, D_VRT));
}

#[test]
fn index_bit_7_masks_nmi_and_is_not_part_of_the_index() {
    let mut r = R::new();
    assert_eq!(r.get(0x80 | D), D_VRT);
    assert!(r.0.nmi_masked());
    assert_eq!(r.1.read(&mut r.0, 0), 0xff);
}

#[test]
fn the_wall_clock_can_be_set_from_outside() {
    let mut r = R::new();
    r.at_ms(5000);
    r.0.input(&mut r.1.cx(), &Input::WallClock(0));
    assert_eq!(r.clock(), [0x19, 0x70, 1, 1, 5, 0, 0, 0]);
    r.0.input(&mut r.1.cx(), &Input::WallClock(i64::MIN));
    r.clock();
    r.0.input(&mut r.1.cx(), &Input::WallClock(i64::MAX));
    r.clock();
}

#[test]
fn any_access_is_survived() {
    let mut r = R::new();
    r.1.torture(&mut r.0, 3);
}
