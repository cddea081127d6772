//! `tests/xtf/expected.txt`: what each test of the Xen Test Framework gives on real Xen, and here.
//!
//! A line is `NAME ENV RESULT`, or `NAME ENV RESULT KNOWN # why` for a test that is known to end otherwise here. RESULT
//! may be several words with `|` between them.

use anyhow::{Context, Result, ensure};

/// What is expected of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    name: String,
    env: String,
    results: Vec<String>,
    /// How it is known to end here instead.
    pub known: Option<String>,
    /// Why so.
    pub why: String,
}

impl Expected {
    /// The results that are right.
    pub fn results(&self) -> String {
        self.results.join(" or ")
    }
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(Vec<Expected>);

impl List {
    /// Reads the file's text.
    ///
    /// # Errors
    /// Names the line that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let mut all: Vec<Expected> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let (fields, why) = line.split_once('#').unwrap_or((line, ""));
            let fields: Vec<&str> = fields.split_whitespace().collect();
            if fields.is_empty() {
                continue;
            }
            let one = one(&fields, why.trim()).with_context(|| format!("line {}: `{line}`", i + 1))?;
            ensure!(
                all.iter().all(|e| (&e.name, &e.env) != (&one.name, &one.env)),
                "line {}: `{line}` is the second",
                i + 1
            );
            all.push(one);
        }
        Ok(Self(all))
    }

    /// What is expected of a test.
    pub fn find(&self, name: &str, env: &str) -> Option<&Expected> {
        self.0.iter().find(|e| e.name == name && e.env == env)
    }
}

fn one(fields: &[&str], why: &str) -> Result<Expected> {
    ensure!(matches!(fields.len(), 3 | 4), "expected a name, an environment, a result and perhaps a known failure");
    let results: Vec<String> = fields[2].split('|').map(str::to_owned).collect();
    let known = fields.get(3).map(|word| (*word).to_owned());
    if let Some(known) = &known {
        ensure!(!results.contains(known), "a known failure is not what is expected");
        ensure!(!why.is_empty(), "a known failure has a reason, after #");
    }
    Ok(Expected { name: fields[0].into(), env: fields[1].into(), results, known, why: why.into() })
}

/// A result, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As on real Xen.
    Good,
    /// Wrong, and marked so.
    Known,
    /// Marked as wrong, and right.
    Passes,
    /// Wrong, or not in the list.
    Bad,
}

impl Verdict {
    /// Judges a test's result.
    pub fn of(expected: Option<&Expected>, result: &str) -> Self {
        let Some(e) = expected else { return Self::Bad };
        match (e.results.iter().any(|r| r == result), &e.known) {
            (true, None) => Self::Good,
            (true, Some(_)) => Self::Passes,
            (false, Some(known)) if known == result => Self::Known,
            (false, _) => Self::Bad,
        }
    }

    /// Must somebody look?
    pub fn is_surprise(self) -> bool {
        matches!(self, Self::Passes | Self::Bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_judged_and_a_known_failure_that_passes_is_a_surprise() {
        let list = List::parse("# comment\n\na pv64 SUCCESS\nb pv64 SUCCESS|SKIP PANIC # not yet\n").unwrap();
        let judge = |name: &str, result: &str| Verdict::of(list.find(name, "pv64"), result);
        assert_eq!([judge("a", "SUCCESS"), judge("a", "SKIP")], [Verdict::Good, Verdict::Bad]);
        assert_eq!([judge("b", "PANIC"), judge("b", "SKIP")], [Verdict::Known, Verdict::Passes]);
        assert_eq!([judge("b", "ERROR"), judge("c", "SUCCESS")], [Verdict::Bad, Verdict::Bad]);
        assert!(judge("b", "SKIP").is_surprise() && !judge("b", "PANIC").is_surprise());
        assert_eq!(list.find("b", "pv64").unwrap().results(), "SUCCESS or SKIP");
        assert_eq!(list.find("a", "hvm64"), None);
    }

    #[test]
    fn mistakes_in_the_list_are_named() {
        for (text, says) in [
            ("a pv64", "line 1"),
            ("a pv64 SUCCESS PANIC", "reason"),
            ("a pv64 SUCCESS SUCCESS # why", "not what is expected"),
            ("a pv64 SKIP\n\na pv64 SKIP", "line 3"),
        ] {
            let error = format!("{:#}", List::parse(text).unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_list_in_the_repository_is_well_formed() {
        let list = List::parse(include_str!("../../tests/xtf/expected.txt")).unwrap();
        assert!(list.find("selftest", "pv64").is_some());
    }
}
