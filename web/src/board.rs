//! The machine as a session drives it: a narrow face of [`Machine`], so that the slice loop can be
//! tested with a machine made of ten lines.

use crate::error::VmError;
use crate::outside::{self, DOMAINS, Outbox};
use crate::screen::Screen;
use crate::session::{Config, Files, NOT_STARTED};
use tabvisor_core::jit;
use tabvisor_core::time::{VmDuration, VmTime};
use tabvisor_devices::effect::{Effect, Input};
use tabvisor_devices::machine::{
    self, ClockPolicy, Counted, Exit, Machine, Payload, Rate, Reservation, TripleFault, Until,
};

/// The serial port that is the console.
const CONSOLE: u8 = 0;
/// Serial ports on the board.
const SERIAL_PORTS: u8 = 1;
/// Virtual CPUs at most; they take turns on one.
const MAX_VCPUS: u32 = 8;
/// Messages of the devices kept for a report.
const MAX_LOG: usize = 200;
/// Debug console output kept for a report, in bytes.
const MAX_DEBUG: usize = 16 << 10;

/// A machine with its kernel in place.
pub trait Board {
    /// Guest time.
    fn now(&self) -> VmTime;
    /// Instructions retired since power-on, resets included.
    fn retired(&self) -> u64;
    /// `elapsed` has passed on the host, and from now on an instruction takes `rate`. Returns how far guest
    /// time is ahead of the host's.
    fn pace(&mut self, elapsed: VmDuration, rate: Rate) -> VmDuration;
    /// How often the CPU came to its devices.
    fn visits(&self) -> u64 {
        0
    }
    /// Runs at most about `budget` instructions.
    fn run(&mut self, budget: u64) -> Exit;
    /// Starts over from the same files.
    fn reset(&mut self) -> Result<(), VmError>;
    /// Offers typed bytes; returns how many were taken.
    fn serial_input(&mut self, bytes: &[u8]) -> usize;
    /// Moves what the guest printed to the end of `to`.
    fn take_serial(&mut self, to: &mut Vec<u8>);
    /// A hash over everything the guest could tell apart.
    fn state_hash(&mut self) -> u128;
    /// What the compiler did, if there is one.
    fn jit_stats(&mut self) -> Option<jit::Stats> {
        None
    }
    /// What the guest and its hypervisor had to do with each other, in lines; see [`Counted`].
    fn counts(&self) -> String {
        String::new()
    }
    /// Memory of a domain.
    fn reservation(&self) -> Option<Reservation> {
        None
    }
    /// What the guest wants from outside, if it can want anything.
    fn outbox(&mut self) -> Option<&mut Outbox> {
        None
    }
    /// A portion of what has changed in its picture.
    fn picture(&mut self) -> Vec<u8> {
        Vec::new()
    }
    /// What was written to one of its disks, as [`outside::written`] says.
    fn written(&self, _disk: u8, _from: u64) -> Vec<u8> {
        Vec::new()
    }
    /// News from outside.
    fn input(&mut self, _input: &Input) {}
    /// The WebAssembly module of the code at a linear address, or where the CPU stands.
    fn module_at(&self, _la: Option<u64>) -> Option<Vec<u8>> {
        None
    }
    /// Registers and the last messages of the devices, for a report.
    fn report(&mut self) -> String;
}

/// The machine and what it said beside its console.
pub struct Pc {
    machine: Machine,
    log: Vec<String>,
    debug: Vec<u8>,
    outbox: [Outbox; DOMAINS],
    screen: [Screen; DOMAINS],
}

impl Pc {
    /// Builds the machine and places the kernel.
    pub fn build(config: &Config, files: Files) -> Result<Self, VmError> {
        let clock = if config.deterministic { ClockPolicy::Deterministic(Rate::ONE) } else { ClockPolicy::Paced };
        // `as` saturates, and makes 0 of a clock that is no number.
        let wall_clock_ms = config.wall_clock_ms as i64;
        #[cfg_attr(not(feature = "xen"), allow(unused_mut, reason = "a PC has nothing outside"))]
        let mut board = machine::Config {
            mode: machine::Mode::by_name(&config.mode).ok_or_else(|| unknown_mode(&config.mode))?,
            vcpus: config.vcpus.clamp(1, MAX_VCPUS),
            ram: u64::from(config.memory_mib) << 20,
            cpu: config.cpu.clone(),
            clock,
            wall_clock: wall_clock_ms.div_euclid(1000),
            // Random numbers differ from boot to boot, but not between deterministic ones.
            seed: if config.deterministic { 1 } else { wall_clock_ms as u64 },
            serial_ports: SERIAL_PORTS,
            // A PC would start over, and a guest with a bug would do so for ever. Here it is a story to tell.
            triple_fault: TripleFault::Crash,
            payload: Payload {
                kernel: files.kernel.into(),
                initrd: files.initrd.into(),
                cmdline: config.cmdline.clone(),
            },
            ..machine::Config::default()
        };
        if let Some(parts) = config.parts.first() {
            (board.disks, board.nics, board.display) = (parts.disks.clone(), parts.nics.clone(), parts.display);
            board.most_ram = u64::from(parts.most_mib) << 20;
        }
        let mut machine = make(board).map_err(|e| VmError::from_line(NOT_STARTED, &e))?;
        if let Some(shared) = config.parts.first().and_then(|parts| parts.shared.as_ref()) {
            machine.share_files(shared.tree());
        }
        #[cfg(target_arch = "wasm32")]
        if let Some(limits) = config.compile {
            if let Some(host) = crate::code_host::Host::new(limits) {
                machine.set_code_host(Box::new(host));
            }
        }
        let outbox = core::array::from_fn(|_| Outbox::default());
        let screen = core::array::from_fn(|_| Screen::default());
        Ok(Self { machine, log: Vec::new(), debug: Vec::new(), outbox, screen })
    }
}

/// The page's own engine has no hypervisor: it is a quarter smaller, and what boots a PC is loaded sooner.
fn make(config: machine::Config) -> Result<Machine, machine::ConfigError> {
    if cfg!(feature = "xen") { Machine::new(config) } else { Machine::pc(config) }
}

fn unknown_mode(mode: &str) -> VmError {
    let why = format!("There is no mode called {mode:?}.");
    VmError::new(NOT_STARTED, why, "Use pc, pv or pvh.")
}

impl Board for Pc {
    fn now(&self) -> VmTime {
        self.machine.now()
    }
    fn retired(&self) -> u64 {
        self.machine.stats().retired
    }
    fn visits(&self) -> u64 {
        let visits = self.machine.stats().visits;
        visits.ports + visits.mmio + visits.msrs
    }
    fn pace(&mut self, elapsed: VmDuration, rate: Rate) -> VmDuration {
        self.machine.pace(elapsed, rate)
    }
    fn run(&mut self, budget: u64) -> Exit {
        self.machine.run(Until::retired(self.retired().saturating_add(budget)))
    }
    fn reset(&mut self) -> Result<(), VmError> {
        self.machine.reset().map_err(|e| VmError::from_line("The machine did not start over.", &e))
    }
    fn serial_input(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.machine.serial_room(CONSOLE));
        if n > 0 {
            self.machine.input(&Input::Serial { port: CONSOLE, bytes: bytes[..n].to_vec() });
        }
        n
    }
    fn take_serial(&mut self, to: &mut Vec<u8>) {
        for effect in self.machine.take_effects() {
            self.outbox.iter_mut().for_each(|outbox| outbox.add(&effect));
            match effect {
                Effect::Serial { port: CONSOLE, bytes } => to.extend_from_slice(&bytes),
                Effect::Debug(bytes) => {
                    self.debug.extend_from_slice(&bytes);
                    let excess = self.debug.len().saturating_sub(MAX_DEBUG);
                    self.debug.drain(..excess);
                }
                Effect::Log(line) if self.log.len() < MAX_LOG => self.log.push(line),
                // Off and reset are exits of `run` as well; a second serial port is not on this board.
                _ => {}
            }
        }
    }
    fn state_hash(&mut self) -> u128 {
        self.machine.state_hash()
    }
    fn jit_stats(&mut self) -> Option<jit::Stats> {
        self.machine.jit_stats()
    }
    fn reservation(&self) -> Option<Reservation> {
        self.machine.reservation()
    }
    fn counts(&self) -> String {
        if !cfg!(feature = "xen") {
            return String::new();
        }
        let mut all = self.machine.counts();
        all.sort_by_key(|count| core::cmp::Reverse(count.n));
        let kind = |of: Counted| match of {
            Counted::Hypercall => 'h',
            Counted::Exit => 'x',
            Counted::Event => 'e',
        };
        all.iter().map(|count| format!("{} {} {}\n", kind(count.of), count.n, count.name)).collect()
    }
    fn outbox(&mut self) -> Option<&mut Outbox> {
        self.outbox.first_mut()
    }
    fn picture(&mut self) -> Vec<u8> {
        self.screen.first_mut().map(|screen| screen.take(self.machine.display())).unwrap_or_default()
    }
    fn written(&self, disk: u8, from: u64) -> Vec<u8> {
        self.machine.disk(disk).map(|disk| outside::written(disk, from)).unwrap_or_default()
    }
    fn input(&mut self, input: &Input) {
        self.machine.input(input);
    }
    fn module_at(&self, la: Option<u64>) -> Option<Vec<u8>> {
        self.machine.module_at(la)
    }
    fn report(&mut self) -> String {
        let mut report = self.machine.report();
        if let Some(jit) = self.machine.jit_stats() {
            report += &format!("\n{jit:?}");
        }
        for line in &self.log {
            report.push('\n');
            report.push_str(line);
        }
        if !self.debug.is_empty() {
            report.push_str("\nDebug console:\n");
            report.push_str(&String::from_utf8_lossy(&self.debug));
        }
        report
    }
}
