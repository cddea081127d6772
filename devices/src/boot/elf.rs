//! ELF executables for x86 and x86-64: checking the headers and placing the segments.
//! Source: System V ABI, chapter 4 and 5 (ELF header, program header).

use super::pack::Packed;
use super::{BootError, Reader};
use tabvisor_core::mem::GuestRam;

/// How an ELF file begins.
pub(super) const MAGIC: [u8; 4] = *b"\x7fELF";

const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
/// Kernels have a handful of segments.
const MAX_HEADERS: u16 = 64;

#[derive(Clone, Copy)]
struct Segment {
    offset: u64,
    file_size: u64,
    vaddr: u64,
    paddr: u64,
    mem_size: u64,
}

/// The headers of an executable.
pub(super) struct Elf {
    /// Is it for x86-64?
    pub is_64_bit: bool,
    /// The physical address of the first instruction.
    pub entry: u64,
    /// The first byte after the highest segment in memory.
    pub end: u64,
    segments: Vec<Segment>,
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
        if machine != if is_64_bit { EM_X86_64 } else { EM_386 } {
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
        let mut segments = Vec::new();
        for i in 0..u64::from(count) {
            let at = headers.saturating_add(i * u64::from(size));
            if table.u32(at)? != PT_LOAD {
                continue;
            }
            let s = if is_64_bit {
                let f = |n: u64| table.u64(at.saturating_add(n));
                Segment { offset: f(8)?, vaddr: f(16)?, paddr: f(24)?, file_size: f(32)?, mem_size: f(40)? }
            } else {
                let f = |n: u64| table.u32(at.saturating_add(n)).map(u64::from);
                Segment { offset: f(4)?, vaddr: f(8)?, paddr: f(12)?, file_size: f(16)?, mem_size: f(20)? }
            };
            if s.mem_size != 0 {
                segments.push(s);
            }
        }
        let end = Self::check(&segments, len)?;
        let entry = Self::physical(entry, &segments)?;
        Ok(Self { is_64_bit, entry, end, segments })
    }

    /// Checks each segment on its own; the end of the highest one.
    fn check(segments: &[Segment], len: u64) -> Result<u64, BootError> {
        let mut end = 0;
        for s in segments {
            if s.file_size > s.mem_size {
                let expected = "at most its size in memory";
                return Err(BootError::Damaged { what: "a segment's size in the file", value: s.file_size, expected });
            }
            let file_end = s.offset.saturating_add(s.file_size);
            if file_end > len {
                return Err(BootError::Truncated { what: "a segment", needs: file_end, has: len });
            }
            end = end.max(s.paddr.saturating_add(s.mem_size));
        }
        if end == 0 {
            return Err(BootError::NotAKernel("is an ELF file with nothing to load".into()));
        }
        Ok(end)
    }

    /// The entry point as a physical address: Linux states it so, others give the virtual one.
    fn physical(entry: u64, segments: &[Segment]) -> Result<u64, BootError> {
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
pub(super) enum Image<'a> {
    Plain(&'a [u8], Elf),
    Packed(Packed<'a>, Elf),
}

impl<'a> Image<'a> {
    pub fn plain(data: &'a [u8]) -> Result<Self, BootError> {
        Ok(Self::Plain(data, Elf::parse(data, data.len() as u64)?))
    }

    /// The headers must lie in the first chunk.
    pub fn packed(data: &'a [u8]) -> Result<Self, BootError> {
        let packed = Packed::parse(data)?;
        let head = packed.first()?;
        if !head.starts_with(&MAGIC) {
            return Err(BootError::NotAKernel("is packed, but the file inside is not an ELF executable".into()));
        }
        let elf = Elf::parse(&head, packed.len)?;
        Ok(Self::Packed(packed, elf))
    }

    pub fn elf(&self) -> &Elf {
        match self {
            Self::Plain(_, elf) | Self::Packed(_, elf) => elf,
        }
    }

    /// Places the segments in RAM, which [`Elf::check_fits`] has accepted.
    pub fn place(&self, ram: &GuestRam) -> Result<(), BootError> {
        match self {
            Self::Plain(data, elf) => elf.place(ram, 0, data),
            Self::Packed(packed, elf) => packed.unpack(|at, part| elf.place(ram, at, part))?,
        }
        self.elf().clear(ram);
        Ok(())
    }
}
