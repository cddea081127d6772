//! How back ends inside the machine learn what has changed: watches of the trusted side, without
//! messages. What this models is the role of domain 0; the form is ours.

use super::path;
use super::transaction::Change;
use serde::{Deserialize, Serialize};

/// Paths kept for one subscription; more are summed up as the prefix.
const CHANGES_MAX: usize = 256;

/// Names a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubscriptionId(pub(super) u32);

/// Interest in a node and all below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    prefix: String,
    /// In the order of their first change, each once.
    changed: Vec<String>,
}

impl Subscription {
    /// Interest in `prefix` and all below, or in a special event.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into(), changed: Vec::new() }
    }
    /// Has anything changed since the last [`Subscription::take`]?
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }
    /// The paths that have changed since the last call. The prefix itself among them can mean that
    /// there were too many to list: anything below may have changed.
    pub fn take(&mut self) -> Vec<String> {
        core::mem::take(&mut self.changed)
    }
    /// Notes a change, if it concerns this subscription.
    pub fn note(&mut self, change: &Change) {
        let special = path::is_special(&change.path);
        let concerns = if special { change.path == self.prefix } else { path::is_below(&change.path, &self.prefix) };
        if !concerns || self.changed.contains(&change.path) {
            return;
        }
        if self.changed.len() < CHANGES_MAX {
            self.changed.push(change.path.clone());
        } else {
            self.changed = vec![self.prefix.clone()];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(s: &mut Subscription, path: &str) {
        s.note(&Change { path: path.into(), exact: false, audience: Vec::new() });
    }

    #[test]
    fn changes_below_the_prefix_are_listed_once_in_order() {
        let mut s = Subscription::new("/a");
        for path in ["/a/z", "/ab", "/a/y", "/a/z", "/a", "/"] {
            note(&mut s, path);
        }
        assert_eq!(s.take(), ["/a/z", "/a/y", "/a"]);
        assert!(!s.has_changes());
    }

    #[test]
    fn too_many_changes_become_the_prefix() {
        let mut s = Subscription::new("/a");
        for i in 0..=CHANGES_MAX {
            note(&mut s, &format!("/a/{i}"));
        }
        note(&mut s, "/a/x");
        assert_eq!(s.take(), ["/a", "/a/x"]);
    }

    #[test]
    fn special_events_are_for_those_who_asked() {
        let (mut all, mut special) = (Subscription::new("/"), Subscription::new("@releaseDomain"));
        for s in [&mut all, &mut special] {
            note(s, "@releaseDomain");
        }
        assert_eq!((all.take().len(), special.take().len()), (0, 1));
    }
}
