//! Decimal adjustment: DAA, DAS, AAA, AAS, AAM, AAD (16- and 32-bit code only).

use crate::cpu::{Cpu, Done, Vector, fault};
use crate::decode::insn::Insn;
use crate::flags::{self, AF, CF, OF};
use crate::size::Size;

fn ax(cpu: &Cpu) -> (u8, u8) {
    (cpu.regs[0] as u8, (cpu.regs[0] >> 8) as u8)
}
fn set_ax(cpu: &mut Cpu, al: u8, ah: u8) {
    cpu.regs[0] = cpu.regs[0] & !0xffff | u64::from(ah) << 8 | u64::from(al);
}

/// SF, ZF, PF of `al`, the given CF and AF, OF = 0 (undefined).
fn set_flags(cpu: &mut Cpu, al: u8, carry: bool, adjust: bool) {
    flags::result(cpu, Size::B1, u64::from(al), u64::from(carry), 0);
    cpu.flag_b |= u64::from(adjust) << 1;
}

/// DAA: AL after decimal addition.  AF, CF, SZP written, OF undefined.
pub fn daa(cpu: &mut Cpu, _: &Insn) -> Done {
    let f = flags::read(cpu);
    let (al, ah) = ax(cpu);
    let adjust = al & 15 > 9 || f & AF != 0;
    let carry = al > 0x99 || f & CF != 0;
    let r = al.wrapping_add(if adjust { 6 } else { 0 }).wrapping_add(if carry { 0x60 } else { 0 });
    set_ax(cpu, r, ah);
    set_flags(cpu, r, carry, adjust);
    Ok(())
}

/// DAS: AL after decimal subtraction.  AF, CF, SZP written, OF undefined.
pub fn das(cpu: &mut Cpu, _: &Insn) -> Done {
    let f = flags::read(cpu);
    let (al, ah) = ax(cpu);
    let adjust = al & 15 > 9 || f & AF != 0;
    let high = al > 0x99 || f & CF != 0;
    let borrow = adjust && (f & CF != 0 || al < 6);
    let r = al.wrapping_sub(if adjust { 6 } else { 0 }).wrapping_sub(if high { 0x60 } else { 0 });
    set_ax(cpu, r, ah);
    set_flags(cpu, r, high || borrow, adjust);
    Ok(())
}

/// AAA: AL, AH after unpacked addition.  AF = CF, the others undefined.
pub fn aaa(cpu: &mut Cpu, _: &Insn) -> Done {
    ascii(cpu, 0x106)
}
/// AAS: AL, AH after unpacked subtraction.  AF = CF, the others undefined.
pub fn aas(cpu: &mut Cpu, _: &Insn) -> Done {
    ascii(cpu, 0u16.wrapping_sub(0x106))
}

fn ascii(cpu: &mut Cpu, delta: u16) -> Done {
    let f = flags::read(cpu);
    let (al, _) = ax(cpu);
    let adjust = al & 15 > 9 || f & AF != 0;
    let old = cpu.regs[0] as u16;
    let new = if adjust { old.wrapping_add(delta) } else { old } & 0xff0f;
    set_ax(cpu, new as u8, (new >> 8) as u8);
    let keep = f & !(AF | CF | OF);
    flags::write(cpu, keep | if adjust { AF | CF } else { 0 });
    Ok(())
}

/// AAM imm8: AH = AL / imm, AL = AL % imm.  SZP written.  #DE if imm is 0.
pub fn aam(cpu: &mut Cpu, i: &Insn) -> Done {
    let d = i.imm as u8;
    let (al, _) = ax(cpu);
    let (Some(q), Some(r)) = (al.checked_div(d), al.checked_rem(d)) else {
        return Err(fault(Vector::DE));
    };
    set_ax(cpu, r, q);
    set_flags(cpu, r, false, false);
    Ok(())
}

/// AAD imm8: AL = AH * imm + AL, AH = 0.  SZP written.
pub fn aad(cpu: &mut Cpu, i: &Insn) -> Done {
    let (al, ah) = ax(cpu);
    let r = ah.wrapping_mul(i.imm as u8).wrapping_add(al);
    set_ax(cpu, r, 0);
    set_flags(cpu, r, false, false);
    Ok(())
}
