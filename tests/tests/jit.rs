//! The oracle's random instructions through the compiler: each is compiled before it is run, and has to do what the
//! interpreter does, to the last flag. `TABVISOR_JIT_TESTS` sets how many per mode.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../../core/tests/wasm/mod.rs"]
mod wasm;

use tabvisor_core::vcpu::Vcpu;
use tabvisor_tests::oracle::compare::compare;
use tabvisor_tests::oracle::generator::generate;
use tabvisor_tests::oracle::masks::Mask;
use tabvisor_tests::oracle::outcome::Out;
use tabvisor_tests::oracle::state::{Mode, Subject};
use tabvisor_tests::oracle::subject::Interpreter;

#[global_allocator]
static GLOBAL: wasm::Global = wasm::Global::new();

/// Tests on one host of modules, which keeps all it ever had.
const PART: u64 = 5_000;

fn compiled(vcpu: &mut Vcpu) {
    vcpu.set_code_host(Box::new(wasm::Wasmi::new()));
    vcpu.jit().expect("it was just set").set_hot(0);
}

#[test]
fn the_compiler_agrees_with_the_interpreter() {
    let count: u64 = std::env::var("TABVISOR_JIT_TESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let mut different = Vec::new();
    for mode in [Mode::Long64, Mode::Prot32] {
        for first in (0..count).step_by(PART as usize) {
            let mut plain = Interpreter::new();
            let mut subject = Interpreter::prepared(compiled);
            let tests = first..count.min(first + PART);
            let number = tests.end - tests.start;
            for index in tests {
                let t = generate(mode, 5, index);
                let (mut want, mut got) = (Out::unchanged(&t), Out::unchanged(&t));
                plain.run(&t, &mut want);
                subject.run(&t, &mut got);
                if want != got {
                    let differences = compare(&t, &want, &got, &Mask::default());
                    let fields: Vec<String> = differences.iter().map(ToString::to_string).collect();
                    different.push(format!(
                        "{mode:?} {index} {:02x?}: {}",
                        &t.code[..t.len as usize],
                        fields.join(", ")
                    ));
                }
            }
            let stats = subject.vcpu().jit().expect("it has one").stats;
            assert!(stats.regions > number / 2, "{stats:?}");
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different[..different.len().min(40)].join("\n"));
}
