//! The process inside which test code runs natively, and the loop that feeds it.
//!
//! `rt_sigreturn` loads a complete user CPU state from a signal frame, and a signal stores one. So one
//! handler for all exceptions, on its own stack, *is* the loop: it takes the frame as the result of one test,
//! writes the next test into the same frame and returns. Everything after `enter` runs without libc, thread
//! locals, locks or allocation, and every system call is made in the assembly between `orc_begin` and
//! `orc_end`, the only place the seccomp filter lets them come from.

// UNSAFETY: executes arbitrary code on the host CPU by design, in a forked child that can do no system call.
// Addresses are fixed because test code needs to know them.

use super::state::*;
use std::arch::{asm, global_asm};
use std::sync::atomic::{AtomicU32, Ordering};

/// Tests per batch.
pub const BATCH: usize = 256;

/// What parent and child share.
#[repr(C)]
pub struct Shared {
    /// Number of the newest batch; the child sleeps on it.
    pub submitted: AtomicU32,
    /// Number of the newest finished batch; the parent sleeps on it.
    pub finished: AtomicU32,
    /// First test of the batch to run.
    pub first: AtomicU32,
    /// One past the last test of the batch.
    pub count: AtomicU32,
    /// The test being run; tells the parent which one killed the child.
    pub current: AtomicU32,
    /// The batch.
    pub tests: [Test; BATCH],
    /// Its results.
    pub outs: [Out; BATCH],
}

/// The child's own state, at the start of the aligned region whose rest is the signal stack.
#[repr(C)]
pub struct Child {
    // Written by the assembly on the way in, in the order the assembly names them.
    seen_fs: u64,
    seen_gs: u64,
    seen_sel: [u16; 6],
    load_sel: [u16; 6],
    load_fs: u64,
    load_gs: u64,
    own_fs: u64,
    /// Shared with the parent.
    pub shared: *mut Shared,
    /// Writable alias of the code page.
    pub code: *mut u8,
    /// The backgrounds of the data window, one after the other.
    pub fills: *const u8,
    /// What the data window must look like after a test that wrote nothing.
    pub expect: *mut u8,
    /// Background the window has now.
    fill: u8,
    running: bool,
    index: u32,
    count: u32,
    batch: u32,
    /// Feature word for XSTATE_BV: 1 if the frame has an XSAVE header.
    xsave: bool,
}

/// Size and alignment of the region that starts with a `Child`.
pub const REGION: usize = 0x20000;

global_asm!(
    ".pushsection .text.orc, \"ax\", @progbits",
    ".balign 64",
    ".globl orc_begin",
    "orc_begin:",
    ".globl orc_handler",
    "orc_handler:",
    // sigreturn restores neither NT nor ID, and the kernel leaves AC as the test had it.
    "pushfq",
    "and qword ptr [rsp], -0x244001",
    "popfq",
    "mov rbx, rsp",
    "mov rbp, rsp",
    "and rbp, -{region}",
    "rdfsbase rax",
    "mov [rbp + {seen_fs}], rax",
    "rdgsbase rax",
    "mov [rbp + {seen_gs}], rax",
    "mov [rbp + {seen_sel}], es",
    "mov [rbp + {seen_sel} + 6], ds",
    "mov [rbp + {seen_sel} + 8], fs",
    "mov [rbp + {seen_sel} + 10], gs",
    "mov ecx, 0x2b",
    "mov ds, ecx",
    "mov es, ecx",
    "xor ecx, ecx",
    "mov fs, ecx",
    "mov gs, ecx",
    "mov rax, [rbp + {own_fs}]",
    "wrfsbase rax",
    "mov rcx, rbp",
    "sub rsp, 8",
    "call {step}",
    "mov es, [rbp + {load_sel}]",
    "mov ds, [rbp + {load_sel} + 6]",
    "mov fs, [rbp + {load_sel} + 8]",
    "mov gs, [rbp + {load_sel} + 10]",
    "mov rax, [rbp + {load_fs}]",
    "mov rcx, [rbp + {load_gs}]",
    "cmp word ptr [rbp + {load_sel} + 8], 0",
    "jne 1f",
    "wrfsbase rax",
    "1:",
    "cmp word ptr [rbp + {load_sel} + 10], 0",
    "jne 2f",
    "wrgsbase rcx",
    "2:",
    "lea rsp, [rbx + 8]",
    "mov eax, 15",
    "syscall",
    "ud2",
    // orc_syscall(number, a, b, c, d)
    ".globl orc_syscall",
    "orc_syscall:",
    "mov rax, rdi",
    "mov rdi, rsi",
    "mov rsi, rdx",
    "mov rdx, rcx",
    "mov r10, r8",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "syscall",
    "ret",
    ".globl orc_end",
    "orc_end:",
    ".popsection",
    region = const REGION,
    seen_fs = const std::mem::offset_of!(Child, seen_fs),
    seen_gs = const std::mem::offset_of!(Child, seen_gs),
    seen_sel = const std::mem::offset_of!(Child, seen_sel),
    load_sel = const std::mem::offset_of!(Child, load_sel),
    load_fs = const std::mem::offset_of!(Child, load_fs),
    load_gs = const std::mem::offset_of!(Child, load_gs),
    own_fs = const std::mem::offset_of!(Child, own_fs),
    step = sym step,
);

unsafe extern "C" {
    fn orc_begin();
    fn orc_end();
    fn orc_handler();
    fn orc_syscall(number: u64, a: u64, b: u64, c: u64, d: u64) -> i64;
}

/// Sets up the calling (just forked) process and runs batches for ever. Returns only to say which step failed.
///
/// # Safety
/// The caller is a freshly forked child; `child` points to a `REGION`-aligned region of that size with all
/// pointers set; the code page is mapped at `CODE_BASE` and the data windows at `DATA_BASE`.
pub unsafe fn enter(child: *mut Child) -> &'static str {
    // SAFETY: plain system calls on memory the caller vouches for.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        for (entry, base, limit, flags) in [
            // seg_32bit, contents (2 bits), read_exec_only, limit_in_pages, not_present, useable
            (12u32, DATA_BASE as u32, 0x17ffu32, 0x41u32),
            (13, DATA_BASE as u32, 0x07ff, 0x41 | 1 << 1),
            (14, DATA_BASE as u32 + 0x1000, 0x0fff, 0x41 | 1 << 3),
        ] {
            // 64-bit kernels offer this through the 32-bit gate only, with a pointer below 4 GiB.
            (DATA_BASE as *mut [u32; 4]).write([entry, base, limit, flags]);
            let result: u64;
            asm!(
                "xchg rbx, {p}", "int 0x80", "xchg rbx, {p}",
                p = inout(reg) DATA_BASE => _,
                inout("rax") 243u64 => result,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
            if result as u32 != 0 {
                return "set_thread_area\n";
            }
        }
        for (entry, base, limit, flags) in [
            // seg_32bit clear, contents 2 (code) or 0 (data), useable
            (0u32, CODE_BASE as u32, 0xffffu32, 2 << 1 | 0x40u32),
            (1, DATA_BASE as u32, 0x1fff, 0x40),
        ] {
            let user_desc = [entry, base, limit, flags];
            // Function 11h: write an entry.
            if libc::syscall(libc::SYS_modify_ldt, 0x11, user_desc.as_ptr(), size_of_val(&user_desc)) != 0 {
                return "modify_ldt";
            }
        }
        let stack =
            libc::stack_t { ss_sp: child.cast::<u8>().add(0x1000).cast(), ss_flags: 0, ss_size: REGION - 0x1000 };
        if libc::sigaltstack(&stack, std::ptr::null_mut()) != 0 {
            return "sigaltstack";
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = orc_handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigfillset(&mut action.sa_mask);
        for s in [libc::SIGTRAP, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS, libc::SIGSYS] {
            if libc::sigaction(s, &action, std::ptr::null_mut()) != 0 {
                return "sigaction";
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        let fs: u64;
        asm!("rdfsbase {}", out(reg) fs);
        (*child).own_fs = fs;
        (*child).running = false;
        (*child).fill = u8::MAX;
        (*child).batch = (*(*child).shared).finished.load(Ordering::Acquire);
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return "no_new_privs";
        }
        if let Err(what) = filter_syscalls() {
            return what;
        }
        asm!("int3");
    }
    "the first trap was not caught"
}

/// Lets system calls through only if they come from our assembly; anything else becomes SIGSYS.
unsafe fn filter_syscalls() -> Result<(), &'static str> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RET: u16 = 0x06;
    const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
    let (begin, end) = (orc_begin as *const () as usize as u64, orc_end as *const () as usize as u64);
    if begin >> 32 != end >> 32 {
        return Err("the system call stub crosses a 4 GiB boundary");
    }
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        op(LOAD, 0, 0, 4), // arch
        op(EQ, 0, 6, AUDIT_ARCH_X86_64),
        op(LOAD, 0, 0, 12), // instruction pointer, high half
        op(EQ, 0, 4, (begin >> 32) as u32),
        op(LOAD, 0, 0, 8),
        op(GE, 0, 2, begin as u32),
        op(GE, 1, 0, end as u32 + 1),
        op(RET, 0, 0, 0x7fff_0000), // SECCOMP_RET_ALLOW
        op(RET, 0, 0, 0x0003_0000), // SECCOMP_RET_TRAP
    ];
    let prog = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &prog) } {
        0 => Ok(()),
        _ => Err("seccomp"),
    }
}

/// The handler: `context` holds the result of the running test and receives the next one.
unsafe extern "C" fn step(
    signal: i32,
    info: *const libc::siginfo_t,
    context: *mut libc::ucontext_t,
    child: *mut Child,
) {
    // SAFETY: `enter` set `child` up; the kernel made the frame; nobody else touches either.
    unsafe {
        let child = &mut *child;
        let shared = child.shared;
        if child.running {
            let i = child.index as usize;
            store(child, signal, info, &*context, &(*shared).tests[i], &mut (*shared).outs[i]);
            child.index += 1;
        }
        if !child.running || child.index >= child.count {
            if child.running {
                (*shared).finished.store(child.batch, Ordering::Release);
                futex(&(*shared).finished, libc::FUTEX_WAKE, 1);
            }
            while (*shared).submitted.load(Ordering::Acquire) == child.batch {
                futex(&(*shared).submitted, libc::FUTEX_WAIT, child.batch);
            }
            child.running = true;
            child.batch = (*shared).submitted.load(Ordering::Acquire);
            child.index = (*shared).first.load(Ordering::Relaxed);
            child.count = (*shared).count.load(Ordering::Relaxed);
        }
        (*shared).current.store(child.index, Ordering::Release);
        load(child, &mut *context, &(*shared).tests[child.index as usize]);
    }
}

unsafe fn futex(word: &AtomicU32, op: i32, value: u32) {
    // SAFETY: a futex call on a live word.
    unsafe { orc_syscall(libc::SYS_futex as u64, word.as_ptr() as u64, op as u64, u64::from(value), 0) };
}

/// Order of `Test::gpr` in the frame's `gregs`.
const ORDER: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Magic number in the software-reserved bytes of a frame with an XSAVE header (FP_XSTATE_MAGIC1).
const XSTATE_MAGIC: u32 = 0x4650_5853;

unsafe fn load(child: &mut Child, context: &mut libc::ucontext_t, t: &Test) {
    let g = &mut context.uc_mcontext.gregs;
    for (at, v) in ORDER.iter().zip(t.gpr) {
        g[*at as usize] = v as i64;
    }
    g[libc::REG_EFL as usize] = t.rflags as i64;
    g[libc::REG_RIP as usize] = t.rip() as i64;
    g[libc::REG_CSGSFS as usize] = i64::from(t.sel[CS]) | i64::from(t.sel[SS]) << 48;
    child.load_sel = t.sel;
    child.load_fs = t.fs_base;
    child.load_gs = t.gs_base;
    // SAFETY: the frame has a floating-point image; code alias and windows are mapped; sizes fit.
    unsafe {
        let fx = context.uc_mcontext.fpregs.cast::<u8>();
        std::ptr::copy_nonoverlapping(t.fx.0.as_ptr(), fx, 416);
        let magic = fx.add(464).cast::<u32>().read();
        child.xsave = magic == XSTATE_MAGIC;
        if child.xsave {
            fx.add(512).cast::<u64>().write(3); // XSTATE_BV: x87 and SSE from here, the rest initial
        }
        let code = t.bytes_in_page();
        std::ptr::copy_nonoverlapping(code.as_ptr(), child.code.add(t.entry as usize), code.len());
        let window = std::slice::from_raw_parts_mut(DATA_BASE as *mut u8, DATA_SIZE as usize);
        let expect = std::slice::from_raw_parts_mut(child.expect, DATA_SIZE as usize);
        if child.fill != t.fill {
            let fill = child.fills.add(t.fill as usize * DATA_SIZE as usize);
            let fill = std::slice::from_raw_parts(fill, DATA_SIZE as usize);
            window.copy_from_slice(fill);
            expect.copy_from_slice(fill);
            child.fill = t.fill;
        }
        t.apply_patches(window);
        t.apply_patches(expect);
    }
}

unsafe fn store(
    child: &mut Child,
    signal: i32,
    info: *const libc::siginfo_t,
    context: &libc::ucontext_t,
    t: &Test,
    out: &mut Out,
) {
    let g = &context.uc_mcontext.gregs;
    for (at, v) in ORDER.iter().zip(&mut out.gpr) {
        *v = g[*at as usize] as u64;
    }
    out.rflags = g[libc::REG_EFL as usize] as u64;
    out.rip = g[libc::REG_RIP as usize] as u64;
    out.fs_base = child.seen_fs;
    out.gs_base = child.seen_gs;
    out.sel = child.seen_sel;
    let csgsfs = g[libc::REG_CSGSFS as usize] as u64;
    out.sel[CS] = csgsfs as u16;
    out.sel[SS] = (csgsfs >> 48) as u16;
    (out.err, out.cr2) = (0, 0);
    if signal == libc::SIGSYS {
        // SAFETY: SIGSYS carries the architecture after call address and number (siginfo_t, sigsys).
        let arch = unsafe { info.cast::<u8>().add(28).cast::<u32>().read() };
        out.vector = if arch == 0xc000_003e { VEC_SYSCALL } else { VEC_INT80 };
    } else {
        out.vector = g[libc::REG_TRAPNO as usize] as u16;
        if matches!(out.vector, 8 | 10..=14 | 17) {
            out.err = g[libc::REG_ERR as usize] as u32;
        }
        if out.vector == 14 {
            out.cr2 = g[libc::REG_CR2 as usize] as u64;
        }
    }
    // SAFETY: as in `load`.
    unsafe {
        let fx = context.uc_mcontext.fpregs.cast::<u8>();
        std::ptr::copy_nonoverlapping(fx, out.fx.0.as_mut_ptr(), 416);
        out.fx.0[416..].fill(0);
        out.fx.0[28..32].fill(0); // MXCSR_MASK
        let present = if child.xsave { fx.add(512).cast::<u64>().read() } else { 3 };
        if present & 1 == 0 {
            out.fx.0[..24].copy_from_slice(&Fx::INIT.0[..24]);
            out.fx.0[32..160].fill(0);
        }
        if present & 2 == 0 {
            out.fx.0[160..416].fill(0);
        }
        let code = t.bytes_in_page();
        std::ptr::write_bytes(child.code.add(t.entry as usize), FILLER, code.len());
        let window = std::slice::from_raw_parts_mut(DATA_BASE as *mut u8, DATA_SIZE as usize);
        let expect = std::slice::from_raw_parts_mut(child.expect, DATA_SIZE as usize);
        out.take_deltas(window, expect);
        let fill = child.fills.add(t.fill as usize * DATA_SIZE as usize);
        let fill = std::slice::from_raw_parts(fill, DATA_SIZE as usize);
        t.remove_patches(window, fill);
        t.remove_patches(expect, fill);
    }
}
