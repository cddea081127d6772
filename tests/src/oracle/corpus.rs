//! Recorded truth: tests with their outcomes on a real CPU, small enough to keep in the repository, checked on
//! any machine.
//!
//! A file is a header (magic, vendor and CPUID of the CPU, number of tests) and one LZ4 block. In the block a
//! test is its seed and what differs from `Test::background` of it; its outcome is what differs from "nothing
//! happened". Both are byte strings of a fixed little-endian layout.

use super::state::*;
use anyhow::{Context, Result, bail, ensure};

const MAGIC: &[u8; 8] = b"TVORACL1";

/// What a file says about the CPU it was recorded on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Who made the CPU.
    pub vendor: Vendor,
    /// CPUID leaf 1 EAX, ECX, EDX and leaf 7 EBX.
    pub cpuid: [u32; 4],
}

fn put_number(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let (a, b) = self.0.split_at_checked(n).context("the corpus ends early")?;
        self.0 = b;
        Ok(a)
    }

    fn number(&mut self) -> Result<u64> {
        let mut v = 0;
        for shift in (0..64).step_by(7) {
            let b = self.bytes(1)?[0];
            v |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        bail!("a number in the corpus is too long")
    }
}

/// Writes `new` as runs of bytes that differ from `old`.
fn put_diff(out: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    let mut at = 0;
    let mut last = 0;
    while at < new.len() {
        if old[at] == new[at] {
            at += 1;
            continue;
        }
        // A run goes on over single equal bytes: starting a new one costs two.
        let mut end = at + 1;
        while end < new.len() && (old[end] != new[end] || end + 1 < new.len() && old[end + 1] != new[end + 1]) {
            end += 1;
        }
        put_number(out, (end - at) as u64);
        put_number(out, (at - last) as u64);
        out.extend_from_slice(&new[at..end]);
        (at, last) = (end, end);
    }
    put_number(out, 0);
}

/// Applies what `put_diff` wrote to `old`.
fn take_diff(r: &mut Reader, bytes: &mut [u8]) -> Result<()> {
    let mut at = 0usize;
    loop {
        let len = r.number()? as usize;
        if len == 0 {
            return Ok(());
        }
        at = at.saturating_add(r.number()? as usize);
        let run = r.bytes(len)?;
        let end = at.checked_add(len).context("a run in the corpus is too long")?;
        bytes.get_mut(at..end).context("a run in the corpus lies outside")?.copy_from_slice(run);
        at = end;
    }
}

/// Visits every stored field of a test as bytes; the order is the file format.
fn test_fields(t: &mut Test, f: &mut dyn FnMut(&mut [u8])) {
    let mut word = |v: &mut u64| {
        let mut b = v.to_le_bytes();
        f(&mut b);
        *v = u64::from_le_bytes(b);
    };
    t.gpr.iter_mut().for_each(&mut word);
    word(&mut t.rflags);
    word(&mut t.fs_base);
    word(&mut t.gs_base);
    f(&mut t.fx.0[..416]);
    let half = |v: &mut u16, f: &mut dyn FnMut(&mut [u8])| {
        let mut b = v.to_le_bytes();
        f(&mut b);
        *v = u16::from_le_bytes(b);
    };
    for p in &mut t.patch {
        half(&mut p.at, f);
        half(&mut p.len, f);
        f(&mut p.bytes);
    }
    t.sel.iter_mut().for_each(|s| half(s, f));
    f(std::slice::from_mut(&mut t.len));
    f(&mut t.code);
    half(&mut t.entry, f);
    f(std::slice::from_mut(&mut t.fill));
}

/// Visits every stored field of an outcome but the memory part.
fn out_fields(o: &mut Out, f: &mut dyn FnMut(&mut [u8])) {
    for v in o.gpr.iter_mut().chain([&mut o.rflags, &mut o.rip, &mut o.cr2, &mut o.fs_base, &mut o.gs_base]) {
        let mut b = v.to_le_bytes();
        f(&mut b);
        *v = u64::from_le_bytes(b);
    }
    f(&mut o.fx.0[..416]);
    let mut b = o.err.to_le_bytes();
    f(&mut b);
    o.err = u32::from_le_bytes(b);
    for v in o.sel.iter_mut().chain([&mut o.vector]) {
        let mut b = v.to_le_bytes();
        f(&mut b);
        *v = u16::from_le_bytes(b);
    }
}

/// A function that visits the stored fields of a `T`.
type Fields<T> = fn(&mut T, &mut dyn FnMut(&mut [u8]));

fn bytes_of<T: Copy>(v: &T, fields: Fields<T>) -> Vec<u8> {
    let mut out = Vec::new();
    fields(&mut { *v }, &mut |b| out.extend_from_slice(b));
    out
}

fn set_bytes<T>(v: &mut T, fields: Fields<T>, bytes: &[u8]) {
    let mut at = 0;
    fields(v, &mut |b| {
        b.copy_from_slice(&bytes[at..at + b.len()]);
        at += b.len();
    });
}

/// Makes a corpus file.
pub fn encode(header: &Header, cases: &[(Test, Out)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (t, o) in cases {
        body.push(t.mode as u8);
        body.extend_from_slice(&t.seed.to_le_bytes());
        put_diff(&mut body, &bytes_of(&Test::background(t.mode, t.seed), test_fields), &bytes_of(t, test_fields));
        put_diff(&mut body, &bytes_of(&Out::unchanged(t), out_fields), &bytes_of(o, out_fields));
        put_number(&mut body, o.deltas.into());
        let mut last = 0;
        for (at, v) in o.deltas() {
            put_number(&mut body, u64::from(at.wrapping_sub(last)) / 8);
            body.extend_from_slice(&v.to_le_bytes());
            last = at;
        }
        if o.deltas as usize > DELTAS {
            body.extend_from_slice(&o.delta_hash.to_le_bytes());
        }
    }
    let mut file = MAGIC.to_vec();
    file.push(header.vendor as u8);
    header.cpuid.iter().for_each(|v| file.extend_from_slice(&v.to_le_bytes()));
    file.extend_from_slice(&(cases.len() as u32).to_le_bytes());
    file.extend_from_slice(&(body.len() as u32).to_le_bytes());
    file.extend_from_slice(&lz4_flex::block::compress(&body));
    file
}

/// Reads a corpus file.
pub fn decode(file: &[u8]) -> Result<(Header, Vec<(Test, Out)>)> {
    let mut r = Reader(file);
    ensure!(r.bytes(8)? == MAGIC, "this is not an oracle corpus of this version");
    let vendor = match r.bytes(1)?[0] {
        0 => Vendor::Intel,
        1 => Vendor::Amd,
        v => bail!("vendor {v} is unknown"),
    };
    let mut word = || -> Result<u32> { Ok(u32::from_le_bytes(r.bytes(4)?.try_into()?)) };
    let cpuid = [word()?, word()?, word()?, word()?];
    let (count, size) = (word()?, word()?);
    ensure!(size <= 1 << 28, "the corpus claims {size} bytes");
    let body = lz4_flex::block::decompress(r.0, size as usize).context("the corpus is damaged")?;
    let mut r = Reader(&body);
    let mut cases = Vec::new();
    for _ in 0..count {
        cases.push(take_case(&mut r)?);
    }
    ensure!(r.0.is_empty(), "the corpus has bytes left over");
    Ok((Header { vendor, cpuid }, cases))
}

fn take_case(r: &mut Reader) -> Result<(Test, Out)> {
    let mode = match r.bytes(1)?[0] {
        0 => Mode::Long64,
        1 => Mode::Prot32,
        2 => Mode::Prot16,
        m => bail!("mode {m} is unknown"),
    };
    let mut t = Test::background(mode, u64::from_le_bytes(r.bytes(8)?.try_into()?));
    let mut b = bytes_of(&t, test_fields);
    take_diff(r, &mut b)?;
    set_bytes(&mut t, test_fields, &b);
    t.make_valid();
    let mut o = Out::unchanged(&t);
    let mut b = bytes_of(&o, out_fields);
    take_diff(r, &mut b)?;
    set_bytes(&mut o, out_fields, &b);
    let deltas = r.number()? as u16;
    let mut at = 0u16;
    for _ in 0..(deltas as usize).min(DELTAS) {
        at = at.wrapping_add((r.number()? as u16).wrapping_mul(8));
        o.push_delta(at, u64::from_le_bytes(r.bytes(8)?.try_into()?));
    }
    if deltas as usize > DELTAS {
        o.deltas = deltas;
        o.delta_hash = u64::from_le_bytes(r.bytes(8)?.try_into()?);
    }
    Ok((t, o))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::generator::generate;
    use crate::oracle::rng::Rng;

    #[test]
    fn what_is_written_is_read_back() {
        let mut r = Rng::new(9);
        let cases: Vec<(Test, Out)> = (0..300)
            .map(|i| {
                let t = generate(if i % 2 == 0 { Mode::Long64 } else { Mode::Prot32 }, 5, i);
                let mut o = Out::unchanged(&t);
                o.vector = 3;
                o.gpr[(i % 16) as usize] = r.next();
                o.fx.0[(i % 400) as usize] ^= 1;
                for k in 0..i % 100 {
                    o.push_delta(k as u16 * 16, r.next());
                }
                (t, o)
            })
            .collect();
        let header = Header { vendor: Vendor::Amd, cpuid: [1, 2, 3, 4] };
        let file = encode(&header, &cases);
        let (h, back) = decode(&file).expect("a corpus we just wrote");
        assert_eq!(h, header);
        assert!(back == cases);
    }

    #[test]
    fn damaged_files_give_errors() {
        let t = generate(Mode::Long64, 5, 1);
        let file = encode(&Header { vendor: Vendor::Intel, cpuid: [0; 4] }, &[(t, Out::unchanged(&t)); 3]);
        for n in 0..file.len() {
            assert!(decode(&file[..n]).is_err(), "cut to {n} bytes");
        }
        for n in 0..file.len() {
            let mut f = file.clone();
            f[n] ^= 0x41;
            let _ = decode(&f); // an error or other tests, but no panic
        }
    }
}
