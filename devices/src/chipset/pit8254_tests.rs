//! Register-level tests of the 8254.

use super::*;
use crate::device::bench::Bench;

struct T(Pit8254, Bench);
impl T {
    fn new() -> Self {
        let mut b = Bench::new();
        let irq = b.irq.connect(2).unwrap();
        Self(Pit8254::new(irq), b)
    }
    fn at(&mut self, ticks: u64) -> &mut Self {
        let t = VmTime::of_ticks(ticks, HZ);
        self.1.run_to(&mut self.0, t);
        self
    }
    fn out(&mut self, at: u64, v: u8) {
        self.1.write(&mut self.0, at, v);
    }
    fn inp(&mut self, at: u64) -> u8 {
        self.1.read(&mut self.0, at)
    }
    fn count(&mut self, n: u64, count: u16) {
        self.out(n, count as u8);
        self.out(n, (count >> 8) as u8);
    }
    fn latch(&mut self, n: u64) -> u16 {
        self.out(3, (n as u8) << 6);
        u16::from_le_bytes([self.inp(n), self.inp(n)])
    }
    /// OUT of counter 2.
    fn out2(&mut self) -> bool {
        self.inp(4) & P61_OUT2 != 0
    }
    fn edges(&mut self) -> u32 {
        self.1.irq.take_changes().map_or(0, |c| c.rose >> 2 & 1)
    }
}

#[test]
fn mode_0_rises_n_plus_1_clocks_after_the_count_is_written() {
    let mut t = T::new();
    t.out(3, 0x30);
    assert!(!t.1.level(2));
    t.at(100).count(0, 50);
    assert!(!t.at(150).1.level(2));
    assert!(t.at(151).1.level(2));
    assert_eq!(t.latch(0), 0);
    assert_eq!(t.at(152).latch(0), 0xffff); // goes on counting
    assert_eq!(t.0.deadline(), None);
    t.out(0, 1); // first byte: stop, output low
    assert!(!t.1.level(2));
}

#[test]
fn mode_0_counts_only_while_the_gate_is_high() {
    let mut t = T::new();
    t.out(4, 1);
    t.out(3, 0xb0);
    t.count(2, 100); // loaded at tick 1
    t.at(31).out(4, 0);
    assert_eq!(t.at(500).latch(2), 70);
    t.out(4, 1);
    assert!(!t.at(569).out2());
    assert!(t.at(570).out2());
}

#[test]
fn mode_1_is_a_one_shot_that_the_gate_triggers() {
    let mut t = T::new();
    t.out(3, 0xb2);
    t.count(2, 10);
    assert!(t.at(50).out2());
    t.out(4, 1); // trigger: low from the next clock for 10
    assert!(!t.at(51).out2());
    assert!(!t.at(60).out2());
    assert!(t.at(61).out2());
    t.out(4, 0);
    t.at(100).out(4, 1);
    t.at(105).out(4, 0);
    t.out(4, 1); // retrigger
    assert!(!t.at(115).out2());
    assert!(t.at(116).out2());
}

#[test]
fn mode_2_divides_and_reloads_a_new_count_at_the_end_of_the_cycle() {
    let mut t = T::new();
    t.out(3, 0x34);
    t.count(0, 4); // loaded at tick 1
    t.edges();
    let mut seen = Vec::new();
    for tick in 1..=13 {
        t.at(tick);
        if t.edges() != 0 {
            seen.push(tick);
        }
        if tick == 10 {
            t.count(0, 3); // takes over at 13
        }
    }
    assert_eq!(seen, [5, 9, 13]);
    t.at(15);
    assert_eq!(t.edges(), 0);
    t.at(16);
    assert_eq!(t.edges(), 1);
    assert_eq!([t.latch(0), t.at(17).latch(0), t.at(18).latch(0)], [3, 2, 1]);
}

#[test]
fn mode_2_output_is_low_for_the_last_clock_and_high_without_gate() {
    let mut t = T::new();
    t.out(4, 1);
    t.out(3, 0xb4);
    t.count(2, 5); // loaded at 1
    let levels: Vec<bool> = (1..=10).map(|i| t.at(i).out2()).collect();
    assert_eq!(levels, [true, true, true, true, false, true, true, true, true, false]);
    t.out(4, 0);
    assert!(t.out2());
    t.at(20).out(4, 1); // reload at 21
    assert_eq!(t.at(21).latch(2), 5);
    assert!(!t.at(25).out2());
}

#[test]
fn mode_3_is_a_square_wave_an_odd_count_high_one_longer() {
    let mut t = T::new();
    t.out(4, 1);
    t.out(3, 0xb6);
    t.count(2, 5);
    let wave: Vec<(bool, u16)> = (1..=10).map(|i| (t.at(i).out2(), t.latch(2))).collect();
    let one = [(true, 4), (true, 2), (true, 0), (false, 4), (false, 2)];
    assert_eq!(wave[..5], one);
    assert_eq!(wave[5..], one);
    t.count(2, 4); // written in the low half: from the end of it
    let wave: Vec<(bool, u16)> = (11..=14).map(|i| (t.at(i).out2(), t.latch(2))).collect();
    assert_eq!(wave, [(true, 4), (true, 2), (false, 4), (false, 2)]);
}

#[test]
fn mode_3_takes_a_new_count_at_the_half_cycle() {
    let mut t = T::new();
    t.out(4, 1);
    t.out(3, 0xb6);
    t.count(2, 8); // high 1-4
    t.at(2).count(2, 4);
    let wave: Vec<bool> = (3..=12).map(|i| t.at(i).out2()).collect();
    // high until 4, then low 5-6 and high 7-8 of the new count
    assert_eq!(wave, [true, true, false, false, true, true, false, false, true, true]);
}

#[test]
fn mode_4_strobes_once_and_mode_5_on_a_trigger() {
    let mut t = T::new();
    t.out(4, 1);
    t.out(3, 0xb8);
    t.count(2, 3);
    let levels: Vec<bool> = (1..=6).map(|i| t.at(i).out2()).collect();
    assert_eq!(levels, [true, true, true, false, true, true]);
    t.out(4, 0);
    t.out(3, 0xba);
    t.count(2, 3);
    assert!((7..=20).all(|i| t.at(i).out2()));
    t.out(4, 1); // loaded at 21
    let levels: Vec<bool> = (21..=26).map(|i| t.at(i).out2()).collect();
    assert_eq!(levels, [true, true, true, false, true, true]);
}

#[test]
fn read_back_latches_status_before_count() {
    let mut t = T::new();
    t.out(3, 0x34);
    t.count(0, 1000);
    t.out(3, 0xc2); // both, counter 0
    assert_eq!(t.inp(0), 0xf4); // OUT, null count (not loaded yet), both bytes, mode 2
    assert_eq!(u16::from_le_bytes([t.inp(0), t.inp(0)]), 1000);
    t.at(11).out(3, 0xe2); // status only
    assert_eq!(t.inp(0), 0xb4);
    t.at(20).out(3, 0x00); // latch
    t.at(30).out(3, 0xd2); // count again: ignored while latched
    assert_eq!(u16::from_le_bytes([t.inp(0), t.inp(0)]), 981);
    assert_eq!(u16::from_le_bytes([t.inp(0), t.inp(0)]), 971);
}

#[test]
fn single_byte_access_and_bcd() {
    let mut t = T::new();
    t.out(3, 0x11); // counter 0, low byte, mode 0, BCD
    t.out(0, 0x30);
    assert_eq!((t.at(1).inp(0), t.at(2).inp(0)), (0x30, 0x29));
    assert_eq!(t.at(32).inp(0), 0x99); // 9999
    t.out(3, 0x20); // high byte
    t.out(0, 0x01);
    assert_eq!(t.at(33).inp(0), 0x01);
    assert_eq!(t.at(34).inp(0), 0x00);
    t.out(3, 0x35); // BCD 0 is 10000
    t.count(0, 0);
    assert_eq!(t.at(35).latch(0), 0);
    assert_eq!(t.at(36).latch(0), 0x9999);
}

#[test]
fn a_long_jump_costs_one_edge() {
    let mut t = T::new();
    t.out(3, 0x34);
    t.count(0, 2);
    t.edges();
    t.1.now = VmTime::from_nanos(1 << 60);
    t.0.advance(&mut t.1.cx());
    assert_eq!(t.edges(), 1);
    assert!(t.0.deadline().unwrap() > t.1.now);
}

#[test]
fn port_61_shows_the_refresh_toggle() {
    let mut t = T::new();
    t.out(4, 0xff);
    assert_eq!(t.inp(4) & 0x1f, 0x0f);
    assert_eq!(t.at(18).inp(4) & 0x1f, 0x1f);
    assert_eq!(t.at(36).inp(4) & 0x1f, 0x0f);
}

#[test]
fn any_access_is_survived() {
    let mut t = T::new();
    t.1.torture(&mut t.0, 6);
}
