//! Whole-board tests: several chips together, seen through the [`Bus`]; and the run loop with a
//! CPU that follows a script.

use super::board::Board;
use super::clock::{ClockPolicy, Rate};
use super::machine::{Config, ConfigError, Exit, Machine, Mode, Payload, TripleFault, Until};
use super::pc::{Options, Pc};
use super::platform::{Platform, StopCause};
use super::processor::Processor;
use crate::boot::{Entry, layout};
use crate::effect::{Effect, Input, ResetCause};
use std::sync::Arc;
use tabvisor_core::bus::Bus;
use tabvisor_core::mem::GuestRam;
use tabvisor_core::size::Size;
use tabvisor_core::time::{VmDuration, VmTime};
use tabvisor_core::vcpu::CpuExit;

const B1: Size = Size::B1;
const B2: Size = Size::B2;
const B4: Size = Size::B4;
const LAPIC: u64 = layout::LAPIC_BASE;
const IOAPIC: u64 = layout::IOAPIC_BASE;

fn pc() -> Pc {
    let ram = GuestRam::new(1 << 20).unwrap();
    Pc::new(&ram, Options { rate: Rate::ONE, wall_clock: 0, seed: 1, serial_ports: 2, test_device: false }).unwrap()
}

trait Ports {
    fn outb(&mut self, port: u16, v: u8);
    fn inb(&mut self, port: u16) -> u8;
    fn init_pics(&mut self);
    fn redirect(&mut self, pin: u32, low: u32);
}
impl Ports for Board {
    fn outb(&mut self, port: u16, v: u8) {
        self.port_write(port, B1, v.into());
    }
    fn inb(&mut self, port: u16) -> u8 {
        self.port_read(port, B1) as u8
    }
    /// Vectors 20h and 28h, nothing masked.
    fn init_pics(&mut self) {
        for (port, icw2, icw3) in [(0x20, 0x20, 4), (0xa0, 0x28, 2)] {
            self.outb(port, 0x11);
            for v in [icw2, icw3, 1, 0] {
                self.outb(port + 1, v);
            }
        }
    }
    fn redirect(&mut self, pin: u32, low: u32) {
        self.mmio_write(IOAPIC, B4, u64::from(0x10 + 2 * pin));
        self.mmio_write(IOAPIC + 0x10, B4, low.into());
    }
}

#[test]
fn the_timer_reaches_the_cpu_through_the_8259() {
    let mut pc = pc();
    let b = &mut pc.board;
    b.init_pics();
    b.outb(0x43, 0x34);
    b.port_write(0x40, B1, 0x9c);
    b.port_write(0x40, B1, 0x2e); // 11932: 100 Hz
    let mut at = 0;
    for tick in 1..=3u64 {
        at = b.run_until();
        let want = tick * 11932 * 1_000_000_000 / 1_193_182;
        assert!(at.abs_diff(want) < 2000, "{at} {want}");
        b.sync(at - 1);
        assert!(!b.interrupt_pending());
        b.sync(at);
        assert!(b.interrupt_pending());
        assert_eq!(b.acknowledge(), Some(0x20));
        assert!(!b.interrupt_pending());
        b.outb(0x20, 0x20);
    }
    // Masked at the 8259, nothing arrives.
    b.outb(0x21, 1);
    b.sync(at + 50_000_000);
    assert!(!b.interrupt_pending());
}

#[test]
fn the_timer_reaches_the_cpu_through_the_io_apic_pin_2() {
    let mut pc = pc();
    let b = &mut pc.board;
    b.init_pics();
    b.outb(0x21, 0xff);
    b.redirect(2, 0x30);
    b.outb(0x43, 0x34);
    b.outb(0x40, 0);
    b.outb(0x40, 0);
    b.sync(b.run_until());
    assert_eq!(b.acknowledge(), Some(0x30));
    b.mmio_write(LAPIC + 0xb0, B4, 0);
    assert!(!b.interrupt_pending());
}

#[test]
fn the_apic_timer_ends_the_budget_and_interrupts() {
    let mut pc = pc();
    let b = &mut pc.board;
    b.sync(1000);
    b.mmio_write(LAPIC + 0x3e0, B4, 0xb);
    b.mmio_write(LAPIC + 0x320, B4, 0x31);
    b.mmio_write(LAPIC + 0x380, B4, 500);
    assert_eq!(b.run_until(), 1500);
    b.sync(1499);
    assert!(!b.interrupt_pending());
    b.sync(1500);
    assert_eq!(b.acknowledge(), Some(0x31));
}

#[test]
fn a_tsc_deadline_is_a_deadline() {
    let mut pc = pc();
    let b = &mut pc.board;
    b.mmio_write(LAPIC + 0x320, B4, 0x4_00ec);
    b.sync(100);
    let tsc = b.tsc();
    assert!(b.msr_write(0x6e0, tsc + 50));
    assert_eq!(b.run_until(), 150);
    b.sync(150);
    assert!(b.interrupt_pending());
    assert_eq!(b.msr_read(0x6e0), Some(0));
    assert!(!b.msr_write(0x1234, 0) && b.msr_read(0x1234).is_none());
}

#[test]
fn the_serial_port_interrupts_through_a_level_entry_until_it_is_read() {
    let mut pc = pc();
    let b = &mut pc.board;
    b.redirect(4, 0x8041);
    b.outb(0x3fc, 8); // OUT2
    b.outb(0x3f9, 1); // received data
    b.input(&Input::Serial { port: 0, bytes: b"ab".to_vec() });
    assert_eq!(b.acknowledge(), Some(0x41));
    assert_eq!(b.inb(0x3f8), b'a');
    b.mmio_write(LAPIC + 0xb0, B4, 0); // EOI with 'b' waiting: again
    assert_eq!(b.acknowledge(), Some(0x41));
    assert_eq!(b.inb(0x3f8), b'b');
    b.mmio_write(LAPIC + 0xb0, B4, 0);
    assert!(!b.interrupt_pending());
}

#[test]
fn the_second_serial_port_is_another_one() {
    let mut pc = pc();
    pc.board.outb(0x2f8, b'2');
    pc.board.outb(0x3f8, b'1');
    let want = [(1, b'2'), (0, b'1')].map(|(port, b)| Effect::Serial { port, bytes: vec![b] });
    assert_eq!(*pc.board.effects(), want);
    assert_eq!((pc.console_room(1), pc.console_room(2)), (4096, 0));
}

#[test]
fn the_power_button_is_an_sci() {
    let mut pc = pc();
    let b = &mut pc.board;
    b.redirect(9, 0xa055); // level, low
    b.port_write(layout::PM1_EVT + 2, B2, 0x100);
    b.input(&Input::PowerButton);
    assert_eq!(b.acknowledge(), Some(0x55));
    b.port_write(layout::PM1_EVT, B2, 0x100);
    b.mmio_write(LAPIC + 0xb0, B4, 0);
    assert!(!b.interrupt_pending());
    b.port_write(layout::PM1_CNT, B2, 0x2001);
    assert_eq!((b.run_until(), b.take_stop()), (0, Some(StopCause::Off)));
}

#[test]
fn every_way_to_reset_is_reported() {
    for (port, v, cause) in
        [(0xcf9, 6, ResetCause::Cf9), (0x92, 3, ResetCause::Port92), (0x64, 0xfe, ResetCause::Keyboard)]
    {
        let mut pc = pc();
        pc.board.outb(port, v);
        assert_eq!(pc.board.run_until(), 0);
        assert_eq!(pc.board.take_stop(), Some(StopCause::Reset(cause)));
        assert!(pc.board.effects().is_empty());
    }
    let mut pc = pc();
    pc.board.input(&Input::ResetButton);
    assert_eq!(pc.board.take_stop(), Some(StopCause::Reset(ResetCause::Button)));
}

#[test]
fn pci_functions_are_found_and_power_management_moves() {
    let mut pc = pc();
    let b = &mut pc.board;
    let mut ids = Vec::new();
    for devfn in 0..256u32 {
        b.port_write(0xcf8, B4, 0x8000_0000 | devfn << 8);
        let id = b.port_read(0xcfc, B4);
        if id != u32::MAX {
            ids.push((devfn >> 3, devfn & 7, id, b.port_read(0xcfe, B2)));
        }
    }
    let want = [(0, 0, 0x1237_8086, 0x1237), (1, 0, 0x7000_8086, 0x7000), (1, 3, 0x7113_8086, 0x7113)];
    assert_eq!(ids, want);
    assert_ne!(b.port_read(0x608, B4), u32::MAX);
    b.port_write(0xcf8, B4, 0x8000_0b40);
    b.port_write(0xcfc, B4, 0xb000);
    assert_eq!(b.port_read(0x608, B4), u32::MAX);
    assert_ne!(b.port_read(0xb008, B4), u32::MAX);
    assert_eq!(b.port_read(0xcf8, B2), 0xffff & 0x00ff | u32::from(b.inb(0xcf9)) << 8);
}

#[test]
fn nobody_answers_all_ones() {
    let mut pc = pc();
    let b = &mut pc.board;
    assert_eq!((b.port_read(0x5678, B4), b.mmio_read(0xd000_0000, Size::B8)), (u32::MAX, u64::MAX));
    assert_eq!(b.mmio_read(0xa_0000, B2), 0xffff);
    b.mmio_write(u64::MAX, Size::B8, 0);
    b.port_write(0xffff, B4, 0);
    assert_eq!(b.visits().unclaimed, 5);
    // A word at 70h-71h is two byte accesses: index and data at once.
    b.port_write(0x70, B2, 0x5a40);
    b.outb(0x70, 0x40);
    assert_eq!(b.inb(0x71), 0x5a);
}

#[test]
fn nmi_is_masked_by_the_clocks_index_register() {
    let mut pc = pc();
    let b = &mut pc.board;
    b.outb(0x70, 0x80);
    b.mmio_write(LAPIC + 0x300, B4, 0x4_0400); // NMI to self
    assert!(!b.take_nmi());
    b.outb(0x70, 0);
    assert!(b.take_nmi() && !b.take_nmi());
}

#[test]
fn ferr_reaches_the_cpu_through_the_second_8259_until_port_f0_is_written() {
    let mut pc = pc();
    let b = &mut pc.board;
    b.init_pics();
    assert!(!b.fpu_error(true));
    assert_eq!(b.acknowledge(), Some(0x28 + 5));
    b.outb(0xf0, 0);
    assert!(b.fpu_error(true));
    b.outb(0xa0, 0x20);
    b.outb(0x20, 0x20);
    assert!(!b.interrupt_pending());
    assert!(!b.fpu_error(false));
    assert!(!b.fpu_error(true) && b.interrupt_pending());
    b.reset();
    assert!(!b.interrupt_pending());
}

#[test]
fn the_local_apic_moves_and_disappears() {
    let mut pc = pc();
    let b = &mut pc.board;
    assert_eq!(b.mmio_read(LAPIC + 0x30, B4), 0x0005_0014);
    assert_eq!(b.mmio_read(LAPIC + 0x30, Size::B8), 0x0005_0014);
    assert!(b.msr_write(0x1b, 0xd000_0900));
    assert_eq!(b.mmio_read(LAPIC + 0x30, B4), 0xffff_ffff);
    assert_eq!(b.mmio_read(0xd000_0030, B4), 0x0005_0014);
    b.msr_write(0x1b, 0);
    assert_eq!(b.mmio_read(0xd000_0030, B4), 0xffff_ffff);
    // Switched off, the 8259 still gets through.
    b.init_pics();
    b.outb(0x43, 0x30);
    b.outb(0x40, 1);
    b.outb(0x40, 0);
    b.sync(10_000_000);
    assert_eq!(b.acknowledge(), Some(0x20));
}

#[test]
fn a_storm_of_random_accesses_is_survived() {
    let mut pc = pc();
    let b = &mut pc.board;
    let (mut x, mut retired) = (0x2545_f491_4f6c_dd1du64, 0);
    for _ in 0..300_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let size = [B1, B2, B4, Size::B8][(x & 3) as usize];
        let port_size = if size == Size::B8 { B4 } else { size };
        let port = [0x20, 0xa0, 0x40, 0x60, 0x70, 0x3f8, 0x2f8, 0x600, 0xcf8, 0xcfc, 0x4d0, 0xb2, 0xf0]
            [(x >> 2) as usize % 13];
        let port = port + (x >> 8 & 7) as u16;
        let at = [LAPIC, IOAPIC][(x >> 12 & 1) as usize] + (x >> 16 & 0x3f8);
        let v = x >> 24;
        match x >> 60 {
            0..=3 => b.port_write(port, port_size, v as u32),
            4..=6 => drop(b.port_read(port, port_size)),
            7..=9 => b.mmio_write(at, size, v),
            10 => drop(b.mmio_read(at, size)),
            11 => drop(b.acknowledge()),
            12 => drop(b.msr_write([0x1b, 0x6e0, 0x80b, 0x830][(x >> 13 & 3) as usize], v)),
            13 => b.input(&Input::Serial { port: 0, bytes: vec![v as u8] }),
            14 => drop((b.take_nmi(), b.take_stop(), b.fpu_error(v & 1 != 0))),
            _ => {
                retired += v & 0xff_ffff;
                b.sync(retired);
            }
        }
        b.effects().clear();
    }
    assert!(b.now() > VmTime::ZERO);
    b.reset();
}

// The run loop.

#[derive(Clone, Copy, Debug)]
enum Op {
    Nop,
    Out(u16, u8),
    Mmio(u64, u32),
    Hlt,
    Jump(usize),
    /// Ends the interrupt at the local APIC.
    Eoi,
    TripleFault,
}

/// Runs one operation per instruction; an interrupt jumps to `handler`.
#[derive(Clone, Debug)]
struct Script {
    program: Vec<Op>,
    handler: Option<usize>,
    at: usize,
    retired: u64,
    halted: bool,
    taken: Vec<(u8, u64)>,
    entries: Vec<u64>,
}

impl Script {
    fn new(program: &[Op], handler: Option<usize>) -> Self {
        let (at, retired, halted) = (0, 0, false);
        Self { program: program.to_vec(), handler, at, retired, halted, taken: Vec::new(), entries: Vec::new() }
    }
}

/// The script, and a window for the test to look through.
struct Watched(Arc<std::sync::Mutex<Script>>);

impl Processor for Watched {
    fn run(&mut self, bus: &mut dyn Bus, budget: u64) -> CpuExit {
        let s = &mut *self.0.lock().unwrap();
        let mut end = s.retired + budget;
        while s.retired < end {
            bus.sync(s.retired);
            if let (true, Some(handler)) = (bus.interrupt_pending(), s.handler) {
                s.taken.push((bus.acknowledge().unwrap(), s.retired));
                s.halted = false;
                s.at = handler;
            }
            if s.halted {
                return CpuExit::Halt;
            }
            s.retired += 1;
            bus.sync(s.retired);
            s.at += 1;
            match s.program[s.at - 1] {
                Op::Nop => {}
                Op::Out(port, v) => bus.port_write(port, B1, v.into()),
                Op::Mmio(at, v) => bus.mmio_write(at, B4, v.into()),
                Op::Eoi => bus.mmio_write(LAPIC + 0xb0, B4, 0),
                Op::Hlt => s.halted = true,
                Op::Jump(to) => s.at = to,
                Op::TripleFault => return CpuExit::Shutdown,
            }
            end = end.min(s.retired.saturating_add(bus.allowance()));
        }
        CpuExit::Budget
    }
    fn retired(&self) -> u64 {
        self.0.lock().unwrap().retired
    }
    fn enter(&mut self, entry: &Entry) {
        let s = &mut *self.0.lock().unwrap();
        s.entries.push(entry.rip);
        (s.at, s.halted) = (0, false);
    }
    fn state_bytes(&mut self, out: &mut Vec<u8>) {
        let s = self.0.lock().unwrap();
        out.extend([s.at as u8, s.halted.into()]);
    }
    fn describe(&mut self) -> String {
        format!("at {}", self.0.lock().unwrap().at)
    }
}

/// An ELF executable of four bytes at 1 MiB.
fn kernel() -> Arc<Vec<u8>> {
    let mut k = vec![0; 0x80];
    k[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let mut put = |at: usize, v: u64, n: usize| k[at..at + n].copy_from_slice(&v.to_le_bytes()[..n]);
    put(16, 2, 2); // ET_EXEC
    put(18, 62, 2); // EM_X86_64
    put(20, 1, 4);
    put(24, 0x10_0000, 8); // entry
    put(32, 64, 8); // program headers
    put(52, 64, 2);
    put(54, 56, 2);
    put(56, 1, 2);
    put(64, 1, 4); // PT_LOAD
    put(68, 5, 4);
    put(72, 0x78, 8); // offset
    put(80, 0x10_0000, 8);
    put(88, 0x10_0000, 8);
    put(96, 4, 8);
    put(104, 4, 8);
    put(112, 4096, 8);
    put(0x78, 0xf4f4_f4f4, 4);
    k.into()
}

fn config(clock: ClockPolicy) -> Config {
    Config {
        mode: Mode::Pc,
        vcpus: 1,
        ram: 16 << 20,
        cpu: "script".into(),
        clock,
        wall_clock: 0,
        seed: 7,
        serial_ports: 1,
        triple_fault: TripleFault::Reset,
        payload: Payload { kernel: kernel(), initrd: Arc::default(), cmdline: "console=ttyS0".into() },
        ..Config::default()
    }
}

const DETERMINISTIC: ClockPolicy = ClockPolicy::Deterministic(Rate::ONE);

fn machine(clock: ClockPolicy, program: &[Op], handler: Option<usize>) -> (Machine, Arc<std::sync::Mutex<Script>>) {
    let script = Arc::new(std::sync::Mutex::new(Script::new(program, handler)));
    let cpu = Watched(script.clone());
    (Machine::with_processor(config(clock), |_, _| Ok(Box::new(cpu))).unwrap(), script)
}

/// A periodic APIC timer (vector 40h, every `period` ns), and HLT between its interrupts.
fn ticking(period: u32) -> Vec<Op> {
    let timer = [(0x3e0, 0xb), (0x320, 0x2_0040), (0x380, period)];
    let mut program: Vec<Op> = timer.map(|(r, v)| Op::Mmio(LAPIC + r, v)).into();
    program.extend([Op::Hlt, Op::Jump(3), Op::Eoi, Op::Jump(3)]);
    program
}

#[test]
fn a_halted_deterministic_machine_jumps_to_its_deadlines() {
    let (mut m, s) = machine(DETERMINISTIC, &ticking(1_000_000), Some(5));
    assert_eq!(m.run(Until::time(VmTime::from_nanos(10_500_000))), Exit::Halted(VmTime::from_nanos(11_000_003)));
    assert_eq!(m.now(), VmTime::from_nanos(10_500_000));
    assert_eq!(m.stats().halts, 11);
    let s = s.lock().unwrap();
    assert_eq!(s.taken.len(), 10);
    assert!(s.taken.iter().all(|t| t.0 == 0x40));
    assert!(s.retired < 40);
}

#[test]
fn a_nearer_deadline_ends_the_budget_at_its_instruction() {
    let mut program = ticking(100);
    program.truncate(3);
    program.extend([Op::Nop, Op::Jump(3), Op::Eoi, Op::Jump(3)]);
    let (mut m, s) = machine(DETERMINISTIC, &program, Some(5));
    // The budget is a million instructions when the run begins; periods below 1 us are spaced out.
    assert_eq!(m.run(Until::retired(1_000_000)), Exit::Slice);
    let s = s.lock().unwrap();
    assert_eq!(s.retired, 1_000_000);
    let times: Vec<u64> = s.taken.iter().map(|t| t.1).collect();
    assert_eq!(times[..3], [1003, 2003, 3003]);
    assert_eq!(times.len(), 999);
}

#[test]
fn a_paced_machine_reports_that_it_halted_and_follows_the_host() {
    let (mut m, s) = machine(ClockPolicy::Paced, &ticking(1_000_000), Some(5));
    let Exit::Halted(until) = m.run(Until::retired(1000)) else { panic!("not halted") };
    assert_eq!(until, VmTime::from_nanos(1_000_003));
    assert_eq!(m.run(Until::retired(1000)), Exit::Halted(until)); // no time has passed
    assert_eq!(m.pace(VmDuration::from_micros(2500), Rate::new(4, 1)), VmDuration::ZERO);
    assert!(matches!(m.run(Until::retired(1000)), Exit::Halted(_)));
    assert_eq!(s.lock().unwrap().taken.len(), 1); // two periods, one interrupt
    assert_eq!(m.pace(VmDuration::ZERO, Rate::ONE).nanos(), m.now().nanos() - 2_500_000);
}

#[test]
fn halted_for_ever_is_halted_until_never() {
    let (mut m, _) = machine(DETERMINISTIC, &[Op::Hlt], None);
    assert_eq!(m.run(Until::retired(u64::MAX)), Exit::Halted(VmTime::NEVER));
}

#[test]
fn a_cpu_that_ignores_interrupts_does_not_hang_the_runner() {
    let (mut m, _) = machine(DETERMINISTIC, &ticking(1000), None);
    assert_eq!(m.run(Until::retired(u64::MAX)), Exit::Slice);
}

#[test]
fn power_off_ends_at_once_and_stays() {
    let off = [Op::Out(layout::PM1_CNT + 1, 0x20), Op::Out(0x3f8, b'!'), Op::Hlt];
    let (mut m, s) = machine(DETERMINISTIC, &off, None);
    assert_eq!(m.run(Until::retired(100)), Exit::Off);
    assert_eq!(m.run(Until::retired(100)), Exit::Off);
    assert_eq!((s.lock().unwrap().retired, m.take_effects()), (1, vec![]));
}

#[test]
fn a_reset_boots_the_same_payload_again() {
    let program = [Op::Out(0x3f8, b'x'), Op::Out(0x3ff, 0x77), Op::Out(0xcf9, 6), Op::Nop];
    let (mut m, s) = machine(DETERMINISTIC, &program, None);
    let fresh = m.ram().read_le::<4>(0x10_0000);
    m.ram().write(0x10_0000, &[0; 4]);
    m.ram().write(0x50_0000, &[1, 2, 3]);
    for round in 1..=2 {
        assert_eq!(m.run(Until::retired(100)), Exit::Reset(ResetCause::Cf9));
        assert_eq!(m.take_effects(), [Effect::Serial { port: 0, bytes: b"x".to_vec() }]);
        m.reset().unwrap();
        assert_eq!(s.lock().unwrap().entries, vec![0x10_0000; round + 1]);
        assert_eq!((m.ram().read_le::<4>(0x10_0000), m.ram().read_le::<3>(0x50_0000)), (fresh, [0; 3]));
    }
}

#[test]
fn a_triple_fault_is_a_reset_or_a_crash_with_a_report() {
    let (mut m, _) = machine(DETERMINISTIC, &[Op::TripleFault], None);
    assert_eq!(m.run(Until::retired(9)), Exit::Reset(ResetCause::TripleFault));
    let script = Script::new(&[Op::Nop, Op::TripleFault], None);
    let cpu = Watched(Arc::new(std::sync::Mutex::new(script)));
    let config = Config { triple_fault: TripleFault::Crash, ..config(DETERMINISTIC) };
    let mut m = Machine::with_processor(config, |_, _| Ok(Box::new(cpu))).unwrap();
    let Exit::Crash(report) = m.run(Until::retired(9)) else { panic!("no crash") };
    assert!(report.contains("triple fault") && report.contains("2 instructions") && report.contains("at 2"));
}

#[test]
fn two_runs_have_the_same_state_and_a_byte_makes_a_difference() {
    let run = |slices: u64, extra: Option<u64>| {
        let (mut m, _) = machine(DETERMINISTIC, &ticking(777_777), Some(5));
        for i in 1..=slices {
            m.run(Until::time(VmTime::from_nanos(50_000_000 * i / slices)));
        }
        if let Some(at) = extra {
            m.ram().write(at, &[1]);
        }
        m.state_hash()
    };
    assert_eq!(run(1, None), run(7, None));
    assert_ne!(run(1, None), run(1, Some(0x80_0000)));
    let (mut other, _) = machine(DETERMINISTIC, &ticking(777_777), Some(5));
    let before = other.state_hash();
    other.input(&Input::Serial { port: 0, bytes: vec![1] });
    assert_ne!(before, other.state_hash());
}

#[test]
fn bad_configurations_say_what_is_wrong() {
    let make = |_: &GuestRam, _: &str| {
        Ok(Box::new(Watched(Arc::new(std::sync::Mutex::new(Script::new(&[], None))))) as Box<dyn Processor>)
    };
    let error = |c: Config| Machine::with_processor(c, make).err().map(|e| e.to_string()).unwrap_or_default();
    let good = config(DETERMINISTIC);
    assert!(error(Config { ram: 12345, ..good.clone() }).contains("12345 bytes"));
    let text = Payload { kernel: Arc::new(b"hello, world".to_vec()), ..good.payload.clone() };
    assert!(error(Config { payload: text, ..good.clone() }).contains("not a kernel"));
    let no_cpu = Machine::with_processor(good, |_, name| Err(format!("no CPU model {name}")));
    assert_eq!(no_cpu.err(), Some(ConfigError::Cpu("no CPU model script".into())));
}

/// A real CPU runs `code` at 1 MiB in 64-bit mode.
fn real(code: &[u8]) -> Machine {
    real_on(code, config(DETERMINISTIC))
}

/// As `real`, on the machine that `config` says but for its CPU and payload.
fn real_on(code: &[u8], config: Config) -> Machine {
    let mut k = kernel()[..0x78].to_vec();
    for at in [96, 104] {
        k[at..at + 8].copy_from_slice(&(code.len() as u64).to_le_bytes());
    }
    k.extend(code);
    let payload = Payload { kernel: k.into(), initrd: Arc::default(), cmdline: String::new() };
    Machine::new(Config { cpu: "x86-64-v2".into(), payload, ..config }).unwrap()
}

#[test]
fn a_real_cpu_prints_and_switches_off() {
    let mut m = real(&[
        0x66, 0xba, 0xf8, 0x03, // mov dx, 3f8h
        0xb0, b'o', 0xee, // mov al, 'o'; out dx, al
        0xb0, b'k', 0xee, // mov al, 'k'; out dx, al
        0x66, 0xba, 0x04, 0x06, // mov dx, 604h
        0x66, 0xb8, 0x01, 0x20, // mov ax, 2001h
        0x66, 0xef, // out dx, ax
        0xeb, 0xfe, // jmp $
    ]);
    assert_eq!(m.run(Until::retired(1_000_000)), Exit::Off);
    assert_eq!(m.take_effects(), [Effect::Serial { port: 0, bytes: b"ok".to_vec() }]);
    assert_eq!(m.stats().retired, 8);
}

#[test]
fn a_test_program_ends_with_its_result_where_there_is_a_test_device() {
    // mov eax, 302h; out F4h, eax; hlt
    let code = [0xb8, 0x02, 0x03, 0x00, 0x00, 0xe7, 0xf4, 0xf4];
    let mut m = real_on(&code, Config { test_device: true, ..config(DETERMINISTIC) });
    assert_eq!(m.run(Until::retired(1000)), Exit::Off);
    assert_eq!(m.take_effects(), [Effect::TestEnd(0x302)]);
    let mut m = real(&code);
    assert!(matches!(m.run(Until::retired(1000)), Exit::Halted(_)));
    assert_eq!(m.take_effects(), []);
}

#[test]
fn a_real_cpu_halts_runs_on_and_is_deterministic() {
    let run = |slices: u64| {
        // mov dx, 3f8h; again: rdtsc; out dx, al; mov ecx, 1000; loop $; jmp again
        let mut m = real(&[
            0x66, 0xba, 0xf8, 0x03, 0x0f, 0x31, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xb9, 0xe8, 0x03, 0x00, 0x00, 0xe2, 0xfe,
            0xeb, 0xf0,
        ]);
        for i in 1..=slices {
            assert_eq!(m.run(Until::retired(1_000_000 * i / slices)), Exit::Slice);
        }
        assert_eq!(m.stats().retired, 1_000_000);
        (m.state_hash(), m.take_effects())
    };
    let (hash, effects) = run(1);
    let sliced = run(13);
    assert_eq!(sliced.0, hash);
    assert!(sliced.1 == effects);
    assert!(matches!(&effects[..], [Effect::Serial { bytes, .. }] if bytes.len() > 900));
    let mut m = real(&[0xf4, 0xeb, 0xfe]); // hlt, interrupts off
    assert!(matches!(m.run(Until::retired(1000)), Exit::Halted(_)));
    assert_eq!(m.stats().retired, 1);
}

#[test]
fn an_x87_error_without_ne_is_interrupt_13() {
    const HANDLER: u64 = 0x10_0040;
    const IDT: u64 = 0x8000;
    const DATA: u64 = 0x8_0000;
    for waits in [[0xd9, 0xe8, 0x90], [0x9b, 0x90, 0x90], [0x0f, 0xfc, 0xc0]] {
        // FLD1, FWAIT, PADDB MM0, MM0: each waits for a pending error.
        let mut code = vec![
            0x0f, 0x01, 0x1c, 0x25, 0x00, 0x00, 0x08, 0x00, // lidt [80000h]
            0xb0, 0xdf, 0xe6, 0xa1, // unmask interrupt 13
            0xd9, 0x2c, 0x25, 0x10, 0x00, 0x08, 0x00, // fldcw [80010h]
            0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, // fld1; fldz; fdivp
            0x66, 0xba, 0xf8, 0x03, // mov dx, 3f8h
            0xfb, // sti
        ];
        code.extend(waits);
        code.extend([
            0xb0, b'd', 0xee, // mov al, 'd'; out dx, al
            0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x01, 0x20, 0x66, 0xef, // switch off
            0xeb, 0xfe, // jmp $
        ]);
        code.resize((HANDLER - 0x10_0000) as usize, 0x90);
        code.extend([
            0xdf, 0xe0, 0xee, // fnstsw ax; out dx, al
            0xe6, 0xf0, 0xd9, 0xe8, // out f0h, al; fld1 does not wait now
            0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, // end of interrupt
            0xdb, 0xe2, 0x48, 0xcf, // fnclex; iretq
        ]);
        let mut m = real(&code);
        let gate = HANDLER & 0xffff | 0x10 << 16 | 0x8e00 << 32 | (HANDLER >> 16) << 48;
        m.ram().write(IDT + 16 * 0x75, &gate.to_le_bytes());
        m.ram().write(DATA, &(IDT << 16 | 0xfff).to_le_bytes());
        m.ram().write(DATA + 0x10, &[0x7b, 0x03]); // division by zero unmasked
        assert_eq!(m.run(Until::retired(10_000)), Exit::Off, "{}", m.report());
        // Status: zero divide and error summary.
        assert_eq!(m.take_effects(), [Effect::Serial { port: 0, bytes: vec![0x84, b'd'] }], "{waits:x?}");
    }
}

#[test]
fn an_x87_error_that_nobody_takes_stops_the_cpu() {
    // fldcw [rip + ...]; fld1; fldz; fdivp; fwait, with interrupts off
    let code = [0xd9, 0x2d, 7, 0, 0, 0, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b, 0x7b, 0x03];
    let mut m = real(&code);
    assert!(matches!(m.run(Until::retired(1000)), Exit::Halted(_)));
    assert!(m.report().contains("000000000010000c"), "{}", m.report());
}

#[test]
fn a_real_cpu_without_an_idt_triple_faults() {
    let mut m = real(&[0x0f, 0x0b]); // ud2
    assert_eq!(m.run(Until::retired(1000)), Exit::Reset(ResetCause::TripleFault));
    assert!(m.report().contains("rip"));
    m.reset().unwrap();
    assert_eq!(m.run(Until::retired(1000)), Exit::Reset(ResetCause::TripleFault));
}

#[test]
fn serial_input_arrives_while_halted() {
    let program = [Op::Out(0x3fc, 8), Op::Out(0x3f9, 1), Op::Hlt, Op::Jump(2)];
    let (mut m, s) = machine(ClockPolicy::Paced, &program, Some(3));
    m.with_board(|b| b.redirect(4, 0x41));
    assert_eq!(m.run(Until::retired(100)), Exit::Halted(VmTime::NEVER));
    m.input(&Input::Serial { port: 0, bytes: b"k".to_vec() });
    assert!(matches!(m.run(Until::retired(100)), Exit::Halted(_)));
    assert_eq!(s.lock().unwrap().taken.iter().map(|t| t.0).collect::<Vec<_>>(), [0x41]);
}
