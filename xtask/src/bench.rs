//! `cargo xtask bench`: the same benchmark guest on our machine and on its peers, one process at a time and
//! interleaved, as medians of CPU and wall time between the guest's markers.
//!
//! The guest's programs and the peers' runners belong to the folder that the project shares with others;
//! `TABVISOR_SHARED` says where it is. `bench_guest` makes the guests of it, `bench_report` the tables.

use crate::bench_guest::Guest;
use crate::bench_io;
use crate::bench_report::{self, Run};
use crate::bench_soak;
pub use crate::bench_who::Who;
use crate::fix;
use crate::need::Use;
use crate::probe::Browser;
use crate::proc;
use crate::project::Project;
use crate::serve;
use crate::web;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const HELP: &str = "\
cargo xtask bench [options]
  --quick                   five integer programs, one round, no QEMU
  --only a,b                these programs (all)
  --where a,b               where our machine runs: node, chromium, native (all three), and with its compiler on:
                            node-jit, chromium-jit; as a domain of Xen: node-pvh, node-pv, chromium-pvh, chromium-pv
  --jit                     with its compiler on: another default for --where, node-jit,chromium-jit
  --domains                 as a domain against as a PC, compiled: other defaults, namely the programs that ask a kernel
                            for something, no peers, and --where node-jit,node-pvh,node-pv and the same in chromium
  --io                      disks in memory and timers instead: read through the kernel's cache and past it, written;
                            sleeps of 0.1 ms. Defaults as of --domains
  --peers a,b               v86, qemu, host (the programs without a machine) or none (v86,qemu,host)
  --width 64|32             the guest of our machine and of QEMU; v86 has 32-bit guests only (64)
  --rounds N                every machine runs so many times (3)
  --reps N                  repetitions of each program in a run (2)
  --timeout S               seconds a run may take (3600)
  --no-build                measure what is built
  --soak MINUTES            instead: all programs in node, compiled, until then; is the memory flat?
  --page                    instead: page open to first guest instruction, Boot to prompt, cost of an idle guest
  --profile                 instead: which instruction forms run how often, natively";

/// All programs of the guest in its own order, and the group each is reported in.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("intloop", "integer"),
    ("sieve", "integer"),
    ("coremark", "integer"),
    ("sha256", "integer"),
    ("qsort", "integer"),
    ("interp", "integer"),
    ("fib35", "integer"),
    ("gzip", "integer"),
    ("bbsha", "integer"),
    ("matmul", "float"),
    ("matmul_sse2", "float"),
    ("nbody", "float"),
    ("memcpy", "memory"),
    ("repmovs", "memory"),
    ("ptrchase", "memory"),
    ("getpid", "system"),
    ("fork", "system"),
    ("forkexec", "system"),
    ("pipe", "system"),
    ("mmap", "system"),
    ("pagefault", "system"),
    ("file", "system"),
    ("smc", "code"),
    ("bigcode", "code"),
    ("diskread", IO),
    ("diskdirect", IO),
    ("diskwrite", IO),
    ("wakeup", IO),
];
/// The group that another guest has.
const IO: &str = "io";
/// What `--domains` runs.
const SYSTEM: &str = "getpid,fork,forkexec,pipe,mmap,pagefault,file";
/// What `--quick` runs.
const QUICK: &str = "sieve,coremark,qsort,interp,fib35";

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    only: Vec<String>,
    who: Vec<Who>,
    width: u8,
    rounds: u32,
    /// Repetitions of each program in a run.
    pub reps: u32,
    /// Seconds that a run may take.
    pub timeout: u64,
    build: bool,
    profile: bool,
    page: bool,
    io: bool,
    soak: Option<u32>,
}

fn read(args: &[String]) -> Result<Options> {
    let (mut only, mut quick, mut jit, mut domains, mut places, mut peers) = (None, false, false, false, None, None);
    let (mut width, mut rounds, mut reps, mut timeout, mut build, mut profile) = (64, None, None, 3600, true, false);
    let (mut page, mut io, mut soak) = (false, false, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().map(String::as_str).with_context(|| format!("{arg} wants a value\n\n{HELP}"));
        let number = |text: &str| {
            text.parse::<u32>().ok().filter(|n| *n > 0).with_context(|| format!("{arg} {text}: not a number above 0"))
        };
        match arg.as_str() {
            "--quick" => quick = true,
            "--jit" => jit = true,
            "--domains" => domains = true,
            "--only" => only = Some(value()?.to_owned()),
            "--where" => places = Some(value()?),
            "--peers" => peers = Some(value()?),
            "--width" => {
                width = match value()? {
                    "64" => 64,
                    "32" => 32,
                    other => bail!("--width is 64 or 32, not {other}"),
                }
            }
            "--rounds" => rounds = Some(number(value()?)?),
            "--reps" => reps = Some(number(value()?)?),
            "--timeout" => timeout = number(value()?)?.into(),
            "--no-build" => build = false,
            "--profile" => profile = true,
            "--page" => page = true,
            "--io" => (io, domains) = (true, true),
            "--soak" => soak = Some(number(value()?)?),
            "--help" | "-h" => bail!("{HELP}"),
            other => bail!("bench has no option `{other}`\n\n{HELP}"),
        }
    }
    let list = |text: &str| -> Vec<String> { text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect() };
    let only = only.as_deref().or(quick.then_some(QUICK)).or((domains && !io).then_some(SYSTEM));
    let known: Vec<&str> = PROGRAMS.iter().filter(|(_, group)| (*group == IO) == io).map(|(name, _)| *name).collect();
    let only = match only {
        None | Some("all") => known.iter().map(|name| (*name).to_owned()).collect(),
        Some(text) => list(text),
    };
    if let Some(name) = only.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no program `{name}`; there are {}", known.join(", "));
    }
    let mut who = Vec::new();
    let places = places.unwrap_or(match (domains, jit) {
        (true, _) => "node-jit,node-pvh,node-pv,chromium-jit,chromium-pvh,chromium-pv",
        (false, true) => "node-jit,chromium-jit",
        (false, false) => "node,chromium,native",
    });
    for place in list(places) {
        who.push(Who::ours_named(&place).with_context(|| {
            format!(
                "--where is node, chromium or native, node or chromium with -jit, -pvh or -pv behind it, not {place}"
            )
        })?);
    }
    let peers = peers.unwrap_or(match (domains, quick) {
        (true, _) => "none",
        (false, true) => "v86,host",
        (false, false) => "v86,qemu,host",
    });
    for peer in list(peers) {
        match peer.as_str() {
            // Beside ours wherever ours runs.
            "v86" => {
                who.push(Who::V86Node);
                if who.iter().any(|who| who.in_browser()) {
                    who.push(Who::V86Chromium);
                }
            }
            "qemu" => who.push(Who::Qemu),
            "host" => who.push(Who::Host),
            "none" => {}
            other => bail!("--peers is v86, qemu, host or none, not {other}"),
        }
    }
    if io && (width == 32 || who.iter().any(|who| !who.ours_on_the_web())) {
        bail!("--io is for our machine in node and Chromium, with a guest of 64 bits");
    }
    if width == 32 && who.iter().any(|who| who.mode() == "pv") {
        bail!("a PV domain is 64 bits wide: with --width 32 leave node-pv and chromium-pv out");
    }
    let rounds = rounds.unwrap_or(if quick { 1 } else { 3 });
    Ok(Options { only, who, width, rounds, reps: reps.unwrap_or(2), timeout, build, profile, page, io, soak })
}

/// `cargo xtask bench`.
pub fn command(args: &[String]) -> Result<()> {
    let options = read(args)?;
    let project = Project::find()?;
    if options.page {
        return page(&project, &options);
    }
    let guest = if options.io {
        bench_io::guest(&project, &options.only, options.reps)?
    } else {
        Guest::prepare(&project, options.width)?
    };
    if options.profile {
        return profile(&project, &guest, &options);
    }
    if options.build {
        if options.who.iter().any(|who| who.ours_on_the_web()) {
            fix::setup(&[Use::Page])?;
            web::build(&project)?;
        }
        if options.who.contains(&Who::Native) && options.soak.is_none() {
            build_native(&project, false)?;
        }
    }
    let dir = project.at("tests/out/bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    if let Some(minutes) = options.soak {
        return bench_soak::run(&project, &guest, &options, minutes, &dir);
    }
    let mut runs = Vec::new();
    let load = load();
    for round in 1..=options.rounds {
        for &who in &options.who {
            let out = dir.join(format!("{}-{round}.json", who.name()));
            let _ = fs::remove_file(&out);
            let start = Instant::now();
            print!("round {round}  {:<13}", who.name());
            flush();
            let log = dir.join(format!("{}-{round}.log", who.name()));
            let ended = run_one(&mut command_of(&project, &guest, &options, who, &out), &log, options.timeout);
            let run = fs::read_to_string(&out).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
            let run = run.map(|value| Run::read(who, &value));
            let count = run.as_ref().map_or(0, |run| run.samples.len());
            let said = ended.err().map_or(String::new(), |error| format!("  {error:#}, see {}", log.display()));
            println!("{count:>3} samples in {:>6.1} s{said}", start.elapsed().as_secs_f64());
            for error in run.iter().flat_map(|run| &run.errors) {
                println!("         {error}");
            }
            runs.extend(run);
        }
        // A measurement that is broken off leaves what it has.
        write_report(&dir, &runs, &options, &load)?;
    }
    let report = write_report(&dir, &runs, &options, &load)?;
    println!("\n{report}");
    println!("\nin {}: report.md, report.json and what each run wrote", dir.display());
    Ok(())
}

/// Writes `report.md` and `report.json`; the text of the first.
fn write_report(dir: &Path, runs: &[Run], options: &Options, before: &str) -> Result<String> {
    let notes = [format!("load average before {before}, after {}", load())];
    let report = bench_report::make(runs, &options.only, &notes);
    fs::write(dir.join("report.md"), &report.text).context("cannot write the report")?;
    fs::write(dir.join("report.json"), format!("{:#}\n", report.json)).context("cannot write the report")?;
    Ok(report.text)
}

/// Compiles the native runner; with the profile it is a program of its own folder.
fn build_native(project: &Project, profile: bool) -> Result<()> {
    println!("bench    compiling the native machine");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--locked", "-p", "tabvisor-bench"]).current_dir(&project.root);
    // The counters cost little, but what is measured has none.
    cargo.args(if profile { &["--profile", "fast", "--features", "profile"][..] } else { &["--release"] });
    proc::run(&mut cargo).context("the native benchmark runner does not compile")
}

fn native(project: &Project, profile: &str) -> PathBuf {
    web::target_dir(project).join(profile).join(format!("tabvisor-bench{}", std::env::consts::EXE_SUFFIX))
}

fn cmdline(options: &Options, who: Who) -> String {
    if options.io {
        return bench_io::cmdline(who);
    }
    let all = options.only.len() == PROGRAMS.iter().filter(|(_, group)| *group != IO).count();
    let programs = if all { "all".to_owned() } else { options.only.join(",") };
    let console = if who.mode() == "pc" { "ttyS0" } else { "hvc0" };
    format!("console={console} loglevel=3 mitigations=off bench={programs} reps={}", options.reps)
}

/// The process that measures one machine once.
pub fn command_of(project: &Project, guest: &Guest, options: &Options, who: Who, out: &Path) -> Command {
    let programs = options.only.join(",");
    let ours = |command: &mut Command| {
        command.arg("--kernel").arg(&guest.packed).arg("--initrd").arg(&guest.initrd);
        command.args(["--mem", "512", "--timeout", &options.timeout.to_string(), "--cmdline", &cmdline(options, who)]);
        command.arg("--out").arg(out);
        if options.io {
            command.args(["--disk", &bench_io::DISK_MIB.to_string()]);
        }
    };
    let v86 = |script: &str| {
        let mut node = Command::new("node");
        node.arg(guest.shared.join(script)).args([format!("--bench={programs}"), format!("--reps={}", options.reps)]);
        node.args([format!("--out={}", out.display()), format!("--timeout={}", options.timeout), "--arch=32".into()]);
        node
    };
    let mut command = match who {
        Who::Native => {
            let mut command = Command::new(native(project, "release"));
            ours(&mut command);
            command
        }
        _ if who.ours_on_the_web() => {
            let mut node = Command::new("node");
            node.arg(project.at(if who.in_browser() { "tests/bench/chromium.mjs" } else { "tests/bench/node.mjs" }));
            ours(&mut node);
            node.args(["--mode", who.mode()]);
            if who.compiles() {
                node.args(["--compile", "yes"]);
            }
            node
        }
        Who::V86Node => v86("v86node/run.mjs"),
        Who::V86Chromium => v86("v86chrome/run.mjs"),
        _ => {
            let kind = if who == Who::Qemu { "qemu" } else { "native" };
            let mut python = Command::new("python3");
            python.arg(guest.shared.join("tools/host.py"));
            python.args(["--kind", kind, "--arch", &options.width.to_string(), "--bench", &programs]);
            python.args(["--reps", &options.reps.to_string(), "--timeout", &options.timeout.to_string()]);
            python.arg("--out").arg(out);
            python
        }
    };
    command.env("BENCH_WORK", &guest.work).current_dir(&project.root);
    command
}

/// Runs a process with its output in `log`; it is ended if it outlives its own time-out.
pub fn run_one(command: &mut Command, log: &Path, timeout: u64) -> Result<()> {
    let file = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let copy = file.try_clone().context("cannot share the log")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .spawn()
        .with_context(|| format!("cannot start `{}`", proc::show(command)))?;
    let end = Instant::now() + Duration::from_secs(timeout + 60);
    loop {
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("ended with {status}");
            }
            return Ok(());
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            bail!("did not end in time");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// `--page`: what the page itself costs. The script says what each figure is.
fn page(project: &Project, options: &Options) -> Result<()> {
    if options.build {
        fix::setup(Use::ALL)?;
        web::build(project)?;
    }
    let browser = Browser::find().browser.context("no Chromium: run `cargo xtask setup`")?;
    let server = serve::start(project, 0)?;
    let url = server.url();
    std::thread::spawn(move || server.run());
    let mut node = Command::new("node");
    node.arg(project.at("tests/bench/page.mjs")).env("TABVISOR_URL", url).env("CHROME", browser);
    proc::run(node.current_dir(&project.root)).context("the page was not measured")
}

/// `--profile`: prints the most frequent forms that have no arm of their own in the interpreter's `match`.
fn profile(project: &Project, guest: &Guest, options: &Options) -> Result<()> {
    build_native(project, true)?;
    let dir = project.at("tests/out/bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let out = dir.join("profile.json");
    let mut once = options.clone();
    once.reps = 1;
    let mut command = command_of(project, guest, &once, Who::Native, &out);
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = Command::new(native(project, "fast"));
    run_one(command.args(args), &dir.join("profile.log"), options.timeout)?;
    let text = fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is no result", out.display()))?;
    println!("{}", bench_report::profile(&value));
    println!("all forms: {}", out.display());
    Ok(())
}

fn flush() {
    use std::io::Write;
    let _ = std::io::stdout().flush();
}

/// The load of this computer, as Linux gives it.
fn load() -> String {
    fs::read_to_string("/proc/loadavg")
        .map_or("unknown".into(), |text| text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn quick_is_short_and_yields_to_what_is_said() {
        let o = parse("--quick").unwrap();
        assert_eq!((o.only.join(","), o.rounds), (QUICK.to_owned(), 1));
        assert_eq!(o.who, [Who::Node, Who::Chromium, Who::Native, Who::V86Node, Who::V86Chromium, Who::Host]);
        let o = parse("--quick --jit").unwrap();
        assert_eq!(o.who, [Who::NodeJit, Who::ChromiumJit, Who::V86Node, Who::V86Chromium, Who::Host]);
        let o = parse("--where node,node-jit --peers v86").unwrap();
        assert_eq!(o.who, [Who::Node, Who::NodeJit, Who::V86Node]);
        let o = parse("--quick --only fib35,fork --rounds 2 --where native --peers qemu").unwrap();
        assert_eq!((o.only.join(","), o.rounds, o.who), ("fib35,fork".into(), 2, vec![Who::Native, Who::Qemu]));
        assert!(cmdline(&parse("").unwrap(), Who::Node).contains("bench=all reps=2"));
    }

    #[test]
    fn domains_are_measured_beside_the_pc() {
        let o = parse("--domains --where node-jit,node-pvh,node-pv").unwrap();
        assert_eq!(
            (o.only.join(",").as_str(), o.who.as_slice()),
            (SYSTEM, &[Who::NodeJit, Who::NodePvh, Who::NodePv][..])
        );
        assert!(cmdline(&o, Who::NodePv).starts_with("console=hvc0") && Who::NodePv.compiles());
        assert_eq!(parse("--domains").unwrap().who.len(), 6);
    }

    #[test]
    fn disks_and_timers_have_their_own_guest() {
        let o = parse("--io --where node-jit,node-pvh").unwrap();
        assert_eq!(o.only, ["diskread", "diskdirect", "diskwrite", "wakeup"]);
        assert!(cmdline(&o, Who::NodePvh).contains("/bench/run"));
        assert_eq!(parse("--io --only wakeup").unwrap().only, ["wakeup"]);
        assert!(!parse("").unwrap().only.contains(&"wakeup".to_owned()));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
            ("--only fib36", "no program `fib36`"),
            ("--where moon", "not moon"),
            ("--peers bochs", "not bochs"),
            ("--width 16", "not 16"),
            ("--rounds 0", "not a number above 0"),
            ("--rounds", "wants a value"),
            ("--domains --width 32", "64 bits wide"),
            ("--io --where native", "in node and Chromium"),
            ("--io --only fork", "no program `fork`; there are diskread"),
            ("--only wakeup", "no program `wakeup`"),
            ("--bogus", "--bogus"),
        ] {
            let error = format!("{:#}", parse(line).unwrap_err());
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
