//! The SingleStepTests of a real 80286 (github.com/SingleStepTests/80286, recorded by Daniel Balsom from a
//! Harris 80C286) against Tabvisor's CPU in real mode: registers and memory after one instruction.

pub mod moo;
pub mod rules;

use anyhow::{Context, Result, ensure};
use moo::{Case, FLAGS, NAMES};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use tabvisor_core::bus::Nothing;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::Segment;
use tabvisor_core::mem::GuestRam;
use tabvisor_core::vcpu::Vcpu;

/// Memory a real-mode program can reach, with room.
const RAM: u64 = 2 << 20;
/// Where a test's register lies: general register number, or 16 + segment number.
const WHERE: [usize; 12] = [0, 3, 1, 2, 16 + 1, 16 + 2, 16 + 3, 16, 4, 5, 6, 7];
const IP: usize = 12;

/// Where the interrupt vector table has exception 12.
const STACK_FAULT: u64 = 4 * 12;

/// Where the exception of a test, if it has one, pushed the flags. (The recorded address is rounded to even.)
fn pushed_flags(c: &Case) -> u32 {
    let (ss, sp) = (u32::from(c.after[5]), c.after[8]);
    if c.exception.is_some() { (ss << 4) + u32::from(sp.wrapping_add(4)) } else { u32::MAX - 1 }
}

/// What came of the tests of one form.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Tests.
    pub tests: u32,
    /// Tests that agree.
    pub agree: u32,
    /// Tests left out, by the rule that says so.
    pub ruled: BTreeMap<&'static str, u32>,
    /// The first test that differs without a rule, and how.
    pub first: Option<String>,
}

impl Tally {
    /// Tests that differ and no rule explains.
    pub fn different(&self) -> u32 {
        self.tests - self.agree - self.ruled.values().sum::<u32>()
    }
}

/// The machine the tests run on.
pub struct Machine {
    vcpu: Vcpu,
    ram: GuestRam,
}

impl Default for Machine {
    fn default() -> Self {
        let ram = GuestRam::new(RAM).expect("two megabytes");
        Self { vcpu: Vcpu::new(&ram, Model::X64V2), ram }
    }
}

impl Machine {
    /// Runs the case's instruction and names what differs: (what, is, should be).
    fn run(&mut self, c: &Case) -> Vec<(String, u32, u32)> {
        for &(at, byte) in &c.ram_before {
            self.ram.write(u64::from(at), &[byte]);
        }
        let cpu = &mut self.vcpu.cpu;
        cpu.reset();
        for (i, &w) in WHERE.iter().enumerate() {
            let v = c.before[i];
            if w < 16 {
                cpu.regs[w] = u64::from(v);
            } else {
                cpu.seg[w - 16] = Segment::real(v);
            }
        }
        cpu.rip = u64::from(c.before[IP]);
        // The upper four bits do not exist in a 286's real mode.
        cpu.set_rflags_image(u64::from(c.before[FLAGS] & 0x0fff));
        let second_vector = self.accept_stack_faults(c);
        self.vcpu.run(&mut Nothing, 1);

        let cpu = &mut self.vcpu.cpu;
        let mut d = Vec::new();
        let mut check = |name: &dyn std::fmt::Display, got: u32, want: u32, ignore: u32| {
            if (got ^ want) & !ignore != 0 {
                d.push((name.to_string(), got, want));
            }
        };
        for (i, &w) in WHERE.iter().enumerate() {
            let got = if w < 16 { cpu.regs[w] as u32 } else { u32::from(cpu.seg[w - 16].sel) };
            let ignore = if rules::moves_anyway(c) && matches!(NAMES[i], "cx" | "si" | "di") { 0xffff } else { 0 };
            check(&NAMES[i], got, c.after[i].into(), ignore);
        }
        // The recorded IP lies behind the HLT that ended the test.
        let hlt = rules::opcode(&c.bytes).is_some_and(|(_, op)| op == 0xf4);
        let ip = (cpu.rip as u32 + u32::from(!hlt || c.exception.is_some())) & 0xffff;
        check(&"ip", ip, c.after[IP].into(), 0);
        let undefined = rules::undefined_flags(c);
        let flags = cpu.rflags_image() as u32 & 0xffff;
        check(&"flags", flags, (c.after[FLAGS] & 0x0fff).into(), undefined);
        let mut want: HashMap<u32, u8> = c.ram_before.iter().copied().collect();
        want.extend(c.ram_after.iter().copied());
        let pushed = pushed_flags(c);
        let mut bytes: Vec<(u32, u8)> = want.into_iter().collect();
        bytes.sort_unstable();
        for &(at, byte) in &bytes {
            let ignore = match at.wrapping_sub(pushed) {
                0 => undefined & 0xff,
                1 => undefined >> 8 & 0xff | 0xf0,
                _ => 0,
            };
            let [got] = self.ram.read_le::<1>(u64::from(at));
            check(&format_args!("[{at:05x}]"), got.into(), byte.into(), ignore);
        }
        for (at, _) in bytes {
            self.ram.write(u64::from(at), &[0]);
        }
        if second_vector {
            self.ram.write(STACK_FAULT, &[0; 4]);
        }
        d
    }

    /// A 286 in real mode raises exception 13 for the stack too, later processors 12: both lead to one handler.
    fn accept_stack_faults(&mut self, c: &Case) -> bool {
        let named = c.ram_before.iter().any(|m| (STACK_FAULT..STACK_FAULT + 4).contains(&u64::from(m.0)));
        let needed = c.exception.is_some_and(|e| e.0 == 13) && !named;
        if needed {
            self.ram.write(STACK_FAULT, &self.ram.read_le::<4>(4 * 13));
        }
        needed
    }

    /// Is all memory zero, as `run` leaves it if nothing else was written?
    fn clean(&mut self) -> bool {
        let mut all = vec![0; RAM as usize];
        self.ram.read(0, &mut all);
        let clean = all.iter().all(|&b| b == 0);
        if !clean {
            *self = Machine::default();
        }
        clean
    }

    /// Runs the cases of a form and counts them.
    pub fn form(&mut self, cases: &[Case]) -> Tally {
        let mut t = Tally::default();
        for c in cases {
            self.count(c, &mut t, false);
        }
        if self.clean() {
            return t;
        }
        // Something wrote where nothing should: once more, with a look at all memory after each case.
        let mut t = Tally::default();
        for c in cases {
            self.count(c, &mut t, true);
        }
        t
    }

    /// Runs a case and counts it; the first that differs without a rule is described.
    fn count(&mut self, c: &Case, t: &mut Tally, all_memory: bool) {
        t.tests += 1;
        if let Some(reason) = rules::leaves_out(c) {
            *t.ruled.entry(reason).or_default() += 1;
            return;
        }
        let mut d = self.run(c);
        if all_memory && !self.clean() {
            d.push(("memory elsewhere".into(), 1, 0));
        }
        if d.is_empty() {
            t.agree += 1;
        } else if t.first.is_none() {
            let d: Vec<String> = d.iter().take(8).map(|(n, g, w)| format!("{n} is {g:x}, should be {w:x}")).collect();
            t.first = Some(format!("{} {} {:02x?} {:x?}: {}", c.index, c.name, c.bytes, c.exception, d.join("; ")));
        }
    }
}

/// The files of an `.tar.xz`: name and contents.
fn unpack(packed: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut tar = Vec::new();
    lzma_rust2::XzReader::new(packed, false).read_to_end(&mut tar).context("not an .xz file")?;
    let mut files = Vec::new();
    let mut at = 0;
    // POSIX ustar: a 512-byte header with an octal size, then the contents in whole blocks.
    while let Some(header) = tar.get(at..at + 512).filter(|h| h[0] != 0) {
        let text = |r: std::ops::Range<usize>| {
            let s: Vec<u8> = header[r].iter().copied().take_while(|&b| b != 0).collect();
            String::from_utf8_lossy(&s).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).context("a size in a tar header")?;
        at += 512;
        let body = tar.get(at..at + size).context("a tar archive ends early")?;
        if header[156] == b'0' || header[156] == 0 {
            files.push((text(0..100), body.to_vec()));
        }
        at += size.next_multiple_of(512);
    }
    Ok(files)
}

/// All forms of the archive at `path` with their tests; revoked ones are left out.
///
/// # Errors
/// An unreadable or damaged archive.
pub fn load(path: &Path) -> Result<Vec<(String, Vec<Case>)>> {
    let packed = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let files = unpack(&packed)?;
    let revoked: String = files
        .iter()
        .filter(|(n, _)| n.ends_with("revocation_list.txt"))
        .map(|(_, b)| String::from_utf8_lossy(b).to_lowercase())
        .collect();
    let mut forms = Vec::new();
    for (name, data) in &files {
        let Some(form) = name.rsplit('/').next().and_then(|n| n.strip_suffix(".MOO")) else { continue };
        let mut cases = moo::parse(data).with_context(|| name.clone())?;
        cases.retain(|c| {
            let hash: String = c.hash.iter().map(|b| format!("{b:02x}")).collect();
            !revoked.contains(&hash)
        });
        forms.push((form.to_owned(), cases));
    }
    ensure!(!forms.is_empty(), "no test files in {}", path.display());
    forms.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(forms)
}

/// Runs all tests of all forms.
pub fn run(forms: &[(String, Vec<Case>)]) -> BTreeMap<String, Tally> {
    let mut machine = Machine::default();
    forms.iter().map(|(form, cases)| (form.clone(), machine.form(cases))).collect()
}

/// Where the archive lies: below the folder TABVISOR_GUESTS names, or beside the repository.
pub fn archive() -> std::path::PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/guests");
    let guests = std::env::var_os("TABVISOR_GUESTS").map_or_else(beside, Into::into);
    guests.join("tests/sst286-dev.tar.xz")
}
