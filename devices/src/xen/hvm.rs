//! What a domain with the processor's own paging, segments and interrupts has (HVM, of which PVH is the kind without
//! firmware and devices): local APICs, parameters, vectors for event upcalls (public/hvm/params.h, hvm_op.h).

use super::abi::{Answer, Errno, domid};
use super::domain::{Cx, Domain};
use super::guest;
use super::hypercall::Call;
use super::vcpu::RunState;
use crate::chipset::lapic::Lapic;
use crate::effect::ResetCause;
use crate::irq::{Delivery, IrqLines};
use crate::machine::platform::StopCause;
use serde::Serialize;
use tabvisor_core::cpu::{Cpu, Shadow, context::Context, cr0, event, reg, segment::Segment};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE};
use tabvisor_core::size::Size;
use tabvisor_core::time::VmTime;

/// Parameters (`HVM_PARAM_*`).
pub mod param {
    /// How events are delivered where there is no vector of each vCPU.
    pub const CALLBACK_IRQ: usize = 0;
    /// Frame of xenstore's ring.
    pub const STORE_PFN: usize = 1;
    /// Its event channel.
    pub const STORE_EVTCHN: usize = 2;
    /// Frame of the console's ring.
    pub const CONSOLE_PFN: usize = 17;
    /// Its event channel.
    pub const CONSOLE_EVTCHN: usize = 18;
    /// How many there are.
    pub const COUNT: usize = 39;
}

/// `XENFEAT_*`: writable_page_tables, auto_translated_physmap, hvm_callback_vector, hvm_safe_pvclock,
/// memory_op_vnode_supported, not_direct_mapped.
pub const FEATURES: u32 = 1 | 1 << 2 | 1 << 8 | 1 << 9 | 1 << 13 | 1 << 16;

/// The register page of the local APICs.
const LAPIC_PAGE: u64 = 0xfee0_0000;
/// The ACPI registers that the tables name (`boot/layout.rs`): control is what a guest switches itself off with.
const PM1_CNT: u16 = crate::boot::layout::PM1_CNT;
const SLP_EN: u64 = 1 << 13;
const SCI_EN: u64 = 1;

/// State of an HVM domain.
#[derive(Serialize)]
pub struct Hvm {
    /// One of each vCPU.
    #[serde(skip)]
    pub lapics: Vec<Lapic>,
    /// By number.
    pub params: Vec<u64>,
    /// Of each vCPU; 0: none.
    pub upcall_vectors: Vec<u8>,
}

impl Hvm {
    /// For so many vCPUs.
    pub fn new(vcpus: u32) -> Self {
        Self {
            lapics: (0..vcpus).map(|id| Lapic::of_processor(id as u8)).collect(),
            params: vec![0; param::COUNT],
            upcall_vectors: vec![0; vcpus as usize],
        }
    }
    /// The vector that CALLBACK_IRQ asks for.
    fn callback_vector(&self) -> Option<u8> {
        let v = self.params[param::CALLBACK_IRQ];
        (v >> 56 == 2).then_some(v as u8)
    }
}

impl Domain {
    /// VMCALL, VMMCALL.
    pub(super) fn vmcall(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu) {
        if cpu.cpl != 0 {
            cpu.regs[reg::RAX as usize] = super::abi::rax(Err(Errno::EPERM));
            return;
        }
        self.hypercall(cx, cpu);
    }

    /// A vCPU's `evtchn_upcall_pending` has become 1.
    pub(super) fn assert_upcall(&mut self, vcpu: u32) {
        let Some(hvm) = &mut self.hvm else { return };
        let vector = hvm.upcall_vectors.get(vcpu as usize).copied().unwrap_or(0);
        if vector >= 0x10 {
            hvm.lapics[vcpu as usize].request(vector);
        }
    }

    /// Does an interrupt wait for this vCPU?
    pub(super) fn hvm_pending(&self, n: usize) -> bool {
        let Some(hvm) = &self.hvm else { return false };
        hvm.lapics[n].pending() || self.hvm_callback(n).is_some()
    }
    /// The vector of CALLBACK_IRQ, if it is to be delivered now.
    fn hvm_callback(&self, n: usize) -> Option<u8> {
        let hvm = self.hvm.as_ref()?;
        let vector = hvm.callback_vector().filter(|_| hvm.upcall_vectors[n] == 0)?;
        self.vcpus[n].wants_upcall(&self.ram).then_some(vector)
    }
    /// Does an NMI wait?
    pub fn hvm_nmi(&self) -> bool {
        self.suspended.is_none() && self.hvm.as_ref().is_some_and(|h| h.lapics[self.current].nmi())
    }
    /// Takes it.
    pub fn take_hvm_nmi(&mut self) -> bool {
        let n = self.current;
        self.hvm.as_mut().is_some_and(|h| h.lapics[n].take_nmi())
    }
    /// The interrupt acknowledge cycle.
    pub fn acknowledge(&mut self, cx: &mut Cx<'_>) -> Option<u8> {
        // Those of a PV guest are counted where their frames are made.
        self.counters.upcalls += u64::from(self.hvm.is_some());
        let n = self.current;
        let callback = self.hvm_callback(n);
        let vector = match &mut self.hvm {
            // The hypervisor knows what it is about when the CPU comes to deliver it.
            None => self.interrupt.then_some(0),
            Some(_) if callback.is_some() => callback,
            Some(hvm) => hvm.lapics[n].acknowledge(),
        };
        if self.hvm.is_some() {
            self.vcpus[n].account(cx.now, RunState::Running);
            self.settle(cx);
        }
        vector
    }

    /// The local APIC's registers.
    pub fn mmio(&mut self, cx: &mut Cx<'_>, at: u64, data: &mut [u8], write: bool) -> bool {
        let n = self.current;
        let Some(hvm) = &mut self.hvm else { return false };
        let lapic = &mut hvm.lapics[n];
        let Some(offset) = lapic.page().and_then(|page| at.checked_sub(page)).filter(|o| *o < PAGE_SIZE) else {
            return false;
        };
        let mut lines = IrqLines::default();
        let mut device = crate::device::Cx { now: cx.now, irq: &mut lines, ram: &self.ram, out: cx.out };
        use crate::device::Device;
        if write {
            lapic.write(&mut device, offset, data);
        } else {
            lapic.read(&mut device, offset, data);
        }
        self.settle(cx);
        true
    }

    /// An MSR: the APIC's, or the one that a hypercall page is asked for with.
    pub fn hvm_msr_read(&mut self, cx: &mut Cx<'_>, msr: u32) -> Option<u64> {
        let n = self.current;
        self.hvm.as_mut()?.lapics[n].msr_read(cx.now, msr)
    }
    /// Writes it.
    pub fn hvm_msr_write(&mut self, cx: &mut Cx<'_>, msr: u32, value: u64) -> bool {
        const HYPERCALL_PAGE: u32 = 0x4000_0000;
        let n = self.current;
        let Some(hvm) = &mut self.hvm else { return false };
        if msr == HYPERCALL_PAGE {
            let frame = value >> PAGE_SHIFT;
            let ok = value & 0xfff == 0 && frame < self.frames.guest;
            if ok {
                write_hypercall_page(&self.ram, frame << PAGE_SHIFT);
            }
            return ok;
        }
        let known = hvm.lapics[n].msr_write(cx.now, msr, value);
        self.settle(cx);
        known
    }

    /// The task priority of the running vCPU, as CR8 shows it.
    pub fn cr8(&self) -> Option<u8> {
        self.hvm.as_ref().map(|h| h.lapics[self.current].cr8())
    }
    /// Sets it.
    pub fn set_cr8(&mut self, cx: &mut Cx<'_>, value: u8) {
        let n = self.current;
        if let Some(hvm) = &mut self.hvm {
            hvm.lapics[n].set_cr8(value);
        }
        self.settle(cx);
    }

    /// A port of a domain without devices but for what ACPI names.
    pub fn hvm_port_read(&mut self, port: u16, size: Size) -> u64 {
        self.counters.ports += 1;
        match (port, size) {
            (0xcf8, Size::B4) => self.config_address.into(),
            (PM1_CNT, _) => size.zx(SCI_EN),
            (crate::boot::layout::PM1_EVT..PM1_CNT, _) => 0,
            _ => size.mask(),
        }
    }
    /// Writes it.
    pub fn hvm_port_write(&mut self, cx: &mut Cx<'_>, port: u16, size: Size, value: u64) {
        use crate::boot::layout::{RESET_PORT, RESET_VALUE};
        /// The log of the Xen platform device.
        const LOG: u16 = 0x12;
        self.counters.ports += 1;
        match (port, size) {
            (0xcf8, Size::B4) => self.config_address = value as u32,
            (RESET_PORT, Size::B1) if value & 6 == RESET_VALUE.into() => {
                cx.stop.get_or_insert(StopCause::Reset(ResetCause::Cf9));
            }
            (PM1_CNT, _) if value & SLP_EN != 0 => {
                cx.stop.get_or_insert(StopCause::Off);
            }
            (LOG, Size::B1) => crate::effect::push_debug(cx.out, value as u8),
            _ => {}
        }
    }

    /// Carries interprocessor interrupts on, and timers of the APICs.
    pub(super) fn settle_hvm(&mut self, cx: &mut Cx<'_>) {
        let Some(hvm) = &mut self.hvm else { return };
        let mut start = Vec::new();
        for from in 0..hvm.lapics.len() {
            for ipi in hvm.lapics[from].take_sent() {
                for to in (0..hvm.lapics.len()).filter(|&to| to != from) {
                    if !hvm.lapics[to].is_addressed(&ipi) {
                        continue;
                    }
                    match ipi.message.mode {
                        Delivery::Init | Delivery::StartUp => start.push((to, ipi.message)),
                        mode => drop(hvm.lapics[to].deliver(mode, ipi.message.vector)),
                    }
                }
            }
        }
        for (to, message) in start {
            self.start_processor(cx, to, message.mode, message.vector);
        }
    }

    /// INIT and start-up IPIs (SDM 3A 9.4.4).
    fn start_processor(&mut self, cx: &mut Cx<'_>, n: usize, mode: Delivery, vector: u8) {
        let Some(hvm) = &mut self.hvm else { return };
        let v = &mut self.vcpus[n];
        if mode == Delivery::Init {
            hvm.lapics[n].init();
            v.initialised = true;
            v.account(cx.now, RunState::Offline);
        } else if v.state == RunState::Offline && v.initialised {
            v.start_at = Some(vector);
            v.account(cx.now, RunState::Runnable);
            // INIT has cleared what the APIC was asked for before, but not that it was.
            if v.upcall_pending(&self.ram) {
                self.assert_upcall(n as u32);
            }
        }
    }

    /// Timers of the APICs.
    pub(super) fn advance_lapics(&mut self, now: VmTime) {
        for lapic in self.hvm.iter_mut().flat_map(|h| &mut h.lapics) {
            lapic.advance_timer(now);
        }
    }
    /// When the first of them is due.
    pub(super) fn lapic_deadline(&self) -> VmTime {
        let all = self.hvm.iter().flat_map(|h| &h.lapics);
        all.filter_map(crate::device::Device::deadline).min().unwrap_or(VmTime::NEVER)
    }

    /// Hypercall 34.
    pub(super) fn hvm_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, ..] = call.args;
        if self.hvm.is_none() {
            return Err(Errno::EINVAL);
        }
        match cmd as u32 {
            0 | 1 => {
                let a = guest::get::<16>(call.cpu, arg)?;
                if !matches!(a.u16(0), domid::SELF | domid::GUEST) {
                    return Err(Errno::ESRCH);
                }
                self.parameter(call, cmd == 0, a.u32(4) as usize, a.u64(8))
            }
            2 | 3 => Err(Errno::EPERM),
            9 => Err(Errno::EINVAL),
            15 => {
                // get_mem_type: HVMMEM_ram_rw.
                guest::put_u16(call.cpu, arg.wrapping_add(2), 0)?;
                Ok(0)
            }
            23 => {
                let a = guest::get::<8>(call.cpu, arg)?;
                let (vcpu, vector) = (a.u32(0) as usize, a.u8(4));
                let hvm = self.hvm.as_mut().ok_or(Errno::EINVAL)?;
                let slot = hvm.upcall_vectors.get_mut(vcpu).ok_or(Errno::ENOENT)?;
                if vector < 0x10 {
                    return Err(Errno::EINVAL);
                }
                *slot = vector;
                if self.vcpus[vcpu].upcall_pending(&self.ram) {
                    self.assert_upcall(vcpu as u32);
                }
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn parameter(&mut self, call: &mut Call<'_, '_>, set: bool, n: usize, value: u64) -> Answer {
        let hvm = self.hvm.as_mut().ok_or(Errno::EINVAL)?;
        let slot = hvm.params.get_mut(n).ok_or(Errno::EINVAL)?;
        if !set {
            let v = *slot;
            guest::put_u64(call.cpu, call.args[1].wrapping_add(8), v)?;
            return Ok(0);
        }
        match n {
            param::CALLBACK_IRQ => *slot = value,
            // ACPI state, VM86 TSS: kept for nobody.
            14 | 15 | 16 | 37 => *slot = value,
            _ => return Err(Errno::EPERM),
        }
        Ok(0)
    }

    /// A vCPU that a start-up IPI has named begins in real mode.
    pub(super) fn begin_real_mode(&mut self, cpu: &mut Cpu, vector: u8) {
        let mut c = fresh(cpu);
        let (sel, base) = (u16::from(vector) << 8, u64::from(vector) << 12);
        c.seg[usize::from(reg::CS)] = Segment { sel, base, ..Segment::real(0) };
        cpu.set_context(&c);
        cpu.events |= event::CHECK;
    }
}

/// A processor after INIT, with CS:IP = 0:0.
pub(super) fn fresh(cpu: &mut Cpu) -> Context {
    let mut c = cpu.context();
    c.regs = [0; 16];
    c.regs[usize::from(reg::RDX)] = cpu.model.signature().into();
    (c.rip, c.rflags, c.cpl, c.halted) = (0, 2, 0, false);
    c.cr = [cr0::ET, 0, 0, 0];
    (c.efer, c.xcr0, c.pdpte) = (0, 1, [0; 4]);
    c.seg = [Segment::real(0); 8];
    c.seg[6] = Segment { attr: 0x82, ..Segment::real(0) };
    c.seg[7] = Segment { attr: 0x8b, ..Segment::real(0) };
    c.tables = Default::default();
    c.tables.iter_mut().for_each(|t| t.limit = 0xffff);
    c.dr = [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400];
    c.fpu = Default::default();
    (c.xmm, c.mxcsr) = ([[0; 2]; 16], 0x1f80);
    c.msr.kernel_gs_base = 0;
    (c.nmi_blocked, c.shadow, c.pending_db) = (false, Shadow::None, 0);
    c
}

/// Fills an HVM hypercall page: VMCALL, as the vendor of our processors is Intel.
fn write_hypercall_page(ram: &GuestRam, at: u64) {
    let mut page = [0xcc; PAGE_SIZE as usize];
    for (n, slot) in (0u32..).zip(page.chunks_exact_mut(32)) {
        let [a, b, c, d] = n.to_le_bytes();
        let code: &[u8] = match n as usize {
            super::hypercall::number::IRET => &[0x0f, 0x0b],
            _ => &[0xb8, a, b, c, d, 0x0f, 0x01, 0xc1, 0xc3],
        };
        slot[..code.len()].copy_from_slice(code);
    }
    ram.write(at, &page);
}

/// So that the page of the APICs is where the tables say.
const _: () = assert!(LAPIC_PAGE == crate::boot::layout::LAPIC_BASE);
