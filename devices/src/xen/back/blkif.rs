//! Requests of a block ring as bytes, for guests of 64 and of 32 bits (Xen: public/io/blkif.h; Linux:
//! drivers/block/xen-blkback/common.h).

use serde::Serialize;

/// Operations, but for WRITE_BARRIER (2), which we have not.
#[allow(missing_docs, reason = "Xen's names")]
pub mod op {
    pub const READ: u8 = 0;
    pub const WRITE: u8 = 1;
    pub const FLUSH_DISKCACHE: u8 = 3;
    pub const DISCARD: u8 = 5;
    pub const INDIRECT: u8 = 6;
}

/// What became of a request.
#[allow(missing_docs, reason = "Xen's names")]
pub mod rsp {
    pub const OKAY: i16 = 0;
    pub const ERROR: i16 = -1;
    pub const EOPNOTSUPP: i16 = -2;
}

/// Segments that a request itself has room for (`BLKIF_MAX_SEGMENTS_PER_REQUEST`).
pub const MAX_SEGMENTS: usize = 11;
/// Pages of segments of an indirect request.
pub const MAX_INDIRECT_PAGES: usize = 8;
/// Segments of an indirect request that we take.
pub const MAX_INDIRECT_SEGMENTS: usize = 256;
/// Segments on a page of an indirect request.
pub const SEGMENTS_PER_PAGE: usize = 512;
/// `BLKIF_DISCARD_SECURE`.
pub const DISCARD_SECURE: u8 = 1;
/// Bytes of the longest request.
pub const MAX_REQUEST: usize = 112;
/// Bytes of a segment.
pub const SEGMENT: usize = 8;

/// Sectors of a granted page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// The grant.
    pub gref: u32,
    /// The first sector.
    pub first: u8,
    /// The last sector.
    pub last: u8,
}

impl Segment {
    /// From its 8 bytes.
    pub fn new(b: &[u8]) -> Self {
        Self { gref: u32::from_le_bytes([b[0], b[1], b[2], b[3]]), first: b[4], last: b[5] }
    }
    /// Does it lie on its page?
    pub fn is_valid(&self) -> bool {
        self.first <= self.last && self.last < 8
    }
    /// Sectors.
    pub fn count(&self) -> u64 {
        u64::from(self.last) + 1 - u64::from(self.first)
    }
}

/// How a guest lays out its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Abi {
    /// `x86_64-abi`: 8-byte numbers are aligned.
    X86_64,
    /// `x86_32-abi`: to 4 bytes only.
    X86_32,
}

impl Abi {
    /// By the front end's key `protocol`; a guest without one is like its host.
    pub fn by_name(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("x86_64-abi") => Some(Self::X86_64),
            Some("x86_32-abi") => Some(Self::X86_32),
            Some(_) => None,
        }
    }
    /// Bytes of a slot.
    pub fn entry(self) -> u32 {
        match self {
            Self::X86_64 => 112,
            Self::X86_32 => 108,
        }
    }
    /// A response.
    pub fn response(self, id: u64, op: u8, status: i16) -> ([u8; 16], usize) {
        let mut b = [0; 16];
        b[..8].copy_from_slice(&id.to_le_bytes());
        b[8] = op;
        b[10..12].copy_from_slice(&status.to_le_bytes());
        (b, if self == Self::X86_64 { 16 } else { 12 })
    }
}

/// A request as the guest wrote it.
pub struct Request<'a> {
    bytes: &'a [u8; MAX_REQUEST],
    abi: Abi,
}

impl<'a> Request<'a> {
    /// From its bytes.
    pub fn new(abi: Abi, bytes: &'a [u8; MAX_REQUEST]) -> Self {
        Self { bytes, abi }
    }
    /// Where the first 8-byte number is; with 32 bits all that follows comes so much earlier.
    fn at(&self, at: usize) -> usize {
        if self.abi == Abi::X86_64 { at } else { at - 4 }
    }
    fn u64(&self, at: usize) -> u64 {
        let at = self.at(at);
        u64::from_le_bytes(*self.bytes[at..].first_chunk().expect("within the request"))
    }
    /// `operation`.
    pub fn op(&self) -> u8 {
        self.bytes[0]
    }
    /// What is to be done, and what the response has to say that it was: Linux compares.
    pub fn real_op(&self) -> u8 {
        if self.op() == op::INDIRECT { self.indirect_op() } else { self.op() }
    }
    /// `id`.
    pub fn id(&self) -> u64 {
        self.u64(8)
    }
    /// `sector_number`, in units of 512 bytes.
    pub fn sector(&self) -> u64 {
        self.u64(16)
    }
    /// `nr_segments` of a direct request.
    pub fn nr_segments(&self) -> usize {
        self.bytes[1].into()
    }
    /// The segments of a direct request.
    pub fn segment(&self, n: usize) -> Segment {
        Segment::new(&self.bytes[self.at(24) + SEGMENT * n..][..SEGMENT])
    }
    /// `flag` of a discard.
    pub fn discard_flag(&self) -> u8 {
        self.bytes[1]
    }
    /// `nr_sectors` of a discard.
    pub fn discard_sectors(&self) -> u64 {
        self.u64(24)
    }
    /// `indirect_op`.
    pub fn indirect_op(&self) -> u8 {
        self.bytes[1]
    }
    /// `nr_segments` of an indirect request.
    pub fn indirect_segments(&self) -> usize {
        u16::from_le_bytes([self.bytes[2], self.bytes[3]]).into()
    }
    /// `indirect_grefs`.
    pub fn indirect_gref(&self, n: usize) -> u32 {
        let at = self.at(28) + 4 * n;
        u32::from_le_bytes(*self.bytes[at..].first_chunk().expect("within the request"))
    }
}
