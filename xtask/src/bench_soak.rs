//! `cargo xtask bench --soak`: all programs again and again in node, compiled, and how much memory the process has.

use crate::bench::{command_of, run_one};
use crate::bench_guest::Guest;
use crate::bench_options::Options;
use crate::bench_who::Who;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Memory that the second half of a run may have more than the second quarter, as a part of it: then it is flat. The first
/// quarter fills the guest's RAM and its caches.
const FLAT: f64 = 0.05;
/// Figures in a run.
const FIGURES: u64 = 120;

/// Runs for so many minutes. An error: memory grows, or a program failed.
pub fn run(project: &Project, guest: &Guest, options: &Options, minutes: u32, dir: &Path) -> Result<()> {
    let (out, log) = (dir.join("soak.json"), dir.join("soak.log"));
    let seconds = u64::from(minutes) * 60;
    let mut endless = options.clone();
    (endless.reps, endless.timeout) = (1_000_000, seconds);
    let mut command = command_of(project, guest, &endless, Who::NodeJit, &out);
    command.args(["--soak", &(seconds / FIGURES).max(1).to_string()]);
    println!("bench    {minutes} minutes of load; {} has the figures so far", out.display());
    run_one(&mut command, &log, seconds).with_context(|| format!("see {}", log.display()))?;
    let text = fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is no result", out.display()))?;
    let resident: Vec<f64> =
        value["memory"].as_array().into_iter().flatten().filter_map(|m| m["resident"].as_f64()).collect();
    let Some(quarters) = quarters(&resident) else {
        bail!("{} has no figures of memory: the run was too short", out.display());
    };
    println!("         most memory in each quarter, MB: {quarters:.0?}");
    println!(
        "         {} repetitions of programs, code: {}",
        value["results"].as_array().map_or(0, Vec::len),
        value["code"]
    );
    if !flat(quarters) {
        bail!("memory grows");
    }
    Ok(())
}

/// The largest figure of each quarter.
fn quarters(figures: &[f64]) -> Option<[f64; 4]> {
    let quarter = figures.len() / 4;
    let part = |n: usize| figures.iter().skip(n * quarter).take(quarter).copied().fold(0.0, f64::max);
    (quarter > 0).then(|| [0, 1, 2, 3].map(part))
}

fn flat([_, before, third, fourth]: [f64; 4]) -> bool {
    third.max(fourth) <= before * (1.0 + FLAT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_not_flat() {
        assert_eq!(quarters(&[1.0, 2.0, 3.0]), None);
        assert_eq!(quarters(&[1.0, 5.0, 7.0, 6.0, 7.2, 7.0, 7.1, 7.3]), Some([5.0, 7.0, 7.2, 7.3]));
        assert!(flat([5.0, 7.0, 7.2, 7.3]));
        assert!(!flat([5.0, 7.0, 7.2, 7.4]));
    }
}
