//! Into the kernel of a PV guest and out of it: bounce frames, event upcalls, system calls, the iret hypercall
//! (Xen: xen/arch/x86/x86_64/entry.S, pv/traps.c, pv/iret.c).

use super::abi::{Answer, Errno, rax, sel};
use super::domain::{Cx, Domain};
use super::guest;
use super::hypercall::number;
use super::vcpu::info;
use tabvisor_core::cpu::exception::Source;
use tabvisor_core::cpu::{Cpu, Fault, Shadow, Vector, fault, reg};
use tabvisor_core::cpu::{Done, Stop};
use tabvisor_core::flags;
use tabvisor_core::mem::PAGE_SHIFT;

/// Where a bounce leads.
#[derive(Clone, Copy, Debug)]
pub struct Handler {
    /// Its address.
    pub address: u64,
    /// Are events masked when it begins?
    pub mask: bool,
    /// What the frame has as error code.
    pub code: Option<u16>,
}

impl Domain {
    /// Changes to the kernel or to its users.
    pub(super) fn toggle(&mut self, cpu: &mut Cpu) {
        let pv = &self.vcpu().pv;
        let table = if cpu.guest_kernel { pv.user_table } else { pv.guest_table };
        cpu.toggle_guest_kernel(table << PAGE_SHIFT);
    }

    /// Makes the frame of an interruption at `rip` on the kernel's stack and goes to its handler
    /// (`create_bounce_frame`). A guest whose frame cannot be written crashes.
    pub(super) fn bounce(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, h: Handler, rip: u64) {
        if h.address == 0 {
            return self.crash(cx, cpu, &format!("nobody handles what happened at {rip:#x} ({h:x?})"));
        }
        let (old_ss, old_sp) = (cpu.seg[reg::SS as usize].sel, cpu.regs[reg::RSP as usize]);
        let mut cs = u64::from(cpu.seg[reg::CS as usize].sel);
        let sp = if cpu.guest_kernel {
            // How a kernel tells that it interrupted itself.
            cs &= !3;
            old_sp
        } else {
            self.toggle(cpu);
            self.vcpu().pv.kernel_sp
        };
        let masked = self.vcpu().upcall_mask(&self.ram);
        let interrupts = if masked { 0 } else { flags::IF };
        let rflags = cpu.rflags_image();
        let shown = rflags & !(flags::IF | flags::IOPL | flags::RF) | interrupts | self.shown_iopl();
        let mut frame = [
            cpu.regs[reg::RCX as usize],
            cpu.regs[reg::R11 as usize],
            h.code.unwrap_or(0).into(),
            rip,
            cs | u64::from(masked) << 32,
            shown,
            old_sp,
            old_ss.into(),
        ];
        let frame = if h.code.is_some() {
            &frame[..]
        } else {
            // The two words below the error code move up over it.
            (frame[1], frame[2]) = (frame[0], frame[1]);
            &frame[1..]
        };
        let sp = (sp & !15).wrapping_sub(8 * frame.len() as u64);
        if guest::put_words(cpu, sp, frame).is_err() {
            return self.crash(cx, cpu, &format!("no stack at {sp:#x} for what happened at {rip:#x} ({h:x?})"));
        }
        if h.mask {
            self.vcpu().set_upcall_mask(&self.ram, true);
        }
        cpu.enter_flat(sel::CS64, sel::DS, h.address, sp);
        cpu.put_rflags(rflags & !(flags::AC | flags::VM | flags::RF | flags::NT | flags::TF));
    }

    /// IOPL as frames show it.
    fn shown_iopl(&self) -> u64 {
        if self.architectural_iopl { u64::from(self.vcpu().pv.iopl) << 12 } else { 0 }
    }

    /// Delivers an event upcall, if one is wanted.
    fn upcall(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, rip: u64) {
        self.counters.upcalls += 1;
        self.resume(cx.now, cpu);
        let pv = &self.vcpu().pv;
        if pv.nmi && !pv.in_nmi {
            let gate = pv.traps[Vector::NMI as usize];
            let pv = &mut self.vcpu_mut().pv;
            (pv.nmi, pv.in_nmi) = (false, true);
            return self.bounce(cx, cpu, Handler { address: gate.address, mask: true, code: None }, rip);
        }
        if self.vcpu().wants_upcall(&self.ram) {
            let address = self.vcpu().pv.event.address;
            self.bounce(cx, cpu, Handler { address, mask: true, code: None }, rip);
        }
    }

    /// What would go through the IDT.
    pub(super) fn interrupt(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, vector: u8, source: Source, rip: u64) -> Done {
        match source {
            Source::External => {
                self.upcall(cx, cpu, rip);
                Ok(())
            }
            Source::Software => self.software(cx, cpu, vector, rip),
            Source::Exception(code) => {
                self.exception(cx, cpu, vector, code, rip);
                Ok(())
            }
        }
    }

    /// INT n, INT3, INTO.
    fn software(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, vector: u8, rip: u64) -> Done {
        if cpu.shadow == Shadow::MovSs {
            cpu.pending_db = 0;
        }
        let gate = self.vcpu().pv.traps[usize::from(vector)];
        let refused = Err(Stop::Fault(Fault { vector: Vector::GP, code: u16::from(vector) << 3 | 2 }));
        let allowed = match vector {
            3 | 4 => true,
            0x80 => gate.address != 0,
            _ if cpu.guest_kernel => gate.dpl >= 1,
            _ => gate.dpl == 3,
        };
        if !allowed {
            return refused;
        }
        self.bounce(cx, cpu, Handler { address: gate.address, mask: gate.mask, code: None }, rip);
        Ok(())
    }

    /// An exception of the instruction at `rip`, or a trap behind the one before it.
    fn exception(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, vector: u8, code: Option<u16>, rip: u64) {
        cpu.clear_resume_flag();
        if vector != Vector::DB as u8 {
            // As above: what MOV SS has held off until after an instruction that faults.
            cpu.pending_db = 0;
        }
        let kernel = cpu.guest_kernel;
        let handled = match (vector, code) {
            (13, Some(0)) => self.emulate(cx, cpu),
            (6, _) => self.forced_cpuid(cpu, rip),
            (14, Some(code)) => {
                let at = cpu.cr2;
                self.ldt_fault(cpu, at) && {
                    cpu.rip = rip;
                    true
                } || self.page_fault(cpu, code)
            }
            _ => false,
        };
        self.counters.kinds.exception(vector, handled);
        if handled {
            return;
        }
        if vector == Vector::PF as u8 {
            let cr2 = cpu.cr2;
            let v = self.vcpu_mut();
            v.pv.cr2 = cr2;
            let at = v.info + info::CR2;
            self.ram.write(at, &cr2.to_le_bytes());
        }
        if vector == Vector::NM as u8 {
            cpu.set_task_switched(false);
        }
        let gate = self.vcpu().pv.traps[usize::from(vector)];
        if gate.address == 0 {
            let who = if kernel { "kernel" } else { "user" };
            let text =
                format!("unhandled exception {vector} (code {code:x?}, cr2 {:#x}) of its {who} at {rip:#x}", cpu.cr2);
            return self.crash(cx, cpu, &text);
        }
        self.bounce(cx, cpu, Handler { address: gate.address, mask: gate.mask, code }, rip);
        self.crossing = true;
    }

    /// SYSCALL: a hypercall of the kernel, a system call of its users.
    pub(super) fn syscall(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu) -> Done {
        if cpu.shadow == Shadow::MovSs {
            // A breakpoint that MOV SS has held off is met by the hypervisor, who takes no notice (XSA-260).
            cpu.pending_db = 0;
        }
        if cpu.guest_kernel {
            if cpu.seg[reg::CS as usize].sel != sel::CS64 || cpu.seg[reg::SS as usize].sel != sel::DS {
                let (rip, rsp) = (cpu.rip, cpu.regs[reg::RSP as usize]);
                cpu.enter_flat(sel::CS64, sel::DS, rip, rsp);
            }
            if cpu.regs[reg::RAX as usize] as u32 as usize == number::IRET {
                // Every other hypercall is this one, and it has no arguments.
                self.counters.hypercalls[number::IRET] += 1;
                cpu.regs[reg::RAX as usize] = rax(self.iret(cx, cpu));
            } else {
                self.hypercall(cx, cpu);
            }
            return Ok(());
        }
        let callback = self.vcpu().pv.syscall;
        if callback.address == 0 {
            return Err(fault(Vector::UD));
        }
        let rip = cpu.rip;
        cpu.seg[reg::CS as usize].sel = sel::CS64;
        cpu.seg[reg::SS as usize].sel = sel::DS;
        self.bounce(cx, cpu, Handler { address: callback.address, mask: callback.mask, code: None }, rip);
        cpu.clear_direction_flag();
        self.crossing = true;
        Ok(())
    }

    /// SYSENTER of a user: there is nothing to return to.
    pub(super) fn sysenter(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu) -> Done {
        let callback = self.vcpu().pv.sysenter;
        if cpu.guest_kernel || callback.address == 0 {
            return Err(Stop::Fault(Fault { vector: Vector::GP, code: 0 }));
        }
        cpu.seg[reg::CS as usize].sel = 3;
        cpu.seg[reg::SS as usize].sel = sel::DS;
        cpu.regs[reg::RSP as usize] = 0;
        self.bounce(cx, cpu, Handler { address: callback.address, mask: callback.mask, code: None }, 0);
        Ok(())
    }

    /// Hypercall 23: leaves the kernel's handler through the frame at RSP.
    pub(super) fn iret(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu) -> Answer {
        const IN_SYSCALL: u64 = 0x100;
        let sp = cpu.regs[reg::RSP as usize];
        let Ok([rax, r11, rcx, how, rip, cs, rflags, rsp, ss]) = guest::words(cpu, sp) else {
            self.crash(cx, cpu, &format!("the iret hypercall has no frame at {sp:#x}"));
            return Err(Errno::EFAULT);
        };
        let (cs, ss) = (cs as u16, ss as u16);
        if cs & 3 == 3 {
            if self.vcpu().pv.user_table == 0 {
                self.crash(cx, cpu, "the iret hypercall leads to users, who have no page tables");
                return Err(Errno::EFAULT);
            }
            self.toggle(cpu);
        }
        if self.architectural_iopl {
            self.vcpu_mut().pv.iopl = (rflags >> 12 & 3) as u8;
        }
        if how & IN_SYSCALL == 0 {
            cpu.regs[reg::RCX as usize] = rcx;
            cpu.regs[reg::R11 as usize] = r11;
        } else {
            cpu.regs[reg::RCX as usize] = rip;
            cpu.regs[reg::R11 as usize] = rflags;
        }
        self.vcpu().set_upcall_mask(&self.ram, rflags & flags::IF == 0);
        let pv = &mut self.vcpu_mut().pv;
        pv.in_nmi = false;
        cpu.regs[reg::RAX as usize] = rax;
        let rflags = Cpu::guest_rflags(rflags);
        if let Err(f) = cpu.return_to_guest((cs, rip), rflags, (ss, rsp), &mut pv.returned_to) {
            self.exception(cx, cpu, f.vector as u8, f.vector.has_code().then_some(f.code), rip);
        }
        self.crossing = true;
        Ok(cpu.regs[reg::RAX as usize])
    }
}
