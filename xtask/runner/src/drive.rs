//! Runs a machine against the host's clock, or as fast as it goes, until it ends.

use crate::command::{self, Command};
use crate::console::Console;
use crate::disks::{self, Files};
use crate::keys::{self, Ask};
use crate::options::Options;
use crate::picture::Last;
use crate::schedule::Schedule;
use crate::speed::Speed;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use tabvisor_core::time::{VmDuration, VmTime};
use tabvisor_devices::effect::{Effect, Input};
use tabvisor_devices::machine::{Exit, Machine, Until};

/// Longest sleep: a guest that waits for input alone is looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How long input may wait for a guest that does not take it before it is offered again.
const RETRY: Duration = Duration::from_millis(20);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest switched itself off.
    Off,
    /// A test program ended with this result.
    Test(u32),
    /// The user left.
    Left,
    /// `--max-insns`.
    Limit,
    /// The guest waits for input, and there will be none.
    NoInput,
    /// The processor stopped with an error.
    Crash,
}

/// A machine and whoever watches it.
pub struct Runner {
    machine: Machine,
    console: Console,
    files: Files,
    picture: Option<Last>,
    paced: bool,
    verbose: bool,
    max_insns: u64,
    hash_at: Vec<u64>,
    speed: Speed,
    /// Instead of what the host does.
    schedule: Option<Schedule>,
    started: Instant,
    /// When `Machine::pace` was last told the time.
    told: Instant,
    busy: Duration,
    resets: u32,
    /// What the test device said.
    result: Option<u32>,
}

impl Runner {
    /// A machine that has not run yet.
    pub fn new(machine: Machine, options: &Options, console: Console, files: Files) -> Self {
        let now = Instant::now();
        Self {
            machine,
            console,
            files,
            picture: options.display.as_ref().and_then(|d| d.file.clone()).map(Last::new),
            paced: !options.deterministic,
            verbose: options.verbose,
            max_insns: options.max_insns.unwrap_or(u64::MAX),
            hash_at: options.hash_at.clone(),
            speed: Speed::new(),
            schedule: options.schedule.map(Schedule::new),
            started: now,
            told: now,
            busy: Duration::ZERO,
            resets: 0,
            result: None,
        }
    }

    /// Runs until it ends.
    pub fn run(&mut self) -> Result<End> {
        loop {
            while let Some(ask) = self.console.ask() {
                if self.obey(ask) {
                    return Ok(End::Left);
                }
            }
            self.feed();
            let before = self.machine.stats().retired;
            self.hashes(before);
            if before >= self.max_insns {
                return Ok(End::Limit);
            }
            // Both stop the machine at their exact count.
            let stop = self.hash_at.first().copied().unwrap_or(u64::MAX).min(self.max_insns);
            let portion = self.schedule.as_mut().map_or(self.speed.portion(), Schedule::portion);
            let begin = Instant::now();
            let exit = self.machine.run(Until::retired(stop.min(before.saturating_add(portion))));
            let time = begin.elapsed();
            self.busy += time;
            self.speed.learn(self.machine.stats().retired - before, time);
            let news = self.effects().context("cannot write the guest's output")?;
            if let Some(last) = &mut self.picture {
                last.look(self.machine.display());
            }
            let ahead = self.pace();
            match exit {
                Exit::Slice if ahead >= Duration::from_millis(1) => self.console.wait(ahead.min(LONGEST_SLEEP)),
                Exit::Slice => {}
                Exit::Halted(_) if news => {}
                Exit::Halted(VmTime::NEVER) if self.console.closed && self.console.pending.is_empty() => {
                    return Ok(End::NoInput);
                }
                Exit::Halted(until) => self.sleep(until),
                Exit::Reset(cause) => {
                    self.console.say(&format!("reset: {cause:?}"));
                    self.resets += 1;
                    self.machine.reset().context("the guest cannot start over")?;
                }
                Exit::Off => return Ok(self.result.map_or(End::Off, End::Test)),
                Exit::Crash(report) => {
                    self.console.say(&report);
                    return Ok(End::Crash);
                }
            }
        }
    }

    /// Writes the last picture of the display to its file, if there is to be one; says so.
    pub fn save_picture(&mut self) -> Result<Option<String>> {
        self.picture.as_mut().map(|last| last.save(self.machine.display())).transpose()
    }

    /// The last line: what ran, for how long, how fast.
    pub fn summary(&self, end: &End) -> String {
        let why = match end {
            End::Off => "the guest switched itself off",
            End::Test(0) => "the test program is content",
            End::Test(_) => "the test program found mistakes",
            End::Left => "left",
            End::Limit => "instruction limit reached",
            End::NoInput => "the guest waits for input and there is none",
            End::Crash => "the machine crashed",
        };
        let stats = self.machine.stats();
        let (busy, all) = (self.busy.as_secs_f64(), self.started.elapsed().as_secs_f64());
        let mips = if busy > 0.0 { stats.retired as f64 / busy / 1e6 } else { 0.0 };
        let million = stats.retired as f64 / 1e6;
        let guest = stats.now.nanos() as f64 / 1e9;
        let resets = if self.resets > 0 { format!(", {} resets", self.resets) } else { String::new() };
        format!(
            "{why}: {million:.1} M instructions interpreted in {busy:.2} s ({mips:.0} MIPS), {guest:.2} s of guest time, {all:.2} s in all{resets}"
        )
    }

    /// Does what the user asks; whether that is to leave.
    fn obey(&mut self, ask: Ask) -> bool {
        match ask {
            Ask::Leave => return true,
            Ask::Reset => self.machine.input(&Input::ResetButton),
            Ask::Power => self.machine.input(&Input::PowerButton),
            Ask::Status => {
                let report = self.machine.report();
                self.console.say(&report);
            }
            Ask::Help => self.console.say(&format!("{}\n{}", keys::HELP, command::help())),
            Ask::Typing(line) => self.console.show_command(&line),
            Ask::Command(line) => {
                self.console.end_command();
                if !line.is_empty() {
                    match command::read(&line) {
                        Ok(Command::Tell(input)) => self.machine.input(&input),
                        Ok(Command::Memory) => self.console.say(&self.memory()),
                        Err(why) => self.console.say(&why.to_string()),
                    }
                }
            }
        }
        false
    }

    /// How much memory a domain has.
    fn memory(&self) -> String {
        let Some(r) = self.machine.reservation() else { return "only a domain's memory changes".into() };
        let [now, target, most] = [r.now, r.target, r.most].map(|bytes| bytes >> 20);
        format!("the guest has {now} MiB, was asked to have {target}, and may have {most}")
    }

    /// Gives the guest what was typed, as much as its serial port takes.
    fn feed(&mut self) {
        let room = self.machine.serial_room(0).min(self.console.pending.len());
        if room > 0 {
            let bytes = self.console.pending.drain(..room).collect();
            self.machine.input(&Input::Serial { port: 0, bytes });
        }
    }

    fn hashes(&mut self, retired: u64) {
        while self.hash_at.first().is_some_and(|&at| at <= retired) {
            let wanted = self.hash_at.remove(0);
            let hash = self.machine.state_hash();
            // A count that a halted guest has passed over cannot be had: say which one it is.
            self.console.say(&format!("state at {retired} (wanted {wanted}): {hash:032x}"));
        }
    }

    /// Tells a paced machine how much time has passed; how far it is ahead of the host.
    fn pace(&mut self) -> Duration {
        if !self.paced {
            return Duration::ZERO;
        }
        if let Some(schedule) = &mut self.schedule {
            let pause = schedule.pause();
            self.pass(pause);
            return Duration::ZERO;
        }
        let now = Instant::now();
        let elapsed = now.duration_since(self.told);
        self.told = now;
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.machine.pace(VmDuration::from_nanos(nanos), self.speed.rate()).nanos())
    }

    /// Lets time pass for a machine whose time does not depend on the host.
    fn pass(&mut self, time: VmDuration) {
        let Some(schedule) = &mut self.schedule else { return };
        let rate = schedule.rate();
        // The machine's idea of the host's clock follows its own.
        let ahead = self.machine.pace(VmDuration::ZERO, rate);
        self.machine.pace(VmDuration::from_nanos(ahead.nanos().saturating_add(time.nanos())), rate);
    }

    /// Sleeps until the guest has something to do, or something is typed.
    fn sleep(&mut self, until: VmTime) {
        if let Some(schedule) = self.schedule.as_mut().filter(|_| until != VmTime::NEVER) {
            let late = schedule.late();
            let wait = until.since(self.machine.now()).nanos();
            return self.pass(VmDuration::from_nanos(wait.saturating_add(late.nanos())));
        }
        let wait = match until {
            VmTime::NEVER => LONGEST_SLEEP,
            until => Duration::from_nanos(until.since(self.machine.now()).nanos()).min(LONGEST_SLEEP),
        };
        let wait = if self.console.pending.is_empty() { wait } else { wait.min(RETRY) };
        if !wait.is_zero() {
            self.console.wait(wait);
        }
        self.pace();
    }

    /// Does what the guest wants of the world; whether it got an answer.
    fn effects(&mut self) -> std::io::Result<bool> {
        let mut news = false;
        for effect in self.machine.take_effects() {
            match effect {
                Effect::Serial { port: 0, bytes } => self.console.print(&bytes)?,
                Effect::Debug(bytes) if self.verbose => self.console.say(&String::from_utf8_lossy(&bytes)),
                Effect::TestEnd(result) => self.result = Some(result),
                Effect::BlockRead { disk, first, count, ticket } => {
                    let file = self.files.get_mut(usize::from(disk)).and_then(Option::as_mut);
                    let bytes = file.and_then(|file| disks::read(file, first, count).ok());
                    self.machine.input(&Input::BlockData { disk, ticket, bytes });
                    news = true;
                }
                Effect::Frame { nic, bytes } if self.verbose => {
                    let start: String = bytes.iter().take(48).map(|b| format!(" {b:02x}")).collect();
                    self.console.say(&format!("network card {nic} sends {} bytes:{start}", bytes.len()));
                }
                Effect::Suspended => self.console.say("the guest is suspended"),
                Effect::Log(text) if self.verbose => self.console.say(&text),
                _ => {}
            }
        }
        Ok(news)
    }
}
