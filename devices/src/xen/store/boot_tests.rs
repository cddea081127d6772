//! What Linux 6.1 says to the store while it boots, in its order, with a disk and a network card
//! whose back ends answer. Source: Linux's drivers/xen/xenbus and the front ends' `talk_to_*`.

use super::guest::Guest;
use super::wire::*;

const VBD: &str = "/local/domain/0/backend/vbd/1/51712";
const VIF: &str = "/local/domain/0/backend/vif/1/0";

fn machine() -> Guest {
    let mut g = Guest::new(0xffff_ff00);
    g.store
        .add_device(
            "vbd",
            1,
            51712,
            &[("virtual-device", "51712"), ("device-type", "disk"), ("trusted", "1"), ("protocol", "x86_64-abi")],
            &[("dev", "xvda"), ("max-ring-page-order", "4"), ("feature-flush-cache", "1"), ("state", "2")],
        )
        .expect("valid");
    g.store
        .add_device(
            "vif",
            1,
            0,
            &[("handle", "0"), ("mac", "00:16:3e:00:00:01")],
            &[("feature-rx-copy", "1"), ("state", "2")],
        )
        .expect("valid");
    g
}

fn ok() -> Result<String, String> {
    Ok("OK|".into())
}
/// `xenbus_exists`: a node exists if its children can be listed.
fn exists(g: &mut Guest, tx_id: u32, path: &str) -> bool {
    match g.ask(XS_DIRECTORY, tx_id, &format!("{path}|")) {
        Ok(_) => true,
        Err(e) => {
            assert_eq!(e, "ENOENT");
            false
        }
    }
}
fn watch(g: &mut Guest, path: &str, token: &str) {
    assert_eq!(g.ask(XS_WATCH, 0, &format!("{path}|{token}|")), ok());
    assert_eq!(g.events(), [format!("{path} {token}")]);
}
/// `xenbus_switch_state`: a transaction that reads the state and writes another.
fn switch_state(g: &mut Guest, node: &str, from: &str, to: &str) {
    let t = g.start();
    assert_eq!(g.read(t, &format!("{node}/state")), Ok(from.into()));
    assert_eq!(g.write(t, &format!("{node}/state"), to), ok());
    assert_eq!(g.end(t), ok());
}

/// `xenbus_probe_devices`: all devices of all types.
fn probe(g: &mut Guest) -> Vec<String> {
    let list = |g: &mut Guest, path: &str| -> Vec<String> {
        let names = g.ask(XS_DIRECTORY, 0, &format!("{path}|")).expect("readable");
        names.split_terminator('|').map(String::from).collect()
    };
    let mut found = Vec::new();
    for kind in list(g, "device") {
        for id in list(g, &format!("device/{kind}")) {
            let node = format!("device/{kind}/{id}");
            if g.read(0, &format!("{node}/state")).is_err() {
                continue; // device/suspend has none
            }
            assert_eq!(g.read(0, &format!("{node}/backend-id")), Ok("0".into()));
            found.push(node);
        }
    }
    found
}

#[test]
fn linux_boots_through_the_ring() {
    let mut g = machine();
    let vbd = g.store.subscribe("/local/domain/1/device/vbd");
    let vif = g.store.subscribe("/local/domain/1/device/vif");

    // xenbus: what an HVM guest does first, then the bus itself.
    assert_eq!(g.read(0, "control/platform-feature-xs_reset_watches"), Ok("1".into()));
    assert_eq!(g.ask(XS_RESET_WATCHES, 0, "|"), ok());
    watch(&mut g, "device", "FFFFFFFF82A5B0C0");
    assert_eq!(probe(&mut g), ["device/vbd/51712", "device/vif/0"]);
    watch(&mut g, "backend", "FFFFFFFF82A5B4E0");
    assert!(!exists(&mut g, 0, "backend"));

    // Shutdown, balloon, processors.
    for path in ["control/shutdown", "control/sysrq"] {
        watch(&mut g, path, "FFFFFFFF82A4D000");
    }
    for feature in ["poweroff", "reboot", "suspend"] {
        assert_eq!(g.write(0, &format!("control/feature-{feature}"), "1"), ok());
    }
    watch(&mut g, "memory/target", "FFFFFFFF82A4C000");
    assert_eq!(g.read(0, "memory/target"), Ok("196608".into()));
    assert_eq!(g.read(0, "memory/static-max"), Ok("262144".into()));
    watch(&mut g, "cpu", "FFFFFFFF82A4E000");
    for cpu in 0..2 {
        assert_eq!(g.read(0, &format!("cpu/{cpu}/availability")), Ok("online".into()));
    }
    assert_eq!(g.read(0, "cpu/2/availability"), Err("ENOENT".into()));

    // The disk: other end, its features, all keys in one transaction, state.
    assert_eq!(g.read(0, "device/vbd/51712/backend"), Ok(VBD.into()));
    watch(&mut g, &format!("{VBD}/state"), "FFFF888004F1A028");
    assert_eq!(g.read(0, &format!("{VBD}/state")), Ok("2".into()));
    assert_eq!(g.read(0, &format!("{VBD}/max-ring-page-order")), Ok("4".into()));
    assert_eq!(g.read(0, &format!("{VBD}/multi-queue-max-queues")), Err("ENOENT".into()));
    let t = g.start();
    for (key, value) in [("ring-ref", "8"), ("event-channel", "13"), ("protocol", "x86_64-abi")] {
        assert_eq!(g.write(t, &format!("device/vbd/51712/{key}"), value), ok());
    }
    // A state of the back end that changes meanwhile is no conflict.
    g.store.write(&format!("{VIF}/hotplug-status"), "connected").expect("valid");
    assert!(g.store.take_changes(vbd).is_empty());
    assert_eq!(g.end(t), ok());
    switch_state(&mut g, "device/vbd/51712", "1", "3");
    let own: Vec<String> = ["ring-ref", "event-channel", "protocol", "state"]
        .map(|key| format!("/local/domain/1/device/vbd/51712/{key}"))
        .into();
    assert_eq!(g.store.take_changes(vbd), own);
    let own =
        ["ring-ref", "event-channel", "protocol", "state"].map(|k| format!("device/vbd/51712/{k} FFFFFFFF82A5B0C0"));
    assert_eq!(g.events(), own);

    // The back end connects; the front end follows.
    g.store.write(&format!("{VBD}/sectors"), "2048").expect("valid");
    g.store.write(&format!("{VBD}/state"), "4").expect("valid");
    assert_eq!(g.events(), [format!("{VBD}/state FFFF888004F1A028")]);
    assert_eq!(g.read(0, &format!("{VBD}/sectors")), Ok("2048".into()));
    switch_state(&mut g, "device/vbd/51712", "3", "4");
    assert_eq!(g.events(), ["device/vbd/51712/state FFFFFFFF82A5B0C0"]);

    // The network card asks outside of its transaction while that is open.
    watch(&mut g, &format!("{VIF}/state"), "FFFF888004F1B028");
    let t = g.start();
    for (key, value) in [("tx-ring-ref", "768"), ("rx-ring-ref", "769"), ("event-channel", "15")] {
        assert_eq!(g.write(t, &format!("device/vif/0/{key}"), value), ok());
    }
    assert!(!exists(&mut g, 0, "device/vif/0/multi-queue-num-queues"));
    assert!(exists(&mut g, 0, &format!("{VIF}/feature-rx-copy")));
    assert_eq!(g.read(0, &format!("{VIF}/feature-rx-copy")), Ok("1".into()));
    assert!(!exists(&mut g, t, "device/vif/0/queue-0"));
    assert_eq!(g.write(t, "device/vif/0/request-rx-copy", "1"), ok());
    assert_eq!(g.end(t), ok());
    switch_state(&mut g, "device/vif/0", "1", "4");
    assert_eq!(g.store.take_changes(vif).len(), 5);
    g.events();

    // Later: the balloon is told to shrink, and the machine to stop.
    g.store.write("/local/domain/1/memory/target", "100000").expect("valid");
    assert_eq!(g.events(), ["memory/target FFFFFFFF82A4C000"]);
    g.store.write("/local/domain/1/control/shutdown", "poweroff").expect("valid");
    assert_eq!(g.events(), ["control/shutdown FFFFFFFF82A4D000"]);
    let shutdown = g.store.subscribe("/local/domain/1/control/shutdown");
    let t = g.start();
    assert_eq!(g.read(t, "control/shutdown"), Ok("poweroff".into()));
    assert_eq!(g.write(t, "control/shutdown", ""), ok());
    assert_eq!(g.end(t), ok());
    assert_eq!(g.store.take_changes(shutdown).len(), 1);
    assert_eq!(g.store.read("/local/domain/1/control/shutdown"), Some(&b""[..]));
    assert!(g.store.take_log().is_empty());
    g.store.tree.check();
}

#[test]
fn a_state_that_changes_under_a_front_end_is_tried_again() {
    let mut g = machine();
    let t = g.start();
    assert_eq!(g.read(t, "device/vif/0/state"), Ok("1".into()));
    g.store.write("/local/domain/1/device/vif/0/state", "6").expect("valid");
    assert_eq!(g.write(t, "device/vif/0/state", "4"), ok());
    assert_eq!(g.end(t), Err("EAGAIN".into()));
    assert_eq!(g.store.read("/local/domain/1/device/vif/0/state"), Some(&b"6"[..]));
    switch_state(&mut g, "device/vif/0", "6", "4");
}
