//! The recorded truth of real CPUs, on any machine: `tests/corpus/*.bin`, written by `oracle record`.

use std::path::Path;
use tabvisor_tests::oracle::corpus::{self, Header};
use tabvisor_tests::oracle::run::check;
use tabvisor_tests::oracle::state::*;
use tabvisor_tests::oracle::subject::Interpreter;

fn corpora() -> Vec<(Header, Vec<(Test, Out)>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    std::fs::read_dir(dir)
        .expect("tests/corpus is there")
        .map(|e| {
            let path = e.expect("a readable entry").path();
            let data = std::fs::read(&path).expect("a readable file");
            corpus::decode(&data).unwrap_or_else(|e| panic!("{}: {e:#}", path.display()))
        })
        .collect()
}

#[test]
fn the_recorded_tests_can_be_read_and_cover_the_instruction_set() {
    let all = corpora();
    assert!(!all.is_empty());
    for (header, cases) in &all {
        // A subject that gives the recorded answers agrees with them.
        struct Recorded<'a>(std::slice::Iter<'a, (Test, Out)>);
        impl Subject for Recorded<'_> {
            fn run(&mut self, _t: &Test, out: &mut Out) {
                *out = self.0.next().expect("as many as recorded").1;
            }
        }
        let r = check(header, cases, &mut Recorded(cases.iter()));
        assert_eq!(r.different, 0);
        assert!(r.hits.len() > 2000, "only {} encodings", r.hits.len());
    }
}

#[test]

fn the_interpreter_agrees_with_the_recorded_tests() {
    for (header, cases) in &corpora() {
        let r = check(header, cases, &mut Interpreter::new());
        assert_eq!(r.different, 0, "{}", r.differences(20));
    }
}
