//! Reads MOO, the chunk format of the SingleStepTests suites (github.com/dbalsom/moo): a four-letter name, a
//! 32-bit length, the body; bodies of `TEST`, `INIT` and `FINA` are chunks again.

use anyhow::{Context, Result, bail, ensure};

/// Names of the registers in the order of a `REGS` mask.
pub const NAMES: [&str; 14] = ["ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di", "ip", "flags"];
/// Number of the registers above.
pub const FLAGS: usize = 13;

/// One test.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// Its number in its file.
    pub index: u32,
    /// What a disassembler says.
    pub name: String,
    /// The instruction's bytes, and the HLT behind it.
    pub bytes: Vec<u8>,
    /// All registers before.
    pub before: [u16; 14],
    /// Memory before: linear address and byte.
    pub ram_before: Vec<(u32, u8)>,
    /// Registers after.
    pub after: [u16; 14],
    /// Memory that changed.
    pub ram_after: Vec<(u32, u8)>,
    /// Exception number and the address of the flags it pushed.
    pub exception: Option<(u8, u32)>,
    /// SHA-1 that names the test in lists of revoked ones.
    pub hash: [u8; 20],
}

/// The chunks of a body, one after the other.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<([u8; 4], &'a [u8])>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let all = self.0;
        self.0 = &[];
        Some((|| {
            let (name, rest) = all.split_first_chunk::<4>().context("a chunk has no name")?;
            let (len, rest) = rest.split_first_chunk::<4>().context("a chunk has no length")?;
            let len = u32::from_le_bytes(*len) as usize;
            ensure!(len <= rest.len(), "a chunk of {len} bytes in {}", rest.len());
            let (body, rest) = rest.split_at(len);
            self.0 = rest;
            Ok((*name, body))
        })())
    }
}

fn u32_at(b: &[u8], at: usize) -> Result<u32> {
    let b = b.get(at..at + 4).context("a chunk is too short")?;
    Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn registers(b: &[u8], to: &mut [u16; 14]) -> Result<()> {
    let mut words = b.chunks_exact(2).map(|w| u16::from_le_bytes([w[0], w[1]]));
    let mask = words.next().context("an empty register chunk")?;
    for (i, r) in to.iter_mut().enumerate() {
        if mask >> i & 1 != 0 {
            *r = words.next().context("a register chunk is too short")?;
        }
    }
    Ok(())
}

fn memory(b: &[u8]) -> Result<Vec<(u32, u8)>> {
    let n = u32_at(b, 0)? as usize;
    ensure!(b.len() - 4 == n * 5, "{n} memory bytes in {}", b.len());
    b[4..].chunks_exact(5).map(|e| Ok((u32_at(e, 0)?, e[4]))).collect()
}

/// Counted bytes.
fn counted(b: &[u8]) -> Result<&[u8]> {
    let n = u32_at(b, 0)? as usize;
    b.get(4..4 + n).context("counted bytes are too short")
}

fn case(body: &[u8]) -> Result<Case> {
    let mut c = Case { index: u32_at(body, 0)?, ..Case::default() };
    for chunk in Chunks(&body[4..]) {
        let (name, body) = chunk?;
        match &name {
            b"NAME" => c.name = String::from_utf8_lossy(counted(body)?).trim().to_owned(),
            b"BYTS" => c.bytes = counted(body)?.to_vec(),
            b"INIT" | b"FINA" => {
                let mut regs = c.before;
                let mut ram = Vec::new();
                for chunk in Chunks(body) {
                    match chunk? {
                        (n, b) if n == *b"REGS" => registers(b, &mut regs)?,
                        (n, b) if n == *b"RAM " => ram = memory(b)?,
                        _ => {}
                    }
                }
                if &name == b"INIT" {
                    (c.before, c.after, c.ram_before) = (regs, regs, ram);
                } else {
                    (c.after, c.ram_after) = (regs, ram);
                }
            }
            b"EXCP" => {
                let number = *body.first().context("an empty exception chunk")?;
                c.exception = Some((number, u32_at(body, 1)?));
            }
            b"HASH" => c.hash = body.try_into().context("a hash of 20 bytes")?,
            _ => {}
        }
    }
    ensure!(!c.bytes.is_empty() && !c.ram_before.is_empty(), "test {} has no code", c.index);
    Ok(c)
}

/// All tests of a file.
///
/// # Errors
/// A damaged file.
pub fn parse(data: &[u8]) -> Result<Vec<Case>> {
    let mut chunks = Chunks(data);
    match chunks.next() {
        Some(Ok((name, _))) if name == *b"MOO " => {}
        _ => bail!("not a MOO file"),
    }
    let mut cases = Vec::new();
    for chunk in chunks {
        let (name, body) = chunk?;
        if &name == b"TEST" {
            cases.push(case(body)?);
        }
    }
    Ok(cases)
}
