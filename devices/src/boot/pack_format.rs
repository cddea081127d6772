//! The container of a packed kernel: an ELF executable cut into chunks that are compressed with LZ4
//! one by one. A distribution's kernel unpacks itself in guest code, which costs billions of guest
//! instructions; from this container the host unpacks it in a fraction of a second, straight into
//! guest RAM and with one chunk of scratch memory.
//!
//! All numbers little-endian:
//! ```text
//!  0  8 bytes  magic "TVPACK1\n"
//!  8  u64      length of the file inside
//! 16  u32      bytes per chunk (the last one may be shorter), a power of two, 64 KiB to 4 MiB
//! 20  u32      number of chunks = length / bytes per chunk, rounded up
//! 24  {u32 packed length, u32 Adler-32 of the packed bytes} for each chunk
//!     the packed chunks: LZ4 blocks; one as long as its content is stored as it is
//! ```

//!
//! This file stands alone: the image builder includes it too, so that it need not compile a CPU.

/// How a packed file begins.
pub const MAGIC: [u8; 8] = *b"TVPACK1\n";
/// Bytes before the chunk table.
pub const HEADER: usize = 24;
/// Bytes per entry of the chunk table.
pub const ENTRY: usize = 8;
/// The smallest chunk.
pub const MIN_CHUNK: u32 = 64 << 10;
/// The largest chunk, which bounds the memory that unpacking takes.
pub const MAX_CHUNK: u32 = 4 << 20;
/// The longest file inside.
pub const MAX_LEN: u64 = 1 << 30;

/// Adler-32 (RFC 1950, section 8.2).
pub fn adler32(data: &[u8]) -> u32 {
    const MOD: u32 = 65521;
    let (mut a, mut b) = (1u32, 0u32);
    // 5552 bytes are the most that cannot overflow 32 bits between two reductions.
    for part in data.chunks(5552) {
        for &x in part {
            a += u32::from(x);
            b += a;
        }
        a %= MOD;
        b %= MOD;
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adler32_of_the_rfc_example_word() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(b""), 1);
    }
}
