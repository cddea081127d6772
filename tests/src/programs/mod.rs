//! Random guest programs: blocks, loops, calls, tables of jumps, faults that a handler repairs or skips, code that
//! changes itself, remapped pages, interrupts. Whoever runs one (the interpreter, compiled code) has to be in the same
//! state at the same count of instructions.
//!
//! `generate.rs` draws a program, `payload.rs` its straight instructions; `kernel.rs` is what handles its exceptions,
//! and `machine.rs` what it runs on. A program never ends: a watchdog starts it again when it is lost.

pub mod asm;
pub mod generate;
pub mod kernel;
pub mod machine;
pub mod payload;

/// Where things lie. The first two megabytes are mapped onto themselves, but for the windows.
pub mod layout {
    /// PML4, PDPT, page directory and page table of 64-bit mode; the directory of 32-bit mode.
    pub const TABLES: [u64; 3] = [0x1000, 0x2000, 0x3000];
    /// The page table of the first two megabytes (32-bit mode: four).
    pub const PT: u64 = 0x4000;
    /// Descriptor table.
    pub const GDT: u64 = 0x5000;
    /// Interrupt table.
    pub const IDT: u64 = 0x6000;
    /// Task state.
    pub const TSS: u64 = 0x7000;
    /// Top of the handlers' stack, from [`SYSTEM`] on.
    pub const STACK0: u64 = 0x9ff0;
    /// One entry for each vector, 16 bytes apart.
    pub const ENTRIES: u64 = 0xa000;
    /// How often each vector came.
    pub const COUNTS: u64 = 0xb000;
    /// Which remap is next.
    pub const NEXT: u64 = 0xb400;
    /// The remaps ([`super::kernel::Remap`]).
    pub const REMAPS: u64 = 0xb800;
    /// What the entries lead to.
    pub const HANDLER: u64 = 0xc000;
    /// For each byte of code the length of the instruction that begins there, or 0.
    pub const LENGTHS: u64 = 0x1_0000;
    /// The program.
    pub const CODE: u64 = 0x2_0000;
    /// Bytes of it.
    pub const CODE_SIZE: u64 = 0x1_0000;
    /// Where the program's stack begins, downwards.
    pub const STACK: u64 = 0x3_7000;
    /// Sixteen pages of data.
    pub const DATA: u64 = 0x10_0000;
    /// Bytes of them.
    pub const DATA_SIZE: u64 = 0x1_0000;
    /// Sixteen pages that show others: data, code, no RAM. Its addresses have the code's low bits.
    pub const WINDOW: u64 = 0x12_0000;
    /// The first 64 KiB, to be written to; elsewhere they are read-only.
    pub const SYSTEM: u64 = 0x1f_0000;
    /// Bytes of RAM.
    pub const RAM: u64 = 0x20_0000;
    /// The upper half of 64-bit addresses shows the first two megabytes again.
    pub const HIGH64: u64 = 0xffff_8000_0000_0000;
    /// The same for 32-bit addresses.
    pub const HIGH32: u64 = 0xc000_0000;
    /// Code and data of privilege level 0 and 3, the task.
    pub const CODE0: u16 = 0x08;
    /// Data of level 0.
    pub const DATA0: u16 = 0x10;
    /// Code of level 3.
    pub const CODE3: u16 = 0x1b;
    /// Data of level 3.
    pub const DATA3: u16 = 0x23;
    /// The task.
    pub const TASK: u16 = 0x28;
    /// The timer's vector.
    pub const TIMER: u8 = 0x40;
    /// The vector that changes a page-table entry.
    pub const REMAP: u8 = 0x81;
}
