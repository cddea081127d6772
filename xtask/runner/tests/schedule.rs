//! Domains on hosts that are busy in ways a number makes up (`--schedule`).

mod guest;

use guest::Guest;
use std::process::{Command, Stdio};

/// The hash of a domain's state after some way into its kernel.
fn state(dir: &std::path::Path, seed: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_tabvisor-runner"))
        .args(guest::options(dir, "pv"))
        .args(["--vcpus", "2", "--schedule", seed, "--hash-at", "40M", "--max-insns", "40M"])
        .stdin(Stdio::null())
        .output()
        .expect("the runner starts");
    let said = String::from_utf8_lossy(&out.stderr);
    let line = said.lines().find(|line| line.contains("state at 40000000 (wanted 40000000)"));
    line.unwrap_or_else(|| panic!("no hash in {said}")).to_owned()
}

#[test]
fn a_schedule_is_the_same_run_each_time() {
    let Some(dir) = guest::image("linux64") else { return };
    let first = state(&dir, "3");
    assert_eq!(state(&dir, "3"), first);
    assert_ne!(state(&dir, "4"), first);
}

#[test]
fn linux_boots_whatever_the_host_does() {
    for (mode, vcpus, seed) in [("pv", "2", "1"), ("pvh", "4", "2")] {
        let Some(mut guest) = Guest::linux64(mode, &["--vcpus", vcpus, "--schedule", seed]) else { return };
        let boot = guest.booted();
        assert!(!boot.contains("BUG:") && !boot.contains("stalls on"), "{boot}");
        assert_eq!(guest.answer("nproc"), vcpus);
        guest.power_off();
    }
}
