//! A domain: what the hypervisor keeps of a guest, and its way through the hypervisor.

use super::abi::domid;
use super::back::BackEnds;
use super::calls;
use super::console::Console;
use super::counts::Counts;
use super::event::{Binding, Ports};
use super::frames::Frames;
use super::grant::{Grants, reserved};
use super::grant_map::Mapping;
use super::hvm::Hvm;
use super::hypercall;
use super::mmu::{Kind, Types};
use super::store::{DomU, Ring, RingPort, Store};
use super::vcpu::{RunState, Vcpu};
use crate::backend::BlockBackend;
use crate::backend::display::DisplayConfig;
use crate::backend::files::Share;
use crate::backend::net::NicConfig;
use crate::device::put_state;
use crate::effect::{Control, Effect, Input, Shutdown};
use crate::machine::platform::{Count, Counted, StopCause};
use crate::machine::processor::put_context;
use std::collections::BTreeMap;
use tabvisor_core::bus::Trap;
use tabvisor_core::cpu::{Cpu, Done, event};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT};
use tabvisor_core::time::VmTime;

/// What is outside of a domain, for the length of one call.
pub struct Cx<'a> {
    /// The time.
    pub now: VmTime,
    /// Requests to the outside world.
    pub out: &'a mut Vec<Effect>,
    /// The machine's disks.
    pub disks: &'a mut [Box<dyn BlockBackend>],
    /// Why the machine has to stop.
    pub stop: &'a mut Option<StopCause>,
}

/// What a domain is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Does it have its own paging and interrupts (HVM, PVH)? Else it is paravirtualized.
    pub hvm: bool,
    /// vCPUs.
    pub vcpus: u32,
    /// The wall clock at time zero: seconds since 1970.
    pub wall_clock: i64,
    /// Identifies the domain.
    pub uuid: [u8; 16],
    /// Network cards.
    pub nics: Vec<NicConfig>,
    /// A display, with keyboard and pointer.
    pub display: Option<DisplayConfig>,
    /// Files that are shared with it.
    pub files: Option<Share>,
}

/// Figures for people.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Hypercalls by number; the last is for numbers beyond the table.
    pub hypercalls: [u64; hypercall::COUNT + 1],
    /// Port accesses that were emulated.
    pub ports: u64,
    /// Writes to page tables that were emulated.
    pub ptwr: u64,
    /// Event upcalls.
    pub upcalls: u64,
    /// What the CPU comes for, and events, by kind.
    pub kinds: Counts,
}

/// Pages that the builder gives to the rings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rings {
    /// Frame of xenstore's.
    pub store: u64,
    /// Frame of the console's.
    pub console: u64,
}

/// A guest under the hypervisor.
pub struct Domain {
    pub(super) ram: GuestRam,
    pub(super) frames: Frames,
    pub(super) types: Types,
    /// Frame of shared_info: the hypervisor's own, or where the guest wanted it.
    pub(super) shared_info: u64,
    /// Frame numbers beyond the guest's RAM that lead to the hypervisor's frames, and to which.
    pub(super) aliases: BTreeMap<u64, u64>,
    /// What a domain has that is not paravirtualized.
    pub(super) hvm: Option<Hvm>,
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) current: usize,
    pub(super) ports: Ports,
    pub(super) grants: Grants,
    /// Grants that the guest has mapped, by handle.
    pub(super) mappings: Vec<Option<Mapping>>,
    pub(super) console: Console,
    pub(super) store: Store,
    pub(super) store_ring: Ring,
    pub(super) store_port: u32,
    pub(super) rings: Rings,
    pub(super) back: BackEnds,
    pub(super) uuid: [u8; 16],
    wall_clock: i64,
    pub(super) writable_tables: bool,
    pub(super) architectural_iopl: bool,
    pub(super) runstate_update_flag: bool,
    pub(super) in_multicall: bool,
    /// It is suspended; the frame of a PV guest's start_info.
    pub(super) suspended: Option<u64>,
    /// When the running vCPU has had its time, if others wait; and whether it has.
    pub(super) slice: VmTime,
    pub(super) slice_over: bool,
    pub(super) watchdogs: [Option<VmTime>; 2],
    pub(super) config_address: u32,
    /// Is there an upcall for the running vCPU, or may it go on?
    pub(super) interrupt: bool,
    /// The trap was a way between kernel and users and nothing else: timers and back ends have no news.
    pub(super) crossing: bool,
    pub(super) functions: [Option<hypercall::Function>; hypercall::COUNT],
    /// Figures for people.
    pub counters: Counters,
}

impl Domain {
    /// A domain that is not built yet. `ram` has all of [`Frames::all`].
    pub fn new(ram: &GuestRam, frames: Frames, options: &Options) -> Self {
        ram.clear_aliases();
        frames.install(ram);
        let domain = Self {
            ram: ram.clone(),
            frames,
            types: Types::new(frames, options.hvm),
            shared_info: frames.shared_info,
            aliases: BTreeMap::new(),
            hvm: options.hvm.then(|| Hvm::new(options.vcpus.max(1))),
            vcpus: (0..options.vcpus.max(1)).map(|id| Vcpu::new(id, &frames)).collect(),
            current: 0,
            ports: Ports::default(),
            grants: Grants::new(frames),
            mappings: Vec::new(),
            console: Console::default(),
            store: Store::new(),
            store_ring: Ring::new(domid::GUEST, 0),
            store_port: 0,
            rings: Rings::default(),
            back: BackEnds::default(),
            uuid: options.uuid,
            wall_clock: options.wall_clock,
            writable_tables: false,
            architectural_iopl: false,
            runstate_update_flag: false,
            in_multicall: false,
            suspended: None,
            slice: VmTime::ZERO,
            slice_over: false,
            watchdogs: [None; 2],
            config_address: 0,
            interrupt: false,
            crossing: false,
            functions: hypercall::by_number(),
            counters: Counters {
                hypercalls: [0; hypercall::COUNT + 1],
                ports: 0,
                ptwr: 0,
                upcalls: 0,
                kinds: Counts::default(),
            },
        };
        domain.put_wall_clock();
        for n in 0..domain.vcpus.len() {
            if !options.hvm {
                domain.vcpus[n].set_upcall_mask(ram, true);
            }
            domain.put_time(n);
        }
        domain
    }

    /// Event channels of xenstore and console; in that order.
    pub fn open_rings(&mut self) -> (u32, u32) {
        let mut open = || self.ports.allocate(Binding::BackEnd, 0).expect("a new domain has free ports");
        self.store_port = open();
        self.console.port = open();
        (self.store_port, self.console.port)
    }

    /// The rings are where the builder has put them; the domain becomes known to xenstore.
    pub fn connect(&mut self, rings: Rings) {
        self.rings = rings;
        self.console = Console::new(rings.console << PAGE_SHIFT, self.console.port);
        // Back ends write there: the guest can make no page tables of them. The hypervisor's own frames are none anyway.
        for frame in [rings.store, rings.console] {
            if !self.types.owned(frame) {
                continue;
            }
            self.types.get(&self.ram, frame, Kind::Writable).expect("the builder has made no table of a ring");
        }
        self.announce(self.frames.boot << PAGE_SHIFT);
    }

    /// Xenstore learns of a new domain, and has forgotten what was before. So many bytes of memory are for it to have.
    pub(super) fn announce(&mut self, memory: u64) {
        let rings = self.rings;
        self.store = Store::new();
        self.store_ring = Ring::new(domid::GUEST, rings.store << PAGE_SHIFT);
        self.grants.put(&self.ram, reserved::CONSOLE, rings.console);
        self.grants.put(&self.ram, reserved::XENSTORE, rings.store);
        let uuid = text_of(&self.uuid);
        let domu = DomU {
            domid: domid::GUEST,
            name: "guest",
            uuid: &uuid,
            vcpus: self.vcpus.len() as u32,
            memory: memory >> 10,
            static_max: (self.frames.guest << PAGE_SHIFT) >> 10,
            store: RingPort { port: self.store_port, ring_ref: rings.store },
            console: RingPort { port: self.console.port, ring_ref: rings.console },
        };
        self.store.add_domain(&domu).expect("a domain's own tree has valid paths");
        self.store.introduce(domid::GUEST);
    }

    pub(super) fn vcpu(&self) -> &Vcpu {
        &self.vcpus[self.current]
    }
    pub(super) fn vcpu_mut(&mut self) -> &mut Vcpu {
        &mut self.vcpus[self.current]
    }

    /// The guest has done what no hypervisor can repair.
    pub(super) fn crash(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, why: &str) {
        cx.stop.get_or_insert(StopCause::Crash(format!("the hypervisor has stopped the guest: {why}")));
        cpu.events |= event::CHECK;
    }

    /// What the CPU leaves to the hypervisor.
    pub fn trap(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, trap: Trap) -> Done {
        self.counters.kinds.trap(&trap, cpu.guest_kernel);
        self.crossing = false;
        self.types.work = 0;
        let r = match trap {
            Trap::Syscall => self.syscall(cx, cpu),
            Trap::Sysenter => self.sysenter(cx, cpu),
            Trap::ReadMsr => self.msr_trap(cpu, Self::read_msr),
            Trap::WriteMsr => self.msr_trap(cpu, Self::write_msr),
            Trap::Interrupt { vector, source, return_rip } => self.interrupt(cx, cpu, vector, source, return_rip),
            Trap::Preempted => {
                self.switch(cx, cpu);
                Ok(())
            }
            Trap::Hypercall if self.hvm.is_some() => {
                self.vmcall(cx, cpu);
                Ok(())
            }
            Trap::Hypercall => Err(tabvisor_core::cpu::fault(tabvisor_core::cpu::Vector::UD)),
        };
        if self.crossing {
            self.find_interrupt();
        } else {
            // What a hypercall has left, if it could not go on itself.
            self.types.take_dying(&self.ram, hypercall::SHARE);
            self.settle(cx);
        }
        if self.interrupt {
            cpu.events |= event::CHECK;
        }
        self.after_trap(cx, cpu);
        r
    }

    /// Was the last trap a way between kernel and users, which changes no deadline?
    pub fn has_crossed(&self) -> bool {
        self.crossing
    }

    /// Lets back ends do what there is to do, and finds out whether the running vCPU is to be interrupted.
    pub fn settle(&mut self, cx: &mut Cx<'_>) {
        while let Some(port) = self.ports.kicked.pop() {
            if port == self.console.port {
                self.pump_console(cx);
            } else if port == self.store_port {
                self.pump_store(cx);
            } else {
                self.kick_back_ends(cx, port);
            }
        }
        self.settle_hvm(cx);
        self.find_interrupt();
    }

    fn find_interrupt(&mut self) {
        if self.vcpu().state == RunState::Offline || self.suspended.is_some() {
            // Only another vCPU can bring it back, or whoever resumes the domain.
            self.interrupt = false;
            return;
        }
        if self.hvm.is_some() {
            self.interrupt = self.hvm_pending(self.current);
            return;
        }
        let v = self.vcpu();
        self.interrupt = v.wants_upcall(&self.ram) || v.pv.nmi && !v.pv.in_nmi || self.is_woken(self.current);
    }

    fn pump_console(&mut self, cx: &mut Cx<'_>) {
        if self.console.pump(&self.ram, cx.out) {
            self.set_pending(self.console.port);
        }
    }
    pub(super) fn pump_store(&mut self, cx: &mut Cx<'_>) {
        // What back ends write may be news for the guest, and make room for what it says. The ring is short, so this ends.
        while self.store_ring.pump(&mut self.store, &self.ram) {
            self.set_pending(self.store_port);
            self.watch_back_ends(cx);
        }
        cx.out.extend(self.store.take_log().into_iter().map(Effect::Log));
    }

    /// Is INTR high, so to say?
    pub fn wants_interrupt(&self) -> bool {
        self.interrupt
    }

    /// Timers that are due.
    pub fn advance(&mut self, cx: &mut Cx<'_>) {
        if self.suspended.is_none() {
            self.advance_timers(cx);
            self.advance_lapics(cx.now);
        }
        self.settle(cx);
    }

    /// News from the outside world.
    pub fn input(&mut self, cx: &mut Cx<'_>, input: &Input) {
        match input {
            Input::Serial { port: 0, bytes } => {
                self.console.typed(bytes);
                self.pump_console(cx);
            }
            Input::BlockData { .. } | Input::Frame { .. } | Input::Key { .. } | Input::Pointer(_) => {
                self.back_end_input(cx, input);
            }
            Input::PowerButton => self.control(cx, Control::Shutdown(Shutdown::PowerOff)),
            Input::Control(control) => self.control(cx, *control),
            Input::ResetButton => {
                cx.stop.get_or_insert(StopCause::Reset(crate::effect::ResetCause::Button));
            }
            Input::WallClock(now) => {
                self.wall_clock = now - (cx.now.nanos() / 1_000_000_000) as i64;
                self.put_wall_clock();
            }
            _ => {}
        }
        self.settle(cx);
    }

    /// Bytes that may be typed.
    pub fn console_room(&self) -> usize {
        self.console.room()
    }

    /// `wc_sec`, `wc_nsec`: the wall clock when the system time was zero.
    fn put_wall_clock(&self) {
        const WC: u64 = 0xc00;
        let at = (self.shared_info << PAGE_SHIFT) + WC;
        let seconds = (self.wall_clock as u64).to_le_bytes();
        let version = u32::from_le_bytes(self.ram.read_le(at));
        self.ram.write(at, &version.wrapping_add(1).to_le_bytes());
        self.ram.write(at + 4, &seconds[..4]);
        self.ram.write(at + 8, &[0; 4]);
        self.ram.write(at + 12, &seconds[4..]);
        self.ram.write(at, &version.wrapping_add(2).to_le_bytes());
    }

    /// A CPUID leaf of the hypervisor (public/arch-x86/cpuid.h).
    pub fn leaf(&self, leaf: u32, sub: u32) -> Option<[u32; 4]> {
        const BASE: u32 = 0x4000_0000;
        let word = |s: &[u8; 4]| u32::from_le_bytes(*s);
        let khz = tabvisor_core::cpu::features::TSC_HZ / 1000;
        Some(match (leaf.checked_sub(BASE)?, sub) {
            (0, _) => [BASE + 5, word(b"XenV"), word(b"MMXe"), word(b"nVMM")],
            (1, _) => [calls::version::NUMBER, 0, 0, 0],
            // One hypercall page, its MSR; MMU_PT_UPDATE_PRESERVE_AD.
            (2, _) => [1, BASE, 1, 0],
            // The TSC is the host's and safe; native mode; kHz.
            (3, 0) => [1 << 1 | 1 << 2, 2, khz, 1],
            (3, 1) => [0, 0, 0x8000_0000, 1],
            (3, 2) => [khz, 0, 0, 0],
            // The vCPU's number is in EBX, the domain's in ECX; vectors for upcalls work.
            (4, 0) if self.hvm.is_some() => [1 << 3 | 1 << 4 | 1 << 6, self.current as u32, domid::GUEST.into(), 0],
            (4, _) => [0; 4],
            (5, 0) if self.hvm.is_none() => [0, tabvisor_core::cpu::paging::PHYS_BITS, 0, 0],
            (0..0x100, _) => [0; 4],
            _ => return None,
        })
    }

    /// vCPU 0 begins.
    pub(super) fn start(&mut self, now: VmTime) {
        self.vcpus[0].account(now, RunState::Running);
        self.start_tick(now);
    }
    /// vCPU 0's periodic timer is as at first.
    pub(super) fn start_tick(&mut self, now: VmTime) {
        // Until the guest says otherwise it gets a tick of 100 Hz.
        const TICK: u64 = 10_000_000;
        self.vcpus[0].periodic = Some((now + tabvisor_core::time::VmDuration::from_nanos(TICK), TICK));
    }

    /// How often the guest has made each hypercall, come for something else, and been sent events.
    pub fn counts(&self) -> Vec<Count> {
        let all = self.counters.hypercalls.iter().enumerate().filter(|(_, n)| **n > 0);
        let hypercalls = all.map(|(k, n)| Count { of: Counted::Hypercall, name: hypercall::name(k), n: *n });
        hypercalls.chain(self.counters.kinds.list()).collect()
    }

    /// Appends everything that the guest can tell apart and that is not in its RAM.
    pub fn state_bytes(&self, out: &mut Vec<u8>) {
        self.types.state_bytes(out);
        put_state(out, &(&self.vcpus, self.current as u64, &self.ports, self.grants.count, &self.console));
        self.back.state_bytes(out);
        for context in self.vcpus.iter().filter_map(|v| v.context.as_ref()) {
            put_context(out, context);
        }
        put_state(out, &(&self.hvm, self.shared_info, &self.aliases, &self.mappings));
        put_state(out, &(self.grants.version, &self.grants.places[..], self.grants.status_places));
        for lapic in self.hvm.iter().flat_map(|h| &h.lapics) {
            crate::device::Device::state_bytes(lapic, out);
        }
        put_state(out, &(&self.store, &self.store_ring, self.store_port, self.wall_clock, self.watchdogs));
        put_state(out, &(self.writable_tables, self.architectural_iopl, self.runstate_update_flag));
        put_state(out, &(self.slice, self.slice_over, self.config_address, self.interrupt, self.suspended));
    }
}

/// A UUID as people write it.
fn text_of(uuid: &[u8; 16]) -> String {
    let hex = |r: core::ops::Range<usize>| uuid[r].iter().map(|b| format!("{b:02x}")).collect::<String>();
    [0..4, 4..6, 6..8, 8..10, 10..16].map(hex).join("-")
}
