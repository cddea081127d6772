//! Register-level tests of the 16550A.

use super::*;
use crate::device::bench::Bench;
use crate::effect::Effect;

const DATA: u64 = 0;
const IER: u64 = 1;
const IIR: u64 = 2;
const FCR: u64 = 2;
const LCR: u64 = 3;
const MCR: u64 = 4;
const LSR: u64 = 5;
const MSR: u64 = 6;

struct U(Uart16550, Bench);
impl U {
    /// 115200 8N1, interrupts connected: a character takes 10 bits / 115200 / 512 = 169 ns.
    fn new() -> Self {
        let mut b = Bench::new();
        let irq = b.irq.connect(4).unwrap();
        let mut u = Self(Uart16550::new(0, irq), b);
        u.w(LCR, 0x83);
        u.w(DATA, 1);
        u.w(IER, 0);
        u.w(LCR, 0x03);
        u.w(MCR, MCR_OUT2);
        u
    }
    fn with_fifo(fcr: u8) -> Self {
        let mut u = Self::new();
        u.w(FCR, fcr | FCR_ENABLE);
        u
    }
    fn r(&mut self, at: u64) -> u8 {
        self.1.read(&mut self.0, at)
    }
    fn w(&mut self, at: u64, v: u8) {
        self.1.write(&mut self.0, at, v);
    }
    fn type_in(&mut self, bytes: &[u8]) {
        self.0.input(&mut self.1.cx(), &Input::Serial { port: 0, bytes: bytes.to_vec() });
    }
    fn after(&mut self, ns: u64) {
        let to = self.1.now + VmDuration::from_nanos(ns);
        self.1.run_to(&mut self.0, to);
    }
    fn irq(&self) -> bool {
        self.1.level(4)
    }
}

#[test]
fn registers_after_reset() {
    let mut b = Bench::new();
    let irq = b.irq.connect(4).unwrap();
    let mut u = U(Uart16550::new(0, irq), b);
    assert_eq!([IER, IIR, LCR, MCR, LSR, MSR].map(|r| u.r(r)), [0, 0x01, 0, 0, 0x60, 0xb0]);
}

#[test]
fn output_leaves_as_one_batch() {
    let mut u = U::new();
    for b in b"hello" {
        u.w(DATA, *b);
    }
    assert_eq!(u.1.out, [Effect::Serial { port: 0, bytes: b"hello".to_vec() }]);
}

#[test]
fn the_transmitter_is_busy_for_its_characters() {
    let mut u = U::with_fifo(0);
    u.w(DATA, b'a');
    u.w(DATA, b'b');
    assert_eq!(u.r(LSR) & (LSR_THRE | LSR_TEMT), 0);
    u.after(2 * 169 - 1);
    assert_eq!(u.r(LSR) & LSR_THRE, 0);
    u.after(1);
    assert_eq!(u.r(LSR) & (LSR_THRE | LSR_TEMT), LSR_THRE | LSR_TEMT);
    for _ in 0..1000 {
        u.w(DATA, b'x'); // never more than a FIFO's worth of waiting
    }
    u.after(16 * 169);
    assert_eq!(u.r(LSR) & LSR_THRE, LSR_THRE);
}

#[test]
fn thre_interrupts_when_enabled_and_when_empty_again() {
    let mut u = U::with_fifo(0);
    u.w(IER, IER_THRE);
    assert!(u.irq());
    assert_eq!(u.r(IIR), IIR_FIFO | IIR_THRE);
    assert!(!u.irq()); // reading IIR clears it
    assert_eq!(u.r(IIR), IIR_FIFO | IIR_NONE);
    u.w(IER, IER_THRE); // no 0 to 1 transition
    assert!(!u.irq());
    u.w(DATA, b'a');
    assert_eq!(u.0.deadline(), Some(u.1.now + VmDuration::from_nanos(169)));
    u.after(169);
    assert!(u.irq());
    u.w(DATA, b'b'); // writing clears it as well
    assert!(!u.irq());
    u.w(IER, 0);
    u.w(IER, IER_THRE); // still busy
    assert!(!u.irq());
    assert_eq!(u.0.deadline().map(|t| t > u.1.now), Some(true));
}

#[test]
fn received_data_interrupts_at_the_trigger_level() {
    let mut u = U::with_fifo(0x80); // 8
    u.w(IER, IER_RDA);
    u.type_in(b"1234567");
    assert!(!u.irq());
    assert_eq!(u.r(LSR) & LSR_DR, LSR_DR);
    u.type_in(b"8");
    assert_eq!(u.r(IIR), IIR_FIFO | IIR_RDA);
    assert_eq!(u.r(DATA), b'1');
    assert!(!u.irq());
}

#[test]
fn a_waiting_character_times_out_after_four_character_times() {
    let mut u = U::with_fifo(0xc0); // 14
    u.w(IER, IER_RDA);
    u.type_in(b"ab");
    u.after(4 * 169 - 1);
    assert!(!u.irq());
    u.after(1);
    assert!(u.irq());
    assert_eq!(u.r(IIR), IIR_FIFO | IIR_TIME_OUT);
    assert_eq!(u.r(IIR), IIR_FIFO | IIR_TIME_OUT); // only a read of the data ends it
    assert_eq!(u.r(DATA), b'a');
    assert!(!u.irq());
    u.after(4 * 169);
    assert!(u.irq()); // and 'b' waits again
    assert_eq!(u.r(DATA), b'b');
    u.after(10_000);
    assert!(!u.irq());
}

#[test]
fn input_waits_for_room_and_nothing_is_lost() {
    let mut u = U::with_fifo(0);
    let text: Vec<u8> = (0..100).collect();
    u.type_in(&text);
    assert_eq!(u.0.room(), QUEUE - 84);
    let mut got = Vec::new();
    while u.r(LSR) & LSR_DR != 0 {
        got.push(u.r(DATA));
    }
    assert_eq!(got, text);
    assert_eq!(u.r(LSR) & LSR_OE, 0);
    u.type_in(&vec![7; 2 * QUEUE]);
    assert_eq!(u.0.room(), FIFO); // what the receiver took
    u.type_in(&[8; 2 * FIFO]);
    assert_eq!(u.0.room(), 0);
}

#[test]
fn without_fifo_there_is_one_character() {
    let mut u = U::new();
    u.w(IER, IER_RDA);
    u.type_in(b"ab");
    assert_eq!(u.r(IIR), IIR_RDA);
    assert_eq!((u.r(DATA), u.irq()), (b'a', true));
    assert_eq!((u.r(DATA), u.irq()), (b'b', false));
    assert_eq!(u.r(DATA), b'b'); // an empty receiver shows the last one
}

#[test]
fn sources_have_priorities() {
    let mut u = U::with_fifo(0);
    u.w(IER, 0x0f);
    u.w(MCR, MCR_OUT2 | MCR_LOOP);
    u.w(MCR, MCR_OUT2); // CTS and friends come back: modem status
    u.0.input(&mut u.1.cx(), &Input::SerialBreak { port: 0 });
    assert_eq!(u.r(IIR) & 0xf, IIR_RLS);
    assert_eq!(u.r(LSR) & (LSR_BI | LSR_FIFO_ERROR), LSR_BI | LSR_FIFO_ERROR);
    assert_eq!(u.r(LSR) & (LSR_BI | LSR_FIFO_ERROR), 0);
    assert_eq!(u.r(IIR) & 0xf, IIR_RDA);
    assert_eq!(u.r(DATA), 0);
    assert_eq!(u.r(IIR) & 0xf, IIR_THRE);
    assert_eq!(u.r(IIR) & 0xf, IIR_MS);
    assert_eq!(u.r(MSR) & 0x0f, 0x03); // DCD was OUT2 all the time
    assert_eq!(u.r(IIR) & 0xf, IIR_NONE);
}

#[test]
fn loopback_connects_outputs_to_inputs() {
    let mut u = U::with_fifo(0);
    // The test that drivers use to recognise the chip.
    u.w(MCR, MCR_LOOP | MCR_RTS | MCR_OUT2);
    assert_eq!(u.r(MSR) & 0xf0, MSR_CTS | MSR_DCD);
    u.r(MSR);
    u.w(MCR, MCR_LOOP | MCR_DTR | MCR_OUT1);
    assert_eq!(u.r(MSR), MSR_DSR | MSR_RI | 0x0b); // ringing began: no TERI
    u.w(MCR, MCR_LOOP | MCR_DTR);
    assert_eq!(u.r(MSR), MSR_DSR | MSR_TERI);
    for i in 0..17 {
        u.w(DATA, i);
    }
    assert!(u.1.out.is_empty());
    assert_eq!(u.r(LSR) & LSR_OE, LSR_OE);
    assert_eq!(u.r(LSR) & LSR_OE, 0);
    assert_eq!((0..16).map(|_| u.r(DATA)).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    assert_eq!(u.r(LSR) & LSR_DR, 0);
}

#[test]
fn input_waits_while_looped_and_interrupts_are_disconnected() {
    let mut u = U::with_fifo(0);
    u.w(IER, IER_RDA);
    u.w(MCR, MCR_LOOP | MCR_OUT2);
    u.type_in(b"x");
    assert_eq!(u.r(LSR) & LSR_DR, 0);
    u.w(DATA, b'l');
    assert!(!u.irq());
    assert_eq!(u.r(DATA), b'l');
    u.w(MCR, MCR_OUT2);
    assert!(u.irq());
    assert_eq!(u.r(DATA), b'x');
    u.type_in(b"y");
    u.w(MCR, 0); // OUT2 off
    assert!(!u.irq());
}

#[test]
fn the_divisor_latch_hides_data_and_ier() {
    let mut u = U::new();
    u.w(LCR, 0x83);
    u.w(DATA, 0x34);
    u.w(IER, 0x12);
    assert_eq!((u.r(DATA), u.r(IER)), (0x34, 0x12));
    u.w(LCR, 0x03);
    assert_eq!(u.r(IER), 0);
    u.w(IER, 0xff);
    assert_eq!(u.r(IER), 0x0f);
    assert!(u.1.out.is_empty());
}

#[test]
fn the_fifo_control_register_clears_and_needs_its_enable() {
    let mut u = U::with_fifo(0);
    u.type_in(b"abc");
    u.w(FCR, FCR_ENABLE | FCR_CLEAR_RX);
    assert_eq!(u.r(LSR) & LSR_DR, 0);
    u.w(FCR, 0xc0);
    assert_eq!(u.r(IIR), IIR_NONE);
    u.w(FCR, 0xe1); // bit 5 would be a 16750's
    assert_eq!(u.r(IIR), IIR_FIFO | IIR_NONE);
    u.w(7, 0x5a);
    assert_eq!(u.r(7), 0x5a);
}

#[test]
fn other_ports_input_is_not_ours() {
    let mut u = U::new();
    u.0.input(&mut u.1.cx(), &Input::Serial { port: 1, bytes: vec![1] });
    assert_eq!(u.r(LSR) & LSR_DR, 0);
}

#[test]
fn any_access_is_survived() {
    let mut u = U::with_fifo(0);
    u.type_in(&[1; 5000]);
    u.1.torture(&mut u.0, 9);
}
