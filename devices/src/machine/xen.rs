//! The platform of a domain, PV or PVH: a hypervisor with one guest, and a clock. There is no other hardware but for the
//! local APICs of PVH.

use super::clock::{Clock, Rate};
use super::machine::{ConfigError, Payload};
use super::platform::{Count, Counted, Platform, Reservation, Start, StopCause, Visits};
use crate::backend::BlockBackend;
use crate::backend::display::Display;
use crate::backend::files::Share;
use crate::boot::elf::Image;
use crate::device::put_state;
use crate::effect::{Effect, Input};
use crate::xen::domain::{Cx, Domain, Options};
use crate::xen::frames::Frames;
use crate::xen::notes::{Notes, NotesError};
use crate::xen::{build_pv, build_pvh};
use tabvisor_core::bus::{Bus, Trap};
use tabvisor_core::cpu::{Cpu, Done, event};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, RamError};
use tabvisor_core::size::Size;
use tabvisor_core::time::VmTime;

/// Memory of a guest, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// What it has at first.
    pub boot: u64,
    /// What it may ever have; not less.
    pub most: u64,
}

impl Memory {
    fn frames(self) -> Frames {
        Frames::new(self.boot >> PAGE_SHIFT, self.most >> PAGE_SHIFT)
    }
}

/// A hypervisor with one guest.
pub struct Xen {
    ram: GuestRam,
    clock: Clock,
    domain: Domain,
    frames: Frames,
    options: Options,
    /// They are not part of the domain: what was written outlasts a reset.
    disks: Vec<Box<dyn BlockBackend>>,
    effects: Vec<Effect>,
    stop: Option<StopCause>,
    nearest: VmTime,
    run_until: u64,
    random: u64,
    visits: Visits,
}

impl Xen {
    /// RAM for a guest.
    ///
    /// # Errors
    /// [`RamError`].
    pub fn ram(memory: Memory) -> Result<GuestRam, RamError> {
        // What people have asked for is the guest's size, so an error speaks of that.
        GuestRam::new(memory.frames().bytes()).map_err(|e| match e {
            RamError::Size(_) => RamError::Size(memory.most.max(memory.boot)),
            RamError::Memory(_) => RamError::Memory(memory.most.max(memory.boot)),
        })
    }

    /// A hypervisor whose guest is not loaded yet. `ram` comes from [`Xen::ram`] with the same `memory`.
    pub fn new(
        ram: &GuestRam,
        memory: Memory,
        rate: Rate,
        seed: u64,
        options: Options,
        disks: Vec<Box<dyn BlockBackend>>,
    ) -> Self {
        let frames = memory.frames();
        Self {
            ram: ram.clone(),
            clock: Clock::new(rate),
            domain: Domain::new(ram, frames, &options),
            frames,
            options,
            disks,
            effects: Vec::new(),
            stop: None,
            nearest: VmTime::NEVER,
            run_until: u64::MAX,
            random: seed,
            visits: Visits::default(),
        }
    }

    /// RAM as the CPU sees it. A paravirtualized guest's page tables lead to the hypervisor's frames, too; for others those
    /// are nowhere but where they asked for them.
    pub fn seen(&self) -> GuestRam {
        if self.options.hvm { self.ram.first(self.frames.guest << PAGE_SHIFT) } else { self.ram.clone() }
    }

    /// Lets `f` work on the domain, and notes what it did.
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&mut Domain, &mut Cx<'_>) -> R) -> R {
        let r = self.with_domain(f);
        self.plan();
        r
    }

    /// The same for what changes no deadline.
    fn with_domain<R>(&mut self, f: impl FnOnce(&mut Domain, &mut Cx<'_>) -> R) -> R {
        let (out, stop) = (&mut self.effects, &mut self.stop);
        let mut cx = Cx { now: self.clock.now(), out, disks: &mut self.disks, stop };
        f(&mut self.domain, &mut cx)
    }

    /// The devices of a domain that was built.
    fn add_devices(&mut self) {
        let options = self.options.clone();
        self.with(|domain, cx| domain.add_devices(cx, &options));
    }

    /// When the CPU has to come back, after anything that the domain has done.
    fn plan(&mut self) {
        let nearest = self.domain.deadline();
        // Dividing 128 bits takes as long as a hypercall.
        if nearest != self.nearest || self.stop.is_some() {
            self.nearest = nearest;
            self.plan_anew();
        }
    }

    /// The same after the clock or [`Xen::stop`] has changed.
    fn plan_anew(&mut self) {
        self.run_until = if self.stop.is_some() { 0 } else { self.clock.retired_at(self.nearest) };
    }
}

/// What is wrong with a kernel as a guest, or with its file.
impl From<NotesError> for ConfigError {
    fn from(e: NotesError) -> Self {
        match e {
            NotesError::File(e) => Self::Boot(e),
            e => Self::Guest(e.to_string()),
        }
    }
}

impl Platform for Xen {
    fn bus(&mut self) -> &mut dyn Bus {
        self
    }
    fn reset(&mut self) {
        // The machine clears RAM before it loads the guest again.
        self.stop = None;
        self.plan_anew();
    }
    fn load(&mut self, payload: &Payload) -> Result<Start, ConfigError> {
        self.domain = Domain::new(&self.ram, self.frames, &self.options);
        let image = Image::open(&payload.kernel)?;
        let notes = Notes::read(&image)?;
        let now = self.clock.now();
        if self.options.hvm {
            let pvh = notes.pvh()?;
            let (initrd, cmdline) = (&payload.initrd, &payload.cmdline);
            let entry = build_pvh::build(&mut self.domain, &pvh, &image, initrd, cmdline, now)?;
            self.add_devices();
            return Ok(Start::Bare(entry));
        }
        let pv = notes.pv()?;
        let image = image.shifted(pv.paddr_offset, 0)?;
        let begin = build_pv::build(&mut self.domain, &pv, &image, &payload.initrd, &payload.cmdline, now)?;
        self.add_devices();
        Ok(Start::Guest(Box::new(move |cpu| begin.apply(cpu))))
    }
    fn now(&self) -> VmTime {
        self.clock.now()
    }
    fn nearest(&self) -> VmTime {
        self.nearest
    }
    fn run_until(&self) -> u64 {
        self.run_until
    }
    fn retired_at(&self, time: VmTime) -> u64 {
        self.clock.retired_at(time)
    }
    fn adjust_clock(&mut self, f: &mut dyn FnMut(&mut Clock)) {
        f(&mut self.clock);
        self.with(|domain, cx| domain.advance(cx));
        self.plan_anew();
    }
    fn take_stop(&mut self) -> Option<StopCause> {
        let stop = self.stop.take();
        self.plan_anew();
        stop
    }
    fn input(&mut self, input: &Input) {
        self.with(|domain, cx| domain.input(cx, input));
    }
    fn console_room(&mut self, port: u8) -> usize {
        if port == 0 { self.domain.console_room() } else { 0 }
    }
    fn display(&mut self) -> Option<&mut dyn Display> {
        self.domain.display()
    }
    fn share_files(&mut self, tree: &Share) {
        self.options.files = Some(tree.clone());
        self.with(|domain, cx| {
            domain.share_files(tree);
            domain.settle(cx);
        });
    }
    fn effects(&mut self) -> &mut Vec<Effect> {
        &mut self.effects
    }
    fn disks(&self) -> &[Box<dyn BlockBackend>] {
        &self.disks
    }
    fn visits(&self) -> Visits {
        let c = &self.domain.counters;
        Visits { ports: c.ports, hypercalls: c.hypercalls.iter().sum(), interrupts: c.upcalls, ..self.visits }
    }
    fn reservation(&self) -> Option<Reservation> {
        Some(self.domain.reservation())
    }
    fn counts(&self) -> Vec<Count> {
        let mut all = self.domain.counts();
        if self.options.hvm {
            // What else its CPU has no answer for.
            let c = &self.domain.counters;
            let more = [
                ("port access", c.ports),
                ("local APIC access", self.visits.mmio),
                ("APIC or Xen MSR", self.visits.msrs),
            ];
            let more = more.map(|(name, n)| Count { of: Counted::Exit, name, n });
            all.extend(more.into_iter().filter(|count| count.n > 0));
        }
        all
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &(self.clock.now(), self.clock.retired(), self.random));
        self.domain.state_bytes(out);
        self.disks.iter().for_each(|disk| disk.state_bytes(out));
    }
    fn table(&self) -> String {
        format!("{:?}\n", self.frames)
    }
}

impl Bus for Xen {
    fn sync(&mut self, retired: u64) {
        self.clock.sync(retired);
        if self.clock.now() >= self.nearest {
            self.with(|domain, cx| domain.advance(cx));
        }
    }
    fn allowance(&mut self) -> u64 {
        self.run_until.saturating_sub(self.clock.retired())
    }
    fn port_read(&mut self, port: u16, size: Size) -> u32 {
        self.domain.hvm_port_read(port, size) as u32
    }
    fn port_write(&mut self, port: u16, size: Size, value: u32) {
        self.with(|domain, cx| domain.hvm_port_write(cx, port, size, value.into()));
    }
    fn mmio_read(&mut self, at: u64, size: Size) -> u64 {
        self.visits.mmio += 1;
        let mut data = [0xff; 8];
        let known = self.with(|domain, cx| domain.mmio(cx, at, &mut data[..size.bytes() as usize], false));
        self.visits.unclaimed += u64::from(!known);
        size.zx(u64::from_le_bytes(data))
    }
    fn mmio_write(&mut self, at: u64, size: Size, value: u64) {
        self.visits.mmio += 1;
        let mut data = value.to_le_bytes();
        let known = self.with(|domain, cx| domain.mmio(cx, at, &mut data[..size.bytes() as usize], true));
        self.visits.unclaimed += u64::from(!known);
    }
    fn preempts(&self, halted: bool) -> bool {
        self.domain.wants_switch(halted)
    }
    fn interrupt_pending(&self) -> bool {
        self.domain.wants_interrupt()
    }
    fn acknowledge(&mut self) -> Option<u8> {
        self.with(|domain, cx| domain.acknowledge(cx))
    }
    fn nmi_pending(&self) -> bool {
        self.domain.hvm_nmi()
    }
    fn take_nmi(&mut self) -> bool {
        self.domain.take_hvm_nmi()
    }
    fn msr_read(&mut self, msr: u32) -> Option<u64> {
        self.visits.msrs += 1;
        self.with(|domain, cx| domain.hvm_msr_read(cx, msr))
    }
    fn msr_write(&mut self, msr: u32, value: u64) -> bool {
        self.visits.msrs += 1;
        self.with(|domain, cx| domain.hvm_msr_write(cx, msr, value))
    }
    fn cr8_read(&mut self) -> u8 {
        self.domain.cr8().unwrap_or(0)
    }
    fn cr8_write(&mut self, value: u8) {
        self.with(|domain, cx| domain.set_cr8(cx, value));
    }
    fn tsc(&mut self) -> u64 {
        self.clock.now().nanos()
    }
    fn random(&mut self) -> u64 {
        super::board::next_random(&mut self.random)
    }
    fn hypervisor_leaf(&mut self, leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
        self.domain.leaf(leaf, subleaf)
    }
    fn trap(&mut self, cpu: &mut Cpu, trap: Trap) -> Done {
        let until = self.run_until;
        let r = self.with_domain(|domain, cx| domain.trap(cx, cpu, trap));
        if !self.domain.has_crossed() || self.stop.is_some() {
            self.plan();
        }
        if self.run_until < until {
            // The CPU has to come back for a nearer deadline.
            cpu.events |= event::CHECK;
        }
        r
    }
}
