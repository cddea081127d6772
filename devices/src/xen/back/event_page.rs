//! The page that a framebuffer or keyboard shares with its back end: two rings of events of 40 bytes, one each way (Xen:
//! public/io/fbif.h, kbdif.h). The guest can write all of it at any time, so our own indices are kept here.

use super::ring::Broken;
use super::xenbus::number;
use super::{Cx, DevicePaths};
use core::ops::Range;
use serde::Serialize;
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT};

/// Bytes of an event.
pub const EVENT: usize = 40;

/// Offsets of the indices. "In" is what the guest gets.
mod index {
    pub const IN_CONS: u64 = 0;
    pub const IN_PROD: u64 = 4;
    pub const OUT_CONS: u64 = 8;
    pub const OUT_PROD: u64 = 12;
}

/// Where the rings are in the page.
#[derive(Clone, Debug, Serialize)]
pub struct Layout {
    /// Bytes of the ring to the guest.
    pub to_guest: Range<u64>,
    /// Bytes of the ring from the guest.
    pub from_guest: Range<u64>,
}

fn slots(ring: &Range<u64>) -> u32 {
    ((ring.end - ring.start) / EVENT as u64) as u32
}
fn slot(ring: &Range<u64>, index: u32) -> u64 {
    ring.start + u64::from(index % slots(ring)) * EVENT as u64
}

/// The page, and the port through which one tells the other.
#[derive(Debug, Serialize)]
pub struct EventPage {
    /// Guest-physical address of the page.
    page: u64,
    /// The event channel.
    pub port: u32,
    layout: Layout,
    in_prod: u32,
    out_cons: u32,
}

impl EventPage {
    /// The page and port that a front end has named.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn attach(cx: &mut Cx<'_>, paths: &DevicePaths, layout: Layout) -> Result<Self, String> {
        let key = |cx: &Cx<'_>, key: &str| number::<u64>(cx.store, &paths.frontend, key);
        // A frame number, as the interface is older than its grants.
        let frame = key(cx, "page-ref").ok_or("its key page-ref is no number")?;
        let page = cx.frame(frame, true)?;
        let port = key(cx, "event-channel").and_then(|n| n.try_into().ok());
        let port = port.ok_or("its key event-channel is no number")?;
        let (in_prod, out_cons) = (word(cx.ram, page + index::IN_PROD), word(cx.ram, page + index::OUT_CONS));
        let events = Self { page, port, layout, in_prod, out_cons };
        events.room(cx.ram).and(events.waiting(cx.ram)).map_err(|Broken(why)| why)?;
        if !cx.ports.bind_back_end(port) {
            return Err(format!("port {port} does not wait for us"));
        }
        Ok(events)
    }
    /// Is the page still for data?
    ///
    /// # Errors
    /// [`Broken`] if we must not write to it any more.
    pub fn check(&self, cx: &Cx<'_>) -> Result<(), Broken> {
        if cx.may_use(self.page, true) {
            Ok(())
        } else {
            Err(Broken(format!("the page at {:#x} is not for data any more", self.page)))
        }
    }
    /// A number at an offset in the page.
    pub fn word(&self, ram: &GuestRam, at: u64) -> u32 {
        word(ram, self.page + at)
    }
    /// Eight bytes at an offset in the page.
    pub fn long(&self, ram: &GuestRam, at: u64) -> u64 {
        u64::from_le_bytes(ram.read_le(self.page + at))
    }

    /// Events that the guest can take.
    ///
    /// # Errors
    /// If it claims to have taken what it did not get.
    pub fn room(&self, ram: &GuestRam) -> Result<u32, Broken> {
        let (cons, all) = (self.word(ram, index::IN_CONS), slots(&self.layout.to_guest));
        all.checked_sub(self.in_prod.wrapping_sub(cons))
            .ok_or_else(|| Broken(format!("it has taken {cons:#x} of {:#x} events", self.in_prod)))
    }
    /// Writes an event, for which there is room.
    pub fn put(&mut self, ram: &GuestRam, event: &[u8; EVENT]) {
        ram.write(self.page + slot(&self.layout.to_guest, self.in_prod), event);
        self.in_prod = self.in_prod.wrapping_add(1);
        ram.write(self.page + index::IN_PROD, &self.in_prod.to_le_bytes());
    }
    /// Events from the guest that wait.
    fn waiting(&self, ram: &GuestRam) -> Result<u32, Broken> {
        let (prod, all) = (self.word(ram, index::OUT_PROD), slots(&self.layout.from_guest));
        let waiting = prod.wrapping_sub(self.out_cons);
        if waiting > all {
            return Err(Broken(format!("{prod:#x} events, of which we have {:#x}, do not fit", self.out_cons)));
        }
        Ok(waiting)
    }
    /// What the guest has sent. It is told when it had no room for more.
    ///
    /// # Errors
    /// If its index makes no sense.
    pub fn take(&mut self, cx: &mut Cx<'_>) -> Result<Vec<[u8; EVENT]>, Broken> {
        let waiting = self.waiting(cx.ram)?;
        let mut all = vec![[0; EVENT]; waiting as usize];
        for event in &mut all {
            cx.ram.read(self.page + slot(&self.layout.from_guest, self.out_cons), event);
            self.out_cons = self.out_cons.wrapping_add(1);
        }
        if waiting > 0 {
            cx.ram.write(self.page + index::OUT_CONS, &self.out_cons.to_le_bytes());
        }
        if waiting == slots(&self.layout.from_guest) {
            cx.notify(self.port);
        }
        Ok(all)
    }
}

fn word(ram: &GuestRam, at: u64) -> u32 {
    u32::from_le_bytes(ram.read_le(at))
}

impl Cx<'_> {
    /// The address of a frame that the guest has named by its number, without a grant.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub(super) fn frame(&self, frame: u64, write: bool) -> Result<u64, String> {
        let page = frame.checked_mul(1 << PAGE_SHIFT).filter(|page| self.may_use(*page, write));
        page.ok_or_else(|| format!("frame {frame:#x} is not the guest's, or not for data"))
    }
}

/// A number in an event.
pub fn int(event: &[u8; EVENT], at: usize) -> i32 {
    i32::from_le_bytes([event[at], event[at + 1], event[at + 2], event[at + 3]])
}
