//! Starting a kernel without firmware: files and tables go into guest RAM, and out comes the state
//! the CPU begins with. Everything here is a pure function of its arguments; the files are as little
//! trusted as the guest.

pub mod acpi;
mod dsdt;
pub mod elf;
pub mod entry;
mod error;
pub mod layout;
pub mod linux;
pub mod multiboot;
pub mod pack;
pub mod pack_format;
#[cfg(feature = "unpack")]
pub mod unpack;
pub(crate) mod zero_page;

pub use entry::Entry;
pub use error::BootError;

use tabvisor_core::mem::GuestRam;

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// A bzImage, an ELF executable, one of these with a Multiboot header, or a packed ELF executable ([`pack`]).
    pub kernel: &'a [u8],
    /// The initial RAM disk; empty for none.
    pub initrd: &'a [u8],
    /// The kernel's command line.
    pub cmdline: &'a str,
}

/// Bytes a kernel or an initrd may have: hosts with 32-bit addresses hold both beside the guest's RAM.
pub const MAX_FILE: u64 = 1 << 30;

/// Fails if the file `what` is too large with `len` bytes.
///
/// # Errors
/// [`BootError::TooLarge`].
pub fn check_size(what: &'static str, len: u64) -> Result<(), BootError> {
    if len > MAX_FILE { Err(BootError::TooLarge { what, has: len }) } else { Ok(()) }
}

/// Places ACPI tables for `board`, the kernel, its initrd and command line in `ram`.
///
/// # Errors
/// [`BootError`]; `ram` may then hold a part of it all.
pub fn direct(ram: &GuestRam, files: &Files<'_>, board: &acpi::Board) -> Result<Entry, BootError> {
    zero_page::check_smallest(ram)?;
    check_size("kernel", files.kernel.len() as u64)?;
    check_size("initrd", files.initrd.len() as u64)?;
    let rsdp = acpi::install(ram, board)?;
    match multiboot::Header::find(files.kernel) {
        Some(header) => multiboot::load(ram, header, files),
        None => linux::load(ram, files, &linux::Platform { rsdp: Some(rsdp), text_screen: board.vga }),
    }
}

/// Little-endian numbers out of a file that may be too short.
#[derive(Clone, Copy)]
struct Reader<'a> {
    data: &'a [u8],
    /// What the bytes are, for the error.
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn bytes(&self, at: u64, n: u64) -> Result<&'a [u8], BootError> {
        let has = self.data.len() as u64;
        let end = at.saturating_add(n);
        if end > has {
            return Err(BootError::Truncated { what: self.what, needs: end, has });
        }
        Ok(&self.data[at as usize..end as usize])
    }
    fn le<const N: usize>(&self, at: u64) -> Result<[u8; N], BootError> {
        let mut b = [0; N];
        b.copy_from_slice(self.bytes(at, N as u64)?);
        Ok(b)
    }
    fn u16(&self, at: u64) -> Result<u16, BootError> {
        self.le(at).map(u16::from_le_bytes)
    }
    fn u32(&self, at: u64) -> Result<u32, BootError> {
        self.le(at).map(u32::from_le_bytes)
    }
    fn u64(&self, at: u64) -> Result<u64, BootError> {
        self.le(at).map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests;
