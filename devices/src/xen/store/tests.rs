use super::guest::{Guest, domu, store};
use super::wire::*;
use super::*;

/// A guest with a disk, which has a back end.
pub fn rich_guest() -> Guest {
    let mut g = Guest::new(0);
    g.store.add_device("vbd", 1, 51712, &[("virtual-device", "51712")], &[("state", "2")]).expect("valid");
    g
}

fn err<T>(name: &str) -> Result<T, String> {
    Err(name.into())
}
fn ok() -> Result<String, String> {
    Ok("OK|".into())
}

#[test]
fn each_request_has_its_reply() {
    let mut g = rich_guest();
    assert_eq!(g.ask(XS_DIRECTORY, 0, "device|"), Ok("suspend|vbd|".into()));
    assert_eq!(g.ask(XS_DIRECTORY, 0, "name|"), Ok("".into()));
    assert_eq!(g.read(0, "domid"), Ok("1".into()));
    assert_eq!(g.ask(XS_GET_PERMS, 0, "memory|"), Ok("n0|r1|".into()));
    assert_eq!(g.ask(XS_GET_DOMAIN_PATH, 0, "1|"), Ok("/local/domain/1|".into()));
    assert_eq!(g.ask(XS_GET_DOMAIN_PATH, 0, "40000|"), Ok("/local/domain/40000|".into()));
    assert_eq!(g.write(0, "data/a/b", "x"), ok());
    assert_eq!(g.ask(XS_MKDIR, 0, "data/c|"), ok());
    assert_eq!(g.ask(XS_MKDIR, 0, "data/c|"), ok());
    assert_eq!(g.ask(XS_DIRECTORY, 0, "data|"), Ok("a|c|".into()));
    assert_eq!(g.ask(XS_RM, 0, "data/a|"), ok());
    assert_eq!(g.ask(XS_RM, 0, "data/a|"), ok());
    assert_eq!(g.ask(XS_RM, 0, "data/a/b/c|"), err("ENOENT"));
    assert_eq!(g.ask(XS_SET_PERMS, 0, "data|n1|r0|r2|"), ok());
    assert_eq!(g.ask(XS_GET_PERMS, 0, "data|"), Ok("n1|r0|r2|".into()));
    assert_eq!(g.ask(XS_RESET_WATCHES, 0, "|"), ok());
    g.store.tree.check();
}

#[test]
fn what_cannot_be_asked_has_an_error_that_says_why() {
    let mut g = rich_guest();
    for kind in [XS_CONTROL, XS_INTRODUCE, XS_RELEASE, XS_IS_DOMAIN_INTRODUCED, XS_RESUME, XS_SET_TARGET] {
        assert_eq!(g.ask(kind, 0, "1|"), err("EACCES"));
    }
    for kind in [XS_WATCH_EVENT, XS_ERROR, 20, 23, 0xffff, u32::MAX] {
        assert_eq!(g.ask(kind, 99, "x|"), err("ENOSYS"));
    }
    for (kind, payload) in [
        (XS_READ, "name"),
        (XS_READ, ""),
        (XS_READ, "|"),
        (XS_READ, "name|x|"),
        (XS_READ, "a b|"),
        (XS_READ, "@releaseDomain|"),
        (XS_DIRECTORY, "device/|"),
        (XS_WRITE, "data/x"),
        (XS_WATCH, "data|"),
        (XS_WATCH, "a//b|t|"),
        (XS_UNWATCH, "data|"),
        (XS_SET_PERMS, "data|"),
        (XS_SET_PERMS, "data|n1"),
        (XS_SET_PERMS, "data|x1|"),
        (XS_SET_PERMS, "@nothing|n1|"),
        (XS_TRANSACTION_END, "X|"),
        (XS_DIRECTORY_PART, "data|"),
        (XS_GET_DOMAIN_PATH, "1"),
    ] {
        assert_eq!(g.ask(kind, 0, payload), err("EINVAL"), "{kind} {payload}");
    }
    assert_eq!(g.read(0, "nothing"), err("ENOENT"));
    assert_eq!(g.ask(XS_UNWATCH, 0, "data|t|"), err("ENOENT"));
    assert_eq!(g.read(77, "name"), err("ENOENT"));
    assert_eq!(g.end(0), err("ENOENT"));
    assert_eq!(g.ask(XS_SET_PERMS, 0, "@releaseDomain|n1|"), err("EACCES"));
    assert_eq!(g.write(0, "data/x", &"v".repeat(2040)), err("ENOSPC"));
    assert_eq!(g.ask(XS_SET_PERMS, 0, "data|n2|"), err("EPERM"));
}

#[test]
fn a_guest_may_write_what_is_its_own_and_read_what_it_is_shown() {
    let mut g = rich_guest();
    for path in [
        "control/shutdown",
        "control/sysrq",
        "control/feature-poweroff",
        "data/x",
        "drivers/0",
        "feature/x",
        "attr/eth0",
        "error/device/vbd/51712/error",
        "device/suspend/event-channel",
        "device/vbd/51712/state",
        "device/vbd/51712/ring-ref",
    ] {
        assert_eq!(g.write(0, path, "1"), ok(), "{path}");
    }
    for path in [
        "name",
        "memory/target",
        "cpu/0/availability",
        "control/x",
        "device/vif",
        "console/port",
        "new",
        "/local/domain/0/backend/vbd/1/51712/state",
        "/local/domain/0/backend/vbd/1/51712/new",
        "/local/domain/2/data",
        "/tool/x",
        "/x",
    ] {
        assert_eq!(g.write(0, path, "1"), err("EACCES"), "{path}");
    }
    assert_eq!(g.read(0, "/local/domain/0/backend/vbd/1/51712/state"), Ok("2".into()));
    assert_eq!(g.read(0, "/local/domain/0/name"), err("EACCES"));
    assert_eq!(g.ask(XS_DIRECTORY, 0, "/|"), err("EACCES"));
    assert_eq!(g.ask(XS_DIRECTORY, 0, "backend|"), err("ENOENT"));
}

#[test]
fn long_lists_come_in_parts() {
    let mut g = rich_guest();
    for i in 0..600 {
        g.store.write(&format!("/local/domain/1/memory/node-{i:04}"), "").expect("valid");
    }
    assert_eq!(g.ask(XS_DIRECTORY, 0, "memory|"), err("E2BIG"));
    let (mut list, mut generations) = (String::new(), Vec::new());
    while !list.ends_with("||") {
        let part = g.ask(XS_DIRECTORY_PART, 0, &format!("memory|{}|", list.len())).expect("readable");
        assert!(part.len() <= XENSTORE_PAYLOAD_MAX);
        let (generation, names) = part.split_once('|').expect("two parts");
        generations.push(generation.to_string());
        list += names;
    }
    assert!(generations.len() == 2 && generations[0] == generations[1]);
    assert_eq!(list.matches("node-").count(), 600);
    assert_eq!(g.ask(XS_DIRECTORY_PART, 0, "memory|99999999999999999999|"), Ok(format!("{}||", generations[0])));
    g.store.remove("/local/domain/1/memory/node-0000").expect("valid");
    assert!(!g.ask(XS_DIRECTORY_PART, 0, "memory|0|").expect("readable").starts_with(&generations[0]));
}

#[test]
fn a_watch_fires_at_once_and_then_for_each_change_in_order() {
    let mut g = rich_guest();
    assert_eq!(g.ask(XS_WATCH, 0, "device|0xffff888003456789|"), ok());
    assert_eq!(g.events(), ["device 0xffff888003456789"]);
    assert_eq!(g.ask(XS_WATCH, 0, "device|0xffff888003456789|"), err("EEXIST"));
    assert_eq!(g.ask(XS_WATCH, 0, "/local/domain/0/backend/vbd/1/51712/state|s|"), ok());
    assert_eq!(g.events(), ["/local/domain/0/backend/vbd/1/51712/state s"]);
    g.store.write("/local/domain/0/backend/vbd/1/51712/state", "4").expect("valid");
    g.write(0, "device/vbd/51712/state", "4").expect("may write");
    g.store.write("/local/domain/0/backend/vbd/1/51712/sectors", "4").expect("valid");
    assert_eq!(
        g.events(),
        ["/local/domain/0/backend/vbd/1/51712/state s", "device/vbd/51712/state 0xffff888003456789"]
    );
    g.store.remove_device("vbd", 1, 51712).expect("valid");
    let events = g.events();
    assert_eq!(events.last().map(String::as_str), Some("/local/domain/0/backend/vbd/1/51712/state s"));
    assert_eq!(events[events.len() - 2], "device/vbd/51712 0xffff888003456789");
    assert_eq!(g.ask(XS_UNWATCH, 0, "device|0xffff888003456789|"), ok());
    g.store.write("/local/domain/1/device/x", "").expect("valid");
    assert!(g.events().is_empty());
}

#[test]
fn nobody_hears_of_what_he_may_not_read() {
    let mut g = rich_guest();
    g.ask(XS_WATCH, 0, "/|t|").expect("any path can be watched");
    g.events();
    g.store.write("/tool/secret", "").expect("valid");
    g.store.write_with("/local/domain/1/open/secret", "", &[Perm::none(0)]).expect("valid");
    // The node above is readable, so its list of children is known anyway.
    assert_eq!(g.events(), ["/local/domain/1/open/secret t"]);
    g.store.write("/local/domain/1/open/secret/deeper", "").expect("valid");
    assert!(g.events().is_empty());
    // Who could read until now learns that something has happened.
    g.store.set_perms("/local/domain/0/backend/vbd/1/51712", &[Perm::none(0)]).expect("exists");
    assert_eq!(g.events(), ["/local/domain/0/backend/vbd/1/51712 t"]);
}

#[test]
fn a_transaction_is_seen_by_others_when_it_ends() {
    let mut g = rich_guest();
    g.ask(XS_WATCH, 0, "data|w|").expect("valid");
    g.events();
    let t = g.start();
    assert_eq!(g.write(t, "data/a", "1"), ok());
    assert_eq!(g.write(t, "data/b", "2"), ok());
    assert_eq!(g.write(t, "data/a", "3"), ok());
    // Requests outside of it come in between.
    assert_eq!(g.read(0, "data/a"), err("ENOENT"));
    assert_eq!(g.write(0, "feature/x", "0"), ok());
    assert_eq!((g.read(t, "data/a"), g.read(t, "feature/x")), (Ok("3".into()), Ok("0".into())));
    assert_eq!(g.ask(XS_DIRECTORY, t, "data|"), Ok("a|b|".into()));
    assert_eq!(g.ask(XS_TRANSACTION_START, t, "|"), err("EBUSY"));
    assert!(g.events().is_empty());
    assert_eq!(g.end(t), ok());
    assert_eq!(g.events(), ["data/a w", "data/b w"]);
    assert_eq!(g.read(0, "data/a"), Ok("3".into()));
    assert_eq!(g.end(t), err("ENOENT"));
    g.store.tree.check();
}

#[test]
fn a_dropped_transaction_leaves_nothing() {
    let mut g = rich_guest();
    g.ask(XS_WATCH, 0, "data|w|").expect("valid");
    g.events();
    let t = g.start();
    g.write(t, "data/a", "1").expect("may write");
    assert_eq!(g.ask(XS_TRANSACTION_END, t, "F|"), ok());
    assert_eq!(g.read(0, "data/a"), err("ENOENT"));
    assert!(g.events().is_empty());
}

#[test]
fn only_changes_of_what_it_has_seen_make_a_transaction_fail() {
    let run = |own: fn(&mut Guest, u32), other: fn(&mut Guest)| {
        let mut g = rich_guest();
        g.write(0, "data/a", "0").expect("may write");
        let t = g.start();
        own(&mut g, t);
        other(&mut g);
        let result = g.end(t);
        g.store.tree.check();
        result
    };
    let read = |g: &mut Guest, t| drop(g.read(t, "data/a"));
    let missing = |g: &mut Guest, t| drop(g.read(t, "data/b"));
    let write = |g: &mut Guest, t| drop(g.write(t, "data/a", "1"));
    let make = |g: &mut Guest, t| drop(g.write(t, "data/b", "1"));
    let remove = |g: &mut Guest, t| drop(g.ask(XS_RM, t, "data/a|"));
    let a = |g: &mut Guest| drop(g.write(0, "data/a", "2"));
    let below = |g: &mut Guest| drop(g.write(0, "data/a/b", "2"));
    let gone = |g: &mut Guest| drop(g.ask(XS_RM, 0, "data/a|"));
    let b = |g: &mut Guest| drop(g.write(0, "data/b", "2"));
    let elsewhere = |g: &mut Guest| g.store.write("/local/domain/0/backend/vbd/1/51712/state", "4").expect("valid");
    for own in [read, missing, write, make, remove] {
        assert_eq!(run(own, elsewhere), ok());
        assert_eq!(run(own, |_| ()), ok());
    }
    for own in [read, write, remove] {
        for other in [a, below, gone] {
            assert_eq!(run(own, other), err("EAGAIN"));
        }
    }
    for own in [missing, make] {
        assert_eq!(run(own, b), err("EAGAIN"));
        // The list of the node above was looked at: that a node came and went is a conflict, too.
        let came_and_went = |g: &mut Guest| drop((g.write(0, "data/b", ""), g.ask(XS_RM, 0, "data/b|")));
        assert_eq!(run(own, came_and_went), err("EAGAIN"));
        assert_eq!(run(own, a), ok());
    }
}

#[test]
fn transactions_are_few_and_reset_ends_them() {
    let mut g = rich_guest();
    let numbers: Vec<u32> = (0..quota::QUOTA_TRANSACTIONS).map(|_| g.start()).collect();
    assert!(!numbers.contains(&0));
    assert_eq!(g.ask(XS_TRANSACTION_START, 0, "|"), err("ENOSPC"));
    g.ask(XS_WATCH, 0, "data|w|").expect("valid");
    g.events();
    assert_eq!(g.ask(XS_RESET_WATCHES, 0, "|"), ok());
    assert_eq!(g.end(numbers[0]), err("ENOENT"));
    g.write(0, "data/x", "").expect("may write");
    assert!(g.events().is_empty());
    assert!(!numbers.contains(&g.start()));
}

#[test]
fn a_removal_in_a_transaction_tells_those_who_could_read() {
    let mut g = rich_guest();
    g.write(0, "data/a/b", "").expect("may write");
    for path in ["data", "data/a", "data/a/b"] {
        g.ask(XS_WATCH, 0, &format!("{path}|w|")).expect("valid");
    }
    g.events();
    let t = g.start();
    g.ask(XS_RM, t, "data/a|").expect("may remove");
    assert_eq!(g.end(t), ok());
    assert_eq!(g.events(), ["data/a/b w", "data/a w"]);
}

#[test]
fn domains_are_strangers_to_each_other() {
    let mut g = rich_guest();
    g.store.add_domain(&DomU { uuid: "2", ..domu(2) }).expect("valid");
    g.store.introduce(2);
    let two = |g: &mut Guest, kind, payload: &[u8]| {
        let header = Header { kind, req_id: 5, tx_id: 0 };
        g.store.request(2, &Message { header, payload: payload.to_vec() });
        g.store.take_output(2, 10_000)[16..].to_vec()
    };
    assert_eq!(two(&mut g, XS_READ, b"domid\0"), b"2");
    assert_eq!(two(&mut g, XS_READ, b"/local/domain/1/domid\0"), b"EACCES\0");
    assert_eq!(two(&mut g, XS_WRITE, b"data/x\0y"), b"OK\0");
    assert_eq!(g.read(0, "/local/domain/2/data/x"), err("EACCES"));
    assert_eq!(two(&mut g, XS_SET_PERMS, b"data/x\0n2\0r1\0"), b"OK\0");
    assert_eq!(g.read(0, "/local/domain/2/data/x"), Ok("y".into()));
    // What one writes, the other watches.
    g.ask(XS_WATCH, 0, "/local/domain/2/data/x|w|").expect("valid");
    g.events();
    two(&mut g, XS_WRITE, b"data/x\0z");
    assert_eq!(g.events(), ["/local/domain/2/data/x w"]);
}

#[test]
fn domains_come_and_go() {
    let mut g = rich_guest();
    g.store.set_perms(RELEASE_DOMAIN, &[Perm::none(0), Perm::read(1)]).expect("special");
    let gone = g.store.subscribe(RELEASE_DOMAIN);
    for path in [INTRODUCE_DOMAIN, RELEASE_DOMAIN] {
        assert_eq!(g.ask(XS_WATCH, 0, &format!("{path}|w|")), ok());
        assert_eq!(g.events(), [format!("{path} w")]);
    }
    g.store.add_domain(&DomU { uuid: "2", ..domu(2) }).expect("valid");
    g.store.introduce(2);
    assert!(g.store.is_introduced(2) && !g.store.is_introduced(3));
    g.store.set_perms("/local/domain/1/data", &[Perm::none(1), Perm::read(2)]).expect("exists");
    // Who comes is told to nobody without a permission; who goes is told to domain 1.
    assert!(g.events().is_empty() && g.store.take_changes(gone).is_empty());
    g.store.release(2);
    g.store.release(2);
    assert_eq!(g.events(), ["@releaseDomain w"]);
    assert_eq!(g.store.take_changes(gone), ["@releaseDomain"]);
    // Its number says nothing of the next domain's rights.
    assert_eq!(g.ask(XS_GET_PERMS, 0, "data|"), Ok("n1|".into()));
    assert_eq!(g.store.tree.owned_by(2), 0);
    g.store.request(2, &Message { header: Header { kind: XS_READ, req_id: 0, tx_id: 0 }, payload: vec![] });
    assert!(!g.store.has_output(2));
    g.store.tree.check();
}

#[test]
fn back_ends_learn_of_changes_below_what_they_subscribe() {
    let mut g = rich_guest();
    let id = g.store.subscribe("/local/domain/1/device/vbd");
    g.write(0, "data/x", "").expect("may write");
    assert!(!g.store.has_changes(id));
    let t = g.start();
    g.write(t, "device/vbd/51712/ring-ref", "8").expect("may write");
    g.write(t, "device/vbd/51712/state", "3").expect("may write");
    assert!(!g.store.has_changes(id));
    assert_eq!(g.end(t), ok());
    g.write(0, "device/vbd/51712/state", "4").expect("may write");
    assert!(g.store.has_changes(id));
    assert_eq!(
        g.store.take_changes(id),
        ["/local/domain/1/device/vbd/51712/ring-ref", "/local/domain/1/device/vbd/51712/state"]
    );
    assert_eq!(g.store.read("/local/domain/1/device/vbd/51712/state"), Some(&b"4"[..]));
    g.store.unsubscribe(id);
    g.write(0, "device/vbd/51712/state", "5").expect("may write");
    assert!(!g.store.has_changes(id) && g.store.take_changes(id).is_empty());
}

#[test]
fn the_trusted_side_needs_no_permission_but_valid_paths() {
    let mut store = store();
    assert_eq!(store.write("/a/b", "c"), Ok(()));
    assert_eq!(store.read("/a/b"), Some(&b"c"[..]));
    assert_eq!(store.mkdir("/a/d"), Ok(()));
    assert_eq!(store.list("/a").collect::<Vec<_>>(), ["b", "d"]);
    assert_eq!(store.set_perms("/a", &[Perm::none(1)]), Ok(()));
    assert_eq!(store.remove("/a"), Ok(()));
    assert_eq!((store.remove("/a"), store.remove("/a/b/c")), (Ok(()), Ok(())));
    assert_eq!((store.read("/a/b"), store.list("/a").count()), (None, 0));
    for path in ["/a//b", "/a/", "", "/a.b"] {
        assert_eq!(store.write(path, ""), Err(Errno::Einval));
    }
    assert_eq!(store.remove("/"), Err(Errno::Einval));
    assert_eq!(store.set_perms("/a", &[Perm::none(1)]), Err(Errno::Enoent));
    store.tree.check();
}

#[test]
fn the_state_of_a_store_can_be_kept_and_brought_back() {
    let mut g = rich_guest();
    g.ask(XS_WATCH, 0, "data|w|").expect("valid");
    let t = g.start();
    g.write(t, "data/x", "1").expect("may write");
    g.store.write("/local/domain/1/data/y", "").expect("valid");
    let (mut store, mut ring) = (Vec::new(), Vec::new());
    crate::device::put_state(&mut store, &g.store);
    crate::device::put_state(&mut ring, &g.ring);
    g.store = postcard::from_bytes(&store).expect("what was kept");
    g.ring = postcard::from_bytes(&ring).expect("what was kept");
    let mut again = Vec::new();
    crate::device::put_state(&mut again, &g.store);
    assert_eq!(again, store);
    assert_eq!(g.events(), ["data w", "data/y w"]);
    assert_eq!(g.end(t), err("EAGAIN"));
}
