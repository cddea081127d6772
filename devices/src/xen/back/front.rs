//! A guest for tests: it has memory, grants, ports and nodes as a kernel does, and plays the other side of a ring.

use super::xenbus::XenbusState;
use crate::backend::BlockBackend;
use crate::backend::display::DisplayConfig;
use crate::backend::net::NicConfig;
use crate::effect::{Effect, Input};
use crate::xen::abi::domid;
use crate::xen::domain::{Cx, Domain, Options, Rings};
use crate::xen::event::Binding;
use crate::xen::frames::Frames;
use crate::xen::store::DevicePaths;
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE};
use tabvisor_core::time::VmTime;

const FRAMES: u64 = 2048;

/// A domain without a kernel.
pub struct Guest {
    pub ram: GuestRam,
    pub domain: Domain,
    pub disks: Vec<Box<dyn BlockBackend>>,
    pub out: Vec<Effect>,
    next_page: u64,
    next_gref: u32,
}

impl Guest {
    pub fn new(disks: Vec<Box<dyn BlockBackend>>) -> Self {
        Self::with_nics(disks, &[])
    }
    pub fn with_nics(disks: Vec<Box<dyn BlockBackend>>, nics: &[NicConfig]) -> Self {
        Self::with_devices(disks, nics, None)
    }
    pub fn with_display(display: DisplayConfig) -> Self {
        Self::with_devices(vec![], &[], Some(display))
    }
    fn with_devices(disks: Vec<Box<dyn BlockBackend>>, nics: &[NicConfig], display: Option<DisplayConfig>) -> Self {
        let frames = Frames::new(FRAMES, FRAMES);
        let ram = GuestRam::new(frames.bytes()).expect("small");
        let options =
            Options { hvm: false, vcpus: 1, wall_clock: 0, uuid: [0; 16], nics: nics.into(), display, files: None };
        let mut domain = Domain::new(&ram, frames, &options);
        domain.open_rings();
        domain.connect(Rings { store: 1, console: 2 });
        let mut guest = Self { ram, domain, disks, out: Vec::new(), next_page: 16, next_gref: 8 };
        guest.with(|domain, cx| domain.add_devices(cx, &options));
        guest
    }
    pub fn with<R>(&mut self, f: impl FnOnce(&mut Domain, &mut Cx<'_>) -> R) -> R {
        let mut stop = None;
        let mut cx = Cx { now: VmTime::ZERO, out: &mut self.out, disks: &mut self.disks, stop: &mut stop };
        f(&mut self.domain, &mut cx)
    }
    /// Another page, with zeros.
    pub fn page(&mut self) -> u64 {
        self.next_page += 1;
        assert!(self.next_page < FRAMES);
        self.next_page << PAGE_SHIFT
    }
    /// Sets an entry of the grant table.
    pub fn set_grant(&self, gref: u32, flags: u16, dom: u16, frame: u64) {
        let at = (self.domain.frames.grants << PAGE_SHIFT) + 8 * u64::from(gref);
        let e = u64::from(flags) | u64::from(dom) << 16 | frame << 32;
        self.ram.write(at, &e.to_le_bytes());
    }
    /// Grants a page to domain 0.
    pub fn grant(&mut self, page: u64, read_only: bool) -> u32 {
        self.next_gref += 1;
        self.set_grant(self.next_gref, 1 | u16::from(read_only) << 2, domid::DOM0, page >> PAGE_SHIFT);
        self.next_gref
    }
    /// A port that waits for domain 0.
    pub fn port(&mut self) -> u32 {
        self.domain.ports.allocate(Binding::Unbound(domid::DOM0), 0).expect("there are some")
    }
    /// Sends an event.
    pub fn kick(&mut self, port: u32) {
        if self.domain.ports.binding(port) == Binding::BackEnd {
            self.domain.ports.kicked.push(port);
        }
        self.with(Domain::settle);
    }
    pub fn input(&mut self, input: &Input) {
        self.with(|domain, cx| domain.input(cx, input));
    }
    /// Takes an event.
    pub fn event(&mut self, port: u32) -> bool {
        let at = (self.domain.frames.shared_info << PAGE_SHIFT) + 0x800 + u64::from(port / 8);
        let [old] = self.ram.read_le::<1>(at);
        self.ram.write(at, &[old & !(1 << (port % 8))]);
        old >> (port % 8) & 1 != 0
    }
    /// Writes keys of a front end, then its state.
    pub fn set(&mut self, paths: &DevicePaths, keys: &[(&str, String)], state: XenbusState) {
        for (key, value) in keys {
            self.domain.store.write(&format!("{}/{key}", paths.frontend), value).expect("valid");
        }
        self.domain.store.write(&format!("{}/state", paths.frontend), (state as u8).to_string()).expect("valid");
        self.with(Domain::watch_back_ends);
    }
    /// A key of the back end.
    pub fn get(&self, paths: &DevicePaths, key: &str) -> Option<String> {
        let value = self.domain.store.read(&format!("{}/{key}", paths.backend))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
    pub fn state(&self, paths: &DevicePaths) -> XenbusState {
        XenbusState::read(&self.domain.store, &paths.backend)
    }
    pub fn read(&self, at: u64, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.ram.read(at, &mut bytes);
        bytes
    }
    pub fn logs(&self) -> Vec<&str> {
        self.out.iter().filter_map(|e| if let Effect::Log(text) = e { Some(&text[..]) } else { None }).collect()
    }
    pub fn state_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.domain.state_bytes(&mut bytes);
        bytes
    }
}

/// The front end's side of a ring.
pub struct FrontRing {
    pub pages: Vec<u64>,
    entry: u64,
    pub slots: u32,
    pub req_prod: u32,
    pub rsp_cons: u32,
}

impl FrontRing {
    pub fn new(guest: &mut Guest, pages: u64, entry: u64, slots: u32) -> Self {
        let pages: Vec<u64> = (0..pages).map(|_| guest.page()).collect();
        let ring = Self { pages, entry, slots, req_prod: 0, rsp_cons: 0 };
        ring.set(guest, 4, 1);
        ring.set(guest, 12, 1);
        ring
    }
    pub fn grefs(&self, guest: &mut Guest) -> Vec<u32> {
        self.pages.iter().map(|&page| guest.grant(page, false)).collect()
    }
    pub fn set(&self, guest: &Guest, at: u64, v: u32) {
        guest.ram.write(self.pages[0] + at, &v.to_le_bytes());
    }
    pub fn index(&self, guest: &Guest, at: u64) -> u32 {
        u32::from_le_bytes(guest.ram.read_le(self.pages[0] + at))
    }
    fn byte(&self, index: u32, k: u64) -> u64 {
        let at = 64 + u64::from(index % self.slots) * self.entry + k;
        self.pages[(at / PAGE_SIZE) as usize] + at % PAGE_SIZE
    }
    /// Writes a request, not yet for the back end to see.
    pub fn put(&mut self, guest: &Guest, bytes: &[u8]) {
        for (k, byte) in (0..).zip(bytes) {
            guest.ram.write(self.byte(self.req_prod, k), &[*byte]);
        }
        self.req_prod = self.req_prod.wrapping_add(1);
    }
    /// Shows what was put.
    pub fn push(&self, guest: &Guest) {
        self.set(guest, 0, self.req_prod);
    }
    /// The bytes of a slot.
    pub fn response(&self, guest: &Guest, slot: u32) -> Vec<u8> {
        (0..12).map(|k| guest.ram.read_le::<1>(self.byte(slot, k))[0]).collect()
    }
    /// Takes all responses, and asks for an event with the next.
    pub fn take(&mut self, guest: &Guest, n: u64) -> Vec<Vec<u8>> {
        let prod = self.index(guest, 8);
        let mut all = Vec::new();
        // In a ring that a hostile guest has overwritten there is anything.
        while self.rsp_cons != prod && all.len() < self.slots as usize {
            all.push((0..n).map(|k| guest.ram.read_le::<1>(self.byte(self.rsp_cons, k))[0]).collect());
            self.rsp_cons = self.rsp_cons.wrapping_add(1);
        }
        self.set(guest, 12, self.rsp_cons.wrapping_add(1));
        all
    }
}
