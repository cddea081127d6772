//! SSE instructions with unmasked exceptions: #XM arrives as SIGFPE and is recorded.
//! Linux on x86-64 only.

use std::arch::asm;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// MXCSR at the last fault, or [`NONE`].
static FAULT: AtomicU32 = AtomicU32::new(NONE);
const NONE: u32 = u32::MAX;
const DEFAULT: u32 = 0x1f80;

/// glibc's layout of `struct sigaction`.
#[repr(C)]
struct SigAction {
    handler: extern "C" fn(i32, *mut u8, *mut u64),
    mask: [u64; 16],
    flags: i32,
    restorer: usize,
}

unsafe extern "C" {
    fn sigaction(signal: i32, new: *const SigAction, old: *mut SigAction) -> i32;
}

const SIGFPE: i32 = 8;
const SA_SIGINFO: i32 = 4;
// struct ucontext: flags, link, stack (3 words), then gregs[23] and the FXSAVE pointer.
const GREGS: usize = 5;
const R15: usize = GREGS + 7;
const RIP: usize = GREGS + 16;
const FPREGS: usize = GREGS + 23;

extern "C" fn on_fault(_signal: i32, _info: *mut u8, context: *mut u64) {
    // SAFETY: the kernel passes a ucontext; the instruction under test keeps its resume address
    // in R15, and the frame's FXSAVE image has MXCSR at byte 24.
    unsafe {
        let mxcsr = (*context.add(FPREGS) as *mut u32).add(6);
        FAULT.store(*mxcsr, Ordering::Relaxed);
        *mxcsr = DEFAULT;
        *context.add(RIP) = *context.add(R15);
    }
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let action = SigAction { handler: on_fault, mask: [0; 16], flags: SA_SIGINFO, restorer: 0 };
        // SAFETY: a valid action; the handler touches only the frame and an atomic.
        let r = unsafe { sigaction(SIGFPE, &action, std::ptr::null_mut()) };
        assert_eq!(r, 0);
    });
}

/// What one instruction did: its destination, MXCSR, and whether it faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub value: [u64; 2],
    pub flags: u8,
    pub fault: bool,
}

/// An instruction from XMM1 to XMM0.
pub type Packed = fn(u32, [u64; 2], [u64; 2]) -> Outcome;

macro_rules! packed {
    ($($ins:literal)*) => {
        /// The instructions with their text.
        pub const PACKED: &[(&str, Packed)] = &[$(($ins, |mxcsr, a, b| {
            install();
            FAULT.store(NONE, Ordering::Relaxed);
            let mut control = mxcsr;
            let mut value = a;
            // SAFETY: only the named registers and locals change; a fault resumes at the label.
            unsafe {
                asm!("movdqu xmm0, [{a}]", "movdqu xmm1, [{b}]", "lea r15, [rip + 3f]", "ldmxcsr [{m}]",
                    concat!($ins, " xmm0, xmm1"), "3:", "stmxcsr [{m}]", "ldmxcsr [{d}]", "movdqu [{a}], xmm0",
                    a = in(reg) value.as_mut_ptr(), b = in(reg) b.as_ptr(), m = in(reg) &mut control,
                    d = in(reg) &DEFAULT, out("r15") _, out("xmm0") _, out("xmm1") _);
            }
            let fault = FAULT.load(Ordering::Relaxed);
            let after = if fault == NONE { control } else { fault };
            Outcome { value, flags: after as u8 & 0x3f, fault: fault != NONE }
        })),*];
    };
}
packed! {
    "addps" "subps" "mulps" "divps" "sqrtps" "minps" "maxps" "cmpltps" "cmpeqps"
    "addpd" "subpd" "mulpd" "divpd" "sqrtpd" "minpd" "maxpd" "cmplepd" "cmpunordpd"
    "cvtps2dq" "cvttps2dq" "cvtdq2ps" "cvtpd2ps" "cvtps2pd"
}
