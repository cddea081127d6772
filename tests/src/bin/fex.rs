//! Runs FEX's assembly tests: `fex FOLDER [PART-OF-A-NAME]`, where FOLDER is `unittests` of a copy of FEX. Needs nasm.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use tabvisor_tests::fex::{Outcome, find, run};

fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().context("which folder?")?);
    let part = words.next().unwrap_or_default();
    let work = std::env::temp_dir().join(format!("tabvisor-fex-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let includes = folder.join("ASM/Includes");
    let (mut agree, mut differ, mut broken) = (0, 0, 0);
    let mut out: BTreeMap<&str, u32> = BTreeMap::new();
    for path in find(&folder)?.iter().filter(|p| p.to_string_lossy().contains(&part)) {
        let name = path.strip_prefix(&folder).unwrap_or(path).display();
        match run(path, &includes, &work) {
            Ok(Outcome::Agrees) => agree += 1,
            Ok(Outcome::LeftOut(reason)) => *out.entry(reason).or_default() += 1,
            Ok(Outcome::Differs(how)) => {
                differ += 1;
                println!("{name}: {how}");
            }
            Err(e) => {
                broken += 1;
                println!("{name}: not run: {e:#}");
            }
        }
    }
    std::fs::remove_dir_all(&work)?;
    for (reason, n) in &out {
        println!("{n:5} left out: {reason}");
    }
    println!("{agree} agree, {differ} differ, {broken} could not be run, {} left out", out.values().sum::<u32>());
    Ok(if differ + broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
