//! Boots the benchmark guest on the native machine, times its programs between their markers and writes what
//! it measured as JSON. `cargo xtask bench` starts it; with the feature `profile` it also says which
//! instruction forms ran how often.

mod marks;

use anyhow::{Context, Result, bail};
use marks::{Mark, Marks, Moment, Sample};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tabvisor_core::time::{VmDuration, VmTime};
use tabvisor_devices::effect::Effect;
use tabvisor_devices::machine::{ClockPolicy, Config, Exit, Machine, Payload, Rate, TripleFault, Until};

const HELP: &str = "tabvisor-bench --kernel FILE --initrd FILE --cmdline TEXT [--mem MIB] [--timeout SECONDS] [--out FILE] [--verbose]";

/// How long a portion should take: the markers are seen that late at most.
const PORTION: Duration = Duration::from_micros(500);
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

struct Options {
    kernel: String,
    initrd: String,
    cmdline: String,
    mem: u64,
    timeout: f64,
    out: Option<String>,
    verbose: bool,
}

fn options() -> Result<Options> {
    let (kernel, initrd, cmdline) = (String::new(), String::new(), String::new());
    let mut o = Options { kernel, initrd, cmdline, mem: 512, timeout: 1800.0, out: None, verbose: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value\n{HELP}"));
        match arg.as_str() {
            "--kernel" => o.kernel = value()?,
            "--initrd" => o.initrd = value()?,
            "--cmdline" => o.cmdline = value()?,
            "--mem" => o.mem = value()?.parse().context("--mem is in MiB")?,
            "--timeout" => o.timeout = value()?.parse().context("--timeout is in seconds")?,
            "--out" => o.out = Some(value()?),
            "--verbose" => o.verbose = true,
            _ => bail!("{HELP}"),
        }
    }
    if o.kernel.is_empty() || o.initrd.is_empty() {
        bail!("{HELP}");
    }
    Ok(o)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was measured.
#[derive(Default)]
struct Found {
    boot: Option<Moment>,
    samples: Vec<Sample>,
    errors: Vec<String>,
    profiles: Vec<Value>,
    done: bool,
}

fn run() -> Result<bool> {
    let o = options()?;
    let read = |path: &str| std::fs::read(path).with_context(|| format!("cannot read {path}"));
    let config = Config {
        ram: o.mem << 20,
        cpu: "x86-64-v2".into(),
        clock: ClockPolicy::Paced,
        wall_clock: 1_767_225_600,
        seed: 1,
        serial_ports: 1,
        triple_fault: TripleFault::Crash,
        payload: Payload {
            kernel: read(&o.kernel)?.into(),
            initrd: read(&o.initrd)?.into(),
            cmdline: o.cmdline.clone(),
        },
        ..Config::default()
    };
    let machine = Machine::new(config).with_context(|| format!("cannot boot {}", o.kernel))?;
    let found = drive(machine, &o)?;
    found.write(&o)?;
    Ok(found.done)
}

impl Found {
    fn write(&self, o: &Options) -> Result<()> {
        let found = self;
        let out = json!({
            "emu": "native",
            "boot": found.boot.map(|b| b.wall), "bootcpu": found.boot.map(|b| b.cpu), "bootinsns": found.boot.map(|b| b.instructions),
            "why": if found.done { "done" } else { "fail" },
            "results": found.samples, "errors": found.errors, "profiles": found.profiles,
        });
        match &o.out {
            Some(path) => std::fs::write(path, format!("{out:#}\n")).with_context(|| format!("cannot write {path}"))?,
            None => println!("{out:#}"),
        }
        Ok(())
    }
}

fn drive(mut machine: Machine, o: &Options) -> Result<Found> {
    let start = Instant::now();
    let (mut marks, mut found) = (Marks::default(), Found::default());
    let (mut portion, mut rate, mut told) = (20_000_u64, Rate::ONE, Instant::now());
    while !found.done && start.elapsed().as_secs_f64() < o.timeout {
        let (before, begin) = (machine.stats().retired, Instant::now());
        let exit = machine.run(Until::retired(before + portion));
        let (ran, took) = (machine.stats().retired - before, begin.elapsed());
        if ran >= portion / 4 {
            let nanos = took.as_nanos().max(1) as f64;
            let wanted = ran as f64 * (PORTION.as_nanos() as f64 / nanos).clamp(0.25, 2.0);
            portion = (portion / 2 + wanted as u64 / 2).clamp(5_000, 10_000_000);
            rate = Rate::new((nanos * 1000.0 / ran as f64).clamp(1.0, 1e9) as u32, 1000);
        }
        for effect in machine.take_effects() {
            if let Effect::Serial { port: 0, bytes } = effect {
                if o.verbose {
                    eprint!("{}", String::from_utf8_lossy(&bytes));
                }
                let now = Moment {
                    wall: start.elapsed().as_secs_f64(),
                    cpu: cpu_seconds(),
                    instructions: machine.stats().retired,
                };
                for mark in marks.take(&bytes, now) {
                    let ended = matches!(mark, Mark::End(_));
                    found.see(mark, now);
                    if ended && o.out.is_some() {
                        found.write(o)?;
                    }
                }
            }
        }
        let elapsed = told.elapsed();
        told += elapsed;
        let ahead = machine.pace(VmDuration::from_nanos(elapsed.as_nanos() as u64), rate).nanos();
        let wait = match exit {
            Exit::Slice if ahead < 1_000_000 => 0,
            Exit::Slice => ahead,
            Exit::Halted(VmTime::NEVER) => bail!("the guest waits for input"),
            Exit::Halted(until) => until.since(machine.now()).nanos().saturating_add(ahead),
            Exit::Off | Exit::Reset(_) => break,
            Exit::Crash(report) => bail!("the machine crashed: {report}"),
        };
        if wait > 0 {
            std::thread::sleep(Duration::from_nanos(wait).min(LONGEST_SLEEP));
        }
    }
    Ok(found)
}

impl Found {
    fn see(&mut self, mark: Mark, now: Moment) {
        match mark {
            Mark::Booted => {
                self.boot.get_or_insert(now);
                self.profile("boot");
            }
            // What ran between two programs belongs to neither.
            Mark::Begin(_) => self.profile(""),
            Mark::End(sample) => {
                self.profile(&sample.name);
                self.samples.push(sample);
            }
            Mark::Failed(text) => self.errors.push(text),
            Mark::Done => self.done = true,
        }
    }

    #[cfg(feature = "profile")]
    fn profile(&mut self, name: &str) {
        let lines = tabvisor_core::profile::take();
        if !name.is_empty() {
            let forms: Vec<Value> = lines.iter().map(|l| json!([l.form, l.hot, l.alone, l.count])).collect();
            self.profiles.push(json!({ "name": name, "forms": forms }));
        }
    }
    #[cfg(not(feature = "profile"))]
    fn profile(&mut self, _: &str) {}
}

/// CPU time of this process so far.
#[cfg(unix)]
fn cpu_seconds() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}
#[cfg(not(unix))]
fn cpu_seconds() -> f64 {
    0.0
}
