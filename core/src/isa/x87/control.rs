//! Control and status words, environments and states, stack pointer and tags, FWAIT, EMMS.

use super::area::Area;
use super::{after_clearing, before_clearing, enter, enter_no_wait, pending_error, sti};
use crate::cpu::fpu::Layout;
use crate::cpu::{Cpu, Done, Vector, cr0, fault};
use crate::decode::insn::{Insn, opnd};
use crate::emit::Emit;
use crate::isa::operand::{linear, set_reg};
use crate::size::Size;

/// FWAIT: #NM only if CR0.MP and TS are both set.
pub fn fwait(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.cr0 & (cr0::MP | cr0::TS) == cr0::MP | cr0::TS {
        return Err(fault(Vector::NM));
    }
    if cpu.fpu.pending() { pending_error(cpu) } else { Ok(()) }
}

/// EMMS.
pub fn emms(cpu: &mut Cpu, _: &Insn) -> Done {
    if cpu.cr0 & cr0::EM != 0 {
        return Err(fault(Vector::UD));
    }
    enter(cpu)?;
    cpu.fpu.emms();
    Ok(())
}

/// FNOP.
pub fn fnop(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    cpu.x87_note(i, None);
    Ok(())
}

/// FNENI, FNDISI (8087), FNSETPM (80287): nothing since the 80387, and they do not wait.
pub fn old_nop(cpu: &mut Cpu, _: &Insn) -> Done {
    enter_no_wait(cpu)
}

/// FINCSTP.
pub fn fincstp(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    cpu.x87_note(i, None);
    cpu.fpu.fincstp();
    Ok(())
}
/// FDECSTP.
pub fn fdecstp(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    cpu.x87_note(i, None);
    cpu.fpu.fdecstp();
    Ok(())
}
/// FFREE.
pub fn ffree(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    cpu.x87_note(i, None);
    cpu.fpu.ffree(sti(i));
    Ok(())
}
/// FFREEP.
pub fn ffreep(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    cpu.x87_note(i, None);
    cpu.fpu.ffreep(sti(i));
    Ok(())
}

/// FNINIT.
pub fn fninit(cpu: &mut Cpu, _: &Insn) -> Done {
    enter_no_wait(cpu)?;
    before_clearing(cpu)?;
    cpu.fpu.fninit();
    after_clearing(cpu);
    Ok(())
}
/// FNCLEX.
pub fn fnclex(cpu: &mut Cpu, _: &Insn) -> Done {
    enter_no_wait(cpu)?;
    before_clearing(cpu)?;
    cpu.fpu.fnclex();
    after_clearing(cpu);
    Ok(())
}

/// FLDCW.
pub fn fldcw(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    before_clearing(cpu)?;
    let at = linear(cpu, i, 2, false)?;
    let v = cpu.read(at, Size::B2)?;
    cpu.fpu.fldcw(v as u16);
    after_clearing(cpu);
    Ok(())
}
/// FNSTCW.
pub fn fnstcw(cpu: &mut Cpu, i: &Insn) -> Done {
    enter_no_wait(cpu)?;
    let at = linear(cpu, i, 2, true)?;
    let v = u64::from(cpu.fpu.control_word());
    cpu.write(at, Size::B2, v)
}
/// FNSTSW to memory or AX.
pub fn fnstsw(cpu: &mut Cpu, i: &Insn) -> Done {
    enter_no_wait(cpu)?;
    let v = u64::from(cpu.fpu.status_word());
    if i.a == opnd::MEM {
        let at = linear(cpu, i, 2, true)?;
        return cpu.write(at, Size::B2, v);
    }
    set_reg(cpu, 0, Size::B2, false, v);
    Ok(())
}

/// The layout of environments, and the unit they are moved in (#AC asks for its alignment).
fn layout(cpu: &Cpu, i: &Insn) -> (Layout, Size) {
    let protected = cpu.protected() && !cpu.v86();
    match (i.size, protected) {
        (Size::B2, true) => (Layout::Protected16, Size::B2),
        (Size::B2, false) => (Layout::Real16, Size::B2),
        (_, true) => (Layout::Protected32, Size::B4),
        (_, false) => (Layout::Real32, Size::B4),
    }
}

/// FLDENV.
pub fn fldenv(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    before_clearing(cpu)?;
    let (layout, unit) = layout(cpu, i);
    let n = layout.env_len();
    let area = Area::new(cpu, i, n as u64, false)?;
    let mut image = [0; 28];
    area.read(cpu, 0, &mut image[..n], unit)?;
    cpu.fpu.fldenv(layout, &image);
    after_clearing(cpu);
    Ok(())
}
/// FNSTENV; masks all exceptions.
pub fn fnstenv(cpu: &mut Cpu, i: &Insn) -> Done {
    enter_no_wait(cpu)?;
    before_clearing(cpu)?;
    let (layout, unit) = layout(cpu, i);
    let n = layout.env_len();
    let area = Area::new(cpu, i, n as u64, true)?;
    let image = cpu.fpu.fnstenv(layout);
    area.probe(cpu, 0, n, unit)?;
    area.write(cpu, 0, &image[..n], unit)?;
    cpu.fpu.fnstenv_commit();
    after_clearing(cpu);
    Ok(())
}
/// FRSTOR.
pub fn frstor(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    before_clearing(cpu)?;
    let (layout, unit) = layout(cpu, i);
    let n = layout.state_len();
    let area = Area::new(cpu, i, n as u64, false)?;
    let mut image = [0; 108];
    area.read(cpu, 0, &mut image[..n], unit)?;
    cpu.fpu.frstor(layout, &image);
    after_clearing(cpu);
    Ok(())
}
/// FNSAVE; then as FNINIT.
pub fn fnsave(cpu: &mut Cpu, i: &Insn) -> Done {
    enter_no_wait(cpu)?;
    before_clearing(cpu)?;
    let (layout, unit) = layout(cpu, i);
    let n = layout.state_len();
    let area = Area::new(cpu, i, n as u64, true)?;
    let image = cpu.fpu.fnsave(layout);
    area.probe(cpu, 0, n, unit)?;
    area.write(cpu, 0, &image[..n], unit)?;
    cpu.fpu.fninit();
    after_clearing(cpu);
    Ok(())
}
