//! Runs the user-mode one-line cases on anything that runs oracle tests: the host CPU above all.

use crate::ins::{Case, Ending, Fault, Mode, Runner};
use crate::oracle::compare::{GPR, SEG};
use crate::oracle::host::vendor;
use crate::oracle::state as orc;
use crate::oracle::state::{DATA_BASE, DATA_SIZE, Fx, Out, Patch, Subject, Test, Vendor};
use crate::oracle::values;
use anyhow::{Context, Result, ensure};

/// A [`Subject`] as a runner of `long64`, `compat` and `prot32` cases at CPL 3.
pub struct User<S>(pub S);

/// The oracle test that is this case.
fn test(c: &Case) -> Result<Test> {
    let mode = if c.mode == Mode::Long64 { orc::Mode::Long64 } else { orc::Mode::Prot32 };
    let mut t = Test::background(mode, 0);
    for (i, g) in t.gpr.iter_mut().enumerate() {
        *g = c.initial(GPR[i]) as u64;
    }
    t.rflags = c.initial_rflags();
    t.fs_base = c.initial("fsbase") as u64;
    t.gs_base = c.initial("gsbase") as u64;
    for (i, name) in SEG.iter().enumerate() {
        if let Some(v) = c.before.values.get(*name) {
            t.sel[i] = *v as u16;
        }
    }
    t.fx = c.initial_fx();
    t.len = c.code.len() as u8;
    t.code = [0; 32];
    t.code[..c.code.len()].copy_from_slice(&c.code);
    let mut patches = t.patch.iter_mut();
    for (at, bytes) in &c.before.memory {
        for (i, part) in bytes.chunks(16).enumerate() {
            let at = at.wrapping_add(16 * i as u64).wrapping_sub(DATA_BASE);
            ensure!(at <= DATA_SIZE - 16, "memory outside the data window");
            let p: &mut Patch = patches.next().context("more than 64 bytes of memory")?;
            (p.at, p.len) = (at as u16, part.len() as u16);
            p.bytes[..part.len()].copy_from_slice(part);
        }
    }
    let wanted = t;
    t.make_valid();
    ensure!(wanted == t, "a state user mode cannot have");
    Ok(t)
}

/// The data window after the test.
fn window(t: &Test, o: &Out) -> Result<Vec<u8>> {
    ensure!(o.deltas as usize <= orc::DELTAS, "the case changes too much memory");
    let mut w = values::data_fill(t.fill);
    t.apply_patches(&mut w);
    for (at, v) in o.deltas() {
        w[at as usize..at as usize + 8].copy_from_slice(&v.to_le_bytes());
    }
    Ok(w)
}

impl<S: Subject> Runner for User<S> {
    fn can(&self, c: &Case) -> bool {
        c.cpl == 3
            && !(c.not_intel && vendor() == Vendor::Intel)
            && matches!(c.mode, Mode::Long64 | Mode::Compat | Mode::Prot32)
            && !c.before.values.keys().any(|k| k.starts_with("cr") || k.starts_with("dr"))
    }

    fn run(&mut self, c: &Case) -> Result<Ending> {
        let t = test(c)?;
        let mut o = Out::unchanged(&t);
        self.0.run(&t, &mut o);
        ensure!(o.vector < 0x20, "ended with {:#x}", o.vector);
        let mut e = Ending::default();
        let mut put = |name: &str, v: u128| e.values.insert(name.to_string(), v);
        let registers = if t.mode == orc::Mode::Long64 { 16 } else { 8 };
        for (i, name) in GPR.iter().enumerate().take(registers) {
            put(name, (o.gpr[i] & t.mode.mask()).into());
            put(&format!("xmm{i}"), u128::from_le_bytes(o.fx.0[Fx::xmm(i)..Fx::xmm(i) + 16].try_into()?));
        }
        for i in 0..8 {
            put(&format!("st{i}"), u128::from_le_bytes(o.fx.0[Fx::st(i)..Fx::st(i) + 16].try_into()?));
            put(&format!("mm{i}"), o.fx.u64(Fx::st(i)).into());
        }
        for (i, name) in SEG.iter().enumerate() {
            put(name, o.sel[i].into());
        }
        let end = t.rip() + u64::from(t.len);
        let named = c.after.values.get("rip").map(|v| *v as u64);
        // The filler's #BP means the code ran on; a jump may have left the page.
        let in_code = t.code[..t.len as usize].ends_with(&[0xcc]) && o.rip == end;
        let finished = o.vector == 3 && !in_code || o.vector == 14 && c.fault.is_none() && Some(o.rip) == named;
        let rip = if o.vector == 3 && finished { o.rip - 1 } else { o.rip };
        if finished && named.is_none() {
            ensure!(rip == end, "it ended at {rip:x}, not behind the code");
        }
        for (name, v) in [
            ("rip", rip),
            ("rflags", o.rflags),
            ("fsbase", o.fs_base),
            ("gsbase", o.gs_base),
            ("fcw", o.fx.u16(0).into()),
            ("fsw", o.fx.u16(2).into()),
            ("ftw", o.fx.0[4].into()),
            ("mxcsr", o.fx.mxcsr().into()),
            ("cr2", o.cr2),
        ] {
            put(name, v.into());
        }
        if !finished {
            e.fault = Some(Fault { vector: o.vector as u8, err: Some(o.err) });
        }
        let w = window(&t, &o)?;
        for (at, want) in &c.after.memory {
            let first = at.wrapping_sub(DATA_BASE) as usize;
            let got = w.get(first..first.wrapping_add(want.len())).context("memory outside the data window")?;
            e.memory.push((*at, got.to_vec()));
        }
        Ok(e)
    }
}
