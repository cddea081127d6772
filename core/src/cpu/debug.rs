//! Breakpoints of the debug registers (SDM 3B 18.2, 18.3): instructions, data, I/O.
//!
//! Data breakpoints cost nothing where they are not: a page with a watched byte never gets into the TLB for data, so
//! every access to it takes the slow path, which looks here. (The other way, to run singly and look at every access,
//! slows the whole guest down for one watched variable.) A block that comes upon a watched byte stops before the
//! instruction, as for a device, and the instruction runs alone; the trap follows it. Only instruction breakpoints
//! make the run loop step.
//!
//! What the processor itself reads and writes in descriptor tables and TSSs is not watched; frames it pushes are.

use super::{Cpu, Done, Shadow, Stop, cr4};
use crate::flags;
use crate::mem::PAGE_SHIFT;

/// Bits of DR7.
pub mod dr7 {
    /// L0, G0 to L3, G3.
    pub const ENABLED: u64 = 0xff;
    /// The local ones and LE, which a task switch clears.
    pub const LOCAL: u64 = 0x155;
    /// General detect.
    pub const GD: u64 = 1 << 13;
    /// Always one.
    pub const ONE: u64 = 1 << 10;
    /// What can be written.
    pub const WRITABLE: u64 = 0xffff_23ff;
}

/// Bits of DR6.
pub mod dr6 {
    /// B0 to B3.
    pub const HIT: u64 = 0xf;
    /// A debug register was accessed with DR7.GD set.
    pub const BD: u64 = 1 << 13;
    /// Single step.
    pub const BS: u64 = 1 << 14;
    /// Task switch.
    pub const BT: u64 = 1 << 15;
    /// What can be written.
    pub const WRITABLE: u64 = HIT | BD | BS | BT;
    /// Always one (DR6.RTM among them, which has no meaning without transactions).
    pub const ONES: u64 = 0xffff_0ff0;
}

/// IA32_DEBUGCTL.BTF: single steps go from branch to branch.
pub const DEBUGCTL_BTF: u64 = 2;

/// What a breakpoint watches: R/Wn of DR7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Execute,
    Write,
    Port,
    ReadWrite,
}

/// A breakpoint that is enabled.
#[derive(Clone, Copy, Debug)]
struct Breakpoint {
    /// Its bit in DR6.
    bit: u64,
    kind: Kind,
    /// First address or port.
    at: u64,
    /// Length in bytes.
    len: u64,
}

impl Breakpoint {
    fn touches(&self, at: u64, bytes: u64) -> bool {
        at.wrapping_sub(self.at) < self.len || self.at.wrapping_sub(at) < bytes
    }
}

impl Cpu {
    /// The breakpoints that are enabled.
    fn breakpoints(&self) -> impl Iterator<Item = Breakpoint> + use<> {
        let dr = self.dr;
        let io = self.cr4 & cr4::DE != 0;
        (0..4).filter(move |n| dr[7] >> (2 * n) & 3 != 0).filter_map(move |n| {
            let kind = match dr[7] >> (16 + 4 * n) & 3 {
                0 => Kind::Execute,
                1 => Kind::Write,
                2 if io => Kind::Port,
                2 => return None,
                _ => Kind::ReadWrite,
            };
            let len = [1, 2, 8, 4][(dr[7] >> (18 + 4 * n) & 3) as usize];
            // SDM 3B 18.2.5: the length's address bits do not count.
            Some(Breakpoint { bit: 1 << n, kind, at: dr[n as usize] & !(len - 1), len })
        })
    }

    /// DR6 bits of the breakpoints that `hit` says are met.
    fn met(&self, hit: impl Fn(&Breakpoint) -> bool) -> u64 {
        self.breakpoints().filter(|b| hit(b)).fold(0, |bits, b| bits | b.bit)
    }

    /// Call after any change of the debug registers.
    pub fn breakpoints_changed(&mut self) {
        for b in self.breakpoints() {
            if matches!(b.kind, Kind::Write | Kind::ReadWrite) {
                self.tlb.flush_page(b.at);
            }
        }
        self.mode_changed();
    }

    /// What a #DB that is about to be delivered says in DR6: B0 to B3 are what matched this time, the other bits stay
    /// until software clears them (SDM 3B 18.2.3).
    pub(crate) fn tell_dr6(&mut self, bits: u64) {
        self.dr[6] = self.dr[6] & !dr6::HIT | bits;
    }

    /// Is there an instruction breakpoint, so that instructions must be run singly?
    pub(crate) fn has_code_breakpoints(&self) -> bool {
        self.dr[7] & dr7::ENABLED != 0 && self.breakpoints().any(|b| b.kind == Kind::Execute)
    }

    /// DR6 bits of instruction breakpoints at CS:RIP, unless RF is set. RF lasts for one instruction (SDM 3B
    /// 18.3.1.1); a fault of that instruction sets it again.
    pub(crate) fn code_breakpoint(&mut self) -> Option<u64> {
        if self.rflags & flags::RF != 0 {
            self.rflags &= !flags::RF;
            self.mode_changed();
            return None;
        }
        if self.dr[7] & dr7::ENABLED == 0 || self.shadow == Shadow::MovSs {
            return None;
        }
        let la = self.code_address();
        // The length of an instruction breakpoint has to be 1.
        let bits = self.met(|b| b.kind == Kind::Execute && b.len == 1 && b.at == la);
        (bits != 0).then_some(bits)
    }

    /// Must the page of `la` stay out of the TLB?
    #[inline]
    pub(crate) fn page_watched(&self, la: u64) -> bool {
        let in_page =
            |b: Breakpoint| matches!(b.kind, Kind::Write | Kind::ReadWrite) && b.at >> PAGE_SHIFT == la >> PAGE_SHIFT;
        self.dr[7] & dr7::ENABLED != 0 && self.breakpoints().any(in_page)
    }

    /// An access to `bytes` bytes at `la`: notes the data breakpoints it meets.
    ///
    /// # Errors
    /// [`Stop::Alone`] if there are any and the instruction does not run alone.
    #[inline]
    pub(crate) fn watch(&mut self, la: u64, bytes: u64, write: bool) -> Done {
        if self.dr[7] & dr7::ENABLED == 0 {
            return Ok(());
        }
        let bits = self.met(|b| (b.kind == Kind::ReadWrite || write && b.kind == Kind::Write) && b.touches(la, bytes));
        if bits != 0 && !self.alone {
            return Err(Stop::Alone);
        }
        self.pending_db |= bits;
        Ok(())
    }

    /// After an instruction that ran alone, with `next` behind it: no single-step trap if only branches are to trap
    /// and it was none (SDM 3B 18.4.4). A jump to the very next instruction passes for none.
    pub(crate) fn skip_unless_branched(&mut self, next: u64, repeated: bool) {
        if self.msr.debugctl & DEBUGCTL_BTF != 0 && (self.rip == next || repeated) {
            self.single_step = false;
        }
    }

    /// An access to `bytes` ports at `port`: notes the I/O breakpoints it meets.
    pub(crate) fn watch_ports(&mut self, port: u16, bytes: u64) {
        if self.dr[7] & dr7::ENABLED != 0 {
            self.pending_db |= self.met(|b| b.kind == Kind::Port && b.touches(u64::from(port), bytes));
        }
    }
}
