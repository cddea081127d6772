//! FCOM, FUCOM, FICOM, FCOMI, FTST, FXAM, FCMOVcc.

use super::arith::on_the_stack;
use super::{enter, integer, opcode, real, sti};
use crate::cpu::{Cpu, Done};
use crate::decode::insn::Insn;
use crate::emit::{Emit, Number, Unit87};
use crate::flags;
use crate::isa::operand::Form;

#[inline(always)]
fn com<E: Emit>(e: &mut E, i: &Insn, pops: u8) -> Result<(), E::Stop> {
    e.x87()?;
    let (with, at) = real(e, i)?;
    e.x87_note(i, at);
    e.x87_do(Unit87::Compare { with, quiet: false, pops });
    Ok(())
}
#[inline(always)]
fn icom<E: Emit>(e: &mut E, i: &Insn, pops: u8) -> Result<(), E::Stop> {
    e.x87()?;
    let (with, at) = integer(e, i)?;
    e.x87_note(i, Some(at));
    e.x87_do(Unit87::Compare { with, quiet: false, pops });
    Ok(())
}
#[inline(always)]
fn ucom<E: Emit>(e: &mut E, i: &Insn, pops: u8) -> Result<(), E::Stop> {
    on_the_stack(e, i, Unit87::Compare { with: Number::St(sti(i)), quiet: true, pops })
}
#[inline(always)]
fn comi<E: Emit>(e: &mut E, i: &Insn, quiet: bool, pop: bool) -> Result<(), E::Stop> {
    e.x87()?;
    e.x87_note(i, None);
    let image = e.x87_relation(sti(i), quiet, pop);
    flags::write(e, image);
    Ok(())
}

macro_rules! comparisons {
    ($($f:ident $how:ident($($what:expr),*) $name:literal;)*) => { $(
        #[doc = concat!($name, ".")]
        pub fn $f<E: Emit, F: Form>(e: &mut E, f: F) -> Result<(), E::Stop> {
            $how(e, &f, $($what),*)
        }
    )* };
}
// With two pops the opcode's low bits name ST(1).
comparisons! {
    fcom com(0) "FCOM";
    fcomp com(1) "FCOMP";
    fcompp com(2) "FCOMPP";
    ficom icom(0) "FICOM";
    ficomp icom(1) "FICOMP";
    fucom ucom(0) "FUCOM";
    fucomp ucom(1) "FUCOMP";
    fucompp ucom(2) "FUCOMPP";
    fcomi comi(false, false) "FCOMI.  ZF, PF, CF; OF, SF, AF = 0";
    fcomip comi(false, true) "FCOMIP.  As FCOMI";
    fucomi comi(true, false) "FUCOMI.  As FCOMI";
    fucomip comi(true, true) "FUCOMIP.  As FCOMI";
}

/// FTST.
pub fn ftst(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    cpu.x87_note(i, None);
    cpu.fpu.ftst();
    Ok(())
}
/// FXAM.
pub fn fxam(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    cpu.x87_note(i, None);
    cpu.fpu.fxam();
    Ok(())
}

/// FCMOVcc: below, equal, below or equal, unordered (DA), and their opposites (DB).
pub fn fcmovcc(cpu: &mut Cpu, i: &Insn) -> Done {
    enter(cpu)?;
    cpu.x87_note(i, None);
    let cc = [2, 4, 6, 10][usize::from(opcode(i) >> 3 & 3)] | (opcode(i) >> 8) as u8 & 1;
    let holds = flags::cond(cpu, cc) != 0;
    cpu.fpu.fcmov(holds, sti(i));
    Ok(())
}
