//! Event channels, with the two-level ABI (Xen: xen/common/event_channel.c, event_2l.c; public/event_channel.h).

use super::abi::{Answer, Errno, domid, virq};
use super::domain::Domain;
use super::guest;
use super::hypercall::Call;
use super::vcpu::info;
use serde::Serialize;
use tabvisor_core::mem::PAGE_SHIFT;

/// Ports of the two-level ABI.
pub const PORTS: u32 = 4096;

/// Offsets in `struct shared_info`.
mod shared {
    pub const PENDING: u64 = 0x800;
    pub const MASK: u64 = 0xa00;
}

/// What a port is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Binding {
    /// Nothing.
    #[default]
    Free,
    /// Whoever in this domain binds to it.
    Unbound(u16),
    /// A back end in domain 0.
    BackEnd,
    /// A port of the domain itself.
    Loop(u32),
    /// A virtual interrupt.
    Virq(u32),
    /// Other vCPUs of the domain.
    Ipi,
}

/// A port.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Port {
    /// What it is bound to.
    pub binding: Binding,
    /// The vCPU that is told.
    pub vcpu: u32,
}

/// All ports of a domain; 0 is never one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ports {
    ports: Vec<Port>,
    /// Ports bound to back ends that the guest has sent events to.
    pub(super) kicked: Vec<u32>,
}

impl Ports {
    fn get(&self, port: u32) -> Option<&Port> {
        self.ports.get(port as usize).filter(|p| p.binding != Binding::Free)
    }
    /// What a port is bound to.
    pub fn binding(&self, port: u32) -> Binding {
        self.get(port).map_or(Binding::Free, |p| p.binding)
    }
    /// A new port.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn allocate(&mut self, binding: Binding, vcpu: u32) -> Result<u32, Errno> {
        let new = Port { binding, vcpu };
        if self.ports.is_empty() {
            self.ports.push(Port::default());
        }
        if let Some(n) = (1..self.ports.len()).find(|&n| self.ports[n].binding == Binding::Free) {
            self.ports[n] = new;
            return Ok(n as u32);
        }
        if self.ports.len() as u32 >= PORTS {
            return Err(Errno::ENOSPC);
        }
        self.ports.push(new);
        Ok(self.ports.len() as u32 - 1)
    }
    fn find(&self, f: impl Fn(&Port) -> bool) -> Option<u32> {
        self.ports.iter().position(f).map(|n| n as u32)
    }
    /// A back end binds to a port that waits for domain 0. `false`: there is no such port.
    pub fn bind_back_end(&mut self, port: u32) -> bool {
        match self.ports.get_mut(port as usize) {
            Some(p) if matches!(p.binding, Binding::Unbound(domid::DOM0) | Binding::BackEnd) => {
                p.binding = Binding::BackEnd;
                true
            }
            _ => false,
        }
    }
    /// The back end of a port goes away.
    pub fn unbind_back_end(&mut self, port: u32) {
        if let Some(p) = self.ports.get_mut(port as usize).filter(|p| p.binding == Binding::BackEnd) {
            p.binding = Binding::Unbound(domid::DOM0);
        }
    }
}

impl Domain {
    fn shared(&self, off: u64) -> u64 {
        (self.shared_info << PAGE_SHIFT) + off
    }
    /// Sets a bit of an array; was it set?
    fn test_and_set(&self, array: u64, bit: u32) -> bool {
        let at = array + u64::from(bit / 8);
        let old = self.ram.byte(at);
        let new = old | 1 << (bit % 8);
        if new != old {
            self.ram.set_byte(at, new);
        }
        new == old
    }
    /// Clears a bit of an array; was it set?
    fn test_and_clear(&self, array: u64, bit: u32) -> bool {
        let at = array + u64::from(bit / 8);
        let old = self.ram.byte(at);
        let new = old & !(1 << (bit % 8));
        if new != old {
            self.ram.set_byte(at, new);
        }
        new != old
    }
    fn bit(&self, array: u64, bit: u32) -> bool {
        self.ram.byte(array + u64::from(bit / 8)) >> (bit % 8) & 1 != 0
    }
    /// Is an event pending at a port?
    pub(super) fn is_pending(&self, port: u32) -> bool {
        port < PORTS && self.bit(self.shared(shared::PENDING), port)
    }

    /// Nothing is pending and all is masked, as in a PV domain that was restored. One with its own paging would find nothing
    /// masked in Xen; Linux, which knows the FIFO ABI there, takes events then for which it is not ready.
    pub(super) fn clear_events(&mut self) {
        const LEN: usize = PORTS as usize / 8;
        self.ram.write(self.shared(shared::PENDING), &[0; LEN]);
        self.ram.write(self.shared(shared::MASK), &[0xff; LEN]);
    }

    /// An event arrives at a port.
    pub fn set_pending(&mut self, port: u32) {
        let Some(&Port { vcpu, binding }) = self.ports.get(port) else { return };
        if self.test_and_set(self.shared(shared::PENDING), port) {
            return;
        }
        self.counters.kinds.event(binding);
        self.wake_pollers(port);
        if !self.bit(self.shared(shared::MASK), port) {
            self.tell(vcpu, port);
        }
    }

    /// Lets a vCPU know that something is pending in the word of `port`.
    fn tell(&mut self, vcpu: u32, port: u32) {
        let Some(v) = self.vcpus.get(vcpu as usize) else { return };
        let at = v.info;
        if !self.test_and_set(at + info::SELECTOR, port / 64) && !v.upcall_pending(&self.ram) {
            self.ram.write(at + info::PENDING, &[1]);
            self.assert_upcall(vcpu);
        }
        self.kick(vcpu);
    }

    /// A virtual interrupt of a vCPU.
    pub fn send_virq(&mut self, vcpu: u32, number: u32) {
        let bound = self.ports.find(|p| p.binding == Binding::Virq(number) && p.vcpu == vcpu);
        if let Some(port) = bound {
            self.set_pending(port);
        }
    }

    /// A free port, or an error, with the answer written behind the request.
    fn answer_port(&mut self, call: &mut Call<'_, '_>, binding: Binding, vcpu: u32, at: u64) -> Answer {
        let port = self.ports.allocate(binding, vcpu)?;
        let arg = call.args[1].wrapping_add(at);
        if let Err(e) = guest::put_u32(call.cpu, arg, port) {
            self.close(port)?;
            return Err(e);
        }
        Ok(0)
    }

    /// Hypercall 16: the operation's number is in front of its argument.
    pub(super) fn event_channel_op_compat(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let op = call.args[0];
        let cmd = guest::get::<4>(call.cpu, op)?.u32(0);
        call.args = [cmd.into(), op.wrapping_add(8), 0, 0, 0, 0];
        self.event_channel_op(call)
    }

    /// Hypercall 32.
    pub(super) fn event_channel_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, ..] = call.args;
        let own = |d: u16| matches!(d, domid::SELF | domid::GUEST);
        match cmd as u32 {
            // bind_interdomain.
            0 => {
                let a = guest::get::<12>(call.cpu, arg)?;
                if !own(a.u16(0)) {
                    return Err(Errno::ESRCH);
                }
                let remote = a.u32(4);
                let Binding::Unbound(who) = self.ports.binding(remote) else { return Err(Errno::EINVAL) };
                if !own(who) {
                    return Err(Errno::EINVAL);
                }
                self.answer_port(call, Binding::Loop(remote), 0, 8)?;
                let port = guest::get::<12>(call.cpu, arg)?.u32(8);
                if let Some(p) = self.ports.ports.get_mut(remote as usize) {
                    p.binding = Binding::Loop(port);
                }
                // What the other side has missed.
                self.set_pending(port);
                Ok(0)
            }
            // bind_virq.
            1 => {
                let a = guest::get::<12>(call.cpu, arg)?;
                let (number, vcpu) = (a.u32(0), a.u32(4));
                if number >= virq::COUNT || !virq::per_vcpu(number) && vcpu != 0 {
                    return Err(Errno::EINVAL);
                }
                if vcpu as usize >= self.vcpus.len() {
                    return Err(Errno::ENOENT);
                }
                if self.ports.find(|p| p.binding == Binding::Virq(number) && p.vcpu == vcpu).is_some() {
                    return Err(Errno::EEXIST);
                }
                self.answer_port(call, Binding::Virq(number), vcpu, 8)
            }
            // bind_pirq: there are none.
            2 => Err(Errno::EINVAL),
            3 => {
                let port = guest::get::<4>(call.cpu, arg)?.u32(0);
                self.close(port).map(|()| 0)
            }
            4 => {
                let port = guest::get::<4>(call.cpu, arg)?.u32(0);
                self.send(port).map(|()| 0)
            }
            5 => self.status(call),
            // alloc_unbound.
            6 => {
                let a = guest::get::<8>(call.cpu, arg)?;
                if !own(a.u16(0)) {
                    return Err(if a.u16(0) == domid::DOM0 { Errno::EPERM } else { Errno::ESRCH });
                }
                let remote = if a.u16(2) == domid::SELF { domid::GUEST } else { a.u16(2) };
                self.answer_port(call, Binding::Unbound(remote), 0, 4)
            }
            // bind_ipi.
            7 => {
                let vcpu = guest::get::<8>(call.cpu, arg)?.u32(0);
                if vcpu as usize >= self.vcpus.len() {
                    return Err(Errno::ENOENT);
                }
                self.answer_port(call, Binding::Ipi, vcpu, 4)
            }
            // bind_vcpu.
            8 => {
                let a = guest::get::<8>(call.cpu, arg)?;
                let (port, vcpu) = (a.u32(0), a.u32(4));
                if vcpu as usize >= self.vcpus.len() {
                    return Err(Errno::ENOENT);
                }
                let bound = self.ports.get(port).ok_or(Errno::EINVAL)?.binding;
                if matches!(bound, Binding::Ipi) || matches!(bound, Binding::Virq(n) if virq::per_vcpu(n)) {
                    return Err(Errno::EINVAL);
                }
                self.ports.ports[port as usize].vcpu = vcpu;
                Ok(0)
            }
            // unmask.
            9 => {
                let port = guest::get::<4>(call.cpu, arg)?.u32(0);
                let vcpu = self.ports.get(port).ok_or(Errno::EINVAL)?.vcpu;
                if self.test_and_clear(self.shared(shared::MASK), port) && self.is_pending(port) {
                    self.tell(vcpu, port);
                }
                Ok(0)
            }
            // reset.
            10 => {
                let dom = guest::get::<2>(call.cpu, arg)?.u16(0);
                if !own(dom) {
                    return Err(Errno::EPERM);
                }
                (1..self.ports.ports.len() as u32).for_each(|port| {
                    let _ = self.close(port);
                });
                Ok(0)
            }
            // init_control of the FIFO ABI (11 to 13), which is optional: guests fall back to two levels.
            11 => {
                let a = guest::get::<24>(call.cpu, arg)?;
                let (frame, offset, vcpu) = (a.u64(0), a.u32(8), a.u32(12));
                if vcpu as usize >= self.vcpus.len() {
                    return Err(Errno::ENOENT);
                }
                // Room for the control block: 72 bytes.
                let ok = self.types.owned(frame) && offset % 8 == 0 && offset <= 4096 - 72;
                Err(if ok { Errno::ENOSYS } else { Errno::EINVAL })
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// A port is free again.
    fn close(&mut self, port: u32) -> Result<(), Errno> {
        let bound = self.ports.get(port).ok_or(Errno::EINVAL)?.binding;
        if let Binding::Loop(remote) = bound {
            if let Some(p) = self.ports.ports.get_mut(remote as usize) {
                p.binding = Binding::Unbound(domid::GUEST);
            }
        }
        self.ports.ports[port as usize] = Port::default();
        self.test_and_clear(self.shared(shared::PENDING), port);
        Ok(())
    }

    fn send(&mut self, port: u32) -> Result<(), Errno> {
        match self.ports.get(port).ok_or(Errno::EINVAL)?.binding {
            Binding::BackEnd => {
                if !self.ports.kicked.contains(&port) {
                    self.ports.kicked.push(port);
                }
            }
            Binding::Loop(remote) => self.set_pending(remote),
            Binding::Ipi => self.set_pending(port),
            Binding::Unbound(_) => {}
            Binding::Virq(_) | Binding::Free => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn status(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let arg = call.args[1];
        let a = guest::get::<24>(call.cpu, arg)?;
        if !matches!(a.u16(0), domid::SELF | domid::GUEST) {
            return Err(Errno::EPERM);
        }
        let port = self.ports.ports.get(a.u32(4) as usize).copied().unwrap_or_default();
        if a.u32(4) >= PORTS {
            return Err(Errno::EINVAL);
        }
        let mut out = a.0;
        let (status, detail): (u32, [u32; 2]) = match port.binding {
            Binding::Free => (0, [0; 2]),
            Binding::Unbound(dom) => (1, [dom.into(), 0]),
            Binding::BackEnd => (2, [domid::DOM0.into(), a.u32(4)]),
            Binding::Loop(remote) => (2, [domid::GUEST.into(), remote]),
            Binding::Virq(n) => (4, [n, 0]),
            Binding::Ipi => (5, [0; 2]),
        };
        for (at, v) in [(8, status), (12, port.vcpu), (16, detail[0]), (20, detail[1])] {
            out[at..at + 4].copy_from_slice(&v.to_le_bytes());
        }
        guest::write(call.cpu, arg, &out)?;
        Ok(0)
    }
}
