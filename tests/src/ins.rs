//! One-line instruction cases, `tests/isa/*.ins`:
//!
//! ```text
//! [48 01 c8] add rax, rcx | rax=7fffffffffffffff rcx=1 => rax=8000000000000000 of=1 sf=1 cf=0  # SDM 2A ADD
//! ```
//!
//! Code bytes, a readable name, the state before, the state after, the manual's place. All numbers are
//! hexadecimal. Words before `=>`:
//! - `mode=`: `long64` (the default), `compat`, `prot32`, `prot16`, `v86`, `real`; `cpl=`: 0 or 3.
//! - registers by name (`rax`, `eax`, `es`, `fsbase`, `cr0`, `xmm0`, `st0`, `mm0`, `fcw`, `fsw`, `mxcsr`, ...),
//!   flags by name (`cf`, `df`, ...) or together (`rflags=`). Numbers of more than 64 bits may have `_`.
//! - `[20000010]=aabbcc`: memory bytes, lowest address first.
//!
//! After `=>`: the same; also `fault=gp(0)`, `fault=ud`, `fault=pf(6)` and `rip=`. Without `fault=` the code must
//! run to its end. General registers, RSP included, and XMM registers that are not named must keep their
//! value; unnamed flags, x87 state and memory are not looked at. `known_failure` anywhere turns the verdict round; `not_intel`
//! says that Intel's processors do something else, which we do not do yet.
//!
//! Lines starting with `#` and empty lines are skipped. See [`Mode`] for the world each mode provides.

use crate::oracle::state::{CODE_BASE, DATA_BASE, Fx};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// The CPU mode of a case, and the world around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Code at `CODE_BASE + 800h`, data at `DATA_BASE` as the oracle lays them out; flat segments; CPL 3.
    Long64,
    /// 32-bit code under long mode; windows as `Long64`.
    Compat,
    /// 32-bit protected mode with paging; windows as `Long64`.
    Prot32,
    /// 16-bit protected mode, all segments base 0 limit FFFFh; code at 7C00h.
    Prot16,
    /// Virtual-8086 mode, all segments 0; code at 7C00h; IOPL 0.
    V86,
    /// Real mode, all segments 0; code at 7C00h.
    Real,
}

impl Mode {
    fn parse(s: &str) -> Result<Mode> {
        Ok(match s {
            "long64" => Mode::Long64,
            "compat" => Mode::Compat,
            "prot32" => Mode::Prot32,
            "prot16" => Mode::Prot16,
            "v86" => Mode::V86,
            "real" => Mode::Real,
            _ => bail!("no mode {s}"),
        })
    }

    /// Where the code of a case lies (linear).
    pub fn code_at(self) -> u64 {
        match self {
            Mode::Long64 | Mode::Compat | Mode::Prot32 => CODE_BASE + 0x800,
            Mode::Prot16 | Mode::V86 | Mode::Real => 0x7c00,
        }
    }

    /// The stack pointer a case starts with unless it says otherwise.
    pub fn stack_at(self) -> u64 {
        match self {
            Mode::Long64 | Mode::Compat | Mode::Prot32 => DATA_BASE + 0x800,
            Mode::Prot16 | Mode::V86 | Mode::Real => 0x7000,
        }
    }
}

/// An exception, with its error code if it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Vector.
    pub vector: u8,
    /// Error code.
    pub err: Option<u32>,
}

/// Named values and memory bytes: half of a case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Values by canonical name: 64-bit register names, flags, `rflags`, `xmm0` and so on.
    pub values: BTreeMap<String, u128>,
    /// Memory by linear address.
    pub memory: Vec<(u64, Vec<u8>)>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Case {
    /// Line number in its file, from 1.
    pub line: usize,
    /// The readable name.
    pub name: String,
    /// The mode.
    pub mode: Mode,
    /// The privilege level.
    pub cpl: u8,
    /// Code bytes.
    pub code: Vec<u8>,
    /// Before.
    pub before: State,
    /// After.
    pub after: State,
    /// The exception expected, if any.
    pub fault: Option<Fault>,
    /// The manual's place.
    pub reference: String,
    /// The case fails today and that is known.
    pub known_failure: bool,
    /// Processors of Intel do something else.
    pub not_intel: bool,
}

/// What a runner reports.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Every value the runner knows, under canonical names: the 16 general registers, `rip`, `rflags`, and what
    /// else it has.
    pub values: BTreeMap<String, u128>,
    /// The memory ranges that `Case::after` names, as they are now.
    pub memory: Vec<(u64, Vec<u8>)>,
    /// The exception that ended the case; none if the code ran to its end.
    pub fault: Option<Fault>,
}

/// Someone who can run cases.
pub trait Runner {
    /// Can it run this one?
    fn can(&self, case: &Case) -> bool;
    /// Runs the code up to its end or its first exception.
    fn run(&mut self, case: &Case) -> Result<Ending>;
}

/// Flags by name and bit.
pub const FLAGS: [(&str, u32); 13] = [
    ("cf", 0),
    ("pf", 2),
    ("af", 4),
    ("zf", 6),
    ("sf", 7),
    ("tf", 8),
    ("if", 9),
    ("df", 10),
    ("of", 11),
    ("nt", 14),
    ("rf", 16),
    ("ac", 18),
    ("id", 21),
];

const VECTORS: [(&str, u8); 17] = [
    ("de", 0),
    ("db", 1),
    ("nmi", 2),
    ("bp", 3),
    ("of", 4),
    ("br", 5),
    ("ud", 6),
    ("nm", 7),
    ("df", 8),
    ("ts", 10),
    ("np", 11),
    ("ss", 12),
    ("gp", 13),
    ("pf", 14),
    ("mf", 16),
    ("ac", 17),
    ("xm", 19),
];

/// The 64-bit name of a general register, if `name` is one of its names of 16 bits or more.
fn canonical(name: &str) -> Option<String> {
    use crate::oracle::compare::GPR;
    if GPR.contains(&name) {
        return Some(name.into());
    }
    if let Some(n) = name.strip_suffix(['d', 'w']).filter(|n| n.starts_with('r') && GPR.contains(n)) {
        return Some(n.into());
    }
    let wide = format!("r{}", name.strip_prefix('e').unwrap_or(name));
    GPR[..8].contains(&wide.as_str()).then_some(wide)
}

/// Is `name` something a case may set or ask for besides general registers and flags?
fn known(name: &str) -> bool {
    let numbered =
        |prefix: &str, n: u32| name.strip_prefix(prefix).and_then(|d| d.parse::<u32>().ok()).is_some_and(|d| d < n);
    matches!(
        name,
        "rip"
            | "rflags"
            | "es"
            | "cs"
            | "ss"
            | "ds"
            | "fs"
            | "gs"
            | "fsbase"
            | "gsbase"
            | "fcw"
            | "fsw"
            | "ftw"
            | "mxcsr"
    ) || FLAGS.iter().any(|f| f.0 == name)
        || numbered("xmm", 16)
        || numbered("st", 8)
        || numbered("mm", 8)
        || numbered("cr", 9)
        || numbered("dr", 8)
}

fn hex(s: &str) -> Result<u128> {
    u128::from_str_radix(&s.replace('_', ""), 16).with_context(|| format!("{s} is not a hexadecimal number"))
}

fn hex_bytes(s: &str) -> Result<Vec<u8>> {
    let digits: Vec<u8> = s.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'_').collect();
    ensure!(digits.len().is_multiple_of(2), "{s} has half a byte");
    digits
        .chunks(2)
        .map(|d| u8::from_str_radix(std::str::from_utf8(d)?, 16).with_context(|| format!("{s} is not bytes")))
        .collect()
}

fn fault(s: &str) -> Result<Fault> {
    let (name, err) = match s.split_once('(') {
        Some((n, e)) => (n, Some(hex(e.strip_suffix(')').context("a fault's bracket is open")?)? as u32)),
        None => (s, None),
    };
    let vector = VECTORS.iter().find(|v| v.0 == name).with_context(|| format!("no fault {name}"))?.1;
    Ok(Fault { vector, err })
}

impl Case {
    /// Parses one line; `None` for comments and empty lines.
    pub fn parse(line: usize, text: &str) -> Result<Option<Case>> {
        let (text, reference) = text.split_once('#').unwrap_or((text, ""));
        if text.trim().is_empty() {
            return Ok(None);
        }
        let rest = text.trim().strip_prefix('[').context("a case starts with [code bytes]")?;
        let (code, rest) = rest.split_once(']').context("the code bytes have no end")?;
        let (name, rest) = rest.split_once('|').context("the state before is missing: no |")?;
        let (before, after) = rest.split_once("=>").context("the state after is missing: no =>")?;
        let reference = reference.trim().to_string();
        ensure!(!reference.is_empty(), "the manual's place is missing: end the line with # and where it says so");
        let mut c = Case {
            line,
            name: name.trim().into(),
            mode: Mode::Long64,
            cpl: 3,
            code: hex_bytes(code)?,
            before: State::default(),
            after: State::default(),
            fault: None,
            reference,
            known_failure: false,
            not_intel: false,
        };
        let mut cpl = None;
        for (words, is_after) in [(before, false), (after, true)] {
            for word in words.split_whitespace() {
                if word == "known_failure" {
                    c.known_failure = true;
                    continue;
                }
                if word == "not_intel" {
                    c.not_intel = true;
                    continue;
                }
                let (key, value) = word.split_once('=').with_context(|| format!("{word} is not name=value"))?;
                let state = if is_after { &mut c.after } else { &mut c.before };
                match key {
                    "mode" => c.mode = Mode::parse(value)?,
                    "cpl" => cpl = Some(hex(value)? as u8),
                    "fault" if is_after => c.fault = Some(fault(value)?),
                    _ if key.starts_with('[') => {
                        let at = hex(key.trim_matches(['[', ']']))? as u64;
                        state.memory.push((at, hex_bytes(value)?));
                    }
                    _ => {
                        let name = canonical(key).unwrap_or_else(|| key.to_string());
                        ensure!(canonical(key).is_some() || known(key), "no register or flag {key}");
                        state.values.insert(name, hex(value)?);
                    }
                }
            }
        }
        c.cpl = cpl.unwrap_or(if c.mode == Mode::Real { 0 } else { 3 });
        ensure!(matches!(c.cpl, 0 | 3), "cpl is 0 or 3");
        ensure!((1..=32).contains(&c.code.len()), "a case has 1 to 32 code bytes");
        Ok(Some(c))
    }

    /// A value before the case runs: as given, or the default of the mode.
    pub fn initial(&self, name: &str) -> u128 {
        if let Some(v) = self.before.values.get(name) {
            return *v;
        }
        match name {
            "rsp" => self.mode.stack_at().into(),
            "rip" => self.mode.code_at().into(),
            "fcw" => 0x37f,
            "mxcsr" => 0x1f80,
            _ => 0,
        }
    }

    /// RFLAGS before the case runs: `rflags=` or 2, IF set at CPL 3, then the flags given by name.
    pub fn initial_rflags(&self) -> u64 {
        let base = if self.cpl == 3 { 0x202 } else { 2 };
        let mut f = self.before.values.get("rflags").map_or(base, |v| *v as u64 | base);
        for (name, bit) in FLAGS {
            if let Some(v) = self.before.values.get(name) {
                f = f & !(1 << bit) | (*v as u64 & 1) << bit;
            }
        }
        f
    }

    /// Floating-point state before the case runs.
    pub fn initial_fx(&self) -> Fx {
        let mut fx = Fx::INIT;
        fx.set_u16(0, self.initial("fcw") as u16);
        fx.set_u16(2, self.initial("fsw") as u16);
        fx.0[4] = self.initial("ftw") as u8;
        fx.set_mxcsr(self.initial("mxcsr") as u32);
        for i in 0..16 {
            let v = self.initial(&format!("xmm{i}"));
            fx.0[Fx::xmm(i)..Fx::xmm(i) + 16].copy_from_slice(&v.to_le_bytes());
        }
        for i in 0..8 {
            let mm = self.before.values.get(&format!("mm{i}")).map(|v| *v | 0xffff << 64);
            let st = self.before.values.get(&format!("st{i}"));
            if let Some(v) = mm.or(st.copied()) {
                fx.0[Fx::st(i)..Fx::st(i) + 16].copy_from_slice(&v.to_le_bytes());
                // A register that is named is not empty.
                let top = fx.u16(2) >> 11 & 7;
                fx.0[4] |= 1 << ((i as u16 + top) & 7);
            }
        }
        fx
    }

    /// What is wrong with an ending; empty if nothing is.
    pub fn verdict(&self, e: &Ending) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |name: &str, want: u128, got: u128| {
            if want != got {
                wrong.push(format!("{name} is {got:x}, should be {want:x}"));
            }
        };
        let value = |name: &str| e.values.get(name).copied();
        match (self.fault, e.fault) {
            (a, b) if a.map(|f| f.vector) != b.map(|f| f.vector) => {
                return vec![format!("fault is {b:x?}, should be {:x?}", self.fault)];
            }
            (Some(a), Some(b)) => {
                if let Some(err) = a.err {
                    check("error code", err.into(), b.err.unwrap_or(0).into());
                }
            }
            _ => {}
        }
        let rflags = value("rflags").unwrap_or(0);
        for (name, want) in &self.after.values {
            let got = match FLAGS.iter().find(|f| f.0 == name) {
                Some((_, bit)) => rflags >> bit & 1,
                None => match value(name) {
                    Some(v) => v,
                    None => return vec![format!("the runner does not report {name}")],
                },
            };
            check(name, *want, got);
        }
        for (name, got) in &e.values {
            let kept = crate::oracle::compare::GPR.contains(&name.as_str()) || name.starts_with("xmm");
            if kept && !self.after.values.contains_key(name) {
                check(name, self.initial(name), *got);
            }
        }
        for (at, want) in &self.after.memory {
            match e.memory.iter().find(|m| m.0 == *at) {
                Some((_, got)) if got == want => {}
                got => wrong.push(format!("memory at {at:x} is {:02x?}, should be {want:02x?}", got.map(|g| &g.1))),
            }
        }
        wrong
    }
}

/// Parses a whole file; errors name the line.
pub fn parse(file: &str) -> Result<Vec<Case>> {
    let lines = file.lines().enumerate();
    lines.filter_map(|(i, l)| Case::parse(i + 1, l).with_context(|| format!("line {}", i + 1)).transpose()).collect()
}

/// Runs the cases a runner can run; returns how many and what went wrong, one entry per case.
pub fn run(file: &str, cases: &[Case], runner: &mut dyn Runner) -> Result<(usize, Vec<String>)> {
    let (mut ran, mut wrong) = (0, Vec::new());
    for c in cases {
        if !runner.can(c) {
            continue;
        }
        ran += 1;
        let place = format!("{file}:{}: {} ({})", c.line, c.name, c.reference);
        let bad = c.verdict(&runner.run(c).with_context(|| place.clone())?);
        match (bad.is_empty(), c.known_failure) {
            (false, false) => wrong.push(format!("{place}: {}", bad.join("; "))),
            (true, true) => wrong.push(format!("{place}: passes now, remove known_failure")),
            _ => {}
        }
    }
    Ok((ran, wrong))
}
