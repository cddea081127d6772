//! The 9pfs back end (Xen: docs/misc/9pfs.pandoc; Linux: net/9p/trans_xen.c): rings of bytes with messages of 9P, which
//! `ninep.rs` answers.

use super::ninep::{HEAD, Session};
use super::ring::Broken;
use super::xenbus::{Keys, number};
use super::{BackEnd, Cx, Log};
use crate::backend::files::{Share, Tree};
use crate::device::put_state;
use crate::effect::Input;
use crate::xen::store::DevicePaths;
use serde::Serialize;
use tabvisor_core::mem::{GuestRam, PAGE_SIZE};

/// What a guest mounts.
const TAG: &str = "share";
/// Rings of a guest.
const MAX_RINGS: u32 = 4;
/// Pages of a ring are two to the power of this, at most.
const MAX_ORDER: u32 = 6;

/// Offsets in `struct xen_9pfs_data_intf`.
mod shared {
    pub const IN_CONS: u64 = 0;
    pub const IN_PROD: u64 = 4;
    pub const OUT_CONS: u64 = 64;
    pub const OUT_PROD: u64 = 68;
    pub const ORDER: u64 = 128;
    pub const REFS: u64 = 132;
}

/// One ring: a page with indices, and pages of data: the first half leads to the guest, the second from it.
#[derive(Debug, Serialize)]
struct Ring {
    page: u64,
    pages: Vec<u64>,
    port: u32,
    /// Our indices.
    in_prod: u32,
    out_cons: u32,
    /// An answer for which there was no room.
    late: Vec<u8>,
}

impl Ring {
    fn attach(cx: &mut Cx<'_>, gref: u32, port: u32) -> Result<Self, String> {
        let page = cx.page(gref, true)?;
        let word = |at: u64| u32::from_le_bytes(cx.ram.read_le(page + at));
        let order = word(shared::ORDER);
        if !(1..=MAX_ORDER).contains(&order) {
            return Err(format!("a ring of 2^{order} pages"));
        }
        let pages = (0..1u64 << order).map(|n| cx.page(word(shared::REFS + 4 * n), true)).collect::<Result<_, _>>()?;
        let (in_prod, out_cons) = (word(shared::IN_PROD), word(shared::OUT_CONS));
        if !cx.ports.bind_back_end(port) {
            return Err(format!("port {port} does not wait for us"));
        }
        Ok(Self { page, pages, port, in_prod, out_cons, late: Vec::new() })
    }
    /// Bytes of a half.
    fn half(&self) -> u32 {
        self.pages.len() as u32 * (PAGE_SIZE as u32 / 2)
    }
    fn word(&self, ram: &GuestRam, at: u64) -> u32 {
        u32::from_le_bytes(ram.read_le(self.page + at))
    }
    /// Parts of the memory that `n` bytes from an index on are in: addresses and lengths.
    fn parts(&self, second: bool, index: u32, n: usize) -> Vec<(u64, usize)> {
        let (mut at, mut left, mut parts) = (u64::from(index % self.half()), n, Vec::new());
        while left > 0 {
            let place = at + if second { u64::from(self.half()) } else { 0 };
            let end = u64::from(self.half()).min((at / PAGE_SIZE + 1) * PAGE_SIZE);
            let len = left.min((end - at) as usize);
            parts.push((self.pages[(place / PAGE_SIZE) as usize] + place % PAGE_SIZE, len));
            (at, left) = ((at + len as u64) % u64::from(self.half()), left - len);
        }
        parts
    }
    fn read(&self, ram: &GuestRam, index: u32, to: &mut [u8]) {
        let mut done = 0;
        for (at, len) in self.parts(true, index, to.len()) {
            ram.read(at, &mut to[done..done + len]);
            done += len;
        }
    }
    /// Puts an answer, if there is room for all of it.
    fn put(&mut self, ram: &GuestRam, bytes: &[u8]) -> Result<bool, Broken> {
        let used = self.in_prod.wrapping_sub(self.word(ram, shared::IN_CONS));
        let room =
            self.half().checked_sub(used).ok_or_else(|| Broken(format!("it has left {used} bytes in a ring")))?;
        if bytes.len() > room as usize {
            return Ok(false);
        }
        let mut done = 0;
        for (at, len) in self.parts(false, self.in_prod, bytes.len()) {
            ram.write(at, &bytes[done..done + len]);
            done += len;
        }
        self.in_prod = self.in_prod.wrapping_add(bytes.len() as u32);
        ram.write(self.page + shared::IN_PROD, &self.in_prod.to_le_bytes());
        Ok(true)
    }
    /// The next message, if all of it is there.
    fn take(&mut self, ram: &GuestRam, msize: u32) -> Result<Option<Vec<u8>>, Broken> {
        let waiting = self.word(ram, shared::OUT_PROD).wrapping_sub(self.out_cons);
        if waiting > self.half() {
            return Err(Broken(format!("{waiting} bytes do not fit into a ring")));
        }
        if (waiting as usize) < HEAD {
            return Ok(None);
        }
        let mut size = [0; 4];
        self.read(ram, self.out_cons, &mut size);
        let size = u32::from_le_bytes(size);
        if (size as usize) < HEAD || size > msize.min(self.half()) {
            return Err(Broken(format!("a message of {size} bytes")));
        }
        if waiting < size {
            return Ok(None);
        }
        let mut message = vec![0; size as usize];
        self.read(ram, self.out_cons, &mut message);
        self.out_cons = self.out_cons.wrapping_add(size);
        ram.write(self.page + shared::OUT_CONS, &self.out_cons.to_le_bytes());
        Ok(Some(message))
    }
    /// Are all pages still for data?
    fn check(&self, cx: &Cx<'_>) -> Result<(), Broken> {
        match self.pages.iter().chain([&self.page]).find(|&&page| !cx.may_use(page, true)) {
            Some(page) => Err(Broken(format!("the ring's page at {page:#x} is not for data any more"))),
            None => Ok(()),
        }
    }
    /// Answers what there is, as far as the answers find room.
    fn serve(&mut self, cx: &mut Cx<'_>, session: &mut Session, tree: &mut Tree) -> Result<(), Broken> {
        self.check(cx)?;
        let before = (self.in_prod, self.out_cons);
        loop {
            let late = core::mem::take(&mut self.late);
            if !self.put(cx.ram, &late)? {
                self.late = late;
                break;
            }
            let Some(message) = self.take(cx.ram, session.msize())? else { break };
            self.late = session.answer(tree, &message).unwrap_or_default();
        }
        if before != (self.in_prod, self.out_cons) {
            cx.notify(self.port);
        }
        Ok(())
    }
}

/// A 9pfs device.
pub struct NinePfs {
    tree: Share,
    rings: Vec<Ring>,
    session: Session,
    log: Log,
}

impl NinePfs {
    /// A device that shares a tree.
    pub fn new(tree: Share) -> Self {
        Self { tree, rings: Vec::new(), session: Session::default(), log: Log::default() }
    }
}

impl BackEnd for NinePfs {
    fn keys(&self) -> (Keys, Keys) {
        let back = vec![
            ("versions", "1".into()),
            ("max-rings", MAX_RINGS.to_string()),
            ("max-ring-page-order", MAX_ORDER.to_string()),
        ];
        (vec![("tag", TAG.into())], back)
    }
    fn connect(&mut self, cx: &mut Cx<'_>, paths: &DevicePaths) -> Result<(), String> {
        let front = &paths.frontend;
        let key = |cx: &Cx<'_>, key: &str| {
            number::<u32>(cx.store, front, key).ok_or_else(|| format!("its key {key} is no number"))
        };
        let rings = key(cx, "num-rings")?;
        if key(cx, "version")? != 1 || !(1..=MAX_RINGS).contains(&rings) {
            return Err(format!("another version, or {rings} rings"));
        }
        for n in 0..rings {
            let (gref, port) = (key(cx, &format!("ring-ref{n}"))?, key(cx, &format!("event-channel-{n}"))?);
            let ring = Ring::attach(cx, gref, port)?;
            self.rings.push(ring);
        }
        Ok(())
    }
    fn disconnect(&mut self, cx: &mut Cx<'_>) {
        for ring in core::mem::take(&mut self.rings) {
            cx.ports.unbind_back_end(ring.port);
        }
        self.session.end(&mut self.tree.borrow_mut());
        self.session = Session::default();
    }
    fn has_port(&self, port: u32) -> bool {
        self.rings.iter().any(|ring| ring.port == port)
    }
    fn kick(&mut self, cx: &mut Cx<'_>) -> Result<(), Broken> {
        let tree = self.tree.clone();
        let mut tree = tree.borrow_mut();
        self.rings.iter_mut().try_for_each(|ring| ring.serve(cx, &mut self.session, &mut tree))
    }
    fn input(&mut self, _: &mut Cx<'_>, _: &Input) -> Result<(), Broken> {
        Ok(())
    }
    fn log(&mut self) -> &mut Log {
        &mut self.log
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &(&self.rings, &self.session, &*self.tree.borrow()));
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
