//! Guest memory by linear address, as hypercalls see it: the address space of the guest's kernel. Only RAM counts;
//! anything else is EFAULT.

use super::abi::{Errno, hole};
use tabvisor_core::cpu::Cpu;
use tabvisor_core::cpu::memory::canonical;
use tabvisor_core::cpu::paging::Access;
use tabvisor_core::mem::PAGE_SIZE;

/// May a hypercall's pointer lead here?
fn allowed(cpu: &Cpu, va: u64) -> bool {
    if cpu.paravirtual { canonical(va) && !hole::contains(va) } else { !cpu.long || canonical(va) }
}

/// May the TLB be asked first? Stacks and argument blocks are where the guest's kernel has just been.
fn quick(cpu: &Cpu, va: u64) -> bool {
    cpu.long && (cpu.guest_kernel || !cpu.paravirtual) && allowed(cpu, va)
}

/// The guest-physical address of `va`.
fn translate(cpu: &mut Cpu, va: u64, write: bool) -> Result<u64, Errno> {
    if !allowed(cpu, va) {
        return Err(Errno::EFAULT);
    }
    let va = if cpu.long { va } else { va & 0xffff_ffff };
    let cr2 = cpu.cr2;
    let t = cpu.translate(va, Access { write, exec: false, user: false, ac: true });
    cpu.cr2 = cr2;
    t.ok().map(|t| t.pa).filter(|&pa| cpu.ram.contains(pa, 1)).ok_or(Errno::EFAULT)
}

/// Calls `each` for every part of `[va, va + n)` that lies in one page, with its offset and guest-physical address.
fn parts(
    cpu: &mut Cpu,
    va: u64,
    n: usize,
    write: bool,
    mut each: impl FnMut(&mut Cpu, usize, usize, u64),
) -> Result<(), Errno> {
    let mut done = 0;
    while done < n {
        let at = va.wrapping_add(done as u64);
        let len = ((PAGE_SIZE - at % PAGE_SIZE) as usize).min(n - done);
        let pa = translate(cpu, at, write)?;
        each(cpu, done, len, pa);
        done += len;
    }
    Ok(())
}

/// Fills `to` from guest memory.
///
/// # Errors
/// EFAULT.
pub fn read(cpu: &mut Cpu, va: u64, to: &mut [u8]) -> Result<(), Errno> {
    if quick(cpu, va) && cpu.read_known(va, to) {
        return Ok(());
    }
    parts(cpu, va, to.len(), false, |cpu, at, n, pa| cpu.ram.read(pa, &mut to[at..at + n]))
}

/// Copies `from` to guest memory. What lies before the page that faults is written.
///
/// # Errors
/// EFAULT.
pub fn write(cpu: &mut Cpu, va: u64, from: &[u8]) -> Result<(), Errno> {
    if quick(cpu, va) && cpu.write_known(va, from) {
        return Ok(());
    }
    parts(cpu, va, from.len(), true, |cpu, at, n, pa| cpu.ram.write(pa, &from[at..at + n]))
}

/// `N` words of 64 bits.
///
/// # Errors
/// EFAULT.
pub fn words<const N: usize>(cpu: &mut Cpu, va: u64) -> Result<[u64; N], Errno> {
    if let Some(words) = quick(cpu, va).then(|| cpu.words_known(va)).flatten() {
        return Ok(words);
    }
    let mut words = [0; N];
    for (n, word) in (0..).zip(&mut words) {
        *word = get::<8>(cpu, va.wrapping_add(8 * n))?.u64(0);
    }
    Ok(words)
}

/// Writes words of 64 bits. Those before the page that faults are written.
///
/// # Errors
/// EFAULT.
pub fn put_words(cpu: &mut Cpu, va: u64, from: &[u64]) -> Result<(), Errno> {
    if quick(cpu, va) && cpu.put_words_known(va, from) {
        return Ok(());
    }
    (0..).zip(from).try_for_each(|(n, word)| put_u64(cpu, va.wrapping_add(8 * n), *word))
}

/// A structure of `N` bytes.
///
/// # Errors
/// EFAULT.
pub fn get<const N: usize>(cpu: &mut Cpu, va: u64) -> Result<Struct<N>, Errno> {
    let mut s = Struct([0; N]);
    read(cpu, va, &mut s.0)?;
    Ok(s)
}

/// A structure of the ABI, as bytes.
#[derive(Clone, Copy)]
pub struct Struct<const N: usize>(pub [u8; N]);

impl<const N: usize> Struct<N> {
    /// The bytes at an offset; zeros beyond the end.
    fn bytes<const K: usize>(&self, at: usize) -> [u8; K] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; K])
    }
    /// The byte at an offset.
    pub fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.bytes(at))
    }
    /// The 16-bit field at an offset.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }
    /// The 32-bit field at an offset.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }
    /// The 64-bit field at an offset.
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

/// Writes a 64-bit number.
///
/// # Errors
/// EFAULT.
pub fn put_u64(cpu: &mut Cpu, va: u64, v: u64) -> Result<(), Errno> {
    write(cpu, va, &v.to_le_bytes())
}
/// Writes a 32-bit number.
///
/// # Errors
/// EFAULT.
pub fn put_u32(cpu: &mut Cpu, va: u64, v: u32) -> Result<(), Errno> {
    write(cpu, va, &v.to_le_bytes())
}
/// Writes a 16-bit number.
///
/// # Errors
/// EFAULT.
pub fn put_u16(cpu: &mut Cpu, va: u64, v: u16) -> Result<(), Errno> {
    write(cpu, va, &v.to_le_bytes())
}
/// Writes bytes, and zeros up to `n` of them.
///
/// # Errors
/// EFAULT.
pub fn put_text(cpu: &mut Cpu, va: u64, text: &[u8], n: usize) -> Result<(), Errno> {
    let mut all = vec![0; n];
    let k = text.len().min(n);
    all[..k].copy_from_slice(&text[..k]);
    write(cpu, va, &all)
}
