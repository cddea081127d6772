//! Guest RAM: one zeroed, page-aligned allocation, and one byte of flags per page.
//!
//! UNSAFETY: this file is the only place that touches RAM bytes. The CPU needs unchecked
//! access through addresses that its TLB has already checked, and CPU and devices look at
//! the same bytes, so RAM is raw memory behind a shared handle and every access is a copy.

use crate::size::Size;
use crate::zeroed::Zeroed;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// log2 of the size of a page.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// The most RAM a machine can have: the 32-bit PCI hole begins above it.
pub const MAX_RAM: u64 = 0xc000_0000;

/// What is special about a page of RAM.
pub mod page {
    /// Decoded instructions were taken from this page: a store must look for them.
    pub const CODE: u8 = 1;
    /// Not RAM for the guest: reads and writes go to the board.
    pub const DEVICE: u8 = 2;
    /// Reads as RAM, writes go to the board.
    pub const ROM: u8 = 4;
    /// A page table through which the TLB has translations that are kept ([`cpu::kept`](crate::cpu)).
    pub const WALKED: u8 = 8;
}

/// Why RAM could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamError {
    /// Not a positive multiple of the page size, or above [`MAX_RAM`].
    Size(u64),
    /// The host has no such amount of memory.
    Memory(u64),
}

impl core::fmt::Display for RamError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Size(n) => {
                write!(f, "a machine cannot have {n} bytes of memory; give it 2 to {} MiB", MAX_RAM >> 20)
            }
            Self::Memory(n) => {
                write!(f, "the host has no {} MiB of memory for the guest; give the machine less", n >> 20)
            }
        }
    }
}
impl core::error::Error for RamError {}

struct Inner {
    bytes: Zeroed,
    flags: Vec<Cell<u8>>,
    /// Pages with [`page::CODE`] that a device wrote to; the CPU drains it before it runs on.
    dirty_code: RefCell<Vec<u32>>,
    /// Pages beyond the end that are others within.
    aliases: RefCell<Vec<(u64, u64)>>,
}

impl Inner {
    /// Reads from RAM.
    ///
    /// # Safety
    /// All of `[at, at + to.len())` is there.
    unsafe fn read(&self, at: u64, to: &mut [u8]) {
        let from = self.bytes.base().wrapping_add(at as usize);
        // SAFETY: the caller has looked; `to` is not part of the allocation.
        unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) }
    }
    /// Writes to RAM.
    ///
    /// # Safety
    /// All of `[at, at + from.len())` is there.
    unsafe fn write(&self, at: u64, from: &[u8]) {
        let n = from.len();
        if n == 0 {
            return;
        }
        for p in at >> PAGE_SHIFT..=(at + n as u64 - 1) >> PAGE_SHIFT {
            if self.flags.get(p as usize).is_some_and(|flags| flags.get() & page::CODE != 0) {
                self.dirty_code.borrow_mut().push(p as u32);
            }
        }
        let to = self.bytes.base().wrapping_add(at as usize);
        // SAFETY: the caller has looked; `from` is not part of the allocation.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, n) }
    }
}

/// A handle to a machine's RAM, or to its first part. Guest-physical address = offset.
#[derive(Clone)]
pub struct GuestRam {
    all: Rc<Inner>,
    /// Bytes that are RAM through this handle.
    len: u64,
}

impl GuestRam {
    /// `len` bytes of zeroed RAM.
    ///
    /// # Errors
    /// [`RamError`] if `len` is not a multiple of 4096 in 1..=[`MAX_RAM`] or the host has not so much.
    pub fn new(len: u64) -> Result<Self, RamError> {
        if len == 0 || len > MAX_RAM || !len.is_multiple_of(PAGE_SIZE) {
            return Err(RamError::Size(len));
        }
        let size = usize::try_from(len).map_err(|_| RamError::Memory(len))?;
        let bytes = Zeroed::new(size).ok_or(RamError::Memory(len))?;
        let pages = (len >> PAGE_SHIFT) as usize;
        let (dirty_code, aliases) = (RefCell::default(), RefCell::default());
        let all = Inner { bytes, flags: alloc::vec![Cell::new(0); pages], dirty_code, aliases };
        Ok(Self { all: Rc::new(all), len })
    }

    /// The same RAM for a guest that is to have the first `len` bytes of it. Through the new handle nothing is behind them
    /// but aliases, and for whoever looks at flags it is the same.
    #[must_use]
    pub fn first(&self, len: u64) -> Self {
        let len = len.min(self.len) & !(PAGE_SIZE - 1);
        (len >> PAGE_SHIFT..self.pages()).for_each(|page| self.change_flags(page, page::DEVICE, 0));
        Self { all: self.all.clone(), len }
    }

    /// Bytes of RAM.
    #[inline(always)]
    pub fn len(&self) -> u64 {
        self.len
    }
    /// RAM is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }
    /// The flags ([`page`]) of the page with this number; [`page::DEVICE`] beyond the end.
    #[inline(always)]
    pub fn flags(&self, page: u64) -> u8 {
        match self.all.flags.get(page as usize) {
            Some(flags) => flags.get(),
            None => self.beyond(page),
        }
    }
    #[cold]
    fn beyond(&self, page: u64) -> u8 {
        if self.alias(page).is_some() { 0 } else { page::DEVICE }
    }
    /// From now on a page beyond the end of RAM is the same as `to` within all of it; `None`: nothing. Callers flush the
    /// TLBs. No code is decoded from such a page, so nothing has to be told of writes there.
    pub fn set_alias(&self, page: u64, to: Option<u64>) {
        if self.flags(page) & page::DEVICE == 0 && self.alias(page).is_none() {
            return;
        }
        let mut aliases = self.all.aliases.borrow_mut();
        aliases.retain(|a| a.0 != page);
        let to = to.filter(|to| *to < self.pages());
        aliases.extend(to.map(|to| (page, to)));
        // Where all of RAM is longer than what the guest has of it.
        if to.is_some() {
            self.change_flags(page, 0, page::DEVICE);
        } else {
            self.change_flags(page, page::DEVICE, 0);
        }
    }
    /// Takes all of them back.
    pub fn clear_aliases(&self) {
        for (page, _) in self.all.aliases.take() {
            self.change_flags(page, page::DEVICE, 0);
        }
    }
    /// There are a few of them.
    fn alias(&self, page: u64) -> Option<u64> {
        self.all.aliases.borrow().iter().find(|a| a.0 == page).map(|a| a.1)
    }
    /// Pages of all RAM.
    fn pages(&self) -> u64 {
        self.all.flags.len() as u64
    }
    /// Where in all RAM the byte at `at` is.
    fn resolve(&self, at: u64) -> Option<u64> {
        if at < self.len() {
            return Some(at);
        }
        let to = self.alias(at >> PAGE_SHIFT)?;
        Some(to << PAGE_SHIFT | at & (PAGE_SIZE - 1))
    }
    /// Sets and clears flags of a page. Callers that take away access flush the TLBs.
    pub fn change_flags(&self, page: u64, set: u8, clear: u8) {
        if let Some(f) = self.all.flags.get(page as usize) {
            f.set(f.get() & !clear | set);
        }
    }
    /// Is `[at, at + n)` inside RAM?
    #[inline(always)]
    pub fn contains(&self, at: u64, n: u64) -> bool {
        n <= self.len() && at <= self.len() - n
    }

    /// Fills `to` from RAM at `at`; bytes beyond the end of RAM read as ones.
    pub fn read(&self, at: u64, to: &mut [u8]) {
        if at >= self.len() {
            return self.by_page(at, to.len(), |at, part| match at {
                // SAFETY: where `resolve` leads there is a page.
                Some(at) => unsafe { self.all.read(at, &mut to[part]) },
                None => to[part].fill(0xff),
            });
        }
        let (there, beyond) = to.split_at_mut((self.len() - at).min(to.len() as u64) as usize);
        // SAFETY: that is up to the end of RAM.
        unsafe { self.all.read(at, there) }
        beyond.fill(0xff);
    }
    /// Copies `from` to RAM at `at` as a device does (DMA): code on the page is invalidated,
    /// ROM is writable. Bytes beyond the end of RAM are lost.
    pub fn write(&self, at: u64, from: &[u8]) {
        if at >= self.len() {
            return self.by_page(at, from.len(), |at, part| {
                if let Some(at) = at {
                    // SAFETY: where `resolve` leads there is a page.
                    unsafe { self.all.write(at, &from[part]) }
                }
            });
        }
        let n = (self.len() - at).min(from.len() as u64) as usize;
        // SAFETY: that is up to the end of RAM.
        unsafe { self.all.write(at, &from[..n]) }
    }
    /// Calls `each` for the parts of an access beyond the end that lie in one page, with where they really are.
    #[cold]
    fn by_page(&self, at: u64, n: usize, mut each: impl FnMut(Option<u64>, core::ops::Range<usize>)) {
        let mut done = 0;
        while done < n {
            let at = at.wrapping_add(done as u64);
            let len = ((PAGE_SIZE - at % PAGE_SIZE) as usize).min(n - done);
            each(if at < self.len() { None } else { self.resolve(at) }, done..done + len);
            done += len;
        }
    }
    /// A little-endian value of `N` bytes; ones beyond the end of RAM.
    pub fn read_le<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut b = [0; N];
        self.read(at, &mut b);
        b
    }
    /// Are `n` words of 64 bits the same at `a` and `b`, but for the bits in `but`? Only within RAM.
    pub fn same_words(&self, a: u64, b: u64, n: u64, but: u64) -> bool {
        let inside = |at| at % 8 == 0 && self.contains(at, 8 * n);
        let word = |at| self.host(at).map_or(0, |host| host.load(Size::B8));
        inside(a) && inside(b) && (0..n).all(|k| (word(a + 8 * k) ^ word(b + 8 * k)) & !but == 0)
    }
    /// The byte at `at`; ones beyond the end of RAM.
    pub fn byte(&self, at: u64) -> u8 {
        self.host(at).map_or(0xff, |host| host.load(Size::B1) as u8)
    }
    /// Writes a byte as [`GuestRam::write`] does.
    pub fn set_byte(&self, at: u64, v: u8) {
        match self.host(at) {
            Some(host) if self.flags(at >> PAGE_SHIFT) & page::CODE == 0 => host.store(Size::B1, v.into()),
            _ => self.write(at, &[v]),
        }
    }
    /// Takes the pages with code that devices wrote to since the last call.
    pub fn take_dirty_code(&self) -> Vec<u32> {
        core::mem::take(&mut *self.all.dirty_code.borrow_mut())
    }
    /// Did a device write to a page with code?
    #[inline(always)]
    pub fn has_dirty_code(&self) -> bool {
        !self.all.dirty_code.borrow().is_empty()
    }

    /// For the CPU: where the byte at guest-physical `at` lies, if it is RAM.
    #[inline(always)]
    pub(crate) fn host(&self, at: u64) -> Option<Host> {
        let at = if at < self.len() { at } else { self.resolve(at)? };
        Some(Host((self.all.bytes.base() as usize).wrapping_add(at as usize)))
    }
}

/// Bytes that are copied faster here than by a function of the host that is made for many.
const SHORT: usize = 192;

/// The address of a byte of guest RAM in this process.
///
/// Invariant: the page it lies in is RAM of a living [`GuestRam`], and an access through it does
/// not leave that page. [`GuestRam::host`] and TLB entries made from it are the only sources;
/// the TLB's hit test is the page check.
#[derive(Clone, Copy)]
pub(crate) struct Host(usize);

impl Host {
    /// From `linear + add` of a TLB entry that was hit.
    #[inline(always)]
    pub(crate) fn of_tlb(sum: u64) -> Self {
        Self(sum as usize)
    }
    /// The number a TLB entry is made from.
    pub(crate) fn value(self) -> u64 {
        self.0 as u64
    }
    /// Loads `size` bytes, zero-extended.
    #[inline(always)]
    pub(crate) fn load(self, size: Size) -> u64 {
        let p = self.0 as *const u8;
        // SAFETY: the invariant of `Host`; any bytes are a valid integer.
        unsafe {
            match size {
                Size::B1 => u64::from(p.read()),
                Size::B2 => u64::from(p.cast::<u16>().read_unaligned()),
                Size::B4 => u64::from(p.cast::<u32>().read_unaligned()),
                Size::B8 => p.cast::<u64>().read_unaligned(),
            }
        }
    }
    /// Copies `n` elements of `size` bytes from `src`, one after the other, lowest address first. On either side they lie
    /// within one page, or pages that lie side by side.
    pub(crate) fn copy_from(self, src: Self, size: Size, n: usize) {
        let bytes = n * size as usize;
        // An order would show where the destination lies a little above the source.
        let above = self.0.wrapping_sub(src.0);
        if above < bytes && above < SHORT || above < size as usize {
            for k in (0..bytes).step_by(size as usize) {
                Self(self.0 + k).store(size, Self(src.0 + k).load(size));
            }
        } else if above < bytes {
            // What has been copied is copied again: as many bytes at once as lie between.
            let step = above & !(size as usize - 1);
            let mut done = 0;
            while done < bytes {
                let n = step.min(bytes - done);
                // SAFETY: the invariant of `Host` for both pages; `copy` allows overlap.
                unsafe { core::ptr::copy((src.0 + done) as *const u8, (self.0 + done) as *mut u8, n) };
                done += n;
            }
        } else if bytes < SHORT {
            self.copy_short(src, bytes);
        } else {
            // SAFETY: the invariant of `Host` for both pages; `copy` allows overlap.
            unsafe { core::ptr::copy(src.0 as *const u8, self.0 as *mut u8, bytes) };
        }
    }
    /// Copies `n` bytes, lowest address first, where that order does not show.
    fn copy_short(self, src: Self, n: usize) {
        let mut at = 0;
        // A destination a little below its source reads what it has not written yet.
        while n - at >= 8 {
            Self(self.0 + at).store(Size::B8, Self(src.0 + at).load(Size::B8));
            at += 8;
        }
        while at < n {
            Self(self.0 + at).store(Size::B1, Self(src.0 + at).load(Size::B1));
            at += 1;
        }
    }
    /// Fills `n` elements of `size` bytes, all within one page, with `v`.
    pub(crate) fn fill(self, size: Size, v: u64, n: usize) {
        let v = size.zx(v);
        let same = v == (v & 0xff) * (size.mask() / 0xff);
        if same && n * size as usize >= SHORT {
            // SAFETY: the invariant of `Host`.
            unsafe { core::ptr::write_bytes(self.0 as *mut u8, v as u8, n * size as usize) };
            return;
        }
        // Of eight bytes each, as far as there are so many.
        let (bytes, all) = (n * size as usize, v.wrapping_mul(u64::MAX / size.mask()));
        let mut at = 0;
        while bytes - at >= 8 {
            Self(self.0 + at).store(Size::B8, all);
            at += 8;
        }
        while at < bytes {
            Self(self.0 + at).store(size, v);
            at += size as usize;
        }
    }
    /// Stores the low `size` bytes of `v`.
    #[inline(always)]
    pub(crate) fn store(self, size: Size, v: u64) {
        let p = self.0 as *mut u8;
        // SAFETY: the invariant of `Host`; RAM is only ever accessed by copies.
        unsafe {
            match size {
                Size::B1 => p.write(v as u8),
                Size::B2 => p.cast::<u16>().write_unaligned(v as u16),
                Size::B4 => p.cast::<u32>().write_unaligned(v as u32),
                Size::B8 => p.cast::<u64>().write_unaligned(v),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_beyond_the_end_are_ones_and_writes_there_are_lost() {
        let ram = GuestRam::new(4096).unwrap();
        ram.write(4094, &[1, 2, 3, 4]);
        assert_eq!(ram.read_le::<4>(4094), [1, 2, 0xff, 0xff]);
        assert_eq!(ram.read_le::<2>(u64::MAX), [0xff, 0xff]);
    }

    #[test]
    fn a_page_beyond_the_end_can_be_one_within() {
        let ram = GuestRam::new(8192).unwrap();
        assert_eq!(ram.flags(0xfeffc), page::DEVICE);
        ram.set_alias(0xfeffc, Some(1));
        ram.set_alias(0, Some(1));
        ram.write(0xfeff_cffe, &[1, 2, 3, 4]);
        assert_eq!((ram.read_le::<4>(8190), ram.read_le::<4>(0xfeff_cffe)), ([1, 2, 0xff, 0xff], [1, 2, 0xff, 0xff]));
        assert_eq!((ram.flags(0xfeffc), ram.read_le::<2>(0)), (0, [0, 0]));
        ram.set_alias(0xfeffc, None);
        assert_eq!(ram.read_le::<1>(0xfeff_cffe), [0xff]);
    }

    #[test]
    fn a_guest_sees_the_first_part_and_what_else_it_is_shown() {
        let all = GuestRam::new(4 * PAGE_SIZE).unwrap();
        let guest = all.first(2 * PAGE_SIZE);
        all.write(3 * PAGE_SIZE, b"abc");
        assert_eq!((guest.len(), guest.read_le::<3>(3 * PAGE_SIZE)), (2 * PAGE_SIZE, [0xff; 3]));
        assert_eq!((guest.flags(1), guest.flags(2), guest.flags(3)), (0, page::DEVICE, page::DEVICE));
        assert!(!guest.contains(2 * PAGE_SIZE, 1) && guest.host(2 * PAGE_SIZE).is_none());
        // One of the other pages, at the number of another one of them.
        all.set_alias(2, Some(3));
        assert_eq!((guest.flags(2), guest.read_le::<3>(2 * PAGE_SIZE)), (0, *b"abc"));
        guest.write(2 * PAGE_SIZE + 1, b"x");
        assert_eq!(guest.host(2 * PAGE_SIZE).unwrap().load(Size::B4), u32::from_le_bytes(*b"axc\0").into());
        assert_eq!((all.read_le::<3>(3 * PAGE_SIZE), all.read_le::<3>(2 * PAGE_SIZE)), (*b"axc", [0; 3]));
        all.set_alias(2, None);
        all.set_alias(3, Some(2));
        assert_eq!((guest.flags(2), guest.read_le::<3>(2 * PAGE_SIZE)), (page::DEVICE, [0xff; 3]));
        assert_eq!(guest.flags(3), 0);
        all.clear_aliases();
        assert_eq!((guest.flags(3), guest.host(3 * PAGE_SIZE).is_none()), (page::DEVICE, true));
    }

    #[test]
    fn a_device_write_to_a_code_page_is_reported() {
        let ram = GuestRam::new(8192).unwrap();
        ram.change_flags(1, page::CODE, 0);
        ram.write(4000, &[0; 200]);
        assert!(ram.has_dirty_code());
        assert_eq!(ram.take_dirty_code(), [1]);
    }

    #[test]
    fn elements_are_copied_and_filled_one_after_the_other() {
        let bytes = |ram: &GuestRam| {
            let mut all = alloc::vec![0; 4096];
            ram.read(0, &mut all);
            all
        };
        for size in [Size::B1, Size::B2, Size::B4, Size::B8] {
            for (from, to) in
                [-4000i64, -300, -9, -8, -3, -1, 0, 1, 2, 3, 4, 5, 8, 9, 31, 191, 192, 193, 200, 600, 2000]
                    .map(|d| (if d < 0 { -d as u64 } else { 0 }, if d < 0 { 0 } else { d as u64 }))
            {
                for n in [1, 2, 5, 16, 23, 24, 100, 250, 1000] {
                    let ram = GuestRam::new(8192).unwrap();
                    let first: Vec<u8> = (0..4096u32).map(|k| (k.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
                    let n = n.min((4096 - from.max(to)) / size.bytes());
                    ram.write(0, &first);
                    for k in 0..n {
                        let v = ram.host(from + k * size.bytes()).unwrap().load(size);
                        ram.host(to + k * size.bytes()).unwrap().store(size, v);
                    }
                    let want = bytes(&ram);
                    ram.write(0, &first);
                    ram.host(to).unwrap().copy_from(ram.host(from).unwrap(), size, n as usize);
                    assert!(want == bytes(&ram), "{n} of {size:?} from {from} to {to}");
                    for v in [0, 0x7f7f_7f7f_7f7f_7f7f, 0x0123_4567_89ab_cdef] {
                        (0..n).for_each(|k| ram.host(to + k * size.bytes()).unwrap().store(size, v));
                        let want = bytes(&ram);
                        ram.write(to, &first[..(n * size.bytes()) as usize]);
                        ram.host(to).unwrap().fill(size, v, n as usize);
                        assert!(want == bytes(&ram), "{n} of {size:?} at {to}: {v:x}");
                    }
                }
            }
        }
    }

    #[test]
    fn odd_sizes_are_refused() {
        assert_eq!(GuestRam::new(5000).err(), Some(RamError::Size(5000)));
        assert_eq!(GuestRam::new(0).err(), Some(RamError::Size(0)));
    }
}
