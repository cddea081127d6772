//! Runs programs of kvm-unit-tests: `kvm-unit [--cpu MODEL] [--args TEXT] FILE.flat ...` prints what each found,
//! with `--verbose` everything it said.

use anyhow::{Context, Result};
use std::process::ExitCode;
use tabvisor_tests::kvm_unit::{End, run};

fn main() -> Result<ExitCode> {
    let (mut cpu, mut arguments, mut verbose, mut files) = ("x86-64-v2".to_owned(), String::new(), false, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--cpu" => cpu = words.next().context("--cpu wants a model")?,
            "--args" => arguments = words.next().context("--args wants a text")?,
            "--verbose" => verbose = true,
            _ => files.push(word),
        }
    }
    let mut bad = 0;
    for file in &files {
        let o = run(file.as_ref(), &arguments, &cpu)?;
        let show = |l: &&str| verbose || l.starts_with("FAIL") || l.contains("Unhandled") || l.contains("abort");
        o.text.lines().filter(show).for_each(|l| println!("    {l}"));
        let end = match &o.end {
            End::Result(code) => format!("result {code}"),
            End::Other(text) => text.clone(),
        };
        let [pass, fail, skip] = ["PASS", "FAIL", "SKIP"].map(|w| o.count(w));
        println!(
            "{file} {arguments}: {pass} pass, {fail} fail, {skip} skip, {:.1} M instructions, {end}",
            o.retired as f64 / 1e6
        );
        bad += u32::from(fail > 0 || o.end != End::Result(0));
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
