//! A domain's memory while it runs, with the balloon driver of Debian's stock kernel.

mod guest;

use core::ops::Range;
use guest::Guest;

/// What the guest's kernel says that it has, in MiB. Its own code is not in that.
fn total(guest: &mut Guest) -> u64 {
    let kib = guest.answer("awk '/^MemTotal/ {print $2}' /proc/meminfo");
    kib.parse::<u64>().unwrap_or_else(|_| panic!("{kib:?} is no number")) >> 10
}

/// Asks the guest to have so many MiB, and waits until its total is in a range.
fn resize(guest: &mut Guest, mib: u64, wanted: &Range<u64>) {
    guest.command(&format!("memory {mib}"));
    let mut now = 0;
    for _ in 0..60 {
        now = total(guest);
        if wanted.contains(&now) {
            return guest.command("memory");
        }
        guest.answer("sleep 0.5");
    }
    panic!("the guest has {now} MiB, not {wanted:?}");
}

fn visit(mode: &str) {
    let Some(mut guest) = Guest::linux64(mode, &["--keys", "--max-mem", "384"]) else { return };
    guest.booted();
    let boot = total(&mut guest);
    assert!((190..210).contains(&boot), "{boot}");
    resize(&mut guest, 160, &(boot - 100..boot - 90));
    resize(&mut guest, 1000, &(boot + 120..boot + 140));
    // More than there was at first is there to be used, and stays what it is while other memory goes.
    guest.answer("mkdir /m; mount -t tmpfs -o size=95% m /m");
    guest.answer("seq 50000 >/m/seq");
    guest.answer("dd if=/dev/zero of=/m/x bs=1M count=250 2>/dev/null");
    assert_eq!(guest.answer("stat -c %s /m/x"), "262144000");
    assert_eq!(guest.answer("rm /m/x; md5sum </m/seq"), "c1d4ba52c72ac7bcc71ff2d6c083e684  -");
    resize(&mut guest, 200, &(boot - 60..boot - 50));
    assert_eq!(guest.answer("md5sum </m/seq"), "c1d4ba52c72ac7bcc71ff2d6c083e684  -");
    assert_eq!(guest.answer("dmesg | grep -cE 'BUG:|WARNING:|Oops'"), "0");
    let said = guest.power_off();
    // To a guest with its own paging, the hole below 1 MiB is no memory.
    for asked in [160, 384, 200] {
        let says = |n| said.contains(&format!("[the guest has {n} MiB, was asked to have {asked}, and may have 384]"));
        assert!(says(asked) || mode == "pvh" && says(asked - 1), "{said}");
    }
}

#[test]
fn a_paravirtualized_domain_gives_memory_back_and_takes_more_than_it_had() {
    visit("pv");
}

#[test]
fn a_domain_with_its_own_paging_does_as_well() {
    visit("pvh");
}
