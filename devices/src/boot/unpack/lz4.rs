//! LZ4's legacy frame, as `lz4 -l` writes it: blocks of 8 MiB, each with its packed size in front.
//! Source: LZ4 Frame Format Description, "Legacy frame".

use super::{Sink, UnpackError};
use lz4_flex::block::DecompressError;

const MAGIC: [u8; 4] = 0x184c_2102u32.to_le_bytes();
/// Bytes a block unpacks to, but for the last one.
const BLOCK: usize = 8 << 20;

/// Unpacks all blocks of `data`.
pub(super) fn unpack(data: &[u8], mut sink: Sink) -> Result<Vec<u8>, UnpackError> {
    let mut rest = data;
    while let Some((word, tail)) = rest.split_first_chunk::<4>() {
        rest = tail;
        // Frames may follow one another.
        if *word == MAGIC {
            continue;
        }
        let n = u32::from_le_bytes(*word) as usize;
        let Some((packed, tail)) = rest.split_at_checked(n) else {
            return Err(sink.damaged(format!("a block of {n} bytes is cut off after {}", rest.len())));
        };
        let room = sink.room();
        // The block may fill the room but for one byte too many.
        let most = BLOCK.min(room + 1).min(n.saturating_mul(255));
        let (too_large, format) = (UnpackError::TooLarge { limit: sink.limit }, sink.format);
        let got = sink.append(most, |out| match lz4_flex::block::decompress_into(packed, out) {
            Ok(n) => Ok(n),
            Err(DecompressError::OutputTooSmall { .. }) if most > room => Err(too_large.clone()),
            Err(e) => Err(format.damaged(format!("a block does not unpack: {e}"))),
        })?;
        if got.len() > room {
            return Err(too_large);
        }
        rest = tail;
    }
    if rest.is_empty() { Ok(sink.out) } else { Err(sink.damaged("a block's size is cut off")) }
}
