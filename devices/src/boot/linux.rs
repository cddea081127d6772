//! Loading Linux, or anything that speaks its boot protocol: a bzImage, or an ELF executable that is
//! entered as the bzImage's own decompressor would enter it. Source: Linux
//! Documentation/arch/x86/boot.rst, protocol 2.02 to 2.15.
//!
//! A 64-bit kernel is entered in 64-bit mode, others in 32-bit protected mode; the 16-bit setup
//! code of a bzImage never runs. An ELF kernel stays where it was linked: Linux moves itself (KASLR)
//! only in the decompressor, so no relocation information is needed, and nothing needs `nokaslr`.

use super::elf::{self, Image};
use super::zero_page::{self, SETUP_HEADER, SETUP_HEADER_END, ZeroPage};
use super::{BootError, Entry, Files, Reader, entry, layout, pack};
use tabvisor_core::mem::GuestRam;

/// What the zero page tells a kernel about the board.
#[derive(Clone, Copy, Debug, Default)]
pub struct Platform {
    /// Physical address of the ACPI RSDP, if there are tables.
    pub rsdp: Option<u64>,
    /// Is there a VGA, in 80x25 text mode?
    pub text_screen: bool,
}

/// Offsets of the setup header's fields in a kernel file.
mod header {
    pub const SETUP_SECTS: u64 = 0x1f1;
    pub const SYSSIZE: u64 = 0x1f4;
    pub const BOOT_FLAG: u64 = 0x1fe;
    /// The second byte of a jump: the header ends that far behind it.
    pub const JUMP_OFFSET: u64 = 0x201;
    pub const MAGIC: u64 = 0x202;
    pub const VERSION: u64 = 0x206;
    pub const KERNEL_VERSION: u64 = 0x20e;
    pub const LOADFLAGS: u64 = 0x211;
    pub const INITRD_ADDR_MAX: u64 = 0x22c;
    pub const KERNEL_ALIGNMENT: u64 = 0x230;
    pub const XLOADFLAGS: u64 = 0x236;
    pub const CMDLINE_SIZE: u64 = 0x238;
    pub const PREF_ADDRESS: u64 = 0x258;
    pub const INIT_SIZE: u64 = 0x260;
}
const HDRS: [u8; 4] = *b"HdrS";
const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
/// The 64-bit entry point of a bzImage, from the start of its protected-mode code.
const ENTRY_64: u64 = 0x200;
/// The highest initrd address of kernels that do not say (boot.rst, `initrd_addr_max`).
const INITRD_ADDR_MAX_DEFAULT: u64 = 0x37ff_ffff;
/// The highest initrd address that x86-64 Linux states in its header; a bare ELF file has none.
const INITRD_ADDR_MAX_64: u64 = 0x7fff_ffff;
/// Linux's COMMAND_LINE_SIZE on x86, less the final zero.
const CMDLINE_SIZE: usize = 2047;
/// The command line of protocols before 2.06.
const CMDLINE_SIZE_OLD: usize = 255;

/// Places kernel, initrd, command line and zero page in `ram`; the state to enter the kernel with.
///
/// # Errors
/// [`BootError`]; `ram` may then hold a part of it all.
pub fn load(ram: &GuestRam, files: &Files<'_>, platform: &Platform) -> Result<Entry, BootError> {
    zero_page::check_smallest(ram)?;
    let k = files.kernel;
    if k.starts_with(&pack::MAGIC) || k.starts_with(&elf::MAGIC) {
        load_elf(ram, &Image::open(k)?, files, platform)
    } else if k.get(header::MAGIC as usize..).is_some_and(|m| m.starts_with(&HDRS)) {
        load_bzimage(ram, files, platform)
    } else {
        Err(BootError::NotAKernel(looks_like(k)))
    }
}

/// The version text in a bzImage, as `file` would show it.
pub fn version(kernel: &[u8]) -> Option<&str> {
    let file = Reader { data: kernel, what: "the version" };
    if file.le(header::MAGIC).ok()? != HDRS {
        return None;
    }
    let at = 0x200 + usize::from(file.u16(header::KERNEL_VERSION).ok()?);
    let text = kernel.get(at..kernel.len().min(at + 256))?;
    core::str::from_utf8(text.split(|&b| b == 0).next()?).ok().filter(|t| !t.is_empty())
}

/// A bzImage whose header has been checked.
struct BzImage<'a> {
    header: &'a [u8],
    code: &'a [u8],
    is_64_bit: bool,
    initrd_last: u64,
    cmdline_max: usize,
    /// The first byte the kernel leaves alone while it unpacks itself.
    end: u64,
}

impl<'a> BzImage<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, BootError> {
        let file = Reader { data, what: "its setup header" };
        if file.u16(header::BOOT_FLAG)? != 0xaa55 {
            let value = file.u16(header::BOOT_FLAG)?.into();
            return Err(BootError::Damaged { what: "its boot flag", value, expected: "0xaa55" });
        }
        let version = file.u16(header::VERSION)?;
        let flags: [u8; 1] = file.le(header::LOADFLAGS)?;
        if version < 0x202 || flags[0] & LOADED_HIGH == 0 {
            return Err(BootError::OldProtocol(version));
        }
        // Fields beyond the header's stated end are not the kernel's.
        let jump: [u8; 1] = file.le(header::JUMP_OFFSET)?;
        let header_end = header::JUMP_OFFSET + 1 + u64::from(jump[0]);
        let header_end = header_end.min(SETUP_HEADER_END as u64);
        let header = file.bytes(SETUP_HEADER as u64, header_end.saturating_sub(SETUP_HEADER as u64))?;
        let has = |since: u16, at: u64, n: u64| version >= since && at + n <= header_end;

        let sects: [u8; 1] = file.le(header::SETUP_SECTS)?;
        // boot.rst: 0 means 4.
        let setup = 512 * (1 + u64::from(if sects[0] == 0 { 4 } else { sects[0] }));
        let size = 16 * u64::from(file.u32(header::SYSSIZE)?);
        if size <= ENTRY_64 {
            return Err(BootError::Damaged { what: "its size", value: size, expected: "more than its entry point" });
        }
        let code = Reader { data, what: "its protected-mode code" }.bytes(setup, size)?;

        let is_64_bit = has(0x20c, header::XLOADFLAGS, 2) && file.u16(header::XLOADFLAGS)? & XLF_KERNEL_64 != 0;
        let initrd_last = if has(0x203, header::INITRD_ADDR_MAX, 4) {
            file.u32(header::INITRD_ADDR_MAX)?.into()
        } else {
            INITRD_ADDR_MAX_DEFAULT
        };
        let cmdline_max = if has(0x206, header::CMDLINE_SIZE, 4) {
            file.u32(header::CMDLINE_SIZE)? as usize
        } else {
            CMDLINE_SIZE_OLD
        };
        let loaded_end = layout::HIGH_RAM + size;
        let end = if has(0x20a, header::INIT_SIZE, 4) {
            let pref = file.u64(header::PREF_ADDRESS)?;
            let align = u64::from(file.u32(header::KERNEL_ALIGNMENT)?);
            if align != 0 && !align.is_power_of_two() {
                let expected = "a power of two";
                return Err(BootError::Damaged { what: "its alignment", value: align, expected });
            }
            // It unpacks at the preferred address, or where it is loaded if that is higher.
            let from = pref.max(layout::HIGH_RAM.next_multiple_of(align.max(1)));
            loaded_end.max(from.saturating_add(file.u32(header::INIT_SIZE)?.into()))
        } else {
            loaded_end
        };
        Ok(Self { header, code, is_64_bit, initrd_last, cmdline_max, end })
    }
}

fn load_bzimage(ram: &GuestRam, files: &Files<'_>, platform: &Platform) -> Result<Entry, BootError> {
    let k = BzImage::parse(files.kernel)?;
    if k.end > ram.len() {
        return Err(BootError::NeedsMemory { what: "unpacking the kernel", needs: k.end, has: ram.len() });
    }
    zero_page::write_cmdline(ram, files.cmdline, k.cmdline_max)?;
    let initrd = zero_page::place_initrd(ram, files.initrd, k.end, k.initrd_last)?;
    ram.write(layout::HIGH_RAM, k.code);
    ZeroPage {
        header: k.header,
        code32_start: layout::HIGH_RAM as u32,
        initrd,
        rsdp: platform.rsdp,
        text_screen: platform.text_screen,
    }
    .write(ram);
    Ok(if k.is_64_bit {
        entry::long_mode(ram, layout::HIGH_RAM + ENTRY_64, layout::ZERO_PAGE)
    } else {
        entry::protected_mode(ram, layout::HIGH_RAM, layout::ZERO_PAGE)
    })
}

/// The setup header of a kernel that has none: what Linux itself looks at once it runs.
fn plain_header() -> [u8; 0x78] {
    let mut h = [0; 0x78];
    let mut put = |at: u64, b: &[u8]| {
        let at = at as usize - SETUP_HEADER;
        h[at..at + b.len()].copy_from_slice(b);
    };
    put(header::BOOT_FLAG, &0xaa55u16.to_le_bytes());
    put(header::MAGIC, &HDRS);
    put(header::VERSION, &0x020fu16.to_le_bytes());
    put(header::LOADFLAGS, &[LOADED_HIGH]);
    put(header::KERNEL_ALIGNMENT, &0x20_0000u32.to_le_bytes());
    put(header::CMDLINE_SIZE, &(CMDLINE_SIZE as u32).to_le_bytes());
    h
}

fn load_elf(ram: &GuestRam, image: &Image<'_>, files: &Files<'_>, platform: &Platform) -> Result<Entry, BootError> {
    let elf = image.elf();
    let entry = elf.physical_entry()?;
    let expected = "1 MiB or more (below lie the tables it is booted with)";
    elf.check_fits(ram, |from, _| from >= layout::HIGH_RAM, expected)?;
    zero_page::write_cmdline(ram, files.cmdline, CMDLINE_SIZE)?;
    let last = if elf.is_64_bit { INITRD_ADDR_MAX_64 } else { INITRD_ADDR_MAX_DEFAULT };
    let initrd = zero_page::place_initrd(ram, files.initrd, elf.end, last)?;
    image.place(ram)?;
    // RAM ends below 4 GiB and the entry lies in a segment that fits.
    let code32_start = entry as u32;
    ZeroPage { header: &plain_header(), code32_start, initrd, rsdp: platform.rsdp, text_screen: platform.text_screen }
        .write(ram);
    Ok(if elf.is_64_bit {
        entry::long_mode(ram, entry, layout::ZERO_PAGE)
    } else {
        entry::protected_mode(ram, entry, layout::ZERO_PAGE)
    })
}

/// What a file that is no kernel looks like.
pub(super) fn looks_like(k: &[u8]) -> String {
    let known: [(&[u8], &str); 9] = [
        (b"\x1f\x8b", "is a gzip file; if it is a compressed kernel, unpack it first"),
        (b"\xfd7zXZ\0", "is an xz file; if it is a compressed kernel, unpack it first"),
        (b"\x28\xb5\x2f\xfd", "is a zstd file; if it is a compressed kernel, unpack it first"),
        (b"070701", "is a cpio archive, perhaps an initrd"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"!<arch>\n", "is an ar archive or a Debian package"),
        (b"<", "is a web page or XML, perhaps a server's error page"),
        (b"MZ", "is a DOS or Windows program"),
        (b"#!", "is a script"),
    ];
    if k.is_empty() {
        return "is empty".into();
    }
    let found = known.iter().find(|(magic, _)| k.starts_with(magic));
    match found {
        Some((_, text)) => (*text).into(),
        None if k.len() < 0x206 => format!("has only {} bytes", k.len()),
        None => {
            let first: Vec<String> = k.iter().take(4).map(|b| format!("{b:02x}")).collect();
            format!("begins with {} and has no Linux header", first.join(" "))
        }
    }
}
