//! The PC: 16550 on COM1, two 8259s, 8254, MC146818, reset by port 0xcf9 or the i8042.
//! Everything is driven by interrupts, so an idle machine halts.

use crate::cpu::{self, inb, outb};
use crate::trap;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

const COM1: u16 = 0x3f8;
const PIC1: u16 = 0x20;
const PIC2: u16 = 0xa0;
const EOI: u8 = 0x20;
/// Vectors of the first 8259; the second one's follow.
const PIC_VECTOR: u8 = 0x20;
const TIMER: u8 = PIC_VECTOR;
const SERIAL: u8 = PIC_VECTOR + 4;
/// Hz of the 8254's input.
const PIT_HZ: u32 = 1_193_182;
/// Timer ticks per second.
pub const TICK_HZ: u64 = 100;

static TICKS: AtomicU64 = AtomicU64::new(0);
/// Bytes received: a ring with one writer (the interrupt) and one reader.
static RING: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];
static HEAD: AtomicUsize = AtomicUsize::new(0);
static TAIL: AtomicUsize = AtomicUsize::new(0);

/// Sets up all devices and lets interrupts in.
pub fn init() {
    // 115200 8N1, FIFOs on, interrupt on received bytes, OUT2 lets it through.
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 0x0b), (1, 1)] {
        outb(COM1 + register, value);
    }
    // ICW1 to ICW4, then masks: timer, cascade and COM1 stay open.
    for (base, vector, link, mask) in [(PIC1, PIC_VECTOR, 4, !0b1_0101u8), (PIC2, PIC_VECTOR + 8, 2, 0xff)] {
        for (port, value) in [(base, 0x11), (base + 1, vector), (base + 1, link), (base + 1, 1), (base + 1, mask)] {
            outb(port, value);
        }
    }
    // Channel 0, both bytes, mode 2.
    let divisor = (PIT_HZ / TICK_HZ as u32) as u16;
    outb(0x43, 0x34);
    outb(0x40, divisor as u8);
    outb(0x40, (divisor >> 8) as u8);
    virtual_wire();
    trap::on(TIMER, || {
        TICKS.fetch_add(1, Relaxed);
        outb(PIC1, EOI);
    });
    trap::on(SERIAL, || {
        receive();
        outb(PIC1, EOI);
    });
    cpu::sti();
}

/// Lets the 8259 through the local APIC, as firmware would have (MP specification, 3.6.2.2).
fn virtual_wire() {
    const APIC_BASE: u32 = 0x1b;
    const ENABLED: u64 = 1 << 11;
    if cpu::cpuid(1)[3] & 1 << 9 == 0 {
        return;
    }
    let base = cpu::rdmsr(APIC_BASE);
    if base & ENABLED == 0 {
        return;
    }
    let apic = base & 0xf_ffff_f000;
    // SAFETY: the APIC's registers are mapped (below 4 GiB) and nothing else uses them.
    unsafe {
        ((apic + 0xf0) as *mut u32).write_volatile(0x1ff); // enabled, spurious vector 0xff
        ((apic + 0x350) as *mut u32).write_volatile(0x700); // LINT0: ExtINT
    }
}

fn receive() {
    // Bounded, should a broken UART always have a byte.
    for _ in 0..64 {
        if inb(COM1 + 5) & 1 == 0 {
            break;
        }
        let b = inb(COM1);
        let head = HEAD.load(Relaxed);
        if head.wrapping_sub(TAIL.load(Relaxed)) < RING.len() {
            RING[head % RING.len()].store(b, Relaxed);
            HEAD.store(head.wrapping_add(1), Relaxed);
        }
    }
    // Reading the identification acknowledges whatever else it was.
    inb(COM1 + 2);
}

/// Writes a byte to the console.
pub fn put(b: u8) {
    for _ in 0..1_000_000 {
        if inb(COM1 + 5) & 0x20 != 0 {
            break;
        }
    }
    outb(COM1, b);
}

/// The next byte from the console; halts until there is one.
pub fn get() -> u8 {
    loop {
        cpu::cli();
        let tail = TAIL.load(Relaxed);
        if tail != HEAD.load(Relaxed) {
            let b = RING[tail % RING.len()].load(Relaxed);
            TAIL.store(tail.wrapping_add(1), Relaxed);
            cpu::sti();
            return b;
        }
        cpu::sti_halt();
    }
}

/// Timer ticks since the start, [`TICK_HZ`] per second.
pub fn ticks() -> u64 {
    TICKS.load(Relaxed)
}

/// Waits for the next tick.
pub fn wait_tick() {
    let now = ticks();
    loop {
        cpu::cli();
        if ticks() != now {
            break cpu::sti();
        }
        cpu::sti_halt();
    }
}

/// The real time clock: year, month, day, hours, minutes, seconds.
pub fn clock() -> [u16; 6] {
    let cmos = |index: u8| {
        outb(0x70, index);
        inb(0x71)
    };
    let read = || {
        // Not while it updates itself (MC146818 datasheet: UIP).
        for _ in 0..100_000 {
            if cmos(0x0a) & 0x80 == 0 {
                break;
            }
        }
        [0x32, 9, 8, 7, 4, 2, 0].map(cmos)
    };
    // Two equal readings are one moment.
    let mut now = read();
    for _ in 0..10 {
        let again = read();
        if again == now {
            break;
        }
        now = again;
    }
    let mode = cmos(0x0b);
    let pm = now[4] & 0x80 != 0 && mode & 2 == 0;
    now[4] &= 0x7f;
    let [century, year, month, day, hour, minute, second] =
        now.map(|v| u16::from(if mode & 4 == 0 { (v >> 4) * 10 + (v & 15) } else { v }));
    let century = if (19..=29).contains(&century) { century } else { 20 };
    let hour = if mode & 2 == 0 { hour % 12 + if pm { 12 } else { 0 } } else { hour };
    [century * 100 + year, month, day, hour, minute, second]
}

/// Resets the machine by all means a PC has; comes back if none works.
pub fn reset() {
    outb(0xcf9, 2);
    outb(0xcf9, 6);
    for _ in 0..100_000 {
        if inb(0x64) & 2 == 0 {
            break;
        }
    }
    outb(0x64, 0xfe);
    for _ in 0..TICK_HZ / 2 {
        wait_tick();
    }
}
