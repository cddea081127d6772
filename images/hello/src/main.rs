//! Tabvisor's own small guest: a banner and a little shell on the console.
//!
//! It boots through the Linux 64-bit boot protocol and through PVH; `start.s` brings both to
//! [`rust_main`]. What differs between machines is in `platform`; nothing else touches hardware but
//! the CPU itself.
#![no_std]
#![no_main]

mod acpi;
mod bench;
mod boot;
mod console;
mod cpu;
mod fault;
mod platform;
mod shell;
mod trap;

use boot::BootInfo;

core::arch::global_asm!(include_str!("start.s"));

/// From `start.s`: what the loader left, and which loader it was.
#[unsafe(no_mangle)]
extern "C" fn rust_main(info: u64, kind: u64) -> ! {
    // SAFETY: `start.s` passes what the loader of this kind put into memory.
    let info = unsafe { BootInfo::read(kind, info) };
    trap::init();
    platform::init();
    banner(&info);
    shell::run(&info)
}

fn banner(info: &BootInfo) {
    println!();
    println!("  _        _         _");
    println!(" | |_ __ _| |____ __(_)___ ___ _ _    hello from inside the virtual machine,");
    println!(" |  _/ _` | '_ \\ V /| (_-</ _ \\ '_|   booted by {}", info.loader);
    println!("  \\__\\__,_|_.__/\\_/ |_/__/\\___/_|     `help` lists what can be done here");
    println!();
    print!("CPU {}", cpu::brand().as_str());
    println!(", {} MiB of memory", info.usable() >> 20);
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("\npanic: {info}");
    loop {
        cpu::halt_forever();
    }
}
