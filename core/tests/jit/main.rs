//! Compiled code against the interpreter: the same programs, the same state.

mod control;
#[path = "../guest/mod.rs"]
mod guest;
mod integers;
mod memory;
mod vectors;
#[path = "../wasm/mod.rs"]
mod wasm;
mod x87;

use guest::{CODE, DATA, Guest};
use iced_x86::code_asm::CodeAssembler;
use tabvisor_core::jit::Stats;

#[global_allocator]
static GLOBAL: wasm::Global = wasm::Global::new();

/// Runs a program interpreted and compiled; both have to end in the same state.
fn same(what: &str, long: bool, program: impl Fn(&mut CodeAssembler)) {
    run(what, long, program);
}

/// As [`same`]; and no instruction may be called.
fn all_compiled(what: &str, long: bool, program: impl Fn(&mut CodeAssembler)) {
    let stats = run(what, long, program);
    assert_eq!(stats.called, 0, "{what}: {stats:?}");
}

fn run(what: &str, long: bool, program: impl Fn(&mut CodeAssembler)) -> Stats {
    let mut a = CodeAssembler::new(if long { 64 } else { 32 }).unwrap();
    program(&mut a);
    let code = a.assemble(CODE).unwrap();
    let [plain, compiled] = [false, true].map(|jit| {
        let mut g = if long { Guest::long() } else { Guest::protected() };
        if jit {
            g.vcpu.set_code_host(Box::new(wasm::Wasmi::new()));
            g.vcpu.jit().unwrap().set_hot(1);
        }
        let end = g.run_code(&code);
        let c = &mut g.vcpu.cpu;
        let flags = c.rflags_image();
        let state = (end, c.rip, flags, c.regs[..16].to_vec(), (c.xmm, c.mxcsr, c.fpu.clone()), c.retired());
        let mut data = vec![0; 1 << 16];
        g.ram.read(DATA, &mut data);
        let stats = g.vcpu.jit().map(|j| j.stats);
        (state, data, stats)
    });
    let stats = compiled.2.unwrap();
    assert_eq!(plain.0, compiled.0, "{what}: {stats:?}");
    assert!(plain.1 == compiled.1, "{what}: memory differs, {stats:?}");
    assert!(
        stats.retired > plain.0.5 / 2,
        "{what}: {} of {} instructions compiled: {stats:?}",
        stats.retired,
        plain.0.5
    );
    stats
}
