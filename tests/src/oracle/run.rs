//! Streams of generated tests through two subjects, differences grouped, encodings counted.

use super::compare::compare;
use super::corpus::Header;
use super::encoding::decode;
use super::generator::generate;
use super::masks::mask;
use super::show;
use super::state::*;
use iced_x86::Code;
use std::collections::BTreeMap;

/// A stretch of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Mode of all tests.
    pub mode: Mode,
    /// Seed of the stream.
    pub seed: u64,
    /// Index of the first test.
    pub first: u64,
    /// Number of tests.
    pub count: u64,
}

/// How often an encoding was tried and what became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hits {
    /// Tests.
    pub tried: u64,
    /// Tests that ran to their end.
    pub completed: u64,
    /// Tests left out of the comparison.
    pub skipped: u64,
}

/// Tests that differ in the same fields of the same encoding.
#[derive(Clone, Debug)]
pub struct Group {
    /// How many.
    pub count: u64,
    /// Index of the first in its stream.
    pub index: u64,
    /// The first one's differences as text.
    pub example: String,
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Tests run.
    pub tests: u64,
    /// Tests that differ.
    pub different: u64,
    /// Differences by mode, encoding and fields.
    pub groups: BTreeMap<(Mode, String, String), Group>,
    /// Tests the truth could not run: mode and index.
    pub killed: Vec<(Mode, u64)>,
    /// Encodings the subject does not know: #UD where the truth is something else. Counted as different.
    pub missing: BTreeMap<(Mode, Code), u64>,
    /// Encodings.
    pub hits: BTreeMap<(Mode, Code), Hits>,
    /// Outcomes by vector.
    pub vectors: BTreeMap<u16, u64>,
}

impl Report {
    /// Adds what another run found.
    pub fn merge(&mut self, other: Report) {
        self.tests += other.tests;
        self.different += other.different;
        for (k, g) in other.groups {
            let mine = self.groups.entry(k).or_insert(Group { count: 0, ..g.clone() });
            mine.count += g.count;
            if g.index < mine.index {
                (mine.index, mine.example) = (g.index, g.example);
            }
        }
        self.killed.extend(other.killed);
        for (k, n) in other.missing {
            *self.missing.entry(k).or_default() += n;
        }
        for (k, h) in other.hits {
            let mine = self.hits.entry(k).or_default();
            mine.tried += h.tried;
            mine.completed += h.completed;
            mine.skipped += h.skipped;
        }
        for (k, n) in other.vectors {
            *self.vectors.entry(k).or_default() += n;
        }
    }

    /// Counts one test and compares its outcomes.
    pub fn add(&mut self, index: u64, t: &Test, want: &Out, got: &Out, host: Vendor) {
        let ins = decode(t);
        let m = mask(t, &ins, want, host);
        self.tests += 1;
        let h = self.hits.entry((t.mode, ins.code())).or_default();
        h.tried += 1;
        h.completed += u64::from(want.completed(t));
        h.skipped += u64::from(m.skip.is_some());
        *self.vectors.entry(want.vector).or_default() += 1;
        if want.vector == VEC_KILLED {
            self.killed.push((t.mode, index));
        }
        let d = compare(t, want, got, &m);
        if !d.is_empty() {
            self.different += 1;
            if got.vector == 6 && want.vector != 6 && got.rip == t.rip() {
                *self.missing.entry((t.mode, ins.code())).or_default() += 1;
            }
            let key = (t.mode, format!("{:?}", ins.code()), show::fields(&d));
            let g = self.groups.entry(key).or_insert_with(|| Group {
                count: 0,
                index,
                example: format!("{}\n      {}", show::instruction(t), show::diffs(&d)),
            });
            g.count += 1;
        }
    }

    /// The differences as text, most frequent first, at most `limit` groups.
    pub fn differences(&self, limit: usize) -> String {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, g)| std::cmp::Reverse(g.count));
        let mut s = String::new();
        if !self.missing.is_empty() {
            let mut names: Vec<String> = self.missing.keys().map(|(_, c)| format!("{c:?}")).collect();
            names.sort();
            names.dedup();
            s += &format!("#UD where the truth is something else: {}\n", names.join(" "));
        }
        for ((mode, code, fields), g) in groups.iter().take(limit) {
            s += &format!("{:6} {mode:?} {code} {fields}: first is {}\n      {}\n", g.count, g.index, g.example);
        }
        if groups.len() > limit {
            s += &format!("and {} more groups\n", groups.len() - limit);
        }
        s
    }

    /// The histogram of encodings as text.
    pub fn histogram(&self) -> String {
        let mut s = String::new();
        for ((mode, code), h) in &self.hits {
            s += &format!("{mode:?} {code:?} {} tried, {} completed, {} left out\n", h.tried, h.completed, h.skipped);
        }
        s
    }

    /// One line of totals.
    pub fn summary(&self) -> String {
        let done = self.hits.values().filter(|h| h.completed > 0).count();
        format!(
            "{} tests, {} different in {} groups; {} encodings, {} of them completed; outcomes by vector {:x?}",
            self.tests,
            self.different,
            self.groups.len(),
            self.hits.len(),
            done,
            self.vectors
        )
    }
}

/// Tests per round: generated, run by both sides, compared.
const ROUND: u64 = 1024;

/// Runs a stretch through `truth` and `subject` and compares.
pub fn run(s: Stretch, truth: &mut dyn Subject, subject: &mut dyn Subject, host: Vendor) -> Report {
    let mut report = Report::default();
    let end = s.first + s.count;
    let mut at = s.first;
    while at < end {
        let n = ROUND.min(end - at);
        let tests: Vec<Test> = (at..at + n).map(|i| generate(s.mode, s.seed, i)).collect();
        let mut want: Vec<Out> = tests.iter().map(Out::unchanged).collect();
        let mut got = want.clone();
        truth.run_all(&tests, &mut want);
        subject.run_all(&tests, &mut got);
        for (i, t) in tests.iter().enumerate() {
            report.add(at + i as u64, t, &want[i], &got[i], host);
        }
        at += n;
    }
    report
}

/// The first `wanted` tests of a stretch worth keeping: none that masks leave out, and of each encoding no more
/// than a fair share, so that the rare ones are in.
pub fn collect(s: Stretch, wanted: usize, truth: &mut dyn Subject, host: Vendor) -> Vec<(Test, Out)> {
    let mut kept = Vec::new();
    let mut counts: BTreeMap<Code, usize> = BTreeMap::new();
    let share = wanted / 1000 + 1;
    let mut at = s.first;
    let end = s.first.saturating_add(s.count).min(s.first + 400 * wanted as u64);
    while kept.len() < wanted && at < end {
        let tests: Vec<Test> = (at..end.min(at + ROUND)).map(|i| generate(s.mode, s.seed, i)).collect();
        let mut outs: Vec<Out> = tests.iter().map(Out::unchanged).collect();
        truth.run_all(&tests, &mut outs);
        for (t, o) in tests.into_iter().zip(outs) {
            let ins = decode(&t);
            let n = counts.entry(ins.code()).or_default();
            if *n < share && kept.len() < wanted && mask(&t, &ins, &o, host).skip.is_none() {
                *n += 1;
                kept.push((t, o));
            }
        }
        at += ROUND;
    }
    kept
}

/// Replays a corpus against a subject, on any machine.
pub fn check(header: &Header, cases: &[(Test, Out)], subject: &mut dyn Subject) -> Report {
    let mut report = Report::default();
    for (i, (t, want)) in cases.iter().enumerate() {
        let mut got = Out::unchanged(t);
        subject.run(t, &mut got);
        report.add(i as u64, t, want, &got, header.vendor);
    }
    report
}
