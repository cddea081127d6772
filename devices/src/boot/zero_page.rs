//! Linux's `struct boot_params`, the "zero page": memory map, command line, initrd, and the copy of
//! the kernel's setup header. Source: Linux Documentation/arch/x86/zero-page.rst and boot.rst.

use super::{BootError, layout};
use tabvisor_core::mem::GuestRam;

/// `boot_params.screen_info`.
const SCREEN_INFO: usize = 0x000;
/// `boot_params.acpi_rsdp_addr`.
const ACPI_RSDP_ADDR: usize = 0x070;
/// `boot_params.e820_entries`.
const E820_ENTRIES: usize = 0x1e8;
/// `boot_params.hdr`, at the same offset as in the kernel file.
pub(super) const SETUP_HEADER: usize = 0x1f1;
/// Where the room for the setup header ends.
pub(super) const SETUP_HEADER_END: usize = 0x290;
/// `boot_params.e820_table`: 128 entries of 20 bytes.
const E820_TABLE: usize = 0x2d0;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// Offsets in the zero page of the header's fields that a boot loader writes.
mod field {
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const CODE32_START: usize = 0x214;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const CMD_LINE_PTR: usize = 0x228;
}
/// `type_of_loader` of a loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;

/// What the zero page says.
pub(super) struct ZeroPage<'a> {
    /// The kernel's setup header from offset 0x1f1, at most up to [`SETUP_HEADER_END`].
    pub header: &'a [u8],
    /// Where the protected-mode code was put.
    pub code32_start: u32,
    /// Physical address and size of the initrd.
    pub initrd: Option<(u32, u32)>,
    /// Physical address of the ACPI RSDP.
    pub rsdp: Option<u64>,
    /// Is there a VGA in 80x25 text mode?
    pub text_screen: bool,
}

impl ZeroPage<'_> {
    /// Writes the page for a machine with this RAM to [`layout::ZERO_PAGE`].
    pub fn write(&self, ram: &GuestRam) {
        let mut p = [0u8; 0x1000];
        let mut put = |at: usize, b: &[u8]| p[at..at + b.len()].copy_from_slice(b);
        put(SETUP_HEADER, self.header);
        put(field::TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
        put(field::CODE32_START, &self.code32_start.to_le_bytes());
        let (image, size) = self.initrd.unwrap_or((0, 0));
        put(field::RAMDISK_IMAGE, &image.to_le_bytes());
        put(field::RAMDISK_SIZE, &size.to_le_bytes());
        put(field::CMD_LINE_PTR, &(layout::CMDLINE as u32).to_le_bytes());
        put(ACPI_RSDP_ADDR, &self.rsdp.unwrap_or(0).to_le_bytes());
        if self.text_screen {
            put(SCREEN_INFO + 6, &[3, 80]); // orig_video_mode, orig_video_cols
            put(SCREEN_INFO + 14, &[25, 1]); // orig_video_lines, orig_video_isVGA
            put(SCREEN_INFO + 16, &16u16.to_le_bytes()); // orig_video_points
        }
        let map = e820(ram.len());
        put(E820_ENTRIES, &[map.len() as u8]);
        for (i, (from, len, kind)) in map.iter().enumerate() {
            let at = E820_TABLE + 20 * i;
            put(at, &from.to_le_bytes());
            put(at + 8, &len.to_le_bytes());
            put(at + 16, &kind.to_le_bytes());
        }
        ram.write(layout::ZERO_PAGE, &p);
    }
}

/// The memory map: start, bytes, type.
pub(super) fn e820(ram: u64) -> [(u64, u64, u32); 6] {
    use layout::{HIGH_RAM, IOAPIC_BASE, LAPIC_BASE, LOW_RAM_END, ROM_AREA};
    [
        (0, LOW_RAM_END, E820_RAM),
        (LOW_RAM_END, 0xa_0000 - LOW_RAM_END, E820_RESERVED),
        (ROM_AREA, HIGH_RAM - ROM_AREA, E820_RESERVED),
        (HIGH_RAM, ram.saturating_sub(HIGH_RAM), E820_RAM),
        (IOAPIC_BASE, 0x1000, E820_RESERVED),
        (LAPIC_BASE, 0x1000, E820_RESERVED),
    ]
}

/// Fails if not even the tables fit.
pub(super) fn check_smallest(ram: &GuestRam) -> Result<(), BootError> {
    let needs = layout::HIGH_RAM + (1 << 20);
    if ram.len() < needs {
        return Err(BootError::NeedsMemory { what: "booting a kernel", needs, has: ram.len() });
    }
    Ok(())
}

/// Writes the command line with its final zero to [`layout::CMDLINE`]; the kernel takes `max` bytes.
pub(super) fn write_cmdline(ram: &GuestRam, cmdline: &str, max: usize) -> Result<(), BootError> {
    check_cmdline(cmdline, max.min(layout::CMDLINE_MAX - 1))?;
    ram.write(layout::CMDLINE, cmdline.as_bytes());
    ram.write(layout::CMDLINE + cmdline.len() as u64, &[0]);
    Ok(())
}

/// Fails if a command line has more than `max` bytes, or a zero.
pub(crate) fn check_cmdline(cmdline: &str, max: usize) -> Result<(), BootError> {
    if cmdline.len() > max {
        return Err(BootError::CommandLineTooLong { len: cmdline.len(), max });
    }
    if let Some(at) = cmdline.bytes().position(|b| b == 0) {
        return Err(BootError::CommandLineZero(at));
    }
    Ok(())
}

/// Puts the initrd as high as `last`, the highest address the kernel lets it have, and RAM allow,
/// above `kernel_end`. Address and size, or nothing for an empty one.
pub(super) fn place_initrd(
    ram: &GuestRam,
    initrd: &[u8],
    kernel_end: u64,
    last: u64,
) -> Result<Option<(u32, u32)>, BootError> {
    if initrd.is_empty() {
        return Ok(None);
    }
    let floor = kernel_end.next_multiple_of(0x1000);
    let size = initrd.len() as u64;
    let highest = last.saturating_add(1).min(tabvisor_core::mem::MAX_RAM);
    let limit = highest.min(ram.len()) & !0xfff;
    let room = limit.saturating_sub(floor);
    if size > room {
        let needs = floor + size.next_multiple_of(0x1000);
        return Err(BootError::InitrdTooLarge { size, room, needs: (needs <= highest).then_some(needs) });
    }
    let at = (limit - size) & !0xfff;
    ram.write(at, initrd);
    // Both are below 4 GiB because RAM is.
    Ok(Some((at as u32, size as u32)))
}

/// Clears `n` bytes of RAM: after a reset it holds what the last run left.
pub(super) fn clear(ram: &GuestRam, at: u64, n: u64) {
    let zeros = vec![0; n.min(1 << 16) as usize];
    let mut done = 0;
    while done < n {
        let part = (n - done).min(zeros.len() as u64);
        ram.write(at + done, &zeros[..part as usize]);
        done += part;
    }
}
