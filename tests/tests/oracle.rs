//! A short stretch of the oracle with every `cargo test`; the `oracle` program runs long ones.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use tabvisor_tests::oracle::host::{Host, vendor};
use tabvisor_tests::oracle::run::{Stretch, run};
use tabvisor_tests::oracle::state::*;

fn host() -> Host {
    Host::new().expect("the host can run the sandbox")
}

#[test]
fn the_host_gives_the_same_answer_twice() {
    let (mut a, mut b) = (host(), host());
    for mode in [Mode::Long64, Mode::Prot32, Mode::Prot16] {
        let r = run(Stretch { mode, seed: 3, first: 0, count: 5000 }, &mut a, &mut b, vendor());
        assert_eq!(r.different, 0, "{}", r.differences(10));
        let done: u64 = r.hits.values().map(|h| h.completed).sum();
        assert!(done > 2500, "only {done} of 5000 tests complete");
        assert!(r.hits.len() > 700, "only {} encodings", r.hits.len());
        for vector in [3, 6, 13, 14] {
            assert!(r.vectors.contains_key(&vector), "no test ends with vector {vector}");
        }
    }
    assert_eq!((a.killed, b.killed), (0, 0));
}

#[test]

fn the_interpreter_agrees_with_the_host() {
    for mode in [Mode::Long64, Mode::Prot32, Mode::Prot16] {
        let mut subject = tabvisor_tests::oracle::subject::Interpreter::new();
        let r = run(Stretch { mode, seed: 4, first: 0, count: 20_000 }, &mut host(), &mut subject, vendor());
        assert_eq!(r.different, 0, "{}", r.differences(10));
    }
}

#[test]
fn a_test_that_hangs_is_reported_and_the_rest_goes_on() {
    let mut t = Test::background(Mode::Long64, 1);
    (t.len, t.code[0], t.code[1]) = (2, 0xeb, 0xfe); // jmp $
    let mut nop = t;
    (nop.len, nop.code[0], nop.code[1]) = (1, 0x90, 0);
    let tests = [nop, t, nop];
    let mut outs = tests.map(|t| Out::unchanged(&t));
    let mut h = host();
    h.run_all(&tests, &mut outs);
    assert_eq!(outs[1].vector, VEC_KILLED);
    for i in [0, 2] {
        assert!(outs[i].completed(&tests[i]), "test {i} ended with {:?}", outs[i].vector);
        assert_eq!(outs[i].gpr, nop.gpr);
    }
    assert_eq!(h.killed, 1);
}

#[test]
fn system_calls_do_not_leave_the_sandbox() {
    for (code, mode, vector) in [
        ([0x0f, 0x05], Mode::Long64, VEC_SYSCALL),
        ([0xcd, 0x80], Mode::Long64, VEC_INT80),
        ([0xcd, 0x80], Mode::Prot32, VEC_INT80),
    ] {
        let mut t = Test::background(mode, 1);
        t.gpr[0] = 39; // getpid, or lstat: harmless if the filter failed
        t.len = 2;
        t.code[..2].copy_from_slice(&code);
        let mut o = Out::unchanged(&t);
        host().run(&t, &mut o);
        assert_eq!((o.vector, o.gpr[0]), (vector, 39));
    }
}
