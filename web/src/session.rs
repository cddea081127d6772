//! A machine from its files to its end: collects kernel and initrd, builds the board, runs it in slices,
//! and holds what the page wants to know. No JavaScript here, so it is tested natively.

use crate::board::Board;
use crate::error::VmError;
use crate::outside::{self, DOMAINS, Outbox, Parts};
use crate::pace::{Speed, Stopwatch};
use crate::screen;
use tabvisor_core::jit::Limits;
use tabvisor_core::time::{VmDuration, VmTime};
use tabvisor_devices::boot;
use tabvisor_devices::effect::{Control, Input};
use tabvisor_devices::machine::Exit;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the guest runs on, by name: `pc`, `pv`, `pvh`.
    pub mode: String,
    /// Virtual CPUs of a domain.
    pub vcpus: u32,
    /// Guest RAM in MiB.
    pub memory_mib: u32,
    /// CPUID model by name.
    pub cpu: String,
    /// Kernel command line.
    pub cmdline: String,
    /// Guest time follows the instruction count instead of the host's clock.
    pub deterministic: bool,
    /// Wall-clock time at power-on: milliseconds since 1970-01-01 00:00 UTC.
    pub wall_clock_ms: f64,
    /// Hot code is compiled, within these limits.
    pub compile: Option<Limits>,
    /// Disks, network cards and display of a domain.
    pub parts: [Parts; DOMAINS],
}

/// The files a direct boot needs.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// A bzImage, an ELF or a packed kernel.
    pub kernel: Vec<u8>,
    /// The initial RAM disk; empty for none.
    pub initrd: Vec<u8>,
}

/// Makes a board from its description. The files are handed over: the board keeps what it needs.
pub type Builder<B> = fn(&Config, Files) -> Result<B, VmError>;

/// Where in its life a session is. The numbers are those of `VM_STATE` in `www/wasm.js`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Files are being loaded.
    Empty = 0,
    /// The guest has something to do.
    Running = 1,
    /// The guest waits for an interrupt.
    Halted = 2,
    /// Guest time stands still.
    Paused = 3,
    /// Switched off.
    Off = 4,
    /// The processor could not go on.
    Crashed = 5,
}

/// What happened when a machine could not be made of its files and settings; [`VmError::why`] tells the rest.
pub const NOT_STARTED: &str = "The machine did not start.";
/// A slice ends after this many portions even if the host's clock stands still.
const MAX_PORTIONS: u32 = 100;
/// Portions without a single instruction before [`Session::run_instructions`] gives up.
const MAX_IDLE: u32 = 1_000;

/// One machine.
pub struct Session<B> {
    config: Config,
    files: Files,
    build: Builder<B>,
    board: Option<B>,
    state: State,
    watch: Stopwatch,
    speed: Speed,
    resets: u32,
    serial: Vec<u8>,
    crash: String,
    /// How far guest time was ahead of the host's at the last look.
    ahead: VmDuration,
}

impl<B: Board> Session<B> {
    /// Is hot code compiled, and within which limits? Counts at the next boot.
    pub fn set_compile(&mut self, limits: Option<Limits>) {
        self.config.compile = limits;
    }

    /// What the guest runs on, and virtual CPUs of a domain. Counts at the next boot.
    pub fn set_mode(&mut self, mode: String, vcpus: u32) {
        (self.config.mode, self.config.vcpus) = (mode, vcpus);
    }

    /// A machine without files yet.
    pub fn new(config: Config, build: Builder<B>) -> Self {
        Self {
            config,
            files: Files::default(),
            build,
            board: None,
            state: State::Empty,
            watch: Stopwatch::default(),
            speed: Speed::new(),
            resets: 0,
            serial: Vec::new(),
            crash: String::new(),
            ahead: VmDuration::ZERO,
        }
    }

    /// Appends bytes of the file with this role; a file may come in any number of portions.
    pub fn load(&mut self, role: &str, bytes: Vec<u8>) -> Result<(), VmError> {
        if self.state != State::Empty {
            return Err(VmError::new(
                "The machine is already built.",
                "Files belong to a machine from its power-on.",
                "Make a new machine for other files.",
            ));
        }
        let (what, file) = match role {
            "kernel" => ("kernel", &mut self.files.kernel),
            "initrd" => ("initrd", &mut self.files.initrd),
            _ => {
                return Err(VmError::new(
                    "This machine has no such file.",
                    format!("A direct boot has a kernel and an initrd, not {role:?}."),
                    "Use one of the two roles.",
                ));
            }
        };
        boot::check_size(what, file.len() as u64 + bytes.len() as u64)
            .map_err(|e| VmError::from_line(NOT_STARTED, &e))?;
        if file.is_empty() {
            *file = bytes; // A file in one portion is not copied.
        } else if file.try_reserve(bytes.len()).is_ok() {
            file.extend_from_slice(&bytes);
        } else {
            let why = format!("the browser has no memory for the {what}; use a smaller file, or close other tabs");
            return Err(VmError::from_line(NOT_STARTED, &why));
        }
        Ok(())
    }

    /// Builds the board and places the kernel. The next [`Session::run`] executes its first instruction.
    pub fn boot(&mut self) -> Result<(), VmError> {
        if self.state != State::Empty {
            return Err(VmError::new("The machine has been booted before.", "A machine boots once.", "Use reset."));
        }
        let board = (self.build)(&self.config, core::mem::take(&mut self.files))?;
        self.board = Some(board);
        self.state = State::Running;
        Ok(())
    }

    /// Runs for `slice_ms` milliseconds of the host's time, or until the guest waits or stops. `host_ms` reads the
    /// host's clock. Returns how long the caller may sleep: 0 to come back at once, infinite to wait for input.
    pub fn run(&mut self, slice_ms: f64, host_ms: &mut dyn FnMut() -> f64) -> f64 {
        if self.state == State::Paused {
            self.state = State::Running;
        }
        let Some(board) = self.board.as_mut().filter(|_| self.state == State::Running || self.state == State::Halted)
        else {
            return f64::INFINITY;
        };
        let begin = host_ms();
        let mut now = begin;
        for _ in 0..MAX_PORTIONS {
            // A deterministic board takes no notice of this.
            let ahead = board.pace(self.watch.lap(now), self.speed.rate(self.ahead));
            self.ahead = ahead;
            let before = board.retired();
            let exit = board.run(self.speed.portion());
            let after = host_ms();
            self.speed.learn(board.retired().wrapping_sub(before), after - now);
            now = after;
            board.take_serial(&mut self.serial);
            self.state = State::Running;
            match exit {
                Exit::Slice => {}
                Exit::Halted(VmTime::NEVER) => {
                    self.state = State::Halted;
                    return f64::INFINITY;
                }
                Exit::Halted(until) => {
                    self.state = State::Halted;
                    if !self.config.deterministic {
                        let wait = until.since(board.now()).nanos().saturating_add(ahead.nanos());
                        return wait as f64 / 1e6;
                    }
                }
                exit => {
                    self.ended(exit);
                    return if self.state == State::Running { 0.0 } else { f64::INFINITY };
                }
            }
            // Whoever waits for an answer should not wait for the end of a slice.
            let asks = board.outbox().is_some_and(|outbox| !outbox.is_empty());
            if asks || now - begin >= slice_ms {
                break;
            }
        }
        0.0
    }

    /// The guest asked for a reset, or the machine stopped.
    fn ended(&mut self, exit: Exit) {
        match exit {
            Exit::Reset(_) => match self.board.as_mut().map_or(Ok(()), Board::reset) {
                Ok(()) => {
                    self.resets = self.resets.wrapping_add(1);
                    self.state = State::Running;
                }
                Err(error) => {
                    self.state = State::Crashed;
                    self.crash = error.to_string();
                }
            },
            Exit::Off => self.state = State::Off,
            Exit::Crash(report) => {
                self.state = State::Crashed;
                // The registers below it are those of the board's own report.
                self.crash = report.lines().next().unwrap_or_default().to_owned();
            }
            Exit::Slice | Exit::Halted(_) => {}
        }
    }

    /// Runs `count` instructions on the deterministic clock, waits skipped. Fewer if the machine stops or waits for input.
    pub fn run_instructions(&mut self, count: u64) -> Result<u64, VmError> {
        if !self.config.deterministic {
            return Err(VmError::new(
                "Guest time follows the host's clock.",
                "Only a machine on the deterministic clock can be run by a number of instructions.",
                "Make the machine with the deterministic clock.",
            ));
        }
        let Some(board) = self.board.as_ref() else { return Err(not_booted()) };
        let start = board.retired();
        let mut done = 0;
        // Every portion retires an instruction or ends in a halt; a guest that only halts must not hold us.
        let mut idle = 0;
        while matches!(self.state, State::Running | State::Halted) && done < count && idle < MAX_IDLE {
            let Some(board) = self.board.as_mut() else { break };
            let exit = board.run(count - done);
            board.take_serial(&mut self.serial);
            let total = board.retired().wrapping_sub(start);
            idle = if total == done { idle + 1 } else { 0 };
            done = total;
            self.state = State::Running;
            match exit {
                Exit::Slice => {}
                Exit::Halted(until) => {
                    self.state = State::Halted;
                    if until == VmTime::NEVER {
                        break;
                    }
                }
                exit => self.ended(exit),
            }
        }
        Ok(done)
    }

    /// Offers typed bytes to the guest; returns how many were taken.
    pub fn serial_input(&mut self, bytes: &[u8]) -> usize {
        self.board.as_mut().map_or(0, |b| b.serial_input(bytes))
    }

    /// What the guest printed since the last call.
    pub fn take_serial(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.serial)
    }

    /// Guest time stands still until the next [`Session::run`].
    pub fn pause(&mut self) {
        self.watch.stop();
        if matches!(self.state, State::Running | State::Halted) {
            self.state = State::Paused;
        }
    }

    /// The reset button: works on a crashed machine and on one that is switched off.
    pub fn reset(&mut self) -> Result<(), VmError> {
        let Some(board) = self.board.as_mut() else { return Err(not_booted()) };
        board.reset()?;
        self.resets = self.resets.wrapping_add(1);
        self.crash.clear();
        self.state = State::Running;
        Ok(())
    }

    /// The plug is pulled.
    pub fn power_off(&mut self) {
        self.watch.stop();
        self.state = State::Off;
    }

    /// Where in its life the machine is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Instructions retired, guest time in milliseconds, resets, visits of the CPU to its devices; if hot code is compiled,
    /// also regions, bytes of their modules, instructions retired in them, entries, ways from one to another, and exits: in
    /// front of an instruction, at the end of a budget, with a fault; modules, bytes of memory for those since they were
    /// dropped last, milliseconds spent compiling them. The order is that of `VM_STAT` in `www/wasm.js`.
    pub fn stats(&mut self) -> Vec<f64> {
        let (retired, now, visits) =
            self.board.as_ref().map_or((0, VmTime::ZERO, 0), |b| (b.retired(), b.now(), b.visits()));
        let mut stats = vec![retired as f64, now.nanos() as f64 / 1e6, f64::from(self.resets), visits as f64];
        if let Some(j) = self.board.as_mut().and_then(Board::jit_stats) {
            stats.extend(
                [j.regions, j.bytes, j.retired, j.entered, j.hops, j.stopped, j.short, j.faults, j.modules, j.memory]
                    .map(|n| n as f64),
            );
            stats.push(j.took as f64 / 1e3);
        }
        stats
    }

    /// The WebAssembly module of the code at a linear address (hexadecimal; empty: where the CPU stands), as it would be
    /// compiled now; empty if there is none. The guest's state stays as it is.
    pub fn dump_code(&self, address: &str) -> Result<Vec<u8>, VmError> {
        let la = if address.is_empty() { Ok(None) } else { u64::from_str_radix(address, 16).map(Some) };
        let la = la.map_err(|e| {
            VmError::new(
                "This is not an address.",
                format!("{address:?}: {e}."),
                "Give hexadecimal digits, without 0x.",
            )
        })?;
        Ok(self.board.as_ref().ok_or_else(not_booted)?.module_at(la).unwrap_or_default())
    }

    /// A hash over everything the guest could tell apart, as 32 hexadecimal digits.
    pub fn state_hash(&mut self) -> Result<String, VmError> {
        let board = self.board.as_mut().ok_or_else(not_booted)?;
        Ok(format!("{:032x}", board.state_hash()))
    }

    /// Why the machine stopped, if it crashed, then registers and messages.
    pub fn report(&mut self) -> String {
        let board = self.board.as_mut().map(Board::report).unwrap_or_default();
        if self.crash.is_empty() { board } else { format!("{}\n{board}", self.crash) }
    }
}

/// What only domains have.
#[cfg_attr(not(feature = "xen"), allow(dead_code, reason = "a PC has nothing outside"))]
impl<B: Board> Session<B> {
    /// What the machine is made of beside its files. Counts at the next boot.
    pub fn parts(&mut self) -> Option<&mut Parts> {
        self.config.parts.first_mut()
    }

    /// What the guest wants from outside.
    pub fn outbox(&mut self) -> Option<&mut Outbox> {
        self.board.as_mut().and_then(Board::outbox)
    }

    /// The answer to a request for sectors; `None` if they cannot be had.
    pub fn block_data(&mut self, disk: u8, ticket: u64, bytes: Option<Vec<u8>>) {
        if let Some(board) = &mut self.board {
            board.input(&Input::BlockData { disk, ticket, bytes });
        }
    }

    /// What the guest and its hypervisor had to do with each other.
    pub fn counts(&self) -> String {
        self.board.as_ref().map(Board::counts).unwrap_or_default()
    }

    /// A portion of what has changed in the guest's picture, as [`Screen::take`](crate::screen::Screen::take) says.
    pub fn picture(&mut self) -> Vec<u8> {
        self.board.as_mut().map(Board::picture).unwrap_or_default()
    }

    /// What was written to a disk, as [`outside::written`] says.
    pub fn written(&self, disk: u8, from: u64) -> Vec<u8> {
        self.board.as_ref().map(|board| board.written(disk, from)).unwrap_or_default()
    }

    /// Asks something of a domain.
    ///
    /// # Errors
    /// That is nothing that can be asked.
    pub fn tell(&mut self, what: &str) -> Result<(), VmError> {
        let control = what.parse::<Control>().map_err(|e| VmError::from_line("The guest was not asked.", &e))?;
        if let Some(board) = &mut self.board {
            board.input(&Input::Control(control));
        }
        Ok(())
    }

    /// Memory of a domain: now, target, most, in bytes.
    pub fn memory(&self) -> Vec<f64> {
        let memory = self.board.as_ref().and_then(Board::reservation);
        memory.map(|m| [m.now, m.target, m.most].map(|n| n as f64).to_vec()).unwrap_or_default()
    }

    /// What people do with keyboard and pointer, as [`screen::inputs`] says.
    pub fn play(&mut self, events: &[i32]) {
        if let Some(board) = &mut self.board {
            screen::inputs(events).for_each(|event| board.input(&event));
        }
    }

    /// Frames arrive at network cards.
    pub fn frames_in(&mut self, batch: &[u8]) {
        if let Some(board) = &mut self.board {
            outside::frames(batch).for_each(|frame| board.input(&frame));
        }
    }
}

fn not_booted() -> VmError {
    VmError::new("There is no running machine.", "It has not been booted.", "Load its files and boot it first.")
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
