//! `cargo xtask code IMAGE`: the WebAssembly that code of a guest becomes, as text.
//!
//! The page's machine runs the image in node for a number of instructions, on the deterministic clock and with its
//! compiler on, and hands out the module for a linear address; binaryen's disassembler prints it.

use crate::fix;
use crate::image;
use crate::need::Use;
use crate::probe;
use crate::proc;
use crate::project::Project;
use crate::run;
use crate::web;
use anyhow::{Context, Result, bail};
use std::process::Command;

const HELP: &str = "\
cargo xtask code IMAGE [--instructions N] [--address HEX]
  prints the WebAssembly of the guest's code at this linear address (where the processor stands then), as it is
  compiled after so many instructions (1000000000)";

/// Builds page and image, then asks.
pub fn command(args: &[String]) -> Result<()> {
    let (name, rest) = match args.split_first() {
        Some((name, rest)) if !name.starts_with('-') => (name, rest),
        _ => bail!("{HELP}"),
    };
    for pair in rest.chunks(2) {
        match pair {
            [option, _] if matches!(option.as_str(), "--instructions" | "--address") => {}
            _ => bail!("code does not understand `{}`\n\n{HELP}", pair.join(" ")),
        }
    }
    let project = Project::find()?;
    fix::setup(&[Use::Page])?;
    web::build(&project)?;
    let tool = probe::npm_file(&project, "binaryen/bin/wasm-dis")?.context("no wasm-dis: run `cargo xtask setup`")?;
    let mut node = Command::new("node");
    node.arg(project.at("tests/bench/code.mjs")).args(run::options_of(&image::build(name)?, None)?);
    node.arg("--disassembler").arg(tool).args(rest);
    proc::run(&mut node)
}
