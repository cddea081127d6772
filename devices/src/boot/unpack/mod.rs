//! Unpacking a kernel in the host: what lies compressed in a bzImage, or a file that is compressed as a whole.
//! A domain of Xen is loaded from the ELF executable, and the decompressor in a bzImage costs billions of guest
//! instructions. Source: Linux Documentation/arch/x86/boot.rst (`payload_offset`), scripts/Makefile.lib (which
//! compressors, and the size that follows what they wrote).
//!
//! Formats: gzip, bzip2, lzma, xz (with the filter for x86 code), lzop, LZ4's legacy frame, zstd. Checksums are
//! checked where the format has them. Input is as little trusted as the guest: the unpacked size is bounded, and
//! so are the windows.
//!
//! This module stands alone but for `pack_format.rs`: the image builder includes it too, so that it need not
//! compile a CPU.

mod lz4;
mod lzop;

use std::borrow::Cow;
use std::io::Read;

/// Bytes a kernel may unpack to.
pub const MAX_UNPACKED: u64 = 512 << 20;
/// The largest window of a zstd or xz stream: what Linux's build uses (`zstd -22 --ultra`).
const MAX_WINDOW: u64 = 128 << 20;
/// Working memory of the LZMA decoder beside its dictionary, in KiB.
const LZMA_EXTRA: u64 = 1024;

/// Why a kernel could not be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// Neither a bzImage nor compressed.
    #[error("the kernel file is neither a bzImage nor an ELF executable, compressed or not; choose another file")]
    NotAKernel,
    /// The file ends before its headers say it does.
    #[error("the bzImage is cut off: {what} needs {needs} bytes, the file has {has}; load the file again")]
    Truncated {
        /// Which part is incomplete.
        what: &'static str,
        /// Bytes the file should have at least.
        needs: u64,
        /// Bytes it has.
        has: u64,
    },
    /// A bzImage that does not say where the kernel in it is.
    #[error(
        "the bzImage speaks boot protocol {}.{:02}, and only 2.08 and newer say where the kernel inside is; boot it as a PC or use a newer kernel",
        .0 >> 8, .0 & 0xff
    )]
    OldProtocol(u16),
    /// A compression that is not known here.
    #[error(
        "the kernel in the bzImage begins with {0}, expected gzip, bzip2, lzma, xz, lzo, lz4, zstd or ELF; boot it as a PC"
    )]
    UnknownFormat(String),
    /// More than a kernel has.
    #[error("the kernel unpacks to more than {limit} bytes{}; use another file", if *.limit < MAX_UNPACKED { ", which is what its header states" } else { "" })]
    TooLarge {
        /// Bytes it may have.
        limit: u64,
    },
    /// Less than the bzImage says.
    #[error("the kernel unpacked to {has} bytes, the bzImage states {stated}; load or build the file again")]
    WrongSize {
        /// Bytes that came out.
        has: u64,
        /// Bytes the bzImage states.
        stated: u64,
    },
    /// The decompressor gave up.
    #[error("the {format} data in the kernel file is damaged: {why}; load or build the file again")]
    Damaged {
        /// Of which format.
        format: Format,
        /// What the decompressor says.
        why: String,
    },
    /// Something else was compressed.
    #[error("what is packed in the kernel file is not an ELF executable; use a Linux kernel, or boot it as a PC")]
    NotElf,
    /// The host has too little memory.
    #[error("there is no room for the unpacked kernel of {0} bytes; close other tabs or use a smaller kernel")]
    NoMemory(u64),
}

/// How a kernel is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The format of lzma-utils, before xz.
    Lzma,
    /// The .xz file format 1.0.4.
    Xz,
    /// LZO1X in the container of the program lzop.
    Lzo,
    /// The legacy frame of LZ4.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Format {
    /// What a file is compressed with, by its first bytes (Linux, lib/decompress.c).
    pub fn of(data: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 7] = [
            (b"\x1f\x8b", Self::Gzip),
            (b"BZh", Self::Bzip2),
            (b"\x5d\0\0", Self::Lzma),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x89LZO", Self::Lzo),
            (b"\x02\x21\x4c\x18", Self::Lz4),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
        ];
        known.iter().find(|(magic, _)| data.starts_with(magic)).map(|(_, format)| *format)
    }

    fn damaged(self, why: impl Into<String>) -> UnpackError {
        UnpackError::Damaged { format: self, why: why.into() }
    }
}

impl core::fmt::Display for Format {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Xz => "xz",
            Self::Lzo => "lzo",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// The ELF executable (or our own packed form of it) in a kernel file: the file itself if it is one, or what is
/// compressed in it. Linux appends relocations to the executable; they stay.
///
/// # Errors
/// [`UnpackError`].
pub fn kernel(file: &[u8]) -> Result<Cow<'_, [u8]>, UnpackError> {
    const ELF: &[u8] = b"\x7fELF";
    let is_elf = |data: &[u8]| data.starts_with(ELF) || data.starts_with(&super::pack_format::MAGIC);
    let unpacked = if is_elf(file) {
        Cow::Borrowed(file)
    } else if is_bzimage(file) {
        bzimage(file)?
    } else if let Some(format) = Format::of(file) {
        Cow::Owned(unpack(file, format, None)?)
    } else {
        return Err(UnpackError::NotAKernel);
    };
    if is_elf(&unpacked) { Ok(unpacked) } else { Err(UnpackError::NotElf) }
}

/// Is it a bzImage?
pub fn is_bzimage(file: &[u8]) -> bool {
    file.get(0x202..0x206).is_some_and(|magic| magic == b"HdrS")
}

/// What is compressed in a bzImage.
fn bzimage(file: &[u8]) -> Result<Cow<'_, [u8]>, UnpackError> {
    let field = |at: usize, n: usize| {
        let mut b = [0; 4];
        let has = file.len() as u64;
        let bytes = file.get(at..at + n);
        let truncated = UnpackError::Truncated { what: "its setup header", needs: (at + n) as u64, has };
        b[..n].copy_from_slice(bytes.ok_or(truncated)?);
        Ok(u32::from_le_bytes(b))
    };
    let version = field(0x206, 2)?;
    if version < 0x208 {
        return Err(UnpackError::OldProtocol(version as u16));
    }
    // boot.rst: 0 setup sectors mean 4.
    let setup = match field(0x1f1, 1)? {
        0 => 5 * 512,
        n => (n + 1) * 512,
    };
    let (offset, len) = (field(0x248, 4)?, field(0x24c, 4)?);
    let from = u64::from(setup) + u64::from(offset);
    let (to, has) = (from + u64::from(len), file.len() as u64);
    if to > has {
        return Err(UnpackError::Truncated { what: "the compressed kernel", needs: to, has });
    }
    let payload = &file[from as usize..to as usize];
    let Some(format) = Format::of(payload) else {
        if payload.starts_with(b"\x7fELF") {
            return Ok(Cow::Borrowed(payload));
        }
        let first: Vec<String> = payload.iter().take(4).map(|b| format!("{b:02x}")).collect();
        return Err(UnpackError::UnknownFormat(if first.is_empty() { "nothing".into() } else { first.join(" ") }));
    };
    // The size follows what the compressor wrote; gzip writes it itself.
    let Some((packed, size)) = payload.split_last_chunk::<4>() else {
        return Err(UnpackError::Truncated {
            what: "the compressed kernel",
            needs: from + 4,
            has: from + u64::from(len),
        });
    };
    let stated = u64::from(u32::from_le_bytes(*size));
    let packed = if format == Format::Gzip { payload } else { packed };
    Ok(Cow::Owned(unpack(packed, format, Some(stated))?))
}

/// Unpacks `data`, which should have `stated` bytes then, if that is known.
///
/// # Errors
/// [`UnpackError`].
pub fn unpack(data: &[u8], format: Format, stated: Option<u64>) -> Result<Vec<u8>, UnpackError> {
    let limit = stated.unwrap_or(MAX_UNPACKED);
    if limit > MAX_UNPACKED {
        return Err(UnpackError::TooLarge { limit: MAX_UNPACKED });
    }
    let mut out = Vec::new();
    // A few KiB of input can be a bomb, but not one of any size: the best of these make a thousandth of zeros, and
    // room for what is only claimed should stay in proportion.
    let likely = stated.unwrap_or(0).min(data.len() as u64 * 1024);
    out.try_reserve_exact(likely as usize).map_err(|_| UnpackError::NoMemory(likely))?;
    let sink = Sink { out, limit, format };
    let memory = ((MAX_WINDOW >> 10) + LZMA_EXTRA) as u32;
    let out = match format {
        Format::Gzip => sink.read(flate2::read::GzDecoder::new(data))?,
        Format::Bzip2 => sink.read(bzip2::read::BzDecoder::new(data))?,
        Format::Xz => sink.read(lzma_rust2::XzReader::new_mem_limit(data, false, memory))?,
        Format::Lzma => {
            let reader = lzma_rust2::LzmaReader::new_mem_limit(data, memory, None);
            sink.read(reader.map_err(|e| format.damaged(e.to_string()))?)?
        }
        Format::Zstd => zstd(data, sink)?,
        Format::Lz4 => lz4::unpack(data, sink)?,
        Format::Lzo => lzop::unpack(data, sink)?,
    };
    let has = out.len() as u64;
    match stated {
        Some(stated) if stated != has => Err(UnpackError::WrongSize { has, stated }),
        _ => Ok(out),
    }
}

fn zstd(data: &[u8], sink: Sink) -> Result<Vec<u8>, UnpackError> {
    let reader = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(data, MAX_WINDOW);
    let mut reader = reader.map_err(|e| sink.damaged(e.to_string()))?;
    let out = sink.read(&mut reader)?;
    // The decoder leaves this to its caller.
    let (stated, sum) = (reader.decoder.get_checksum_from_data(), reader.decoder.get_calculated_checksum());
    if stated.is_some() && stated != sum {
        return Err(Format::Zstd.damaged("its checksum is wrong"));
    }
    Ok(out)
}

/// Where unpacked bytes go, so many and no more.
struct Sink {
    out: Vec<u8>,
    limit: u64,
    format: Format,
}

impl Sink {
    fn damaged(&self, why: impl Into<String>) -> UnpackError {
        self.format.damaged(why)
    }

    /// All that `from` has.
    fn read(mut self, from: impl Read) -> Result<Vec<u8>, UnpackError> {
        let n = from.take(self.limit + 1).read_to_end(&mut self.out);
        let n = n.map_err(|e| self.damaged(e.to_string()))?;
        if n as u64 > self.limit { Err(UnpackError::TooLarge { limit: self.limit }) } else { Ok(self.out) }
    }

    /// Appends `n` bytes and hands them to `fill`, whose result says how many of them are used.
    fn append(
        &mut self,
        n: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, UnpackError>,
    ) -> Result<&[u8], UnpackError> {
        let at = self.out.len();
        self.out.try_reserve(n).map_err(|_| UnpackError::NoMemory((at + n) as u64))?;
        self.out.resize(at + n, 0);
        let used = fill(&mut self.out[at..])?;
        self.out.truncate(at + used);
        Ok(&self.out[at..])
    }

    /// Bytes that still fit.
    fn room(&self) -> usize {
        (self.limit - self.out.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
