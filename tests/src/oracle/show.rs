//! Tests and outcomes as text.

use super::compare::{Diff, GPR, SEG};
use super::encoding::decode;
use super::state::*;
use iced_x86::FastFormatter;
use std::fmt::Write;

/// The instruction as text, after its bytes.
pub fn instruction(t: &Test) -> String {
    let ins = decode(t);
    let mut text = String::new();
    FastFormatter::new().format(&ins, &mut text);
    let bytes: Vec<String> = t.bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("[{}] {text} ({:?})", bytes.join(" "), ins.code())
}

/// The whole test.
pub fn test(t: &Test) -> String {
    let mut s = format!("{:?} {}\n", t.mode, instruction(t));
    let mut line = String::new();
    for (i, v) in t.gpr.iter().enumerate() {
        if t.mode == Mode::Long64 || i < 8 {
            let _ = write!(line, "{}={v:x} ", GPR[i]);
        }
    }
    let _ = writeln!(
        s,
        "  {line}\n  rip={:x} rflags={:x} fsbase={:x} gsbase={:x}",
        t.rip(),
        t.rflags,
        t.fs_base,
        t.gs_base
    );
    let sel: Vec<String> = t.sel.iter().zip(SEG).map(|(v, n)| format!("{n}={v:x}")).collect();
    let _ = writeln!(s, "  {} fill={}", sel.join(" "), t.fill);
    for p in t.patch.iter().filter(|p| p.len != 0) {
        let _ = writeln!(s, "  data[{:04x}] = {:02x?}", p.at, &p.bytes[..p.len as usize]);
    }
    s + &fx(&t.fx)
}

fn fx(f: &Fx) -> String {
    let mut s = format!(
        "  fcw={:04x} fsw={:04x} ftw={:02x} fop={:x} fip={:x} fdp={:x} mxcsr={:x}\n",
        f.u16(0),
        f.u16(2),
        f.0[4],
        f.u16(6),
        f.u64(8),
        f.u64(16),
        f.mxcsr()
    );
    let shown = |at: usize| f.u64(at) != 0 || f.u64(at + 8) != 0;
    for i in (0..8).filter(|&i| shown(Fx::st(i))) {
        let _ = write!(s, "  st{i}={:04x}_{:016x}", f.u64(Fx::st(i) + 8), f.u64(Fx::st(i)));
    }
    for i in (0..16).filter(|&i| shown(Fx::xmm(i))) {
        let _ = write!(s, "  xmm{i}={:016x}_{:016x}", f.u64(Fx::xmm(i) + 8), f.u64(Fx::xmm(i)));
    }
    s + "\n"
}

/// An outcome: what differs from the test's input.
pub fn outcome(t: &Test, o: &Out) -> String {
    let mut s =
        format!("  vector={:x} err={:x} rip={:x} cr2={:x} rflags={:x}", o.vector, o.err, o.rip, o.cr2, o.rflags);
    for (i, (v, old)) in o.gpr.iter().zip(t.gpr).enumerate() {
        if *v != old {
            let _ = write!(s, " {}={v:x}", GPR[i]);
        }
    }
    for (i, (v, old)) in o.sel.iter().zip(t.sel).enumerate() {
        if *v != old {
            let _ = write!(s, " {}={v:x}", SEG[i]);
        }
    }
    for (name, v, old) in [("fsbase", o.fs_base, t.fs_base), ("gsbase", o.gs_base, t.gs_base)] {
        if v != old {
            let _ = write!(s, " {name}={v:x}");
        }
    }
    for (at, v) in o.deltas() {
        let _ = write!(s, " [{at:04x}]={v:x}");
    }
    s.push('\n');
    if o.fx != t.fx {
        s += &fx(&o.fx);
    }
    s
}

/// A list of differences in one line.
pub fn diffs(d: &[Diff]) -> String {
    d.iter().map(Diff::to_string).collect::<Vec<_>>().join("; ")
}

/// The fields of a list of differences, numbers cut off, to group by.
pub fn fields(d: &[Diff]) -> String {
    let mut names: Vec<&str> = d
        .iter()
        .map(|d| {
            let f = d.field.as_str();
            // r8 to r15 and the named registers are one group, as are st, xmm and mem.
            if GPR.contains(&f) {
                "gpr"
            } else {
                f.trim_end_matches(|c: char| c.is_ascii_digit()).split('[').next().unwrap_or(f)
            }
        })
        .collect();
    names.dedup();
    names.join("+")
}
