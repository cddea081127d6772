//! Runs a ROM in place of firmware: `rom FILE [MODEL]` prints its progress codes (port 190h) and how it ended, and
//! writes what it sent to port E9h to `FILE.out`.

use anyhow::{Context, Result};
use std::process::ExitCode;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::vcpu::CpuExit;
use tabvisor_tests::rom::{Ports, run};

fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let file = words.next().context("which ROM?")?;
    let name = words.next();
    let model = Model::by_name(name.as_deref().unwrap_or("x86-64-v2")).context("no such CPU model")?;
    let rom = std::fs::read(&file).with_context(|| format!("cannot read {file}"))?;
    let report = run(&rom, Ports { post: 0x190, text: 0xe9 }, model)?;
    let (cs, eip, count) = report.place;
    println!("progress {:02x?}", report.posts);
    println!("{:?} at {cs:04x}:{eip:08x} after {count} instructions", report.end);
    let out = format!("{file}.out");
    std::fs::write(&out, &report.text).with_context(|| format!("cannot write {out}"))?;
    let done = report.end == Some(CpuExit::Halt) && report.posts.last() == Some(&0xff);
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
