//! A distribution's root file system, put together by Debian's `mmdebstrap`: it unpacks packages into a folder and
//! lets them set themselves up there, as root or, where the system allows it, in a user namespace. What comes out is
//! a tar stream with the times we ask for, so the same packages give the same files.

use super::apt::Apt;
use super::cpio::Archive;
use super::deb::{self, Entry};
use crate::probe;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// The package with the tool. It is a script, so it runs from wherever it is unpacked.
pub const TOOL: &str = "mmdebstrap";
/// Not needed to run, and half of the size.
const LEFT_OUT: [&str; 5] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/lib/*/gconv/*"];
/// As in all our disks: 2020-01-01.
const TIME: &str = "1577836800";

/// Why packages cannot set themselves up on this machine.
#[derive(Debug)]
pub struct NotHere;

impl std::fmt::Display for NotHere {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(
            "its packages set themselves up as root, or in a user namespace, and here is neither (`newuidmap` of the \
             package uidmap, a line in /etc/subuid, and a kernel that lets users make namespaces)",
        )
    }
}

impl std::error::Error for NotHere {}

/// Can packages set themselves up here? An error says what is missing.
fn possible() -> Result<(), NotHere> {
    let root = probe::output("id", &["-u"]).is_some_and(|id| id.trim() == "0");
    let namespace = || probe::output("unshare", &["--map-root-user", "--map-auto", "true"]).is_some();
    if root || namespace() { Ok(()) } else { Err(NotHere) }
}

/// What is to be made.
pub struct Wanted<'a> {
    /// The release.
    pub suite: &'a str,
    /// Packages beside the essential ones.
    pub packages: &'a [String],
    /// Kernel modules, with their paths below `/lib/modules`.
    pub modules: &'a [(String, Vec<u8>)],
    /// The kernel's version.
    pub kernel: &'a str,
}

/// The files of a system. `tool` is the package's file, `work` a folder for the time of the call.
pub fn system(apt: &Apt, tool: &Path, wanted: &Wanted, work: &Path) -> Result<Archive> {
    possible()?;
    std::fs::remove_dir_all(work).ok();
    std::fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
    let made = make(apt, tool, wanted, work);
    std::fs::remove_dir_all(work).ok();
    made
}

fn make(apt: &Apt, tool: &Path, wanted: &Wanted, work: &Path) -> Result<Archive> {
    let mut unpack = Command::new("dpkg-deb");
    crate::proc::run(unpack.arg("-x").arg(tool).arg(work))?;
    for (path, data) in wanted.modules {
        let file = work.join("modules").join(path);
        std::fs::create_dir_all(file.parent().context("a module is in a folder")?)?;
        std::fs::write(file, data)?;
    }
    let programs = work.join("usr/bin");
    let log = work.join("log");
    let mut command = Command::new("perl");
    command.arg(programs.join(TOOL)).args(["--variant=minbase", "--format=tar"]);
    command.arg(format!("--architectures={}", apt.arch())).arg(format!("--include={}", wanted.packages.join(",")));
    command.args(["--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\""]);
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg("--customize-hook=chroot \"$1\" passwd --quiet --delete root");
    // Its modprobe reads an index that only its own depmod writes.
    command.arg(format!("--customize-hook=copy-in '{}' /usr/lib", work.join("modules").display()));
    command.arg(format!("--customize-hook=chroot \"$1\" depmod {}", wanted.kernel));
    command.args([wanted.suite, "-"]).arg(apt.sources());
    let mut path = vec![programs];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    command.env("PATH", std::env::join_paths(path)?).env("SOURCE_DATE_EPOCH", TIME).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
    println!("image    {TOOL} puts {} and the essential packages together", wanted.packages.join(", "));
    let mut child = command.spawn().context("cannot start perl, which mmdebstrap is written in")?;
    let stream = child.stdout.take().context("mmdebstrap has no output")?;
    let mut archive = Archive::default();
    let read = deb::tar(std::io::BufReader::with_capacity(1 << 20, stream), |_| true, &mut |e| add(&mut archive, e));
    if read.is_err() {
        child.kill().ok();
    }
    let status = child.wait()?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let last: Vec<&str> = said.lines().rev().take(5).collect();
    ensure!(status.success(), "{TOOL} ended with {status}:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
    read.context("in what mmdebstrap made")?;
    Ok(archive)
}

/// Takes over an entry of the tar stream.
fn add(archive: &mut Archive, e: Entry) -> Result<()> {
    let path = e.name.trim_end_matches('/');
    if path.is_empty() || path == "." {
        return Ok(());
    }
    match e.kind {
        b'0' | 0 => archive.file(path, e.mode, e.data),
        b'5' => archive.folder(path, e.mode),
        b'2' => archive.link(path, &e.link),
        // A second name of a file: for a disk that is read a copy is as good.
        b'1' => {
            let first = e.link.trim_start_matches("./");
            let data =
                archive.data(first).with_context(|| format!("{path} is another name of {first}, which is missing"))?;
            archive.file(path, e.mode, data.to_vec());
        }
        b'3' => archive.character(path, e.mode, e.device.0, e.device.1),
        other => bail!("{path} is of the kind {:?}, which our disks cannot have", char::from(other)),
    }
    archive.owner(path, e.owner);
    Ok(())
}
