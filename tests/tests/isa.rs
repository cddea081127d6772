//! The one-line instruction cases on everything that can run them.

use std::path::Path;
use tabvisor_tests::ins;

fn files() -> Vec<(String, Vec<ins::Case>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("isa");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("tests/isa is there")
        .map(|e| e.expect("a readable entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "ins"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|p| {
            let name = p.file_name().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&p).expect("a readable file");
            let cases = ins::parse(&text).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            (name, cases)
        })
        .collect()
}

#[test]
fn every_file_parses_and_has_cases() {
    for (name, cases) in files() {
        assert!(!cases.is_empty(), "{name} is empty");
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_host_cpu_agrees_with_the_cases() {
    use tabvisor_tests::{ins_user::User, oracle::host::Host};
    let mut runner = User(Host::new().expect("the host can run the sandbox"));
    let mut total = 0;
    for (name, cases) in files() {
        let (ran, wrong) = ins::run(&name, &cases, &mut runner).expect("the cases can be run");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        total += ran;
    }
    assert!(total >= 30, "only {total} cases ran on the host");
}

#[test]

fn the_interpreter_agrees_with_the_cases() {
    let mut runner = tabvisor_tests::ins_guest::Guest;
    for (name, cases) in files() {
        let (ran, wrong) = ins::run(&name, &cases, &mut runner).expect("the cases can be run");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(ran, cases.len());
    }
}
