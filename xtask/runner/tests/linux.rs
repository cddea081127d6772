//! Debian's stock kernel in a terminal, in each mode of the image `linux64`: to the shell, a few commands, and off.

mod guest;

use guest::{BOOT, Guest};
use std::time::Instant;

/// What the shell prints when it waits; the last part asks the terminal where the cursor is.
const PROMPT: &str = "root@tabvisor:/root# \x1b[6n";

/// Boots, asks, switches off.
fn visit(mode: &str, asks: &[(&str, &str)]) {
    let Some(dir) = guest::image("linux64") else { return };
    let start = Instant::now();
    let mut guest = Guest::boot(&guest::options(&dir, mode), PROMPT);
    let boot = guest.prompt(BOOT);
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
