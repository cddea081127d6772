//! The instructions that Rust has no words for.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

/// IN, 8 bits.
pub fn inb(port: u16) -> u8 {
    let v;
    // SAFETY: a port access has no effect on memory this program relies on.
    unsafe { asm!("in al, dx", out("al") v, in("dx") port, options(nomem, nostack, preserves_flags)) };
    v
}
/// OUT, 8 bits.
pub fn outb(port: u16, v: u8) {
    // SAFETY: as above; no device here does DMA.
    unsafe { asm!("out dx, al", in("al") v, in("dx") port, options(nomem, nostack, preserves_flags)) };
}
/// IN, 16 bits.
pub fn inw(port: u16) -> u16 {
    let v;
    // SAFETY: as above.
    unsafe { asm!("in ax, dx", out("ax") v, in("dx") port, options(nomem, nostack, preserves_flags)) };
    v
}
/// OUT, 16 bits.
pub fn outw(port: u16, v: u16) {
    // SAFETY: as above.
    unsafe { asm!("out dx, ax", in("ax") v, in("dx") port, options(nomem, nostack, preserves_flags)) };
}

/// The time stamp counter, not before what comes before it.
pub fn tsc() -> u64 {
    let (lo, hi): (u32, u32);
    // SAFETY: LFENCE and RDTSC only write these registers.
    unsafe { asm!("lfence", "rdtsc", out("eax") lo, out("edx") hi, options(nomem, nostack, preserves_flags)) };
    u64::from(hi) << 32 | u64::from(lo)
}

/// Reads an MSR that exists.
pub fn rdmsr(msr: u32) -> u64 {
    let (lo, hi): (u32, u32);
    // SAFETY: reading has no side effect; a missing MSR raises #GP, which is reported.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") lo, out("edx") hi, options(nomem, nostack, preserves_flags)) };
    u64::from(hi) << 32 | u64::from(lo)
}

/// CPUID: eax, ebx, ecx, edx; zeros beyond the highest leaf.
pub fn cpuid(leaf: u32) -> [u32; 4] {
    if leaf > __cpuid_count(leaf & 0x8000_0000, 0).eax {
        return [0; 4];
    }
    let r = __cpuid_count(leaf, 0);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// Interrupts on.
pub fn sti() {
    // SAFETY: the IDT is set up before this is called.
    unsafe { asm!("sti", options(nomem, nostack)) };
}
/// Interrupts off.
pub fn cli() {
    // SAFETY: never unsound.
    unsafe { asm!("cli", options(nomem, nostack)) };
}
/// Waits for an interrupt. Called with interrupts off: STI holds them back for one instruction, so
/// none is lost between the caller's look and the HLT.
pub fn sti_halt() {
    // SAFETY: the IDT is set up before this is called.
    unsafe { asm!("sti", "hlt", options(nomem, nostack)) };
}
/// Stops.
pub fn halt_forever() {
    // SAFETY: never unsound.
    unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
}

/// The CPU's name, from the brand string or else the vendor.
pub struct Brand([u8; 48]);

impl Brand {
    /// Without the spaces around it.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(self.0.len());
        core::str::from_utf8(&self.0[..end]).unwrap_or("?").trim()
    }
}

/// Who the CPU says it is.
pub fn brand() -> Brand {
    let mut name = [0; 48];
    if cpuid(0x8000_0000)[0] >= 0x8000_0004 {
        for (part, leaf) in name.chunks_exact_mut(16).zip(0x8000_0002..) {
            for (to, r) in part.chunks_exact_mut(4).zip(cpuid(leaf)) {
                to.copy_from_slice(&r.to_le_bytes());
            }
        }
    } else {
        let [_, b, c, d] = cpuid(0);
        for (to, r) in name.chunks_exact_mut(4).zip([b, d, c]) {
            to.copy_from_slice(&r.to_le_bytes());
        }
    }
    Brand(name)
}
