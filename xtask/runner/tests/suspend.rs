//! Debian's stock kernel is suspended and goes on, as itself and as a domain that was restored.

mod guest;

use guest::Guest;

fn visit(mode: &str) {
    let disk = std::env::temp_dir().join(format!("tabvisor-suspend-{mode}-{}.img", std::process::id()));
    std::fs::write(&disk, b"sectors\n".repeat(1 << 17)).expect("there is room for it");
    let path = disk.to_str().expect("a path of letters");
    let more = ["--keys", "--vcpus", "2", "--disk", path, "--nic"];
    let Some(mut guest) = Guest::linux64(mode, &more) else { return };
    guest.booted();
    guest.answer("echo mine >/root/file; (while sleep 1; do :; done) &");
    for (n, how) in (1..).zip(["resume cancelled", "resume", "resume"]) {
        guest.command("suspend");
        guest.hear("the guest is suspended");
        guest.command(how);
        // Both processors, their timers, the disk and the network card are there.
        assert_eq!(guest.answer("nproc; taskset 2 sleep 0.1; cat /root/file"), "2\nmine", "{how}");
        guest.answer("echo 3 >/proc/sys/vm/drop_caches; dmesg -c >/tmp/log");
        assert_eq!(guest.answer("dd if=/dev/xvda bs=8 skip=99 count=1 2>/dev/null"), "sectors", "{how}");
        assert_eq!(guest.answer("ip link | grep -c '00:16:3e:00:00:01'"), "1", "{how}");
        assert_eq!(guest.answer("grep -cE 'BUG:|WARNING:|Oops' /tmp/log"), "0", "{how}");
        assert_eq!(guest.answer("grep -c 'Restarting tasks' /tmp/log"), "1", "{how}, {n}");
    }
    guest.power_off();
    std::fs::remove_file(&disk).expect("it is ours");
}

#[test]
fn a_paravirtualized_domain_is_suspended_and_restored() {
    visit("pv");
}

#[test]
fn a_domain_with_its_own_paging_is_suspended_and_restored() {
    visit("pvh");
}
