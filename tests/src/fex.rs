//! The assembly tests of FEX (github.com/FEX-Emu/FEX, unittests/ASM and unittests/32Bit_ASM), assembled by nasm and
//! run on Tabvisor's CPU in user mode: what a test's header says of registers at its HLT must hold.
//!
//! A test begins with a JSON header between `%ifdef CONFIG` and `%endif`. What is left out, and why: [`leaves_out`].

use crate::fex_guest::{End, Guest};
use anyhow::{Context, Result, bail, ensure};
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Mnemonic};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a test's code lies.
pub const CODE: u64 = 0x1_0000;
/// Memory every test has (first address, bytes): scratch, and both sides of an address in the upper half of 4 GiB.
const SCRATCH: [(u64, u64); 2] = [(0xe000_0000, 10 << 12), (0xe7ff_f000, 2 << 12)];
/// The page that is the stack of 32-bit tests.
const STACK_32: (u64, u64) = (0xc000_0000, 1 << 12);
/// What the suite's build puts before a 32-bit test: its data segment.
const PROLOGUE_32: &str = "BITS 32\norg 10000h\nmov eax, 0x17\nmov ds, ax\nmov es, ax\n";

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that the header says holds.
    Agrees,
    /// Something does not.
    Differs(String),
    /// Not run, for this reason.
    LeftOut(&'static str),
}

/// A test's header.
#[derive(Debug, Default)]
struct Header {
    is_32_bit: bool,
    features: Vec<String>,
    environment: Vec<String>,
    regions: Vec<(u64, u64)>,
    memory: Vec<(u64, Vec<u8>)>,
    registers: Vec<(String, Vec<u64>)>,
}

/// A number as Python's `int(text, 0)` reads it.
fn number(text: &str) -> Result<u64> {
    let t = text.trim().replace('_', "").to_lowercase();
    let value = match (t.strip_prefix("0x"), t.strip_prefix("0b"), t.strip_prefix('-')) {
        (Some(hex), ..) => u64::from_str_radix(hex, 16),
        (_, Some(bits), _) => u64::from_str_radix(bits, 2),
        (.., Some(minus)) => minus.parse::<u64>().map(u64::wrapping_neg),
        _ => t.parse(),
    };
    value.with_context(|| format!("{text:?} is not a number"))
}

/// Memory contents: words of hexadecimal digits, each a little-endian number.
fn bytes(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for word in text.split(' ') {
        let mut digits = word.strip_prefix("0x").unwrap_or(word);
        while !digits.is_empty() {
            let (rest, last) = digits.split_at(digits.len().saturating_sub(2));
            out.push(u8::from_str_radix(last, 16).with_context(|| format!("{text:?} are no bytes"))?);
            digits = rest;
        }
    }
    Ok(out)
}

fn text(v: &Value) -> Result<&str> {
    v.as_str().with_context(|| format!("{v} should be a string"))
}

impl Header {
    fn parse(source: &str) -> Result<Self> {
        let mut h = Self::default();
        let json = source.split_once("%ifdef CONFIG").and_then(|s| s.1.split_once("%endif"));
        let Some((json, _)) = json else { return Ok(h) };
        let json: Value = serde_json::from_str(json).context("its header")?;
        for (key, value) in json.as_object().context("its header is no object")? {
            let entries = || value.as_object().with_context(|| format!("{key} is no object"));
            match key.to_uppercase().as_str() {
                "MODE" => h.is_32_bit = text(value)?.eq_ignore_ascii_case("32BIT"),
                "HOSTFEATURES" => {
                    for f in value.as_array().context("features should be a list")? {
                        h.features.push(text(f)?.to_uppercase());
                    }
                }
                "ENV" => h.environment = entries()?.keys().cloned().collect(),
                "MEMORYREGIONS" => {
                    for (at, n) in entries()? {
                        h.regions.push((number(at)?, number(text(n)?)?));
                    }
                }
                "MEMORYDATA" => {
                    for (at, data) in entries()? {
                        h.memory.push((number(at)?, bytes(text(data)?)?));
                    }
                }
                "REGDATA" => {
                    for (name, v) in entries()? {
                        let values = match v.as_array() {
                            Some(list) => list.iter().map(|v| number(text(v)?)).collect::<Result<_>>()?,
                            None => vec![number(text(v)?)?],
                        };
                        h.registers.push((name.to_uppercase(), values));
                    }
                }
                // Two headers have it here by mistake.
                k if k.ends_with("REDUCEDPRECISION") => h.environment.push(REDUCED.into()),
                // Comparisons between FEX's own engines, and what only concerns Windows.
                "MATCH" | "IGNORE" | "ABI" | "STACKSIZE" | "ENTRYPOINT" => {}
                _ => bail!("its header has the unknown key {key}"),
            }
        }
        Ok(h)
    }
}

const REDUCED: &str = "FEX_X87REDUCEDPRECISION";
const BEYOND: &str =
    "other instructions beyond x86-64-v2 (SSE4a, SHA, AES, PCLMUL, BMI, ADX, MOVBE, CLZERO, stray AVX)";
const LINUX: &str = "calls Linux";

/// Tests that can only differ, by the end of their path, and why.
const NOT_OURS: [(&str, &str); 8] = [
    ("ASM/REP/F3_BD.asm", BEYOND), // LZCNT, which is BSR here
    ("ASM/REP/F3_BD_2.asm", BEYOND),
    ("ASM/REP/F3_BD_3.asm", BEYOND),
    ("ASM/REP/F3_BD_4.asm", BEYOND),
    ("ASM/PrimaryGroup/5_FF_05.asm", AMD), // JMP and CALL m16:64, which AMD's processors do not have
    ("ASM/PrimaryGroup/5_FF_05_03_o64.asm", AMD),
    ("ASM/PrimaryGroup/5_FF_05_03_o64_imm.asm", AMD),
    ("ASM/Secondary/07_XX_04.asm", "expects how Linux answers SMSW in a user program"),
];
const AMD: &str = "expects AMD's behaviour where Intel's differs";

/// Why a test that differs says nothing, if it does not.
fn excuses(path: &Path, lists: &str, end: &End, guest: &Guest) -> Option<&'static str> {
    let name = path.to_string_lossy();
    if let Some((_, reason)) = NOT_OURS.iter().find(|(end, _)| name.ends_with(end)) {
        return Some(reason);
    }
    if lists.lines().any(|l| listed(l.trim(), path)) {
        return Some("the suite itself expects no agreement from an x86 processor");
    }
    let End::Exception { vector, rip } = *end else { return None };
    let code = guest.code(rip);
    if vector == 13 && code.first() == Some(&0xcd) {
        return Some(LINUX);
    }
    let bits = if guest.is_32_bit() { 32 } else { 64 };
    let i = Decoder::with_ip(bits, &code, rip, DecoderOptions::NONE).decode();
    match i.mnemonic() {
        _ if vector != 6 => None,
        Mnemonic::Syscall => Some(LINUX),
        // The decoder is built without VEX; a LES or LDS that is #UD would be one.
        _ if matches!(code.first(), Some(0xc4 | 0xc5)) => Some(BEYOND),
        _ => i.cpuid_features().iter().any(|f| !ours(*f)).then_some(BEYOND),
    }
}

/// Is the test at `path` the one that a line of the suite's lists names: `Test_` and its folder, or for 32-bit
/// tests `Test_32Bit_` and its folder?
fn listed(line: &str, path: &Path) -> bool {
    let name = path.to_string_lossy();
    let is_32_bit = name.contains("32Bit_ASM");
    if !line.ends_with(".asm") {
        return false;
    }
    let line = match line.strip_prefix("Test_32Bit_") {
        Some(rest) if is_32_bit => rest,
        None if !is_32_bit => line.strip_prefix("Test_").unwrap_or(line),
        _ => return false,
    };
    name.ends_with(&format!("ASM/{line}"))
}

/// Does our best model have this?
fn ours(f: CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        f,
        F::INTEL8086
            | F::INTEL186
            | F::INTEL286
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::CPUID
            | F::CMOV
            | F::CX8
            | F::CMPXCHG16B
            | F::FPU
            | F::FPU287
            | F::FPU387
            | F::MMX
            | F::SSE
            | F::SSE2
            | F::SSE3
            | F::SSSE3
            | F::SSE4_1
            | F::SSE4_2
            | F::POPCNT
            | F::RDRAND
            | F::RDSEED
            | F::RDPID
            | F::RDTSCP
            | F::TSC
            | F::FXSR
            | F::XSAVE
            | F::CLFSH
            | F::CLFLUSHOPT
            | F::CLWB
            | F::FSGSBASE
            | F::MULTIBYTENOP
            | F::PAUSE
    )
}

/// Why a test is not run, if it is not. Everything else is.
fn leaves_out(path: &Path, h: &Header) -> Option<&'static str> {
    /// The features tests name that x86-64-v2 or our model has.
    const OURS: [&str; 8] = ["SSSE3", "SSE4.1", "SSE4.2", "XSAVE", "RAND", "RDPID", "CLWB", "CLFLOPT"];
    let in_folder = |name: &str| path.components().any(|c| c.as_os_str() == name);
    if in_folder("VEX") || h.features.iter().any(|f| f.starts_with("AVX")) {
        return Some("AVX");
    }
    if in_folder("3DNow") || h.features.iter().any(|f| f == "3DNOW") {
        return Some("3DNow!");
    }
    if h.features.iter().any(|f| f != "FSGSBASE" && !OURS.contains(&f.as_str())) {
        return Some(BEYOND);
    }
    if h.environment.iter().any(|e| e == REDUCED) {
        return Some("expects FEX's reduced x87 precision");
    }
    h.regions.iter().any(|r| r.1 >= 1 << 32).then_some("wants 4 GiB of memory")
}

/// nasm's output for a test, as the suite's build makes it.
fn assemble(source: &str, is_32_bit: bool, includes: &Path, work: &Path) -> Result<Vec<u8>> {
    let (input, output) = (work.join("test.asm"), work.join("test.bin"));
    let prologue = if is_32_bit { PROLOGUE_32 } else { "BITS 64\n" };
    std::fs::write(&input, format!("{prologue}{source}\nret\n"))?;
    let run = Command::new("nasm")
        .args(["-f", "bin", "-w-all", "-i"])
        .arg(format!("{}/", includes.display()))
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .output()
        .context("cannot start nasm")?;
    ensure!(run.status.success(), "nasm: {}", String::from_utf8_lossy(&run.stderr));
    Ok(std::fs::read(&output)?)
}

/// Runs the test at `path`; `includes` has the suite's macros, `work` is a folder for nasm's files.
///
/// # Errors
/// If the file cannot be read, understood or assembled.
pub fn run(path: &Path, includes: &Path, work: &Path) -> Result<Outcome> {
    let source = std::fs::read_to_string(path)?;
    let mut h = Header::parse(&source)?;
    h.is_32_bit |= path.components().any(|c| c.as_os_str() == "32Bit_ASM");
    if let Some(reason) = leaves_out(path, &h) {
        return Ok(Outcome::LeftOut(reason));
    }
    let code = assemble(&source, h.is_32_bit, includes, work)?;
    let lists = lists(includes);
    let mut guest = Guest::new(h.is_32_bit)?;
    guest.map(CODE, (code.len() as u64).max(1))?;
    guest.write(CODE, &code)?;
    for (at, n) in SCRATCH.into_iter().chain(h.is_32_bit.then_some(STACK_32)).chain(h.regions) {
        guest.map(at, n)?;
    }
    for (at, data) in &h.memory {
        guest.write(*at, data)?;
    }
    let end = guest.run(CODE);
    let wrong = match end {
        End::Hlt => {
            let mut wrong = Vec::new();
            for (name, want) in &h.registers {
                let got = guest.register(name).with_context(|| format!("there is no register {name}"))?;
                if want.iter().zip(got).any(|(w, g)| *w != g) {
                    wrong.push(format!("{name} is {:x?}, should be {want:x?}", &got[..want.len().min(2)]));
                }
            }
            wrong.join("; ")
        }
        End::Exception { vector, rip } => format!("exception {vector} at {rip:x}"),
        End::Never => "does not end".into(),
    };
    Ok(match excuses(path, &lists, &end, &guest) {
        _ if wrong.is_empty() => Outcome::Agrees,
        Some(reason) => Outcome::LeftOut(reason),
        None => Outcome::Differs(wrong),
    })
}

/// The suite's own lists of tests that do not pass on an x86 processor; `includes` lies beside them.
fn lists(includes: &Path) -> String {
    let Some(folder) = includes.parent() else { return String::new() };
    let files = ["ASM", "32Bit_ASM"].into_iter().flat_map(|f| {
        ["Disabled_Tests", "Disabled_Tests_host", "Known_Failures", "Known_Failures_host"].map(|name| (f, name))
    });
    let read = |(f, name)| std::fs::read_to_string(folder.with_file_name(f).join(name)).unwrap_or_default();
    files.map(read).collect::<Vec<_>>().join("\n")
}

/// All tests under `folder`, sorted.
///
/// # Errors
/// If a folder cannot be read.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(f) = folders.pop() {
        for entry in std::fs::read_dir(&f).with_context(|| format!("cannot read {}", f.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "asm") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_is_expected() {
        let source = r#"%ifdef CONFIG
            { "RegData": { "RAX": "0x10", "MM1": ["1", "0x3fff"] }, "MemoryRegions": { "0x100000000": "4096" },
              "MemoryData": { "0x100000000": "88 0x1234" }, "HostFeatures": ["ssse3"], "Mode": "32BIT" }
            %endif
            hlt"#;
        let h = Header::parse(source).unwrap();
        // JSON objects are not ordered; the parser sorts them.
        assert_eq!(h.registers, [("MM1".to_owned(), vec![1, 0x3fff]), ("RAX".to_owned(), vec![0x10])]);
        assert_eq!((h.regions, h.memory), (vec![(1 << 32, 4096)], vec![(1 << 32, vec![0x88, 0x34, 0x12])]));
        assert_eq!((h.features, h.is_32_bit), (vec!["SSSE3".to_owned()], true));
        assert!(Header::parse("%ifdef CONFIG { \"Riddle\": 1 } %endif").is_err());
        assert_eq!(number("-1").unwrap(), u64::MAX);
    }

    #[test]
    fn the_suites_lists_name_tests_by_folder_and_width() {
        let (wide, narrow) = (Path::new("u/ASM/X87/D9_F9.asm"), Path::new("u/32Bit_ASM/X87/D9_F9.asm"));
        assert!(listed("Test_X87/D9_F9.asm", wide) && listed("Test_32Bit_X87/D9_F9.asm", narrow));
        assert!(!listed("Test_X87/D9_F9.asm", narrow) && !listed("Test_32Bit_X87/D9_F9.asm", wide));
        assert!(!listed("# Relies on undefined behaviour", wide) && !listed("", wide));
    }
}
