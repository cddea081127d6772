//! Runs the flat programs of kvm-unit-tests (gitlab.com/kvm-unit-tests), built elsewhere, on a whole machine: each
//! is a Multiboot kernel that reports on the first serial port and ends through the test device.

use anyhow::{Context, Result};
use std::path::Path;
use tabvisor_core::time::VmTime;
use tabvisor_devices::effect::Effect;
use tabvisor_devices::machine::{ClockPolicy, Config, Exit, Machine, Payload, Rate, TripleFault, Until};

/// Guest RAM in bytes.
const RAM: u64 = 512 << 20;
/// What the suite's own library wants to know of the machine, as the file it takes as a Multiboot module.
const ENVIRONMENT: &str = "NR_CPUS=1\nMEMSIZE=512\nTEST_DEVICE=1\nBOOTLOADER=0\n";
/// Instructions after which a program counts as hung.
const BUDGET: u64 = 15_000_000_000;
const SLICE: u64 = 50_000_000;
/// Guest time after which one counts as hung that only waits.
const PATIENCE: VmTime = VmTime::from_nanos(600_000_000_000);

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this result; the suite's own `exit` means 0 for "all well".
    Result(u32),
    /// In another way: reset, crash, never.
    Other(String),
}

/// What came of a program.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Everything it wrote.
    pub text: String,
    /// How it ended.
    pub end: End,
    /// Instructions.
    pub retired: u64,
}

impl Outcome {
    /// Lines that begin with `word`: its checks by result.
    pub fn count(&self, word: &str) -> usize {
        self.text.lines().filter(|l| l.starts_with(word)).count()
    }
}

/// Runs a program with arguments on a CPU model.
///
/// # Errors
/// If the file cannot be read or is no Multiboot kernel.
pub fn run(program: &Path, arguments: &str, cpu: &str) -> Result<Outcome> {
    let kernel = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let mut machine = Machine::new(Config {
        ram: RAM,
        cpu: cpu.into(),
        clock: ClockPolicy::Deterministic(Rate::ONE),
        wall_clock: 0,
        seed: 1,
        serial_ports: 1,
        triple_fault: TripleFault::Crash,
        test_device: true,
        payload: Payload {
            kernel: kernel.into(),
            initrd: ENVIRONMENT.as_bytes().to_vec().into(),
            cmdline: arguments.into(),
        },
        ..Config::default()
    })?;
    let (mut text, mut result) = (Vec::new(), None);
    let end = loop {
        let exit = machine.run(Until::retired(machine.stats().retired + SLICE));
        for effect in machine.take_effects() {
            match effect {
                Effect::Serial { bytes, .. } => text.extend(bytes),
                Effect::TestEnd(code) => result = Some(code),
                _ => {}
            }
        }
        let what = match (exit, result) {
            (Exit::Off, Some(code)) => break End::Result(code),
            (Exit::Slice, _) if machine.stats().retired < BUDGET && machine.now() < PATIENCE => continue,
            (Exit::Slice, _) => format!("hangs\n{}", machine.report()),
            (exit, _) => format!("{exit:?}"),
        };
        break End::Other(what);
    };
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    Ok(Outcome { text, end, retired: machine.stats().retired })
}
