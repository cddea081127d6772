//! Watches of a domain. Source: Xen's docs/misc/xenstore.txt ("Watches").
//!
//! A watch fires for its node and all below. When a node goes away with one above it, the watches of
//! that very node fire. Events name the node in the form, relative or absolute, of the registration.

use super::errno::Errno;
use super::path::{XENSTORE_REL_PATH_MAX, canonicalize, domain_path, is_below, is_special, is_valid};
use super::quota::QUOTA_WATCHES;
use super::transaction::Change;
use super::wire::{Message, XENSTORE_PAYLOAD_MAX};
use serde::{Deserialize, Serialize};

/// A domain has been introduced.
pub const INTRODUCE_DOMAIN: &str = "@introduceDomain";
/// A domain has been released.
pub const RELEASE_DOMAIN: &str = "@releaseDomain";

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Watch {
    /// Absolute, or special.
    path: String,
    token: Vec<u8>,
    /// Bytes of an absolute path that events leave out.
    prefix: usize,
}

impl Watch {
    fn event(&self, path: &str) -> Option<Message> {
        Message::event(path.get(self.prefix..)?, &self.token)
    }
}

/// The watches of a domain, in the order in which it registered them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watches {
    list: Vec<Watch>,
}

impl Watches {
    /// Registers a watch of domain `domid`. Returns its first event, which comes after the reply.
    ///
    /// # Errors
    /// `EINVAL` for an impossible path, `EEXIST` if there is such a watch, `E2BIG` if there are too many.
    pub fn add(&mut self, domid: u16, name: &[u8], token: &[u8]) -> Result<Option<Message>, Errno> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::Einval)?;
        let path = canonicalize(domid, name);
        let possible = if is_special(&path) { path.len() <= XENSTORE_REL_PATH_MAX } else { is_valid(&path) };
        if !possible || token.len() > XENSTORE_PAYLOAD_MAX {
            return Err(Errno::Einval);
        }
        if self.position(&path, token).is_some() {
            return Err(Errno::Eexist);
        }
        if domid != 0 && self.list.len() >= QUOTA_WATCHES {
            return Err(Errno::E2big);
        }
        let prefix = if path == name { 0 } else { domain_path(domid).len() + 1 };
        let watch = Watch { path, token: token.to_vec(), prefix };
        let event = watch.event(&watch.path);
        self.list.push(watch);
        Ok(event)
    }
    /// Removes a watch. Events that wait for the domain stay.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn remove(&mut self, domid: u16, name: &[u8], token: &[u8]) -> Result<(), Errno> {
        let name = core::str::from_utf8(name).map_err(|_| Errno::Enoent)?;
        let at = self.position(&canonicalize(domid, name), token).ok_or(Errno::Enoent)?;
        self.list.remove(at);
        Ok(())
    }
    fn position(&self, path: &str, token: &[u8]) -> Option<usize> {
        self.list.iter().position(|w| w.path == path && w.token == token)
    }
    /// The events of a change that the domain may know of.
    pub fn events<'a>(&'a self, change: &'a Change) -> impl Iterator<Item = Message> + 'a {
        let fires = |w: &&Watch| w.path == change.path || !change.exact && is_below(&change.path, &w.path);
        self.list.iter().filter(fires).filter_map(|w| w.event(&change.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, exact: bool) -> Change {
        Change { path: path.into(), exact, audience: Vec::new() }
    }
    fn fired(watches: &Watches, path: &str, exact: bool) -> Vec<String> {
        let text = |m: Message| String::from_utf8_lossy(&m.payload).replace('\0', " ");
        watches.events(&change(path, exact)).map(text).collect()
    }

    #[test]
    fn a_watch_fires_for_its_node_and_below_in_the_form_of_its_registration() {
        let mut w = Watches::default();
        let first = w.add(1, b"device", b"t").expect("valid").expect("short");
        assert_eq!(first.payload, b"device\0t\0");
        w.add(1, b"/local/domain/1/device/vif", b"u").expect("valid");
        assert_eq!(fired(&w, "/local/domain/1/device", false), ["device t "]);
        assert_eq!(
            fired(&w, "/local/domain/1/device/vif/0", false),
            ["device/vif/0 t ", "/local/domain/1/device/vif/0 u "]
        );
        assert!(fired(&w, "/local/domain/1/devices", false).is_empty());
        assert!(fired(&w, "/local/domain/1", false).is_empty());
    }

    #[test]
    fn a_node_that_goes_with_one_above_fires_its_own_watches_only() {
        let mut w = Watches::default();
        w.add(1, b"/a", b"top").expect("valid");
        w.add(1, b"/a/b", b"sub").expect("valid");
        assert_eq!(fired(&w, "/a/b", true), ["/a/b sub "]);
        assert_eq!(fired(&w, "/a", false), ["/a top "]);
    }

    #[test]
    fn special_watches_do_not_fire_for_nodes() {
        let mut w = Watches::default();
        assert!(w.add(1, b"@releaseDomain", b"t").expect("valid").is_some());
        w.add(1, b"/", b"all").expect("valid");
        assert_eq!(fired(&w, "@releaseDomain", true), ["@releaseDomain t "]);
        assert_eq!(fired(&w, "/releaseDomain", false), ["/releaseDomain all "]);
    }

    #[test]
    fn path_and_token_together_name_a_watch() {
        let mut w = Watches::default();
        w.add(1, b"a", b"1").expect("valid");
        w.add(1, b"a", b"2").expect("valid");
        assert_eq!(w.add(1, b"a", b"1"), Err(Errno::Eexist));
        assert_eq!(w.add(1, b"a//b", b"1"), Err(Errno::Einval));
        assert_eq!(w.add(1, b"", b"1"), Err(Errno::Einval));
        assert_eq!(w.remove(1, b"a", b"3"), Err(Errno::Enoent));
        assert_eq!(w.remove(1, b"a", b"1"), Ok(()));
        assert_eq!(w.remove(1, b"a", b"1"), Err(Errno::Enoent));
        for i in 1..QUOTA_WATCHES {
            w.add(1, b"b", format!("{i}").as_bytes()).expect("below the quota");
        }
        assert_eq!(w.add(1, b"b", b"more"), Err(Errno::E2big));
    }
}
