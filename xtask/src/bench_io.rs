//! `cargo xtask bench --io`: disks in memory and timers. The guest is the image `linux64`, which has drivers of a domain's
//! disk; a PC has no disk yet, so it has the timer alone.

use crate::bench_guest::Guest;
use crate::bench_who::Who;
use crate::image;
use crate::image::cpio::Archive;
use crate::project::Project;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;

/// The disk: all of it is read, and written, at a time.
pub const DISK_MIB: u32 = 128;
/// How often `wakeup` sleeps.
const SLEEPS: u32 = 2000;

/// A program for 64-bit Linux that sleeps [`SLEEPS`] times for 0.1 ms, as an ELF file of one segment.
fn sleeper() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    #[rustfmt::skip]
    let code = {
        let mut code = vec![0xbd]; // mov ebp, SLEEPS
        code.extend(SLEEPS.to_le_bytes());
        code.extend([
            0xb8, 35, 0, 0, 0,                // again: mov eax, 35 (nanosleep)
            0x48, 0x8d, 0x3d, 17, 0, 0, 0,    // lea rdi, [rip + time]
            0x31, 0xf6,                       // xor esi, esi
            0x0f, 0x05,                       // syscall
            0xff, 0xcd,                       // dec ebp
            0x75, 0xec,                       // jnz again
            0x31, 0xff,                       // xor edi, edi
            0xb8, 60, 0, 0, 0,                // mov eax, 60 (exit)
            0x0f, 0x05,                       // syscall
        ]);
        code.extend(0u64.to_le_bytes());      // time: seconds, nanoseconds
        code.extend(100_000u64.to_le_bytes());
        code
    };
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    // Entry, program headers' place, no section headers, no flags.
    [BASE + HEADERS, 64, 0].iter().for_each(|n| file.extend(n.to_le_bytes()));
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, readable and executable
    [0, BASE, BASE, size, size, 0x1000].iter().for_each(|n| file.extend(n.to_le_bytes()));
    file.extend(code);
    file
}

/// Where the guest has what [`guest`] adds.
const FOLDER: &str = "bench";

/// What the guest runs instead of a shell. Lines tell when a program begins and ends as the other benchmark guest's do.
fn script(programs: &[String], reps: u32) -> String {
    let disk = "/dev/xvda";
    let mut text = String::from("stty -echo -onlcr\necho @@INIT\n");
    // That the whole disk came is in the result.
    let (with_disk, bytes) = (format!("[ -e {disk} ] && "), "$(tail -n1 /run/said | cut -d' ' -f1)");
    for name in programs {
        let (condition, count, check) = match name.as_str() {
            "wakeup" => ("", SLEEPS, "-"),
            _ => (with_disk.as_str(), DISK_MIB, bytes),
        };
        let what = match name.as_str() {
            "wakeup" => format!("/{FOLDER}/sleeper"),
            // What is in memory already is no matter of the disk.
            "diskread" => format!("echo 3 >/proc/sys/vm/drop_caches; dd if={disk} of=/dev/null bs=1M"),
            "diskdirect" => format!("dd if={disk} of=/dev/null bs=1M iflag=direct"),
            _ => format!("dd if=/dev/zero of={disk} bs=1M count={DISK_MIB} conv=fsync"),
        };
        let end = format!("echo \"@@E {name}: {count} iterations, 0 seconds, check {check}\"");
        let _ =
            writeln!(text, "{condition}for i in $(seq {reps}); do echo @@S {name}; {what} 2>/run/said; {end}; done");
    }
    text + "echo @@DONE\n"
}

/// The guest, built if it is not there, with a file system in front of its own that has the programs.
pub fn guest(project: &Project, programs: &[String], reps: u32) -> Result<Guest> {
    let image = image::build("linux64")?;
    let mut files = Archive::default();
    files.folder(FOLDER, 0o755);
    files.file(&format!("{FOLDER}/run"), 0o755, format!("#!/bin/sh\n{}", script(programs, reps)).into_bytes());
    files.file(&format!("{FOLDER}/sleeper"), 0o755, sleeper());
    let mut bytes = files.finish();
    let own = image.join("initrd");
    bytes.extend(fs::read(&own).with_context(|| format!("cannot read {}", own.display()))?);
    let initrd = project.cache.join("bench-io-initrd");
    fs::write(&initrd, bytes).with_context(|| format!("cannot write {}", initrd.display()))?;
    Ok(Guest { shared: project.root.clone(), work: project.cache.clone(), packed: image.join("vmlinux.pack"), initrd })
}

/// The guest's command line.
pub fn cmdline(who: Who) -> String {
    let console = if who.mode() == "pc" { "ttyS0" } else { "hvc0" };
    let pv = if who.mode() == "pv" { " noreplace-smp rodata=off" } else { "" };
    let options = "loglevel=3 mitigations=off tsc=reliable cryptomgr.notests=1";
    format!("console={console} {options}{pv} tabvisor.run=/{FOLDER}/run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sleeper_is_a_program() {
        let file = sleeper();
        assert_eq!(file.len(), 120 + 34 + 16);
        // What the computer that this runs on says of it is the truth.
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        {
            use std::os::unix::fs::PermissionsExt;
            let path = std::env::temp_dir().join(format!("tabvisor-sleeper-{}", std::process::id()));
            std::fs::write(&path, file).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            let status = std::process::Command::new(&path).status().unwrap();
            std::fs::remove_file(&path).unwrap();
            assert!(status.success(), "{status}");
        }
    }

    #[test]
    fn the_script_is_one_and_has_all_that_is_asked_for() {
        let all = ["diskread", "diskdirect", "diskwrite", "wakeup"].map(str::to_owned);
        let text = script(&all, 3);
        for name in all {
            assert_eq!(text.matches(&format!("@@S {name};")).count(), 1, "{text}");
        }
        #[cfg(unix)]
        {
            let status = std::process::Command::new("sh").args(["-n", "-c", &text]).status().unwrap();
            assert!(status.success(), "{text}");
        }
    }
}
