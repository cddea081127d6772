//! What a toolstack asks of a domain, and how a domain ends, with Debian's stock kernel.

mod guest;

use guest::Guest;

/// Requests from outside, one after another; the last reboot is the guest's own wish, and in the end it crashes.
fn visit(mode: &str) {
    let Some(mut guest) = Guest::linux64(mode, &["--keys", "--vcpus", "2"]) else { return };
    guest.booted();

    guest.command("sysrq h");
    let help = guest.until("dump-ftrace-buffer(z) \r\n");
    assert!(help.contains("sysrq: HELP : loglevel(0-9)"), "{help}");
    guest.command("no such command");

    guest.answer("touch /root/mark");
    guest.command("reboot");
    let boot = guest.booted();
    assert!(boot.contains("Restarting system") && boot.contains("Welcome to Linux in Tabvisor"), "{boot}");
    assert_eq!(guest.answer("ls /root | wc -l; nproc"), "0\n2");

    guest.type_line("reboot -f");
    let boot = guest.booted();
    assert!(boot.contains("Restarting system") && boot.contains("Welcome to Linux in Tabvisor"), "{boot}");

    guest.type_line("echo c > /proc/sysrq-trigger");
    let (text, said) = guest.ended();
    assert!(text.contains("Kernel panic - not syncing: sysrq triggered crash"), "{text}");
    assert!(said.contains("the guest's kernel says that it has crashed") && said.contains("[rip ffffffff8"), "{said}");
    assert!(said.contains("\"no such command\" is no command") && said.contains("2 resets"), "{said}");
}

#[test]
fn a_paravirtualized_domain_does_what_it_is_asked_and_starts_again() {
    visit("pv");
}

#[test]
fn a_domain_with_its_own_paging_does_what_it_is_asked_and_starts_again() {
    visit("pvh");
}

#[test]
fn a_domain_switches_itself_off_when_it_is_asked_to() {
    for (mode, how) in [("pv", "halt"), ("pvh", "poweroff")] {
        let Some(mut guest) = Guest::linux64(mode, &["--keys"]) else { return };
        guest.booted();
        guest.command(how);
        let (_, said) = guest.ended();
        assert!(said.contains("the guest switched itself off"), "{mode}: {said}");
    }
}
