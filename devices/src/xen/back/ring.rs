//! The back end's side of a shared ring (Xen: public/io/ring.h). The guest can write all of it at any time, so an index is
//! read once and checked, an entry is copied before it is looked at, and what is ours is kept here.

use serde::Serialize;
use tabvisor_core::mem::{GuestRam, PAGE_SIZE};

/// Offsets in the header.
mod shared {
    pub const REQ_PROD: u64 = 0;
    pub const REQ_EVENT: u64 = 4;
    pub const RSP_PROD: u64 = 8;
    pub const RSP_EVENT: u64 = 12;
    /// The first entry.
    pub const RING: u32 = 64;
}

/// The guest's indices make no sense; the text is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// A ring of requests that become responses.
#[derive(Clone, Debug, Serialize)]
pub struct Ring {
    /// Guest-physical addresses of the pages.
    pages: Vec<u64>,
    /// Bytes of an entry.
    entry: u32,
    /// Entries, a power of two.
    slots: u32,
    /// The next request.
    req_cons: u32,
    /// Where the next response goes.
    rsp_prod: u32,
    /// Responses up to this one are public.
    pushed: u32,
}

impl Ring {
    /// The ring in these pages, with its indices as the guest has them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn attach(ram: &GuestRam, pages: Vec<u64>, entry: u32) -> Result<Self, Broken> {
        let room = pages.len() as u32 * PAGE_SIZE as u32 - shared::RING;
        let slots = 1 << (room / entry).ilog2();
        let mut ring = Self { pages, entry, slots, req_cons: 0, rsp_prod: 0, pushed: 0 };
        ring.rsp_prod = ring.index(ram, shared::RSP_PROD);
        (ring.req_cons, ring.pushed) = (ring.rsp_prod, ring.rsp_prod);
        ring.waiting(ram)?;
        Ok(ring)
    }

    /// Entries.
    #[cfg(test)]
    pub fn slots(&self) -> u32 {
        self.slots
    }
    /// Its pages.
    pub fn pages(&self) -> &[u64] {
        &self.pages
    }
    fn index(&self, ram: &GuestRam, at: u64) -> u32 {
        u32::from_le_bytes(ram.read_le(self.pages[0] + at))
    }

    /// Requests that wait.
    ///
    /// # Errors
    /// If the guest claims more than there can be.
    pub fn waiting(&self, ram: &GuestRam) -> Result<u32, Broken> {
        let prod = self.index(ram, shared::REQ_PROD);
        let (all, waiting) = (prod.wrapping_sub(self.rsp_prod), prod.wrapping_sub(self.req_cons));
        if all > self.slots || waiting > self.slots {
            let (rsp, req) = (self.rsp_prod, self.req_cons);
            return Err(Broken(format!(
                "impossible indices: requests up to {prod:#x}, {req:#x} taken, {rsp:#x} answered, {} slots",
                self.slots
            )));
        }
        Ok(waiting)
    }

    /// The place of the slot of `index`, in pieces: guest-physical address, range of the entry's bytes. An entry may lie
    /// on two pages.
    fn pieces(&self, index: u32, len: usize) -> [(u64, core::ops::Range<usize>); 2] {
        let at = shared::RING + (index & (self.slots - 1)) * self.entry;
        let (page, off) = ((at / PAGE_SIZE as u32) as usize, u64::from(at) % PAGE_SIZE);
        let split = len.min((PAGE_SIZE - off) as usize);
        let next = self.pages.get(page + 1).copied().unwrap_or(0);
        [(self.pages[page] + off, 0..split), (next, split..len)]
    }
    /// A copy of the next request, of which there is one.
    pub fn take<const N: usize>(&mut self, ram: &GuestRam) -> [u8; N] {
        let mut entry = [0; N];
        for (at, range) in self.pieces(self.req_cons, N.min(self.entry as usize)) {
            ram.read(at, &mut entry[range]);
        }
        self.req_cons = self.req_cons.wrapping_add(1);
        entry
    }
    /// Writes the next response. There is room: each request has one.
    pub fn put(&mut self, ram: &GuestRam, response: &[u8]) {
        assert!(self.rsp_prod != self.req_cons, "a response has a request");
        for (at, range) in self.pieces(self.rsp_prod, response.len().min(self.entry as usize)) {
            if !range.is_empty() {
                ram.write(at, &response[range]);
            }
        }
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }
    /// Shows the guest the responses so far. `true`: it is to be told.
    pub fn push(&mut self, ram: &GuestRam) -> bool {
        let (old, new) = (core::mem::replace(&mut self.pushed, self.rsp_prod), self.rsp_prod);
        if old == new {
            return false;
        }
        ram.write(self.pages[0] + shared::RSP_PROD, &new.to_le_bytes());
        let event = self.index(ram, shared::RSP_EVENT);
        new.wrapping_sub(event) < new.wrapping_sub(old)
    }
    /// Asks to be told when there are more requests than the `seen` that wait, and looks how many there are.
    ///
    /// # Errors
    /// As [`Ring::waiting`].
    pub fn await_more(&self, ram: &GuestRam, seen: u32) -> Result<u32, Broken> {
        let event = self.req_cons.wrapping_add(seen).wrapping_add(1);
        ram.write(self.pages[0] + shared::REQ_EVENT, &event.to_le_bytes());
        self.waiting(ram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_SIZE;

    fn ring(pages: u64, entry: u32) -> (GuestRam, Ring) {
        let ram = GuestRam::new(0x10000).expect("small");
        // Upside down, so that they do not lie side by side.
        let pages = (1..=pages).rev().map(|n| n * PAGE).collect();
        let ring = Ring::attach(&ram, pages, entry).expect("zeros are an empty ring");
        (ram, ring)
    }
    fn set(ram: &GuestRam, ring: &Ring, at: u64, v: u32) {
        ram.write(ring.pages[0] + at, &v.to_le_bytes());
    }
    fn get(ram: &GuestRam, ring: &Ring, at: u64) -> u32 {
        ring.index(ram, at)
    }

    #[test]
    fn a_ring_has_as_many_slots_as_xen_says() {
        for (pages, entry, slots) in
            [(1, 112, 32), (1, 108, 32), (2, 112, 64), (8, 112, 256), (1, 12, 256), (1, 8, 256)]
        {
            assert_eq!(ring(pages, entry).1.slots(), slots, "{pages} pages of {entry}");
        }
    }

    #[test]
    fn entries_cross_pages() {
        let (ram, mut ring) = ring(2, 112);
        // Slot 36 begins at 64 + 36 * 112 = 4096; slot 35 ends there; with 108 bytes they would not.
        for n in 0..64u32 {
            for (at, range) in ring.pieces(n, 112) {
                let bytes: Vec<u8> = range.map(|k| (n as usize + k) as u8).collect();
                ram.write(at, &bytes);
            }
        }
        set(&ram, &ring, shared::REQ_PROD, 64);
        assert_eq!(ring.waiting(&ram), Ok(64));
        for n in 0..64 {
            let entry: [u8; 112] = ring.take(&ram);
            assert_eq!(entry, core::array::from_fn(|k| (n + k) as u8));
        }
        assert_eq!(ring.waiting(&ram), Ok(0));
    }

    #[test]
    fn impossible_indices_are_told_apart_from_possible_ones() {
        let (ram, mut ring) = ring(1, 112);
        for (prod, ok) in [(0, true), (32, true), (33, false), (u32::MAX, false), (0x8000_0000, false)] {
            set(&ram, &ring, shared::REQ_PROD, prod);
            assert_eq!(ring.waiting(&ram).is_ok(), ok, "{prod:#x}");
        }
        set(&ram, &ring, shared::REQ_PROD, 32);
        for _ in 0..32 {
            let _: [u8; 112] = ring.take(&ram);
        }
        // Taken requests cannot come back, and no slot is free for another.
        for prod in [31, 33] {
            set(&ram, &ring, shared::REQ_PROD, prod);
            assert!(ring.waiting(&ram).is_err());
        }
        ring.put(&ram, &[0; 16]);
        set(&ram, &ring, shared::REQ_PROD, 33);
        assert_eq!(ring.waiting(&ram), Ok(1));
    }

    #[test]
    fn indices_wrap_around() {
        let ram = GuestRam::new(0x2000).expect("small");
        for at in [shared::REQ_PROD, shared::RSP_PROD] {
            ram.write(at, &(u32::MAX - 1).to_le_bytes());
        }
        let mut ring = Ring::attach(&ram, vec![0], 112).expect("empty");
        set(&ram, &ring, shared::REQ_PROD, 3);
        set(&ram, &ring, shared::RSP_EVENT, 0);
        assert_eq!(ring.waiting(&ram), Ok(5));
        for told in [false, true, false] {
            let _ = ring.take::<112>(&ram);
            ring.put(&ram, &[7; 16]);
            assert_eq!(ring.push(&ram), told, "{:#x}", ring.rsp_prod);
            set(&ram, &ring, shared::RSP_EVENT, 0);
        }
        assert_eq!((get(&ram, &ring, shared::RSP_PROD), ring.await_more(&ram, 0)), (1, Ok(2)));
        assert_eq!(get(&ram, &ring, shared::REQ_EVENT), 2);
        assert!(!ring.push(&ram), "nothing is new");
    }
}
