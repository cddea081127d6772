//! A board: devices, interrupt controllers, clock; and the [`Bus`] that a CPU sees.
//!
//! Every access to a device goes through [`Board::with`], which afterwards carries interrupt
//! lines to the controllers, notes the device's new deadline and looks for requests to stop.

use super::clock::{Clock, Rate};
use super::platform::{StopCause, Visits};
use crate::bus::{AddressMap, Claim, Handle, MapError, Piece, Widths};
use crate::chipset::fpu_error::FpuError;
use crate::chipset::ioapic::IoApic;
use crate::chipset::lapic::Lapic;
use crate::chipset::pic8259::Pic8259;
use crate::device::{Cx, Device, le, put_le, put_state};
use crate::effect::{Effect, Input};
use crate::irq::{Changes, IrqLine, IrqLines};
use crate::pci::config::Region;
use crate::pci::mechanism::{Bdf, ConfigAddress};
use core::any::Any;
use core::ops::RangeInclusive;
use tabvisor_core::bus::Bus;
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, page};
use tabvisor_core::size::Size;
use tabvisor_core::time::VmTime;

/// The 8259 pair; the controllers are wired differently from other devices, so they have places
/// of their own.
pub const PIC: Handle = Handle(u16::MAX);
/// The I/O APIC.
pub const IOAPIC: Handle = Handle(u16::MAX - 1);
/// The boot processor's local APIC.
pub const LAPIC: Handle = Handle(u16::MAX - 2);
/// PCI configuration mechanism #1; offset 0 is CF8h.
pub const PCI_CONFIG: Handle = Handle(u16::MAX - 3);

/// The 8254's line: pin 2 of the I/O APIC, input 0 of the 8259.
pub const PIT_LINE: u8 = 2;
const LAPIC_PAGE: u64 = 0x1000;
/// The legacy video memory hole, which is never RAM.
const VIDEO_HOLE: RangeInclusive<u64> = 0xa_0000..=0xb_ffff;

struct Slot {
    name: &'static str,
    device: Box<dyn Device>,
    deadline: VmTime,
}

/// The board.
pub struct Board {
    ram: GuestRam,
    clock: Clock,
    slots: Vec<Slot>,
    ports: AddressMap,
    memory: AddressMap,
    config_address: ConfigAddress,
    functions: Vec<(Bdf, Handle)>,
    irq: IrqLines,
    pic: Pic8259,
    ioapic: IoApic,
    lapic: Lapic,
    lapic_deadline: VmTime,
    /// Where the RTC is, whose index register masks NMI.
    nmi_mask: Option<Handle>,
    /// Where FERR# leads.
    fpu_error: Option<Handle>,
    effects: Vec<Effect>,
    stop: Option<StopCause>,
    /// The nearest deadline, and the instruction count of it.
    nearest: VmTime,
    run_until: u64,
    /// Is INTR high?
    intr: bool,
    random: u64,
    visits: Visits,
}

impl Board {
    /// An empty board: interrupt controllers and PCI mechanism, no other device. `seed` is the
    /// source of the guest's random numbers.
    pub fn new(ram: &GuestRam, rate: Rate, seed: u64) -> Self {
        for p in VIDEO_HOLE.start() >> PAGE_SHIFT..=VIDEO_HOLE.end() >> PAGE_SHIFT {
            ram.change_flags(p, page::DEVICE, 0);
        }
        Self {
            ram: ram.clone(),
            clock: Clock::new(rate),
            slots: Vec::new(),
            ports: AddressMap::default(),
            memory: AddressMap::default(),
            config_address: ConfigAddress::default(),
            functions: Vec::new(),
            irq: IrqLines::default(),
            pic: Pic8259::default(),
            ioapic: IoApic::default(),
            lapic: Lapic::default(),
            lapic_deadline: VmTime::NEVER,
            nmi_mask: None,
            fpu_error: None,
            effects: Vec::new(),
            stop: None,
            nearest: VmTime::NEVER,
            run_until: u64::MAX,
            intr: false,
            random: seed,
            visits: Visits::default(),
        }
    }

    /// Connects to an interrupt line.
    pub fn line(&mut self, line: u8) -> IrqLine {
        self.irq.connect(line).expect("the parts list uses lines that exist")
    }
    /// Puts a device on the board.
    pub fn add(&mut self, name: &'static str, device: impl Device) -> Handle {
        let handle = Handle(self.slots.len() as u16);
        self.slots.push(Slot { name, device: Box::new(device), deadline: VmTime::NEVER });
        handle
    }
    /// Lets a device answer ports.
    ///
    /// # Errors
    /// [`MapError`] if another one already does.
    pub fn claim_ports(
        &mut self,
        range: RangeInclusive<u16>,
        widths: Widths,
        device: Handle,
        offset: u64,
    ) -> Result<(), MapError> {
        self.ports.claim(u64::from(*range.start())..=u64::from(*range.end()), widths, device, offset)
    }
    /// Lets a device answer physical addresses.
    ///
    /// # Errors
    /// [`MapError`] if another one already does.
    pub fn claim_memory(
        &mut self,
        range: RangeInclusive<u64>,
        widths: Widths,
        device: Handle,
        offset: u64,
    ) -> Result<(), MapError> {
        self.memory.claim(range, widths, device, offset)
    }
    /// Puts a device's PCI function at `at` and decodes what it claims.
    pub fn add_function(&mut self, at: Bdf, device: Handle) {
        self.functions.push((at, device));
        self.place_regions(device);
    }
    /// Names the device whose index register masks NMI.
    pub fn set_nmi_mask(&mut self, rtc: Handle) {
        self.nmi_mask = Some(rtc);
    }
    /// Names the device that FERR# leads to.
    pub fn set_fpu_error(&mut self, logic: Handle) {
        self.fpu_error = Some(logic);
    }

    /// The machine's RAM.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }
    /// Guest time.
    pub fn now(&self) -> VmTime {
        self.clock.now()
    }
    /// When a device next wants to be called.
    pub fn nearest(&self) -> VmTime {
        self.nearest
    }
    /// The instruction count at which the CPU has to come back; zero when the machine is to stop.
    pub fn run_until(&self) -> u64 {
        self.run_until
    }
    /// Instruction count at which guest time is `time`.
    pub fn retired_at(&self, time: VmTime) -> u64 {
        self.clock.retired_at(time)
    }
    /// Figures for people.
    pub fn visits(&self) -> Visits {
        self.visits
    }
    /// Requests to the outside world that have gathered.
    pub fn effects(&mut self) -> &mut Vec<Effect> {
        &mut self.effects
    }
    /// Why the machine has to stop, once.
    pub fn take_stop(&mut self) -> Option<StopCause> {
        let stop = self.stop.take();
        self.plan();
        stop
    }
    /// The local APIC, for the state that firmware leaves behind.
    pub fn lapic(&mut self) -> &mut Lapic {
        &mut self.lapic
    }
    /// A device by type.
    pub fn device<T: Device>(&mut self, at: Handle) -> Option<&mut T> {
        let device: &mut dyn Any = self.slots.get_mut(usize::from(at.0))?.device.as_mut();
        device.downcast_mut()
    }
    /// The board as a table: what answers where.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (kind, map) in [("port", &self.ports), ("mem", &self.memory)] {
            for c in map.claims() {
                let name = self.name(c.device);
                text += &format!("{kind:4} {:08x}-{:08x} {name}\n", c.first, c.last);
            }
        }
        text
    }
    fn name(&self, h: Handle) -> &'static str {
        match h {
            PIC => "pic8259",
            IOAPIC => "ioapic",
            LAPIC => "lapic",
            PCI_CONFIG => "pci configuration",
            Handle(n) => self.slots.get(usize::from(n)).map_or("?", |s| s.name),
        }
    }

    /// Lets guest time jump, or run at another rate; due devices catch up.
    pub fn adjust_clock<R>(&mut self, f: impl FnOnce(&mut Clock) -> R) -> R {
        let r = f(&mut self.clock);
        self.advance_due();
        self.plan();
        r
    }

    /// Hands news to all devices.
    pub fn input(&mut self, input: &Input) {
        for n in 0..self.slots.len() {
            self.with(Handle(n as u16), |d, cx| d.input(cx, input));
        }
    }

    /// The reset line.
    pub fn reset(&mut self) {
        self.config_address = ConfigAddress::default();
        for h in [LAPIC, IOAPIC, PIC] {
            self.with(h, |d, cx| d.reset(cx));
        }
        for n in 0..self.slots.len() {
            self.with(Handle(n as u16), |d, cx| d.reset(cx));
        }
        for i in 0..self.functions.len() {
            self.place_regions(self.functions[i].1);
        }
        self.stop = None;
        self.settle();
        self.plan();
    }

    /// Appends the state of everything on the board.
    pub fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &(self.clock.now(), self.clock.retired(), self.random));
        put_state(out, &self.config_address);
        self.pic.state_bytes(out);
        self.ioapic.state_bytes(out);
        self.lapic.state_bytes(out);
        for s in &self.slots {
            s.device.state_bytes(out);
        }
    }

    /// Lets `f` work on a device, and then everybody notice what it did.
    fn with<R>(&mut self, at: Handle, f: impl FnOnce(&mut dyn Device, &mut Cx<'_>) -> R) -> Option<R> {
        let mut cx = Cx { now: self.clock.now(), irq: &mut self.irq, ram: &self.ram, out: &mut self.effects };
        let effects = cx.out.len();
        let r = match at {
            PIC => f(&mut self.pic, &mut cx),
            IOAPIC => f(&mut self.ioapic, &mut cx),
            LAPIC => {
                let r = f(&mut self.lapic, &mut cx);
                self.lapic_deadline = self.lapic.deadline().unwrap_or(VmTime::NEVER);
                r
            }
            Handle(n) => {
                let slot = self.slots.get_mut(usize::from(n))?;
                let r = f(slot.device.as_mut(), &mut cx);
                slot.deadline = slot.device.deadline().unwrap_or(VmTime::NEVER);
                r
            }
        };
        // Requests to stop reach the runner as exits, not as effects.
        let stop = &mut self.stop;
        let mut at = effects;
        while let Some(effect) = self.effects.get(at) {
            let cause = match effect {
                Effect::PowerOff => StopCause::Off,
                Effect::Reset(cause) => StopCause::Reset(*cause),
                _ => {
                    at += 1;
                    continue;
                }
            };
            stop.get_or_insert(cause);
            self.effects.remove(at);
        }
        self.settle();
        self.plan();
        Some(r)
    }

    /// Carries lines and messages to where they lead.
    fn settle(&mut self) {
        if let Some(c) = self.irq.take_changes() {
            self.pic.set_lines(Changes { level: isa(c.level), rose: isa(c.rose) });
            self.ioapic.set_lines(c);
        }
        for vector in self.lapic.take_ended() {
            self.ioapic.end_of_interrupt(vector);
        }
        let lapic = &mut self.lapic;
        self.ioapic.service(|message| lapic.accept(message));
        self.lapic.set_lint(0, self.pic.int());
        self.intr = self.ext_int() || self.lapic.pending();
    }
    /// Does the 8259's request reach the processor, through LINT0 or the I/O APIC's pin 0?
    fn ext_int(&self) -> bool {
        self.pic.int() && (self.lapic.passes_ext_int() || self.ioapic.ext_int(0))
    }

    /// Works out when the CPU has to come back.
    fn plan(&mut self) {
        let nearest = self.slots.iter().map(|s| s.deadline).min().unwrap_or(VmTime::NEVER).min(self.lapic_deadline);
        self.nearest = nearest;
        self.run_until = if self.stop.is_some() { 0 } else { self.clock.retired_at(nearest) };
    }

    fn advance_due(&mut self) {
        let now = self.clock.now();
        if self.lapic_deadline <= now {
            self.with(LAPIC, |d, cx| d.advance(cx));
        }
        for n in 0..self.slots.len() {
            if self.slots[n].deadline <= now {
                self.with(Handle(n as u16), |d, cx| d.advance(cx));
            }
        }
    }

    fn place_regions(&mut self, at: Handle) {
        let regions = self.with(at, |d, _| d.pci().map(|p| p.regions())).flatten().unwrap_or_default();
        let claim = |r: &Region| Claim { first: r.first, last: r.last, widths: r.widths, device: at, offset: r.offset };
        self.ports.place(at, regions.iter().filter(|r| r.io).map(claim));
        self.memory.place(at, regions.iter().filter(|r| !r.io).map(claim));
    }

    /// CF8h (offset 0, whole double words) and CFCh (offset 4).
    fn config_read(&mut self, at: u64, data: &mut [u8]) {
        if at < 4 {
            put_le(data, self.config_address.get().into());
            return;
        }
        data.fill(0xff);
        if let Some((handle, register)) = self.config_target(at) {
            if let Some(function) = self.slots.get_mut(usize::from(handle.0)).and_then(|s| s.device.pci()) {
                function.config().read(register, data);
            }
        }
    }
    fn config_write(&mut self, at: u64, data: &[u8]) {
        if at < 4 {
            self.config_address.set(le(data) as u32);
        } else if let Some((handle, register)) = self.config_target(at) {
            if let Some(function) = self.slots.get_mut(usize::from(handle.0)).and_then(|s| s.device.pci()) {
                function.config().write(register, data);
            }
            self.place_regions(handle);
        }
    }
    fn config_target(&self, at: u64) -> Option<(Handle, u8)> {
        let (bdf, register) = self.config_address.target(at as u8)?;
        let (_, handle) = self.functions.iter().find(|f| f.0 == bdf)?;
        Some((*handle, register))
    }

    fn read_piece(&mut self, p: Piece, data: &mut [u8]) {
        let data = &mut data[usize::from(p.from)..][..usize::from(p.bytes)];
        if p.device == PCI_CONFIG {
            self.config_read(p.at, data);
        } else {
            self.with(p.device, |d, cx| d.read(cx, p.at, data));
        }
    }
    fn write_piece(&mut self, p: Piece, data: &[u8]) {
        let data = &data[usize::from(p.from)..][..usize::from(p.bytes)];
        if p.device == PCI_CONFIG {
            self.config_write(p.at, data);
        } else {
            self.with(p.device, |d, cx| d.write(cx, p.at, data));
        }
    }

    /// The pieces of an access, at most one per byte.
    fn route(&mut self, ports: bool, at: u64, size: Size) -> ([Option<Piece>; 8], usize) {
        let (mut pieces, mut n) = ([None; 8], 0);
        let mut put = |p: Piece| {
            pieces[n] = Some(p);
            n += 1;
        };
        match self.lapic.page() {
            Some(base) if !ports && at.wrapping_sub(base) < LAPIC_PAGE => {
                // The register page hides whatever lies under it; it takes double words.
                for from in (0..size.bytes()).step_by(4) {
                    let bytes = size.bytes().min(4) as u8;
                    put(Piece { device: LAPIC, at: at - base + from, from: from as u8, bytes });
                }
            }
            _ => {
                let map = if ports { &self.ports } else { &self.memory };
                map.route(at, size.bytes() as usize, &mut put);
            }
        }
        self.visits.unclaimed += u64::from(n == 0);
        (pieces, n)
    }
    fn read_at(&mut self, ports: bool, at: u64, size: Size) -> u64 {
        let mut data = [0xff; 8];
        let (pieces, n) = self.route(ports, at, size);
        for p in pieces[..n].iter().flatten() {
            self.read_piece(*p, &mut data);
        }
        size.zx(u64::from_le_bytes(data))
    }
    fn write_at(&mut self, ports: bool, at: u64, size: Size, value: u64) {
        let data = value.to_le_bytes();
        let (pieces, n) = self.route(ports, at, size);
        for p in pieces[..n].iter().flatten() {
            self.write_piece(*p, &data);
        }
    }
}

/// Board lines as the 8259 pair's inputs: the timer's line goes to input 0, and input 2 is the
/// cascade.
fn isa(lines: u32) -> u32 {
    lines & 0xfffa | lines >> PIT_LINE & 1
}

impl Bus for Board {
    fn sync(&mut self, retired: u64) {
        self.clock.sync(retired);
        if self.clock.now() >= self.nearest {
            self.advance_due();
        }
    }
    fn allowance(&mut self) -> u64 {
        self.run_until.saturating_sub(self.clock.retired())
    }
    fn port_read(&mut self, port: u16, size: Size) -> u32 {
        self.visits.ports += 1;
        self.read_at(true, port.into(), size) as u32
    }
    fn port_write(&mut self, port: u16, size: Size, value: u32) {
        self.visits.ports += 1;
        self.write_at(true, port.into(), size, value.into());
    }
    fn mmio_read(&mut self, at: u64, size: Size) -> u64 {
        self.visits.mmio += 1;
        self.read_at(false, at, size)
    }
    fn mmio_write(&mut self, at: u64, size: Size, value: u64) {
        self.visits.mmio += 1;
        self.write_at(false, at, size, value);
    }
    fn interrupt_pending(&self) -> bool {
        self.intr
    }
    fn acknowledge(&mut self) -> Option<u8> {
        let vector = if self.ext_int() { Some(self.pic.acknowledge()) } else { self.lapic.acknowledge() };
        self.visits.interrupts += u64::from(vector.is_some());
        self.settle();
        vector
    }
    fn nmi_pending(&self) -> bool {
        self.lapic.nmi()
    }
    fn take_nmi(&mut self) -> bool {
        if !self.nmi_pending() {
            return false;
        }
        let rtc = self.nmi_mask;
        let masked =
            rtc.and_then(|h| self.device::<crate::chipset::rtc146818::Rtc146818>(h)).is_some_and(|r| r.nmi_masked());
        !masked && self.lapic.take_nmi()
    }
    fn fpu_error(&mut self, asserted: bool) -> bool {
        let ferr = |d: &mut dyn Device, cx: &mut Cx<'_>| {
            let logic = (d as &mut dyn Any).downcast_mut::<FpuError>()?;
            Some(logic.set_ferr(cx, asserted))
        };
        // Without the logic nothing would ever wake a processor that waits.
        self.fpu_error.and_then(|h| self.with(h, ferr)).flatten().unwrap_or(true)
    }
    fn msr_read(&mut self, msr: u32) -> Option<u64> {
        self.visits.msrs += 1;
        let now = self.clock.now();
        self.lapic.msr_read(now, msr)
    }
    fn msr_write(&mut self, msr: u32, value: u64) -> bool {
        self.visits.msrs += 1;
        let now = self.clock.now();
        let known = self.lapic.msr_write(now, msr, value);
        // The same follow-up as for a register write.
        self.with(LAPIC, |_, _| ());
        known
    }
    fn cr8_read(&mut self) -> u8 {
        self.lapic.cr8()
    }
    fn cr8_write(&mut self, value: u8) {
        self.lapic.set_cr8(value);
        self.settle();
    }
    fn tsc(&mut self) -> u64 {
        self.clock.now().nanos()
    }
    fn random(&mut self) -> u64 {
        next_random(&mut self.random)
    }
}

/// SplitMix64: a counter and a mixer, good enough for a machine whose seed is its secret.
pub fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
