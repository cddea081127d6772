//! Slots of a network device's rings as bytes (Xen: public/io/netif.h). They are the same for guests of 32 and 64 bits.

/// Flags of a slot with a fragment (`XEN_NETTXF_*`).
#[allow(missing_docs, reason = "Xen's names")]
pub mod txf {
    pub const CSUM_BLANK: u16 = 1;
    pub const DATA_VALIDATED: u16 = 2;
    pub const MORE_DATA: u16 = 4;
    pub const EXTRA_INFO: u16 = 8;
}
/// Flags of a received slot (`XEN_NETRXF_*`).
#[allow(missing_docs, reason = "Xen's names")]
pub mod rxf {
    pub const DATA_VALIDATED: u16 = 1;
    pub const CSUM_BLANK: u16 = 2;
    pub const MORE_DATA: u16 = 4;
    pub const EXTRA_INFO: u16 = 8;
}
/// What became of a slot (`XEN_NETIF_RSP_*`).
#[allow(missing_docs, reason = "Xen's names")]
pub mod rsp {
    pub const OKAY: i16 = 0;
    pub const ERROR: i16 = -1;
    pub const NULL: i16 = 1;
}
/// Kinds of extra slots (`XEN_NETIF_EXTRA_TYPE_*`).
#[allow(missing_docs, reason = "Xen's names")]
pub mod extra {
    pub const GSO: u8 = 1;
    pub const MORE: u8 = 1;
    pub const TCPV4: u8 = 1;
    pub const TCPV6: u8 = 2;
}

/// Bytes of a slot of each ring.
pub const TX_ENTRY: u32 = 12;
/// See there.
pub const RX_ENTRY: u32 = 8;
/// Slots of one packet that any back end takes (`XEN_NETIF_NR_SLOTS_MIN`).
pub const MAX_SLOTS: usize = 18;
/// Extra slots of one packet, one of each kind.
pub const MAX_EXTRAS: usize = 4;

/// A fragment to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxRequest {
    /// The grant of its page.
    pub gref: u32,
    /// Where it begins.
    pub offset: u16,
    /// See [`txf`].
    pub flags: u16,
    /// Comes back in the response.
    pub id: u16,
    /// Its bytes; of the first, those of the whole packet.
    pub size: u16,
}

impl TxRequest {
    /// From its bytes.
    pub fn new(b: &[u8; 12]) -> Self {
        let u16 = |at: usize| u16::from_le_bytes([b[at], b[at + 1]]);
        let gref = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Self { gref, offset: u16(4), flags: u16(6), id: u16(8), size: u16(10) }
    }
}

/// The response to a fragment.
pub fn tx_response(id: u16, status: i16) -> [u8; 4] {
    let ([a, b], [c, d]) = (id.to_le_bytes(), status.to_le_bytes());
    [a, b, c, d]
}

/// A part of a received packet, which begins its page.
pub fn rx_response(id: u16, flags: u16, status: i16) -> [u8; 8] {
    let ([a, b], [c, d], [e, f]) = (id.to_le_bytes(), flags.to_le_bytes(), status.to_le_bytes());
    [a, b, 0, 0, c, d, e, f]
}

/// The extra slot of a large segment.
pub fn gso_extra(v6: bool, size: u16) -> [u8; 8] {
    let [a, b] = size.to_le_bytes();
    [extra::GSO, 0, a, b, if v6 { extra::TCPV6 } else { extra::TCPV4 }, 0, 0, 0]
}
