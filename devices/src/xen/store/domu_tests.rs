use super::super::guest::{UUID, domu, store};
use super::*;

const DUMP: &[&str] = &[
    "/local/domain/1 (n0,r1)",
    "/local/domain/1/attr (n1)",
    "/local/domain/1/console (n0,r1)",
    "/local/domain/1/console/backend = /local/domain/0/backend/console/1/0 (n0,r1)",
    "/local/domain/1/console/backend-id = 0 (n1,r0)",
    "/local/domain/1/console/limit = 1048576 (n0,r1)",
    "/local/domain/1/console/output = pty (n0,r1)",
    "/local/domain/1/console/port = 2 (n0,r1)",
    "/local/domain/1/console/ring-ref = 1498114 (n0,r1)",
    "/local/domain/1/console/type = xenconsoled (n0,r1)",
    "/local/domain/1/control (n0,r1)",
    "/local/domain/1/control/feature-poweroff = 1 (n1)",
    "/local/domain/1/control/feature-reboot = 1 (n1)",
    "/local/domain/1/control/feature-suspend = 1 (n1)",
    "/local/domain/1/control/platform-feature-multiprocessor-suspend = 1 (n0,r1)",
    "/local/domain/1/control/platform-feature-xs_reset_watches = 1 (n0,r1)",
    "/local/domain/1/control/shutdown (n1)",
    "/local/domain/1/control/sysrq (n1)",
    "/local/domain/1/cpu (n0,r1)",
    "/local/domain/1/cpu/0 (n0,r1)",
    "/local/domain/1/cpu/0/availability = online (n0,r1)",
    "/local/domain/1/cpu/1 (n0,r1)",
    "/local/domain/1/cpu/1/availability = online (n0,r1)",
    "/local/domain/1/data (n1)",
    "/local/domain/1/device (n0,r1)",
    "/local/domain/1/device/suspend (n0,r1)",
    "/local/domain/1/device/suspend/event-channel (n1)",
    "/local/domain/1/domid = 1 (n0,r1)",
    "/local/domain/1/drivers (n1)",
    "/local/domain/1/error (n1)",
    "/local/domain/1/feature (n1)",
    "/local/domain/1/memory (n0,r1)",
    "/local/domain/1/memory/static-max = 262144 (n0,r1)",
    "/local/domain/1/memory/target = 196608 (n0,r1)",
    "/local/domain/1/memory/videoram = 0 (n0,r1)",
    "/local/domain/1/name = pv (n0,r1)",
    "/local/domain/1/store (n0,r1)",
    "/local/domain/1/store/port = 1 (n0,r1)",
    "/local/domain/1/store/ring-ref = 1498113 (n0,r1)",
    "/local/domain/1/vm = /vm/7627dd3a-0503-4eb1-875c-503b7b966c5e (n0,r1)",
];

/// The nodes from `top` on, in order, as a recording of a real toolstack's shows them.
fn dump(store: &Store, top: &str) -> Vec<String> {
    let perms: Vec<String> = store.perms(top).expect("exists").iter().map(|p| p.to_string()).collect();
    let value = String::from_utf8_lossy(store.read(top).expect("exists"));
    let value = if value.is_empty() { String::new() } else { format!(" = {value}") };
    let mut lines = vec![format!("{top}{value} ({})", perms.join(","))];
    for name in store.list(top) {
        lines.extend(dump(store, &child(top, name)));
    }
    lines
}

#[test]
fn a_domain_has_the_nodes_that_libxl_gives_it() {
    let store = store();
    assert_eq!(dump(&store, "/local/domain/1"), DUMP);
    assert_eq!(
        dump(&store, "/vm"),
        [
            "/vm (n0)".to_string(),
            format!("/vm/{UUID} (n0,r1)"),
            format!("/vm/{UUID}/image (n0,r1)"),
            format!("/vm/{UUID}/image/ostype = linux (n0,r1)"),
            format!("/vm/{UUID}/name = pv (n0,r1)"),
            format!("/vm/{UUID}/uuid = {UUID} (n0,r1)"),
        ]
    );
    store.tree.check();
}

#[test]
fn a_device_has_a_side_for_each_domain() {
    let mut store = store();
    let paths = store
        .add_device("vif", 1, 0, &[("handle", "0")], &[("mac", "00:16:3e:00:00:01"), ("state", "2")])
        .expect("valid");
    assert_eq!(
        dump(&store, "/local/domain/1/device/vif"),
        [
            "/local/domain/1/device/vif (n0,r1)",
            "/local/domain/1/device/vif/0 (n1,r0)",
            "/local/domain/1/device/vif/0/backend = /local/domain/0/backend/vif/1/0 (n1,r0)",
            "/local/domain/1/device/vif/0/backend-id = 0 (n1,r0)",
            "/local/domain/1/device/vif/0/handle = 0 (n1,r0)",
            "/local/domain/1/device/vif/0/state = 1 (n1,r0)",
        ]
    );
    assert_eq!(
        dump(&store, "/local/domain/0/backend/vif"),
        [
            "/local/domain/0/backend/vif (n0)",
            "/local/domain/0/backend/vif/1 (n0)",
            "/local/domain/0/backend/vif/1/0 (n0,r1)",
            "/local/domain/0/backend/vif/1/0/frontend = /local/domain/1/device/vif/0 (n0,r1)",
            "/local/domain/0/backend/vif/1/0/frontend-id = 1 (n0,r1)",
            "/local/domain/0/backend/vif/1/0/mac = 00:16:3e:00:00:01 (n0,r1)",
            "/local/domain/0/backend/vif/1/0/online = 1 (n0,r1)",
            "/local/domain/0/backend/vif/1/0/state = 2 (n0,r1)",
        ]
    );
    assert_eq!(paths, DevicePaths::new("vif", 1, 0));
    store.remove_device("vif", 1, 0).expect("valid");
    assert_eq!(
        store.list("/local/domain/1/device/vif").count() + store.list("/local/domain/0/backend/vif/1").count(),
        0
    );
}

#[test]
fn a_domain_that_is_removed_leaves_nothing() {
    let mut store = store();
    store.add_device("vbd", 1, 51712, &[], &[]).expect("valid");
    store.remove_domain(1).expect("it exists");
    store.release(1);
    assert_eq!(store.tree.owned_by(1), 0);
    assert_eq!(store.list("/local/domain").collect::<Vec<_>>(), ["0"]);
    assert_eq!(store.list("/vm").count() + store.list("/local/domain/0/backend/vbd").count(), 0);
    store.tree.check();
    assert_eq!(store.add_domain(&DomU { uuid: "../etc", ..domu(1) }), Err(Errno::Einval));
}
