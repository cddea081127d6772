//! A recipe: what `images/<name>.toml` says.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// An image that is made of a distribution's packages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// For the person who chooses.
    pub title: String,
    /// The distribution's name for the processor: `amd64`, `i386`.
    pub arch: String,
    /// The release whose packages are used.
    pub suite: String,
    /// The package, or one that depends on the package, with the kernel and its modules.
    pub kernel: String,
    /// The package with the static busybox: the whole system, unless a disk has `packages`.
    pub busybox: Option<String>,
    /// Modules to bring along; what they depend on comes too.
    pub modules: Vec<String>,
    /// The folders, from `images/`, whose files go beside busybox and modules; of two with one name the last.
    pub rootfs: Vec<String>,
    /// How the initrd is compressed that all of it becomes.
    pub initrd: Option<Compression>,
    /// Or the disk.
    pub disk: Option<Disk>,
    /// The default command line.
    pub cmdline: String,
    /// The command line for a mode that needs another one.
    #[serde(default)]
    pub cmdlines: BTreeMap<String, String>,
    /// How the command line tells the guest its address.
    pub network: Option<Network>,
    /// Guest RAM in MiB that is comfortable.
    pub memory: u32,
    /// Machine personalities that can boot it.
    pub modes: Vec<String>,
}

/// A disk with an ext4 file system.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The image whose kernel and initrd start it.
    pub boot: String,
    /// In MiB.
    pub size: u32,
    /// Of the file system: a fixed one, so that the same files make the same disk.
    pub uuid: String,
    /// The distribution's essential packages and these, instead of a busybox.
    #[serde(default)]
    pub packages: Vec<String>,
    /// What reads the kernel from the disk. Without, the other image's kernel and initrd are given to the machine.
    pub loader: Option<Loader>,
}

/// A boot loader. Its disk has a partition table, and the other image's kernel and initrd in `/boot`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Loader {
    /// The package with it.
    pub package: String,
    /// The file in the package that is a paravirtualized domain's kernel.
    pub pv: String,
    /// The file for a domain with its own paging.
    pub pvh: Option<String>,
}

/// A way to tell a guest its address.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Network {
    /// `tabvisor.ip=10.0.0.1/24`, which our own first process reads.
    #[serde(rename = "tabvisor.ip")]
    TabvisorIp,
}

impl Network {
    /// The word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::TabvisorIp => "tabvisor.ip",
        }
    }
}

/// How an initrd is compressed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip: smaller, and slow to unpack for an emulated CPU.
    Gzip,
    /// LZ4 in its legacy frame, the one Linux reads.
    Lz4,
}

impl Recipe {
    /// The packages that are fetched by name: the kernel, the busybox or the tool that makes a system, and the boot
    /// loader, if there is one.
    pub fn wishes(&self) -> Vec<&str> {
        let mut all = vec![self.kernel.as_str(), self.busybox.as_deref().unwrap_or(super::bootstrap::TOOL)];
        all.extend(self.loader().map(|loader| loader.package.as_str()));
        all
    }

    /// The boot loader.
    pub fn loader(&self) -> Option<&Loader> {
        self.disk.as_ref().and_then(|disk| disk.loader.as_ref())
    }

    /// Reads a recipe.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let this: Self = toml::from_str(text)?;
        if !matches!(this.arch.as_str(), "amd64" | "i386") {
            bail!("arch is `{}`, expected amd64 or i386", this.arch);
        }
        if let Some(mode) = this.cmdlines.keys().find(|mode| !this.modes.contains(mode)) {
            bail!("there is a command line for mode `{mode}`, which is not among the modes");
        }
        if this.initrd.is_some() == this.disk.is_some() {
            bail!("a recipe makes either an `initrd` or a `disk`");
        }
        let packages = this.disk.as_ref().map_or(&[][..], |disk| &disk.packages);
        if this.busybox.is_some() != packages.is_empty() {
            bail!("a recipe has either a `busybox` or a disk's `packages`");
        }
        let loader = this.loader().map(|loader| &loader.package);
        for word in [&this.suite, &this.kernel].into_iter().chain(&this.busybox).chain(packages).chain(loader) {
            // They become arguments of the package client.
            let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            if word.is_empty() || word.starts_with('-') || !word.chars().all(ok) {
                bail!("`{word}` is not the name of a package or a release");
            }
        }
        Ok(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "title='T'\narch='amd64'\nsuite='bookworm'\nkernel='k'\nbusybox='b'\nmodules=['ext4']\nrootfs=['rootfs']\n\
                        initrd='lz4'\ncmdline='c'\nmemory=256\nmodes=['pvh']\n";

    #[test]
    fn recipes_are_checked() {
        let r = Recipe::parse(GOOD).unwrap();
        assert_eq!((r.initrd, r.modules.len()), (Some(Compression::Lz4), 1));
        assert!(Recipe::parse(&GOOD.replace("amd64", "arm64")).is_err());
        assert!(Recipe::parse(&GOOD.replace("'k'", "'--option'")).is_err());
        assert!(Recipe::parse(&GOOD.replace("title", "tittle")).is_err());
        assert!(Recipe::parse(&GOOD.replace("'lz4'", "'bzip2'")).is_err());
        let disk = "disk={boot='b',size=16,uuid='u'}\n";
        assert!(Recipe::parse(&GOOD.replace("initrd='lz4'\n", disk)).is_ok());
        assert!(Recipe::parse(&format!("{GOOD}{disk}")).is_err());
        let packages = "disk={boot='b',size=16,uuid='u',packages=['p']}\n";
        assert!(Recipe::parse(&GOOD.replace("initrd='lz4'\n", packages)).is_err());
        assert!(Recipe::parse(&GOOD.replace("initrd='lz4'\n", packages).replace("busybox='b'\n", "")).is_ok());
        let loader = "disk={boot='b',size=16,uuid='u',loader={package='l',pv='f'}}\n";
        let r = Recipe::parse(&GOOD.replace("initrd='lz4'\n", loader)).unwrap();
        assert_eq!(r.wishes(), ["k", "b", "l"]);
        assert!(Recipe::parse(&GOOD.replace("initrd='lz4'\n", loader).replace("'l'", "'-l'")).is_err());
        assert!(Recipe::parse(&format!("{GOOD}network='tabvisor.ip'\n")).is_ok());
        assert!(Recipe::parse(&format!("{GOOD}network='dhcp'\n")).is_err());
        assert!(Recipe::parse(&format!("{GOOD}cmdlines={{pvh='c'}}\n")).is_ok());
        assert!(Recipe::parse(&format!("{GOOD}cmdlines={{pv='c'}}\n")).is_err());
    }
}
