//! Network frames, with what a card does to them on the way out: checksums (RFC 1071) and the division of large TCP
//! segments. Between guests of one machine neither is needed, so it is done when a frame leaves.

use crate::effect::Effect;
use serde::Serialize;

/// Bytes of an Ethernet header, without tags.
pub const ETH_HLEN: usize = 14;
/// Bytes of the longest packet.
pub const MAX_PACKET: usize = 65535;
/// Smaller segments would be mostly headers (Linux: TCP_MIN_SND_MSS).
pub const MIN_GSO_SIZE: u16 = 48;

/// A network card to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicConfig {
    /// Its address.
    pub mac: [u8; 6],
}

impl Default for NicConfig {
    fn default() -> Self {
        Self { mac: [0, 0x16, 0x3e, 0, 0, 1] }
    }
}

/// What is known of the checksum of TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Checksum {
    /// As it is; nobody knows.
    Given,
    /// It is right.
    Valid,
    /// It has to be computed when the frame leaves the machine.
    Blank,
}

/// A large segment that has yet to be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gso {
    /// TCP over IPv6, not over IPv4.
    pub v6: bool,
    /// Bytes of data in each part.
    pub size: u16,
}

/// A frame with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// From the destination's address on, without a check sequence.
    pub bytes: Vec<u8>,
    /// Its checksum.
    pub checksum: Checksum,
    /// How it is to be divided.
    pub gso: Option<Gso>,
}

/// Where things are in a frame.
#[derive(Clone, Copy)]
struct Layout {
    /// The IP header.
    l3: usize,
    /// What it carries.
    l4: usize,
    /// The end of that; there may be padding behind.
    end: usize,
    v6: bool,
    protocol: u8,
}

const TCP: u8 = 6;
const UDP: u8 = 17;

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])))
}

impl Layout {
    fn of(frame: &[u8]) -> Option<Self> {
        const TAGS: [usize; 2] = [0x8100, 0x88a8];
        let mut l3 = ETH_HLEN;
        while TAGS.contains(&be16(frame, l3 - 2)?) && l3 < ETH_HLEN + 8 {
            l3 += 4;
        }
        let (l4, end, v6, protocol) = match be16(frame, l3 - 2)? {
            0x800 => {
                let ip = frame.get(l3..l3 + 20)?;
                // Fragments have no checksum of their own.
                if ip[0] >> 4 != 4 || ip[6] & 0x3f != 0 || ip[7] != 0 {
                    return None;
                }
                (l3 + usize::from(ip[0] & 0xf) * 4, l3 + be16(ip, 2)?, false, ip[9])
            }
            0x86dd => {
                let ip = frame.get(l3..l3 + 40)?;
                let (mut at, mut next) = (l3 + 40, ip[6]);
                // Hop-by-hop options, routing, destination options.
                while matches!(next, 0 | 43 | 60) {
                    let header = frame.get(at..at + 2)?;
                    (next, at) = (header[0], at + 8 + 8 * usize::from(header[1]));
                }
                (at, l3 + 40 + be16(ip, 4)?, true, next)
            }
            _ => return None,
        };
        (l3 + 20 <= l4 && l4 <= end && end <= frame.len()).then_some(Self { l3, l4, end, v6, protocol })
    }
    /// Where the checksum is.
    fn checksum(&self) -> Option<usize> {
        let at = match self.protocol {
            TCP => self.l4 + 16,
            UDP => self.l4 + 6,
            _ => return None,
        };
        (at + 2 <= self.end).then_some(at)
    }
    /// The sum over the pseudo-header.
    fn pseudo(&self, frame: &[u8]) -> u64 {
        let addresses = if self.v6 { self.l3 + 8..self.l3 + 40 } else { self.l3 + 12..self.l3 + 20 };
        sum(&frame[addresses]) + u64::from(self.protocol) + (self.end - self.l4) as u64
    }
}

/// The sum of 16-bit numbers, not yet folded.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().map(|w| u64::from(u32::from_be_bytes(*w))).sum::<u64>() + u64::from(u32::from_be_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Computes the checksum of TCP or UDP.
fn complete(frame: &mut [u8]) {
    let Some(layout) = Layout::of(frame) else { return };
    let Some(at) = layout.checksum() else { return };
    frame[at..at + 2].fill(0);
    let mut value = fold(layout.pseudo(frame) + sum(&frame[layout.l4..layout.end]));
    if layout.protocol == UDP && value == 0 {
        value = 0xffff;
    }
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Divides a TCP segment, if it is one, into frames with `size` bytes of data each.
fn divide(frame: &[u8], size: usize, mut each: impl FnMut(Vec<u8>)) -> Option<()> {
    const FIN_PSH: u8 = 1 | 8;
    const CWR: u8 = 0x80;
    let Layout { l3, l4, end, v6, protocol } = Layout::of(frame)?;
    let tcp = frame.get(l4..end).filter(|tcp| protocol == TCP && tcp.len() >= 20)?;
    let headers = l4 + usize::from(tcp[12] >> 4) * 4;
    if headers < l4 + 20 || headers >= end || size == 0 {
        return None;
    }
    let (seq, id) = (u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]), be16(frame, l3 + 4)? as u16);
    for (n, data) in (0u16..).zip(frame[headers..end].chunks(size)) {
        let mut part = Vec::with_capacity(headers + data.len());
        part.extend_from_slice(&frame[..headers]);
        part.extend_from_slice(data);
        let done = usize::from(n) * size;
        if v6 {
            let len = (part.len() - l3 - 40) as u16;
            part[l3 + 4..l3 + 6].copy_from_slice(&len.to_be_bytes());
        } else {
            let len = (part.len() - l3) as u16;
            part[l3 + 2..l3 + 4].copy_from_slice(&len.to_be_bytes());
            part[l3 + 4..l3 + 6].copy_from_slice(&id.wrapping_add(n).to_be_bytes());
            part[l3 + 10..l3 + 12].fill(0);
            let check = fold(sum(&part[l3..l4]));
            part[l3 + 10..l3 + 12].copy_from_slice(&check.to_be_bytes());
        }
        part[l4 + 4..l4 + 8].copy_from_slice(&seq.wrapping_add(done as u32).to_be_bytes());
        if headers + done + data.len() < end {
            part[l4 + 13] &= !FIN_PSH;
        }
        if n > 0 {
            part[l4 + 13] &= !CWR;
        }
        complete(&mut part);
        each(part);
    }
    Some(())
}

/// Is there a checksum of TCP or UDP, and is it right? The sum over all, it included, is then zero, so to say.
fn is_right(frame: &[u8]) -> bool {
    let Some(layout) = Layout::of(frame) else { return false };
    let Some(at) = layout.checksum() else { return false };
    let unused = layout.protocol == UDP && frame[at..at + 2] == [0, 0];
    !unused && fold(layout.pseudo(frame) + sum(&frame[layout.l4..layout.end])) == 0
}

impl Packet {
    /// A frame from outside. That its checksum is right is found faster here than by the guest.
    pub fn new(bytes: Vec<u8>) -> Self {
        let checksum = if is_right(&bytes) { Checksum::Valid } else { Checksum::Given };
        Self { bytes, checksum, gso: None }
    }
    /// As it is on a wire: one frame or several, with checksums.
    pub fn finish(mut self, mut each: impl FnMut(Vec<u8>)) {
        if let Some(gso) = self.gso {
            if divide(&self.bytes, gso.size.into(), &mut each).is_some() {
                return;
            }
        }
        if self.checksum == Checksum::Blank {
            complete(&mut self.bytes);
        }
        each(self.bytes);
    }
    /// Out of network card `nic` of the machine.
    pub fn leave(self, nic: u8, out: &mut Vec<Effect>) {
        self.finish(|bytes| out.push(Effect::Frame { nic, bytes }));
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
pub(crate) mod tests;
