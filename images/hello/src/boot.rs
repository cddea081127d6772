//! What the loader tells: Linux's zero page, or PVH's start info.

use core::ffi::CStr;

/// The most memory ranges we keep.
const MAX_RANGES: usize = 32;

/// A range of the memory map.
#[derive(Clone, Copy, Default)]
pub struct Range {
    /// The first byte.
    pub from: u64,
    /// Bytes.
    pub len: u64,
    /// The e820 type: 1 is RAM.
    pub kind: u32,
}

/// What the loader told.
pub struct BootInfo {
    /// How we were loaded.
    pub loader: &'static str,
    /// The command line.
    pub cmdline: &'static str,
    /// Physical address of the ACPI RSDP, or 0 if it must be searched for.
    pub rsdp: u64,
    ranges: [Range; MAX_RANGES],
    count: usize,
}

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
}

/// First byte of this kernel in memory, and the byte after its last.
pub fn image() -> (usize, usize) {
    (&raw const image_start as usize, &raw const image_end as usize)
}

/// Reads a value from physical memory, which is mapped to itself below 4 GiB.
///
/// # Safety
/// `at` is mapped and holds a `T`, or anything if `T` is a number.
pub unsafe fn peek<T: Copy>(at: u64) -> T {
    // SAFETY: the caller's promise.
    unsafe { (at as *const T).read_unaligned() }
}

/// # Safety
/// `at` is 0 or the address of a string that ends with a zero.
unsafe fn text(at: u64) -> &'static str {
    if at == 0 {
        return "";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(at as *const core::ffi::c_char) }.to_str().unwrap_or("(not UTF-8)")
}

impl BootInfo {
    /// Reads what `start.s` passes on.
    ///
    /// # Safety
    /// `info` is the address of a zero page (`kind` 0) or of a PVH start info (`kind` 1).
    pub unsafe fn read(kind: u64, info: u64) -> Self {
        let mut this =
            Self { loader: "the Linux boot protocol", cmdline: "", rsdp: 0, ranges: Default::default(), count: 0 };
        // SAFETY: the caller's promise; offsets from Linux's zero-page.rst and Xen's start_info.h.
        unsafe {
            if kind == 0 {
                this.cmdline = text(peek::<u32>(info + 0x228).into());
                this.rsdp = peek(info + 0x70);
                for i in 0..u64::from(peek::<u8>(info + 0x1e8)) {
                    let at = info + 0x2d0 + 20 * i;
                    this.add(Range { from: peek(at), len: peek(at + 8), kind: peek(at + 16) });
                }
            } else {
                this.loader = "PVH";
                this.cmdline = text(peek(info + 24));
                this.rsdp = peek(info + 32);
                if peek::<u32>(info + 4) >= 1 {
                    let map: u64 = peek(info + 40);
                    for i in 0..u64::from(peek::<u32>(info + 48)) {
                        let at = map + 24 * i;
                        this.add(Range { from: peek(at), len: peek(at + 8), kind: peek(at + 16) });
                    }
                }
            }
        }
        this
    }

    fn add(&mut self, r: Range) {
        if let Some(slot) = self.ranges.get_mut(self.count) {
            *slot = r;
            self.count += 1;
        }
    }

    /// The memory map.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges[..self.count]
    }

    /// Bytes of RAM.
    pub fn usable(&self) -> u64 {
        self.ranges().iter().filter(|r| r.kind == 1).map(|r| r.len).sum()
    }
}
