//! The tests themselves: what every host of the module must be able to do. Beside this file is one file per host.

mod elf;

use elf::tiny;
use tabvisor_web::Vm;
use wasm_bindgen::JsValue;
use wasm_bindgen_test::wasm_bindgen_test;

/// The hello kernel; empty if it was not built before the tests.
const HELLO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.elf"));

/// What `Vm::state` says.
const OFF: u8 = 4;
const CRASHED: u8 = 5;

/// A booted machine.
fn machine(kernel: &[u8], deterministic: bool) -> Vm {
    let mut vm = Vm::new(16, "x86-64-v2".into(), "console=ttyS0".into(), deterministic, 1.7e12);
    for portion in kernel.chunks(1000) {
        vm.load("kernel", portion.to_vec()).expect("a kernel may come in portions");
    }
    vm.boot().expect("the kernel is in order");
    vm
}

/// Runs until the console shows `text`; returns everything it showed.
fn until(vm: &mut Vm, text: &str) -> String {
    let mut shown = String::new();
    for _ in 0..2000 {
        vm.run(10.0);
        shown.push_str(&String::from_utf8_lossy(&vm.take_serial()));
        if shown.contains(text) {
            return shown;
        }
    }
    panic!("the console never showed {text:?}, but: {shown}\n{}", vm.report());
}

/// A guest prints, reads what is typed, and switches itself off.
#[wasm_bindgen_test]
fn a_guest_talks_and_switches_off() {
    let mut vm = machine(&tiny(), false);
    until(&mut vm, "tiny\n");
    assert_eq!(vm.serial_input(b"abd"), 3);
    until(&mut vm, "abd");
    vm.serial_input(b"q");
    for _ in 0..100 {
        vm.run(10.0);
    }
    assert_eq!(vm.state(), OFF);
    assert_eq!(vm.run(10.0), f64::INFINITY);
}

/// A triple fault is a story, not a panic, and the reset button works after it.
#[wasm_bindgen_test]
fn a_crash_is_reported_and_reset_cures_it() {
    let mut vm = machine(&tiny(), false);
    until(&mut vm, "tiny\n");
    vm.serial_input(b"c");
    for _ in 0..100 {
        vm.run(10.0);
    }
    assert_eq!(vm.state(), CRASHED);
    assert!(vm.report().contains("riple fault"), "{}", vm.report());
    vm.reset().expect("a crashed machine can start over");
    until(&mut vm, "tiny\n");
}

/// Two deterministic machines are in the same state after the same number of instructions, and not after another.
#[wasm_bindgen_test]
fn the_same_instructions_give_the_same_state() {
    let state = |steps: &[f64]| {
        let mut vm = machine(&tiny(), true);
        for &n in steps {
            assert_eq!(vm.run_instructions(n).expect("the clock is deterministic"), n);
        }
        vm.state_hash().expect("it is booted")
    };
    let once = state(&[20_000.0]);
    assert_eq!(once.len(), 32);
    assert_eq!(once, state(&[1.0, 12_345.0, 7_654.0]));
    assert_ne!(once, state(&[20_001.0]));
}

/// The RAM of a machine that is gone serves the next ones, cleared.
#[wasm_bindgen_test]
fn ram_is_used_again() {
    let run = || {
        let mut vm = machine(&tiny(), true);
        vm.run_instructions(20_000.0).expect("the clock is deterministic");
        vm.state_hash().expect("it is booted")
    };
    let first = run();
    let pages = core::arch::wasm32::memory_size(0);
    for _ in 0..10 {
        assert_eq!(run(), first);
    }
    let grown = core::arch::wasm32::memory_size(0) - pages;
    assert!(grown < 16 << 4, "ten machines of 16 MiB, one after another, took {grown} pages of 64 KiB more");
}

/// Compiled code leaves a machine in the state the interpreter leaves it in, at the same instruction.
#[wasm_bindgen_test]
fn compiled_code_gives_the_same_state() {
    if HELLO.is_empty() {
        wasm_bindgen_test::console_log!("SKIPPED compiled_code_gives_the_same_state: no hello.elf");
        return;
    }
    let run = |compile: bool| {
        let mut vm = Vm::new(32, "x86-64-v2".into(), String::new(), true, 1.7e12);
        vm.set_compile(compile, None, None);
        vm.load("kernel", HELLO.to_vec()).expect("a kernel");
        vm.boot().expect("the kernel is in order");
        let mut states = Vec::new();
        for input in [&b""[..], b"bench\r", b"mem\r"] {
            vm.serial_input(input);
            vm.run_instructions(20_000_011.0).expect("the clock is deterministic");
            // Looking on changes nothing.
            vm.dump_code("").expect("no address is good");
            states.push((
                vm.state_hash().expect("it is booted"),
                String::from_utf8_lossy(&vm.take_serial()).into_owned(),
            ));
        }
        (states, vm)
    };
    let ((plain, mut interpreted), (compiled, mut vm)) = (run(false), run(true));
    assert_eq!(plain, compiled);
    assert_eq!(interpreted.stats().len(), 4, "figures of a compiler that is not there");
    let stats = vm.stats();
    let [regions, bytes, retired] = [stats[4], stats[5], stats[6]];
    assert!(regions > 0.0 && bytes > 0.0 && retired > stats[0] / 2.0, "little was compiled: {stats:?}");
    let [modules, memory, took] = [stats[12], stats[13], stats[14]];
    assert!(modules > 0.0 && memory > bytes && took > 0.0, "{stats:?}");
    let found = (1..200).find_map(|n| {
        vm.run_instructions(f64::from(n)).expect("the clock is deterministic");
        vm.serial_input(b"bench\r");
        vm.dump_code("").ok().filter(|module| !module.is_empty())
    });
    assert!(found.expect("code that runs can be dumped").starts_with(b"\0asm"));
    assert!(interpreted.dump_code("").expect("no address is good").is_empty());
    assert!(vm.dump_code("0x10").is_err());
}

/// Mistakes come back as errors that explain themselves.
#[wasm_bindgen_test]
fn mistakes_are_explained() {
    let explained = |error: tabvisor_web::VmError, word: &str| {
        let js = JsValue::from(error);
        let get =
            |key: &str| js_sys::Reflect::get(&js, &key.into()).ok().and_then(|v| v.as_string()).unwrap_or_default();
        let [message, why, next] = ["message", "why", "next"].map(get);
        assert!(!message.is_empty() && !next.is_empty(), "{message} / {next}");
        assert!(format!("{message} {why}").to_lowercase().contains(word), "{message} {why}: no {word}");
    };
    let boot = |memory, cpu: &str, kernel: &[u8]| {
        let mut vm = Vm::new(memory, cpu.into(), String::new(), true, 0.0);
        vm.load("kernel", kernel.to_vec()).expect("loading takes any bytes");
        vm.boot().err()
    };
    let kernel = tiny();
    explained(boot(16, "x86-64-v2", b"<!doctype html>").expect("no kernel"), "kernel");
    explained(boot(16, "x86-64-v2", &kernel[..100]).expect("cut off"), "cut off");
    explained(boot(16, "z80", &kernel).expect("no such model"), "z80");
    explained(boot(0, "x86-64-v2", &kernel).expect("no memory"), "memory");
    explained(boot(u32::MAX, "x86-64-v2", &kernel).expect("too much memory"), "memory");
    explained(Vm::new(16, "x86-64-v2".into(), String::new(), true, 0.0).boot().expect_err("no files"), "kernel");
}

/// The hello kernel comes up to its prompt and obeys.
#[wasm_bindgen_test]
fn hello_boots_to_its_prompt() {
    if HELLO.is_empty() {
        wasm_bindgen_test::console_log!(
            "SKIPPED hello_boots_to_its_prompt: images/out/hello/hello.elf is not built (cargo xtask image hello), \
             and TABVISOR_HELLO names no other"
        );
        return;
    }
    let mut vm = machine(HELLO, false);
    until(&mut vm, "hello> ");
    vm.serial_input(b"echo it works\r");
    until(&mut vm, "\nit works");
    vm.serial_input(b"off\r");
    for _ in 0..200 {
        vm.run(10.0);
    }
    assert_eq!(vm.state(), OFF);
}
