//! A folder that a domain mounts over 9P, with Debian's stock kernel.

mod guest;

use guest::Guest;
use std::fs;
use std::path::PathBuf;

/// A folder for as long as the test runs.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tabvisor-folder-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("sub/deep")).expect("there is room for it");
        Self(path)
    }
    fn path(&self) -> &str {
        self.0.to_str().expect("a path of letters")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A second try after a failed test would not help.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// 600 kB that are nowhere the same.
fn numbers() -> String {
    (0..100_000).map(|n| format!("{n}\n")).collect()
}
/// Their SHA-256, as `seq 0 99999 | sha256sum` says outside.
const SUM: &str = "6b3cecf895b686a8659bbec06f0a84fc869b00a8d47684e494766b87260b878b";

fn visit(mode: &str) {
    let folder = Folder::new(mode);
    fs::write(folder.0.join("numbers"), numbers()).expect("it is ours");
    fs::write(folder.0.join("sub/deep/empty"), "").expect("it is ours");
    for n in 0..200 {
        fs::write(folder.0.join(format!("sub/f{n}")), n.to_string()).expect("it is ours");
    }
    let Some(mut guest) = Guest::linux64(mode, &["--share", folder.path()]) else { return };
    guest.booted();
    let mount = "mount -t 9p -o trans=xen,version=9p2000.L share /mnt";
    assert_eq!(guest.answer(mount), "");
    guest.ask(&[
        ("grep 9p /proc/mounts", "share /mnt 9p rw"),
        ("ls /mnt | tr '\\n' ' '", "numbers sub"),
        ("ls /mnt/sub | wc -l; cat /mnt/sub/f199", "201\n199"),
        ("sha256sum </mnt/numbers", SUM),
    ]);
    // Written, and read again by a new mount, which knows nothing of it.
    guest.answer("rev /mnt/numbers >/w; dd if=/w of=/mnt/sub/written bs=99999");
    guest.answer("mkdir /mnt/new; mv /mnt/sub/f0 /mnt/new/g; rm /mnt/sub/f1");
    guest.answer("ln -s ../numbers /mnt/new/l; umount /mnt");
    assert_eq!(guest.answer(mount), "");
    guest.ask(&[
        ("cmp /w /mnt/sub/written && echo same; stat -c %s /w", "same\n588890"),
        ("ls /mnt/new /mnt/sub | wc -l; cat /mnt/new/g", "205\n0"),
        ("sha256sum </mnt/new/l", SUM),
        ("cat /mnt/sub/f1", "No such file or directory"),
        ("dmesg | grep -cE 'BUG:|WARNING:|9pnet: .*rror'", "0"),
    ]);
    guest.power_off();
}

#[test]
fn a_paravirtualized_domain_mounts_a_folder() {
    visit("pv");
}

#[test]
fn a_domain_with_its_own_paging_mounts_a_folder() {
    visit("pvh");
}
