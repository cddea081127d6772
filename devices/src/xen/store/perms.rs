//! Permissions of a node. Source: Xen's docs/misc/xenstore.txt (`SET_PERMS`): the first entry
//! names the owner and what everyone has who is not named; the others name domains.

use super::errno::Errno;
use serde::{Deserialize, Serialize};

/// What is allowed, as a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access(u8);

impl Access {
    /// `n`: nothing.
    pub const NONE: Self = Self(0);
    /// `r`: reading the value, the names of the children, and the permissions.
    pub const READ: Self = Self(1);
    /// `w`: writing the value, making and removing children.
    pub const WRITE: Self = Self(2);
    /// `b`: both.
    pub const BOTH: Self = Self(3);
    /// What only the owner may do: change the permissions.
    pub const OWNER: Self = Self(7);

    /// Is all of `wanted` in this set?
    pub fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
    fn letter(self) -> char {
        ['n', 'r', 'w', 'b'][usize::from(self.0 & 3)]
    }
}

/// One entry: a domain and its access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Perm {
    /// The domain.
    pub domid: u16,
    /// What it may do; in the first entry, what others may do.
    pub access: Access,
}

impl Perm {
    /// `n`: the domain has no access, or owns the node alone.
    pub const fn none(domid: u16) -> Self {
        Self { domid, access: Access::NONE }
    }
    /// `r`: the domain may read.
    pub const fn read(domid: u16) -> Self {
        Self { domid, access: Access::READ }
    }
    /// `b`: the domain may read and write.
    pub const fn both(domid: u16) -> Self {
        Self { domid, access: Access::BOTH }
    }
    /// An entry in its written form, such as `r1`.
    ///
    /// # Errors
    /// `EINVAL` if it is not one.
    pub fn parse(text: &[u8]) -> Result<Self, Errno> {
        let (letter, number) = text.split_first().ok_or(Errno::Einval)?;
        let access = match letter {
            b'n' => Access::NONE,
            b'r' => Access::READ,
            b'w' => Access::WRITE,
            b'b' => Access::BOTH,
            _ => return Err(Errno::Einval),
        };
        if !number.iter().all(u8::is_ascii_digit) {
            return Err(Errno::Einval);
        }
        let domid = core::str::from_utf8(number).ok().and_then(|n| n.parse().ok()).ok_or(Errno::Einval)?;
        Ok(Self { domid, access })
    }
}

impl core::fmt::Display for Perm {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}{}", self.access.letter(), self.domid)
    }
}

/// The permissions of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Perms {
    first: Perm,
    others: Vec<Perm>,
}

impl Perms {
    /// A node of `owner` that is closed to all but domain 0.
    pub fn private(owner: u16) -> Self {
        Self { first: Perm::none(owner), others: Vec::new() }
    }
    /// From a list whose first entry is the owner's; `None` if it is empty.
    pub fn new(list: &[Perm]) -> Option<Self> {
        let (&first, others) = list.split_first()?;
        Some(Self { first, others: others.to_vec() })
    }
    /// The entries, the owner's first.
    pub fn iter(&self) -> impl Iterator<Item = Perm> + '_ {
        core::iter::once(self.first).chain(self.others.iter().copied())
    }
    /// Number of entries.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }
    /// The domain that owns the node.
    pub fn owner(&self) -> u16 {
        self.first.domid
    }
    /// The same for a node that `domid` creates below.
    pub(super) fn inherited_by(&self, domid: u16) -> Self {
        let mut perms = self.clone();
        if domid != 0 {
            perms.first.domid = domid;
        }
        perms
    }
    /// Forgets the entries of a domain that is gone. Its own nodes are removed as a whole.
    pub(super) fn forget(&mut self, domid: u16) -> bool {
        let before = self.others.len();
        self.others.retain(|p| p.domid != domid);
        self.others.len() != before
    }
    /// What domain `domid` may do. Domain 0 may do everything.
    pub fn of(&self, domid: u16) -> Access {
        if domid == 0 || domid == self.first.domid {
            return Access::OWNER;
        }
        self.others.iter().find(|p| p.domid == domid).map_or(self.first.access, |p| p.access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_is_the_owner_and_everyone_else() {
        let perms = Perms::new(&[Perm::read(1), Perm::none(2), Perm::both(3)]).expect("not empty");
        assert_eq!([0, 1, 2, 3, 4].map(|d| perms.of(d).letter()), ['b', 'b', 'n', 'b', 'r']);
        assert!(perms.of(1).has(Access::OWNER) && !perms.of(3).has(Access::OWNER));
    }

    #[test]
    fn entries_are_written_as_they_are_read() {
        for text in ["n0", "r1", "w65535", "b7"] {
            assert_eq!(Perm::parse(text.as_bytes()).map(|p| p.to_string()), Ok(text.into()));
        }
        for text in ["", "x1", "r", "r+1", "r-1", "r65536", "r1 ", "1"] {
            assert_eq!(Perm::parse(text.as_bytes()), Err(Errno::Einval), "{text:?}");
        }
    }
}
