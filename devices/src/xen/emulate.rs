//! Instructions of a PV guest that fault and that Xen does for it: privileged ones, CPUID in its forced form, writes to
//! page tables (Xen: xen/arch/x86/pv/emul-priv-op.c, emul-inv-op.c, ro-page-fault.c).

use super::abi::{hole, pte};
use super::calls::{debug_register, write_debug};
use super::domain::{Cx, Domain};
use super::guest;
use super::hypercall::SHARE;
use super::mmu::Kind;
use tabvisor_core::cpu::{Cpu, Done, cr0, cr4, gp, reg};
use tabvisor_core::decode::insn::{Insn, opnd};
use tabvisor_core::isa::{Op, cpuid, msr};
use tabvisor_core::mem::PAGE_SHIFT;
use tabvisor_core::size::Size;

/// CR0 of all PV guests, but for TS.
const CR0: u64 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;
/// Bits of CR4 that the guest decides on.
const CR4_GUEST: u64 = cr4::TSD | cr4::DE | cr4::FSGSBASE | cr4::OSXSAVE;
/// The others, as the guest sees them: what is always on, and what it is told nothing else about.
const CR4_XEN: u64 = cr4::MCE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::PAE;
/// UD2, "xen": what comes in front of a CPUID that asks Xen.
const FORCED: [u8; 5] = [0x0f, 0x0b, 0x78, 0x65, 0x6e];
const CPUID: [u8; 2] = [0x0f, 0xa2];

/// What `Cpu::cr4` is while the guest has `virtual_cr4`.
pub(super) fn real_cr4(virtual_cr4: u64) -> u64 {
    CR4_XEN | virtual_cr4 & CR4_GUEST
}

impl Domain {
    /// #GP(0): is it an instruction that the hypervisor does for the guest? Then it is done.
    pub(super) fn emulate(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu) -> bool {
        let Ok((Some(op), i)) = cpu.fetch_for_guest() else { return false };
        let next = cpu.rip_mask(cpu.rip.wrapping_add(u64::from(i.len)));
        let done = match op {
            Op::In | Op::Out | Op::Ins | Op::Outs => return self.port(cx, cpu, op, &i),
            Op::Cli | Op::Sti => self.ports_allowed(cpu),
            _ if !cpu.guest_kernel => false,
            Op::Clts => {
                cpu.set_task_switched(false);
                true
            }
            Op::MovFromCr => self.read_control(cpu, &i),
            // What is not prepared comes again.
            Op::MovToCr if !self.is_prepared(cpu, &i) => return true,
            Op::MovToCr => {
                let done = self.write_control(cpu, &i);
                self.types.let_go_held();
                done
            }
            Op::MovFromDr => match debug_register(cpu, (i.b & 7).into()) {
                Ok(n) => {
                    cpu.regs[usize::from(i.a & 15)] = cpu.dr[n];
                    true
                }
                Err(_) => false,
            },
            Op::MovToDr => {
                let v = cpu.regs[usize::from(i.b & 15)];
                write_debug(cpu, (i.a & 7).into(), v).is_ok()
            }
            Op::Xsetbv => return as_ring_0(cpu, op, &i),
            // RDMSR and WRMSR come without a fault: one that has raised it was refused.
            Op::Wbinvd => i.len > 2 || !is_invd(cpu),
            _ => false,
        };
        if done {
            cpu.rip = next;
        }
        done
    }

    /// Does the virtual IOPL allow ports, whatever the bitmap says?
    fn ports_allowed(&self, cpu: &Cpu) -> bool {
        let iopl = self.vcpu().pv.iopl;
        match (cpu.guest_kernel, self.architectural_iopl) {
            (true, true) => true,
            (true, false) => iopl >= 1,
            (false, _) => iopl >= 3,
        }
    }

    fn port(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu, op: Op, i: &Insn) -> bool {
        let operand = if op == Op::In { i.b } else { i.a };
        let port = if operand == opnd::IMM { i.imm as u8 as u16 } else { cpu.regs[reg::RDX as usize] as u16 };
        if !self.ports_allowed(cpu) && !self.in_bitmap(cpu, port, i.size) {
            return false;
        }
        let rip = cpu.rip;
        match op {
            Op::In => {
                let v = self.port_read(cx, port, i.size);
                let old = cpu.regs[reg::RAX as usize];
                cpu.regs[reg::RAX as usize] = if i.size == Size::B4 { v } else { old & !i.size.mask() | v };
            }
            Op::Out => {
                let v = i.size.zx(cpu.regs[reg::RAX as usize]);
                self.port_write(cx, port, i.size, v);
            }
            // With all ports alike, and nobody behind them while Xen has the CPU, the instruction itself does.
            _ => {
                let real = cpu.rflags_image();
                cpu.put_rflags(real | tabvisor_core::flags::IOPL);
                let r = cpu.run_for_guest(op, i, None);
                let now = cpu.rflags_image();
                cpu.put_rflags(Cpu::guest_rflags(now));
                return r.is_ok();
            }
        }
        cpu.rip = cpu.rip_mask(rip.wrapping_add(u64::from(i.len)));
        true
    }

    fn in_bitmap(&mut self, cpu: &mut Cpu, port: u16, size: Size) -> bool {
        let (at, ports) = self.vcpu().pv.io_bitmap;
        if u32::from(port) + size.bytes() as u32 > ports {
            return false;
        }
        // It lies in the kernel's address space, whoever runs.
        let cr3 = core::mem::replace(&mut cpu.cr3, self.vcpu().pv.guest_table << PAGE_SHIFT);
        let map = guest::get::<2>(cpu, at.wrapping_add(u64::from(port >> 3)));
        cpu.cr3 = cr3;
        let Ok(map) = map else { return false };
        map.u16(0) >> (port & 7) & ((1 << size.bytes()) - 1) == 0
    }

    fn read_control(&mut self, cpu: &mut Cpu, i: &Insn) -> bool {
        let v = match i.b.wrapping_sub(opnd::CR) {
            0 => CR0 | cpu.cr0 & cr0::TS,
            2 => self.vcpu().pv.cr2,
            3 => self.vcpu().pv.guest_table << PAGE_SHIFT,
            4 => CR4_XEN | cpu.cr4 & CR4_GUEST,
            _ => return false,
        };
        cpu.regs[usize::from(i.a & 15)] = v;
        true
    }

    /// Can this be done without much ado?
    fn is_prepared(&mut self, cpu: &Cpu, i: &Insn) -> bool {
        let cr3 = i.a.wrapping_sub(opnd::CR) == 3;
        !cr3 || self.types.take_dying(&self.ram, SHARE)
            && self.prepare(cpu.regs[usize::from(i.b & 15)] >> PAGE_SHIFT, Kind::L4)
    }

    fn write_control(&mut self, cpu: &mut Cpu, i: &Insn) -> bool {
        let v = cpu.regs[usize::from(i.b & 15)];
        match i.a.wrapping_sub(opnd::CR) {
            0 => {
                let ok = (v ^ CR0) & !cr0::TS == 0;
                if ok {
                    cpu.set_task_switched(v & cr0::TS != 0);
                }
                ok
            }
            2 => {
                self.vcpu_mut().pv.cr2 = v;
                true
            }
            3 => self.new_base(cpu, v >> PAGE_SHIFT).is_ok(),
            4 => {
                let may = CR4_GUEST & cpu.model.cr4_mask();
                cpu.cr4 = real_cr4(v & may);
                cpu.mode_changed();
                true
            }
            _ => false,
        }
    }

    /// RDMSR or WRMSR of the kernel, which has not raised its #GP yet. If it does now, it comes again with that, and is
    /// counted then.
    pub(super) fn msr_trap(&mut self, cpu: &mut Cpu, f: impl FnOnce(&mut Self, &mut Cpu) -> bool) -> Done {
        self.crossing = true;
        if !f(self, cpu) {
            return Err(gp(0));
        }
        self.counters.kinds.emulated();
        Ok(())
    }

    pub(super) fn read_msr(&mut self, cpu: &mut Cpu) -> bool {
        let Some(v) = self.msr(cpu, cpu.regs[reg::RCX as usize] as u32).or_else(|| self.no_handler().then_some(0))
        else {
            return false;
        };
        cpu.regs[reg::RAX as usize] = v & 0xffff_ffff;
        cpu.regs[reg::RDX as usize] = v >> 32;
        true
    }

    /// A guest that cannot handle a #GP yet is told that nothing is wrong.
    fn no_handler(&self) -> bool {
        self.vcpu().pv.traps[13].address == 0
    }

    fn msr(&self, cpu: &mut Cpu, n: u32) -> Option<u64> {
        use msr::number::*;
        Some(match n {
            FS_BASE => cpu.seg[reg::FS as usize].base,
            GS_BASE => cpu.seg[reg::GS as usize].base,
            KERNEL_GS_BASE => cpu.msr.kernel_gs_base,
            TSC_AUX => cpu.msr.tsc_aux,
            EFER => cpu.efer,
            PAT => 0x0000_0501_0007_0406,
            APIC_BASE => 0xfee0_0800 | if self.vcpu().id == 0 { 0x100 } else { 0 },
            // Xen hides what it does with its own.
            MCG_CAP | DEBUGCTL => 0,
            BIOS_SIGN_ID | MISC_ENABLE | ARCH_CAPABILITIES | SPEC_CTRL => cpu.read_msr(n)?,
            _ => return None,
        })
    }

    pub(super) fn write_msr(&mut self, cpu: &mut Cpu) -> bool {
        use msr::number::*;
        let n = cpu.regs[reg::RCX as usize] as u32;
        let v = cpu.regs[reg::RDX as usize] << 32 | cpu.regs[reg::RAX as usize] & 0xffff_ffff;
        let ok = match n {
            FS_BASE | GS_BASE | KERNEL_GS_BASE | TSC_AUX | SPEC_CTRL => cpu.write_msr(n, v),
            EFER | APIC_BASE => self.msr(cpu, n) == Some(v),
            PRED_CMD | BIOS_SIGN_ID => true,
            _ => false,
        };
        ok || self.no_handler()
    }

    /// #UD at `rip`: is it a CPUID in its forced form?
    pub(super) fn forced_cpuid(&mut self, cpu: &mut Cpu, rip: u64) -> bool {
        let Ok(bytes) = guest::get::<7>(cpu, rip) else { return false };
        if bytes.0[..5] != FORCED || bytes.0[5..] != CPUID {
            return false;
        }
        let (leaf, sub) = (cpu.regs[reg::RAX as usize] as u32, cpu.regs[reg::RCX as usize] as u32);
        let mut r = match self.leaf(leaf, sub) {
            Some(r) => r,
            None => cpuid::processor_leaf(cpu, leaf, sub),
        };
        // The kernel asks whether there is XSAVE before it turns that on.
        if leaf == 1 && r[2] & 1 << 26 != 0 {
            r[2] |= 1 << 27;
        }
        cpuid::set(cpu, r);
        cpu.rip = rip.wrapping_add(7);
        true
    }

    /// #PF: a write of the kernel to a page table is done for it; what is fetched from or written to the hypervisor's
    /// part of the address space is not there.
    pub(super) fn page_fault(&mut self, cpu: &mut Cpu, code: u16) -> bool {
        /// Present, write.
        const WRITE: u16 = 3;
        if code != WRITE || !cpu.guest_kernel || !self.writable_tables || hole::contains(cpu.cr2) {
            return false;
        }
        let at = cpu.cr2;
        let Some(entry) = self.entry_of(cpu, at) else { return false };
        let old = self.types.read(&self.ram, entry);
        let mfn = (old & pte::ADDR) >> PAGE_SHIFT;
        if old & (pte::P | pte::RW) != pte::P || self.types.kind(mfn) != Kind::L1 {
            return false;
        }
        if !self.types.take_dying(&self.ram, SHARE) {
            return true;
        }
        let Ok((Some(op), i)) = cpu.fetch_for_guest() else { return false };
        // What it writes has to be an entry, or none of it happens. It may write to nothing else that is read-only.
        let slot = (mfn << PAGE_SHIFT) + (at & 0xff8);
        let beyond = if at & 0xff8 == 0xff8 { slot } else { slot + 8 };
        let before = [slot, beyond].map(|at| self.types.read(&self.ram, at));
        let (cr2, context) = (cpu.cr2, cpu.context());
        let ok = cpu.run_for_guest(op, &i, Some(at & !7)).is_ok();
        cpu.cr2 = cr2;
        let after = [slot, beyond].map(|at| self.types.read(&self.ram, at));
        self.counters.ptwr += 1;
        if after != before {
            self.ram.write(beyond, &before[1].to_le_bytes());
            self.ram.write(slot, &before[0].to_le_bytes());
        }
        // A repeated one has got as far as the next entry, and comes again for that.
        let ok = ok || i.repeated() && after[0] != before[0];
        if !ok || after == before {
            return ok;
        }
        let after = [after[0], if beyond == slot { before[1] } else { after[1] }];
        if after[1] != before[1] || self.write_entry(cpu, slot, after[0], false).is_err() {
            // Then it has not been run, and the guest gets its fault.
            cpu.set_context(&context);
            return false;
        }
        true
    }
}

/// Runs an instruction that only its privilege level keeps from running.
fn as_ring_0(cpu: &mut Cpu, op: Op, i: &Insn) -> bool {
    cpu.cpl = 0;
    let ok = cpu.run_for_guest(op, i, None).is_ok();
    cpu.cpl = 3;
    cpu.mode_changed();
    ok
}

/// INVD is not WBINVD, which may be ignored.
fn is_invd(cpu: &mut Cpu) -> bool {
    let rip = cpu.rip;
    guest::get::<2>(cpu, rip).is_ok_and(|b| b.0[1] == 0x08)
}

impl Domain {
    /// IN of a domain without devices.
    fn port_read(&mut self, _cx: &mut Cx<'_>, port: u16, size: Size) -> u64 {
        self.counters.ports += 1;
        match (port, size) {
            (0xcf8, Size::B4) => self.config_address.into(),
            _ => size.mask(),
        }
    }
    fn port_write(&mut self, _cx: &mut Cx<'_>, port: u16, size: Size, v: u64) {
        self.counters.ports += 1;
        if (port, size) == (0xcf8, Size::B4) {
            self.config_address = v as u32;
        }
    }
}
