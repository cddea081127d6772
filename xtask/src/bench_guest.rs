//! The benchmark guests: fetched and built by the shared folder's `setup.sh` into the user's cache, the kernel
//! repacked as our image recipes do.

use crate::image::kernel;
use crate::proc;
use crate::project::{self, Project};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What the machines boot.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The shared folder's `bench`.
    pub shared: PathBuf,
    /// What `setup.sh` made: guests and peers.
    pub work: PathBuf,
    /// The kernel for our machine.
    pub packed: PathBuf,
    /// The initial RAM disk with the programs.
    pub initrd: PathBuf,
}

impl Guest {
    /// Finds the shared folder and builds what is not there yet.
    pub fn prepare(project: &Project, width: u8) -> Result<Self> {
        let shared = shared(project)?;
        let work = project.cache.join("bench");
        let images = work.join("images");
        let (bzimage, initrd) = (images.join(format!("vmlinuz-{width}")), images.join(format!("initrd-{width}.gz")));
        let peers = work.join("npm/node_modules/v86");
        if !bzimage.is_file() || !initrd.is_file() || !peers.is_dir() {
            println!("bench    building the guests and fetching the peers (some minutes, once)");
            let mut setup = Command::new("nice");
            setup.args(["-n", "10", "sh"]).arg(shared.join("setup.sh")).env("BENCH_WORK", &work);
            proc::long("benchmark guests", &mut setup, &project.cache.join("log/bench-setup.log"))?;
        }
        let key = project::fingerprint(&[&bzimage]);
        let packed = images.join(format!("vmlinux-{width}-{key:016x}.pack"));
        if !packed.is_file() {
            println!("bench    packing the {width}-bit kernel");
            let data = fs::read(&bzimage).with_context(|| format!("cannot read {}", bzimage.display()))?;
            let pack = kernel::pack(&kernel::slim(&kernel::extract(&data)?)?);
            let partial = packed.with_extension("partial");
            fs::write(&partial, pack).with_context(|| format!("cannot write {}", partial.display()))?;
            fs::rename(&partial, &packed).with_context(|| format!("cannot write {}", packed.display()))?;
        }
        Ok(Self { shared, work, packed, initrd })
    }
}

/// The `bench` folder of the shared one.
fn shared(project: &Project) -> Result<PathBuf> {
    let base = match std::env::var_os("TABVISOR_SHARED") {
        Some(dir) => std::env::current_dir().context("there is no current directory")?.join(dir),
        None => project.at("../shared"),
    };
    let dir = base.join("bench");
    if !dir.join("setup.sh").is_file() {
        bail!(
            "{} has no setup.sh: the benchmark's guest programs and the peers' runners are in the project's shared \
             folder, which is no part of this repository; set TABVISOR_SHARED to where it is",
            dir.display()
        );
    }
    dir.canonicalize().with_context(|| format!("cannot resolve {}", dir.display()))
}
