//! Transactions, and the one view of the tree that requests inside and outside of them share.
//! Source: Xen's docs/misc/xenstore.txt ("Transactions").
//!
//! A transaction keeps what it has written, and the generation of each node when it first looked at
//! it. It can be committed if all those nodes still have that generation, so changes elsewhere in
//! the tree are no conflict. What it has not written itself it reads from the tree as it is: if that
//! has changed since, it will not be committed.

use super::errno::Errno;
use super::path;
use super::perms::Perms;
use super::quota::{QUOTA_NODES, QUOTA_TRANSACTION_BYTES, QUOTA_TRANSACTION_NODES};
use super::tree::{Node, Tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change of the tree that watches are told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The node.
    pub path: String,
    /// Only watches of this very node fire, none above: it went away with a node above it.
    pub exact: bool,
    /// A domain may know of the change if one of these lets it read.
    pub audience: Vec<Perms>,
}

/// What a transaction has done to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Version {
    Seen,
    Written(Node),
    Deleted,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Accessed {
    /// The node's generation and owner in the tree at the first look; `None` if there was no node.
    before: Option<(u64, u16)>,
    version: Version,
    /// The first change, and when it was in the order of all changes.
    change: Option<(u32, Change)>,
}

/// Bytes that we keep for a node besides its path and contents, roughly.
const ACCESSED_OVERHEAD: usize = 128;

/// An open transaction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Transaction {
    accessed: BTreeMap<String, Accessed>,
    changes: u32,
    bytes: usize,
}

impl Transaction {
    /// Remembers that the node was looked at.
    fn look(&mut self, tree: &Tree, at: &str) -> Result<(), Errno> {
        if self.accessed.contains_key(at) {
            return Ok(());
        }
        if self.accessed.len() >= QUOTA_TRANSACTION_NODES {
            return Err(Errno::Enospc);
        }
        if self.bytes >= QUOTA_TRANSACTION_BYTES {
            return Err(Errno::Enomem);
        }
        self.insert(tree, at);
        Ok(())
    }
    fn insert(&mut self, tree: &Tree, at: &str) -> &mut Accessed {
        if !self.accessed.contains_key(at) {
            self.bytes += at.len() + ACCESSED_OVERHEAD;
        }
        let before = || tree.get(at).map(|node| (node.generation, node.perms.owner()));
        let new = || Accessed { before: before(), version: Version::Seen, change: None };
        self.accessed.entry(at.into()).or_insert_with(new)
    }
    fn set(&mut self, tree: &Tree, at: &str, version: Version) {
        let size = |v: &Version| if let Version::Written(node) = v { node.size() } else { 0 };
        let new = size(&version);
        let old = core::mem::replace(&mut self.insert(tree, at).version, version);
        self.bytes = (self.bytes + new).saturating_sub(size(&old));
    }
    fn get<'a>(&'a self, tree: &'a Tree, at: &str) -> Option<&'a Node> {
        match self.accessed.get(at).map(|a| &a.version) {
            None | Some(Version::Seen) => tree.get(at),
            Some(Version::Written(node)) => Some(node),
            Some(Version::Deleted) => None,
        }
    }
    /// How many nodes `domid` would own if the transaction were committed (and can be).
    fn owned_by(&self, tree: &Tree, domid: u16) -> usize {
        let (mut more, mut less) = (0, 0);
        for a in self.accessed.values() {
            let owned = a.before.is_some_and(|(_, owner)| owner == domid);
            let (m, l) = match &a.version {
                Version::Seen => (false, false),
                Version::Written(node) => (node.perms.owner() == domid, owned),
                Version::Deleted => (false, owned),
            };
            more += usize::from(m);
            less += usize::from(l);
        }
        (tree.owned_by(domid) + more).saturating_sub(less)
    }
    /// Puts what `domid` has written into the tree. Returns the changes in their order.
    ///
    /// # Errors
    /// `EAGAIN` after a conflict, `ENOSPC` if the domain would own too many nodes.
    pub fn commit(self, domid: u16, tree: &mut Tree) -> Result<Vec<Change>, Errno> {
        if self.accessed.iter().any(|(at, a)| tree.generation(at) != a.before.map(|(generation, _)| generation)) {
            return Err(Errno::Eagain);
        }
        let owned = self.owned_by(tree, domid);
        if domid != 0 && owned > QUOTA_NODES && owned > tree.owned_by(domid) {
            return Err(Errno::Enospc);
        }
        let mut changes = Vec::new();
        for (at, a) in self.accessed {
            match a.version {
                Version::Seen => {}
                Version::Written(node) => tree.put(&at, node),
                Version::Deleted => tree.delete(&at),
            }
            changes.extend(a.change);
        }
        changes.sort_by_key(|(order, _)| *order);
        let mut changes: Vec<Change> = changes.into_iter().map(|(_, change)| change).collect();
        for change in &mut changes {
            change.audience.extend(audience(|at| tree.get(at), &change.path));
        }
        Ok(changes)
    }
}

/// Whose permissions count for a change of a node: its own and those of the one above.
fn audience<'a>(get: impl Fn(&str) -> Option<&'a Node>, at: &str) -> Vec<Perms> {
    match get(at) {
        None => Vec::new(),
        Some(node) => {
            let parent = get(path::parent(at)).map(|n| n.perms.clone());
            core::iter::once(node.perms.clone()).chain(parent).collect()
        }
    }
}

/// The tree as one request sees it.
pub struct View<'a> {
    tree: &'a mut Tree,
    transaction: Option<&'a mut Transaction>,
    /// What has changed outside of a transaction.
    pub changes: Vec<Change>,
}

impl<'a> View<'a> {
    /// The tree, seen through a transaction if there is one.
    pub fn new(tree: &'a mut Tree, transaction: Option<&'a mut Transaction>) -> Self {
        Self { tree, transaction, changes: Vec::new() }
    }
    /// The node at `at`. In a transaction, from now on it must not change elsewhere.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` if the transaction has seen too much.
    pub fn get(&mut self, at: &str) -> Result<Option<&Node>, Errno> {
        if let Some(t) = &mut self.transaction {
            t.look(self.tree, at)?;
        }
        Ok(self.peek(at))
    }
    fn peek(&self, at: &str) -> Option<&Node> {
        match &self.transaction {
            None => self.tree.get(at),
            Some(t) => t.get(self.tree, at),
        }
    }
    /// Stores a node that [`View::get`] was called for.
    pub fn put(&mut self, at: &str, mut node: Node) {
        match &mut self.transaction {
            None => self.tree.put(at, node),
            Some(t) => {
                node.generation = self.tree.next_generation();
                t.set(self.tree, at, Version::Written(node));
            }
        }
    }
    /// Removes a node that [`View::get`] was called for.
    pub fn delete(&mut self, at: &str) {
        match &mut self.transaction {
            None => self.tree.delete(at),
            Some(t) => t.set(self.tree, at, Version::Deleted),
        }
    }
    /// How many nodes `domid` owns.
    pub fn owned_by(&self, domid: u16) -> usize {
        match &self.transaction {
            None => self.tree.owned_by(domid),
            Some(t) => t.owned_by(self.tree, domid),
        }
    }
    /// Notes a change; called while the node exists. `old`: permissions that it had before.
    pub fn changed(&mut self, at: &str, exact: bool, old: Option<Perms>) {
        let mut audience = audience(|at| self.peek(at), at);
        audience.extend(old);
        let change = Change { path: at.into(), exact, audience };
        match &mut self.transaction {
            None => self.changes.push(change),
            Some(t) => {
                let order = t.changes;
                match &mut t.insert(self.tree, at).change {
                    Some((_, first)) => first.exact &= exact,
                    none => {
                        *none = Some((order, change));
                        t.changes += 1;
                    }
                }
            }
        }
    }
}
