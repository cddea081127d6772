//! GRUB as a domain's kernel, the image `grub64`: it reads a partition table, a file system and its configuration from the
//! first disk, and starts the kernel it finds there.

mod guest;

use guest::{Guest, PROMPT};
use std::time::Instant;

fn visit(mode: &str, asks: &[(&str, &str)]) {
    let Some(dir) = guest::image("grub64") else { return };
    let start = Instant::now();
    let mut guest = Guest::boot(&guest::options(&dir, mode), PROMPT);
    let boot = guest.booted();
    println!("{mode}: {:.1} s to the prompt", start.elapsed().as_secs_f64());
    for says in ["Welcome to GRUB!", "Reading (xen/xvda,msdos1)/boot/grub/grub.cfg", "Welcome to Linux in Tabvisor"] {
        assert!(boot.contains(says), "no {says:?} in {boot}");
    }
    guest.ask(&[
        ("grep ' / ' /proc/mounts", "/dev/xvda1 / ext4 rw"),
        ("cmp /boot/vmlinuz /boot/vmlinuz-$(uname -r); echo $?", "0"),
        ("dmesg | grep -cE 'BUG:|WARNING:|Oops'", "0"),
    ]);
    guest.ask(asks);
    guest.power_off();
}

#[test]
fn a_paravirtualized_grub_starts_the_disks_kernel() {
    visit("pv", &[("cat /sys/hypervisor/guest_type", "PV"), ("tail -n 1 /proc/cmdline | grep -c rodata=off", "1")]);
}

#[test]
fn a_grub_with_its_own_paging_starts_the_disks_kernel() {
    visit("pvh", &[("cat /sys/hypervisor/guest_type", "PVH"), ("grep -c rodata=off /proc/cmdline", "0")]);
}
