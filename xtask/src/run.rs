//! `cargo xtask run IMAGE`: boots an image without a page, its console in this terminal.
//!
//! The machine itself is a program of its own (package `tabvisor-runner`), built with the optimizer, so that
//! this one stays quick to build. Whatever ends it, the terminal is put back as it was.

use crate::image;
use crate::proc;
use crate::project::Project;
use crate::web;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Builds the image and the runner, then runs. Options after the image's name are the runner's; without a
/// name they have to say what to boot.
pub fn command(args: &[String]) -> Result<ExitCode> {
    let project = Project::find()?;
    let (name, rest) = match args.split_first() {
        None => bail!("run wants an image, e.g. `cargo xtask run linux64`; `cargo xtask image` lists them"),
        Some((name, rest)) if !name.starts_with('-') => (Some(name), rest),
        Some(_) => (None, args),
    };
    let mut boot = Vec::new();
    if let Some(name) = name {
        boot = options_of(&image::build(name)?, mode_in(rest))?;
    }
    let program = runner(&project)?;
    let terminal = Terminal::save();
    let status = proc::status(Command::new(program).args(boot).args(rest))?;
    drop(terminal);
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// Builds the runner; the program.
pub fn runner(project: &Project) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--profile", "fast", "--locked", "-p", "tabvisor-runner"])
        .current_dir(&project.root);
    proc::run(&mut cargo).context("the runner does not compile")?;
    Ok(web::target_dir(project).join("fast").join(format!("tabvisor-runner{}", std::env::consts::EXE_SUFFIX)))
}

/// The value of the last `--mode` among the runner's options.
fn mode_in(options: &[String]) -> Option<&str> {
    options.windows(2).rev().find(|pair| pair[0] == "--mode").map(|pair| pair[1].as_str())
}

/// The runner's options for an image: what its manifest says for this mode, or for the image's first.
///
/// # Errors
/// If there is no such image, or none for this mode.
pub fn options_of(dir: &Path, mode: Option<&str>) -> Result<Vec<String>> {
    let path = dir.join("manifest.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Value = serde_json::from_str(&text).with_context(|| format!("{} is no manifest", path.display()))?;
    let modes: Vec<&str> = manifest["modes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mode = mode.or_else(|| modes.first().copied()).unwrap_or("pc");
    // A kernel for one mode alone, as a boot loader may be.
    let own = format!("kernel-{mode}");
    let files = || manifest["files"].as_array().into_iter().flatten();
    let has_own = files().any(|file| file["role"] == own.as_str());
    // A manifest that names no modes is an old one, of a PC.
    ensure!(
        modes.contains(&mode) || has_own || modes.is_empty() && mode == "pc",
        "the image {} has no mode `{mode}`; it boots with --mode {}",
        dir.file_name().unwrap_or_default().display(),
        if modes.is_empty() { "pc".to_owned() } else { modes.join(" or ") }
    );
    let mut options = vec!["--mode".to_owned(), mode.to_owned()];
    for file in files() {
        let option = match file["role"].as_str() {
            Some(role) if role == own => "--kernel",
            Some("kernel") if !has_own => "--kernel",
            Some("initrd") => "--initrd",
            Some("disk") => "--disk",
            _ => continue,
        };
        let name = file["path"].as_str().with_context(|| format!("{} has a file without a path", path.display()))?;
        options.extend([option.to_owned(), dir.join(name).to_string_lossy().into_owned()]);
    }
    if let Some(cmdline) = manifest["cmdlines"][mode].as_str().or_else(|| manifest["cmdline"].as_str()) {
        options.extend(["--cmdline".to_owned(), cmdline.to_owned()]);
    }
    if let Some(memory) = manifest["memory"].as_u64() {
        options.extend(["--mem".to_owned(), memory.to_string()]);
    }
    Ok(options)
}

/// The settings of the terminal on standard input, put back when dropped: the runner does so itself unless
/// it is killed.
struct Terminal(Option<String>);

impl Terminal {
    fn save() -> Self {
        let out = Command::new("stty").arg("-g").stdin(Stdio::inherit()).stderr(Stdio::null()).output();
        let text = |out: std::process::Output| String::from_utf8_lossy(&out.stdout).trim().to_owned();
        let settings = out.ok().filter(|out| out.status.success()).map(text);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_the_runners_options() {
        let dir = std::env::temp_dir().join(format!("tabvisor-run-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(options_of(&dir, None).unwrap_err().to_string().contains("manifest.json"));
        let write = |text: &str| std::fs::write(dir.join("manifest.json"), text).unwrap();
        write(
            r#"{"files":[{"path":"k","role":"kernel"},{"path":"o","role":"kernel-original"},{"path":"i","role":"initrd"}],
            "cmdline":"console=ttyS0 quiet","cmdlines":{"pv":"console=hvc0"},"modes":["pc","pv"],"memory":128}"#,
        );
        let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let (kernel, initrd) = (file("k"), file("i"));
        let want = |mode: &'static str, cmdline: &'static str| {
            ["--mode", mode, "--kernel", &kernel, "--initrd", &initrd, "--cmdline", cmdline, "--mem", "128"]
                .map(str::to_owned)
        };
        assert_eq!(options_of(&dir, None).unwrap(), want("pc", "console=ttyS0 quiet"));
        assert_eq!(options_of(&dir, Some("pv")).unwrap(), want("pv", "console=hvc0"));
        let error = options_of(&dir, Some("pvh")).unwrap_err().to_string();
        assert!(error.contains("no mode `pvh`") && error.contains("pc or pv"), "{error}");
        write(
            r#"{"files":[{"path":"k","role":"kernel"},{"path":"i","role":"kernel-pvh"}],"modes":["pv"],"cmdline":"x"}"#,
        );
        for (mode, path) in [("pv", &kernel), ("pvh", &initrd)] {
            let options = options_of(&dir, Some(mode)).unwrap();
            assert_eq!(options, ["--mode", mode, "--kernel", path, "--cmdline", "x"].map(str::to_owned));
        }
        write(r#"{"files":[]}"#);
        assert_eq!(options_of(&dir, Some("pc")).unwrap(), ["--mode", "pc"]);
        assert!(options_of(&dir, Some("pv")).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_last_mode_counts() {
        let options = ["--vcpus", "2", "--mode", "pc", "--mode", "pv", "--mode"].map(str::to_owned);
        assert_eq!((mode_in(&options), mode_in(&options[..2])), (Some("pv"), None));
    }
}
