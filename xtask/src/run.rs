//! `cargo xtask run IMAGE`: boots an image without a page, its serial console in this terminal.
//!
//! The machine itself is a program of its own (package `tabvisor-runner`), built with the optimizer, so that
//! this one stays quick to build. Whatever ends it, the terminal is put back as it was.

use crate::image;
use crate::proc;
use crate::project::Project;
use crate::web;
use anyhow::{Context, Result, bail};
use std::process::{Command, ExitCode, Stdio};

/// Builds the image and the runner, then runs.
pub fn command(args: &[String]) -> Result<ExitCode> {
    let Some((name, rest)) = args.split_first().filter(|(name, _)| !name.starts_with('-')) else {
        bail!("run wants the name of an image first, e.g. `cargo xtask run linux64`; `cargo xtask image` lists them");
    };
    let project = Project::find()?;
    let image = image::build(name)?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--profile", "fast", "--locked", "-p", "tabvisor-runner"])
        .current_dir(&project.root);
    proc::run(&mut cargo).context("the runner does not compile")?;
    let program =
        web::target_dir(&project).join("fast").join(format!("tabvisor-runner{}", std::env::consts::EXE_SUFFIX));
    let terminal = Terminal::save();
    let status = proc::status(Command::new(program).arg(image).args(rest))?;
    drop(terminal);
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// The settings of the terminal on standard input, put back when dropped: the runner does so itself unless
/// it is killed.
struct Terminal(Option<String>);

impl Terminal {
    fn save() -> Self {
        let out = Command::new("stty").arg("-g").stdin(Stdio::inherit()).stderr(Stdio::null()).output();
        let settings = out
            .ok()
            .filter(|out| out.status.success())
            .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
        Self(settings.filter(|text| !text.is_empty()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            let _ = Command::new("stty").arg(settings).stderr(Stdio::null()).status();
        }
    }
}
