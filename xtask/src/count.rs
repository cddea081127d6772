//! Reads test counts from what test runners print.

/// Tests that passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Not run.
    pub skipped: u64,
}

impl Count {
    /// Adds what one line of output says, if it is a result line of cargo test, wasm-bindgen-test or node's runner.
    pub fn line(&mut self, line: &str) {
        let line = line.trim();
        // test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s
        if let Some(rest) = line.strip_prefix("test result: ") {
            for part in rest.split(['.', ';']).map(str::trim) {
                match part.split_once(' ').map(|(number, word)| (number.parse(), word)) {
                    Some((Ok(number), "passed")) => self.passed += number,
                    Some((Ok(number), "failed")) => self.failed += number,
                    Some((Ok::<u64, _>(number), "ignored")) => self.skipped += number,
                    _ => {}
                }
            }
            return;
        }
        // "# pass 3" (TAP) or "ℹ pass 3" (spec)
        let Some(rest) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")) else { return };
        match rest.split_once(' ').map(|(word, number)| (word, number.parse())) {
            Some(("pass", Ok(number))) => self.passed += number,
            Some(("fail" | "cancelled", Ok(number))) => self.failed += number,
            Some(("skipped" | "todo", Ok::<u64, _>(number))) => self.skipped += number,
            _ => {}
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.passed + self.failed + self.skipped
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runners_closing_lines_are_counted() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "test result: ok. 4 passed; 0 failed; 0 ignored; 2 filtered out; finished in 0.01s",
            "# tests 4",
            "# pass 3",
            "# fail 1",
            "ℹ pass 2",
            "ℹ skipped 1",
            "# passing the time 9",
        ] {
            count.line(line);
        }
        assert_eq!(count, Count { passed: 23, failed: 4, skipped: 2 });
    }
}
