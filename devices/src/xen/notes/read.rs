//! Reading the notes out of the file, as they are. What they mean together is in `notes.rs`.

use super::{MAX_TEXT, Notes, NotesError, Pae, Reloc};
use crate::boot::elf::{Image, Part};
use std::borrow::Cow;

/// Note types.
mod kind {
    pub const ENTRY: u32 = 1;
    pub const HYPERCALL_PAGE: u32 = 2;
    pub const VIRT_BASE: u32 = 3;
    pub const PADDR_OFFSET: u32 = 4;
    pub const XEN_VERSION: u32 = 5;
    pub const GUEST_OS: u32 = 6;
    pub const GUEST_VERSION: u32 = 7;
    pub const LOADER: u32 = 8;
    pub const PAE_MODE: u32 = 9;
    pub const FEATURES: u32 = 10;
    pub const BSD_SYMTAB: u32 = 11;
    pub const HV_START_LOW: u32 = 12;
    pub const L1_MFN_VALID: u32 = 13;
    pub const SUSPEND_CANCEL: u32 = 14;
    pub const INIT_P2M: u32 = 15;
    pub const MOD_START_PFN: u32 = 16;
    pub const SUPPORTED_FEATURES: u32 = 17;
    pub const PHYS32_ENTRY: u32 = 18;
    pub const PHYS32_RELOC: u32 = 19;
}
const SHT_NOTE: u32 = 7;
/// Bytes of notes that are looked at; kernels have some hundred.
const MAX_NOTES: u64 = 1 << 20;
/// Features by name, with their bit (public/features.h). Notes name no others.
const FEATURES: [(&str, u32); 7] = [
    ("writable_page_tables", 0),
    ("writable_descriptor_tables", 1),
    ("auto_translated_physmap", 2),
    ("supervisor_mode_kernel", 3),
    ("pae_pgdir_above_4gb", 4),
    ("hvm_callback_vector", 8),
    ("dom0", 11),
];

impl Notes {
    /// Reads the notes of a kernel.
    ///
    /// # Errors
    /// [`NotesError`]; [`NotesError::NoNotes`] if there are none.
    pub fn read(image: &Image<'_>) -> Result<Self, NotesError> {
        let elf = image.elf();
        let mut this =
            Self { elf_entry: elf.entry, range: (elf.start, elf.end), is_64_bit: elf.is_64_bit, ..Self::default() };
        let mut left = MAX_NOTES;
        let mut found = false;
        for part in &elf.notes {
            found |= this.read_part(image, *part, &mut left)?;
        }
        if found {
            return Ok(this);
        }
        let sections = image.sections()?;
        for section in sections.iter().filter(|s| s.kind == SHT_NOTE) {
            found |= this.read_part(image, section.part, &mut left)?;
        }
        if !found && let Some(section) = image.section(&sections, "__xen_guest")? {
            this.legacy = true;
            this.read_guest_section(&text_of(image, section.part, &mut left)?)?;
            found = true;
        }
        if found { Ok(this) } else { Err(NotesError::NoNotes) }
    }

    /// Reads one run of notes; are there some for Xen?
    fn read_part(&mut self, image: &Image<'_>, part: Part, left: &mut u64) -> Result<bool, NotesError> {
        let bytes = text_of(image, part, left)?;
        let mut rest = &bytes[..];
        let mut found = false;
        while let Some((head, tail)) = rest.split_first_chunk::<12>() {
            let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
            let (name_len, len, kind) = (word(0), word(4), word(8) as u32);
            let Some((name, tail)) = take_padded(tail, name_len) else {
                let expected = "at most what follows it";
                return Err(NotesError::Damaged { note: "name", value: name_len as u64, expected });
            };
            // GRUB for 32-bit PV ends in the middle of its last note.
            let (desc, tail) = take_padded(tail, len).unwrap_or((tail, &[]));
            match name {
                b"Xen\0" => {
                    self.note(kind, desc)?;
                    found = true;
                }
                b"Linux\0" => self.linux = true,
                _ => {}
            }
            rest = tail;
        }
        Ok(found)
    }

    fn note(&mut self, kind: u32, desc: &[u8]) -> Result<(), NotesError> {
        let text = || Some(text(desc));
        match kind {
            kind::ENTRY => self.entry = Some(number("ENTRY", desc)?),
            kind::HYPERCALL_PAGE => self.hypercall_page = Some(number("HYPERCALL_PAGE", desc)?),
            kind::VIRT_BASE => self.virt_base = Some(number("VIRT_BASE", desc)?),
            kind::PADDR_OFFSET => self.paddr_offset = Some(number("PADDR_OFFSET", desc)?),
            kind::XEN_VERSION => self.xen_version = text(),
            kind::GUEST_OS => self.guest_os = text(),
            kind::GUEST_VERSION => self.guest_version = text(),
            kind::LOADER => self.loader = text(),
            kind::PAE_MODE => {
                self.pae = match &text().unwrap_or_default()[..] {
                    t if t.contains("bimodal") => Pae::Bimodal,
                    "yes" => Pae::ExtendedCr3,
                    _ => self.pae,
                };
            }
            kind::FEATURES => self.features(&String::from_utf8_lossy(until_zero(desc)))?,
            kind::BSD_SYMTAB => self.bsd_symtab = until_zero(desc) == b"yes",
            kind::HV_START_LOW => self.hv_start_low = Some(number("HV_START_LOW", desc)?),
            kind::L1_MFN_VALID => self.l1_mfn_valid = pairs(desc),
            kind::SUSPEND_CANCEL => self.suspend_cancel = number("SUSPEND_CANCEL", desc)? != 0,
            kind::INIT_P2M => self.init_p2m = Some(number("INIT_P2M", desc)?),
            kind::MOD_START_PFN => self.mod_start_pfn = number("MOD_START_PFN", desc)? != 0,
            kind::SUPPORTED_FEATURES => self.features.supported |= number("SUPPORTED_FEATURES", desc)? as u32,
            kind::PHYS32_ENTRY => {
                let at = number("PHYS32_ENTRY", desc)?;
                let expected = "an address below 4 GiB";
                let damaged = |_| NotesError::Damaged { note: "PHYS32_ENTRY", value: at, expected };
                self.phys32_entry = Some(u32::try_from(at).map_err(damaged)?);
            }
            kind::PHYS32_RELOC => {
                let word = |i: usize| desc.get(4 * i..4 * i + 4).map(|_| le(&desc[4 * i..4 * i + 4]) as u32);
                let (align, min, max) = (word(0), word(1).unwrap_or(0), word(2).unwrap_or(u32::MAX));
                if align.is_some_and(|a| !a.is_power_of_two()) {
                    let (value, expected) = (align.unwrap_or(0).into(), "a power of two as alignment");
                    return Err(NotesError::Damaged { note: "PHYS32_RELOC", value, expected });
                }
                self.phys32_reloc = Some(Reloc { align, min, max });
            }
            _ => {}
        }
        Ok(())
    }

    /// `name|name|!required`.
    fn features(&mut self, list: &str) -> Result<(), NotesError> {
        for word in list.split('|') {
            let (name, required) = word.strip_prefix('!').map_or((word, false), |name| (name, true));
            match FEATURES.iter().find(|(known, _)| *known == name) {
                Some((_, bit)) => {
                    self.features.supported |= 1 << bit;
                    self.features.required |= u32::from(required) << bit;
                }
                None if required => return Err(NotesError::Feature(name.chars().take(MAX_TEXT).collect())),
                None => {}
            }
        }
        Ok(())
    }

    /// `NAME=VALUE,NAME=VALUE`: how it was said before there were notes.
    fn read_guest_section(&mut self, bytes: &[u8]) -> Result<(), NotesError> {
        let list = String::from_utf8_lossy(until_zero(bytes)).into_owned();
        let mut hypercall_frame = None;
        for item in list.split(',') {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            let text = || Some(value.chars().take(MAX_TEXT).collect());
            let number = |note: &'static str| {
                let digits = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
                let n = digits.map_or_else(|| value.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok());
                let expected = "a number in its text";
                n.ok_or(NotesError::Damaged { note, value: value.len() as u64, expected }).map(Some)
            };
            match name {
                "LOADER" => self.loader = text(),
                "GUEST_OS" => self.guest_os = text(),
                "GUEST_VER" => self.guest_version = text(),
                "XEN_VER" => self.xen_version = text(),
                "PAE" if value == "yes[extended-cr3]" => self.pae = Pae::ExtendedCr3,
                "PAE" if value.starts_with("yes") => self.pae = Pae::Yes,
                "BSD_SYMTAB" => self.bsd_symtab = true,
                "VIRT_BASE" => self.virt_base = number("VIRT_BASE")?,
                "VIRT_ENTRY" => self.entry = number("VIRT_ENTRY")?,
                "ELF_PADDR_OFFSET" => self.paddr_offset = number("ELF_PADDR_OFFSET")?,
                "HYPERCALL_PAGE" => hypercall_frame = number("HYPERCALL_PAGE")?,
                "FEATURES" => self.features(value)?,
                _ => {}
            }
        }
        // Here it is a frame, counted from VIRT_BASE.
        let base = self.virt_base.unwrap_or(0);
        self.hypercall_page = hypercall_frame.map(|n| base.wrapping_add(n.wrapping_mul(0x1000)));
        Ok(())
    }
}

/// The bytes of `part`, which count against `left`.
fn text_of<'a>(image: &Image<'a>, part: Part, left: &mut u64) -> Result<Cow<'a, [u8]>, NotesError> {
    *left = left.checked_sub(part.size).ok_or(NotesError::Damaged {
        note: "list",
        value: part.size,
        expected: "1 MiB or less in all",
    })?;
    Ok(image.read(part, "its notes")?)
}

/// `n` bytes and what follows them, on the next multiple of 4. The last one's padding may be missing.
fn take_padded(data: &[u8], n: usize) -> Option<(&[u8], &[u8])> {
    let taken = data.get(..n)?;
    Some((taken, data.get(n.checked_next_multiple_of(4)?..).unwrap_or(&[])))
}

fn until_zero(desc: &[u8]) -> &[u8] {
    desc.split(|b| *b == 0).next().unwrap_or(&[])
}

fn text(desc: &[u8]) -> String {
    let bytes = until_zero(desc);
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]).into_owned()
}

/// Up to 8 bytes, little-endian.
fn le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn number(note: &'static str, desc: &[u8]) -> Result<u64, NotesError> {
    match desc.len() {
        1 | 2 | 4 | 8 => Ok(le(desc)),
        n => Err(NotesError::Damaged { note, value: n as u64, expected: "4 or 8 bytes" }),
    }
}

/// Pairs of words: of 8 bytes each, or of 4 if there is no whole number of such pairs.
fn pairs(desc: &[u8]) -> Vec<(u64, u64)> {
    let width = if desc.len().is_multiple_of(16) { 8 } else { 4 };
    desc.chunks_exact(2 * width).map(|p| (le(&p[..width]), le(&p[width..]))).collect()
}
