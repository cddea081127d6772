//! The host CPU as a `Subject`: owns the sandbox process, hands it batches, replaces it when a test kills it.

// UNSAFETY: maps memory, forks, and shares a region with the child; see `sandbox`.

use super::sandbox::{BATCH, Child, REGION, Shared, enter};
use super::state::*;
use super::values;
use anyhow::{Result, bail, ensure};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// CPU time without progress after which the child counts as hung.
const HANG: Duration = Duration::from_millis(400);

/// Runs tests natively in a sandboxed child process.
pub struct Host {
    shared: *mut Shared,
    region: *mut u8,
    fills: Vec<u8>,
    ro: Vec<u8>,
    expect: Vec<u8>,
    code_fd: i32,
    code: *mut u8,
    pid: libc::pid_t,
    batch: u32,
    /// Tests that hung or killed the child since this host was made.
    pub killed: u64,
}

// SAFETY: the pointers are to mappings this value owns alone; the child never outlives it.
unsafe impl Send for Host {}

/// Who made this machine's CPU.
pub fn vendor() -> Vendor {
    let id = std::arch::x86_64::__cpuid(0);
    // "Auth" and "Hygo"
    if matches!(id.ebx, 0x6874_7541 | 0x6f67_7948) { Vendor::Amd } else { Vendor::Intel }
}

/// CPUID leaf 1 EAX, ECX and EDX and leaf 7 EBX: the signature recorded corpora carry.
pub fn cpuid() -> [u32; 4] {
    let one = std::arch::x86_64::__cpuid(1);
    let seven = std::arch::x86_64::__cpuid_count(7, 0);
    [one.eax, one.ecx, one.edx, seven.ebx]
}

fn map(at: u64, size: usize, prot: i32, flags: i32, fd: i32) -> Result<*mut u8> {
    // SAFETY: fixed mappings are made with FIXED_NOREPLACE only, so nothing existing is replaced.
    let p = unsafe { libc::mmap(at as *mut libc::c_void, size, prot, flags, fd, 0) };
    ensure!(p != libc::MAP_FAILED, "cannot map {size:#x} bytes at {at:#x}: {}", std::io::Error::last_os_error());
    Ok(p.cast())
}

impl Host {
    /// Starts a sandbox. Fails where the machine lacks what it needs, saying what.
    pub fn new() -> Result<Host> {
        // SAFETY: asks the kernel for an integer. Bit 1 of AT_HWCAP2: FSGSBASE instructions are enabled.
        let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        ensure!(hwcap2 & 2 != 0, "this kernel or CPU has no user FSGSBASE");
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let anon = libc::MAP_ANONYMOUS;
        let shared = map(0, size_of::<Shared>(), rw, libc::MAP_SHARED | anon, -1)?.cast::<Shared>();
        let region = map(0, 2 * REGION, rw, libc::MAP_PRIVATE | anon, -1)?;
        // SAFETY: a new file with no name, sized and mapped at once.
        let code_fd = unsafe { libc::memfd_create(c"oracle-code".as_ptr(), libc::MFD_CLOEXEC) };
        ensure!(code_fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
        // SAFETY: as above.
        ensure!(unsafe { libc::ftruncate(code_fd, CODE_SIZE as i64) } == 0, "ftruncate failed");
        let code = map(0, CODE_SIZE as usize, rw, libc::MAP_SHARED, code_fd)?;
        let mut host = Host {
            shared,
            region,
            fills: (0..FILLS).flat_map(values::data_fill).collect(),
            ro: values::ro_fill(),
            expect: vec![0; DATA_SIZE as usize],
            code_fd,
            code,
            pid: 0,
            batch: 0,
            killed: 0,
        };
        host.spawn()?;
        Ok(host)
    }

    fn shared(&self) -> &Shared {
        // SAFETY: mapped for the life of `self`, all-zero bytes are a valid `Shared`, and the child writes only
        // atomics and results, the latter never while we read them.
        unsafe { &*self.shared }
    }

    fn spawn(&mut self) -> Result<()> {
        // SAFETY: the code page is ours; no test runs now.
        unsafe { std::ptr::write_bytes(self.code, FILLER, CODE_SIZE as usize) };
        let aligned = (self.region as usize).next_multiple_of(REGION) as *mut Child;
        // SAFETY: `aligned` is inside our 2 * REGION bytes with REGION bytes to go.
        unsafe {
            (*aligned).shared = self.shared;
            (*aligned).code = self.code;
            (*aligned).fills = self.fills.as_ptr();
            (*aligned).expect = self.expect.as_mut_ptr();
        }
        // SAFETY: the child calls only functions that are safe after fork: mmap and what `enter` needs.
        match unsafe { libc::fork() } {
            -1 => bail!("fork: {}", std::io::Error::last_os_error()),
            0 => {
                let what = match self.map_windows() {
                    // SAFETY: we are the fresh child, everything is mapped.
                    Ok(()) => unsafe { enter(aligned) },
                    Err(what) => what,
                };
                // SAFETY: reports and leaves; never returns into the parent's code.
                unsafe {
                    libc::write(2, what.as_ptr().cast(), what.len());
                    libc::_exit(1)
                }
            }
            pid => {
                self.pid = pid;
                Ok(())
            }
        }
    }

    /// Maps code and data windows (in the child).
    fn map_windows(&self) -> Result<(), &'static str> {
        let fixed = libc::MAP_FIXED_NOREPLACE;
        let anon = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed;
        let at = |at: u64, size: u64, prot, flags, fd| {
            // SAFETY: as in `map`.
            let p = unsafe { libc::mmap(at as *mut libc::c_void, size as usize, prot, flags, fd, 0) };
            if p as u64 == at { Ok(p.cast::<u8>()) } else { Err("cannot map the windows\n") }
        };
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        at(CODE_BASE, CODE_SIZE, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED | fixed, self.code_fd)?;
        at(DATA_BASE, DATA_SIZE, rw, anon, -1)?;
        let ro = at(RO_BASE, RO_SIZE, rw, anon, -1)?;
        // SAFETY: just mapped; `ro` holds RO_SIZE bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(self.ro.as_ptr(), ro, RO_SIZE as usize);
            libc::mprotect(ro.cast(), RO_SIZE as usize, libc::PROT_READ);
        }
        Ok(())
    }

    /// Runs up to `BATCH` tests.
    fn run_batch(&mut self, tests: &[Test], outs: &mut [Out]) -> Result<()> {
        // SAFETY: the child sleeps; nobody else has the region.
        unsafe { (&mut (*self.shared).tests)[..tests.len()].copy_from_slice(tests) };
        let mut first = 0;
        while first < tests.len() {
            self.batch = self.batch.wrapping_add(1);
            let s = self.shared();
            s.first.store(first as u32, Ordering::Relaxed);
            s.count.store(tests.len() as u32, Ordering::Relaxed);
            s.current.store(first as u32, Ordering::Relaxed);
            s.submitted.store(self.batch, Ordering::Release);
            futex(&s.submitted, libc::FUTEX_WAKE, 1, None);
            if self.wait()? {
                break;
            }
            let culprit = self.shared().current.load(Ordering::Acquire) as usize;
            ensure!(culprit < tests.len(), "the sandbox died before it ran a test");
            self.killed += 1;
            // SAFETY: the child is dead.
            unsafe { (&mut (*self.shared).outs)[culprit] = Out::unchanged(&tests[culprit]) };
            first = culprit + 1;
            self.shared().finished.store(self.batch, Ordering::Release);
            self.spawn()?;
        }
        // SAFETY: the child sleeps or is new.
        outs.copy_from_slice(unsafe { &(&(*self.shared).outs)[..tests.len()] });
        Ok(())
    }

    /// Waits for the batch. False: the child died or hung and is gone.
    fn wait(&mut self) -> Result<bool> {
        let mut last = (u32::MAX, Duration::ZERO, Instant::now());
        loop {
            let s = self.shared();
            let done = s.finished.load(Ordering::Acquire);
            if done == self.batch {
                return Ok(true);
            }
            futex(&s.finished, libc::FUTEX_WAIT, done, Some(Duration::from_millis(20)));
            if s.finished.load(Ordering::Acquire) == self.batch {
                return Ok(true);
            }
            let mut status = 0;
            // SAFETY: our own child.
            if unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } == self.pid {
                self.pid = 0;
                ensure!(!libc::WIFEXITED(status), "the sandbox could not start");
                return Ok(false);
            }
            let current = s.current.load(Ordering::Acquire);
            let used = self.cpu_time();
            if current != last.0 {
                last = (current, used, Instant::now());
            } else if used.saturating_sub(last.1) > HANG || last.2.elapsed() > 25 * HANG {
                self.kill();
                return Ok(false);
            }
        }
    }

    /// CPU time the child has used.
    fn cpu_time(&self) -> Duration {
        let (mut clock, mut ts) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
        // SAFETY: both calls only write their out parameters.
        unsafe {
            if libc::clock_getcpuclockid(self.pid, &mut clock) == 0 {
                libc::clock_gettime(clock, &mut ts);
            }
        }
        Duration::new(ts.tv_sec as u64, ts.tv_nsec as u32)
    }

    fn kill(&mut self) {
        if self.pid != 0 {
            // SAFETY: our own child, not reaped yet.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
            self.pid = 0;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        // SAFETY: mapped in `new`, and the child that shared them is gone.
        unsafe {
            libc::munmap(self.shared.cast(), size_of::<Shared>());
            libc::munmap(self.region.cast(), 2 * REGION);
            libc::munmap(self.code.cast(), CODE_SIZE as usize);
            libc::close(self.code_fd);
        }
    }
}

impl Subject for Host {
    fn run(&mut self, t: &Test, out: &mut Out) {
        self.run_all(std::slice::from_ref(t), std::slice::from_mut(out));
    }

    fn run_all(&mut self, tests: &[Test], outs: &mut [Out]) {
        for (t, o) in tests.chunks(BATCH).zip(outs.chunks_mut(BATCH)) {
            self.run_batch(t, o).expect("the host can run the sandbox");
        }
    }
}

fn futex(word: &std::sync::atomic::AtomicU32, op: i32, value: u32, timeout: Option<Duration>) {
    let ts = timeout.map(|t| libc::timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
    let ts = ts.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: a futex call on a live word with a live or null timeout.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, value, ts) };
}
