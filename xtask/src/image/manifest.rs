//! `manifest.json` beside each image, and `index.json` over all of them: what the page and the runner read.

use super::apt::sha256;
use super::lock::Locked;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What an image consists of.
#[derive(Debug, Deserialize, Serialize)]
pub struct Manifest {
    /// The folder's name.
    pub name: String,
    /// For the person who chooses.
    pub title: String,
    /// `x86_64` or `i686`: what `uname -m` says, or would.
    pub arch: String,
    /// The files.
    pub files: Vec<File>,
    /// The default command line.
    pub cmdline: String,
    /// The command line for a mode that needs another one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cmdlines: BTreeMap<String, String>,
    /// How the command line tells the guest its address: `tabvisor.ip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Guest RAM in MiB.
    pub memory: u32,
    /// Machine personalities that can boot it; the first is the one it is tested with.
    pub modes: Vec<String>,
    /// The packages it was made of.
    #[serde(default)]
    pub packages: Vec<Locked>,
    /// Names the inputs it was made of; equal means up to date.
    pub inputs: String,
}

/// One file of an image.
#[derive(Debug, Deserialize, Serialize)]
pub struct File {
    /// Relative to the manifest.
    pub path: String,
    /// `kernel`: boot this; `kernel-pvh`: or this, in that mode; `initrd`: with this; `disk`: the first disk;
    /// `kernel-original`: the kernel before it was repacked.
    pub role: String,
    /// Its length.
    pub bytes: u64,
    /// Its checksum, in hexadecimal.
    pub sha256: String,
}

/// A line of the index.
#[derive(Debug, Deserialize, Serialize)]
struct Line {
    name: String,
    title: String,
    manifest: String,
    /// What has to be there before it boots.
    bytes: u64,
}

/// The manifest's file name.
pub const NAME: &str = "manifest.json";

/// Replaces a file in one step, so that a server never sends half of it.
pub fn write_whole(path: &Path, data: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, data).with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}

impl File {
    /// Writes `data` to `dir`.
    pub fn write(dir: &Path, path: &str, role: &str, data: &[u8]) -> Result<Self> {
        write_whole(&dir.join(path), data)?;
        Ok(Self { path: path.into(), role: role.into(), bytes: data.len() as u64, sha256: sha256(data) })
    }
}

impl Manifest {
    /// Reads an image's manifest.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(NAME)).ok()?).ok()
    }

    /// Is the image in `dir` whole and made of these inputs?
    pub fn is_current(dir: &Path, inputs: &str) -> bool {
        Self::read(dir).is_some_and(|m| {
            let whole = |f: &File| std::fs::metadata(dir.join(&f.path)).is_ok_and(|m| m.len() == f.bytes);
            m.inputs == inputs && m.files.iter().all(whole)
        })
    }

    /// Writes the manifest, and the index of all images beside it.
    pub fn write(&self, dir: &Path) -> Result<()> {
        write_whole(&dir.join(NAME), &serde_json::to_vec_pretty(self)?)?;
        write_index(dir.parent().context("an image has a folder above it")?)
    }
}

/// Writes `index.json` over the images in `out`: those with several parts first, each group by name.
pub fn write_index(out: &Path) -> Result<()> {
    let mut all: Vec<Manifest> = std::fs::read_dir(out)?.flatten().filter_map(|e| Manifest::read(&e.path())).collect();
    all.sort_by(|a, b| (a.files.len() < 2, &b.name).cmp(&(b.files.len() < 2, &a.name)));
    let line = |m: Manifest| Line {
        manifest: format!("{}/{NAME}", m.name),
        bytes: m.files.iter().filter(|f| f.role == "kernel" || f.role == "initrd").map(|f| f.bytes).sum(),
        name: m.name,
        title: m.title,
    };
    let lines: Vec<Line> = all.into_iter().map(line).collect();
    write_whole(&out.join("index.json"), &serde_json::to_vec_pretty(&lines)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_current_until_an_input_or_a_file_changes() {
        let out = std::env::temp_dir().join(format!("tabvisor-manifest-{}", std::process::id()));
        let dir = out.join("x");
        std::fs::create_dir_all(&dir).unwrap();
        let m = Manifest {
            name: "x".into(),
            title: "X".into(),
            arch: "x86_64".into(),
            files: vec![File::write(&dir, "k", "kernel", b"abc").unwrap()],
            cmdline: String::new(),
            cmdlines: BTreeMap::new(),
            network: None,
            memory: 1,
            modes: vec![],
            packages: vec![],
            inputs: "1".into(),
        };
        assert!(!Manifest::is_current(&dir, "1"));
        m.write(&dir).unwrap();
        assert!(Manifest::is_current(&dir, "1") && !Manifest::is_current(&dir, "2"));
        let index: Vec<Line> = serde_json::from_slice(&std::fs::read(out.join("index.json")).unwrap()).unwrap();
        assert_eq!((index[0].manifest.as_str(), index[0].bytes), ("x/manifest.json", 3));
        std::fs::write(dir.join("k"), "ab").unwrap();
        assert!(!Manifest::is_current(&dir, "1"));
        std::fs::remove_dir_all(&out).unwrap();
    }
}
