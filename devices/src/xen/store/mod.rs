//! Xenstore: a small tree of values that domains share, with watches and transactions. Sources:
//! Xen's docs/misc/xenstore.txt and public/io/xs_wire.h.
//!
//! [`Store`] is the daemon. Guests talk to it with messages through a [`Ring`]; the machine itself,
//! which plays domain 0 (toolstack and back ends), calls its methods. Pure state: nothing here waits,
//! and whom to notify is told to the caller.
//!
//! Left out: `CONTROL`, `INTRODUCE` and other messages of a toolstack (the machine has methods instead;
//! as messages they fail, also for domain 0), reconnection of a ring, depths of watches.

mod access;
mod domain;
mod domu;
mod errno;
mod outbox;
mod path;
mod perms;
mod quota;
mod request;
mod ring;
mod subscription;
mod transaction;
mod tree;
mod watch;
pub mod wire;

pub use domu::{DevicePaths, DomU, RingPort};
pub use errno::Errno;
pub use path::domain_path;
pub use perms::{Access, Perm, Perms};
pub use ring::Ring;
pub use subscription::SubscriptionId;
pub use watch::{INTRODUCE_DOMAIN, RELEASE_DOMAIN};

use domain::Domain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use subscription::Subscription;
use transaction::{Change, View};
use tree::Tree;

/// The store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Store {
    tree: Tree,
    /// Who has been introduced.
    domains: BTreeMap<u16, Domain>,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    next_subscription: u32,
    /// Who may know of domains that come.
    introduce_perms: Perms,
    /// Who may know of domains that go.
    release_perms: Perms,
    /// For people; the guest cannot tell.
    #[serde(skip)]
    log: Vec<String>,
}

/// Texts kept until they are taken.
const LOG_MAX: usize = 16;

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// A store with the nodes of domain 0.
    pub fn new() -> Self {
        let mut store = Self {
            tree: Tree::default(),
            domains: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            next_subscription: 0,
            introduce_perms: Perms::private(0),
            release_perms: Perms::private(0),
            log: Vec::new(),
        };
        store.add_domain0();
        store
    }

    /// Does something to the tree for the trusted side, and tells of it.
    fn change<T>(&mut self, path: &str, f: impl FnOnce(&mut View<'_>, &str) -> Result<T, Errno>) -> Result<T, Errno> {
        let path = path::node_path(0, path.as_bytes())?;
        let mut view = View::new(&mut self.tree, None);
        let result = f(&mut view, &path);
        let changes = view.changes;
        self.fire(&changes);
        result
    }
    /// Sets the value of a node, making it and all that is missing above; new nodes inherit permissions.
    ///
    /// # Errors
    /// `EINVAL` if there can be no such path.
    pub fn write(&mut self, path: &str, value: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.change(path, |view, path| view.write(0, path, value.as_ref()))
    }
    /// Sets the value and the permissions of a node.
    ///
    /// # Errors
    /// `EINVAL` if there can be no such path, or without a permission.
    pub fn write_with(&mut self, path: &str, value: impl AsRef<[u8]>, perms: &[Perm]) -> Result<(), Errno> {
        let perms = Perms::new(perms).ok_or(Errno::Einval)?;
        self.change(path, |view, path| view.write_with(path, value.as_ref(), perms))
    }
    /// Makes a node and all that is missing above.
    ///
    /// # Errors
    /// `EINVAL` if there can be no such path.
    pub fn mkdir(&mut self, path: &str) -> Result<(), Errno> {
        self.change(path, |view, path| view.mkdir(0, path))
    }
    /// Removes a node and all below. That it is missing is no error.
    ///
    /// # Errors
    /// `EINVAL` if there can be no such path, or for the root.
    pub fn remove(&mut self, path: &str) -> Result<(), Errno> {
        match self.change(path, |view, path| view.rm(0, path)) {
            Err(Errno::Enoent) => Ok(()),
            result => result,
        }
    }
    /// Sets the permissions of a node, or of a special event.
    ///
    /// # Errors
    /// `ENOENT` if there is no such node, `EINVAL` without a permission.
    pub fn set_perms(&mut self, path: &str, perms: &[Perm]) -> Result<(), Errno> {
        if let Some(special) = self.special_perms(path) {
            *special = Perms::new(perms).ok_or(Errno::Einval)?;
            return Ok(());
        }
        self.change(path, |view, path| view.set_perms(0, path, perms))
    }
    /// The value of a node.
    pub fn read(&self, path: &str) -> Option<&[u8]> {
        self.tree.get(path).map(|node| &node.value[..])
    }
    /// The permissions of a node.
    pub fn perms(&self, path: &str) -> Option<&Perms> {
        self.tree.get(path).map(|node| &node.perms)
    }
    /// The names of a node's children, in order; nothing if there is no node.
    pub fn list(&self, path: &str) -> impl Iterator<Item = &str> {
        self.tree.get(path).into_iter().flat_map(|node| node.children.iter().map(String::as_str))
    }

    /// Makes a domain known, with no watches and no transactions.
    pub fn introduce(&mut self, domid: u16) {
        self.domains.insert(domid, Domain::default());
        self.fire(&[special(INTRODUCE_DOMAIN, &self.introduce_perms)]);
    }
    /// Forgets a domain: its watches, its transactions, what waits for it, the nodes it owns (as in
    /// xenstored), and its entries in permissions.
    pub fn release(&mut self, domid: u16) {
        if self.domains.remove(&domid).is_none() {
            return;
        }
        if domid != 0 {
            for top in self.tree.tops_of(domid) {
                self.remove(&top).expect("a node that exists, and not the root, can be removed");
            }
            self.tree.forget(domid);
            for perms in [&mut self.introduce_perms, &mut self.release_perms] {
                perms.forget(domid);
            }
        }
        self.fire(&[special(RELEASE_DOMAIN, &self.release_perms)]);
    }
    /// Is the domain known?
    pub fn is_introduced(&self, domid: u16) -> bool {
        self.domains.contains_key(&domid)
    }
    /// Drops the watches and transactions of a domain whose messages cannot be understood any more.
    fn disconnect(&mut self, domid: u16) {
        if let Some(domain) = self.domains.get_mut(&domid) {
            *domain = Domain::default();
        }
    }

    /// From now on, collects the changes of `prefix` and all below (or a special event).
    pub fn subscribe(&mut self, prefix: &str) -> SubscriptionId {
        let id = SubscriptionId(self.next_subscription);
        self.next_subscription += 1;
        self.subscriptions.insert(id, Subscription::new(prefix));
        id
    }
    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        self.subscriptions.remove(&id);
    }
    /// The paths that have changed since the last call, each once, in the order of their first change.
    /// The prefix itself may stand for anything below it.
    pub fn take_changes(&mut self, id: SubscriptionId) -> Vec<String> {
        self.subscriptions.get_mut(&id).map(Subscription::take).unwrap_or_default()
    }
    /// Would [`Store::take_changes`] return something?
    pub fn has_changes(&self, id: SubscriptionId) -> bool {
        self.subscriptions.get(&id).is_some_and(Subscription::has_changes)
    }

    /// Do messages wait for the domain? Its ring needs a [`Ring::pump`] then.
    pub fn has_output(&self, domid: u16) -> bool {
        self.domains.get(&domid).is_some_and(|d| !d.outbox.is_empty())
    }
    /// Takes at most `n` bytes of what waits for the domain.
    pub fn take_output(&mut self, domid: u16, n: usize) -> Vec<u8> {
        self.domains.get_mut(&domid).map(|d| d.outbox.take(n)).unwrap_or_default()
    }
    /// Takes what a developer should know. Bounded; each cause is reported once per domain.
    pub fn take_log(&mut self) -> Vec<String> {
        core::mem::take(&mut self.log)
    }
    /// Keeps a text for people. What causes it, happens once to a connection.
    fn note(&mut self, text: String) {
        if self.log.len() < LOG_MAX {
            self.log.push(text);
        }
    }

    /// Tells all whom it concerns.
    fn fire(&mut self, changes: &[Change]) {
        for change in changes {
            for s in self.subscriptions.values_mut() {
                s.note(change);
            }
            let mut lost = None;
            for (&domid, domain) in &mut self.domains {
                if change.audience.iter().any(|perms| perms.of(domid).has(Access::READ)) && !domain.fire(change) {
                    lost = Some(domid);
                }
            }
            if let Some(domid) = lost {
                self.note(format!("xenstore: domain {domid} does not take its watch events; some are lost"));
            }
        }
    }
    fn special_perms(&mut self, name: &str) -> Option<&mut Perms> {
        match name {
            INTRODUCE_DOMAIN => Some(&mut self.introduce_perms),
            RELEASE_DOMAIN => Some(&mut self.release_perms),
            _ => None,
        }
    }
}

fn special(name: &str, perms: &Perms) -> Change {
    Change { path: name.into(), exact: true, audience: vec![perms.clone()] }
}

#[cfg(test)]
mod boot_tests;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod tests;
