//! The machine: a CPU on a board, and the loop that runs them.

use super::board::next_random;
use super::clock::{ClockPolicy, Rate};
use super::hash::{StateHash, is_zero};
use super::pc::{Options, Pc};
use super::platform::{Count, Platform, Reservation, Start, StopCause, Visits};
use super::processor::Processor;
use super::xen::{Memory, Xen};
use crate::backend::display::{Display, DisplayConfig};
use crate::backend::files::Share;
use crate::backend::net::NicConfig;
use crate::backend::{BlockBackend, DiskConfig};
use crate::boot::BootError;
use crate::bus::MapError;
use crate::effect::{Effect, Input, ResetCause};
use crate::xen::domain;
use crate::xen::frames::MAX_VCPUS;
use std::sync::Arc;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::jit::{self, CodeHost};
use tabvisor_core::mem::{GuestRam, PAGE_SIZE, RamError};
use tabvisor_core::time::{VmDuration, VmTime};
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// A halted machine whose CPU takes no interrupt gets this many deadlines per call of
/// [`Machine::run`] before the call returns.
const MAX_IDLE_STEPS: u32 = 10_000;

/// What to boot. A reset starts from it again, so it is kept beside RAM: moved in without a copy, and shared.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// A bzImage, or an ELF executable.
    pub kernel: Arc<Vec<u8>>,
    /// The initial RAM disk; empty for none.
    pub initrd: Arc<Vec<u8>>,
    /// The kernel's command line.
    pub cmdline: String,
}

/// What a triple fault means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TripleFault {
    /// As on a PC, a reset: [`Exit::Reset`].
    #[default]
    Reset,
    /// A mistake to look at: [`Exit::Crash`] with the registers.
    Crash,
}

/// What a guest runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A PC, all of whose hardware is emulated.
    #[default]
    Pc,
    /// A paravirtualized domain under Xen's ABI: no hardware at all.
    Pv,
    /// A domain with the processor's own paging and interrupts, and devices of Xen's.
    Pvh,
}

impl Mode {
    /// By the name that people use.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "pc" => Some(Self::Pc),
            "pv" => Some(Self::Pv),
            "pvh" => Some(Self::Pvh),
            _ => None,
        }
    }
}

/// A machine to be made.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the guest runs on.
    pub mode: Mode,
    /// Virtual CPUs of a domain; a PC has one.
    pub vcpus: u32,
    /// Bytes of RAM, a multiple of 4096.
    pub ram: u64,
    /// Bytes of RAM that a domain may have later on, if it is given more ([`Control::Memory`]); if that is more.
    ///
    /// [`Control::Memory`]: crate::effect::Control::Memory
    pub most_ram: u64,
    /// Name of the CPU model.
    pub cpu: String,
    /// Who says how fast time passes.
    pub clock: ClockPolicy,
    /// What the real-time clock shows at first: seconds since 1970, UTC.
    pub wall_clock: i64,
    /// Source of the guest's random numbers.
    pub seed: u64,
    /// Serial ports, 0 to 2.
    pub serial_ports: u8,
    /// What a triple fault means.
    pub triple_fault: TripleFault,
    /// Is the test device ([`crate::chipset::testdev`]) on the board?
    pub test_device: bool,
    /// Disks of a domain, 255 at most. What is written to them outlasts a reset.
    pub disks: Vec<DiskConfig>,
    /// Network cards of a domain, 255 at most.
    pub nics: Vec<NicConfig>,
    /// A display of a domain, with keyboard and pointer.
    pub display: Option<DisplayConfig>,
    /// What to boot.
    pub payload: Payload,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            vcpus: 1,
            ram: 256 << 20,
            most_ram: 0,
            cpu: "x86-64-v2".into(),
            clock: ClockPolicy::Paced,
            wall_clock: 0,
            seed: 1,
            serial_ports: 1,
            triple_fault: TripleFault::default(),
            test_device: false,
            disks: Vec::new(),
            nics: Vec::new(),
            display: None,
            payload: Payload::default(),
        }
    }
}

impl Config {
    /// Guest time per instruction, to begin with.
    fn rate(&self) -> Rate {
        match self.clock {
            ClockPolicy::Deterministic(rate) => rate,
            ClockPolicy::Paced => Rate::ONE,
        }
    }
}

/// Why a machine could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Guest memory.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The files to boot.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The kernel, as a guest of a hypervisor.
    #[error("{0}")]
    Guest(String),
    /// The parts list.
    #[error("the board is not consistent: {0}")]
    Board(#[from] MapError),
    /// The CPU.
    #[error("{0}")]
    Cpu(String),
    /// A mode that the program was built without.
    #[error("this build has no hypervisor, which mode {0:?} needs; use mode Pc, or a build with one")]
    Mode(Mode),
}

/// The CPU that this project is about.
fn processor(ram: &GuestRam, name: &str) -> Result<Box<dyn Processor>, String> {
    let model = Model::by_name(name)
        .ok_or_else(|| format!("there is no CPU model called {name:?}; use {}", Model::NAMES.join(", ")))?;
    Ok(Box::new(Vcpu::new(ram, model)))
}

/// What is made for a mode: RAM, RAM as the CPU sees it, and whatever else there is.
type Parts = (GuestRam, GuestRam, Box<dyn Platform>);

fn platform(config: &Config) -> Result<Parts, ConfigError> {
    if config.mode == Mode::Pc { pc(config) } else { domain(config) }
}

fn pc(config: &Config) -> Result<Parts, ConfigError> {
    let options = Options {
        rate: config.rate(),
        wall_clock: config.wall_clock,
        seed: config.seed,
        serial_ports: config.serial_ports,
        test_device: config.test_device,
    };
    let ram = GuestRam::new(config.ram)?;
    let pc = Pc::new(&ram, options)?;
    Ok((ram.clone(), ram, Box::new(pc)))
}

fn domain(config: &Config) -> Result<Parts, ConfigError> {
    let memory = Memory { boot: config.ram, most: config.ram.max(config.most_ram) };
    let ram = Xen::ram(memory)?;
    let options = domain::Options {
        hvm: config.mode == Mode::Pvh,
        vcpus: config.vcpus.clamp(1, MAX_VCPUS as u32),
        wall_clock: config.wall_clock,
        uuid: domain_uuid(config.seed),
        nics: config.nics.clone(),
        display: config.display,
        files: None,
    };
    let disks = (0..).zip(&config.disks).map(|(n, disk)| disk.make(n)).collect();
    let xen = Xen::new(&ram, memory, config.rate(), config.seed, options, disks);
    Ok((ram, xen.seen(), Box::new(xen)))
}

/// A random (version 4) UUID from the source of the guest's random numbers.
fn domain_uuid(mut seed: u64) -> [u8; 16] {
    let (a, b) = (next_random(&mut seed), next_random(&mut seed));
    let mut uuid = (u128::from(a) << 64 | u128::from(b)).to_be_bytes();
    uuid[6] = uuid[6] & 0xf | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// How far to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    /// Stop at this guest time.
    pub time: VmTime,
    /// Stop at this count of retired instructions.
    pub retired: u64,
}

impl Until {
    /// Up to a guest time.
    pub const fn time(time: VmTime) -> Self {
        Self { time, retired: u64::MAX }
    }
    /// Up to a count of retired instructions.
    pub const fn retired(retired: u64) -> Self {
        Self { time: VmTime::NEVER, retired }
    }
}

/// Why [`Machine::run`] came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The limit is reached.
    Slice,
    /// The CPU waits for an interrupt, and no device has anything to do before this time.
    Halted(VmTime),
    /// The guest asked for a reset (or failed in a way that resets a PC). Call
    /// [`Machine::reset`] to start over.
    Reset(ResetCause),
    /// The machine is switched off.
    Off,
    /// The CPU cannot go on. The report is for people.
    Crash(String),
}

/// Figures for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instructions.
    pub retired: u64,
    /// How often the CPU halted.
    pub halts: u64,
    /// How often the CPU came to the board.
    pub visits: Visits,
    /// Guest time.
    pub now: VmTime,
}

/// A machine.
pub struct Machine {
    config: Config,
    ram: GuestRam,
    cpu: Box<dyn Processor>,
    platform: Box<dyn Platform>,
    halts: u64,
    /// The last exit, if it is one that a reset alone ends.
    ended: Option<Exit>,
}

impl Machine {
    /// Makes a machine with the payload in memory.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong with `config`.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::assemble(config, processor, platform)
    }

    /// The same for a program that is to be small and has no hypervisor: a PC.
    ///
    /// # Errors
    /// As [`Machine::new`], and for any other mode.
    pub fn pc(config: Config) -> Result<Self, ConfigError> {
        Self::assemble(config, processor, |config| match config.mode {
            Mode::Pc => pc(config),
            mode => Err(ConfigError::Mode(mode)),
        })
    }

    /// Makes a machine around the CPU that `make` builds (from RAM and the model's name), with the
    /// payload in memory.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong with `config`.
    pub fn with_processor(
        config: Config,
        make: impl FnOnce(&GuestRam, &str) -> Result<Box<dyn Processor>, String>,
    ) -> Result<Self, ConfigError> {
        Self::assemble(config, make, platform)
    }

    fn assemble(
        config: Config,
        make: impl FnOnce(&GuestRam, &str) -> Result<Box<dyn Processor>, String>,
        platform: impl FnOnce(&Config) -> Result<Parts, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let (ram, seen, platform) = platform(&config)?;
        let cpu = make(&seen, &config.cpu).map_err(ConfigError::Cpu)?;
        let mut machine = Self { config, ram, cpu, platform, halts: 0, ended: None };
        machine.load()?;
        Ok(machine)
    }

    /// Puts the payload into RAM and the CPU at its entry.
    fn load(&mut self) -> Result<(), ConfigError> {
        match self.platform.load(&self.config.payload)? {
            Start::Bare(entry) => self.cpu.enter(&entry),
            Start::Guest(begin) => self.cpu.enter_guest(begin),
        }
        Ok(())
    }

    /// Starts over from the same payload: devices are reset, RAM is cleared, time and the
    /// instruction count go on.
    ///
    /// # Errors
    /// [`ConfigError`] if the payload cannot be loaded, as in [`Machine::with_processor`].
    pub fn reset(&mut self) -> Result<(), ConfigError> {
        self.sync();
        self.platform.reset();
        let (mut page, zero) = ([0; PAGE_SIZE as usize], [0; PAGE_SIZE as usize]);
        for at in (0..self.ram.len()).step_by(PAGE_SIZE as usize) {
            self.ram.read(at, &mut page);
            if !is_zero(&page) {
                self.ram.write(at, &zero);
            }
        }
        self.ended = None;
        self.load()
    }

    /// From now on hot code is compiled.
    pub fn set_code_host(&mut self, host: Box<dyn CodeHost>) {
        self.cpu.set_code_host(host);
    }
    /// What the compiler did, if there is one.
    pub fn jit_stats(&mut self) -> Option<jit::Stats> {
        self.cpu.jit_stats()
    }
    /// The WebAssembly module of the code at a linear address, or where the CPU stands, as it would be compiled now;
    /// for people.
    pub fn module_at(&self, la: Option<u64>) -> Option<Vec<u8>> {
        self.cpu.module_at(la)
    }

    fn sync(&mut self) {
        self.platform.bus().sync(self.cpu.retired());
    }
    fn paced(&self) -> bool {
        self.config.clock == ClockPolicy::Paced
    }

    /// Runs the machine.
    pub fn run(&mut self, until: Until) -> Exit {
        let exit = self.run_on(until);
        if matches!(exit, Exit::Reset(_) | Exit::Off | Exit::Crash(_)) {
            self.ended = Some(exit.clone());
        }
        exit
    }

    fn run_on(&mut self, until: Until) -> Exit {
        if let Some(exit) = &self.ended {
            return exit.clone();
        }
        let mut idle_steps = 0;
        loop {
            self.sync();
            match self.platform.take_stop() {
                Some(StopCause::Off) => return Exit::Off,
                Some(StopCause::Reset(cause)) => return Exit::Reset(cause),
                Some(StopCause::Crash(why)) => return Exit::Crash(format!("{why}\n{}", self.report())),
                None => {}
            }
            let retired = self.cpu.retired();
            if retired >= until.retired || self.platform.now() >= until.time {
                return Exit::Slice;
            }
            let end = until.retired.min(self.platform.run_until()).min(self.platform.retired_at(until.time));
            // A deadline that lies between two instructions is reached by the later one.
            let budget = end.saturating_sub(retired).max(1);
            match self.cpu.run(self.platform.bus(), budget) {
                CpuExit::Budget => {
                    idle_steps = if self.cpu.retired() > retired { 0 } else { idle_steps + 1 };
                    assert!(idle_steps < MAX_IDLE_STEPS, "a CPU with a budget runs an instruction");
                }
                CpuExit::Halt => {
                    self.sync();
                    idle_steps = if self.cpu.retired() > retired { 0 } else { idle_steps + 1 };
                    self.halts += u64::from(idle_steps == 0);
                    if self.platform.run_until() == 0 {
                        continue; // a stop was requested
                    }
                    let next = self.platform.nearest();
                    if self.paced() || next == VmTime::NEVER {
                        return Exit::Halted(next);
                    }
                    self.platform.adjust_clock(&mut |c| c.jump(next.min(until.time)));
                    if next > until.time {
                        return Exit::Halted(next);
                    }
                    if idle_steps >= MAX_IDLE_STEPS {
                        return Exit::Slice;
                    }
                }
                CpuExit::Shutdown => {
                    self.sync();
                    return match self.config.triple_fault {
                        // What chipsets do when they see the processor's shutdown cycle.
                        TripleFault::Reset => Exit::Reset(ResetCause::TripleFault),
                        TripleFault::Crash => Exit::Crash(format!("triple fault\n{}", self.report())),
                    };
                }
            }
        }
    }

    /// For a paced machine, between slices: `elapsed` has passed on the host since the last call,
    /// and from now on an instruction takes `rate`. Returns how far guest time is ahead of the
    /// host's; the runner may sleep for that long. A deterministic machine takes no notice.
    pub fn pace(&mut self, elapsed: VmDuration, rate: Rate) -> VmDuration {
        if !self.paced() {
            return VmDuration::ZERO;
        }
        self.sync();
        let mut ahead = VmDuration::ZERO;
        self.platform.adjust_clock(&mut |c| ahead = c.pace(elapsed, rate));
        ahead
    }

    /// News from the outside world, at the current instruction.
    pub fn input(&mut self, input: &Input) {
        self.sync();
        self.platform.input(input);
    }
    /// How many bytes of input serial port `port` takes now.
    pub fn serial_room(&mut self, port: u8) -> usize {
        self.platform.console_room(port)
    }
    /// What the guest shows and what has changed in it, if it has a display. Looked at between slices; keys and pointer
    /// are [`Input::Key`] and [`Input::Pointer`].
    pub fn display(&mut self) -> Option<&mut dyn Display> {
        self.platform.display()
    }
    /// Shares a tree of files with a domain, also after a reset. A PC has nothing that could show it.
    pub fn share_files(&mut self, tree: &Share) {
        self.platform.share_files(tree);
    }
    /// What the machine wants from the outside world, since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        core::mem::take(self.platform.effects())
    }

    /// Lets tests reach the board.
    #[cfg(test)]
    pub(super) fn with_board(&mut self, f: impl FnOnce(&mut super::board::Board)) {
        f(self.platform.board().expect("a PC"));
    }

    /// Guest time.
    pub fn now(&self) -> VmTime {
        self.platform.now()
    }
    /// The machine's memory.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }
    /// Figures for people.
    pub fn stats(&self) -> Stats {
        let board = &self.platform;
        Stats { retired: self.cpu.retired(), halts: self.halts, visits: board.visits(), now: board.now() }
    }
    /// Memory of a domain.
    pub fn reservation(&self) -> Option<Reservation> {
        self.platform.reservation()
    }
    /// One of its disks.
    pub fn disk(&self, n: u8) -> Option<&dyn BlockBackend> {
        self.platform.disks().get(usize::from(n)).map(|disk| &**disk)
    }
    /// What the guest and its platform had to do with each other, by kind; a PC says nothing.
    pub fn counts(&self) -> Vec<Count> {
        self.platform.counts()
    }
    /// A hash of everything the guest can tell apart: CPU, devices, RAM. Two runs with the same
    /// hash at the same instruction count are the same run.
    pub fn state_hash(&mut self) -> u128 {
        self.sync();
        let mut bytes = Vec::new();
        self.cpu.state_bytes(&mut bytes);
        let mut hash = StateHash::default();
        hash.add(&bytes);
        bytes.clear();
        self.platform.state_bytes(&mut bytes);
        hash.add(&bytes);
        hash.add_ram(&self.ram);
        hash.finish()
    }
    /// The machine's state in words: time, counts, registers.
    pub fn report(&mut self) -> String {
        let s = self.stats();
        format!(
            "{} instructions, {} ns of guest time, {} halts\n{}",
            s.retired,
            s.now.nanos(),
            s.halts,
            self.cpu.describe()
        )
    }
    /// The board's address map in words.
    pub fn board_table(&self) -> String {
        self.platform.table()
    }
}
