//! `cargo xtask test`: every check and test, one after the other, and a table at the end.
//!
//! A failing step does not stop the ones after it: one run shows all that is wrong.

use crate::count::Count;
use crate::fix;
use crate::image;
use crate::need::Use;
use crate::probe::{self, Browser};
use crate::proc;
use crate::project::{Project, WASM_PACK};
use crate::serve;
use crate::version::{self, Version};
use crate::web;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One line of the table.
struct Step {
    name: &'static str,
    what: &'static str,
    work: fn(&Project) -> Result<Count>,
}

const STEPS: &[Step] = &[
    Step { name: "format", what: "rustfmt has nothing to change", work: format },
    Step { name: "lint", what: "clippy has nothing to say", work: lint },
    Step { name: "page", what: "the page builds", work: page },
    Step { name: "types", what: "the page's JavaScript agrees with its types", work: types },
    Step { name: "scripts", what: "the page's JavaScript modules by themselves", work: scripts },
    Step { name: "guests", what: "the guest images build", work: guests },
    Step { name: "native", what: "tests on this machine", work: native },
    Step { name: "node", what: "WebAssembly tests in node", work: node },
    Step { name: "chromium", what: "WebAssembly tests in headless Chromium", work: chromium },
    Step { name: "end-to-end", what: "the page in headless Chromium", work: end_to_end },
];

/// Sets up, then runs the named steps, or all.
pub fn command(args: &[String]) -> Result<ExitCode> {
    if args.iter().any(|arg| arg == "--list") {
        STEPS.iter().for_each(|step| println!("{:<12} {}", step.name, step.what));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = args.iter().find(|arg| STEPS.iter().all(|step| step.name != **arg)) {
        bail!("there is no step `{unknown}`; `cargo xtask test --list` names them");
    }
    let start = Instant::now();
    fix::setup(Use::ALL)?;
    let project = Project::find()?;
    web::link_npm(&project)?;
    let mut rows = Vec::new();
    for step in STEPS.iter().filter(|step| args.is_empty() || args.iter().any(|arg| arg == step.name)) {
        println!("\n=== {}: {}", step.name, step.what);
        let begin = Instant::now();
        let (count, note) = match (step.work)(&project) {
            Ok(count) if count.total() == 0 => (Count { failed: 1, ..count }, "ran no test".to_owned()),
            Ok(count) => (count, String::new()),
            Err(error) => {
                println!("error: {error:#}");
                (Count { failed: 1, ..Count::default() }, format!("{error:#}"))
            }
        };
        println!("=== {}: {} ({:.1} s)", step.name, word(&count), begin.elapsed().as_secs_f64());
        rows.push(Row { name: step.name, count, time: begin.elapsed(), note });
    }
    print!("{}", table(&rows, start.elapsed()));
    let failed = rows.iter().any(|row| row.count.failed > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Row {
    name: &'static str,
    count: Count,
    time: Duration,
    note: String,
}

fn word(count: &Count) -> &'static str {
    if count.failed == 0 { "ok" } else { "FAILED" }
}

/// The summary; its last line stands alone and gives the sums.
fn table(rows: &[Row], time: Duration) -> String {
    let mut text =
        format!("\n{:<12} {:<7} {:>7} {:>7} {:>7} {:>8}\n", "step", "", "passed", "failed", "skipped", "time");
    let mut sum = Count::default();
    for Row { name, count, time, note } in rows {
        let (word, seconds) = (word(count), time.as_secs_f64());
        let numbers = format!("{:>7} {:>7} {:>7}", count.passed, count.failed, count.skipped);
        // One line per row: of a long message the first line says what it is.
        let note = note.lines().next().unwrap_or_default();
        text.push_str(format!("{name:<12} {word:<7} {numbers} {seconds:>6.1} s  {note}").trim_end());
        text.push('\n');
        sum += *count;
    }
    text.push_str(&format!("in all {:.0} s\n\n{} passed, {} failed", time.as_secs_f64(), sum.passed, sum.failed));
    if sum.skipped > 0 {
        text.push_str(&format!(", {} skipped", sum.skipped));
    }
    text.push('\n');
    text
}

/// A check that either holds or does not.
fn holds(commands: Vec<Command>) -> Result<Count> {
    let mut count = Count::default();
    for mut command in commands {
        println!("$ {}", proc::show(&command));
        if proc::status(&mut command)?.success() {
            count.passed += 1;
        } else {
            count.failed += 1;
        }
    }
    Ok(count)
}

/// Runs a test runner, passes its output on and counts what it reports.
fn counted(command: &mut Command) -> Result<Count> {
    println!("$ {}", proc::show(command));
    counted_to(command, &mut std::io::stdout(), &mut std::io::stderr())
}

fn counted_to(command: &mut Command, stdout: &mut impl Write, stderr: &mut (impl Write + Send)) -> Result<Count> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", proc::show(command)))?;
    let count = Mutex::new(Count::default());
    let out = child.stdout.take().expect("standard output is piped");
    let err = child.stderr.take().expect("standard error is piped");
    std::thread::scope(|scope| {
        scope.spawn(|| pass_on(err, stderr, &count));
        pass_on(out, stdout, &count);
    });
    let status = child.wait()?;
    let mut count = count.into_inner().expect("no thread panicked");
    if !status.success() && count.failed == 0 {
        writeln!(stdout, "`{}` ended with {status}", proc::show(command))?;
        count.failed = 1;
    }
    Ok(count)
}

fn pass_on(from: impl Read, to: &mut impl Write, count: &Mutex<Count>) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        count.lock().expect("no thread panicked").line(&String::from_utf8_lossy(&line));
        let _ = to.write_all(&line); // a closed terminal must not end the tests
        line.clear();
    }
    let _ = to.flush();
}

fn cargo(project: &Project, args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(&project.root);
    command
}

fn format(project: &Project) -> Result<Count> {
    let mut checks = vec![cargo(project, &["fmt", "--all", "--check"])];
    if project.at("images/hello/Cargo.toml").exists() {
        checks.push(cargo(project, &["fmt", "--manifest-path", "images/hello/Cargo.toml", "--check"]));
    }
    holds(checks)
}

fn lint(project: &Project) -> Result<Count> {
    let all = ["clippy", "--quiet", "--locked", "--workspace", "--exclude", "tabvisor-web", "--all-targets"];
    let web =
        ["clippy", "--quiet", "--locked", "-p", "tabvisor-web", "--all-targets", "--target", "wasm32-unknown-unknown"];
    // The page's other module has code of its own.
    let xen = ["--features", "xen"];
    let strict = ["--", "-D", "warnings"];
    let runs: [&[&[&str]]; 3] = [&[&all, &strict], &[&web, &strict], &[&web, &xen, &strict]];
    holds(runs.iter().map(|parts| cargo(project, &parts.concat())).collect())
}

fn page(project: &Project) -> Result<Count> {
    web::build(project)?;
    Ok(Count { passed: 1, ..Count::default() })
}

fn types(project: &Project) -> Result<Count> {
    let tsc = probe::npm_file(project, "typescript/bin/tsc")?.context("no tsc: run `cargo xtask setup`")?;
    let mut command = Command::new("node");
    command.arg(tsc).args(["--noEmit", "-p", "www"]).current_dir(&project.root);
    holds(vec![command])
}

fn scripts(project: &Project) -> Result<Count> {
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=spec"]).args(scripts_in(&project.at("www/tests"))?);
    counted(command.current_dir(&project.root))
}

/// The test scripts of a folder, by name.
fn scripts_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    scripts.sort();
    Ok(scripts)
}

fn guests(_: &Project) -> Result<Count> {
    let mut count = Count::default();
    for name in ["hello", "linux64", "linux32", "disk64", "debian64", "grub64"] {
        match image::build(name) {
            Err(error) if error.is::<image::NotHere>() => {
                println!("SKIPPED: {name}: {error:#}");
                count.skipped += 1;
            }
            Ok(path) => {
                println!("{name}: {}", path.display());
                count.passed += 1;
            }
            Err(error) => {
                println!("error: {name}: {error:#}");
                count.failed += 1;
            }
        }
    }
    Ok(count)
}

fn native(project: &Project) -> Result<Count> {
    // Every package is tested even if one fails.
    counted(&mut cargo(project, &["test", "--locked", "--workspace", "--no-fail-fast"]))
}

fn node(project: &Project) -> Result<Count> {
    counted(wasm_pack(project)?.args(["--node"]).arg(project.at("web")))
}

fn chromium(project: &Project) -> Result<Count> {
    let driver = Browser::find().driver.context("no chromedriver: run `cargo xtask setup`")?;
    counted(wasm_pack(project)?.args(["--headless", "--chrome", "--chromedriver"]).arg(driver).arg(project.at("web")))
}

/// `wasm-pack test`, with our wasm-bindgen first in `PATH`: it takes that one if the version is right.
fn wasm_pack(project: &Project) -> Result<Command> {
    let pack = Version::parse(WASM_PACK).context("our own pin is a version")?;
    let bindgen = version::locked(&project.read("Cargo.lock")?, "wasm-bindgen")?;
    let tool = |package: &str, binary: &str, want: &Version| {
        probe::built_tool(project, package, binary, want)
            .with_context(|| format!("no {package} {want}: run `cargo xtask setup`"))
    };
    let program = tool("wasm-pack", "wasm-pack", &pack)?;
    let folder = tool("wasm-bindgen-cli", "wasm-bindgen", &bindgen)?
        .parent()
        .map(PathBuf::from)
        .context("a tool is in a folder")?;
    let mut command = Command::new(program);
    command.current_dir(&project.root).env("PATH", project.path_with(&[folder])?);
    command.env("WASM_PACK_CACHE", project.cache.join("wasm-pack"));
    // A boot takes longer than the 20 s and a busy machine longer than the 5 s that are usual.
    command.env("WASM_BINDGEN_TEST_TIMEOUT", "300").env("WASM_BINDGEN_TEST_DRIVER_TIMEOUT", "60");
    command.args(["test", "--mode", "no-install"]);
    Ok(command)
}

/// The scripts of `tests/web` under node's own test runner, against a server in this process.
fn end_to_end(project: &Project) -> Result<Count> {
    let browser = Browser::find().browser.context("no Chromium: run `cargo xtask setup`")?;
    let scripts = scripts_in(&project.at("tests/web"))?;
    let server = serve::start(project, 0)?;
    let url = server.url();
    std::thread::spawn(move || server.run());
    let mut command = Command::new("node");
    // One script at a time: each starts a browser and measures.
    command.args(["--test", "--test-concurrency=1", "--test-reporter=spec"]).args(scripts);
    command.env("TABVISOR_URL", url).env("CHROME", browser).current_dir(&project.root);
    counted(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, passed: u64, failed: u64, skipped: u64, note: &str) -> Row {
        Row { name, count: Count { passed, failed, skipped }, time: Duration::from_secs(2), note: note.into() }
    }

    #[test]
    fn the_last_line_gives_the_sums_alone() {
        let text = table(&[row("a", 3, 0, 0, ""), row("b", 2, 1, 0, "first\nsecond")], Duration::from_secs(5));
        assert_eq!(text.lines().last(), Some("5 passed, 1 failed"));
        assert!(text.contains("FAILED") && text.contains("first") && !text.contains("second"), "{text}");
        let text = table(&[row("a", 3, 0, 2, "")], Duration::from_secs(5));
        assert_eq!(text.lines().last(), Some("3 passed, 0 failed, 2 skipped"));
    }

    #[cfg(unix)]
    #[test]
    fn a_runner_that_dies_without_counting_has_failed() {
        // Into a sink: what it prints must not be counted by the run this test is part of.
        let count = |script: &str| {
            let mut command = Command::new("sh");
            counted_to(command.args(["-c", script]), &mut std::io::sink(), &mut std::io::sink()).expect("sh starts")
        };
        assert_eq!(count("exit 7").failed, 1);
        assert_eq!(count("echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 101").failed, 2);
        let good = count(
            "echo 'test result: ok. 4 passed; 0 failed; 0 ignored'; echo 'test result: ok. 1 passed; 0 failed' >&2",
        );
        assert_eq!((good.passed, good.failed), (5, 0));
    }

    #[test]
    fn an_unknown_step_is_named() {
        assert!(command(&["nativ".into()]).unwrap_err().to_string().contains("nativ"));
    }
}
