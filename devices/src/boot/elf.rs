//! ELF executables for x86 and x86-64: checking the headers and placing the segments.
//! Source: System V ABI, chapter 4 and 5 (ELF header, section header, program header).

use super::pack::Packed;
use super::{BootError, Reader};
use std::borrow::Cow;
use tabvisor_core::mem::GuestRam;

/// How an ELF file begins.
pub const MAGIC: [u8; 4] = *b"\x7fELF";

const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Kernels have a handful of segments.
const MAX_HEADERS: u16 = 64;
/// Sections that are looked at; a kernel has less than a hundred.
const MAX_SECTIONS: u16 = 4096;
/// Bytes their names may have.
const MAX_NAMES: u64 = 1 << 20;

/// A part of the file that is loaded into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes in the file; the rest of it in memory is zero.
    pub file_size: u64,
    /// Its virtual address; 0 for per-CPU data of Linux.
    pub vaddr: u64,
    /// Its physical address.
    pub paddr: u64,
    /// Its bytes in memory.
    pub mem_size: u64,
}

/// A part of the file that is not loaded for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
}

/// A section header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// `sh_type`.
    pub kind: u32,
    /// Its bytes in the file.
    pub part: Part,
    /// Where its name begins in the section of names.
    name: u32,
}

/// Where the section headers are.
#[derive(Clone, Copy, Debug)]
struct SectionTable {
    offset: u64,
    count: u16,
    /// Which section holds the names.
    names: u16,
}

/// The headers of an executable.
#[derive(Clone, Debug)]
pub struct Elf {
    /// Has it 64-bit headers? A kernel with them is for 64-bit mode.
    pub is_64_bit: bool,
    /// `e_entry`: a virtual or a physical address, as the kernel pleases.
    pub entry: u64,
    /// The first byte of the lowest segment in memory.
    pub start: u64,
    /// The first byte after the highest segment in memory.
    pub end: u64,
    /// What is loaded, in the order of the headers.
    pub segments: Vec<Segment>,
    /// Where PT_NOTE headers say that notes are. Nothing has checked that the file has those bytes.
    pub notes: Vec<Part>,
    sections: SectionTable,
}

impl Elf {
    /// Checks the headers in `head`, the beginning of a file of `len` bytes.
    pub fn parse(head: &[u8], len: u64) -> Result<Self, BootError> {
        let file = Reader { data: head, what: "its ELF header" };
        let ident: [u8; 7] = file.le(0)?;
        let is_64_bit = match ident[4] {
            1 => false,
            2 => true,
            v => {
                return Err(BootError::Damaged {
                    what: "its ELF class",
                    value: v.into(),
                    expected: "1 or 2 (32 or 64 bits)",
                });
            }
        };
        if ident[5] != 1 {
            return Err(BootError::NotAKernel("is an ELF file for a big-endian machine".into()));
        }
        // e_type and e_machine come before anything of different size.
        let (kind, machine) = (file.u16(16)?, file.u16(18)?);
        // Test kernels for 64-bit machines come with 32-bit headers too, as boot loaders take only those.
        if machine != EM_X86_64 && (is_64_bit || machine != EM_386) {
            return Err(BootError::NotAKernel(format!("is an ELF file for another machine (e_machine {machine})")));
        }
        if kind != 2 {
            return Err(BootError::NotAKernel(format!(
                "is an ELF file but not an executable (e_type {kind}, expected 2)"
            )));
        }
        let (entry, headers, size, count) = if is_64_bit {
            (file.u64(24)?, file.u64(32)?, file.u16(54)?, file.u16(56)?)
        } else {
            (file.u32(24)?.into(), file.u32(28)?.into(), file.u16(42)?, file.u16(44)?)
        };
        let wanted = if is_64_bit { 56 } else { 32 };
        if size != wanted {
            return Err(BootError::Damaged {
                what: "its program header size",
                value: size.into(),
                expected: "56 or 32 by class",
            });
        }
        if count == 0 || count > MAX_HEADERS {
            return Err(BootError::Damaged {
                what: "its number of program headers",
                value: count.into(),
                expected: "1 to 64",
            });
        }
        let table = Reader { data: head, what: "its program header table" };
        let (mut segments, mut notes) = (Vec::new(), Vec::new());
        for i in 0..u64::from(count) {
            let at = headers.saturating_add(i * u64::from(size));
            let kind = table.u32(at)?;
            if kind != PT_LOAD && kind != PT_NOTE {
                continue;
            }
            let s = if is_64_bit {
                let f = |n: u64| table.u64(at.saturating_add(n));
                Segment { offset: f(8)?, vaddr: f(16)?, paddr: f(24)?, file_size: f(32)?, mem_size: f(40)? }
            } else {
                let f = |n: u64| table.u32(at.saturating_add(n)).map(u64::from);
                Segment { offset: f(4)?, vaddr: f(8)?, paddr: f(12)?, file_size: f(16)?, mem_size: f(20)? }
            };
            // Some linkers leave out the offset of notes (Xen, libelf-dominfo.c).
            if kind == PT_NOTE && s.offset != 0 {
                notes.push(Part { offset: s.offset, size: s.file_size });
            } else if kind == PT_LOAD && s.mem_size != 0 {
                segments.push(s);
            }
        }
        let (start, end) = Self::check(&segments, len)?;
        let sections = Self::section_table(&file, is_64_bit)?;
        Ok(Self { is_64_bit, entry, start, end, segments, notes, sections })
    }

    fn section_table(file: &Reader<'_>, is_64_bit: bool) -> Result<SectionTable, BootError> {
        let (offset, fields) = if is_64_bit { (file.u64(40)?, 58) } else { (file.u32(32)?.into(), 46) };
        let (size, count, names) = (file.u16(fields)?, file.u16(fields + 2)?, file.u16(fields + 4)?);
        // Nothing that is loaded depends on sections, so odd ones are as good as none.
        let usable = offset != 0 && size == if is_64_bit { 64 } else { 40 };
        Ok(if usable {
            SectionTable { offset, count: count.min(MAX_SECTIONS), names }
        } else {
            SectionTable { offset: 0, count: 0, names: 0 }
        })
    }

    /// Checks each segment on its own; the start of the lowest and the end of the highest one.
    fn check(segments: &[Segment], len: u64) -> Result<(u64, u64), BootError> {
        let (mut start, mut end) = (u64::MAX, 0);
        for s in segments {
            if s.file_size > s.mem_size {
                let expected = "at most its size in memory";
                return Err(BootError::Damaged { what: "a segment's size in the file", value: s.file_size, expected });
            }
            let file_end = s.offset.saturating_add(s.file_size);
            if file_end > len {
                return Err(BootError::Truncated { what: "a segment", needs: file_end, has: len });
            }
            start = start.min(s.paddr);
            end = end.max(s.paddr.saturating_add(s.mem_size));
        }
        if end == 0 {
            return Err(BootError::NotAKernel("is an ELF file with nothing to load".into()));
        }
        Ok((start, end))
    }

    /// The entry point as a physical address: Linux states it so, others give the virtual one.
    ///
    /// # Errors
    /// [`BootError::Damaged`] if it lies in no segment.
    pub fn physical_entry(&self) -> Result<u64, BootError> {
        let (entry, segments) = (self.entry, &self.segments);
        let within = |at: u64, from: u64, n: u64| at >= from && at - from < n;
        if segments.iter().any(|s| within(entry, s.paddr, s.file_size)) {
            return Ok(entry);
        }
        segments
            .iter()
            .find(|s| within(entry, s.vaddr, s.file_size))
            .map(|s| s.paddr.saturating_add(entry - s.vaddr))
            .ok_or(BootError::Damaged {
                what: "its entry point",
                value: entry,
                expected: "an address inside a loaded segment",
            })
    }

    /// Fails unless every segment fits in `ram`, without counting any byte twice, in an address range that
    /// `usable` accepts (first byte, end); `expected` describes those.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn check_fits(
        &self,
        ram: &GuestRam,
        usable: impl Fn(u64, u64) -> bool,
        expected: &'static str,
    ) -> Result<(), BootError> {
        if let Some(s) = self.segments.iter().find(|s| !usable(s.paddr, s.paddr.saturating_add(s.mem_size))) {
            return Err(BootError::Damaged { what: "a segment's physical address", value: s.paddr, expected });
        }
        if self.end > ram.len() {
            return Err(BootError::NeedsMemory { what: "the kernel", needs: self.end, has: ram.len() });
        }
        let mut order: Vec<&Segment> = self.segments.iter().collect();
        order.sort_by_key(|s| s.paddr);
        for w in order.windows(2) {
            if w[0].paddr + w[0].mem_size > w[1].paddr {
                let expected = "an address after the segment before it";
                return Err(BootError::Damaged { what: "a segment's physical address", value: w[1].paddr, expected });
            }
        }
        Ok(())
    }

    /// Writes what `part`, the bytes of the file from `at`, contributes to the segments.
    fn place(&self, ram: &GuestRam, at: u64, part: &[u8]) {
        for s in &self.segments {
            let from = s.offset.max(at);
            let to = (s.offset + s.file_size).min(at + part.len() as u64);
            if from < to {
                ram.write(s.paddr + (from - s.offset), &part[(from - at) as usize..(to - at) as usize]);
            }
        }
    }

    /// Clears the rest of every segment that the file does not fill.
    fn clear(&self, ram: &GuestRam) {
        for s in &self.segments {
            super::zero_page::clear(ram, s.paddr + s.file_size, s.mem_size - s.file_size);
        }
    }
}

/// An ELF executable, as it is or packed.
pub enum Image<'a> {
    /// The file as the linker wrote it.
    Plain(&'a [u8], Elf),
    /// The file in our container.
    Packed(Packed<'a>, Elf),
}

impl<'a> Image<'a> {
    /// Checks the headers of an executable or of a packed one.
    ///
    /// # Errors
    /// [`BootError`]; [`BootError::NotAKernel`] for any other file.
    pub fn open(data: &'a [u8]) -> Result<Self, BootError> {
        if data.starts_with(&super::pack::MAGIC) {
            Self::packed(data)
        } else if data.starts_with(&MAGIC) {
            Self::plain(data)
        } else {
            Err(BootError::NotAKernel(super::linux::looks_like(data)))
        }
    }

    pub(super) fn plain(data: &'a [u8]) -> Result<Self, BootError> {
        Ok(Self::Plain(data, Elf::parse(data, data.len() as u64)?))
    }

    /// The headers must lie in the first chunk.
    pub(super) fn packed(data: &'a [u8]) -> Result<Self, BootError> {
        let packed = Packed::parse(data)?;
        let head = packed.first()?;
        if !head.starts_with(&MAGIC) {
            return Err(BootError::NotAKernel("is packed, but the file inside is not an ELF executable".into()));
        }
        let elf = Elf::parse(&head, packed.len)?;
        Ok(Self::Packed(packed, elf))
    }

    /// The headers.
    pub fn elf(&self) -> &Elf {
        match self {
            Self::Plain(_, elf) | Self::Packed(_, elf) => elf,
        }
    }

    /// Bytes of the executable; a packed one is unpacked where they are. `what` they are is for the error.
    ///
    /// # Errors
    /// [`BootError`] if the file does not have them.
    pub fn read(&self, part: Part, what: &'static str) -> Result<Cow<'a, [u8]>, BootError> {
        match self {
            Self::Plain(data, _) => Reader { data, what }.bytes(part.offset, part.size).map(Cow::Borrowed),
            Self::Packed(packed, _) => packed.read(part.offset, part.size, what).map(Cow::Owned),
        }
    }

    /// The section headers; none if the file has been stripped of them.
    ///
    /// # Errors
    /// [`BootError::Truncated`].
    pub fn sections(&self) -> Result<Vec<Section>, BootError> {
        let (wide, table) = (self.elf().is_64_bit, self.elf().sections);
        let entry = if wide { 64 } else { 40 };
        let what = "its section header table";
        let bytes = self.read(Part { offset: table.offset, size: entry * u64::from(table.count) }, what)?;
        let file = Reader { data: &bytes, what };
        (0..u64::from(table.count))
            .map(|i| {
                let at = i * entry;
                let (offset, size) = if wide {
                    (file.u64(at + 24)?, file.u64(at + 32)?)
                } else {
                    (file.u32(at + 16)?.into(), file.u32(at + 20)?.into())
                };
                Ok(Section { kind: file.u32(at + 4)?, part: Part { offset, size }, name: file.u32(at)? })
            })
            .collect()
    }

    /// The first of `sections` with the name `name`.
    ///
    /// # Errors
    /// [`BootError::Truncated`].
    pub fn section(&self, sections: &[Section], name: &str) -> Result<Option<Section>, BootError> {
        let names = sections.get(usize::from(self.elf().sections.names)).filter(|n| n.part.size <= MAX_NAMES);
        let Some(names) = names else { return Ok(None) };
        let names = self.read(names.part, "its section names")?;
        let wanted = [name.as_bytes(), b"\0"].concat();
        Ok(sections.iter().copied().find(|s| names.get(s.name as usize..).is_some_and(|n| n.starts_with(&wanted))))
    }

    /// The same executable with all physical addresses shifted so that `from` becomes `to`: a kernel for
    /// Xen may count them from an offset, or let itself be loaded elsewhere.
    ///
    /// # Errors
    /// [`BootError::Damaged`] if an address leaves the numbers there are.
    pub fn shifted(mut self, from: u64, to: u64) -> Result<Self, BootError> {
        let shift = |at: u64| {
            at.checked_sub(from).and_then(|n| n.checked_add(to)).ok_or(BootError::Damaged {
                what: "a segment's physical address",
                value: at,
                expected: "at least the kernel's offset of physical addresses",
            })
        };
        let (Self::Plain(_, elf) | Self::Packed(_, elf)) = &mut self;
        for s in &mut elf.segments {
            s.paddr = shift(s.paddr)?;
        }
        (elf.start, elf.end) = (shift(elf.start)?, shift(elf.end)?);
        Ok(self)
    }

    /// Places the segments in RAM, which [`Elf::check_fits`] has accepted.
    ///
    /// # Errors
    /// [`BootError`] if the packed file is damaged; `ram` may then hold a part of it all.
    pub fn place(&self, ram: &GuestRam) -> Result<(), BootError> {
        match self {
            Self::Plain(data, elf) => elf.place(ram, 0, data),
            Self::Packed(packed, elf) => packed.unpack(|at, part| elf.place(ram, at, part))?,
        }
        self.elf().clear(ram);
        Ok(())
    }
}
