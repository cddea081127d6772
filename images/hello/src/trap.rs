//! Exceptions and interrupts: the IDT, a report with all registers, and the way back to the shell.

use crate::{cpu, println};
use core::arch::asm;
use core::cell::UnsafeCell;

/// Vectors we have entries for: exceptions and the 8259s' interrupts.
const VECTORS: usize = 48;
const SPURIOUS: usize = 0xff;
const CODE: u16 = 0x08;
const TSS: u16 = 0x18;

/// What `trap_common` in `start.s` pushes, and the CPU before it.
#[repr(C)]
pub struct Frame {
    rax: u64,
    rbx: u64,
    rcx: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
    rbp: u64,
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

#[repr(C, packed)]
struct TaskState {
    reserved: u32,
    rsp: [u64; 3],
    reserved2: u64,
    /// Stacks for exceptions that must not trust the current one.
    ist: [u64; 7],
    reserved3: [u16; 5],
    io_map: u16,
}

/// A static that only this file touches, before interrupts are on or inside them.
struct Own<T>(UnsafeCell<T>);
// SAFETY: there is one CPU; see the uses.
unsafe impl<T> Sync for Own<T> {}

#[repr(C, align(16))]
struct Idt([[u64; 2]; 256]);
#[repr(C, align(16))]
struct Stack([u8; 16384]);

static IDT: Own<Idt> = Own(UnsafeCell::new(Idt([[0; 2]; 256])));
static STATE: Own<TaskState> = Own(UnsafeCell::new(TaskState {
    reserved: 0,
    rsp: [0; 3],
    reserved2: 0,
    ist: [0; 7],
    reserved3: [0; 5],
    io_map: 104,
}));
static SAFE_STACK: Own<Stack> = Own(UnsafeCell::new(Stack([0; 16384])));
/// What to do on each vector.
type Handlers = [Option<fn()>; VECTORS];
static HANDLERS: Own<Handlers> = Own(UnsafeCell::new([None; VECTORS]));

unsafe extern "C" {
    static trap_entries: u8;
    static mut boot_gdt: [u64; 5];
    static mut guard_rsp: u64;
    static guard_landing: u8;
    fn guarded(f: extern "C" fn(u64), arg: u64) -> u64;
}

/// Names of the exceptions (SDM 3A, table 6-1).
const NAMES: [&str; 22] = [
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range exceeded",
    "#UD invalid opcode",
    "#NM no coprocessor",
    "#DF double fault",
    "coprocessor segment overrun",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack-segment fault",
    "#GP general protection",
    "#PF page fault",
    "reserved",
    "#MF x87 error",
    "#AC alignment check",
    "#MC machine check",
    "#XM SIMD error",
    "#VE virtualization",
    "#CP control protection",
];

/// Loads IDT and TSS.
pub fn init() {
    // SAFETY: interrupts are off, and this runs once, before anything else uses these statics.
    unsafe {
        let state = STATE.0.get();
        let top = (SAFE_STACK.0.get() as u64) + size_of::<Stack>() as u64;
        (*state).ist = [top, 0, 0, 0, 0, 0, 0];
        let base = state as u64;
        // Present, available 64-bit TSS, 104 bytes (SDM 3A 8.2.3).
        let low = 103 | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        boot_gdt[3] = low;
        boot_gdt[4] = base >> 32;
        asm!("ltr {0:x}", in(reg) TSS, options(nostack, preserves_flags));

        let idt = &mut (*IDT.0.get()).0;
        let gate = |at: u64, ist: u64| {
            // Present, 64-bit interrupt gate (SDM 3A 6.14.1).
            [at & 0xffff | u64::from(CODE) << 16 | ist << 32 | 0x8e << 40 | (at >> 16 & 0xffff) << 48, at >> 32]
        };
        let entries = &raw const trap_entries as u64;
        for (i, slot) in idt.iter_mut().enumerate().take(VECTORS) {
            *slot = gate(entries + 16 * i as u64, u64::from(i == 8));
        }
        // The spurious vector of the APIC needs no answer; vector 39, the 8259's, has none either.
        idt[SPURIOUS] = gate(entries + 16 * 39, 0);
        let pointer: [u16; 5] = {
            let at = idt.as_ptr() as u64;
            [4095, at as u16, (at >> 16) as u16, (at >> 32) as u16, (at >> 48) as u16]
        };
        asm!("lidt [{0}]", in(reg) pointer.as_ptr(), options(nostack, preserves_flags));
    }
}

/// Sets the handler of an interrupt. Only for use before interrupts are on.
pub fn on(vector: u8, handler: fn()) {
    // SAFETY: interrupts are off, nobody reads the table.
    unsafe { (*HANDLERS.0.get())[usize::from(vector)] = Some(handler) };
}

/// Calls `f(arg)`; `false` if an exception ended it.
pub fn guard(f: extern "C" fn(u64), arg: u64) -> bool {
    // SAFETY: `guarded` keeps the C ABI; what `f` had not finished stays as it is, which for the
    // commands of the shell is harmless: they own no lock and no half-made state.
    unsafe { guarded(f, arg) == 0 }
}

/// From `trap_common`, interrupts off.
#[unsafe(no_mangle)]
extern "C" fn rust_trap(frame: &mut Frame) {
    let vector = frame.vector as usize;
    if vector >= 32 {
        // SAFETY: the table was written before interrupts were let in.
        if let Some(handler) = unsafe { (*HANDLERS.0.get()).get(vector).copied().flatten() } {
            handler();
        }
        return;
    }
    report(frame);
    // SAFETY: one CPU, interrupts off; `guard_rsp` is only written in `guarded`.
    let back = unsafe { guard_rsp };
    if vector == 3 {
        println!("going on behind the breakpoint");
    } else if back != 0 {
        frame.rip = &raw const guard_landing as u64;
        frame.rsp = back;
        // Interrupts on as in the shell, direction forward, no single step.
        frame.rflags = 0x202;
    } else {
        println!("outside of any command: the machine stops");
        loop {
            cpu::halt_forever();
        }
    }
}

fn report(f: &Frame) {
    let name = NAMES.get(f.vector as usize).unwrap_or(&"reserved");
    println!("\nexception {} {name}, error code {:#x}", f.vector, f.error);
    if f.vector == 14 {
        let at: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr2", out(reg) at, options(nomem, nostack, preserves_flags)) };
        let why = if f.error & 1 == 0 { "nothing is mapped there" } else { "not allowed there" };
        let what = if f.error & 16 != 0 {
            "fetch"
        } else if f.error & 2 != 0 {
            "write"
        } else {
            "read"
        };
        println!("{what} at {at:#x}: {why}");
    }
    println!("rip {:016x}  cs {:04x}  rflags {:08x}  rsp {:016x}  ss {:04x}", f.rip, f.cs, f.rflags, f.rsp, f.ss);
    println!("rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}", f.rax, f.rbx, f.rcx, f.rdx);
    println!("rsi {:016x}  rdi {:016x}  rbp {:016x}  r8  {:016x}", f.rsi, f.rdi, f.rbp, f.r8);
    println!("r9  {:016x}  r10 {:016x}  r11 {:016x}  r12 {:016x}", f.r9, f.r10, f.r11, f.r12);
    println!("r13 {:016x}  r14 {:016x}  r15 {:016x}", f.r13, f.r14, f.r15);
}
