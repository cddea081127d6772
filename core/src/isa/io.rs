//! IN and OUT, and the check that allows them (SDM 1 chapter 19).

use crate::cpu::{Cpu, Done, event, gp};
use crate::decode::insn::{Insn, opnd};
use crate::isa::operand::set_reg;
use crate::size::Size;

impl Cpu {
    /// May the current code access `size` bytes of ports at `port`?
    ///
    /// # Errors
    /// #GP(0) by IOPL and the I/O permission bitmap.
    pub(crate) fn check_port(&mut self, port: u16, size: Size) -> Done {
        let iopl = (self.rflags >> 12 & 3) as u8;
        if !self.protected() || !self.v86() && self.cpl <= iopl {
            return Ok(());
        }
        let tr = self.seg[7];
        // A 16-bit TSS has no bitmap.
        if !tr.present() || tr.attr & 8 == 0 || tr.limit < 0x67 {
            return Err(gp(0));
        }
        let map = self.sys_read(tr.base.wrapping_add(0x66), Size::B2)?;
        let at = map + u64::from(port >> 3);
        if at + 1 > u64::from(tr.limit) {
            return Err(gp(0));
        }
        let bits = self.sys_read(tr.base.wrapping_add(at), Size::B2)? >> (port & 7);
        if bits & ((1 << size.bytes()) - 1) != 0 { Err(gp(0)) } else { Ok(()) }
    }

    /// Reads a port.
    pub(crate) fn port_in(&mut self, port: u16, size: Size) -> u64 {
        self.stats.ports += 1;
        self.watch_ports(port, size.bytes());
        u64::from(self.bus().port_read(port, size))
    }
    /// Writes a port.
    pub(crate) fn port_out(&mut self, port: u16, size: Size, v: u64) {
        self.stats.ports += 1;
        self.watch_ports(port, size.bytes());
        self.bus().port_write(port, size, size.zx(v) as u32);
    }
}

fn port(cpu: &Cpu, i: &Insn, operand: u8) -> u16 {
    if operand == opnd::IMM { i.imm as u8 as u16 } else { cpu.regs[2] as u16 }
}

/// IN: AL, AX or EAX from a port.
pub fn in_(cpu: &mut Cpu, i: &Insn) -> Done {
    let p = port(cpu, i, i.b);
    cpu.check_port(p, i.size)?;
    let v = cpu.port_in(p, i.size);
    set_reg(cpu, 0, i.size, false, i.size.zx(v));
    cpu.events |= event::CHECK;
    Ok(())
}

/// OUT: AL, AX or EAX to a port.
pub fn out(cpu: &mut Cpu, i: &Insn) -> Done {
    let p = port(cpu, i, i.a);
    cpu.check_port(p, i.size)?;
    let v = cpu.regs[0];
    cpu.port_out(p, i.size, v);
    cpu.events |= event::CHECK;
    Ok(())
}
