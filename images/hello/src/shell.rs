//! The shell: one line, one command.

use crate::boot::{self, BootInfo};
use crate::console::Line;
use crate::{acpi, bench, cpu, fault, platform, print, println, trap};

const HELP: &str = "\
help           this text
mem            the memory map
time           clock, uptime, time stamp counter
cpu            what CPUID says
bench          a few loops, in instructions per second
fault [CASE]   an exception on purpose, reported with all registers
peek ADDRESS   64 bytes of memory (hexadecimal address)
echo TEXT      the text
off            switch off (ACPI S5)
reboot         start again";

/// A command with what it may look at, for the guard's one argument.
struct Request<'a> {
    info: &'a BootInfo,
    line: &'a str,
}

/// Reads and runs commands for ever.
pub fn run(info: &BootInfo) -> ! {
    if !info.cmdline.is_empty() {
        println!("command line: {}", info.cmdline);
    }
    let mut line = Line::new();
    loop {
        let text = line.read("hello> ");
        let request = Request { info, line: text };
        // An exception in a command ends the command, not the machine.
        trap::guard(execute, &raw const request as u64);
    }
}

extern "C" fn execute(request: u64) {
    // SAFETY: `run` passes a `Request` that outlives the call.
    let Request { info, line } = unsafe { &*(request as *const Request<'_>) };
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match command {
        "" => {}
        "help" | "?" => println!("{HELP}"),
        "mem" => memory(info),
        "time" => time(),
        "cpu" => processor(),
        "bench" => bench::command(),
        "fault" => fault::command(rest),
        "peek" => peek(rest),
        "echo" => println!("{rest}"),
        "off" | "poweroff" => {
            println!("switching off");
            println!("that failed: {}", acpi::off(info));
        }
        "reboot" => {
            println!("starting again");
            acpi::reset(info);
            platform::reset();
            println!("that failed: the machine did not react");
        }
        other => println!("there is no command `{other}`; `help` lists them"),
    }
}

fn memory(info: &BootInfo) {
    for r in info.ranges() {
        let kind = match r.kind {
            1 => "RAM",
            2 => "reserved",
            3 => "ACPI tables",
            4 => "ACPI, to be kept",
            5 => "defective",
            _ => "unknown",
        };
        println!("{:#012x} to {:#012x}  {:>8} KiB  {kind}", r.from, r.from.saturating_add(r.len), r.len >> 10);
    }
    let (from, to) = boot::image();
    println!("{} MiB of RAM; this kernel is at {from:#x} to {to:#x}", info.usable() >> 20);
}

fn time() {
    let [year, month, day, hour, minute, second] = platform::clock();
    println!("clock  {year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    let ticks = platform::ticks();
    println!("timer  {ticks} ticks, up {}.{:02} s", ticks / platform::TICK_HZ, ticks % platform::TICK_HZ);
    let (hz, how) = bench::tsc_hz();
    println!("TSC    {} at {} MHz ({how})", cpu::tsc(), hz / 1_000_000);
}

fn processor() {
    let [highest, b, c, d] = cpu::cpuid(0);
    let vendor = [b, d, c].map(u32::to_le_bytes);
    println!("{} ({})", cpu::brand().as_str(), core::str::from_utf8(vendor.as_flattened()).unwrap_or("?"));
    let [signature, _, c, d] = cpu::cpuid(1);
    println!("signature {signature:08x}, highest leaf {highest:#x}, features ecx {c:08x} edx {d:08x}");
    let known = [
        (d, 0, "fpu"),
        (d, 4, "tsc"),
        (d, 5, "msr"),
        (d, 6, "pae"),
        (d, 8, "cx8"),
        (d, 9, "apic"),
        (d, 23, "mmx"),
        (d, 25, "sse"),
        (d, 26, "sse2"),
        (c, 0, "sse3"),
        (c, 9, "ssse3"),
        (c, 13, "cx16"),
        (c, 19, "sse4.1"),
        (c, 20, "sse4.2"),
        (c, 21, "x2apic"),
        (c, 23, "popcnt"),
        (c, 24, "tsc-deadline"),
        (c, 26, "xsave"),
        (c, 28, "avx"),
        (c, 30, "rdrand"),
        (c, 31, "hypervisor"),
    ];
    for (register, bit, name) in known {
        if register >> bit & 1 != 0 {
            print!("{name} ");
        }
    }
    println!();
}

fn peek(text: &str) {
    let Ok(at) = u64::from_str_radix(text.trim_start_matches("0x"), 16) else {
        println!("`{text}` is not a hexadecimal address");
        return;
    };
    for row in 0..4u64 {
        let at = at.wrapping_add(16 * row);
        print!("{at:016x} ");
        for i in 0..16u64 {
            // SAFETY: any address is allowed here: one that is not mapped raises an exception,
            // which the shell's guard reports. Bytes have no invalid values.
            print!(" {:02x}", unsafe { boot::peek::<u8>(at.wrapping_add(i)) });
        }
        println!();
    }
}
