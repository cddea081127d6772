//! An ext4 file system in a file, made without being root and without mounting anything: `mke2fs` makes it and
//! `debugfs` fills it, both from e2fsprogs. Source: mke2fs(8), debugfs(8).
//!
//! The same files give the same bytes: identifiers, times and features are given, none is drawn, read from the
//! clock or left to this machine's configuration.

use super::cpio::{Archive, Item, Kind};
use crate::probe;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

/// The time of everything in the file system: 2020-01-01, UTC.
const TIME: &str = "1577836800";
/// What drivers of the last ten years know. No checksums: each costs the guest time, and the file is the host's.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,sparse_super,large_file,huge_file,\
                        dir_nlink,extra_isize";

/// A file system's size and name.
pub struct Shape {
    /// In MiB.
    pub mib: u32,
    /// Also the seed of the folders' hashes.
    pub uuid: String,
    /// At most 16 bytes.
    pub label: String,
}

/// The file system with an archive's files in it. `work` is a folder for the time of the call.
pub fn image(archive: &Archive, shape: &Shape, work: &Path) -> Result<Vec<u8>> {
    std::fs::remove_dir_all(work).ok();
    std::fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
    let made = fill(archive, shape, work);
    std::fs::remove_dir_all(work).ok();
    made
}

fn fill(archive: &Archive, shape: &Shape, work: &Path) -> Result<Vec<u8>> {
    let disk = work.join("disk");
    let size = u64::from(shape.mib) << 20;
    std::fs::File::create(&disk)?.set_len(size)?;
    // The tables are written now: a guest that did it later would be busy for a while after its first boot.
    let extended = format!("hash_seed={},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,nodiscard", shape.uuid);
    let mut mke2fs = tool("mke2fs")?;
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-J", "size=4", "-O", FEATURES]);
    mke2fs.args(["-L", &shape.label, "-U", &shape.uuid, "-E", &extended]).arg(&disk);
    run(&mut mke2fs)?;
    let commands = work.join("commands");
    std::fs::write(&commands, script(archive, work)?)?;
    let out = run(tool("debugfs")?.arg("-w").arg("-f").arg(&commands).arg(&disk))?;
    // debugfs goes on after an error and ends well; its first line here is its version.
    let complaints = String::from_utf8_lossy(&out.stderr);
    let complaints: Vec<&str> =
        complaints.lines().filter(|line| !line.is_empty() && !line.starts_with("debugfs 1.")).collect();
    if let Some(first) = complaints.first() {
        bail!("debugfs could not fill the disk: {first} ({} errors); is it too small?", complaints.len());
    }
    let made = std::fs::read(&disk)?;
    ensure!(made.len() as u64 == size, "the disk has {} bytes, expected {size}", made.len());
    Ok(made)
}

/// What debugfs has to do; the content of files is put into `work` for it.
fn script(archive: &Archive, work: &Path) -> Result<String> {
    let mut s = String::new();
    for (i, Item { path, kind, mode, owner, data }) in archive.entries().enumerate() {
        ensure!(!path.contains(['"', '\n']), "the name {path:?} cannot be put on a disk");
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        writeln!(s, "cd \"/{folder}\"")?;
        match kind {
            Kind::Folder => writeln!(s, "mkdir \"{name}\"")?,
            Kind::File => {
                let content = work.join(format!("file-{i}"));
                std::fs::write(&content, data)?;
                writeln!(s, "write \"{}\" \"{name}\"", content.display())?;
            }
            Kind::Link => writeln!(s, "symlink \"{name}\" \"{}\"", String::from_utf8_lossy(data))?,
            Kind::Character(major, minor) => writeln!(s, "mknod \"{name}\" c {major} {minor}")?,
        }
        writeln!(s, "set_inode_field \"{name}\" mode 0{mode:o}")?;
        for (field, id) in [("uid", owner.0), ("gid", owner.1)].into_iter().filter(|(_, id)| *id != 0) {
            writeln!(s, "set_inode_field \"{name}\" {field} {id}")?;
        }
    }
    Ok(s)
}

/// A program of e2fsprogs, with the clock and the settings all disks are made with.
fn tool(name: &str) -> Result<Command> {
    let program = probe::administrators(name)
        .with_context(|| format!("a disk is made with {name}; install e2fsprogs (`apt-get install e2fsprogs`)"))?;
    let mut command = Command::new(program);
    command.env("E2FSPROGS_FAKE_TIME", TIME).env("MKE2FS_CONFIG", "/dev/null").env("LC_ALL", "C").env("PAGER", "cat");
    Ok(command)
}

fn run(command: &mut Command) -> Result<Output> {
    let what = crate::proc::show(command);
    let out = command.output().with_context(|| format!("cannot start `{what}`"))?;
    let text = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "`{what}` ended with {}:\n{}", out.status, text.trim_end());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn shape() -> Shape {
        Shape { mib: 16, uuid: "01234567-89ab-4cde-8000-0123456789ab".into(), label: "test".into() }
    }

    fn archive() -> Archive {
        let mut a = Archive::default();
        a.file("etc/deep/rc", 0o755, b"#!/bin/sh\n".to_vec());
        a.link("bin/sh", "busybox");
        a.character("dev/console", 0o600, 5, 1);
        a.folder("tmp", 0o1777);
        a.file("empty", 0o644, Vec::new());
        a.owner("empty", (7, 42));
        a
    }

    /// `None`, said loudly, where e2fsprogs is not installed.
    fn made(archive: &Archive, name: &str) -> Option<PathBuf> {
        let dir = std::env::temp_dir().join(format!("tabvisor-ext4-{name}-{}", std::process::id()));
        if let Err(error) = tool("debugfs") {
            println!("SKIPPED: {error}");
            return None;
        }
        let image = image(archive, &shape(), &dir).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("image"), image).unwrap();
        Some(dir)
    }

    #[test]
    fn the_same_files_make_the_same_disk_and_it_is_sound() {
        let (Some(one), Some(two)) = (made(&archive(), "one"), made(&archive(), "two")) else { return };
        let read = |dir: &Path| std::fs::read(dir.join("image")).unwrap();
        assert!(read(&one) == read(&two), "the two disks differ");
        run(tool("e2fsck").unwrap().arg("-fn").arg(one.join("image"))).unwrap();
        let ask = |what: &str| {
            let out = run(tool("debugfs").unwrap().args(["-R", what]).arg(one.join("image"))).unwrap();
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        assert_eq!(ask("cat /etc/deep/rc"), "#!/bin/sh\n");
        for (path, says) in [
            ("/etc/deep/rc", ["Type: regular", "Mode:  0755", "User:     0   Group:     0"]),
            ("/bin/sh", ["Type: symlink", "Fast link dest: \"busybox\"", "Mode:  0777"]),
            ("/dev/console", ["Type: character special", "Mode:  0600", "05:01"]),
            ("/empty", ["Mode:  0644", "User:     7   Group:    42", "Size: 0"]),
            ("/tmp", ["Type: directory", "Mode:  01777", "mtime: 0x5e0be100"]),
        ] {
            let stat = ask(&format!("stat {path}"));
            for word in says {
                assert!(stat.contains(word), "no {word:?} in {stat}");
            }
        }
        for dir in [one, two] {
            std::fs::remove_dir_all(dir).unwrap();
        }
    }

    #[test]
    fn files_that_do_not_fit_are_an_error() {
        if tool("debugfs").is_err() {
            println!("SKIPPED: no debugfs");
            return;
        }
        let mut large = archive();
        large.file("large", 0o644, vec![1; 20 << 20]);
        let dir = std::env::temp_dir().join(format!("tabvisor-ext4-large-{}", std::process::id()));
        let error = image(&large, &shape(), &dir).unwrap_err().to_string();
        assert!(error.contains("too small"), "{error}");
        assert!(!dir.exists());
    }
}
