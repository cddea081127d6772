//! What a toolstack asks of the guest.

use super::*;
use crate::effect::{Control, Input, ResetCause, Shutdown};

/// The value of a node of the guest's.
fn node(b: &mut Bench, name: &str) -> String {
    b.domain(|d, _| {
        let value = d.store.read(&format!("/local/domain/1/{name}")).expect("the node is there");
        String::from_utf8_lossy(value).into_owned()
    })
}

#[test]
fn requests_are_nodes_that_the_guest_may_answer() {
    let mut b = Bench::pv();
    let ways = [(Shutdown::PowerOff, "poweroff"), (Shutdown::Halt, "halt"), (Shutdown::Reboot, "reboot")];
    for (how, text) in ways {
        b.xen.input(&Input::Control(Control::Shutdown(how)));
        assert_eq!(node(&mut b, "control/shutdown"), text);
    }
    b.xen.input(&Input::PowerButton);
    assert_eq!(node(&mut b, "control/shutdown"), "poweroff");
    b.xen.input(&Input::Control(Control::SysRq(b's')));
    assert_eq!(node(&mut b, "control/sysrq"), "s");
    // It is the guest who says that it has seen them.
    for name in ["shutdown", "sysrq"] {
        let may = b.domain(|d, _| {
            let perms = d.store.perms(&format!("/local/domain/1/control/{name}")).expect("the node is there");
            perms.of(1).has(crate::xen::store::Access::WRITE)
        });
        assert!(may, "{name}");
    }
    assert_eq!(b.stop(), None);
}

#[test]
fn a_guest_that_watches_is_told_of_a_request() {
    let mut b = Bench::pv();
    let ring = b.start_info + 1;
    let message = |kind: u32, payload: &[u8]| {
        let header: Vec<u8> = [kind, 1, 0, payload.len() as u32].iter().flat_map(|v| v.to_le_bytes()).collect();
        [header, payload.to_vec()].concat()
    };
    let watch = message(4, b"control/shutdown\0t\0");
    b.put(ring, 0, &watch);
    b.put(ring, 0x804, &(watch.len() as u32).to_le_bytes());
    assert_eq!(b.call_with(32, &[4], &[1]), 0);
    let events = |b: &Bench| {
        let said = b.bytes(ring, 0x400, 1024);
        let prod = b.half(ring, 0x80c) as usize;
        String::from_utf8_lossy(&said[..prod]).matches("control/shutdown\0t\0").count()
    };
    assert_eq!(events(&b), 1, "a new watch fires");
    b.xen.input(&Input::Control(Control::Shutdown(Shutdown::Reboot)));
    assert_eq!(events(&b), 2);
    assert!(b.domain(|d, _| d.is_pending(1)));
}

#[test]
fn how_a_domain_ends_is_how_the_machine_does() {
    for (reason, stop) in [(0, StopCause::Off), (1, StopCause::Reset(ResetCause::Guest))] {
        for mut b in [Bench::pv(), Bench::pvh(1, &[])] {
            assert_eq!(b.call_with(29, &[2], &[reason]), 0);
            assert_eq!(b.stop(), Some(stop.clone()));
        }
    }
    for reason in [3, 4, 6, 0xffff_ffff] {
        let mut b = Bench::pv();
        assert_eq!(b.call_with(29, &[2], &[reason]), 0);
        assert!(matches!(b.stop(), Some(StopCause::Crash(why)) if why.contains("guest's")), "{reason}");
    }
}
