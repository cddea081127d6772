//! Multiboot: ELF executables that carry its header are entered as it says, in 32-bit protected mode, with a
//! memory map, the command line and the initrd as a module. Source: Multiboot Specification 0.6.96.
//!
//! Left out: kernels that are no ELF files (address fields in the header), video modes, APM, drives.

use super::elf::Image;
use super::zero_page::{self, e820};
use super::{BootError, Entry, Files, entry, layout};
use tabvisor_core::mem::GuestRam;

/// A header lies within so many bytes (3.1), on a multiple of 4.
const SEARCH: usize = 8192;
const HEADER_MAGIC: u32 = 0x1bad_b002;
/// EAX at the entry (3.2).
const LOADER_MAGIC: u64 = 0x2bad_b002;
/// What a kernel can demand (3.1.2) and gets: modules on page boundaries, a memory map.
const DEMANDS_MET: u32 = 3;
/// The low half of the flags: what the loader must understand.
const DEMANDS: u32 = 0xffff;
/// The header names load addresses, for files that are not ELF.
const HAS_ADDRESSES: u32 = 1 << 16;

/// Fields of the information structure (3.3).
mod info {
    pub const FLAGS: usize = 0;
    pub const MEM_LOWER: usize = 4;
    pub const MEM_UPPER: usize = 8;
    pub const CMDLINE: usize = 16;
    pub const MODS_COUNT: usize = 20;
    pub const MODS_ADDR: usize = 24;
    pub const MMAP_LENGTH: usize = 44;
    pub const MMAP_ADDR: usize = 48;
    pub const LOADER_NAME: usize = 64;
    /// Flags: memory sizes, command line, modules, memory map, loader name.
    pub const PRESENT: u32 = 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
}
// Where the parts lie in `layout::MULTIBOOT`.
const MMAP: usize = 0x80;
const MODULE: usize = 0x180;
const NAME: usize = 0x190;
const NOTHING: usize = 0x1a0;
const CMDLINE: usize = 0x200;
const CMDLINE_MAX: usize = (layout::MULTIBOOT_END - layout::MULTIBOOT) as usize - CMDLINE - 1;

/// What a kernel's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    flags: u32,
}

impl Header {
    /// The header of a kernel, if it has one.
    pub fn find(kernel: &[u8]) -> Option<Self> {
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let head = &kernel[..kernel.len().min(SEARCH)];
        (0..head.len().saturating_sub(11)).step_by(4).find_map(|at| {
            let (magic, flags, checksum) = (word(&head[at..]), word(&head[at + 4..]), word(&head[at + 8..]));
            let sound = magic == HEADER_MAGIC && magic.wrapping_add(flags).wrapping_add(checksum) == 0;
            sound.then_some(Self { flags })
        })
    }
}

/// Places kernel, initrd, command line and information in `ram`; the state to enter the kernel with.
///
/// # Errors
/// [`BootError`]; `ram` may then hold a part of it all.
pub fn load(ram: &GuestRam, header: Header, files: &Files<'_>) -> Result<Entry, BootError> {
    zero_page::check_smallest(ram)?;
    if header.flags & (DEMANDS & !DEMANDS_MET | HAS_ADDRESSES) != 0 {
        let expected = "at most 3: ELF, modules on pages, memory map";
        return Err(BootError::Damaged { what: "its Multiboot flags", value: header.flags.into(), expected });
    }
    let image = Image::plain(files.kernel)?;
    let elf = image.elf();
    let entry = elf.physical_entry()?;
    let low = layout::MULTIBOOT_END..=layout::LOW_RAM_END;
    let usable = |from, end| from >= layout::HIGH_RAM || low.contains(&from) && low.contains(&end);
    elf.check_fits(ram, usable, "an address from 8 KiB to the end of low memory or 1 MiB and more")?;
    if files.cmdline.len() > CMDLINE_MAX {
        return Err(BootError::CommandLineTooLong { len: files.cmdline.len(), max: CMDLINE_MAX });
    }
    if let Some(at) = files.cmdline.bytes().position(|b| b == 0) {
        return Err(BootError::CommandLineZero(at));
    }
    let module = zero_page::place_initrd(ram, files.initrd, elf.end.max(layout::HIGH_RAM), u32::MAX.into())?;
    image.place(ram)?;
    write_information(ram, files.cmdline, module);
    let mut e = entry::protected_mode(ram, entry, 0);
    (e.rax, e.rbx) = (LOADER_MAGIC, layout::MULTIBOOT);
    Ok(e)
}

fn write_information(ram: &GuestRam, cmdline: &str, module: Option<(u32, u32)>) {
    let mut page = vec![0u8; (layout::MULTIBOOT_END - layout::MULTIBOOT) as usize];
    let address = |at: usize| layout::MULTIBOOT as u32 + at as u32;
    let mut put = |at: usize, v: u32| page[at..at + 4].copy_from_slice(&v.to_le_bytes());
    put(info::FLAGS, info::PRESENT);
    // In KiB: below 1 MiB, and from there on without a hole.
    put(info::MEM_LOWER, (layout::LOW_RAM_END >> 10) as u32);
    put(info::MEM_UPPER, ((ram.len() - layout::HIGH_RAM) >> 10) as u32);
    put(info::CMDLINE, address(CMDLINE));
    if let Some((at, size)) = module {
        put(info::MODS_COUNT, 1);
        put(MODULE, at);
        put(MODULE + 4, at + size);
        put(MODULE + 8, address(NOTHING));
    }
    put(info::MODS_ADDR, address(MODULE));
    let map = e820(ram.len());
    for (i, (from, len, kind)) in map.iter().enumerate() {
        // The size of an entry does not count itself.
        let words = [20, *from as u32, (from >> 32) as u32, *len as u32, (len >> 32) as u32, *kind];
        for (j, w) in words.into_iter().enumerate() {
            put(MMAP + 24 * i + 4 * j, w);
        }
    }
    put(info::MMAP_LENGTH, 24 * map.len() as u32);
    put(info::MMAP_ADDR, address(MMAP));
    put(info::LOADER_NAME, address(NAME));
    page[NAME..NAME + 8].copy_from_slice(b"Tabvisor");
    page[CMDLINE..CMDLINE + cmdline.len()].copy_from_slice(cmdline.as_bytes());
    ram.write(layout::MULTIBOOT, &page);
}
