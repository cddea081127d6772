//! The network back end (Xen: public/io/netif.h; Linux: drivers/net/xen-netback). Frames that the guest sends leave the
//! machine as effects; frames that arrive wait in a short queue until the guest has room for them.
//!
//! Left out: several queues, the control ring (hashes), multicast lists, headroom for XDP.

use super::netif::{
    MAX_EXTRAS, MAX_SLOTS, RX_ENTRY, TX_ENTRY, TxRequest, extra, gso_extra, rsp, rx_response, rxf, tx_response, txf,
};
use super::ring::{Broken, Ring};
use super::xenbus::{Keys, flag, number};
use super::{BackEnd, Cx, Log};
use crate::backend::net::{Checksum, ETH_HLEN, Gso, MAX_PACKET, MIN_GSO_SIZE, NicConfig, Packet};
use crate::device::put_state;
use crate::effect::Input;
use crate::xen::store::DevicePaths;
use serde::Serialize;
use std::collections::VecDeque;
use tabvisor_core::mem::PAGE_SIZE;

/// Packets and bytes that wait for the guest.
const MAX_QUEUE: usize = 256;
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// As in `blk`.
const MAX_ROUNDS: u32 = 2;

/// What a front end can take.
#[derive(Clone, Copy, Debug, Serialize)]
struct Features {
    /// Packets on several pages.
    sg: bool,
    gso_tcpv4: bool,
    gso_tcpv6: bool,
    /// Blank checksums; with IPv6, too.
    csum: bool,
    csum_v6: bool,
}

/// A connection with a front end.
#[derive(Debug, Serialize)]
struct Link {
    tx: Ring,
    rx: Ring,
    tx_port: u32,
    rx_port: u32,
    features: Features,
    queue: VecDeque<Packet>,
    queued: usize,
}

/// A vif.
pub struct Net {
    nic: u8,
    mac: [u8; 6],
    link: Option<Link>,
    log: Log,
}

/// A packet that the guest sends, slot by slot.
#[derive(Default)]
struct Sent {
    slots: [TxRequest; MAX_SLOTS],
    count: usize,
    extras: usize,
    gso: Option<Gso>,
    /// It makes no sense, but what belongs to it does.
    bad: bool,
}

impl Sent {
    /// Takes the slots of the next packet, of `left` that wait.
    fn take(cx: &Cx<'_>, ring: &mut Ring, left: &mut u32) -> Result<Self, Broken> {
        let mut next = || {
            *left = left.checked_sub(1).ok_or_else(|| Broken("a packet goes on where nothing is".into()))?;
            Ok(ring.take::<12>(cx.ram))
        };
        let mut sent = Self::default();
        let first = TxRequest::new(&next()?);
        (sent.slots[0], sent.count) = (first, 1);
        let mut more = first.flags & txf::EXTRA_INFO != 0;
        while more {
            let e = next()?;
            sent.extras += 1;
            if sent.extras > MAX_EXTRAS {
                return Err(Broken("a packet has too many extra slots".into()));
            }
            more = e[1] & extra::MORE != 0;
            if e[0] == extra::GSO {
                let size = u16::from_le_bytes([e[2], e[3]]);
                sent.bad |= size < MIN_GSO_SIZE || !matches!(e[4], extra::TCPV4 | extra::TCPV6);
                sent.gso = Some(Gso { v6: e[4] == extra::TCPV6, size });
            }
        }
        let mut flags = first.flags;
        while flags & txf::MORE_DATA != 0 {
            let fragment = TxRequest::new(&next()?);
            let Some(slot) = sent.slots.get_mut(sent.count) else {
                return Err(Broken("a packet has too many fragments".into()));
            };
            *slot = fragment;
            sent.count += 1;
            flags = fragment.flags;
        }
        Ok(sent)
    }

    /// The packet.
    fn packet(&self, cx: &Cx<'_>) -> Result<Packet, String> {
        let slots = &self.slots[..self.count];
        let total = usize::from(slots[0].size);
        let rest: usize = slots[1..].iter().map(|s| usize::from(s.size)).sum();
        if self.bad || total < ETH_HLEN || rest > total {
            return Err(format!("a packet of {total} bytes, {rest} of them in fragments, is none"));
        }
        let mut bytes = vec![0; total];
        let mut at = 0;
        for (n, s) in slots.iter().enumerate() {
            let (offset, size) = (u64::from(s.offset), if n == 0 { total - rest } else { s.size.into() });
            if offset + size as u64 > PAGE_SIZE {
                return Err(format!("a fragment has {size} bytes from {offset} on"));
            }
            cx.ram.read(cx.page(s.gref, false)? + offset, &mut bytes[at..at + size]);
            at += size;
        }
        let checksum = match slots[0].flags {
            f if f & txf::CSUM_BLANK != 0 => Checksum::Blank,
            f if f & txf::DATA_VALIDATED != 0 => Checksum::Valid,
            _ => Checksum::Given,
        };
        Ok(Packet { bytes, checksum, gso: self.gso })
    }

    /// Answers all slots.
    fn respond(&self, cx: &Cx<'_>, ring: &mut Ring, status: i16) {
        for (n, s) in self.slots[..self.count].iter().enumerate() {
            ring.put(cx.ram, &tx_response(s.id, status));
            if n == 0 {
                (0..self.extras).for_each(|_| ring.put(cx.ram, &tx_response(0, rsp::NULL)));
            }
        }
    }
}

impl Net {
    /// The vif of network card `nic` of the machine.
    pub fn new(nic: u8, config: &NicConfig) -> Self {
        Self { nic, mac: config.mac, link: None, log: Log::default() }
    }

    /// Sends what the guest has put.
    fn transmit(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Result<(), Broken> {
        let mut left = link.tx.waiting(cx.ram)?;
        for _ in 0..MAX_ROUNDS {
            while left > 0 {
                let sent = Sent::take(cx, &mut link.tx, &mut left)?;
                let status = match sent.packet(cx) {
                    Ok(packet) => {
                        packet.leave(self.nic, cx.out);
                        rsp::OKAY
                    }
                    Err(why) => {
                        self.log.say(cx.out, format!("vif {}: {why}", self.nic));
                        rsp::ERROR
                    }
                };
                sent.respond(cx, &mut link.tx, status);
            }
            if link.tx.push(cx.ram) {
                cx.notify(link.tx_port);
            }
            left = link.tx.await_more(cx.ram, 0)?;
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Gives the guest what has arrived, as far as it has room.
    fn deliver(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Result<(), Broken> {
        let mut room = link.rx.waiting(cx.ram)?;
        while let Some(packet) = link.queue.front() {
            let needs = packet.bytes.len().div_ceil(PAGE_SIZE as usize) as u32 + u32::from(packet.gso.is_some());
            if needs > room {
                // The guest tells us of the next buffer, however many there are now.
                let more = link.rx.await_more(cx.ram, room)?;
                if more == room {
                    break;
                }
                room = more;
                continue;
            }
            room -= needs;
            let packet = link.queue.pop_front().expect("there is one");
            link.queued -= packet.bytes.len();
            self.put(cx, &mut link.rx, &packet);
        }
        if link.rx.push(cx.ram) {
            cx.notify(link.rx_port);
        }
        Ok(())
    }

    /// Puts a packet into buffers, of which there are enough.
    fn put(&mut self, cx: &mut Cx<'_>, ring: &mut Ring, packet: &Packet) {
        let parts = packet.bytes.chunks(PAGE_SIZE as usize);
        let last = parts.len() - 1;
        for (n, part) in parts.enumerate() {
            let request: [u8; 8] = ring.take(cx.ram);
            let (id, gref) = (u16::from_le_bytes([request[0], request[1]]), &request[4..]);
            let gref = u32::from_le_bytes([gref[0], gref[1], gref[2], gref[3]]);
            let mut flags = if n < last { rxf::MORE_DATA } else { 0 };
            if n == 0 {
                flags |= match packet.checksum {
                    Checksum::Given => 0,
                    Checksum::Valid => rxf::DATA_VALIDATED,
                    Checksum::Blank => rxf::DATA_VALIDATED | rxf::CSUM_BLANK,
                };
                flags |= if packet.gso.is_some() { rxf::EXTRA_INFO } else { 0 };
            }
            let status = match cx.page(gref, true) {
                Ok(page) => {
                    cx.ram.write(page, part);
                    part.len() as i16
                }
                Err(why) => {
                    self.log.say(cx.out, format!("vif {}: {why}", self.nic));
                    rsp::ERROR
                }
            };
            ring.put(cx.ram, &rx_response(id, flags, status));
            if let (0, Some(gso)) = (n, packet.gso) {
                let _: [u8; 8] = ring.take(cx.ram);
                ring.put(cx.ram, &gso_extra(gso.v6, gso.size));
            }
        }
    }
}

impl Link {
    /// A packet for the guest, in the form that it takes.
    fn receive(&mut self, packet: Packet) {
        let v6 = packet.bytes.get(12..14) == Some(&[0x86, 0xdd]);
        let f = self.features;
        let gso = packet.gso.is_none_or(|gso| f.sg && if gso.v6 { f.gso_tcpv6 } else { f.gso_tcpv4 });
        let csum = packet.checksum != Checksum::Blank || if v6 { f.csum_v6 } else { f.csum };
        if gso && csum {
            self.enqueue(packet);
        } else {
            packet.finish(|bytes| self.enqueue(Packet { bytes, checksum: Checksum::Valid, gso: None }));
        }
    }
    /// A packet waits, unless too much does.
    fn enqueue(&mut self, packet: Packet) {
        let len = packet.bytes.len();
        let max = if self.features.sg { MAX_PACKET } else { PAGE_SIZE as usize };
        if (ETH_HLEN..=max).contains(&len) && self.queue.len() < MAX_QUEUE && self.queued + len <= MAX_QUEUED_BYTES {
            self.queued += len;
            self.queue.push_back(packet);
        }
    }
}

impl BackEnd for Net {
    fn keys(&self) -> (Keys, Keys) {
        let on = |key| (key, "1".to_string());
        let mac = self.mac.map(|b| format!("{b:02x}")).join(":");
        let front = vec![("handle", self.nic.to_string()), ("mac", mac.clone()), on("trusted"), ("mtu", "1500".into())];
        let back = vec![
            ("mac", mac),
            ("handle", self.nic.to_string()),
            ("type", "vif".into()),
            ("hotplug-status", "connected".into()),
            on("feature-sg"),
            on("feature-gso-tcpv4"),
            on("feature-gso-tcpv6"),
            on("feature-ipv6-csum-offload"),
            on("feature-rx-copy"),
            ("feature-rx-flip", "0".into()),
            on("feature-split-event-channels"),
            on("multi-queue-max-queues"),
        ];
        (front, back)
    }
    fn connect(&mut self, cx: &mut Cx<'_>, paths: &DevicePaths) -> Result<(), String> {
        let front = &paths.frontend;
        let key = |cx: &Cx<'_>, key: &str| {
            number::<u32>(cx.store, front, key).ok_or_else(|| format!("its key {key} is no number"))
        };
        if number(cx.store, front, "multi-queue-num-queues").is_some_and(|n: u32| n > 1) {
            return Err("it has several queues".into());
        }
        if !flag(cx.store, front, "request-rx-copy") {
            return Err("it does not let us copy to its pages".into());
        }
        let ring = |cx: &Cx<'_>, name, entry| {
            let page = cx.page(key(cx, name)?, true)?;
            Ring::attach(cx.ram, vec![page], entry).map_err(|Broken(why)| why)
        };
        let (tx, rx) = (ring(cx, "tx-ring-ref", TX_ENTRY)?, ring(cx, "rx-ring-ref", RX_ENTRY)?);
        let (tx_port, rx_port) = match number(cx.store, front, "event-channel") {
            Some(port) => (port, port),
            None => (key(cx, "event-channel-tx")?, key(cx, "event-channel-rx")?),
        };
        if !cx.ports.bind_back_end(tx_port) {
            return Err(format!("port {tx_port} does not wait for us"));
        }
        if !cx.ports.bind_back_end(rx_port) {
            cx.ports.unbind_back_end(tx_port);
            return Err(format!("port {rx_port} does not wait for us"));
        }
        let flag = |key| flag(cx.store, front, key);
        let features = Features {
            sg: flag("feature-sg"),
            gso_tcpv4: flag("feature-gso-tcpv4"),
            gso_tcpv6: flag("feature-gso-tcpv6"),
            csum: !flag("feature-no-csum-offload"),
            csum_v6: flag("feature-ipv6-csum-offload"),
        };
        self.link = Some(Link { tx, rx, tx_port, rx_port, features, queue: VecDeque::new(), queued: 0 });
        Ok(())
    }
    fn disconnect(&mut self, cx: &mut Cx<'_>) {
        if let Some(link) = self.link.take() {
            cx.ports.unbind_back_end(link.tx_port);
            cx.ports.unbind_back_end(link.rx_port);
        }
    }
    fn has_port(&self, port: u32) -> bool {
        self.link.as_ref().is_some_and(|link| link.tx_port == port || link.rx_port == port)
    }
    fn kick(&mut self, cx: &mut Cx<'_>) -> Result<(), Broken> {
        let Some(mut link) = self.link.take() else { return Ok(()) };
        let result = (|| {
            cx.check_ring(&link.tx)?;
            cx.check_ring(&link.rx)?;
            self.transmit(cx, &mut link)?;
            self.deliver(cx, &mut link)
        })();
        self.link = Some(link);
        result
    }
    fn input(&mut self, cx: &mut Cx<'_>, input: &Input) -> Result<(), Broken> {
        let Input::Frame { nic, bytes } = input else { return Ok(()) };
        // With nobody connected, a frame is lost as on a card that is down.
        let Some(link) = self.link.as_mut().filter(|_| *nic == self.nic) else { return Ok(()) };
        link.receive(Packet::new(bytes.clone()));
        self.kick(cx)
    }
    fn log(&mut self) -> &mut Log {
        &mut self.log
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.link);
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
