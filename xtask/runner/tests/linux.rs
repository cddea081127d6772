//! Debian's stock kernel in a terminal, in each mode of the image `linux64`: to the shell, a few commands, and off.

mod guest;

use guest::Guest;
use std::time::Instant;

/// Boots, asks, switches off.
fn visit(mode: &str, asks: &[(&str, &str)]) {
    let start = Instant::now();
    let Some(mut guest) = Guest::linux64(mode, &[]) else { return };
    let boot = guest.booted();
    println!("{mode}: {:.1} s to the prompt", start.elapsed().as_secs_f64());
    assert!(boot.contains("Welcome to Linux in Tabvisor"), "{boot}");
    guest.ask(&[
        ("uname -sm", "Linux x86_64"),
        ("i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo =$i=", "=2000="),
        ("ls / | sort | head -n 2 | tr '\\n' ' '", "bin dev"),
        // A pipe, two processes, and memory that is written and given back.
        ("head -c 8000000 /dev/zero | md5sum | cut -c1-8", "14d20d18"),
        ("ip addr show lo | grep -c 127.0.0.1/8", "1"),
        ("dmesg | grep -cE 'BUG:|WARNING:|Oops'", "0"),
    ]);
    guest.ask(asks);
    guest.power_off();
}

#[test]
fn a_stock_kernel_runs_as_a_paravirtualized_domain_and_switches_itself_off() {
    visit(
        "pv",
        &[
            ("cat /sys/hypervisor/type", "xen"),
            ("dmesg | grep -o 'Hypervisor detected.*'", "Xen PV"),
            ("cat /sys/class/tty/console/active", "hvc0"),
            ("cat /sys/devices/system/clocksource/*/current*", "xen"),
        ],
    );
}

#[test]
fn the_same_kernel_runs_on_a_pc() {
    visit("pc", &[("ls /sys/hypervisor | wc -l", "0"), ("cat /sys/class/tty/console/active", "ttyS0")]);
}

#[test]
fn a_stock_kernel_shares_its_disk_by_grants_of_version_2() {
    let disk = std::env::temp_dir().join(format!("tabvisor-grants-{}.img", std::process::id()));
    std::fs::write(&disk, vec![b'x'; 1 << 20]).expect("there is room for it");
    let path = disk.to_str().expect("a path of letters");
    let more = ["--append", "grant_table.version=2", "--disk", path];
    let Some(mut guest) = Guest::linux64("pv", &more) else { return };
    guest.booted();
    let layout = guest.answer("dmesg | grep -o 'Grant tables using .*'");
    assert_eq!(layout, "Grant tables using version 2 layout");
    assert_eq!(guest.answer("head -c 3 /dev/xvda"), "xxx");
    guest.answer("seq 50000 | dd of=/dev/xvda bs=64k conv=notrunc,fsync");
    guest.answer("echo 3 >/proc/sys/vm/drop_caches");
    assert_eq!(guest.answer("head -c 288894 /dev/xvda | tail -n 1"), "50000");
    guest.power_off();
    std::fs::remove_file(&disk).expect("it is ours");
}
