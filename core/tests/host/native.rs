//! One instruction on the host CPU, from a given state, with exceptions caught as signals.

use super::{State, WINDOW};
use std::arch::global_asm;
use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

global_asm!(
    ".pushsection .data",
    "sse_host_state: .quad 0",
    "sse_host_target: .quad 0",
    "sse_host_rdi: .quad 0",
    ".popsection",
    ".globl sse_host_run",
    "sse_host_run:", // rdi = state, rsi = code
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + sse_host_state], rdi",
    "mov [rip + sse_host_target], rsi",
    "fxrstor64 [rdi]",
    "push qword ptr [rdi + 640]",
    "popfq",
    "mov rax, [rdi + 512]",
    "mov rcx, [rdi + 520]",
    "mov rdx, [rdi + 528]",
    "mov rbx, [rdi + 536]",
    "mov rbp, [rdi + 552]",
    "mov rsi, [rdi + 560]",
    "mov r8, [rdi + 576]",
    "mov r9, [rdi + 584]",
    "mov r10, [rdi + 592]",
    "mov r11, [rdi + 600]",
    "mov r12, [rdi + 608]",
    "mov r13, [rdi + 616]",
    "mov r14, [rdi + 624]",
    "mov r15, [rdi + 632]",
    "mov rdi, [rdi + 568]",
    "jmp [rip + sse_host_target]",
    ".globl sse_host_back",
    "sse_host_back:",
    "mov [rip + sse_host_rdi], rdi",
    "mov rdi, [rip + sse_host_state]",
    "mov [rdi + 512], rax",
    "mov [rdi + 520], rcx",
    "mov [rdi + 528], rdx",
    "mov [rdi + 536], rbx",
    "mov [rdi + 552], rbp",
    "mov [rdi + 560], rsi",
    "mov rax, [rip + sse_host_rdi]",
    "mov [rdi + 568], rax",
    "mov [rdi + 576], r8",
    "mov [rdi + 584], r9",
    "mov [rdi + 592], r10",
    "mov [rdi + 600], r11",
    "mov [rdi + 608], r12",
    "mov [rdi + 616], r13",
    "mov [rdi + 624], r14",
    "mov [rdi + 632], r15",
    "pushfq",
    "pop qword ptr [rdi + 640]",
    "fxsave64 [rdi]",
    "cld",
    "fninit",
    "push 0x1f80",
    "ldmxcsr [rsp]",
    "pop rax",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
);

#[repr(C)]
struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

#[allow(clashing_extern_declarations, reason = "each file has its own view of the same C types")]
unsafe extern "C" {
    fn sse_host_run(state: *mut State, code: *const u8);
    fn sse_host_back();
    fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, off: c_long) -> *mut c_void;
    fn mprotect(at: *mut c_void, len: usize, prot: c_int) -> c_int;
    fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int;
}

static VECTOR: AtomicU64 = AtomicU64::new(0xff);
static CODE: AtomicU64 = AtomicU64::new(0);

/// Leaves the instruction for `sse_host_back` with all registers as they were.
extern "C" fn on_signal(_: c_int, _: *mut c_void, context: *mut u64) {
    // SAFETY: `context` is a ucontext_t of Linux on x86-64: general registers from byte 40 in the
    // order of <sys/ucontext.h>, RIP the 16th, the exception number the 20th.
    unsafe {
        let rip = context.add(5 + 16);
        assert_eq!(rip.read(), CODE.load(Ordering::Relaxed), "a fault outside the tested instruction");
        VECTOR.store(context.add(5 + 20).read(), Ordering::Relaxed);
        rip.write(sse_host_back as *const () as u64);
    }
}

/// A code page and a data window with nothing behind it.
pub struct Native {
    code: *mut u8,
    data: *mut u8,
}

impl Native {
    pub fn new() -> Self {
        // SAFETY: fresh anonymous private mappings; the handlers follow the signature of SA_SIGINFO.
        unsafe {
            let code = mmap(std::ptr::null_mut(), 4096, 7, 0x22, -1, 0);
            let data = mmap(std::ptr::null_mut(), WINDOW + 4096, 3, 0x22, -1, 0);
            assert!(code as isize != -1 && data as isize != -1);
            assert_eq!(mprotect(data.byte_add(WINDOW), 4096, 0), 0);
            for signal in [4, 7, 8, 11] {
                let handler = on_signal as *const () as usize;
                let action = Action { handler, mask: [0; 16], flags: 4 | 0x4000_0000, restorer: 0 };
                assert_eq!(sigaction(signal, &action, std::ptr::null_mut()), 0);
            }
            CODE.store(code as u64, Ordering::Relaxed);
            Self { code: code.cast(), data: data.cast() }
        }
    }

    /// Runs the instruction; `pointer`: this register points to that offset of the window.
    pub fn run(
        &mut self,
        bytes: &[u8],
        before: &State,
        window: &[u8; WINDOW],
        pointer: Option<(usize, usize)>,
    ) -> (State, [u8; WINDOW]) {
        let mut s = before.clone();
        if let Some((r, at)) = pointer {
            s.gpr[r] = self.data as u64 + at as u64;
        }
        let mut after = [0; WINDOW];
        VECTOR.store(0xff, Ordering::Relaxed);
        // SAFETY: both pages are this value's own. The code is one instruction that touches registers
        // but RSP and memory near `pointer`, and a jump back; `sse_host_run` saves what is ours.
        unsafe {
            self.data.copy_from(window.as_ptr(), WINDOW);
            self.code.copy_from(bytes.as_ptr(), bytes.len());
            let jump = self.code.add(bytes.len());
            jump.copy_from([0xff, 0x25, 0, 0, 0, 0].as_ptr(), 6);
            jump.add(6).cast::<u64>().write_unaligned(sse_host_back as *const () as u64);
            sse_host_run(&mut s, self.code);
            self.data.copy_to(after.as_mut_ptr(), WINDOW);
        }
        s.vector = VECTOR.load(Ordering::Relaxed);
        (s, after)
    }
}
