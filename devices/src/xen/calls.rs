//! Small hypercalls: versions and features, entry points, stacks and segment bases, debug registers, assists.

use super::abi::{Answer, Errno, hole, sel};
use super::domain::Domain;
use super::guest;
use super::hypercall::Call;
use super::vcpu::{Callback, Gate};
use tabvisor_core::cpu::memory::canonical;
use tabvisor_core::cpu::{Cpu, cr4, reg};

/// What we say we are.
pub mod version {
    /// Major and minor.
    pub const NUMBER: u32 = 4 << 16 | 17;
    /// The rest of it.
    pub const EXTRA: &[u8] = b".tabvisor";
    /// Which domains it runs.
    pub const CAPABILITIES: &[u8] = b"xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";
    /// `XENFEAT_*` of a PV domain: mmu_pt_update_preserve_ad, highmem_assist, gnttab_map_avail_bits,
    /// memory_op_vnode_supported, direct_mapped.
    pub const PV_FEATURES: u32 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 13 | 1 << 17;
}

impl Domain {
    /// Hypercall 17.
    pub(super) fn xen_version(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, ..] = call.args;
        let cpu = &mut *call.cpu;
        match cmd as u32 {
            0 => return Ok(version::NUMBER.into()),
            1 => guest::put_text(cpu, arg, version::EXTRA, 16)?,
            2 => {
                // compile_info: compiler, by, domain, date.
                let mut b = [0; 144];
                b[..5].copy_from_slice(b"rustc");
                b[64..72].copy_from_slice(b"tabvisor");
                guest::write(cpu, arg, &b)?;
            }
            3 => guest::put_text(cpu, arg, version::CAPABILITIES, 1024)?,
            4 => guest::put_text(cpu, arg, b"unavailable", 64)?,
            5 => guest::put_u64(cpu, arg, hole::START)?,
            6 => {
                let index = guest::get::<8>(cpu, arg)?.u32(0);
                let features = if self.hvm.is_some() { super::hvm::FEATURES } else { version::PV_FEATURES };
                let map = if index == 0 { features } else { 0 };
                guest::put_u32(cpu, arg.wrapping_add(4), map)?;
            }
            7 => return Ok(4096),
            8 => guest::write(cpu, arg, &self.uuid)?,
            9 => guest::put_text(cpu, arg, b"<denied>", 1024)?,
            10 => return Err(Errno::ENODATA),
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }

    /// Hypercall 0.
    pub(super) fn set_trap_table(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let list = call.args[0];
        if list == 0 {
            self.vcpu_mut().pv.traps.fill(Gate::default());
            return Ok(0);
        }
        // A list without an end names each of the 256 gates many times.
        for n in 0..4096 {
            self.types.work += 4;
            let e = guest::get::<16>(call.cpu, list.wrapping_add(16 * n))?;
            if e.u64(8) == 0 {
                break;
            }
            if !canonical(e.u64(8)) {
                return Err(Errno::EINVAL);
            }
            let gate = Gate { address: e.u64(8), cs: e.u16(2) | 3, dpl: e.u8(1) & 3, mask: e.u8(1) & 4 != 0 };
            self.vcpu_mut().pv.traps[usize::from(e.u8(0))] = gate;
        }
        Ok(0)
    }

    /// Hypercall 3.
    pub(super) fn stack_switch(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let pv = &mut self.vcpu_mut().pv;
        pv.kernel_ss = call.args[0] as u16 | 3;
        pv.kernel_sp = call.args[1];
        Ok(0)
    }

    /// Hypercall 25.
    pub(super) fn set_segment_base(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [which, base, ..] = call.args;
        let cpu = &mut *call.cpu;
        if which <= 2 && !canonical(base) {
            return Err(Errno::EINVAL);
        }
        match which {
            0 => cpu.seg[reg::FS as usize].base = base,
            1 => cpu.msr.kernel_gs_base = base,
            2 => cpu.seg[reg::GS as usize].base = base,
            3 => {
                // The selector is loaded where the user's GS is.
                let kernel = cpu.seg[reg::GS as usize];
                if cpu.load_guest_segment(reg::GS, base as u16).is_err() {
                    let _ = cpu.load_guest_segment(reg::GS, 0);
                }
                let gs = &mut cpu.seg[reg::GS as usize];
                if base as u16 & !3 != 0 {
                    cpu.msr.kernel_gs_base = gs.base;
                } else {
                    cpu.msr.kernel_gs_base = 0;
                }
                gs.base = kernel.base;
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    fn set_callback(&mut self, kind: u16, flags: u16, address: u64) -> Result<(), Errno> {
        if !canonical(address) {
            return Err(Errno::EINVAL);
        }
        let callback = Callback { address, mask: flags & 1 != 0 };
        let pv = &mut self.vcpu_mut().pv;
        match kind {
            0 => pv.event = callback,
            1 => pv.failsafe = callback,
            2 => pv.syscall = callback,
            4 => pv.traps[2] = Gate { address, cs: sel::CS64, dpl: 0, mask: true },
            5 => pv.sysenter = callback,
            7 => pv.syscall32 = callback,
            _ => return Err(Errno::ENOSYS),
        }
        Ok(())
    }

    /// Hypercall 4: event, failsafe, syscall.
    pub(super) fn set_callbacks(&mut self, call: &mut Call<'_, '_>) -> Answer {
        for (kind, address) in (0..).zip(&call.args[..3]) {
            self.set_callback(kind, 0, *address)?;
        }
        Ok(0)
    }

    /// Hypercall 30.
    pub(super) fn callback_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, ..] = call.args;
        match cmd as u32 {
            0 => {
                let a = guest::get::<16>(call.cpu, arg)?;
                self.set_callback(a.u16(0), a.u16(2), a.u64(8)).map(|()| 0)
            }
            1 => match guest::get::<2>(call.cpu, arg)?.u16(0) {
                4 => {
                    self.vcpu_mut().pv.traps[2] = Gate::default();
                    Ok(0)
                }
                0..=7 => Err(Errno::EINVAL),
                _ => Err(Errno::ENOSYS),
            },
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Hypercall 28.
    pub(super) fn nmi_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        match call.args[0] as u32 {
            0 => {
                let address = guest::get::<8>(call.cpu, call.args[1])?.u64(0);
                self.set_callback(4, 0, address).map(|()| 0)
            }
            1 => {
                self.vcpu_mut().pv.traps[2] = Gate::default();
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Hypercall 5.
    pub(super) fn fpu_taskswitch(&mut self, call: &mut Call<'_, '_>) -> Answer {
        call.cpu.set_task_switched(call.args[0] != 0);
        Ok(0)
    }

    /// Hypercall 8.
    pub(super) fn set_debugreg(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [n, v, ..] = call.args;
        write_debug(call.cpu, n, v).map(|()| 0)
    }

    /// Hypercall 9.
    pub(super) fn get_debugreg(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let n = debug_register(call.cpu, call.args[0])?;
        Ok(call.cpu.dr[n])
    }

    /// Hypercall 21.
    pub(super) fn vm_assist(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let on = match call.args[0] as u32 {
            0 => true,
            1 => false,
            _ => return Err(Errno::ENOSYS),
        };
        match call.args[1] as u32 {
            0..=4 | 32 if self.hvm.is_some() => return Err(Errno::EINVAL),
            // 4gb_segments, pae_extended_cr3: for 32-bit domains; m2p_strict: the table is the same for all.
            0 | 1 | 3 | 32 => {}
            2 => self.writable_tables = on,
            4 => self.architectural_iopl = on,
            5 => self.runstate_update_flag = on,
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    /// Hypercall 33.
    pub(super) fn physdev_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, ..] = call.args;
        match cmd as u32 {
            6 => {
                let iopl = guest::get::<4>(call.cpu, arg)?.u32(0);
                if iopl > 3 {
                    return Err(Errno::EINVAL);
                }
                self.vcpu_mut().pv.iopl = iopl as u8;
                Ok(0)
            }
            7 => {
                let a = guest::get::<16>(call.cpu, arg)?;
                if a.u32(8) > 65536 {
                    return Err(Errno::EINVAL);
                }
                self.vcpu_mut().pv.io_bitmap = (a.u64(0), a.u32(8));
                Ok(0)
            }
            // There are no physical interrupts to end.
            28 => Ok(0),
            _ => Err(Errno::ENOSYS),
        }
    }
}

/// Sets a debug register, if a guest may have what it says.
///
/// # Errors
/// EPERM for the hypervisor's own, EINVAL for what no processor has.
pub(super) fn write_debug(cpu: &mut Cpu, n: u64, v: u64) -> Result<(), Errno> {
    let n = debug_register(cpu, n)?;
    match n {
        0..=3 if !canonical(v) || hole::contains(v) => return Err(Errno::EPERM),
        6 | 7 if v >> 32 != 0 => return Err(Errno::EINVAL),
        // General detect is Xen's.
        7 if v & 1 << 13 != 0 => return Err(Errno::EPERM),
        7 => {
            // I/O breakpoints (R/W = 2) need CR4.DE; without it there is no such kind.
            let io = (0..4).any(|k| v >> (2 * k) & 3 != 0 && v >> (16 + 4 * k) & 3 == 2);
            if io && cpu.cr4 & cr4::DE == 0 {
                return Err(Errno::EPERM);
            }
        }
        _ => {}
    }
    cpu.set_debug_register(n, v);
    Ok(())
}

/// DR4 and DR5 are other names of DR6 and DR7, unless CR4.DE says that they are none.
pub(super) fn debug_register(cpu: &Cpu, n: u64) -> Result<usize, Errno> {
    match n {
        0..=3 | 6 | 7 => Ok(n as usize),
        4 | 5 if cpu.cr4 & cr4::DE == 0 => Ok(n as usize + 2),
        4 | 5 => Err(Errno::ENODEV),
        _ => Err(Errno::EINVAL),
    }
}
