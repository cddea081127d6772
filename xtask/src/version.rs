//! Versions: what a program says of itself and what `Cargo.lock` demands.

use anyhow::{Result, bail};
use std::fmt;

/// A version as far as this project compares them: up to four numbers. What follows (`-beta`) is not kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

impl Version {
    /// Reads `1.95.0`, `v20.20.2`, `156.0.8078.73`, `132`, `1.96.0-nightly`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        if text[end..].starts_with(|c: char| c.is_alphabetic()) {
            return None; // a word with digits in front of it, such as "2nd"
        }
        let numbers: Option<Vec<u32>> = text[..end].split('.').map(|part| part.parse().ok()).collect();
        numbers.filter(|numbers| (1..=4).contains(&numbers.len())).map(Self)
    }

    /// The first version in what a program printed: `Chromium 156.0.8078.73 built on ...`.
    pub fn find(output: &str) -> Option<Self> {
        output.split_whitespace().find_map(Self::parse)
    }

    /// The first number.
    pub fn major(&self) -> u32 {
        self.0[0]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, number) in self.0.iter().enumerate() {
            write!(f, "{}{number}", if i == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// The one version of `package` in the text of a `Cargo.lock`.
pub fn locked(lock: &str, package: &str) -> Result<Version> {
    let mut found = Vec::new();
    for block in lock.split("[[package]]").skip(1) {
        if field(block, "name") == Some(package) {
            match field(block, "version").and_then(Version::parse) {
                Some(version) => found.push(version),
                None => bail!("Cargo.lock gives {package} no readable version"),
            }
        }
    }
    match found.len() {
        0 => bail!("Cargo.lock has no package {package}"),
        1 => Ok(found.remove(0)),
        _ => bail!("Cargo.lock has {} versions of {package}; one is needed", found.len()),
    }
}

/// `key = "value"` in one block; `key` must be the whole word at the line's start.
fn field<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
}

/// `channel = "1.95.0"` of `rust-toolchain.toml`.
pub fn toolchain(text: &str) -> Result<Version> {
    match field(text, "channel").and_then(Version::parse) {
        Some(version) => Ok(version),
        None => bail!("rust-toolchain.toml names no numbered channel"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"# generated
version = 4

[[package]]
name = "wasm-bindgen-macro"
version = "0.2.131"
dependencies = [
 "quote",
]

[[package]]
name = "wasm-bindgen"
version = "0.2.130"
source = "registry"
dependencies = [
 "cfg-if",
 "wasm-bindgen-macro",
]

[[package]]
name = "syn"
version = "1.0.109"

[[package]]
name = "syn"
version = "2.0.100"

[[package]]
name = "odd"
dependencies = [
 "version",
]
"#;

    fn v(text: &str) -> Version {
        Version::parse(text).expect("test data")
    }

    #[test]
    fn each_program_we_ask_is_understood() {
        for (output, version) in [
            ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95.0"),
            ("Chromium 156.0.8078.73 built on Debian GNU/Linux 12 (bookworm)", "156.0.8078.73"),
            ("ChromeDriver 156.0.8078.73 (abc-refs/branch-heads/1@{#2})", "156.0.8078.73"),
            ("Google Chrome 131.0.6778.85 ", "131.0.6778.85"),
            ("v20.20.2\n", "20.20.2"),
            ("11.19.1\n", "11.19.1"),
            ("wasm-bindgen 0.2.130\n", "0.2.130"),
            ("wasm-pack 0.15.1", "0.15.1"),
            ("wasm-opt version 132 (version_132)", "132"),
            ("rustc 1.97.0-nightly (1234 2026-05-01)", "1.97.0"),
        ] {
            assert_eq!(Version::find(output), Some(v(version)), "{output}");
        }
    }

    #[test]
    fn text_without_a_version_has_none() {
        for output in ["", "command not found", "error: no 2nd try", "v", "1..2", "1.2.3.4.5", "99999999999"] {
            assert_eq!(Version::find(output), None, "{output}");
        }
    }

    #[test]
    fn versions_order_by_number() {
        assert!(v("1.100.0") > v("1.95.0"));
        assert!(v("20.1") > v("19.99.99"));
        assert_eq!(v("v20.20.2").to_string(), "20.20.2");
    }

    #[test]
    fn the_lock_gives_the_package_and_not_its_neighbours() {
        assert_eq!(locked(LOCK, "wasm-bindgen").unwrap(), v("0.2.130"));
        assert_eq!(locked(LOCK, "wasm-bindgen-macro").unwrap(), v("0.2.131"));
    }

    #[test]
    fn a_lock_without_the_entry_is_an_error_not_an_empty_version() {
        for (package, says) in [("wasm-bindgen-cli", "no package"), ("syn", "2 versions"), ("odd", "no readable")] {
            let error = locked(LOCK, package).unwrap_err().to_string();
            assert!(error.contains(says), "{package}: {error}");
        }
        assert!(locked("", "wasm-bindgen").is_err());
    }

    #[test]
    fn the_toolchain_file_pins_a_number() {
        assert_eq!(toolchain("[toolchain]\nchannel = \"1.95.0\"\n").unwrap(), v("1.95.0"));
        assert!(toolchain("[toolchain]\nchannel = \"stable\"\n").is_err());
        assert!(toolchain("").is_err());
    }
}
