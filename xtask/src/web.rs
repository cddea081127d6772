//! Builds the page's WebAssembly: cargo, then wasm-bindgen, then wasm-opt, into `www/pkg`; once more with the
//! hypervisor, into `www/pkg-xen`, which is loaded when a guest wants that; and what unpacks kernels for it, into
//! `www/pkg-unpack`, which is loaded when someone brings one.
//!
//! Each stage is skipped when what it would read is what it read last time, so a second call takes as long
//! as cargo needs to see that nothing changed.

use crate::fix;
use crate::image;
use crate::need::Use;
use crate::probe;
use crate::proc;
use crate::project::{self, Project};
use crate::version;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// WebAssembly features that rustc's code uses and wasm-opt must keep to: what every browser since 2023 has.
const FEATURES: &[&str] = &[
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-sign-ext",
    "--enable-nontrapping-float-to-int",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// Files that the page takes from npm packages: package path and name in `www/vendor`.
const VENDOR: &[(&str, &str)] = &[
    ("@xterm/xterm/lib/xterm.mjs", "xterm.mjs"),
    ("@xterm/xterm/css/xterm.css", "xterm.css"),
    ("@xterm/xterm/LICENSE", "xterm-LICENSE.txt"),
    ("@xterm/addon-fit/lib/addon-fit.mjs", "addon-fit.mjs"),
];

/// `cargo xtask web`.
pub fn command() -> Result<()> {
    fix::setup(&[Use::Page])?;
    build(&Project::find()?)
}

/// Builds what is out of date.
pub fn build(project: &Project) -> Result<()> {
    let start = Instant::now();
    link_npm(project)?;
    vendor(project)?;
    for module in &MODULES {
        module.build(project, start)?;
    }
    hello(project)
}

/// A module that a machine's worker loads. What boots a PC is loaded sooner without a hypervisor.
struct Module {
    /// For people.
    what: &'static str,
    /// Cargo's package, and its features.
    package: &'static str,
    features: &'static [&'static str],
    /// What its files are called, and where they go.
    name: &'static str,
    folder: &'static str,
}

const MODULES: [Module; 3] = [
    Module { what: "the machine", package: "tabvisor-web", features: &[], name: "tabvisor_web", folder: "www/pkg" },
    Module {
        what: "the machine with its hypervisor",
        package: "tabvisor-web",
        features: &["--features", "xen"],
        name: "tabvisor_web",
        folder: "www/pkg-xen",
    },
    Module {
        what: "what unpacks kernels",
        package: "tabvisor-unpack",
        features: &[],
        name: "tabvisor_unpack",
        folder: "www/pkg-unpack",
    },
];

impl Module {
    fn build(&self, project: &Project, start: Instant) -> Result<()> {
        println!("page     compiling {} to WebAssembly (the first time takes a minute or two)", self.what);
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--locked", "--target", "wasm32-unknown-unknown", "-p", self.package]);
        proc::run(cargo.args(self.features).current_dir(&project.root))
            .context("the page's WebAssembly does not compile")?;

        let raw = target_dir(project).join(format!("wasm32-unknown-unknown/release/{}.wasm", self.name));
        let pkg = project.at(self.folder);
        let stamp = pkg.join(".stamp");
        let (npm, rust) = (project.at("package-lock.json"), project.at("Cargo.lock"));
        let key = format!("{:016x}", project::fingerprint(&[&raw, &npm, &rust]));
        if fs::read_to_string(&stamp).is_ok_and(|old| old == key) {
            println!("page     unchanged ({:.1} s)", start.elapsed().as_secs_f64());
            return Ok(());
        }
        let fresh = project.at(&format!("{}.partial", self.folder));
        let _ = fs::remove_dir_all(&fresh);
        bindgen(project, self.name, &raw, &fresh)?;
        optimize(project, &fresh.join(format!("{}_bg.wasm", self.name)))?;
        fs::write(fresh.join(".stamp"), key).context("cannot write the build stamp")?;
        let _ = fs::remove_dir_all(&pkg);
        fs::rename(&fresh, &pkg).with_context(|| format!("cannot move {} into place", self.folder))?;
        sizes(&pkg, self.name)?;
        println!("page     built ({:.1} s)", start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Puts the project's own guest into the page, so that it boots something where no package can be fetched.
fn hello(project: &Project) -> Result<()> {
    let from = image::build("hello")?.join("hello.elf");
    let to = project.at("www/pkg/hello.elf");
    if project::fingerprint(&[&from]) != project::fingerprint(&[&to]) {
        project::copy_whole(&from, &to)?;
    }
    Ok(())
}

/// Where cargo puts what it builds.
pub fn target_dir(project: &Project) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => project.root.join(dir),
        None => project.at("target"),
    }
}

fn bindgen(project: &Project, name: &str, raw: &Path, out: &Path) -> Result<()> {
    let want = version::locked(&project.read("Cargo.lock")?, "wasm-bindgen")?;
    let tool = probe::built_tool(project, "wasm-bindgen-cli", "wasm-bindgen", &want)
        .with_context(|| format!("no wasm-bindgen {want}: run `cargo xtask setup`"))?;
    println!("page     wasm-bindgen {want}");
    proc::run(Command::new(tool).args(["--target", "web", "--out-name", name, "--out-dir"]).arg(out).arg(raw))
}

fn optimize(project: &Project, wasm: &Path) -> Result<()> {
    let tool = probe::npm_file(project, "binaryen/bin/wasm-opt")?.context("no wasm-opt: run `cargo xtask setup`")?;
    println!("page     wasm-opt -O3 (up to a minute)");
    let out = wasm.with_extension("opt");
    let mut command = Command::new("node");
    // Once more finds a little more. Nothing lies at the lowest addresses: they are the far end of the stack.
    command.arg(tool).args(["-O3", "--low-memory-unused", "-O3"]).args(FEATURES).arg(wasm).arg("-o").arg(&out);
    proc::run(&mut command)?;
    fs::rename(&out, wasm).context("cannot replace the module by its optimized form")
}

/// Copies the terminal into `www/vendor`, where the page and its licence text can be served from.
fn vendor(project: &Project) -> Result<()> {
    let dir = project.at("www/vendor");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (from, to) in VENDOR {
        let from = probe::npm_file(project, from)?.with_context(|| format!("no {from}: run `cargo xtask setup`"))?;
        let to = dir.join(to);
        if project::fingerprint(&[&from]) != project::fingerprint(&[&to]) {
            project::copy_whole(&from, &to)?;
        }
    }
    Ok(())
}

/// Links `node_modules` of the work tree to the cache, for node, tsc and editors. A real folder, made by
/// someone's own `npm install`, is left alone.
pub fn link_npm(project: &Project) -> Result<()> {
    let link = project.at("node_modules");
    let target = project.npm_dir()?.join("node_modules");
    match fs::symlink_metadata(&link) {
        Ok(meta) if !meta.is_symlink() => return Ok(()),
        Ok(_) if fs::read_link(&link).is_ok_and(|old| old == target) => return Ok(()),
        Ok(_) => fs::remove_file(&link).context("cannot remove the old link node_modules")?,
        Err(_) => {}
    }
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(&target, &link);
    #[cfg(windows)]
    let made = std::os::windows::fs::symlink_dir(&target, &link);
    made.context("cannot link node_modules to the cache directory")
}

/// Prints what the browser has to load.
fn sizes(pkg: &Path, name: &str) -> Result<()> {
    let mut total = (0, 0);
    for name in [format!("{name}_bg.wasm"), format!("{name}.js")] {
        let path = pkg.join(&name);
        let raw = fs::metadata(&path).with_context(|| format!("wasm-bindgen wrote no {name}"))?.len();
        let small = gzipped(&path)?;
        total = (total.0 + raw, total.1 + small);
        println!("page     {name:<24} {:>8.1} kB, {:>7.1} kB gzipped", raw as f64 / 1e3, small as f64 / 1e3);
    }
    println!("page     {:<24} {:>8.1} kB, {:>7.1} kB gzipped", "together", total.0 as f64 / 1e3, total.1 as f64 / 1e3);
    Ok(())
}

/// Length after gzip -9, asked from node, which is here anyway.
fn gzipped(path: &Path) -> Result<u64> {
    const SCRIPT: &str =
        "const z=require('zlib');console.log(z.gzipSync(require('fs').readFileSync(process.argv[1]),{level:9}).length)";
    let out = Command::new("node")
        .args(["-e", SCRIPT])
        .arg(path)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start node")?;
    String::from_utf8_lossy(&out.stdout).trim().parse().context("node did not print a length")
}
