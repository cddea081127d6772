//! Reads the benchmark guest's console: lines that begin with `@@` mark the begin and the end of a program.

use serde::Serialize;

/// Where the host stands at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Wall time since power-on, in seconds.
    pub wall: f64,
    /// CPU time of this process, in seconds.
    pub cpu: f64,
    /// Guest instructions retired.
    pub instructions: u64,
}

/// One run of one program. The names are those that the peers' runners write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The program.
    pub name: String,
    /// Wall seconds between its markers.
    pub host: f64,
    /// CPU seconds between its markers.
    pub cpu: f64,
    /// Guest instructions between its markers.
    pub insns: u64,
    /// How often it did its work.
    pub iters: u64,
    /// Its result, the same on every machine of the same width.
    pub check: String,
}

/// What a line said.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// `/init` runs.
    Booted,
    /// A program begins.
    Begin(String),
    /// A program ended.
    End(Sample),
    /// Something failed.
    Failed(String),
    /// All programs have run.
    Done,
}

/// Longest line that is looked at; the guest decides what it prints.
const LONGEST: usize = 4096;

/// Finds marks in a byte stream.
#[derive(Debug, Default)]
pub struct Marks {
    line: Vec<u8>,
    running: Option<(String, Moment)>,
}

impl Marks {
    /// Takes what the guest printed up to this moment.
    pub fn take(&mut self, bytes: &[u8], now: Moment) -> Vec<Mark> {
        let mut marks = Vec::new();
        for &byte in bytes {
            if byte == b'\n' || byte == b'\r' {
                let line = String::from_utf8_lossy(&self.line).into_owned();
                self.line.clear();
                marks.extend(line.find("@@").and_then(|at| self.mark(&line[at..], now)));
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            }
        }
        marks
    }

    fn mark(&mut self, text: &str, now: Moment) -> Option<Mark> {
        if text.starts_with("@@INIT") {
            return Some(Mark::Booted);
        }
        if text.starts_with("@@DONE") {
            return Some(Mark::Done);
        }
        if text.starts_with("@@X") {
            self.running = None;
            return Some(Mark::Failed(text.to_owned()));
        }
        if let Some(name) = text.strip_prefix("@@S ") {
            self.running = Some((name.to_owned(), now));
            return Some(Mark::Begin(name.to_owned()));
        }
        let end = text.strip_prefix("@@E ")?;
        let sample = self.running.take().and_then(|(name, begin)| sample(&name, end, begin, now));
        Some(sample.map_or_else(|| Mark::Failed(format!("unmatched {text}")), Mark::End))
    }
}

/// Reads `NAME: N iterations, S seconds, check C cpu U`.
fn sample(name: &str, text: &str, begin: Moment, now: Moment) -> Option<Sample> {
    let rest = text.strip_prefix(name)?.strip_prefix(": ")?;
    let (iters, rest) = rest.split_once(" iterations, ")?;
    let (_, check) = rest.split_once(" seconds, check ")?;
    Some(Sample {
        name: name.to_owned(),
        host: now.wall - begin.wall,
        cpu: now.cpu - begin.cpu,
        insns: now.instructions - begin.instructions,
        iters: iters.parse().ok()?,
        check: check.split_whitespace().next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u32) -> Moment {
        Moment { wall: f64::from(n), cpu: f64::from(n) / 2.0, instructions: u64::from(n) * 1000 }
    }

    #[test]
    fn a_program_is_timed_between_its_markers_even_in_pieces() {
        let mut marks = Marks::default();
        assert_eq!(marks.take(b"[ 0.1] x\r\n@@INIT 6.1 x86_64\r\n@@", at(1)), [Mark::Booted]);
        assert_eq!(marks.take(b"S sieve\n", at(2)), [Mark::Begin("sieve".into())]);
        assert_eq!(marks.take(b"@@E sieve: 6 itera", at(3)), []);
        let end = marks.take(b"tions, 0.281 seconds, check 00ab cpu 0.2\n@@DONE\n", at(4));
        let sample = Sample { name: "sieve".into(), host: 2.0, cpu: 1.0, insns: 2000, iters: 6, check: "00ab".into() };
        assert_eq!(end, [Mark::End(sample), Mark::Done]);
    }

    #[test]
    fn an_end_without_its_begin_is_a_failure() {
        let mut marks = Marks::default();
        for line in ["@@E sieve: 6 iterations, 1 seconds, check 0\n", "@@X sieve status 100\n"] {
            let got = marks.take(line.as_bytes(), at(1));
            assert!(matches!(&got[..], [Mark::Failed(_)]), "{got:?}");
        }
        marks.take(b"@@S fork\n", at(1));
        assert!(matches!(
            &marks.take(b"@@E forkexec: 3 iterations, 1 seconds, check 0\n", at(2))[..],
            [Mark::Failed(_)]
        ));
    }
}
