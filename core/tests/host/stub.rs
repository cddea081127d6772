//! Any single x87, FXSAVE or XSAVE instruction of the host between FXRSTOR and FXSAVE, made at
//! run time, with the signal it may end in.

use super::x87::Image;
use std::arch::asm;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};

/// Memory operand, at RSI.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Memory(pub [u8; 1024]);

/// As glibc lays it out for x86-64.
#[repr(C)]
struct SigAction {
    handler: usize,
    mask: [u64; 16],
    flags: i32,
    restorer: usize,
}

unsafe extern "C" {
    fn mmap(at: *mut u8, len: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
    #[allow(clashing_extern_declarations, reason = "the other one types its handler")]
    fn sigaction(signal: i32, new: *const SigAction, old: *mut SigAction) -> i32;
}

static BASE: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
static SIGNAL: AtomicI32 = AtomicI32::new(0);

const STUB: usize = 64;
/// fxrstor64 [rdi]; push rdx; popfq; mov rdx, r8
const HEAD: [u8; 9] = [0x48, 0x0f, 0xae, 0x0f, 0x52, 0x9d, 0x4c, 0x89, 0xc2];
/// pushfq; pop rdx; fxsave64 [rdi]; fninit; ret
const TAIL: [u8; 9] = [0x9c, 0x5a, 0x48, 0x0f, 0xae, 0x07, 0xdb, 0xe3, 0xc3];

/// Goes on behind the instruction that raised the signal.
extern "C" fn handler(signal: i32, _: *const u8, context: *mut u8) {
    // SAFETY: RIP is register 16 of the saved ones, which begin at byte 40 of the context.
    let rip = unsafe { &mut *context.add(40 + 16 * 8).cast::<usize>() };
    if !(BASE.load(Relaxed)..END.load(Relaxed)).contains(rip) {
        std::process::abort();
    }
    SIGNAL.store(signal, Relaxed);
    *rip = (*rip & !(STUB - 1)) + STUB / 2;
}

/// Instructions, ready to be called.
pub struct Stubs(usize);

impl Stubs {
    pub fn new(all: &[Vec<u8>]) -> Self {
        let len = (all.len() * STUB).next_multiple_of(4096);
        // SAFETY: a fresh anonymous private mapping, readable, writable and executable.
        let base = unsafe { mmap(std::ptr::null_mut(), len, 7, 0x22, -1, 0) };
        assert!(base as isize > 0, "no executable memory");
        for (n, bytes) in all.iter().enumerate() {
            let mut stub = [0x90u8; STUB];
            stub[..9].copy_from_slice(&HEAD);
            stub[9..9 + bytes.len()].copy_from_slice(bytes);
            stub[STUB / 2..STUB / 2 + 9].copy_from_slice(&TAIL);
            // SAFETY: inside the mapping.
            unsafe { std::ptr::copy_nonoverlapping(stub.as_ptr(), base.add(n * STUB), STUB) };
        }
        BASE.store(base as usize, Relaxed);
        END.store(base as usize + len, Relaxed);
        let action = SigAction { handler: handler as *const () as usize, mask: [0; 16], flags: 4, restorer: 0 };
        for signal in [4, 8, 11] {
            // SAFETY: the handler is as SA_SIGINFO wants it and only touches atomics and the context.
            assert_eq!(unsafe { sigaction(signal, &action, std::ptr::null_mut()) }, 0);
        }
        Stubs(base as usize)
    }

    /// The address of instruction `n`.
    pub fn address(&self, n: usize) -> u64 {
        (self.0 + n * STUB + HEAD.len()) as u64
    }

    /// Runs instruction `n` with RDX = 0; flags and RAX go in and come back. The signal, or 0.
    pub fn run(&self, n: usize, image: &mut Image, memory: &mut Memory, flags: &mut u64, rax: &mut u64) -> i32 {
        SIGNAL.store(0, Relaxed);
        // SAFETY: a stub reaches the image (aligned, 512 bytes) and at most 576 bytes of memory,
        // uses the stack as a call does, and everything else it changes is declared lost; MXCSR
        // is put back below.
        unsafe {
            asm!("call r9", "ldmxcsr [{m}]", m = in(reg) &0x1f80u32,
                in("r9") self.0 + n * STUB, in("rdi") image.0.as_mut_ptr(), in("rsi") memory.0.as_mut_ptr(),
                inout("rdx") *flags, in("r8") 0u64, inout("rax") *rax, clobber_abi("C"));
        }
        SIGNAL.load(Relaxed)
    }
}
