//! What the run loop needs of a CPU, and how tabvisor-core's fits. Tests put a scripted one in its
//! place.

use crate::boot::{Entry, entry};
use crate::device::put_state;
use tabvisor_core::bus::Bus;
use tabvisor_core::cpu::context::Context;
use tabvisor_core::cpu::segment::Segment;
use tabvisor_core::cpu::{Cpu, Msrs, Shadow, TableReg, event, reg};
use tabvisor_core::jit::{self, CodeHost};
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// A CPU on a board.
pub trait Processor {
    /// Runs about `budget` instructions at most.
    fn run(&mut self, bus: &mut dyn Bus, budget: u64) -> CpuExit;
    /// Instructions retired since the CPU was created; a reset does not set it back.
    fn retired(&self) -> u64;
    /// The RESET pin, and then the state a kernel is entered with.
    fn enter(&mut self, entry: &Entry);
    /// The RESET pin, and then whatever a hypervisor does with the CPU.
    fn enter_guest(&mut self, _begin: Box<dyn FnOnce(&mut Cpu)>) {}
    /// Appends everything the guest can tell apart, in a form that is the same on all hosts.
    fn state_bytes(&mut self, out: &mut Vec<u8>);
    /// The registers, for people.
    fn describe(&mut self) -> String;
    /// From now on hot code is compiled, if the CPU knows how.
    fn set_code_host(&mut self, _host: Box<dyn CodeHost>) {}
    /// What the compiler did, if there is one.
    fn jit_stats(&mut self) -> Option<jit::Stats> {
        None
    }
    /// The WebAssembly module of the code at a linear address, or where the CPU stands; for people.
    fn module_at(&self, _la: Option<u64>) -> Option<Vec<u8>> {
        None
    }
}

fn segment(s: &entry::Segment) -> Segment {
    Segment { base: s.base, limit: s.limit, sel: s.selector, attr: s.access }
}

impl Processor for Vcpu {
    fn run(&mut self, bus: &mut dyn Bus, budget: u64) -> CpuExit {
        Vcpu::run(self, bus, budget)
    }
    fn retired(&self) -> u64 {
        Vcpu::retired(self)
    }

    fn enter(&mut self, e: &Entry) {
        self.reset();
        let c = &mut *self.cpu;
        c.regs[..16].fill(0);
        c.regs[usize::from(reg::RSP)] = e.rsp;
        c.regs[usize::from(reg::RAX)] = e.rax;
        c.regs[usize::from(reg::RBX)] = e.rbx;
        c.regs[usize::from(reg::RSI)] = e.rsi;
        c.rip = e.rip;
        (c.cr0, c.cr3, c.cr4, c.efer) = (e.cr0, e.cr3, e.cr4, e.efer);
        c.gdtr = TableReg { base: e.gdt.base, limit: e.gdt.limit.into() };
        c.idtr = TableReg::default();
        for n in [reg::ES, reg::SS, reg::DS, reg::FS, reg::GS] {
            c.seg[usize::from(n)] = segment(&e.ds);
        }
        c.seg[usize::from(reg::CS)] = segment(&e.cs);
        c.seg[LDTR] = Segment::null(0);
        c.seg[TR] = segment(&e.tr);
        c.set_rflags_image(2);
        c.mode_changed();
        c.tlb.flush_all();
    }

    fn enter_guest(&mut self, begin: Box<dyn FnOnce(&mut Cpu)>) {
        self.reset();
        begin(&mut self.cpu);
        self.cpu.mode_changed();
        self.cpu.tlb.flush_all();
    }

    fn state_bytes(&mut self, out: &mut Vec<u8>) {
        let c = &mut *self.cpu;
        put_state(out, &(c.events & event::SHUTDOWN, c.ferr));
        put_context(out, &c.context());
    }

    fn describe(&mut self) -> String {
        describe(&mut self.cpu)
    }
    fn set_code_host(&mut self, host: Box<dyn CodeHost>) {
        Vcpu::set_code_host(self, host);
    }
    fn jit_stats(&mut self) -> Option<jit::Stats> {
        self.jit().map(|jit| jit.figures())
    }
    fn module_at(&self, la: Option<u64>) -> Option<Vec<u8>> {
        Vcpu::module_at(self, la)
    }
}

/// Places in `Cpu::seg` behind the six segment registers.
const LDTR: usize = 6;
const TR: usize = 7;

/// Appends what the software on a CPU can tell apart.
pub(crate) fn put_context(out: &mut Vec<u8>, c: &Context) {
    let Context {
        regs,
        rip,
        rflags,
        cpl,
        guest_kernel,
        halted,
        seg,
        tables,
        cr,
        efer,
        xcr0,
        pdpte,
        dr,
        msr,
        fpu,
        xmm,
        mxcsr,
        nmi_blocked,
        shadow,
        pending_db,
    } = c;
    put_state(out, &(regs, rip, rflags, cpl, guest_kernel, halted));
    put_state(out, &(cr, efer, xcr0, pdpte, dr));
    put_state(out, &(xmm, mxcsr, fpu, pending_db));
    for s in seg {
        put_state(out, &(s.sel, s.base, s.limit, s.attr));
    }
    for t in tables {
        put_state(out, &(t.base, t.limit));
    }
    let shadow: u8 = match shadow {
        Shadow::None => 0,
        Shadow::Interrupts => 1,
        Shadow::MovSs => 2,
    };
    put_state(out, &(shadow, nmi_blocked));
    put_msrs(out, msr);
}

/// Every MSR by name, so that a new one cannot be forgotten.
fn put_msrs(out: &mut Vec<u8>, msr: &Msrs) {
    let Msrs {
        star,
        lstar,
        cstar,
        fmask,
        kernel_gs_base,
        sysenter_cs,
        sysenter_esp,
        sysenter_eip,
        pat,
        tsc_adjust,
        tsc_aux,
        misc_enable,
        mtrr_def_type,
        mtrr_fix,
        mtrr_var,
        debugctl,
        spec_ctrl,
        mcg_status,
        bios_sign,
    } = msr;
    put_state(
        out,
        &(star, lstar, cstar, fmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, pat, tsc_adjust),
    );
    put_state(out, &(tsc_aux, misc_enable, mtrr_def_type, debugctl, spec_ctrl, mcg_status, bios_sign));
    put_state(out, &(mtrr_fix, mtrr_var));
}

fn describe(c: &mut Cpu) -> String {
    const NAMES: [&str; 16] =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    let flags = c.rflags_image();
    let mut text = format!("rip {:016x}  rflags {:08x}  cpl {}\n", c.rip, flags, c.cpl);
    for (row, names) in c.regs[..16].chunks(4).zip(NAMES.chunks(4)) {
        let line: Vec<String> = row.iter().zip(names).map(|(v, n)| format!("{n:3} {v:016x}")).collect();
        text += &line.join("  ");
        text.push('\n');
    }
    for (s, name) in c.seg.iter().zip(["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"]) {
        text += &format!("{name:4} {:04x} base {:016x} limit {:08x} attr {:04x}\n", s.sel, s.base, s.limit, s.attr);
    }
    let (g, i) = (c.gdtr, c.idtr);
    text += &format!("gdtr {:016x}+{:04x}  idtr {:016x}+{:04x}\n", g.base, g.limit, i.base, i.limit);
    text + &format!("cr0 {:08x}  cr2 {:016x}  cr3 {:016x}  cr4 {:08x}  efer {:04x}", c.cr0, c.cr2, c.cr3, c.cr4, c.efer)
}
