//! Large zeroed memory from the host, for guest RAM.
//!
//! An operating system gives pages that are zero and costs nothing until they are touched. So does a WebAssembly memory
//! when it grows, but an allocator on top of it does not know which of its bytes are new: it would clear, and so touch,
//! all of a machine's RAM before the guest starts (50 ms for 32 MiB). There the memory is grown here. It cannot shrink;
//! what is given back waits for the next machine.

use crate::mem::PAGE_SIZE;

/// Page-aligned memory that was zero when it was made.
pub(crate) struct Zeroed {
    base: *mut u8,
    len: usize,
}

impl Zeroed {
    /// `len` bytes, a positive multiple of the page size; `None` if the host has not so much.
    pub fn new(len: usize) -> Option<Self> {
        debug_assert!(len > 0 && len.is_multiple_of(PAGE_SIZE as usize));
        let base = host::take(len)?;
        Some(Self { base, len })
    }

    #[inline(always)]
    pub fn base(&self) -> *mut u8 {
        self.base
    }
}

impl Drop for Zeroed {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are those of `host::take`, and nobody else has them.
        unsafe { host::give_back(self.base, self.len) }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    use super::PAGE_SIZE;
    use alloc::alloc::{Layout, alloc_zeroed, dealloc};

    pub fn take(len: usize) -> Option<*mut u8> {
        let layout = Layout::from_size_align(len, PAGE_SIZE as usize).ok()?;
        // SAFETY: the layout has a non-zero size.
        let base = unsafe { alloc_zeroed(layout) };
        (!base.is_null()).then_some(base)
    }

    /// SAFETY: `base` came from `take(len)`.
    pub unsafe fn give_back(base: *mut u8, len: usize) {
        // SAFETY: `take` made this layout.
        unsafe { dealloc(base, Layout::from_size_align_unchecked(len, PAGE_SIZE as usize)) }
    }
}

#[cfg(target_arch = "wasm32")]
mod host {
    use core::arch::wasm32::memory_grow;
    use core::ptr::{null_mut, write_bytes};
    use core::sync::atomic::{AtomicPtr, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

    /// Bytes of a page of WebAssembly memory.
    const WASM_PAGE: usize = 1 << 16;

    /// The beginning of memory that was given back.
    struct Free {
        next: *mut Free,
        len: usize,
    }

    static FREE: AtomicPtr<Free> = AtomicPtr::new(null_mut());

    pub fn take(len: usize) -> Option<*mut u8> {
        let len = len.next_multiple_of(WASM_PAGE);
        if let Some(base) = reuse(len) {
            return Some(base);
        }
        let old = memory_grow(0, len / WASM_PAGE);
        (old != usize::MAX).then(|| (old * WASM_PAGE) as *mut u8)
    }

    /// The first memory of the list with `len` bytes or more, cleared.
    fn reuse(len: usize) -> Option<*mut u8> {
        let mut found = None;
        // The whole list is taken, so that nobody else walks it; what does not fit goes back.
        let mut at = FREE.swap(null_mut(), AcqRel);
        while !at.is_null() {
            // SAFETY: `give_back` wrote the list, and it is ours alone.
            let free = unsafe { at.read() };
            if found.is_none() && free.len >= len {
                // SAFETY: nobody has used these bytes since they were given back.
                unsafe { write_bytes(at.cast::<u8>(), 0, len) };
                found = Some(at.cast());
                if free.len > len {
                    // SAFETY: the rest lies behind what was taken; both are multiples of WASM_PAGE.
                    unsafe { push(at.cast::<u8>().add(len).cast(), free.len - len) };
                }
            } else {
                // SAFETY: it was on the list.
                unsafe { push(at, free.len) };
            }
            at = free.next;
        }
        found
    }

    /// SAFETY: `base` came from `take(len)`.
    pub unsafe fn give_back(base: *mut u8, len: usize) {
        // SAFETY: as the caller says; `take` rounded the length up.
        unsafe { push(base.cast(), len.next_multiple_of(WASM_PAGE)) }
    }

    /// SAFETY: the `len` bytes at `at` are a WASM_PAGE or more, so aligned, and belong to nobody.
    unsafe fn push(at: *mut Free, len: usize) {
        let mut next = FREE.load(Relaxed);
        loop {
            // SAFETY: as the caller says.
            unsafe { at.write(Free { next, len }) };
            match FREE.compare_exchange_weak(next, at, AcqRel, Acquire) {
                Ok(_) => return,
                Err(other) => next = other,
            }
        }
    }
}
