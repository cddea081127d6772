use super::super::transaction::Transaction;
use super::super::tree::Tree;
use super::*;

/// `/mine` belongs to domain 1, `/shown` may be read by it, `/hidden` not.
fn tree() -> Tree {
    let mut tree = Tree::default();
    let mut view = View::new(&mut tree, None);
    let perms = |list: &[Perm]| Perms::new(list).expect("not empty");
    view.write_with("/mine", b"m", perms(&[Perm::none(1)])).expect("domain 0 may");
    view.write_with("/shown", b"s", perms(&[Perm::none(0), Perm::read(1)])).expect("domain 0 may");
    view.write_with("/hidden", b"h", perms(&[Perm::none(0)])).expect("domain 0 may");
    tree
}

#[test]
fn a_domain_reads_and_writes_what_it_may() {
    let mut tree = tree();
    let mut view = View::new(&mut tree, None);
    assert_eq!(view.read(1, "/mine"), Ok(&b"m"[..]));
    assert_eq!(view.read(1, "/shown"), Ok(&b"s"[..]));
    assert_eq!(view.read(1, "/hidden"), Err(Errno::Eacces));
    assert_eq!(view.write(1, "/mine/a/b", b"v"), Ok(()));
    assert_eq!(view.write(1, "/shown", b"v"), Err(Errno::Eacces));
    assert_eq!(view.write(1, "/shown/a", b"v"), Err(Errno::Eacces));
    assert_eq!(view.mkdir(1, "/shown/a"), Err(Errno::Eacces));
    assert_eq!(view.rm(1, "/shown"), Err(Errno::Eacces));
    assert_eq!(view.read(2, "/mine/a/b"), Err(Errno::Eacces));
    assert_eq!(view.read(0, "/mine/a/b"), Ok(&b"v"[..]));
    tree.check();
}

#[test]
fn a_missing_node_is_known_only_to_those_who_may_see_the_one_above() {
    let mut tree = tree();
    let mut view = View::new(&mut tree, None);
    assert_eq!(view.read(1, "/shown/a/b"), Err(Errno::Enoent));
    assert_eq!(view.read(1, "/hidden/a"), Err(Errno::Eacces));
    assert_eq!(view.read(1, "/nowhere"), Err(Errno::Eacces));
    assert_eq!(view.rm(1, "/mine/a"), Ok(()));
    assert_eq!(view.rm(1, "/mine/a/b"), Err(Errno::Enoent));
}

#[test]
fn new_nodes_belong_to_their_maker_and_inherit_the_rest() {
    let mut tree = tree();
    let mut view = View::new(&mut tree, None);
    view.set_perms(0, "/mine", &[Perm::none(0), Perm::both(1), Perm::read(2)]).expect("domain 0 may");
    view.write(1, "/mine/a/b", b"").expect("may write");
    view.write(0, "/mine/c", b"").expect("domain 0 may");
    let mut perms = |at: &str| view.perms(0, at).expect("exists").iter().map(|p| p.to_string()).collect::<Vec<_>>();
    assert_eq!(perms("/mine/a"), ["n1", "b1", "r2"]);
    assert_eq!(perms("/mine/a/b"), ["n1", "b1", "r2"]);
    assert_eq!(perms("/mine/c"), ["n0", "b1", "r2"]);
}

#[test]
fn only_the_owner_sets_permissions_and_a_guest_stays_the_owner() {
    let mut tree = tree();
    let mut view = View::new(&mut tree, None);
    assert_eq!(view.set_perms(1, "/mine", &[Perm::none(1), Perm::read(2)]), Ok(()));
    assert_eq!(view.read(2, "/mine"), Ok(&b"m"[..]));
    assert_eq!(view.set_perms(1, "/mine", &[Perm::none(2)]), Err(Errno::Eperm));
    assert_eq!(view.set_perms(1, "/mine", &[]), Err(Errno::Einval));
    assert_eq!(view.set_perms(1, "/mine", &[Perm::none(1); 6]), Err(Errno::Enospc));
    assert_eq!(view.set_perms(1, "/shown", &[Perm::none(1)]), Err(Errno::Eacces));
    assert_eq!(view.set_perms(1, "/mine/no", &[Perm::none(1)]), Err(Errno::Enoent));
    assert_eq!(view.set_perms(0, "/shown", &[Perm::none(1)]), Ok(()));
    assert_eq!(view.write(1, "/shown", b"mine now"), Ok(()));
}

#[test]
fn removal_takes_all_below_and_tells_children_first() {
    let mut tree = tree();
    let mut view = View::new(&mut tree, None);
    for at in ["/mine/a/x", "/mine/a/y/z", "/mine/a-b"] {
        view.write(1, at, b"").expect("may write");
    }
    view.changes.clear();
    view.rm(1, "/mine/a").expect("may remove");
    let told: Vec<_> = view.changes.iter().map(|c| (&c.path[..], c.exact)).collect();
    assert_eq!(told, [("/mine/a/x", true), ("/mine/a/y/z", true), ("/mine/a/y", true), ("/mine/a", false)]);
    assert_eq!(view.list(1, "/mine").expect("exists").1.collect::<Vec<_>>(), ["a-b"]);
    assert_eq!(view.rm(0, "/"), Err(Errno::Einval));
    tree.check();
    assert_eq!(tree.owned_by(1), 2);
}

#[test]
fn a_guest_stays_within_its_quotas_and_domain_0_has_none() {
    let mut tree = tree();
    let mut view = View::new(&mut tree, None);
    // Header 24, one permission 8: the rest is value, names of children with a NUL each.
    assert_eq!(view.write(1, "/mine/v", &[0; 2048 - 32 - 1]), Ok(()));
    assert_eq!(view.write(1, "/mine/v", &[0; 2048 - 32]), Err(Errno::Enospc));
    assert_eq!(view.write(0, "/mine/v", &[0; 4000]), Ok(()));
    view.rm(1, "/mine/v").expect("may remove");
    let mut made = 0;
    while view.write(1, &format!("/mine/{}/{}", made / 100, made % 100), b"").is_ok() {
        made += 1;
    }
    assert_eq!(view.owned_by(1), QUOTA_NODES);
    assert_eq!(view.write(1, "/mine/0/more", b""), Err(Errno::Enospc));
    assert_eq!(view.write(1, "/mine/0/0", b"v"), Ok(()));
    assert_eq!(view.write(0, "/mine/0/more", b""), Ok(()));
    // The names of children fill their parent.
    view.rm(1, "/mine/0").expect("may remove");
    let long = "x".repeat(1500);
    assert_eq!(view.mkdir(1, &format!("/mine/0/{long}")), Ok(()));
    assert_eq!(view.mkdir(1, &format!("/mine/0/y{long}")), Err(Errno::Enospc));
    tree.check();
}

#[test]
fn quotas_hold_inside_and_at_the_end_of_transactions() {
    let mut tree = tree();
    let mut first = Transaction::default();
    let mut made = 0;
    let mut view = View::new(&mut tree, Some(&mut first));
    while view.write(1, &format!("/mine/a/{made}"), b"").is_ok() {
        made += 1;
    }
    // The parent is full.
    assert!(made > 100 && made < QUOTA_NODES);
    assert_eq!(first.commit(1, &mut tree).map(|c| c.len()), Ok(made));
    tree.check();

    let mut greedy = Transaction::default();
    let mut view = View::new(&mut tree, Some(&mut greedy));
    let result = (0..2000).try_for_each(|i| view.write(1, &format!("/mine/{}/{i}", i % 50), b""));
    assert_eq!(result, Err(Errno::Enospc));
    let mut curious = Transaction::default();
    let mut view = View::new(&mut tree, Some(&mut curious));
    let looks = (0..2000).map(|i| view.read(1, &format!("/mine/no-{i}")).err());
    assert_eq!(looks.collect::<Vec<_>>().last(), Some(&Some(Errno::Enospc)));
    let mut large = Transaction::default();
    let mut view = View::new(&mut tree, Some(&mut large));
    let long = "x".repeat(1900);
    let looks = (0..500).map(|i| view.read(1, &format!("/mine/{long}{i}")).err());
    assert_eq!(looks.collect::<Vec<_>>().last(), Some(&Some(Errno::Enomem)));
    tree.check();
}
