//! The slice loop, with a machine made of a few lines and a clock that is a counter.

use super::*;
use tabvisor_devices::effect::{Effect, ResetCause};
use tabvisor_devices::machine::Rate;

/// Executes the instructions of its "kernel", one per byte.
#[derive(Default)]
struct Toy {
    code: Vec<u8>,
    at: usize,
    start: usize,
    retired: u64,
    now: VmTime,
    typed: Vec<u8>,
    out: Vec<u8>,
    outbox: Outbox,
}

impl Board for Toy {
    fn now(&self) -> VmTime {
        self.now
    }
    fn retired(&self) -> u64 {
        self.retired
    }
    fn pace(&mut self, elapsed: VmDuration, _rate: Rate) -> VmDuration {
        self.now += elapsed;
        VmDuration::ZERO
    }
    fn run(&mut self, budget: u64) -> Exit {
        for _ in 0..budget {
            let Some(&op) = self.code.get(self.at) else { return Exit::Off };
            self.retired += 1;
            self.at += 1;
            match op {
                b'l' => self.at = 0,
                b'h' => return Exit::Halted(VmTime::NEVER),
                b's' => return Exit::Halted(VmTime::from_nanos(self.now.nanos() + 50_000_000)),
                b'r' => {
                    self.start = self.at;
                    return Exit::Reset(ResetCause::Cf9);
                }
                b'f' => self.outbox.add(&Effect::Frame { nic: 0, bytes: vec![1, 2] }),
                b'x' => return Exit::Crash("triple fault".into()),
                c => self.out.push(c),
            }
        }
        Exit::Slice
    }
    fn reset(&mut self) -> Result<(), VmError> {
        self.at = self.start;
        Ok(())
    }
    fn serial_input(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(4);
        self.typed.extend_from_slice(&bytes[..n]);
        n
    }
    fn outbox(&mut self) -> Option<&mut Outbox> {
        Some(&mut self.outbox)
    }
    fn input(&mut self, input: &Input) {
        self.out.extend(format!("{input:?}").into_bytes());
    }
    fn take_serial(&mut self, to: &mut Vec<u8>) {
        to.append(&mut self.out);
    }
    fn state_hash(&mut self) -> u128 {
        self.at as u128
    }
    fn report(&mut self) -> String {
        "rip=0".into()
    }
}

fn build(config: &Config, files: Files) -> Result<Toy, VmError> {
    if config.memory_mib < 16 {
        return Err(VmError::new("Too little memory.", "16 MiB are needed.", "Give it more."));
    }
    Ok(Toy { code: files.kernel, ..Toy::default() })
}

fn session(code: &str, deterministic: bool) -> Session<Toy> {
    let config = Config {
        mode: "pc".into(),
        vcpus: 1,
        memory_mib: 16,
        cpu: "x86-64-v2".into(),
        cmdline: String::new(),
        deterministic,
        wall_clock_ms: 0.0,
        compile: None,
        parts: core::array::from_fn(|_| Parts::default()),
    };
    let mut s = Session::new(config, build);
    for portion in code.as_bytes().chunks(3) {
        s.load("kernel", portion.to_vec()).expect("a session takes its kernel in portions");
    }
    s.boot().expect("the toy boots");
    s
}

/// A clock that moves 0.4 ms each time it is read.
fn ticking() -> impl FnMut() -> f64 {
    let mut t = 1000.0;
    move || {
        t += 0.4;
        t
    }
}

#[test]
fn a_busy_guest_gives_the_host_back_after_its_slice() {
    let mut s = session("l", false);
    assert_eq!(s.run(10.0, &mut ticking()), 0.0);
    assert_eq!(s.state(), State::Running);
    assert!(s.stats()[0] > 1000.0);
}

#[test]
fn a_slice_ends_even_if_the_hosts_clock_stands_still() {
    assert_eq!(session("l", true).run(10.0, &mut || 5.0), 0.0);
}

#[test]
fn a_halted_guest_sleeps_until_its_deadline_or_input() {
    let mut s = session("s", false);
    let sleep = s.run(10.0, &mut ticking());
    assert!((49.0..=50.0).contains(&sleep), "{sleep}");
    assert_eq!(s.state(), State::Halted);
    assert_eq!(session("h", false).run(10.0, &mut ticking()), f64::INFINITY);
}

#[test]
fn on_the_deterministic_clock_waits_are_skipped() {
    let mut s = session("abs.s.h", true);
    assert_eq!(s.run(10.0, &mut ticking()), f64::INFINITY);
    assert_eq!(s.take_serial(), b"ab..");
}

#[test]
fn a_reset_ends_the_slice_so_that_output_before_it_can_be_told_apart() {
    let mut s = session("abrcd", false);
    assert_eq!(s.run(10.0, &mut ticking()), 0.0);
    assert_eq!((s.take_serial(), s.stats()[2]), (b"ab".to_vec(), 1.0));
    s.run(10.0, &mut ticking());
    assert_eq!((s.take_serial(), s.state()), (b"cd".to_vec(), State::Off));
    assert_eq!(s.run(10.0, &mut ticking()), f64::INFINITY);
}

#[test]
fn a_crash_is_reported_and_a_reset_cures_it() {
    let mut s = session("x", false);
    s.run(10.0, &mut ticking());
    assert_eq!((s.state(), s.report().as_str()), (State::Crashed, "triple fault\nrip=0"));
    s.reset().expect("reset works on a crashed machine");
    assert_eq!((s.state(), s.report().as_str()), (State::Running, "rip=0"));
}

#[test]
fn a_pause_stops_guest_time() {
    let mut s = session("l", false);
    let mut clock = ticking();
    s.run(5.0, &mut clock);
    s.pause();
    assert_eq!(s.state(), State::Paused);
    let before = s.stats()[1];
    for _ in 0..100_000 {
        clock();
    }
    s.run(1.0, &mut clock);
    assert!(s.stats()[1] - before < 5.0);
    assert_eq!(s.state(), State::Running);
}

#[test]
fn a_number_of_instructions_is_exact_and_needs_the_deterministic_clock() {
    let mut s = session("aaal", true);
    assert_eq!(s.run_instructions(123_457).unwrap(), 123_457);
    assert_eq!(session("abc", true).run_instructions(10).unwrap(), 3);
    assert!(session("l", false).run_instructions(1).is_err());
}

#[test]
fn mistakes_are_explained() {
    let config = session("a", true).config;
    let mut s = Session::new(config.clone(), build);
    assert!(s.load("floppy", vec![0]).unwrap_err().why.contains("floppy"));
    assert!(s.reset().is_err() && s.state_hash().is_err() && s.run_instructions(1).is_err());
    assert_eq!(s.run(1.0, &mut ticking()), f64::INFINITY);
    let mut small = Session::new(Config { memory_mib: 1, ..config }, build);
    small.load("kernel", vec![0]).unwrap();
    assert_eq!(small.boot().unwrap_err().what, "Too little memory.");
    let mut booted = session("a", true);
    assert!(booted.load("kernel", vec![0]).is_err() && booted.boot().is_err());
}

#[test]
fn typed_bytes_are_taken_as_far_as_the_guest_has_room() {
    let mut s = session("l", false);
    assert_eq!(s.serial_input(b"abcdef"), 4);
}

#[test]
fn a_slice_ends_when_the_guest_wants_something_from_outside() {
    let mut s = session(&format!("f{}", "a".repeat(100_000)), false);
    let mut clock = ticking();
    assert_eq!((s.run(1000.0, &mut clock), s.state()), (0.0, State::Running), "one portion");
    let batch = s.outbox().expect("the toy has one").take_frames();
    assert!(batch == [0, 2, 0, 1, 2] && s.take_serial().len() < 100_000);
    s.frames_in(&batch);
    s.block_data(1, 2, None);
    s.run(1000.0, &mut clock);
    let told = String::from_utf8(s.take_serial()).expect("text");
    assert!(told.contains("Frame { nic: 0, bytes: [1, 2] }"));
    assert!(told.contains("BlockData { disk: 1, ticket: 2, bytes: None }"));
}
