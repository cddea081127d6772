//! `cargo xtask bench`: the same benchmark guest on our machine and on its peers, one process at a time and
//! interleaved, as medians of CPU and wall time between the guest's markers.
//!
//! The guest's programs and the peers' runners belong to the folder that the project shares with others;
//! `TABVISOR_SHARED` says where it is. `bench_guest` makes the guests of it, `bench_report` the tables.

use crate::bench_guest::Guest;
use crate::bench_io;
use crate::bench_options::Options;
use crate::bench_report::{self, Run};
use crate::bench_soak;
use crate::bench_who::Who;
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

/// `cargo xtask bench`.
pub fn command(args: &[String]) -> Result<()> {
    let options = Options::read(args)?;
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

/// The process that measures one machine once.
pub fn command_of(project: &Project, guest: &Guest, options: &Options, who: Who, out: &Path) -> Command {
    let programs = options.only.join(",");
    let ours = |command: &mut Command| {
        command.arg("--kernel").arg(&guest.packed).arg("--initrd").arg(&guest.initrd);
        command.args(["--mem", "512", "--timeout", &options.timeout.to_string(), "--cmdline", &options.cmdline(who)]);
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
