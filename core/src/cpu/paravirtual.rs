//! What a hypervisor does with a processor whose guest's kernel runs without privilege (Xen's 64-bit PV): instructions
//! it runs for the guest, and ways into and out of the guest's kernel. Which of them when is the board's business
//! ([`Bus::trap`](crate::bus::Bus::trap)).

use super::segment::{Segment, attr};
use super::{Cpu, Done, Fault, Stop, Vector, cr0, memory::canonical, mode::ctx, reg};
use crate::cpu::tlb;
use crate::decode::insn::{Insn, slot};
use crate::isa::{self, Op, hot, ret};
use crate::mem::{Host, PAGE_SHIFT, PAGE_SIZE};
use crate::size::Size;
use crate::{flags, vcpu};

/// The TLB context of supervisors.
const SUPERVISOR: u32 = ctx::SUPER << tlb::CTX_SHIFT;

/// A flat segment of CPL 3, as SYSCALL loads them.
fn flat(sel: u16, code: bool) -> Segment {
    let (kind, size) = if code { (0xb, attr::L) } else { (3, attr::DB) };
    Segment { sel, base: 0, limit: u32::MAX, attr: kind | attr::S | 3 << 5 | attr::P | size | attr::G }
}

/// The table indicator of a selector: its descriptor is in the LDT.
const LOCAL: u16 = 4;

/// Code and stack of CPL 3.
#[derive(Clone, Copy, Debug)]
pub struct UserSegments {
    cs: Segment,
    ss: Segment,
}

/// Where the `n` bytes at `la` lie, if supervisors have an entry for all of them.
fn known(table: &[tlb::Entry; tlb::LEN], la: u64, n: usize) -> Option<u64> {
    let e = &table[tlb::index(SUPERVISOR, la)];
    (n as u64 <= PAGE_SIZE && tlb::hit(e, la, n as u64)).then(|| la.wrapping_add(e.add))
}

impl Cpu {
    /// [`Cpu::paravirtual`], where that can be.
    #[inline(always)]
    pub(crate) fn is_paravirtual(&self) -> bool {
        cfg!(feature = "paravirtual") && self.paravirtual
    }

    /// The instruction at CS:RIP.
    ///
    /// # Errors
    /// What fetching it raises.
    pub fn fetch_for_guest(&mut self) -> Result<(Option<Op>, Insn), Stop> {
        let i = vcpu::fetch(self)?;
        Ok((hot::op(i.op), i))
    }

    /// Runs the instruction at CS:RIP, which [`Cpu::fetch_for_guest`] has returned. With `through` it may, if the guest's
    /// kernel runs, write to a read-only page: to the eight bytes at this linear address (a multiple of eight), or from
    /// there on.
    ///
    /// # Errors
    /// What it raises; nothing has changed then.
    pub fn run_for_guest(&mut self, op: Op, i: &Insn, through: Option<u64>) -> Done {
        let rip = self.rip;
        self.regs[slot::BLOCK as usize] = self.rip_mask(rip.wrapping_sub(u64::from(i.off)));
        let next = self.rip_mask(rip.wrapping_add(u64::from(i.len)));
        self.rip = next;
        self.write_through = through;
        let r = isa::HANDLERS[op as usize](self, i);
        self.write_through = None;
        match r {
            Ok(()) => self.skip_unless_branched(next, i.repeated()),
            Err(_) => self.rip = rip,
        }
        r
    }

    /// Goes to `rip` and `rsp` in flat 64-bit segments of CPL 3 with these selectors.
    pub fn enter_flat(&mut self, cs: u16, ss: u16, rip: u64, rsp: u64) {
        self.enter_user(&UserSegments { cs: flat(cs, true), ss: flat(ss, false) }, rip, rsp);
    }

    fn enter_user(&mut self, to: &UserSegments, rip: u64, rsp: u64) {
        self.seg[reg::SS as usize] = to.ss;
        self.seg[reg::CS as usize] = to.cs;
        self.cpl = 3;
        self.rip = rip;
        self.regs[reg::RSP as usize] = rsp;
        self.segments_changed();
    }

    /// All segment registers as a guest begins: flat code and stack with these selectors, nothing else.
    pub fn guest_segments(cs: u16, ss: u16) -> [Segment; 8] {
        let mut all = [Segment::null(0); 8];
        all[reg::CS as usize] = flat(cs, true);
        all[reg::SS as usize] = flat(ss, false);
        all
    }

    /// Goes to CS:RIP and SS:RSP as an IRET to CPL 3 does; RFLAGS are loaded as they are. `known` has the segments of the
    /// last return to 64-bit code whose descriptors are in the GDT: as long as those are the same, they need not be read
    /// again, as a kernel returns to the same two all the time.
    ///
    /// # Errors
    /// #GP, #NP, #SS of the selectors; RIP, RSP and RFLAGS are loaded nevertheless, as the fault belongs there.
    pub fn return_to_guest(
        &mut self,
        (cs, rip): (u16, u64),
        rflags: u64,
        (ss, rsp): (u16, u64),
        known: &mut Option<UserSegments>,
    ) -> Result<(), Fault> {
        if let Some(k) = known
            && (k.cs.sel, k.ss.sel) == (cs | 3, ss | 3)
            && canonical(rip)
        {
            self.enter_user(k, rip, rsp);
            self.put_rflags(rflags);
            return Ok(());
        }
        *known = None;
        self.cpl = 3;
        let r = ret::return_segment(self, cs | 3, rip).and_then(|(code, cpl)| {
            let stack = ret::return_stack(self, ss | 3, &code, cpl)?;
            ret::set_both(self, code, cpl, rip, stack, rsp);
            if self.long && (cs | ss) & LOCAL == 0 {
                *known = Some(UserSegments { cs: code, ss: stack });
            }
            Ok(())
        });
        self.put_rflags(rflags);
        match r {
            Ok(()) => Ok(()),
            Err(stop) => {
                self.rip = rip;
                self.regs[reg::RSP as usize] = rsp;
                self.segments_changed();
                Err(match stop {
                    Stop::Fault(f) => f,
                    // Descriptors lie in RAM.
                    Stop::Alone => Fault { vector: Vector::GP, code: 0 },
                })
            }
        }
    }

    /// Loads a data segment register as MOV does at the current privilege level.
    ///
    /// # Errors
    /// As MOV.
    pub fn load_guest_segment(&mut self, s: u8, sel: u16) -> Done {
        self.load_segment(s, sel)
    }

    /// Exchanges kernel and user: which page tables and GS base are in use, and, as soon as code of theirs is entered
    /// ([`Cpu::enter_flat`], [`Cpu::return_to_guest`]), whose rights accesses have. Translations of the two are apart, so
    /// both stay.
    pub fn toggle_guest_kernel(&mut self, cr3: u64) {
        self.guest_kernel = !self.guest_kernel;
        self.cr3 = cr3;
        let gs = &mut self.seg[reg::GS as usize].base;
        core::mem::swap(gs, &mut self.msr.kernel_gs_base);
    }

    /// The words at `la`, which supervisors may read, if the TLB knows all of them.
    pub fn words_known<const N: usize>(&self, la: u64) -> Option<[u64; N]> {
        let host = known(&self.tlb.read, la, 8 * N)?;
        Some(core::array::from_fn(|n| Host::of_tlb(host.wrapping_add(8 * n as u64)).load(Size::B8)))
    }

    /// Writes words to `la`, where supervisors may write, if the TLB knows all of it. `false`: nothing was done.
    pub fn put_words_known(&mut self, la: u64, from: &[u64]) -> bool {
        let Some(host) = known(&self.tlb.write, la, 8 * from.len()) else { return false };
        for (n, word) in (0..).zip(from) {
            Host::of_tlb(host.wrapping_add(8 * n)).store(Size::B8, *word);
        }
        true
    }

    /// Fills `to` from memory that supervisors may read, if the TLB knows all of it. `false`: nothing was done.
    pub fn read_known(&self, la: u64, to: &mut [u8]) -> bool {
        let host = known(&self.tlb.read, la, to.len());
        if let Some(host) = host {
            let (words, rest) = to.as_chunks_mut::<8>();
            let done = 8 * words.len() as u64;
            for (n, word) in (0..).zip(words) {
                *word = Host::of_tlb(host.wrapping_add(8 * n)).load(Size::B8).to_le_bytes();
            }
            for (n, byte) in (done..).zip(rest) {
                *byte = Host::of_tlb(host.wrapping_add(n)).load(Size::B1) as u8;
            }
        }
        host.is_some()
    }

    /// Copies `from` to memory that supervisors may write to, if the TLB knows all of it. `false`: nothing was done.
    pub fn write_known(&mut self, la: u64, from: &[u8]) -> bool {
        let host = known(&self.tlb.write, la, from.len());
        if let Some(host) = host {
            let (words, rest) = from.as_chunks::<8>();
            let done = 8 * words.len() as u64;
            for (n, word) in (0..).zip(words) {
                Host::of_tlb(host.wrapping_add(8 * n)).store(Size::B8, u64::from_le_bytes(*word));
            }
            for (n, byte) in (done..).zip(rest) {
                Host::of_tlb(host.wrapping_add(n)).store(Size::B1, u64::from(*byte));
            }
        }
        host.is_some()
    }

    /// CR0.TS.
    pub fn set_task_switched(&mut self, on: bool) {
        self.cr0 = if on { self.cr0 | cr0::TS } else { self.cr0 & !cr0::TS };
        self.mode_changed();
    }

    /// Clears RFLAGS.DF, which handlers rely on.
    pub fn clear_direction_flag(&mut self) {
        self.rflags &= !flags::DF;
    }

    /// Forgets RFLAGS.RF, which the delivery of a fault has set.
    pub fn clear_resume_flag(&mut self) {
        self.rflags &= !flags::RF;
        self.update_step();
    }

    /// Drops translations for writing to a frame.
    pub fn protect_frame(&mut self, mfn: u64) {
        if let Some(host) = self.ram.host(mfn << PAGE_SHIFT) {
            self.tlb.protect_host_page(host.value());
        }
    }

    /// What LDTR has for a table of so many bytes at a linear address; 0: none.
    pub fn guest_ldt(base: u64, bytes: u32) -> Segment {
        const LDT: u16 = 2;
        let present = Segment { base, limit: bytes.wrapping_sub(1), sel: 0, attr: attr::P | LDT };
        if bytes == 0 { Segment::null(0) } else { present }
    }

    /// Loads LDTR so.
    pub fn set_guest_ldt(&mut self, base: u64, bytes: u32) {
        self.seg[6] = Self::guest_ldt(base, bytes);
    }

    /// RFLAGS as a guest at CPL 3 may have them: interrupts on, no IOPL, no virtual-8086 mode.
    pub fn guest_rflags(v: u64) -> u64 {
        v & !(flags::IOPL | flags::VM) | flags::IF | 2
    }
}
