//! Bringing up further vCPUs of a PV guest: VCPUOP_initialise, _up, _down (public/vcpu.h, `struct vcpu_guest_context` in
//! public/arch-x86/xen.h).

use super::abi::{Answer, Errno, hole, sel};
use super::domain::{Cx, Domain};
use super::emulate::real_cr4;
use super::frames::Frames;
use super::guest::{self, Struct};
use super::hypercall::Call;
use super::mmu::Kind;
use super::vcpu::{Callback, Gate, RunState};
use tabvisor_core::cpu::memory::canonical;
use tabvisor_core::cpu::{Cpu, Shadow, event, reg};
use tabvisor_core::mem::PAGE_SHIFT;

/// Bytes of `struct vcpu_guest_context`.
const LEN: usize = 5168;
/// Offsets in it.
mod at {
    pub const FLAGS: usize = 0x200;
    pub const REGS: usize = 0x208;
    pub const RIP: usize = REGS + 0x80;
    pub const CS: usize = REGS + 0x88;
    pub const RFLAGS: usize = REGS + 0x90;
    pub const RSP: usize = REGS + 0x98;
    pub const SS: usize = REGS + 0xa0;
    pub const TRAPS: usize = 0x2d0;
    pub const LDT_BASE: usize = 0x12d0;
    pub const LDT_ENTS: usize = 0x12d8;
    pub const GDT_FRAMES: usize = 0x12e0;
    pub const GDT_ENTS: usize = 0x1360;
    pub const KERNEL_SS: usize = 0x1368;
    pub const KERNEL_SP: usize = 0x1370;
    pub const CTRLREG: usize = 0x1378;
    pub const EVENT: usize = 0x13f8;
    pub const FAILSAFE: usize = 0x1400;
    pub const SYSCALL: usize = 0x1408;
    pub const FS_BASE: usize = 0x1418;
    pub const GS_KERNEL: usize = 0x1420;
    pub const GS_USER: usize = 0x1428;
}
/// `VGCF_*`.
mod flag {
    pub const IN_KERNEL: u32 = 4;
    pub const SYSCALL_DISABLES_EVENTS: u32 = 16;
    pub const ONLINE: u32 = 32;
}
/// Registers in the order of `struct cpu_user_regs`: r15 first.
const ORDER: [u8; 15] =
    [15, 14, 13, 12, reg::RBP, reg::RBX, 11, 10, 9, 8, reg::RAX, reg::RCX, reg::RDX, reg::RSI, reg::RDI];

impl Domain {
    pub(super) fn initialise(&mut self, call: &mut Call<'_, '_>, id: u32) -> Answer {
        let n = id as usize;
        let c = guest::get::<LEN>(call.cpu, call.args[2])?;
        if self.vcpus[n].initialised {
            return Err(Errno::EEXIST);
        }
        self.check_context(&c)?;
        let kernel = c.u64(at::CTRLREG + 24) >> PAGE_SHIFT;
        let user = c.u64(at::CTRLREG + 8);
        let user = if user & 1 != 0 { user >> PAGE_SHIFT } else { 0 };
        if [kernel, user].iter().any(|&table| table != 0 && !self.prepare(table, Kind::L4)) {
            call.again = Some(call.args);
            return Ok(0);
        }
        let answer = self.initialise_prepared(call, n, &c, kernel, user);
        self.types.let_go_held();
        answer
    }

    fn initialise_prepared(
        &mut self,
        call: &mut Call<'_, '_>,
        n: usize,
        c: &Struct<LEN>,
        kernel: u64,
        user: u64,
    ) -> Answer {
        let entries = c.u64(at::GDT_ENTS);
        self.types.get(&self.ram, kernel, Kind::L4).map_err(|_| Errno::EINVAL)?;
        if user != 0 && self.types.get(&self.ram, user, Kind::L4).is_err() {
            self.types.put(kernel);
            return Err(Errno::EINVAL);
        }
        let frames = (0..entries.div_ceil(512) as usize).map(|k| c.u64(at::GDT_FRAMES + 8 * k)).collect();
        let gdt = self.install_gdt(call.cpu, n, frames);
        self.protect(call.cpu);
        if let Err(e) = gdt {
            [kernel, user].into_iter().filter(|&t| t != 0).for_each(|t| self.types.put(t));
            return Err(e);
        }
        self.begin(call.cpu, n, c, kernel, user);
        if c.u32(at::FLAGS) & flag::ONLINE != 0 {
            self.vcpus[n].account(call.cx.now, RunState::Runnable);
        }
        Ok(0)
    }

    fn check_context(&self, c: &Struct<LEN>) -> Result<(), Errno> {
        let addresses = [at::RIP, at::EVENT, at::FAILSAFE, at::SYSCALL, at::FS_BASE, at::GS_KERNEL, at::GS_USER];
        let traps = (0..256).all(|k| canonical(c.u64(at::TRAPS + 16 * k + 8)));
        let ldt = c.u64(at::LDT_ENTS);
        let ldt_ok =
            ldt == 0 || ldt <= 8192 && c.u64(at::LDT_BASE).is_multiple_of(4096) && !hole::contains(c.u64(at::LDT_BASE));
        let ok = addresses.iter().all(|&a| canonical(c.u64(a))) && traps && ldt_ok && c.u64(at::GDT_ENTS) <= 7168;
        if ok { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// The state that the guest has described.
    fn begin(&mut self, cpu: &mut Cpu, n: usize, c: &Struct<LEN>, kernel: u64, user: u64) {
        // What a vCPU has in common with all others of its guest.
        let mut context = cpu.context();
        context.regs = [0; 16];
        for (k, r) in ORDER.into_iter().enumerate() {
            context.regs[usize::from(r)] = c.u64(at::REGS + 8 * k);
        }
        context.regs[usize::from(reg::RSP)] = c.u64(at::RSP);
        context.rip = c.u64(at::RIP);
        context.rflags = Cpu::guest_rflags(c.u64(at::RFLAGS));
        context.guest_kernel = c.u32(at::FLAGS) & flag::IN_KERNEL != 0;
        context.halted = false;
        let root = if context.guest_kernel { kernel } else { user };
        context.cr = [context.cr[0], 0, root << PAGE_SHIFT, real_cr4(c.u64(at::CTRLREG + 32) & cpu.model.cr4_mask())];
        context.seg = Cpu::guest_segments(sel::CS64, sel::DS);
        // The frame's selectors are loaded as in a return; what does not fit is found there.
        context.seg[usize::from(reg::CS)].sel = c.0[at::CS] as u16 | u16::from(c.0[at::CS + 1]) << 8 | 3;
        context.seg[usize::from(reg::SS)].sel = c.0[at::SS] as u16 | u16::from(c.0[at::SS + 1]) << 8 | 3;
        context.seg[usize::from(reg::FS)].base = c.u64(at::FS_BASE);
        let (own, other) = (c.u64(at::GS_KERNEL), c.u64(at::GS_USER));
        let (gs, shadow) = if context.guest_kernel { (own, other) } else { (other, own) };
        context.seg[usize::from(reg::GS)].base = gs;
        context.msr.kernel_gs_base = shadow;
        context.seg[6] = Cpu::guest_ldt(Frames::table_address(n as u64, 16), c.u64(at::LDT_ENTS) as u32 * 8);
        context.tables[0].base = Frames::table_address(n as u64, 0);
        (context.dr, context.pending_db) = ([0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400], 0);
        context.shadow = Shadow::None;
        context.fpu = Default::default();
        (context.xmm, context.mxcsr) = ([[0; 2]; 16], 0x1f80);
        context.xcr0 = 1;

        let v = &mut self.vcpus[n];
        let pv = &mut v.pv;
        (pv.guest_table, pv.user_table) = (kernel, user);
        (pv.kernel_ss, pv.kernel_sp) = (c.u16(at::KERNEL_SS) | 3, c.u64(at::KERNEL_SP));
        pv.iopl = (c.u64(at::RFLAGS) >> 12 & 3) as u8;
        for (k, gate) in pv.traps.iter_mut().enumerate() {
            let t = at::TRAPS + 16 * k;
            *gate = Gate { address: c.u64(t + 8), cs: c.u16(t + 2), dpl: c.u8(t + 1) & 3, mask: c.u8(t + 1) & 4 != 0 };
        }
        let mask = c.u32(at::FLAGS) & flag::SYSCALL_DISABLES_EVENTS != 0;
        pv.event = Callback { address: c.u64(at::EVENT), mask: true };
        pv.failsafe = Callback { address: c.u64(at::FAILSAFE), mask: false };
        pv.syscall = Callback { address: c.u64(at::SYSCALL), mask };
        (pv.ldt_base, pv.ldt_entries) = (c.u64(at::LDT_BASE), c.u64(at::LDT_ENTS) as u32);
        v.context = Some(Box::new(context));
        v.initialised = true;
    }

    pub(super) fn up(&mut self, call: &mut Call<'_, '_>, id: u32) -> Answer {
        let now = call.cx.now;
        let v = &mut self.vcpus[id as usize];
        // A processor that an INIT has left waiting does not know where to begin.
        let begins = v.context.is_some() || v.start_at.is_some() || id as usize == self.current;
        if !v.initialised || !begins {
            return Err(Errno::EINVAL);
        }
        if v.state == RunState::Offline {
            v.account(now, RunState::Runnable);
            if id as usize == self.current {
                // A multicall has taken it down before.
                v.account(now, RunState::Running);
                call.cpu.events &= !event::HALTED;
            }
        }
        Ok(0)
    }

    pub(super) fn down(&mut self, call: &mut Call<'_, '_>, id: u32) -> Answer {
        let n = id as usize;
        let others = (0..self.vcpus.len()).any(|k| k != n && self.vcpus[k].state != RunState::Offline);
        if !others {
            self.shut_down(call.cx, call.cpu, super::abi::shutdown::POWEROFF);
            return Ok(0);
        }
        self.vcpus[n].account(call.cx.now, RunState::Offline);
        if n == self.current {
            call.cpu.events |= event::HALTED | event::CHECK;
        }
        Ok(0)
    }

    /// For traps: what follows from a vCPU's state after each of them.
    pub(super) fn after_trap(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu) {
        if self.wants_switch(cpu.events & event::HALTED != 0) || cx.stop.is_some() {
            cpu.events |= event::CHECK;
        }
    }
}
