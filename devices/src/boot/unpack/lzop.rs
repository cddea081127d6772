//! LZO1X in the container of the program lzop, as Linux's build makes it. Sources: Linux
//! Documentation/staging/lzo.rst for the stream; the header as lzop 1.04 writes it and lib/decompress_unlzo.c reads it.
//!
//! Left out: LZO's other methods, filters, the run lengths of LZO-RLE (a stream that begins with 17). The header's
//! own checksum is not checked, nor are CRC-32s; Adler-32 of the unpacked bytes, lzop's default, is.

use super::super::pack_format::adler32;
use super::{Sink, UnpackError};

const MAGIC: [u8; 9] = *b"\x89LZO\0\r\n\x1a\n";
/// From this version on the header has a level and 64-bit times.
const VERSION_LEVEL: u32 = 0x0940;
/// LZO1X-1, LZO1X-1(15), LZO1X-999: one and the same for a reader.
const METHODS: core::ops::RangeInclusive<u32> = 1..=3;
/// The longest block of lzop. The kernel takes 256 KiB at most.
const MAX_BLOCK: usize = 64 << 20;

/// Flags of the header.
mod flag {
    /// Adler-32 and CRC-32 of the unpacked (D) and packed (C) bytes of each block.
    pub const ADLER32_D: u32 = 1;
    pub const ADLER32_C: u32 = 2;
    pub const CRC32_D: u32 = 0x100;
    pub const CRC32_C: u32 = 0x200;
    pub const FILTER: u32 = 0x800;
}

/// Bytes from the front of the data, none of them twice.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(|| format!("{n} bytes are missing at its end"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The container is big-endian.
    fn be(&mut self, n: usize) -> Result<u32, String> {
        Ok(self.bytes(n)?.iter().fold(0, |v, b| v << 8 | u32::from(*b)))
    }

    fn byte(&mut self) -> Result<usize, String> {
        self.bytes(1).map(|b| usize::from(b[0]))
    }

    /// The stream is little-endian.
    fn le16(&mut self) -> Result<usize, String> {
        self.bytes(2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])))
    }

    /// A length whose low bits are `bits`: if they are all zero, it goes on in further bytes.
    fn length(&mut self, bits: usize, mask: usize) -> Result<usize, String> {
        if bits != 0 {
            return Ok(bits);
        }
        let zeros = self.0.iter().take_while(|b| **b == 0).count();
        self.bytes(zeros)?;
        Ok(zeros.saturating_mul(255).saturating_add(mask).saturating_add(self.byte()?))
    }
}

/// Unpacks all blocks of `data`.
pub(super) fn unpack(data: &[u8], mut sink: Sink) -> Result<Vec<u8>, UnpackError> {
    let mut file = Input(data);
    let flags = header(&mut file).map_err(|why| sink.damaged(why))?;
    loop {
        let word = |file: &mut Input<'_>, sink: &Sink| file.be(4).map_err(|why| sink.damaged(why));
        let raw = word(&mut file, &sink)? as usize;
        if raw == 0 {
            return Ok(sink.out);
        }
        let len = word(&mut file, &sink)? as usize;
        if raw > MAX_BLOCK || len == 0 || len > raw {
            return Err(sink.damaged(format!("a block states {len} bytes for {raw}")));
        }
        if raw > sink.room() {
            return Err(UnpackError::TooLarge { limit: sink.limit });
        }
        let adler = if flags & flag::ADLER32_D != 0 { Some(word(&mut file, &sink)?) } else { None };
        if flags & flag::CRC32_D != 0 {
            word(&mut file, &sink)?;
        }
        // A block that is stored as it is has no sums of its packed form.
        for sum in [flag::ADLER32_C, flag::CRC32_C] {
            if flags & sum != 0 && len < raw {
                word(&mut file, &sink)?;
            }
        }
        let packed = file.bytes(len).map_err(|why| sink.damaged(why))?;
        // A byte of a stream makes 255 at most.
        if raw / 256 > len {
            return Err(sink.damaged(format!("a block states {len} bytes for {raw}")));
        }
        let format = sink.format;
        let got = sink.append(raw, |out| {
            if len == raw {
                out.copy_from_slice(packed);
            } else {
                lzo1x(packed, out).map_err(|why| format.damaged(why))?;
            }
            Ok(raw)
        })?;
        if adler.is_some_and(|sum| sum != adler32(got)) {
            return Err(sink.damaged("a block's checksum is wrong"));
        }
    }
}

/// Reads the header; its flags.
fn header(file: &mut Input<'_>) -> Result<u32, String> {
    if file.bytes(9)? != MAGIC {
        return Err("it does not begin as lzop's files do".into());
    }
    let version = file.be(2)?;
    file.bytes(4)?; // versions: of the library, and needed to unpack
    let method = file.be(1)?;
    if !METHODS.contains(&method) {
        return Err(format!("it uses method {method}, expected 1 to 3 (LZO1X)"));
    }
    let new = version >= VERSION_LEVEL;
    if new {
        file.bytes(1)?; // level
    }
    let flags = file.be(4)?;
    if flags & flag::FILTER != 0 {
        return Err("it uses a filter".into());
    }
    file.bytes(if new { 12 } else { 8 })?; // mode, time
    let name = file.byte()?;
    file.bytes(name + 4)?; // name, checksum
    Ok(flags)
}

/// Literals that the last instruction copied: they decide what a small opcode means.
const MANY: usize = 4;

/// Fills `out` from one LZO1X stream.
pub(super) fn lzo1x(stream: &[u8], out: &mut [u8]) -> Result<(), String> {
    let mut input = Input(stream);
    let mut out = Output { buf: out, len: 0 };
    let mut state = 0;
    match stream.first() {
        Some(17) => return Err("it is LZO-RLE, expected LZO1X".into()),
        Some(&first) if first > 17 => {
            let n = input.byte()? - 17;
            out.literals(&mut input, n)?;
            state = n.min(MANY);
        }
        _ => {}
    }
    loop {
        let op = input.byte()?;
        let (length, distance, next);
        match op {
            0..16 if state == 0 => {
                let n = 3 + input.length(op, 15)?;
                out.literals(&mut input, n)?;
                state = MANY;
                continue;
            }
            0..16 => {
                let near = 1 + (op >> 2) + (input.byte()? << 2);
                (length, distance) = if state == MANY { (3, near + 2048) } else { (2, near) };
                next = op & 3;
            }
            16..32 => {
                length = 2 + input.length(op & 7, 7)?;
                let d = input.le16()?;
                let far = (op & 8) << 11 | d >> 2;
                if far == 0 {
                    // The end: a match of three bytes that has no distance, and nothing behind it.
                    return if length == 3 && input.0.is_empty() && out.len == out.buf.len() {
                        Ok(())
                    } else {
                        Err(format!("a block ends after {} of {} bytes", out.len, out.buf.len()))
                    };
                }
                distance = 16384 + far;
                next = d & 3;
            }
            32..64 => {
                length = 2 + input.length(op & 31, 31)?;
                let d = input.le16()?;
                distance = 1 + (d >> 2);
                next = d & 3;
            }
            _ => {
                length = 1 + (op >> 5);
                distance = 1 + ((op >> 2) & 7) + (input.byte()? << 3);
                next = op & 3;
            }
        }
        out.copy(length, distance)?;
        out.literals(&mut input, next)?;
        state = next;
    }
}

/// The unpacked block, as far as it has come.
struct Output<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl Output<'_> {
    fn literals(&mut self, from: &mut Input<'_>, n: usize) -> Result<(), String> {
        let to = self.end(n)?;
        self.buf[self.len..to].copy_from_slice(from.bytes(n)?);
        self.len = to;
        Ok(())
    }

    /// Copies `length` bytes from `distance` back; they may overlap with what they become.
    fn copy(&mut self, length: usize, distance: usize) -> Result<(), String> {
        let to = self.end(length)?;
        let from = self.len.checked_sub(distance).ok_or("it copies from before its beginning")?;
        if distance >= length {
            self.buf.copy_within(from..from + length, self.len);
        } else {
            for i in self.len..to {
                self.buf[i] = self.buf[i - distance];
            }
        }
        self.len = to;
        Ok(())
    }

    fn end(&self, n: usize) -> Result<usize, String> {
        self.len.checked_add(n).filter(|to| *to <= self.buf.len()).ok_or_else(|| "a block is too long".into())
    }
}
