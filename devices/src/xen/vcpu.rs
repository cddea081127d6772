//! What the hypervisor keeps of a virtual CPU beside its registers.

use super::abi::Errno;
use super::frames::Frames;
use serde::Serialize;
use tabvisor_core::cpu::context::Context;
use tabvisor_core::cpu::paravirtual::UserSegments;
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE};
use tabvisor_core::time::VmTime;

/// Offsets in `struct vcpu_info` (xen.h).
pub mod info {
    /// `evtchn_upcall_pending`.
    pub const PENDING: u64 = 0;
    /// `evtchn_upcall_mask`.
    pub const MASK: u64 = 1;
    /// `evtchn_pending_sel`.
    pub const SELECTOR: u64 = 8;
    /// `arch.cr2`.
    pub const CR2: u64 = 0x10;
    /// `time`.
    pub const TIME: u64 = 0x20;
    /// Bytes of the structure.
    pub const LEN: u64 = 64;
}

/// A gate of the trap table.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Gate {
    /// The handler; 0: there is none.
    pub address: u64,
    /// The selector it was registered with, for snapshots only.
    pub cs: u16,
    /// INT n needs this privilege.
    pub dpl: u8,
    /// Events are masked when the handler begins.
    pub mask: bool,
}

/// Entry points that the guest registers (callback.h).
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Callback {
    /// The handler; 0: there is none.
    pub address: u64,
    /// Events are masked when it begins.
    pub mask: bool,
}

/// State that a PV guest's vCPU has beyond a processor's.
#[derive(Clone, Debug, Serialize)]
pub struct PvState {
    /// Where the kernel's stack begins when users are interrupted.
    pub kernel_sp: u64,
    /// Its selector.
    pub kernel_ss: u16,
    /// Frame of the kernel's L4.
    pub guest_table: u64,
    /// Frame of the users' L4; 0: none.
    pub user_table: u64,
    /// The trap table, 256 gates.
    pub traps: Vec<Gate>,
    /// Event upcalls.
    pub event: Callback,
    /// Faults of returns to the guest.
    pub failsafe: Callback,
    /// SYSCALL of 64-bit users.
    pub syscall: Callback,
    /// SYSCALL of 32-bit users.
    pub syscall32: Callback,
    /// SYSENTER.
    pub sysenter: Callback,
    /// Frames of the GDT.
    pub gdt_frames: Vec<u64>,
    /// Entries of the LDT, which begins at `ldt_base`.
    pub ldt_entries: u32,
    /// The linear address of the LDT.
    pub ldt_base: u64,
    /// Which pages of the LDT are mapped, one bit each.
    pub ldt_mapped: u16,
    /// CR2 as the guest reads it.
    pub cr2: u64,
    /// Virtual IOPL.
    pub iopl: u8,
    /// I/O permission bitmap: linear address, ports it covers.
    pub io_bitmap: (u64, u32),
    /// An NMI is being handled.
    pub in_nmi: bool,
    /// One is pending.
    pub nmi: bool,
    /// Segments of the last iret, as the GDT has them.
    #[serde(skip)]
    pub returned_to: Option<UserSegments>,
}

impl Default for PvState {
    fn default() -> Self {
        Self {
            kernel_sp: 0,
            kernel_ss: 0,
            guest_table: 0,
            user_table: 0,
            traps: vec![Gate::default(); 256],
            event: Callback::default(),
            failsafe: Callback::default(),
            syscall: Callback::default(),
            syscall32: Callback::default(),
            sysenter: Callback::default(),
            gdt_frames: Vec::new(),
            ldt_entries: 0,
            ldt_base: 0,
            ldt_mapped: 0,
            cr2: 0,
            iopl: 0,
            io_bitmap: (0, 0),
            in_nmi: false,
            nmi: false,
            returned_to: None,
        }
    }
}

/// What a vCPU is doing (`RUNSTATE_*`, vcpu.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[repr(u32)]
pub enum RunState {
    /// It runs.
    Running = 0,
    /// It waits for a physical CPU.
    Runnable = 1,
    /// It waits for an event.
    Blocked = 2,
    /// It has not been started, or was taken down.
    #[default]
    Offline = 3,
}

/// A virtual CPU.
#[derive(Clone, Serialize)]
pub struct Vcpu {
    /// Its number.
    pub id: u32,
    /// Machine address of its vcpu_info.
    pub info: u64,
    /// vcpu_info is where the guest wanted it.
    pub info_registered: bool,
    /// What a PV guest has.
    pub pv: PvState,
    /// What it is doing, and since when.
    pub state: RunState,
    /// When that began.
    pub since: VmTime,
    /// Nanoseconds in each state.
    pub spent: [u64; 4],
    /// Linear address of the guest's copy of these.
    pub runstate_area: Option<u64>,
    /// When the one-shot timer fires.
    pub timer: Option<VmTime>,
    /// When the periodic timer fires, and its period.
    pub periodic: Option<(VmTime, u64)>,
    /// Waits in SCHEDOP_poll for one of these ports.
    pub polling: Option<Vec<u32>>,
    /// Until then.
    pub poll_timeout: Option<VmTime>,
    /// That is over.
    pub poll_over: bool,
    /// What a hypercall that it waits in is to return, when it goes on, instead of 0.
    pub answer: Option<u64>,
    /// A start-up IPI has said where it begins, in real mode.
    pub start_at: Option<u8>,
    /// The guest has said how it begins.
    pub initialised: bool,
    /// Its registers while another one runs.
    #[serde(skip)]
    pub context: Option<Box<Context>>,
}

impl Vcpu {
    /// A vCPU that is offline.
    pub fn new(id: u32, frames: &Frames) -> Self {
        Self {
            id,
            info: (frames.shared_info << PAGE_SHIFT) + info::LEN * u64::from(id.min(31)),
            info_registered: false,
            pv: PvState::default(),
            state: RunState::Offline,
            since: VmTime::ZERO,
            spent: [0; 4],
            runstate_area: None,
            timer: None,
            periodic: None,
            polling: None,
            poll_timeout: None,
            poll_over: false,
            answer: None,
            start_at: None,
            initialised: id == 0,
            context: None,
        }
    }

    /// `evtchn_upcall_mask`.
    pub fn upcall_mask(&self, ram: &GuestRam) -> bool {
        ram.byte(self.info + info::MASK) != 0
    }
    /// Sets it.
    pub fn set_upcall_mask(&self, ram: &GuestRam, mask: bool) {
        ram.set_byte(self.info + info::MASK, mask.into());
    }
    /// `evtchn_upcall_pending`.
    pub fn upcall_pending(&self, ram: &GuestRam) -> bool {
        ram.byte(self.info + info::PENDING) != 0
    }
    /// Does an event wait that may be delivered?
    pub fn wants_upcall(&self, ram: &GuestRam) -> bool {
        self.upcall_pending(ram) && !self.upcall_mask(ram)
    }

    /// Moves vcpu_info to another page (VCPUOP_register_vcpu_info).
    ///
    /// # Errors
    /// EBUSY the second time, EINVAL outside of the guest's memory.
    pub fn register_info(&mut self, ram: &GuestRam, frames: &Frames, mfn: u64, offset: u32) -> Result<(), Errno> {
        if self.info_registered {
            return Err(Errno::EBUSY);
        }
        if mfn >= frames.guest || u64::from(offset) + info::LEN > PAGE_SIZE || !offset.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let to = (mfn << PAGE_SHIFT) + u64::from(offset);
        let old = ram.read_le::<{ info::LEN as usize }>(self.info);
        ram.write(to, &old);
        (self.info, self.info_registered) = (to, true);
        // So that the guest looks at everything once more.
        ram.write(to + info::SELECTOR, &u64::MAX.to_le_bytes());
        ram.write(to + info::PENDING, &[1]);
        Ok(())
    }

    /// What it did until `now` is entered into the account, and what it does from now on.
    pub fn account(&mut self, now: VmTime, state: RunState) {
        self.spent[self.state as usize] += now.since(self.since).nanos();
        (self.state, self.since) = (state, now);
    }

    /// `struct vcpu_runstate_info`.
    pub fn runstate(&self, now: VmTime) -> [u8; 48] {
        let mut b = [0; 48];
        let mut put = |at: usize, v: u64| b[at..at + 8].copy_from_slice(&v.to_le_bytes());
        put(0, self.state as u64);
        put(8, self.since.nanos());
        for (n, spent) in self.spent.iter().enumerate() {
            let more = if n == self.state as usize { now.since(self.since).nanos() } else { 0 };
            put(16 + 8 * n, spent + more);
        }
        b
    }

    /// When it wants to be called.
    pub fn deadline(&self) -> VmTime {
        let all = [self.timer, self.periodic.map(|p| p.0), self.poll_timeout];
        all.into_iter().flatten().min().unwrap_or(VmTime::NEVER)
    }
}
