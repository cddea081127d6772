//! What comes out of a test, and who can run one.

use super::state::{Fx, Test};

/// 64-bit words of changed memory an `Out` lists; more are covered by its hash only.
pub const DELTAS: usize = 72;
/// The test ended in a system call gate (INT 80h).
pub const VEC_INT80: u16 = 0x80;
/// The test ended in SYSCALL or SYSENTER.
pub const VEC_SYSCALL: u16 = 0x100;
/// The runner could not finish the test (hang or crash of the runner).
pub const VEC_KILLED: u16 = 0x1ff;

/// What a test leaves behind when its first exception arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Out {
    /// General registers as in `Test`. In 32-bit mode only the low halves of the first eight count.
    pub gpr: [u64; 16],
    /// RFLAGS as pushed by the exception.
    pub rflags: u64,
    /// RIP as pushed by the exception.
    pub rip: u64,
    /// CR2 for #PF, else 0.
    pub cr2: u64,
    /// FS base.
    pub fs_base: u64,
    /// GS base.
    pub gs_base: u64,
    /// FNV-1a of all changed words (offset and value).
    pub delta_hash: u64,
    /// New values of the first changed 64-bit words of the writable window.
    pub delta_value: [u64; DELTAS],
    /// Their byte offsets from `DATA_BASE`.
    pub delta_at: [u16; DELTAS],
    /// Floating-point state.
    pub fx: Fx,
    /// Exception vector or one of the `VEC_` values.
    pub vector: u16,
    /// How many words changed; may be more than `DELTAS`.
    pub deltas: u16,
    /// Error code, 0 if the vector has none.
    pub err: u32,
    /// ES, CS, SS, DS, FS, GS.
    pub sel: [u16; 6],
}

impl Out {
    /// What a test that changes nothing leaves behind: its own input and no exception.
    pub fn unchanged(t: &Test) -> Out {
        Out {
            gpr: t.gpr,
            rflags: t.rflags,
            rip: t.rip(),
            cr2: 0,
            fs_base: t.fs_base,
            gs_base: t.gs_base,
            delta_hash: DELTA_SEED,
            delta_value: [0; DELTAS],
            delta_at: [0; DELTAS],
            fx: t.fx,
            vector: VEC_KILLED,
            deltas: 0,
            err: 0,
            sel: t.sel,
        }
    }

    /// The changed words that are listed, as (offset, value).
    pub fn deltas(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let n = (self.deltas as usize).min(DELTAS);
        self.delta_at[..n].iter().copied().zip(self.delta_value[..n].iter().copied())
    }

    /// Forgets the memory part.
    pub fn clear_deltas(&mut self) {
        self.deltas = 0;
        self.delta_hash = DELTA_SEED;
        self.delta_at = [0; DELTAS];
        self.delta_value = [0; DELTAS];
    }

    /// Adds one changed word.
    pub fn push_delta(&mut self, at: u16, value: u64) {
        if let (Some(a), Some(v)) =
            (self.delta_at.get_mut(self.deltas as usize), self.delta_value.get_mut(self.deltas as usize))
        {
            (*a, *v) = (at, value);
        }
        self.deltas = self.deltas.saturating_add(1);
        for x in [u64::from(at), value] {
            self.delta_hash = (self.delta_hash ^ x).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    /// Lists what differs between `window` and `expect` (same length, a multiple of 128) and makes them equal.
    pub fn take_deltas(&mut self, window: &mut [u8], expect: &[u8]) {
        self.clear_deltas();
        for (chunk, (w, e)) in window.chunks_exact_mut(128).zip(expect.chunks_exact(128)).enumerate() {
            if w == e {
                continue;
            }
            for (word, (w, e)) in w.chunks_exact_mut(8).zip(e.chunks_exact(8)).enumerate() {
                if w != e {
                    let v = u64::from_le_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]);
                    self.push_delta((chunk * 128 + word * 8) as u16, v);
                    w.copy_from_slice(e);
                }
            }
        }
    }

    /// Did the first instruction do what it is for: run on into the filler, or branch to where nothing is?
    pub fn completed(&self, t: &Test) -> bool {
        let own = |rip: u64| (t.rip()..t.rip() + u64::from(t.len)).contains(&rip);
        match self.vector {
            3 => !own(self.rip.wrapping_sub(1)),
            14 => self.err & 0x10 != 0 && self.rip.wrapping_add(t.mode.code_base()) == self.cr2 && !own(self.rip),
            _ => false,
        }
    }
}

/// Hash of no change (the FNV-1a offset basis).
pub const DELTA_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// Someone who can run tests: the host CPU, the interpreter, the JIT.
pub trait Subject {
    /// Runs `t` up to its first exception and describes the result.
    fn run(&mut self, t: &Test, out: &mut Out);

    /// Runs many tests; `outs` is as long as `tests`.
    fn run_all(&mut self, tests: &[Test], outs: &mut [Out]) {
        for (t, o) in tests.iter().zip(outs) {
            self.run(t, o);
        }
    }
}

/// Who made the CPU that is the truth; decides which documented differences apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Vendor {
    /// GenuineIntel, and the vendor Tabvisor models.
    Intel = 0,
    /// AuthenticAMD or HygonGenuine.
    Amd = 1,
}
