//! `cargo xtask setup`: installs what `need` found missing.
//!
//! Everything that goes into the cache directory is made under a temporary name and renamed when it is
//! complete, so an interrupted set-up is simply started again: finished steps are skipped, a half-built
//! tool goes on from cargo's own build folder.

use crate::need::{self, Fix, Need, State, Use};
use crate::probe;
use crate::proc;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Brings the machine to what the given uses need.
pub fn setup(uses: &[Use]) -> Result<()> {
    let project = Project::find()?;
    let concerns = |need: &Need| need.for_what.iter().any(|use_| uses.contains(use_));
    let open = |needs: Vec<Need>| needs.into_iter().filter(|need| concerns(need) && !need.is_met()).collect::<Vec<_>>();

    let mut todo = open(need::all(&project)?);
    if todo.is_empty() {
        return Ok(());
    }
    let _one_at_a_time = lock(&project)?;
    // Another set-up may have finished while we waited; and node must be there before npm is asked.
    todo = open(need::all(&project)?);
    println!("setting up: {} to do", todo.len());
    for need in &todo {
        println!("{}", need.line(&project));
    }
    todo.sort_by_key(|need| order(&need.fix));
    let mut failed = false;
    let system: Vec<&str> = todo.iter().filter_map(|need| packages(&need.fix)).flatten().copied().collect();
    if !system.is_empty() {
        failed |= !step(&format!("system packages {}", system.join(" ")), || install_packages(&project, &system));
    }
    for need in &todo {
        failed |= match &need.fix {
            Fix::System(_) | Fix::ByHand(_) => false,
            Fix::Rustup(kind, name) => !step(&need.what, || rustup(kind, name)),
            Fix::Build(package, version) => !step(&need.what, || build_tool(&project, package, version)),
            Fix::Npm => !step(&need.what, || npm(&project)),
        };
    }

    let left = open(need::all(&project)?);
    for need in &left {
        println!("{}", need.line(&project));
        if let (State::Wrong(found), Fix::System(_)) = (&need.state, &need.fix) {
            println!(
                "         the system's own package does not do ({found}): install {} another way and put it first in PATH",
                need.what
            );
        }
    }
    // Without a package client the Linux guests cannot be made; the rest still can.
    match left.iter().filter(|need| need.for_what != [Use::Images]).count() {
        0 if !failed => Ok(()),
        0 => bail!("a step failed, see above"),
        n => bail!("{n} still to do, see the lines above; `cargo xtask setup` goes on where it stopped"),
    }
}

fn order(fix: &Fix) -> u8 {
    match fix {
        Fix::System(_) => 0,
        Fix::Rustup(..) => 1,
        Fix::Npm => 2,
        Fix::Build(..) => 3,
        Fix::ByHand(_) => 4,
    }
}

fn packages(fix: &Fix) -> Option<&'static [&'static str]> {
    if let Fix::System(packages) = fix { Some(packages) } else { None }
}

/// Runs one step with a line before and after it; says whether it went well.
fn step(what: &str, work: impl FnOnce() -> Result<()>) -> bool {
    println!("install  {what}");
    let start = Instant::now();
    match work() {
        Ok(()) => {
            println!("done     {what} ({:.0} s)", start.elapsed().as_secs_f64());
            true
        }
        Err(error) => {
            println!("FAILED   {what}: {error:#}");
            false
        }
    }
}

/// Only one set-up at a time writes to the cache.
fn lock(project: &Project) -> Result<File> {
    std::fs::create_dir_all(&project.cache).with_context(|| format!("cannot create {}", project.cache.display()))?;
    let path = project.cache.join("setup.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("waiting for another set-up on this machine to finish");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

fn rustup(kind: &str, name: &str) -> Result<()> {
    if probe::on_path("rustup").is_none() {
        bail!("there is no rustup to ask; add the {kind} {name} with whatever installed this Rust");
    }
    proc::run(Command::new("rustup").args([kind, "add", name]))
}

/// Builds a tool with cargo into its own folder of the cache.
fn build_tool(project: &Project, package: &str, version: &str) -> Result<()> {
    let target = project.tool_dir(package, version);
    let name = format!("{package}-{version}");
    let build = project.cache.join("build").join(&name);
    let partial = project.cache.join("build").join(format!("{name}.root"));
    println!("         built from source by cargo, once per machine and version; some minutes on two cores");
    let install = |locked: bool| {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", package, "--version", version, "--force"]);
        cargo.args(if locked { &["--locked"][..] } else { &[] });
        // Neither tool needs what its default features bring for downloads: both find everything here.
        cargo.args(if package == "wasm-bindgen-cli" { &["--no-default-features"][..] } else { &[] });
        cargo.arg("--root").arg(&partial).arg("--target-dir").arg(&build).current_dir(&project.cache);
        // Without the optimizer they build in 60 % of the time, and wasm-bindgen takes 0.4 s instead of 0.2 s
        // for a module of the page's size.
        for (key, value) in [("OPT_LEVEL", "0"), ("LTO", "off"), ("CODEGEN_UNITS", "16"), ("DEBUG", "0")] {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        for ours in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(ours);
        }
        proc::long(package, &mut cargo, &project.cache.join("log").join(format!("{name}.log")))
    };
    if let Err(error) = install(true) {
        // A registry may lack a release that the tool's own lock file names (yanked, or not there yet).
        println!("         {error:#}");
        println!("         trying again without the tool's own lock file");
        install(false).context("check the network, then run `cargo xtask setup` again; it goes on where it stopped")?;
    }
    into_place(&partial, &target)?;
    let _ = std::fs::remove_dir_all(&build); // only space: the next set-up needs none of it
    Ok(())
}

/// Installs the committed lock file's packages into a folder of the cache named after it.
fn npm(project: &Project) -> Result<()> {
    let target = project.npm_dir()?;
    let partial = target.with_extension("partial");
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    for file in ["package.json", "package-lock.json", ".npmrc"] {
        std::fs::copy(project.at(file), partial.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&partial);
    proc::long("npm", &mut command, &project.cache.join("log/npm.log"))
        .context("check the network, then run `cargo xtask setup` again")?;
    into_place(&partial, &target)
}

fn into_place(partial: &Path, target: &Path) -> Result<()> {
    if let Some(dir) = target.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let _ = std::fs::remove_dir_all(target); // a damaged one: a good one would not have been replaced
    std::fs::rename(partial, target).with_context(|| format!("cannot move {} into place", target.display()))
}

/// `apt-get install`, with `apt-get update` before it where there are no lists, and after a failure.
fn install_packages(project: &Project, packages: &[&str]) -> Result<()> {
    let by_hand = || format!("install by hand: {}", packages.join(" "));
    if probe::on_path("apt-get").is_none() {
        bail!("this system has no apt-get; {}", by_hand());
    }
    let root = probe::output("id", &["-u"]).is_some_and(|id| id.trim() == "0");
    if !root {
        if probe::on_path("sudo").is_none() {
            bail!("not root, and there is no sudo; {}", by_hand());
        }
        println!("         not root: asking sudo to run apt-get");
    }
    let apt = |args: &[&str], log: &str| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-y", "-o", "DPkg::Lock::Timeout=300"]).args(args);
        proc::long("apt-get", &mut command, &project.cache.join("log").join(log))
    };
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(packages);
    if has_lists() && apt(&install, "apt-install.log").is_ok() {
        return Ok(());
    }
    println!("         the package lists are absent or old: apt-get update");
    apt(&["update"], "apt-update.log").with_context(by_hand)?;
    apt(&install, "apt-install.log").with_context(by_hand)
}

fn has_lists() -> bool {
    std::fs::read_dir("/var/lib/apt/lists")
        .is_ok_and(|dir| dir.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_comes_before_npm_and_both_before_long_builds() {
        assert!(order(&Fix::System(&["nodejs"])) < order(&Fix::Npm));
        assert!(order(&Fix::Npm) < order(&Fix::Build("x", "1".into())));
    }

    #[test]
    fn a_finished_folder_replaces_a_damaged_one_whole() {
        let base = std::env::temp_dir().join(format!("tabvisor-fix-{}", std::process::id()));
        let (partial, target) = (base.join("new.partial"), base.join("tools/new"));
        std::fs::create_dir_all(&partial).unwrap();
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(partial.join("good"), "1").unwrap();
        std::fs::write(target.join("damaged"), "1").unwrap();
        into_place(&partial, &target).unwrap();
        assert!(target.join("good").exists() && !target.join("damaged").exists() && !partial.exists());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
