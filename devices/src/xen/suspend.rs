//! Suspending a domain (Xen: SHUTDOWN_suspend in xen/common/domain.c; docs/misc/xenstore-paths.pandoc for the request;
//! tools/libs/guest/xg_sr_restore_x86_pv.c for what a new domain has in the place of the old one).
//!
//! A guest that suspends has put its devices to rest, and its vCPUs stand still until somebody resumes it: as what it was
//! (the suspension was cancelled), or as a domain that was restored. Such a one keeps memory, page tables and vCPUs, and
//! has a new hypervisor around them: no event channels but xenstore's and the console's, no grants, an empty xenstore
//! with its devices as at first. It is not another domain here, but the guest cannot tell.
//!
//! Time goes on meanwhile, as it does for a guest that was saved on a host that stayed up.

use super::build_pv::start_info;
use super::domain::{Cx, Domain};
use super::event::Ports;
use super::grant::FIRST_FRAMES;
use super::hvm::param;
use super::vcpu::info;
use crate::effect::Effect;
use tabvisor_core::cpu::Cpu;
use tabvisor_core::mem::PAGE_SHIFT;

/// What the guest's hypercall answers if it is what it was.
const CANCELLED: u64 = 1;

impl Domain {
    /// The running vCPU has asked for it. A PV guest says where its start_info is, in which it will look for news.
    pub(super) fn suspend(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, start_info: u64) {
        self.suspended = Some(start_info);
        self.block(cx, cpu);
        cx.out.push(Effect::Suspended);
    }

    /// Ends it. Nothing happens to a guest that is not suspended.
    pub(super) fn resume_suspended(&mut self, cx: &mut Cx<'_>, cancelled: bool) {
        let Some(start_info) = self.suspended.take() else { return };
        let lost = self.hvm.is_none() && !self.types.is_data(start_info);
        if lost && !cancelled {
            cx.out
                .push(Effect::Log(format!("xen: no start_info in frame {start_info:#x}, so nothing can be restored")));
        }
        if cancelled || lost {
            self.vcpu_mut().answer = Some(CANCELLED);
        } else {
            self.begin_anew(cx, start_info);
        }
        self.vcpu_mut().poll_over = true;
        self.advance(cx);
    }

    /// What a restored domain finds.
    fn begin_anew(&mut self, cx: &mut Cx<'_>, start_info: u64) {
        self.put_back_ends_to_rest(cx);
        self.forget_grants();
        self.forget_vcpus(cx);
        self.watchdogs = [None; 2];
        self.ports = Ports::default();
        let (store_port, console_port) = self.open_rings();
        let target = self.reservation().target;
        self.clear_events();
        self.announce(target);
        self.wake_back_ends();
        if let Some(hvm) = &mut self.hvm {
            hvm.params[param::CALLBACK_IRQ] = 0;
            hvm.params[param::STORE_EVTCHN] = store_port.into();
            hvm.params[param::CONSOLE_EVTCHN] = console_port.into();
            hvm.upcall_vectors.fill(0);
            return;
        }
        let at = |field: u64| (start_info << PAGE_SHIFT) + field;
        let put = |field: u64, v: u64| self.ram.write(at(field), &v.to_le_bytes());
        put(start_info::SHARED_INFO, self.shared_info << PAGE_SHIFT);
        // The guest has put places in its own memory here, as it does not know which frames it will have.
        put(start_info::STORE_MFN, self.rings.store);
        put(start_info::CONSOLE_MFN, self.rings.console);
        for (field, port) in [(start_info::STORE_EVTCHN, store_port), (start_info::CONSOLE_EVTCHN, console_port)] {
            self.ram.write(at(field), &port.to_le_bytes());
        }
    }

    /// The table is empty and of version 1; what the guest has mapped by handle is its own memory all the same.
    fn forget_grants(&mut self) {
        for m in core::mem::take(&mut self.mappings).into_iter().flatten().filter(|m| m.device) {
            if m.readonly { self.types.let_go(m.frame) } else { self.types.put(m.frame) }
        }
        self.grants.clear(&self.ram);
        // A guest that still maps what is to go keeps it.
        if self.change_version(1).is_ok() {
            self.grants.count = FIRST_FRAMES;
            self.grow_grants(0);
        }
    }

    /// What the hypervisor has kept of vCPUs; they themselves go on where they were.
    fn forget_vcpus(&mut self, cx: &Cx<'_>) {
        let pv = self.hvm.is_none();
        for n in 0..self.vcpus.len() {
            let v = &mut self.vcpus[n];
            let own = (self.shared_info << PAGE_SHIFT) + info::LEN * n.min(31) as u64;
            let registered = core::mem::take(&mut v.info_registered).then_some(v.info >> PAGE_SHIFT);
            (v.info, v.runstate_area, v.timer, v.periodic) = (own, None, None, None);
            (v.pv.nmi, v.pv.in_nmi) = (false, false);
            // As at first: nothing is pending, and a PV guest takes nothing yet.
            self.ram.write(own, &[0; info::LEN as usize]);
            v.set_upcall_mask(&self.ram, pv);
            self.put_time(n);
            if let Some(frame) = registered {
                self.types.put(frame);
            }
        }
        self.start_tick(cx.now);
    }
}
