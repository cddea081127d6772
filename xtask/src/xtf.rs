//! `cargo xtask xtf FOLDER`: the images of the Xen Test Framework (xenbits.xen.org, xtf.git), built elsewhere, each in
//! a machine of its own, and what came of them beside what real Xen gives: `tests/xtf/expected.txt`.
//!
//! A built tree has `tests/NAME/info.json`, the images `test-ENV-NAME` and a domain's settings for each in
//! `test-ENV-NAME.cfg`, or in several `test-ENV-NAME~VARIATION.cfg` that start the same image differently.

use crate::project::Project;
use crate::run;
use crate::xtf_expected::{Expected, List, Verdict};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const HELP: &str = "\
cargo xtask xtf FOLDER [NAME ...]
  FOLDER   a built tree of the Xen Test Framework
  NAME     run these tests only (`selftest`, `pv-iopl~vmassist`), and show what they print";

/// What the images are linked for, and the runner's mode that can start them.
const ENVIRONMENTS: [(&str, Option<&str>); 6] = [
    ("pv64", Some("pv")),
    ("hvm64", Some("pvh")),
    ("hvm32", Some("pvh")),
    ("hvm32pae", Some("pvh")),
    ("hvm32pse", Some("pvh")),
    // 32-bit paravirtualized domains need an ABI of their own, which there is none of here.
    ("pv32pae", None),
];
/// A test that runs longer hangs; the longest takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(60);
const BUDGET: &str = "20G";
/// Lines of its output that are shown of a test that surprises.
const TAIL: usize = 12;

/// One image with one domain's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    /// With `~` and the variation, if there is one.
    name: String,
    env: String,
    image: PathBuf,
    cmdline: String,
    vcpus: String,
    memory: String,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    /// In the framework's words (`SUCCESS`, `SKIP`, `ERROR`, `FAILURE`) or ours (`PANIC`, `TIMEOUT`, `NOTHING`).
    result: String,
    /// What it printed.
    text: String,
    /// What the runner had to say.
    remarks: String,
}

/// The name of the environments' mode, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Support {
    Mode(&'static str),
    None(String),
}

/// Runs the tests of a folder, or those that are named.
pub fn command(args: &[String]) -> Result<ExitCode> {
    let (folder, names) = match args.split_first() {
        Some((folder, names)) if !folder.starts_with('-') => (Path::new(folder), names),
        _ => bail!("{HELP}"),
    };
    let project = Project::find()?;
    let mut tests = find(folder)?;
    if let Some(unknown) = names.iter().find(|name| tests.iter().all(|test| !test.is_called(name))) {
        bail!("{} has no test `{unknown}`", folder.display());
    }
    tests.retain(|test| names.is_empty() || names.iter().any(|name| test.is_called(name)));
    let list = List::parse(&project.read(LIST)?).with_context(|| format!("in {LIST}"))?;
    let runner = run::runner(&project)?;
    let support = support(&runner)?;
    let (tests, left): (Vec<Test>, Vec<Test>) =
        tests.into_iter().partition(|test| matches!(support.get(test.env.as_str()), Some(Support::Mode(_))));
    let outcomes = all(&tests, |test| match &support[test.env.as_str()] {
        Support::Mode(mode) => start(&runner, mode, test),
        Support::None(_) => unreachable!("only tests with a mode are run"),
    });
    let mut sums = BTreeMap::new();
    for (test, outcome) in tests.iter().zip(&outcomes) {
        let expected = list.find(&test.name, &test.env);
        let verdict = Verdict::of(expected, &outcome.result);
        println!("{}", row(test, outcome, expected, verdict));
        if !names.is_empty() {
            println!("{}\n{}", outcome.text.trim_end(), outcome.remarks.trim_end());
        } else if verdict.is_surprise() {
            outcome.tail().for_each(|line| println!("    | {line}"));
        }
        *sums.entry(verdict).or_insert(0) += 1;
    }
    for (env, _) in ENVIRONMENTS {
        let count = left.iter().filter(|test| test.env == env).count();
        if let (Some(Support::None(why)), 1..) = (support.get(env), count) {
            println!("{count} tests for {env} not run: {why}");
        }
    }
    println!("\n{}", summary(&sums, left.len()));
    let surprises: usize = sums.iter().filter(|(verdict, _)| verdict.is_surprise()).map(|(_, n)| n).sum();
    Ok(if surprises > 0 || tests.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What real Xen gives.
const LIST: &str = "tests/xtf/expected.txt";

impl Test {
    /// By its whole name, or by the part that its variations share.
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.split('~').next() == Some(name)
    }
}

fn row(test: &Test, outcome: &Outcome, expected: Option<&Expected>, verdict: Verdict) -> String {
    format!("{:<26} {:<9} {:<8} {}", test.name, test.env, outcome.result, Note(expected, verdict)).trim_end().to_owned()
}

/// What there is to say of a result.
struct Note<'a>(Option<&'a Expected>, Verdict);

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(e) = self.0 else { return write!(f, "UNEXPECTED: not in {LIST}") };
        match self.1 {
            Verdict::Good => Ok(()),
            Verdict::Known => write!(f, "known failure: {}", e.why),
            Verdict::Passes => write!(f, "UNEXPECTED: a known failure that passes; take its mark out of {LIST}"),
            Verdict::Bad => match &e.known {
                None => write!(f, "UNEXPECTED: expected {}", e.results()),
                Some(known) => write!(f, "UNEXPECTED: expected {}, known to end with {known}", e.results()),
            },
        }
    }
}

fn summary(sums: &BTreeMap<Verdict, usize>, left: usize) -> String {
    let count = |verdict| sums.get(&verdict).copied().unwrap_or(0);
    let mut text = format!("{} as expected, {} known failures", count(Verdict::Good), count(Verdict::Known));
    let surprises = count(Verdict::Bad) + count(Verdict::Passes);
    text.push_str(&format!(", {surprises} unexpected, {left} not run"));
    text
}

impl Outcome {
    /// The end of what the test printed; of one that printed nothing, the beginning of the runner's remarks.
    fn tail(&self) -> impl Iterator<Item = &str> {
        let lines = |text| -> Vec<&str> { str::lines(text).filter(|line| !line.trim().is_empty()).collect() };
        let own = lines(&self.text);
        let (lines, skipped) = match own.len() {
            0 => (lines(&self.remarks), 0),
            n => (own, n.saturating_sub(TAIL)),
        };
        lines.into_iter().skip(skipped).take(TAIL)
    }
}

/// The tests of a built tree, by name.
fn find(folder: &Path) -> Result<Vec<Test>> {
    let dir = folder.join("tests");
    let entries = std::fs::read_dir(&dir)
        .with_context(|| format!("cannot read {}; is {} a built tree?", dir.display(), folder.display()))?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    folders.sort();
    let mut tests = Vec::new();
    for dir in folders.iter().filter(|dir| dir.join("info.json").is_file()) {
        tests.extend(variations(dir).with_context(|| format!("in {}", dir.display()))?);
    }
    ensure!(!tests.is_empty(), "{} has no built tests", dir.display());
    Ok(tests)
}

/// All tests of one folder.
fn variations(dir: &Path) -> Result<Vec<Test>> {
    let info: Value = serde_json::from_slice(&std::fs::read(dir.join("info.json"))?)?;
    let name = info["name"].as_str().context("info.json has no name")?;
    let words =
        |key: &str| -> Vec<&str> { info[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
    let mut suffixes: Vec<String> = words("variations").iter().map(|v| format!("~{v}")).collect();
    if suffixes.is_empty() {
        suffixes.push(String::new());
    }
    let mut tests = Vec::new();
    for env in words("environments") {
        let image = dir.join(format!("test-{env}-{name}"));
        for suffix in suffixes.iter().filter(|_| image.is_file()) {
            let settings = std::fs::read_to_string(dir.join(format!("test-{env}-{name}{suffix}.cfg")))?;
            let get = |key, or: &str| setting(&settings, key).unwrap_or(or).to_owned();
            tests.push(Test {
                name: format!("{name}{suffix}"),
                env: env.to_owned(),
                image: image.clone(),
                cmdline: get("cmdline", ""),
                vcpus: get("vcpus", "1"),
                memory: get("memory", "128"),
            });
        }
    }
    Ok(tests)
}

/// A setting of a domain: `key="text"` or `key=number`; the last one counts. Source: xl.cfg(5).
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"'))
    };
    text.lines().rev().find_map(value)
}

/// Which mode starts which environment: the runner is asked whether it has it.
fn support(runner: &Path) -> Result<BTreeMap<&'static str, Support>> {
    let mut all = BTreeMap::new();
    for (env, mode) in ENVIRONMENTS {
        let support = match mode {
            None => Support::None("there is no mode for them".into()),
            Some(mode) => {
                let out = Command::new(runner).args(["--mode", mode]).stdin(Stdio::null()).output()?;
                if String::from_utf8_lossy(&out.stderr).contains("there is no mode") {
                    Support::None(format!("the runner has no mode {mode}"))
                } else {
                    Support::Mode(mode)
                }
            }
        };
        all.insert(env, support);
    }
    Ok(all)
}

/// Runs all tests, as many at a time as there are processors; the outcomes in the tests' order.
fn all(tests: &[Test], start: impl Fn(&Test) -> Outcome + Sync) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Mutex<Option<Outcome>>> = tests.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(test) = tests.get(at) else { break };
                    *outcomes[at].lock().expect("no thread panics") = Some(start(test));
                }
            });
        }
    });
    outcomes.into_iter().map(|o| o.into_inner().expect("no thread panics").expect("each was run")).collect()
}

/// Runs one test to its end, or to the end of patience.
fn start(runner: &Path, mode: &str, test: &Test) -> Outcome {
    let mut command = Command::new(runner);
    command.args(["--mode", mode, "--mem", &test.memory, "--vcpus", &test.vcpus, "--cmdline", &test.cmdline]);
    command.args(["--deterministic", "--max-insns", BUDGET, "--kernel"]).arg(&test.image);
    watch(&mut command, PATIENCE).unwrap_or_else(|error| Outcome {
        result: "NOTHING".into(),
        text: String::new(),
        remarks: error.to_string(),
    })
}

fn watch(command: &mut Command, patience: Duration) -> Result<Outcome> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut out, mut err) = (child.stdout.take().context("it is piped")?, child.stderr.take().context("it is piped")?);
    let reader = |from: &mut dyn Read| {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes); // what was read before an error is what there is
        String::from_utf8_lossy(&bytes).replace('\r', "")
    };
    let end = Instant::now() + patience;
    std::thread::scope(|scope| {
        let (said, why) = (scope.spawn(move || reader(&mut out)), scope.spawn(move || reader(&mut err)));
        let mut late = false;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                child.kill()?;
                late = true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let said = said.join().expect("reading does not panic");
        let result = if late { "TIMEOUT".into() } else { result(&said) };
        Ok(Outcome { result, text: said, remarks: why.join().expect("reading does not panic") })
    })
}

/// What a test said of itself.
fn result(text: &str) -> String {
    let of = |line: &str| {
        let word = line.split_once("Test result: ")?.1.split_whitespace().next()?;
        Some(word.to_owned())
    };
    text.lines()
        .rev()
        .find_map(of)
        .unwrap_or_else(|| if text.contains("PANIC:") { "PANIC" } else { "NOTHING" }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_tree_is_read_with_its_variations() {
        let root = std::env::temp_dir().join(format!("tabvisor-xtf-{}", std::process::id()));
        let dir = root.join("tests/pv-iopl");
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("info.json", r#"{"name":"pv-iopl","environments":["pv64","pv32pae"],"variations":["a","b"]}"#);
        write("test-pv64-pv-iopl", "");
        write("test-pv64-pv-iopl~a.cfg", "vcpus=1 \nmemory=128\nkernel=\"/elsewhere/x\"\ncmdline=\"one\"\n");
        write("test-pv64-pv-iopl~b.cfg", "vcpus = 2\n# cmdline=\"no\"\ncmdline=\"two words\"\n");
        let tests = find(&root).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        let seen: Vec<_> = tests.iter().map(|t| [&t.name, &t.env, &t.cmdline, &t.vcpus].map(String::as_str)).collect();
        assert_eq!(seen, [["pv-iopl~a", "pv64", "one", "1"], ["pv-iopl~b", "pv64", "two words", "2"]]);
        assert_eq!(tests[0].image, dir.join("test-pv64-pv-iopl"));
        assert!(tests[0].is_called("pv-iopl") && tests[0].is_called("pv-iopl~a") && !tests[0].is_called("pv-iopl~b"));
        assert!(find(&root).unwrap_err().to_string().contains("a built tree?"));
    }

    #[test]
    fn the_last_word_of_a_test_counts() {
        assert_eq!(result("Test: a\nTest result: SUCCESS\n"), "SUCCESS");
        assert_eq!(result("Warning\nTest result: SUCCESS with warnings\nTest result: FAILURE\n"), "FAILURE");
        assert_eq!(result("PANIC: Unhandled exception\n"), "PANIC");
        assert_eq!(result("--- Xen Test"), "NOTHING");
    }

    #[cfg(unix)]
    #[test]
    fn a_test_that_hangs_is_ended() {
        let sh = |script: &str| watch(Command::new("sh").args(["-c", script]), Duration::from_millis(500)).unwrap();
        assert_eq!(sh("echo Test result: SKIP; echo why >&2").result, "SKIP");
        let hung = sh("echo begins; exec sleep 600");
        assert_eq!((hung.result.as_str(), hung.text.as_str()), ("TIMEOUT", "begins\n"));
    }
}
