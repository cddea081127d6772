//! Asks the machine: which program a name stands for and what version it says it is.

use crate::project::Project;
use crate::version::Version;
use anyhow::Result;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The first runnable file of this name in `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|dir| dir.join(&file)).find(|file| runnable(file))
}

/// A program of the administrator, which is not in everyone's PATH.
pub fn administrators(name: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name));
    on_path(name).or_else(|| places.into_iter().find(|file| runnable(file)))
}

fn runnable(file: &Path) -> bool {
    #[cfg(unix)]
    let allowed = |meta: &std::fs::Metadata| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let allowed = |_: &std::fs::Metadata| true;
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && allowed(&meta))
}

/// What `program ARGS` prints on standard output; none if it cannot be started or fails.
pub fn output<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> Option<String> {
    let out = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The version a program prints for `--version`.
pub fn version(program: impl AsRef<OsStr>) -> Option<Version> {
    Version::find(&output(program, &["--version"])?)
}

/// A browser and the driver that goes with it.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    /// Chromium or Chrome.
    pub browser: Option<PathBuf>,
    /// chromedriver.
    pub driver: Option<PathBuf>,
}

impl Browser {
    /// `CHROME` and `CHROMEDRIVER` win over `PATH`.
    pub fn find() -> Self {
        let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|file| runnable(file));
        let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
        let mac = PathBuf::from("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome");
        Self {
            browser: var("CHROME")
                .or_else(|| names.iter().find_map(|name| on_path(name)))
                .or_else(|| Some(mac).filter(|file| runnable(file))),
            driver: var("CHROMEDRIVER").or_else(|| on_path("chromedriver")),
        }
    }
}

/// Where a built tool is: ours in the cache, or the user's own if it is exactly the wanted version.
pub fn built_tool(project: &Project, package: &str, binary: &str, want: &Version) -> Option<PathBuf> {
    let file = format!("{binary}{}", std::env::consts::EXE_SUFFIX);
    let ours = project.tool_dir(package, &want.to_string()).join("bin").join(file);
    [Some(ours), on_path(binary)].into_iter().flatten().find(|file| version(file).as_ref() == Some(want))
}

/// A program that npm installed, started as `node FILE`; none if the packages are not there.
pub fn npm_file(project: &Project, file: &str) -> Result<Option<PathBuf>> {
    Ok(Some(project.npm_dir()?.join("node_modules").join(file)).filter(|path| path.exists()))
}
