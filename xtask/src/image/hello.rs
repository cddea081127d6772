//! The image `hello`: the project's own guest kernel, built from `images/hello`.

use super::apt::sha256;
use super::manifest::{File, Manifest};
use crate::proc;
use crate::project::Project;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// For the person who chooses.
pub const TITLE: &str = "Hello: Tabvisor's own small guest (64-bit)";
/// The target the kernel is compiled for.
const TARGET: &str = "x86_64-unknown-none";

/// Builds the kernel; the folder it is in. cargo itself finds out whether there is anything to do.
pub fn build(project: &Project) -> Result<PathBuf> {
    let dir = project.at("images/hello");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The flags of the workspace's own build are not for this target.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    command.current_dir(&dir).args(["build", "--release", "--quiet", "--locked"]);
    proc::run(&mut command).context("the guest kernel images/hello was not built")?;
    let elf = std::fs::read(dir.join("target").join(TARGET).join("release/hello")).context("cargo built no hello")?;
    let out = project.at("images/out/hello");
    let inputs = sha256(&elf);
    if Manifest::is_current(&out, &inputs) {
        return Ok(out);
    }
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let files = vec![File::write(&out, "hello.elf", "kernel", &elf)?];
    Manifest {
        name: "hello".into(),
        title: TITLE.into(),
        arch: "x86_64".into(),
        files,
        cmdline: String::new(),
        cmdlines: BTreeMap::new(),
        network: None,
        memory: 32,
        modes: vec!["pc".into()],
        packages: Vec::new(),
        inputs,
    }
    .write(&out)?;
    Ok(out)
}
