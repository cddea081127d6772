//! Runs the 80286 vectors (`TABVISOR_GUESTS`/tests/sst286-dev.tar.xz or the file named) and prints how many
//! tests of each form agree.

use std::collections::BTreeMap;
use std::process::ExitCode;
use tabvisor_tests::sst286;

fn main() -> ExitCode {
    let path = std::env::args().nth(1).map_or_else(sst286::archive, Into::into);
    let forms = match sst286::load(&path) {
        Ok(f) => f,
        Err(e) => {
            eprintln!("sst286: {e:#}");
            return ExitCode::from(2);
        }
    };
    let (mut tests, mut agree, mut different) = (0, 0, 0);
    let mut ruled: BTreeMap<&str, u32> = BTreeMap::new();
    for (form, t) in sst286::run(&forms) {
        let out: u32 = t.ruled.values().sum();
        println!("{form:5} {:4} tests {:4} agree {out:3} left out {:3} differ", t.tests, t.agree, t.different());
        if let Some(first) = &t.first {
            println!("      {first}");
        }
        for (reason, n) in &t.ruled {
            *ruled.entry(reason).or_default() += n;
        }
        (tests, agree, different) = (tests + t.tests, agree + t.agree, different + t.different());
    }
    for (reason, n) in ruled {
        println!("{n:5} left out: {reason}");
    }
    println!("{tests} tests, {agree} agree, {different} different");
    if different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
