//! Where things are: the work tree, the user's cache directory and the tools kept in it.
//!
//! Tools that had to be built or fetched lie outside the work tree, under a name that holds their version,
//! so that a second clone finds them ready and two branches with different pins do not fight.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The version of wasm-pack that the tests are run with. wasm-bindgen's is the one in `Cargo.lock`.
pub const WASM_PACK: &str = "0.15.1";

/// A work tree and the cache directory that serves it.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder with the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// `$XDG_CACHE_HOME/tabvisor` or its equivalent.
    pub cache: PathBuf,
}

impl Project {
    /// Finds the work tree from cargo's environment or the current directory, and the cache from the user's.
    pub fn find() -> Result<Self> {
        Ok(Self { root: find_root()?, cache: find_cache()? })
    }

    /// A path in the work tree.
    pub fn at(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The text of a file in the work tree.
    pub fn read(&self, relative: &str) -> Result<String> {
        let path = self.at(relative);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The folder of one built tool, e.g. `tools/wasm-pack-0.15.1`.
    pub fn tool_dir(&self, name: &str, version: &str) -> PathBuf {
        self.cache.join("tools").join(format!("{name}-{version}"))
    }

    /// The folder that holds `node_modules` as the committed lock file describes it.
    pub fn npm_dir(&self) -> Result<PathBuf> {
        let key = fnv1a(self.read("package-lock.json")?.as_bytes());
        Ok(self.cache.join("npm").join(format!("{key:016x}")))
    }

    /// `PATH` with `first` in front of what the user has.
    pub fn path_with(&self, first: &[PathBuf]) -> Result<OsString> {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let all = first.iter().cloned().chain(std::env::split_paths(&old));
        std::env::join_paths(all).context("a tool folder has a path separator in its name")
    }
}

fn find_root() -> Result<PathBuf> {
    // `cargo run` sets the first; the second serves an xtask that was started by hand.
    let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => std::env::current_dir().context("there is no current directory")?,
    };
    for dir in start.ancestors() {
        let manifest = dir.join("Cargo.toml");
        if std::fs::read_to_string(manifest).is_ok_and(|text| text.contains("[workspace]")) {
            return Ok(dir.to_path_buf());
        }
    }
    bail!("no workspace above {}: start `cargo xtask` inside the work tree", start.display())
}

fn find_cache() -> Result<PathBuf> {
    let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || var("HOME").or_else(|| var("USERPROFILE"));
    let base = var("XDG_CACHE_HOME")
        .or_else(|| if cfg!(windows) { var("LOCALAPPDATA") } else { None })
        .or_else(|| home().map(|home| home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" })));
    match base {
        Some(base) => Ok(base.join("tabvisor")),
        None => bail!("no cache directory: set XDG_CACHE_HOME or HOME to an absolute path"),
    }
}

/// FNV-1a, 64 bit: names a cache entry after its input. Not a defence against anyone.
pub fn fnv1a(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Hashes several files into one number; a missing file counts as such.
pub fn fingerprint(files: &[&Path]) -> u64 {
    let mut all = Vec::new();
    for file in files {
        match std::fs::read(file) {
            Ok(data) => {
                all.extend_from_slice(&(data.len() as u64).to_le_bytes());
                all.extend_from_slice(&data);
            }
            Err(_) => all.extend_from_slice(&u64::MAX.to_le_bytes()),
        }
    }
    fnv1a(&all)
}

/// Replaces `to` by a copy of `from` in one step, so that a reader never sees half a file.
pub fn copy_whole(from: &Path, to: &Path) -> Result<()> {
    let partial = to.with_extension("partial");
    std::fs::copy(from, &partial).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    std::fs::rename(&partial, to).with_context(|| format!("cannot move {} into place", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_its_published_values() {
        // Fowler, Noll, Vo: test suite of the FNV-1a 64-bit hash.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_work_tree_is_found_from_a_crate_inside_it() {
        let root = find_root().expect("tests run under cargo");
        assert!(root.join("xtask/src/main.rs").is_file());
    }

    #[test]
    fn a_missing_file_changes_the_fingerprint() {
        let here = find_root().expect("tests run under cargo").join("Cargo.toml");
        let gone = here.with_file_name("no-such-file");
        assert_ne!(fingerprint(&[&here]), fingerprint(&[&here, &gone]));
        assert_eq!(fingerprint(&[&here]), fingerprint(&[&here]));
    }

    #[test]
    fn the_npm_lock_names_no_registry_host() {
        let root = find_root().expect("tests run under cargo");
        let lock = std::fs::read_to_string(root.join("package-lock.json")).expect("the lock file is committed");
        assert!(
            !lock.contains("://") && !lock.contains("\"resolved\""),
            "package-lock.json names where it was fetched"
        );
    }
}
