//! Debian with systemd on a disk, the image `debian64`, as a domain: every unit starts, and it switches itself off.

mod guest;

use guest::Guest;
use std::time::Instant;

const PROMPT: &str = "root@debian:~# ";

fn visit(mode: &str, hypervisor: &str) {
    let Some(dir) = guest::image("debian64") else { return };
    let mut options = guest::options(&dir, mode);
    options.extend(["--nic", "--append", "tabvisor.ip=10.0.0.5/24"].map(str::to_owned));
    let start = Instant::now();
    let mut guest = Guest::boot(&options, PROMPT);
    let boot = guest.booted();
    println!("{mode}: {:.1} s to the prompt", start.elapsed().as_secs_f64());
    assert!(boot.contains("Debian GNU/Linux 12 debian hvc0"), "{boot}");
    guest.ask(&[
        ("systemctl is-system-running --wait", "running"),
        ("systemd-detect-virt", hypervisor),
        ("findmnt -rno SOURCE,FSTYPE,OPTIONS /", "/dev/xvda ext4 rw"),
        ("ip -br addr show eth0", "10.0.0.5/24"),
        ("cat /sys/class/net/eth0/operstate", "up"),
        ("seq 100000 | md5sum >/var/tmp/sum; sync; cut -c1-8 /var/tmp/sum", "dea9193b"),
        // No file of these differs from what was packaged.
        ("dpkg -V systemd libc6 bash | grep '^..5'; echo =$?", "=1"),
        ("dmesg | grep -cE 'BUG:|WARNING:|Oops'", "0"),
    ]);
    guest.power_off();
}

#[test]
fn systemd_runs_in_a_paravirtualized_domain() {
    visit("pv", "xen");
}

#[test]
fn systemd_runs_in_a_domain_with_its_own_paging() {
    visit("pvh", "xen");
}
