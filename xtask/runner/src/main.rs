//! Boots an image natively, the guest's first serial port in the terminal: the quickest loop for work on
//! `core` and `devices`. Started by `cargo xtask run`, which names the files.
//!
//! Ctrl-A is the prefix for the runner's own keys (`keys`); everything else, Ctrl-C too, goes to the guest.

mod command;
mod console;
mod disks;
mod drive;
mod keys;
mod options;
mod picture;
mod schedule;
mod share;
mod speed;
mod terminal;

use anyhow::{Context, Result};
use drive::{End, Runner};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tabvisor_devices::backend::net::NicConfig;
use tabvisor_devices::boot;
use tabvisor_devices::machine::{ClockPolicy, Config, Machine, Payload, Rate, TripleFault};

/// What the real-time clock of a repeatable run shows at first, and what its random numbers are made
/// from: the same as in the page, so that runs can be compared.
const FIXED_WALL_CLOCK: i64 = 0;
const FIXED_SEED: u64 = 1;

fn main() -> ExitCode {
    match run() {
        Ok(End::Crash) => ExitCode::from(2),
        Ok(End::Test(result)) if result != 0 => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<End> {
    let options = options::read(std::env::args().skip(1))?;
    let repeatable = options.deterministic || options.schedule.is_some();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (configs, files) = disks::open(&options.disks)?;
    let config = Config {
        mode: options.mode,
        vcpus: options.vcpus,
        ram: options.mem.saturating_mul(1 << 20),
        most_ram: options.max_mem.saturating_mul(1 << 20),
        cpu: options.cpu.clone(),
        clock: if options.deterministic { ClockPolicy::Deterministic(Rate::ONE) } else { ClockPolicy::Paced },
        wall_clock: if repeatable { FIXED_WALL_CLOCK } else { i64::try_from(now).unwrap_or(0) },
        seed: if repeatable { FIXED_SEED } else { random() },
        serial_ports: 1,
        triple_fault: TripleFault::Reset,
        test_device: options.test_device,
        disks: configs,
        nics: (1..=options.nics).map(|n| NicConfig { mac: [0, 0x16, 0x3e, 0, 0, n] }).collect(),
        display: options.display.as_ref().map(|d| d.size),
        payload: Payload {
            kernel: file("kernel", &options.kernel)?,
            initrd: options.initrd.as_deref().map_or_else(|| Ok(Arc::default()), |path| file("initrd", path))?,
            cmdline: options.cmdline.clone(),
        },
    };
    let mut machine = Machine::new(config).with_context(|| format!("cannot boot {}", options.kernel.display()))?;
    if let Some(folder) = &options.share {
        machine.share_files(&share::open(folder)?);
    }
    let raw = terminal::Raw::enter().context("cannot use this terminal")?;
    if raw.is_raw() {
        eprint!("{}\r\n", keys::HELP);
    }
    let console = console::Console::open(raw.is_raw() || options.keys, raw.is_raw());
    let mut runner = Runner::new(machine, &options, console, files);
    let end = runner.run()?;
    drop(raw);
    eprintln!("\n{}", runner.summary(&end));
    if let Some(said) = runner.save_picture()? {
        eprintln!("{said}");
    }
    Ok(end)
}

/// Reads a file, as far as a machine could have room for it: a device may have no end.
fn file(what: &'static str, path: &Path) -> Result<Arc<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(boot::MAX_FILE + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}; check that it is a file you may read", path.display()))?;
    boot::check_size(what, bytes.len() as u64).with_context(|| format!("cannot boot {}", path.display()))?;
    Ok(Arc::new(bytes))
}

/// A number that differs from run to run: the guest's entropy.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
