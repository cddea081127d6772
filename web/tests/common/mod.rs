//! Guests for the tests of the module, and what every host must be able to do with them.

use tabvisor_devices::boot::layout::{COM1, PM1_CNT, SLP_TYP_S5};
use tabvisor_web::Vm;
use wasm_bindgen::JsValue;

/// The hello kernel; empty if it was not built before the tests.
const HELLO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.elf"));

/// What `Vm::state` says.
const OFF: u8 = 4;
const CRASHED: u8 = 5;

/// An ELF kernel of a few instructions: prints `tiny`, then echoes what is typed. `q` switches off, `c` crashes.
pub fn tiny() -> Vec<u8> {
    const LOAD: u64 = 0x20_0000;
    const HEADERS: u64 = 64 + 56;
    let [data, status] = [COM1, COM1 + 5].map(u16::to_le_bytes);
    let [pm0, pm1] = PM1_CNT.to_le_bytes();
    let [off0, off1] = (1 << 13 | u16::from(SLP_TYP_S5) << 10).to_le_bytes();
    let code = [
        &[0x66, 0xba, data[0], data[1]][..], //  0 mov dx, data
        &[0x48, 0x8d, 0x35, 63, 0, 0, 0],    //  4 lea rsi, [rip + text (74)]
        &[0xac, 0x84, 0xc0],                 // 11 next: lodsb; test al, al
        &[0x74, 3, 0xee, 0xeb, 0xf8],        // 14 jz echo; out dx, al; jmp next
        &[0x66, 0xba, status[0], status[1]], // 19 echo: mov dx, status
        &[0xec, 0xa8, 1, 0x74, 0xfb],        // 23 wait: in al, dx; test al, 1; jz wait
        &[0x66, 0xba, data[0], data[1]],     // 28 mov dx, data
        &[0xec, 0x3c, b'q', 0x74, 7],        // 32 in al, dx; cmp al, 'q'; je off (44)
        &[0x3c, b'c', 0x74, 15],             // 37 cmp al, 'c'; je crash (56)
        &[0xee, 0xeb, 0xe7, 0x90][..3],      // 41 out dx, al; jmp echo
        &[0x66, 0xba, pm0, pm1],             // 44 off: mov dx, pm1_cnt
        &[0x66, 0xb8, off0, off1],           // 48 mov ax, sleep enable
        &[0x66, 0xef, 0xf4, 0x90],           // 52 out dx, ax; hlt
        &[0x0f, 0x01, 0x1d, 4, 0, 0, 0],     // 56 crash: lidt [rip + zeros (67)]
        &[0x0f, 0x0b, 0xf4, 0x90],           // 63 ud2
        &[0; 7],                             // 67 zeros, up to the text's own end
        b"tiny\n\0",                         // 74 text
    ]
    .concat();
    let size = (HEADERS + code.len() as u64).to_le_bytes();
    let at = LOAD.to_le_bytes();
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64, version 1
    elf.extend((LOAD + HEADERS).to_le_bytes()); // entry
    elf.extend(64u64.to_le_bytes()); // program headers
    elf.extend([0; 12]); // no section headers, no flags
    elf.extend([64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 7, 0, 0, 0]); // PT_LOAD, readable, writable, executable
    elf.extend(0u64.to_le_bytes());
    elf.extend([at, at, size, size, 0x1000u64.to_le_bytes()].concat());
    elf.extend(code);
    elf
}

/// A booted machine.
pub fn machine(kernel: &[u8], deterministic: bool) -> Vm {
    let mut vm = Vm::new(16, "x86-64-v2".into(), "console=ttyS0".into(), deterministic, 1.7e12);
    for portion in kernel.chunks(1000) {
        vm.load("kernel", portion).expect("a kernel may come in portions");
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
pub fn a_guest_talks_and_switches_off() {
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
pub fn a_crash_is_reported_and_reset_cures_it() {
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
pub fn the_same_instructions_give_the_same_state() {
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

/// Mistakes come back as errors that explain themselves.
pub fn mistakes_are_explained() {
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
        vm.load("kernel", kernel).expect("loading takes any bytes");
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
pub fn hello_boots_to_its_prompt() {
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
