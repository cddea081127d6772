//! `images/lock.toml`: which packages the recipes were last built and tested with.
//!
//! A distribution's archive keeps one version of a package and replaces it. So the lock is a
//! preference: the locked version is used as long as the archive (or the cache) has it and then must
//! have the locked checksum; after that the archive's own version is used, with the checksum that
//! the archive's signed index states, and the build says so. `--update-lock` records what was used.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One package as it was used.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// What the recipe asks for.
    pub wanted: String,
    /// The package that provides it: a kernel's name holds its version.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// `amd64`, `i386`.
    pub arch: String,
    /// Of the package file.
    pub sha256: String,
}

/// The lock file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// All packages, sorted by `wanted` and `arch`.
    #[serde(default, rename = "package")]
    pub packages: Vec<Locked>,
}

const HEAD: &str = "# The packages that the recipes were last built and tested with.\n\
                    # Written by `cargo xtask image --update-lock`; see xtask/src/image/lock.rs.\n\n";

impl Lock {
    /// Reads the file; a missing one is an empty lock.
    pub fn read(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("in {}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// What is locked for a recipe's wish.
    pub fn find(&self, wanted: &str, arch: &str) -> Option<&Locked> {
        self.packages.iter().find(|p| p.wanted == wanted && p.arch == arch)
    }

    /// Records `used`. Was anything different?
    pub fn record(&mut self, used: &Locked) -> bool {
        match self.packages.iter_mut().find(|p| p.wanted == used.wanted && p.arch == used.arch) {
            Some(p) if p == used => return false,
            Some(p) => *p = used.clone(),
            None => self.packages.push(used.clone()),
        }
        self.packages.sort_by(|a, b| (&a.wanted, &a.arch).cmp(&(&b.wanted, &b.arch)));
        true
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = format!("{HEAD}{}", toml::to_string(self)?);
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_survives_writing_and_keeps_one_entry_per_wish() {
        let one = |wanted: &str, version: &str| Locked {
            wanted: wanted.into(),
            name: "n".into(),
            version: version.into(),
            arch: "amd64".into(),
            sha256: "0".into(),
        };
        let mut lock = Lock::default();
        assert!(lock.record(&one("b", "1")) && lock.record(&one("a", "1")));
        assert!(!lock.record(&one("a", "1")) && lock.record(&one("a", "2")));
        let path = std::env::temp_dir().join(format!("tabvisor-lock-{}.toml", std::process::id()));
        lock.write(&path).unwrap();
        let back = Lock::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(back.packages, [one("a", "2"), one("b", "1")]);
        assert_eq!(back.find("a", "i386"), None);
        assert!(Lock::read(&path).unwrap().packages.is_empty());
    }
}
