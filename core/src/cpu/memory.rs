//! Loads and stores: the one-compare fast path through the TLB, and the slow path behind it
//! (walks, page crossing, alignment checks, devices, stores into decoded code).

use super::{Cpu, Done, Stop, Vector, cr4, event, fault, gp, mode::ctx, paging::Access, reg};
use crate::cpu::tlb::{self, Fill, Kind};
use crate::emit::Linear;
use crate::flags;
use crate::mem::{Host, PAGE_SHIFT, PAGE_SIZE, page};
use crate::size::Size;

/// Where a checked access ends up.
enum Place {
    Ram(Host),
    Device(u64),
}

/// How a slow access is made: its TLB context and rights.
#[derive(Clone, Copy)]
pub(crate) struct As {
    ctx: u32,
    user: bool,
    ac: bool,
    /// Do data breakpoints count?
    watched: bool,
}

impl Cpu {
    /// As the current privilege level does.
    #[inline]
    pub(crate) fn as_self(&self) -> As {
        As { ctx: self.tlb_ctx, user: self.ring() == 3, ac: self.rflags & flags::AC != 0, watched: true }
    }
    /// As privilege level `cpl` does (pushing onto another ring's stack).
    pub(crate) fn as_cpl(&self, cpl: u8) -> As {
        let ac = self.rflags & flags::AC != 0;
        let c = match (cpl == 3, ac && self.cr4 & cr4::SMAP != 0) {
            (true, _) => ctx::USER,
            (false, true) => ctx::SUPER_AC,
            (false, false) => ctx::SUPER,
        };
        As { ctx: c << tlb::CTX_SHIFT, user: cpl == 3, ac, watched: true }
    }
    /// As the processor itself reads tables (an implicit supervisor access).
    pub(crate) fn as_system(&self) -> As {
        As { ctx: ctx::SUPER << tlb::CTX_SHIFT, user: false, ac: false, watched: false }
    }

    /// A load by the running instruction.
    #[inline(always)]
    pub(crate) fn read(&mut self, at: Linear<u64>, size: Size) -> Result<u64, Stop> {
        let e = &self.tlb.read[tlb::index(self.tlb_ctx, at.at)];
        if tlb::hit(e, at.at, size.bytes()) {
            let host = Host::of_tlb(at.at.wrapping_add(e.add));
            return Ok(host.load(size));
        }
        self.read_slow(at, size)
    }

    /// A store by the running instruction.
    #[inline(always)]
    pub(crate) fn write(&mut self, at: Linear<u64>, size: Size, v: u64) -> Done {
        let e = &self.tlb.write[tlb::index(self.tlb_ctx, at.at)];
        if tlb::hit(e, at.at, size.bytes()) {
            let host = Host::of_tlb(at.at.wrapping_add(e.add));
            host.store(size, v);
            return Ok(());
        }
        self.write_slow(at, size, v)
    }

    /// Where a read-modify-write of `size` bytes may happen in place, if it can.
    #[inline(always)]
    pub(crate) fn rmw_host(&mut self, at: u64, size: Size) -> Option<Host> {
        let e = &self.tlb.write[tlb::index(self.tlb_ctx, at)];
        tlb::hit(e, at, size.bytes()).then(|| Host::of_tlb(at.wrapping_add(e.add)))
    }

    #[cold]
    #[inline(never)]
    fn read_slow(&mut self, at: Linear<u64>, size: Size) -> Result<u64, Stop> {
        self.check_address(at, size)?;
        self.load_as(self.as_self(), at.at, size)
    }

    #[cold]
    #[inline(never)]
    fn write_slow(&mut self, at: Linear<u64>, size: Size, v: u64) -> Done {
        self.check_address(at, size)?;
        self.store_as(self.as_self(), at.at, size, v)
    }

    /// Canonical address and alignment check.
    pub(crate) fn check_address(&self, at: Linear<u64>, size: Size) -> Done {
        let last = at.at.wrapping_add(size.bytes() - 1);
        if self.long && (!canonical(at.at) || !canonical(last)) {
            return Err(if at.stack { fault(Vector::SS) } else { gp(0) });
        }
        if self.tlb_ctx == ctx::CHECKED << tlb::CTX_SHIFT && at.at & (size.bytes() - 1) != 0 {
            return Err(fault(Vector::AC));
        }
        Ok(())
    }

    /// The next linear address: wraps at 4 GiB outside 64-bit mode.
    fn wrap(&self, la: u64) -> u64 {
        if self.long_mode() { la } else { la & 0xffff_ffff }
    }

    /// Translates and fills the TLB; `size` bytes at `la` must not cross the page.
    fn place(&mut self, who: As, la: u64, write: bool) -> Result<Place, Stop> {
        let t = self.translate(la, Access { write, exec: false, user: who.user, ac: who.ac })?;
        let fl = self.ram.flags(t.pa >> PAGE_SHIFT);
        if fl & page::DEVICE != 0 || write && fl & page::ROM != 0 {
            return if self.alone { Ok(Place::Device(t.pa)) } else { Err(Stop::Alone) };
        }
        let host = self.ram.host(t.pa).expect("a page without DEVICE is RAM");
        let how = Fill { global: t.global, large: t.large };
        if who.ctx != ctx::CHECKED << tlb::CTX_SHIFT && !self.page_watched(la) && self.write_through.is_none() {
            self.note_place(la, t.pa >> PAGE_SHIFT);
            let add = host.value().wrapping_sub(la);
            self.stats.tlb_fills += 1;
            self.tlb.fill(Kind::Read, who.ctx, la, add, how);
            if t.writable && fl & (page::CODE | page::ROM) == 0 {
                self.tlb.fill(Kind::Write, who.ctx, la, add, how);
            }
        }
        if write && fl & page::CODE != 0 {
            self.store_to_code_page(t.pa)?;
        }
        Ok(Place::Ram(host))
    }

    /// The host's address of up to 16 bytes within a page, if an access there does nothing but load or store. Fills the
    /// TLB as that access would.
    pub(crate) fn host_of(&mut self, la: u64, bytes: u64, write: bool) -> Option<u64> {
        let checked = self.tlb_ctx == ctx::CHECKED << tlb::CTX_SHIFT;
        if self.long && !canonical(la) || checked && la & (bytes - 1) != 0 || self.page_watched(la) {
            return None;
        }
        // A store is of no more than eight bytes for `store_to_code_page`.
        if write && bytes > 8 {
            self.host_of(la + 8, bytes - 8, write)?;
        }
        match self.place(self.as_self(), la, write) {
            Ok(Place::Ram(host)) => Some(host.value()),
            _ => None,
        }
    }

    /// A store goes to a page that has decoded code: is the granule decoded?
    fn store_to_code_page(&mut self, pa: u64) -> Done {
        let p = (pa >> PAGE_SHIFT) as usize;
        let granules = self.code_granules.get(p).copied().unwrap_or(0);
        // The access is at most 8 bytes: it may reach into the next granule.
        let first = pa >> 6 & 63;
        let last = ((pa & 0xfff) + 7).min(0xfff) >> 6;
        if granules & (1 << first | 1 << last) != 0 {
            if !self.alone {
                return Err(Stop::Alone);
            }
            self.stale_code.push(p as u32);
            self.events |= event::STALE_CODE;
        }
        Ok(())
    }

    /// A load with the rights of `who`; TLB, then walk.
    pub(crate) fn load_as(&mut self, who: As, la: u64, size: Size) -> Result<u64, Stop> {
        let e = &self.tlb.read[tlb::index(who.ctx, la)];
        if tlb::hit(e, la, size.bytes()) {
            return Ok(Host::of_tlb(la.wrapping_add(e.add)).load(size));
        }
        if who.watched {
            self.watch(la, size.bytes(), false)?;
        }
        if la & (PAGE_SIZE - 1) <= PAGE_SIZE - size.bytes() {
            return match self.place(who, la, false)? {
                Place::Ram(host) => Ok(host.load(size)),
                Place::Device(pa) => {
                    self.stats.mmio += 1;
                    self.events |= event::CHECK;
                    Ok(size.zx(self.bus().mmio_read(pa, size)))
                }
            };
        }
        // Crosses a page: byte by byte. Both pages are checked before a device is touched.
        let second = self.wrap((la | (PAGE_SIZE - 1)).wrapping_add(1));
        self.place(who, la, false)?;
        self.place(who, second, false)?;
        let mut v = 0;
        for i in 0..size.bytes() {
            let at = self.wrap(la.wrapping_add(i));
            v |= self.load_as(who, at, Size::B1)? << (8 * i);
        }
        Ok(v)
    }

    /// A store with the rights of `who`.
    pub(crate) fn store_as(&mut self, who: As, la: u64, size: Size, v: u64) -> Done {
        let e = &self.tlb.write[tlb::index(who.ctx, la)];
        if tlb::hit(e, la, size.bytes()) {
            Host::of_tlb(la.wrapping_add(e.add)).store(size, v);
            return Ok(());
        }
        if who.watched {
            self.watch(la, size.bytes(), true)?;
        }
        if la & (PAGE_SIZE - 1) <= PAGE_SIZE - size.bytes() {
            match self.place(who, la, true)? {
                Place::Ram(host) => host.store(size, v),
                Place::Device(pa) => {
                    self.stats.mmio += 1;
                    self.events |= event::CHECK;
                    self.bus().mmio_write(pa, size, v);
                }
            }
            return Ok(());
        }
        let second = self.wrap((la | (PAGE_SIZE - 1)).wrapping_add(1));
        self.place(who, la, true)?;
        self.place(who, second, true)?;
        for i in 0..size.bytes() {
            let at = self.wrap(la.wrapping_add(i));
            self.store_as(who, at, Size::B1, v >> (8 * i))?;
        }
        Ok(())
    }

    /// Checks that `size` bytes at `at` may be stored, without storing.
    pub(crate) fn probe_write(&mut self, at: Linear<u64>, size: u64) -> Done {
        let e = &self.tlb.write[tlb::index(self.tlb_ctx, at.at)];
        if tlb::hit(e, at.at, size) {
            return Ok(());
        }
        let last = at.at.wrapping_add(size - 1);
        if self.long && (!canonical(at.at) || !canonical(last)) {
            return Err(if at.stack { fault(Vector::SS) } else { gp(0) });
        }
        self.watch(at.at, size, true)?;
        let who = self.as_self();
        self.place(who, at.at, true)?;
        if (at.at ^ last) >> PAGE_SHIFT != 0 {
            let second = self.wrap(last & !(PAGE_SIZE - 1));
            self.place(who, second, true)?;
        }
        Ok(())
    }

    /// 16 bytes, if the TLB has their page.
    #[inline(always)]
    pub(crate) fn read128_fast(&self, la: u64) -> Option<[u64; 2]> {
        let e = &self.tlb.read[tlb::index(self.tlb_ctx, la)];
        tlb::hit(e, la, 16).then(|| {
            let host = la.wrapping_add(e.add);
            [Host::of_tlb(host).load(Size::B8), Host::of_tlb(host.wrapping_add(8)).load(Size::B8)]
        })
    }

    /// Stores 16 bytes, if the TLB has their page.
    #[inline(always)]
    pub(crate) fn write128_fast(&mut self, la: u64, v: [u64; 2]) -> bool {
        let e = &self.tlb.write[tlb::index(self.tlb_ctx, la)];
        let hit = tlb::hit(e, la, 16);
        if hit {
            let host = la.wrapping_add(e.add);
            Host::of_tlb(host).store(Size::B8, v[0]);
            Host::of_tlb(host.wrapping_add(8)).store(Size::B8, v[1]);
        }
        hit
    }

    /// 16 bytes, in two halves.
    #[inline(always)]
    pub(crate) fn read128(&mut self, at: Linear<u64>) -> Result<[u64; 2], Stop> {
        let lo = self.read(at, Size::B8)?;
        let hi = self.read(Linear { at: self.wrap_fast(at.at.wrapping_add(8)), ..at }, Size::B8)?;
        Ok([lo, hi])
    }

    /// Stores 16 bytes; checks all of them first.
    #[inline(always)]
    pub(crate) fn write128(&mut self, at: Linear<u64>, v: [u64; 2]) -> Done {
        self.probe_write(at, 16)?;
        self.write(at, Size::B8, v[0])?;
        self.write(Linear { at: self.wrap_fast(at.at.wrapping_add(8)), ..at }, Size::B8, v[1])
    }

    #[inline(always)]
    fn wrap_fast(&self, la: u64) -> u64 {
        if self.long { la } else { self.wrap(la) }
    }

    /// A processor read of a descriptor table or TSS.
    #[inline]
    pub(crate) fn sys_read(&mut self, la: u64, size: Size) -> Result<u64, Stop> {
        let (who, la) = (self.as_system(), self.wrap(la));
        let e = &self.tlb.read[tlb::index(who.ctx, la)];
        if tlb::hit(e, la, size.bytes()) {
            return Ok(Host::of_tlb(la.wrapping_add(e.add)).load(size));
        }
        self.load_as(who, la, size)
    }
    /// A processor write to a descriptor table or TSS.
    pub(crate) fn sys_write(&mut self, la: u64, size: Size, v: u64) -> Done {
        let la = self.wrap(la);
        if !self.is_paravirtual() {
            return self.store_as(self.as_system(), la, size, v);
        }
        // Descriptor tables are read-only for the guest's kernel, which is a supervisor here; not for the processor.
        let through = self.write_through.replace(la & !7);
        let r = self.store_as(self.as_system(), la, size, v);
        self.write_through = through;
        r
    }

    /// A physical read of a page-table entry; ones where there is no RAM.
    pub(crate) fn phys_read4(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.ram.read_le(at))
    }
    /// A physical read of a page-table entry; ones where there is no RAM.
    pub(crate) fn phys_read8(&self, at: u64) -> u64 {
        match self.ram.host(at) {
            Some(h) if at & 7 == 0 => h.load(Size::B8),
            _ => u64::from_le_bytes(self.ram.read_le(at)),
        }
    }
    /// A physical write of a page-table entry.
    pub(crate) fn phys_write4(&mut self, at: u64, v: u32) {
        self.ram.write(at, &v.to_le_bytes());
    }
    /// A physical write of a page-table entry.
    pub(crate) fn phys_write8(&mut self, at: u64, v: u64) {
        self.ram.write(at, &v.to_le_bytes());
    }

    /// Offset in a segment to linear address (`Emit::segmented`).
    pub(crate) fn linear(&mut self, s: u8, off: u64, size: u8, write: bool) -> Result<Linear<u64>, Stop> {
        let seg = &self.seg[s as usize];
        let stack = s == reg::SS;
        if self.long {
            let base = if s >= reg::FS { seg.base } else { 0 };
            return Ok(Linear { at: base.wrapping_add(off), stack });
        }
        let bad = || if stack { fault(Vector::SS) } else { gp(0) };
        if self.protected() && !self.v86() {
            if !seg.present() || if write { !seg.is_writable() } else { seg.is_code() && seg.attr & 2 == 0 } {
                return Err(bad());
            }
        }
        if !seg.covers(off, u64::from(size.max(1))) {
            return Err(bad());
        }
        Ok(Linear { at: seg.base.wrapping_add(off) & 0xffff_ffff, stack })
    }

    /// The TLB context of fetches with this privilege, already shifted.
    #[inline(always)]
    pub(crate) fn fetch_ctx(cpl: u8) -> u32 {
        (if cpl == 3 { ctx::USER } else { ctx::SUPER }) << tlb::CTX_SHIFT
    }

    /// The guest-physical page of the code at `la` with this privilege, if the TLB knows it.
    #[inline(always)]
    pub(crate) fn known_fetch_page(&self, cpl: u8, la: u64) -> Option<u64> {
        let e = &self.tlb.exec[tlb::index(Self::fetch_ctx(cpl), la)];
        tlb::hit(e, la, 1).then(|| la.wrapping_add(e.add) >> PAGE_SHIFT)
    }

    /// The guest-physical page of a fetch at linear `la` through the TLB.
    ///
    /// # Errors
    /// #PF, #GP(0) for a non-canonical address.
    #[inline]
    pub(crate) fn fetch_page(&mut self, la: u64) -> Result<u64, Stop> {
        let c = Self::fetch_ctx(self.ring());
        let e = &self.tlb.exec[tlb::index(c, la)];
        if tlb::hit(e, la, 1) {
            return Ok(la.wrapping_add(e.add));
        }
        if self.long && !canonical(la) {
            return Err(gp(0));
        }
        let t = self.translate(la, Access { write: false, exec: true, user: self.ring() == 3, ac: false })?;
        if self.ram.flags(t.pa >> PAGE_SHIFT) & page::DEVICE == 0 {
            self.note_place(la, t.pa >> PAGE_SHIFT);
            self.tlb.fill(Kind::Exec, c, la, t.pa.wrapping_sub(la), Fill { global: t.global, large: t.large });
        }
        Ok(t.pa)
    }
}

/// Is `la` canonical (48 bits, sign-extended)?
#[inline(always)]
pub fn canonical(la: u64) -> bool {
    (la << 16) as i64 >> 16 == la as i64
}
