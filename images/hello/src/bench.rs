//! The `bench` command. The loops are in assembly, so the number of their instructions is exact; the
//! time is the TSC's.

use crate::{cpu, platform, println};
use core::arch::asm;
use core::cell::UnsafeCell;

const ROUNDS: u64 = 2_000_000;

/// TSC ticks per second: stated by CPUID leaf 15h, or counted against the timer.
pub fn tsc_hz() -> (u64, &'static str) {
    let [denominator, numerator, crystal, _] = cpu::cpuid(0x15).map(u64::from);
    if denominator != 0 && numerator != 0 && crystal != 0 {
        return (crystal * numerator / denominator, "CPUID");
    }
    const TICKS: u64 = 10;
    platform::wait_tick();
    let (from, tick) = (cpu::tsc(), platform::ticks());
    while platform::ticks() < tick + TICKS {
        platform::wait_tick();
    }
    ((cpu::tsc() - from) * platform::TICK_HZ / (platform::ticks() - tick), "counted against the timer")
}

/// Memory to work on, a page for each of two sides.
#[repr(C, align(4096))]
struct Buffer(UnsafeCell<[u64; 2 * PAGE]>);
// SAFETY: only `bench` touches it, on the one CPU, not in interrupts.
unsafe impl Sync for Buffer {}
const PAGE: usize = 8192;
static BUFFER: Buffer = Buffer(UnsafeCell::new([0; 2 * PAGE]));

/// Each returns the number of instructions it ran.
type Loop = fn() -> u64;

const LOOPS: [(&str, Loop); 5] = [
    ("add, xor, rotate", integer),
    ("multiply", multiply),
    ("branches", branches),
    ("calls", calls),
    ("load and store", memory),
];

fn integer() -> u64 {
    // SAFETY: only registers.
    unsafe {
        asm!("2:", "add rax, rcx", "xor rdx, rax", "rol rdx, 7", "lea rax, [rax + 2*rdx]", "sub rdx, 3", "dec rcx", "jnz 2b",
            inout("rax") 1u64 => _, inout("rdx") 2u64 => _, inout("rcx") ROUNDS => _, options(nomem, nostack));
    }
    7 * ROUNDS
}
fn multiply() -> u64 {
    // SAFETY: only registers.
    unsafe {
        asm!("2:", "imul rax, rdx", "add rax, 12345", "dec rcx", "jnz 2b",
            inout("rax") 1u64 => _, in("rdx") 6364136223846793005u64, inout("rcx") ROUNDS => _, options(nomem, nostack));
    }
    4 * ROUNDS
}
fn branches() -> u64 {
    // Both ways around the jump have one instruction: 5 per round, and one more for the rest.
    // SAFETY: only registers.
    unsafe {
        asm!("2:", "test cl, 1", "jz 3f", "inc rax", "dec rcx", "jnz 2b", "jmp 4f",
            "3:", "inc rdx", "dec rcx", "jnz 2b", "4:",
            inout("rax") 0u64 => _, inout("rdx") 0u64 => _, inout("rcx") ROUNDS => _, options(nomem, nostack));
    }
    5 * ROUNDS + 1
}
fn calls() -> u64 {
    // SAFETY: the stack is balanced; the x86_64-unknown-none target has no red zone.
    unsafe {
        asm!("jmp 3f", "4:", "add rax, rcx", "ret", "3:", "call 4b", "dec rcx", "jnz 3b",
            inout("rax") 0u64 => _, inout("rcx") ROUNDS => _);
    }
    5 * ROUNDS + 1
}
fn memory() -> u64 {
    let at = BUFFER.0.get();
    const PASSES: u64 = ROUNDS / PAGE as u64;
    // SAFETY: RSI runs over the first half of the buffer, RDI over the second.
    unsafe {
        asm!("2:", "mov rsi, {from}", "mov rdi, {to}", "mov ecx, {n}",
            "3:", "mov rax, [rsi]", "add rax, rcx", "mov [rdi], rax", "add rsi, 8", "add rdi, 8", "dec ecx", "jnz 3b",
            "dec {passes}", "jnz 2b",
            from = in(reg) at as u64, to = in(reg) at as u64 + 8 * PAGE as u64, n = const PAGE, passes = inout(reg) PASSES => _,
            out("rax") _, out("rcx") _, out("rsi") _, out("rdi") _, options(nostack));
    }
    PASSES * (7 * PAGE as u64 + 5)
}
fn copy() -> u64 {
    let at = BUFFER.0.get();
    const PASSES: u64 = 64;
    // SAFETY: copies the first half of the buffer to the second.
    unsafe {
        asm!("2:", "mov rsi, {from}", "mov rdi, {to}", "mov ecx, {n}", "rep movsq", "dec {passes}", "jnz 2b",
            from = in(reg) at as u64, to = in(reg) at as u64 + 8 * PAGE as u64, n = const PAGE, passes = inout(reg) PASSES => _,
            out("rcx") _, out("rsi") _, out("rdi") _, options(nostack));
    }
    PASSES * 8 * PAGE as u64
}

fn timed(f: Loop, hz: u64) -> (u64, u64) {
    f(); // warm up: translations, caches
    let from = cpu::tsc();
    let n = f();
    let us = ((cpu::tsc() - from) as u128 * 1_000_000 / u128::from(hz)) as u64;
    (n, us.max(1))
}

/// Runs all loops.
pub fn command() {
    let (hz, how) = tsc_hz();
    if hz == 0 {
        println!("the TSC does not run");
        return;
    }
    println!("time from the TSC at {} MHz ({how})", hz / 1_000_000);
    for (name, f) in LOOPS {
        let (n, us) = timed(f, hz);
        println!("{name:<18}{n:>10} instructions {:>6}.{:03} ms {:>7} MIPS", us / 1000, us % 1000, n / us);
    }
    let (n, us) = timed(copy, hz);
    println!("{:<18}{n:>10} bytes        {:>6}.{:03} ms {:>7} MB/s", "rep movsq", us / 1000, us % 1000, n / us);
}
