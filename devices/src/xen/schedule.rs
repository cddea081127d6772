//! Several virtual CPUs on the one that there is: who runs, for how long, and what is kept of the others.

use super::domain::{Cx, Domain};
use super::guest;
use super::vcpu::RunState;
use tabvisor_core::cpu::{Cpu, event, reg};
use tabvisor_core::mem::PAGE_SHIFT;
use tabvisor_core::time::{VmDuration, VmTime};

/// How long a vCPU may run while another one could.
const SLICE: VmDuration = VmDuration::from_millis(5);

impl Domain {
    /// Could this vCPU run?
    fn is_runnable(&self, n: usize) -> bool {
        if self.suspended.is_some() {
            return false;
        }
        match self.vcpus[n].state {
            RunState::Running | RunState::Runnable => true,
            RunState::Blocked => self.is_woken(n),
            RunState::Offline => false,
        }
    }
    /// May a vCPU that waits go on?
    pub(super) fn is_woken(&self, n: usize) -> bool {
        let v = &self.vcpus[n];
        if self.suspended.is_some() {
            return false;
        }
        if self.hvm.is_some() && self.hvm_pending(n) {
            return v.state != RunState::Offline;
        }
        v.state == RunState::Blocked
            && (v.poll_over || v.polling.is_none() && (v.wants_upcall(&self.ram) || v.pv.nmi && !v.pv.in_nmi))
    }
    /// Has the running vCPU ended its poll without an interrupt that would wake it? A PV guest is woken through one that
    /// leads nowhere.
    fn is_polled_out(&self) -> bool {
        let v = self.vcpu();
        self.hvm.is_some() && v.state == RunState::Blocked && v.poll_over
    }
    /// Who is next, if it is somebody else.
    fn next_vcpu(&self) -> Option<usize> {
        let n = self.vcpus.len();
        (1..n).map(|k| (self.current + k) % n).find(|&k| self.is_runnable(k))
    }

    /// Is another vCPU to get the CPU?
    pub fn wants_switch(&self, halted: bool) -> bool {
        if halted && self.is_polled_out() {
            return true;
        }
        if self.vcpus.len() == 1 {
            return false;
        }
        let here = !halted && self.vcpu().state != RunState::Offline || self.is_woken(self.current);
        (!here || self.slice_over) && self.next_vcpu().is_some()
    }
    /// When the running vCPU's time is over, if others wait for it.
    pub(super) fn slice_end(&self) -> VmTime {
        if self.vcpus.len() > 1 && !self.slice_over && self.next_vcpu().is_some() { self.slice } else { VmTime::NEVER }
    }
    pub(super) fn advance_slice(&mut self, now: VmTime) {
        self.slice_over |= self.vcpus.len() > 1 && self.slice <= now;
    }

    /// Gives the CPU to the next vCPU.
    pub(super) fn switch(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu) {
        if self.is_polled_out() {
            return self.resume(cx.now, cpu);
        }
        (self.slice, self.slice_over) = (cx.now + SLICE, false);
        let Some(next) = self.next_vcpu() else { return };
        let context = Box::new(cpu.context());
        let v = self.vcpu_mut();
        if v.state == RunState::Running {
            v.account(cx.now, if context.halted { RunState::Blocked } else { RunState::Runnable });
        }
        v.context = Some(context);
        self.show_runstate(cx.now, cpu);
        self.current = next;
        if let Some(vector) = self.vcpu_mut().start_at.take() {
            self.begin_real_mode(cpu, vector);
        } else {
            let context = self.vcpu_mut().context.take().expect("a vCPU that does not run has a context");
            cpu.set_context(&context);
        }
        self.resume(cx.now, cpu);
    }

    /// The current vCPU runs (again).
    pub(super) fn resume(&mut self, now: VmTime, cpu: &mut Cpu) {
        let v = self.vcpu_mut();
        v.poll_over = false;
        if let Some(answer) = v.answer.take() {
            cpu.regs[usize::from(reg::RAX)] = answer;
        }
        if v.state != RunState::Running {
            v.account(now, RunState::Running);
            cpu.events = cpu.events & !event::HALTED | event::CHECK;
            self.show_runstate(now, cpu);
        }
    }

    /// Writes the current vCPU's runstate to where its guest wants it, in the kernel's address space.
    fn show_runstate(&mut self, now: VmTime, cpu: &mut Cpu) {
        let v = self.vcpu();
        let Some(at) = v.runstate_area else { return };
        let state = v.runstate(now);
        let cr3 = cpu.cr3;
        if cpu.paravirtual {
            cpu.cr3 = v.pv.guest_table << PAGE_SHIFT;
        }
        // It may be gone; that is the guest's affair.
        let _ = guest::write(cpu, at, &state);
        cpu.cr3 = cr3;
    }
}
