//! Reading a packed kernel (`pack_format.rs`): every field is checked before it is used.

pub use super::pack_format::{ENTRY, HEADER, MAGIC, MAX_CHUNK, MAX_LEN, MIN_CHUNK, adler32};
use super::{BootError, Reader};

/// A packed file whose table has been checked.
pub struct Packed<'a> {
    file: Reader<'a>,
    /// Bytes of the file inside.
    pub(super) len: u64,
    chunk: u32,
    count: u32,
    data: u64,
}

impl<'a> Packed<'a> {
    /// Checks header, table and total length.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, BootError> {
        let file = Reader { data, what: "the packed kernel" };
        let len = file.u64(8)?;
        if len == 0 || len > MAX_LEN {
            return Err(BootError::Damaged { what: "its unpacked length", value: len, expected: "1 byte to 1 GiB" });
        }
        let chunk = file.u32(16)?;
        if !(MIN_CHUNK..=MAX_CHUNK).contains(&chunk) || !chunk.is_power_of_two() {
            let expected = "a power of two from 64 KiB to 4 MiB";
            return Err(BootError::Damaged { what: "its chunk length", value: chunk.into(), expected });
        }
        let count = file.u32(20)?;
        if u64::from(count) != len.div_ceil(chunk.into()) {
            let expected = "its length divided by the chunk length";
            return Err(BootError::Damaged { what: "its number of chunks", value: count.into(), expected });
        }
        let data = (HEADER + ENTRY * count as usize) as u64;
        let this = Self { file, len, chunk, count, data };
        let mut end = data;
        for i in 0..count {
            let (packed, raw) = (this.packed_len(i)?, this.raw_len(i));
            if packed == 0 || packed > raw {
                let expected = "1 to the chunk's unpacked length";
                return Err(BootError::Damaged { what: "a chunk's packed length", value: packed.into(), expected });
            }
            end += u64::from(packed);
        }
        this.file.bytes(end, 0)?;
        Ok(this)
    }

    fn packed_len(&self, i: u32) -> Result<u32, BootError> {
        self.file.u32(HEADER as u64 + ENTRY as u64 * u64::from(i))
    }

    fn raw_len(&self, i: u32) -> u32 {
        u64::from(self.chunk).min(self.len - u64::from(self.chunk) * u64::from(i)) as u32
    }

    /// Unpacks chunk `i`, whose packed bytes begin at `at`, to the beginning of `scratch`.
    /// Returns the unpacked bytes and where the next chunk begins.
    fn chunk<'s>(&self, i: u32, at: u64, scratch: &'s mut [u8]) -> Result<(&'s [u8], u64), BootError> {
        let packed = self.file.bytes(at, self.packed_len(i)?.into())?;
        let sum = self.file.u32(HEADER as u64 + ENTRY as u64 * u64::from(i) + 4)?;
        if adler32(packed) != sum {
            let expected = "the sum of its bytes";
            return Err(BootError::Damaged { what: "a chunk's checksum", value: sum.into(), expected });
        }
        let raw = &mut scratch[..self.raw_len(i) as usize];
        if packed.len() == raw.len() {
            raw.copy_from_slice(packed);
        } else if lz4_flex::block::decompress_into(packed, raw).ok() != Some(raw.len()) {
            let expected = "an LZ4 block of its length";
            return Err(BootError::Damaged { what: "a packed chunk", value: i.into(), expected });
        }
        Ok((raw, at + packed.len() as u64))
    }

    /// The first chunk, unpacked.
    pub(super) fn first(&self) -> Result<Vec<u8>, BootError> {
        let mut raw = vec![0; self.raw_len(0) as usize];
        self.chunk(0, self.data, &mut raw)?;
        Ok(raw)
    }

    /// `n` bytes of the file inside from `at`; unpacks only the chunks with some of them.
    pub(super) fn read(&self, at: u64, n: u64, what: &'static str) -> Result<Vec<u8>, BootError> {
        let to = at.saturating_add(n);
        if to > self.len {
            return Err(BootError::Truncated { what, needs: to, has: self.len });
        }
        let mut out = Vec::with_capacity(n as usize);
        let mut scratch = vec![0; self.raw_len(0) as usize];
        let (mut packed_at, mut raw_at) = (self.data, 0);
        for i in 0..self.count {
            let (from, raw_end) = (raw_at.max(at), raw_at + u64::from(self.raw_len(i)));
            if from < to.min(raw_end) {
                let (raw, _) = self.chunk(i, packed_at, &mut scratch)?;
                out.extend(&raw[(from - raw_at) as usize..(to.min(raw_end) - raw_at) as usize]);
            }
            packed_at += u64::from(self.packed_len(i)?);
            raw_at = raw_end;
        }
        Ok(out)
    }

    /// Calls `each` with every unpacked chunk and its position in the file inside, in order.
    pub(super) fn unpack(&self, mut each: impl FnMut(u64, &[u8])) -> Result<(), BootError> {
        let mut scratch = vec![0; self.raw_len(0) as usize];
        let mut at = self.data;
        for i in 0..self.count {
            let (raw, next) = self.chunk(i, at, &mut scratch)?;
            each(u64::from(i) * u64::from(self.chunk), raw);
            at = next;
        }
        Ok(())
    }
}
