//! Scheduling: sched_op, timers of vCPUs, vcpu_op (Xen: xen/common/sched/core.c, xen/common/domain.c).

use super::abi::{Answer, Errno, shutdown, virq};
use super::domain::{Cx, Domain};
use super::guest;
use super::hypercall::Call;
use super::mmu::Kind;
use super::vcpu::{RunState, info};
use crate::effect::ResetCause;
use crate::irq::Delivery;
use crate::machine::platform::StopCause;
use tabvisor_core::cpu::{Cpu, event};
use tabvisor_core::time::{VmDuration, VmTime};

/// The shortest period of a periodic timer, in nanoseconds.
const SHORTEST_PERIOD: u64 = 1_000_000;
/// Ports that may be polled at once.
const MAX_POLL: u32 = 128;

impl Domain {
    /// Hypercall 29.
    pub(super) fn sched_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, ..] = call.args;
        match cmd as u32 {
            // yield.
            0 => {
                self.slice_over = true;
                Ok(0)
            }
            1 => {
                self.vcpu().set_upcall_mask(&self.ram, false);
                if !self.vcpu().upcall_pending(&self.ram) {
                    self.block(call.cx, call.cpu);
                }
                Ok(0)
            }
            2 => {
                let reason = guest::get::<4>(call.cpu, arg)?.u32(0);
                if reason == shutdown::SUSPEND {
                    let start_info = call.args[2];
                    self.suspend(call.cx, call.cpu, start_info);
                } else {
                    self.shut_down(call.cx, call.cpu, reason);
                }
                Ok(0)
            }
            3 => self.poll(call),
            4 => Err(Errno::EPERM),
            // shutdown_code: kept for the toolstack, which is us.
            5 => Ok(0),
            6 => self.watchdog(call),
            7 => Err(Errno::EPERM),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Hypercall 6, the older form.
    pub(super) fn sched_op_compat(&mut self, call: &mut Call<'_, '_>) -> Answer {
        match call.args[0] as u32 {
            cmd @ 0..=1 => {
                call.args = [cmd.into(), 0, 0, 0, 0, 0];
                self.sched_op(call)
            }
            2 => {
                let [_, reason, start_info, ..] = call.args;
                if reason as u32 == shutdown::SUSPEND {
                    self.suspend(call.cx, call.cpu, start_info);
                } else {
                    self.shut_down(call.cx, call.cpu, reason as u32);
                }
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    pub(super) fn shut_down(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, reason: u32) {
        let stop = match reason {
            shutdown::POWEROFF => StopCause::Off,
            shutdown::REBOOT | shutdown::SOFT_RESET => StopCause::Reset(ResetCause::Guest),
            shutdown::WATCHDOG => StopCause::Crash("the guest's watchdog has expired".into()),
            _ => StopCause::Crash("the guest's kernel says that it has crashed".into()),
        };
        cx.stop.get_or_insert(stop);
        cpu.events |= event::CHECK;
    }

    /// The running vCPU waits for an event.
    pub(super) fn block(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu) {
        let now = cx.now;
        let v = self.vcpu_mut();
        (v.polling, v.poll_timeout, v.poll_over) = (None, None, false);
        if v.state == RunState::Offline {
            // A multicall has taken it down before.
            return;
        }
        v.account(now, RunState::Blocked);
        cpu.events |= event::HALTED | event::CHECK;
    }

    /// A vCPU has something to do.
    pub(super) fn kick(&mut self, vcpu: u32) {
        let ram = self.ram.clone();
        let Some(v) = self.vcpus.get_mut(vcpu as usize) else { return };
        // One that polls is woken by its ports, or by an upcall.
        if v.polling.is_some() && v.wants_upcall(&ram) {
            (v.polling, v.poll_timeout) = (None, None);
        }
    }

    pub(super) fn wake_pollers(&mut self, port: u32) {
        for v in &mut self.vcpus {
            if v.polling.as_ref().is_some_and(|ports| ports.contains(&port)) {
                (v.polling, v.poll_timeout, v.poll_over) = (None, None, true);
            }
        }
    }

    fn poll(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let (list, n, timeout) = if call.narrow() {
            let a = guest::get::<16>(call.cpu, call.args[1])?;
            (a.u32(0).into(), a.u32(4), a.u64(8))
        } else {
            let a = guest::get::<24>(call.cpu, call.args[1])?;
            (a.u64(0), a.u32(8), a.u64(16))
        };
        if n > MAX_POLL {
            return Err(Errno::EINVAL);
        }
        let mut ports = Vec::new();
        for k in 0..n {
            ports.push(guest::get::<4>(call.cpu, list.wrapping_add(4 * u64::from(k)))?.u32(0));
        }
        if ports.iter().any(|&p| p >= super::event::PORTS) {
            return Err(Errno::EINVAL);
        }
        let now = call.cx.now;
        let over = timeout != 0 && timeout <= now.nanos();
        if over || self.vcpu().wants_upcall(&self.ram) || ports.iter().any(|&p| self.is_pending(p)) {
            return Ok(0);
        }
        self.block(call.cx, call.cpu);
        let v = self.vcpu_mut();
        v.polling = Some(ports);
        v.poll_timeout = (timeout != 0).then_some(VmTime::from_nanos(timeout));
        Ok(0)
    }

    fn watchdog(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let a = guest::get::<8>(call.cpu, call.args[1])?;
        let (id, seconds) = (a.u32(0), a.u32(4));
        let at = (seconds != 0).then(|| call.cx.now + VmDuration::from_nanos(u64::from(seconds) * 1_000_000_000));
        if id == 0 {
            let free = self.watchdogs.iter().position(Option::is_none).ok_or(Errno::ENOSPC)?;
            if at.is_none() {
                return Err(Errno::EINVAL);
            }
            self.watchdogs[free] = at;
            return Ok(free as u64 + 1);
        }
        let slot = self.watchdogs.get_mut(id as usize - 1).filter(|w| w.is_some()).ok_or(Errno::EINVAL)?;
        *slot = at;
        Ok(0)
    }

    /// Hypercall 15: the one-shot timer.
    pub(super) fn set_timer_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        /// About 13 days: what is further away comes from a clock that ran backwards.
        const FAR: i64 = 1 << 50;
        let at = call.args[0];
        let now = call.cx.now;
        let ahead = (at as i64).wrapping_sub(now.nanos() as i64);
        self.vcpu_mut().timer = if at == 0 {
            None
        } else if (at as i64) < 0 || ahead > FAR {
            Some(now + VmDuration::from_millis(100))
        } else {
            Some(VmTime::from_nanos(at))
        };
        Ok(0)
    }

    /// What is due by `now`.
    pub(super) fn advance_timers(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        self.advance_slice(now);
        for n in 0..self.vcpus.len() {
            let v = &mut self.vcpus[n];
            let mut fire = v.timer.take_if(|t| *t <= now).is_some();
            if let Some((at, period)) = v.periodic.filter(|p| p.0 <= now) {
                // Ticks that were missed are not made up for.
                let missed = now.since(at).nanos() / period;
                v.periodic = Some((at + VmDuration::from_nanos((missed + 1) * period), period));
                fire |= v.state == RunState::Running;
            }
            if v.poll_timeout.is_some_and(|t| t <= now) {
                (v.polling, v.poll_timeout, v.poll_over) = (None, None, true);
            }
            if fire {
                self.send_virq(n as u32, virq::TIMER);
            }
        }
        let expired = self.watchdogs.iter_mut().filter_map(|w| w.take_if(|t| *t <= now)).count();
        if expired > 0 {
            cx.stop.get_or_insert(StopCause::Crash("the guest's watchdog has expired".into()));
        }
    }

    /// When anything is due.
    pub fn deadline(&self) -> VmTime {
        if self.suspended.is_some() {
            return VmTime::NEVER;
        }
        let timers =
            self.vcpus.iter().map(super::vcpu::Vcpu::deadline).chain([self.slice_end(), self.lapic_deadline()]);
        timers.chain(self.watchdogs.iter().flatten().copied()).min().unwrap_or(VmTime::NEVER)
    }

    /// Hypercall 24.
    pub(super) fn vcpu_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, id, arg, ..] = call.args;
        let id = id as u32;
        let Some(v) = self.vcpus.get(id as usize) else { return Err(Errno::ENOENT) };
        let own = id as usize == self.current;
        let now = call.cx.now;
        match cmd as u32 {
            0 if self.hvm.is_some() => self.initialise_hvm(call, id),
            0 => self.initialise(call, id),
            1 => self.up(call, id),
            2 => self.down(call, id),
            3 => Ok((v.state != RunState::Offline).into()),
            4 => {
                let state = v.runstate(now);
                guest::write(call.cpu, arg, &state)?;
                Ok(0)
            }
            5 => {
                let at = guest::get::<8>(call.cpu, arg)?.u64(0);
                let state = v.runstate(now);
                guest::write(call.cpu, at, &state)?;
                self.vcpus[id as usize].runstate_area = Some(at);
                Ok(0)
            }
            6 => {
                let period = guest::get::<8>(call.cpu, arg)?.u64(0);
                if !(SHORTEST_PERIOD..=1 << 60).contains(&period) {
                    return Err(Errno::EINVAL);
                }
                self.vcpus[id as usize].periodic = Some((now + VmDuration::from_nanos(period), period));
                Ok(0)
            }
            7 => {
                self.vcpus[id as usize].periodic = None;
                Ok(0)
            }
            8 => {
                if !own {
                    return Err(Errno::EINVAL);
                }
                const FUTURE: u32 = 1;
                let a = guest::get::<16>(call.cpu, arg)?;
                if a.u32(8) & FUTURE != 0 && a.u64(0) < now.nanos() {
                    return Err(Errno::ETIME);
                }
                self.vcpu_mut().timer = Some(VmTime::from_nanos(a.u64(0)));
                Ok(0)
            }
            9 => {
                if !own {
                    return Err(Errno::EINVAL);
                }
                self.vcpu_mut().timer = None;
                Ok(0)
            }
            10 => {
                let a = guest::get::<16>(call.cpu, arg)?;
                let (ram, frames) = (self.ram.clone(), self.frames);
                // The hypervisor writes there, so it cannot be a page table.
                self.types.get(&ram, a.u64(0), Kind::Writable).map_err(|_| Errno::EINVAL)?;
                let r = self.vcpus[id as usize].register_info(&ram, &frames, a.u64(0), a.u32(8));
                if r.is_err() {
                    self.types.put(a.u64(0));
                }
                r?;
                self.put_time(id as usize);
                self.assert_upcall(id);
                Ok(0)
            }
            11 => {
                match &mut self.hvm {
                    Some(hvm) => drop(hvm.lapics[id as usize].deliver(Delivery::Nmi, 0)),
                    None => self.vcpus[id as usize].pv.nmi = true,
                }
                Ok(0)
            }
            12 => Err(Errno::EINVAL),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Writes what a guest computes the time from: our TSC counts nanoseconds since the beginning.
    pub(super) fn put_time(&self, vcpu: usize) {
        const STABLE: u8 = 1;
        let mut t = [0; 32];
        // A guest that compares versions takes 0 for one that it has seen.
        t[0] = 2;
        t[24..28].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        (t[28], t[29]) = (1, STABLE);
        self.ram.write(self.vcpus[vcpu].info + info::TIME, &t);
    }
}
