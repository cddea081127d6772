//! What a domain does to nodes, and whether it may. Sources: Xen's docs/misc/xenstore.txt; where
//! it says nothing (which error, who owns a new node), what xenstored does.

use super::errno::Errno;
use super::path;
use super::perms::{Access, Perm, Perms};
use super::quota::{QUOTA_ENTRY_SIZE, QUOTA_NODES, QUOTA_PERMS};
use super::transaction::View;
use super::tree::Node;

impl View<'_> {
    /// The node at `at`, if `who` has `wanted` access to it.
    ///
    /// # Errors
    /// `EACCES` without the access, `ENOENT` if there is no node and `who` may know that: who has no
    /// access to the nearest node above gets `EACCES`.
    fn node(&mut self, who: u16, at: &str, wanted: Access) -> Result<&Node, Errno> {
        if let Some(node) = self.get(at)? {
            if !node.perms.of(who).has(wanted) {
                return Err(Errno::Eacces);
            }
        } else {
            let mut above = path::parent(at);
            while self.get(above)?.is_none() {
                above = path::parent(above);
            }
            let perms = self.get(above)?.map_or(Access::NONE, |node| node.perms.of(who));
            return Err(if perms.has(wanted) { Errno::Enoent } else { Errno::Eacces });
        }
        self.get(at)?.ok_or(Errno::Enoent)
    }

    /// A node's value.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`, or a transaction's quota.
    pub fn read(&mut self, who: u16, at: &str) -> Result<&[u8], Errno> {
        Ok(&self.node(who, at, Access::READ)?.value)
    }
    /// A node's permissions.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`, or a transaction's quota.
    pub fn perms(&mut self, who: u16, at: &str) -> Result<&Perms, Errno> {
        Ok(&self.node(who, at, Access::READ)?.perms)
    }
    /// A node's generation and the names of its children, in order.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`, or a transaction's quota.
    pub fn list(&mut self, who: u16, at: &str) -> Result<(u64, impl Iterator<Item = &str>), Errno> {
        let node = self.node(who, at, Access::READ)?;
        Ok((node.generation, node.children.iter().map(String::as_str)))
    }

    /// Sets a node's value, making it and all that is missing above.
    ///
    /// # Errors
    /// `EACCES`, or a quota.
    pub fn write(&mut self, who: u16, at: &str, value: &[u8]) -> Result<(), Errno> {
        match self.node(who, at, Access::WRITE) {
            Ok(node) => {
                let new = Node { value: value.to_vec(), ..node.clone() };
                check_size(who, &new)?;
                self.put(at, new);
            }
            Err(Errno::Enoent) => self.create(who, at, value, None)?,
            Err(e) => return Err(e),
        }
        self.changed(at, false, None);
        Ok(())
    }
    /// Makes a node and all that is missing above, without a value.
    ///
    /// # Errors
    /// `EACCES`, or a quota.
    pub fn mkdir(&mut self, who: u16, at: &str) -> Result<(), Errno> {
        match self.node(who, at, Access::WRITE) {
            Ok(_) => return Ok(()),
            Err(Errno::Enoent) => self.create(who, at, b"", None)?,
            Err(e) => return Err(e),
        }
        self.changed(at, false, None);
        Ok(())
    }
    /// The trusted side's way to set value and permissions at once, so that there is one event.
    ///
    /// # Errors
    /// Only a transaction's quota.
    pub fn write_with(&mut self, at: &str, value: &[u8], perms: Perms) -> Result<(), Errno> {
        let mut old = None;
        match self.node(0, at, Access::WRITE) {
            Ok(node) => {
                old = Some(node.perms.clone());
                let new = Node { value: value.to_vec(), perms, ..node.clone() };
                self.put(at, new);
            }
            Err(Errno::Enoent) => self.create(0, at, value, Some(perms))?,
            Err(e) => return Err(e),
        }
        self.changed(at, false, old);
        Ok(())
    }
    /// Makes a missing node and its missing ancestors; they inherit permissions, but belong to `who`.
    fn create(&mut self, who: u16, at: &str, value: &[u8], perms: Option<Perms>) -> Result<(), Errno> {
        let mut missing = vec![at];
        let mut above = path::parent(at);
        while self.get(above)?.is_none() {
            missing.push(above);
            above = path::parent(above);
        }
        if who != 0 && self.owned_by(who) + missing.len() > QUOTA_NODES {
            return Err(Errno::Enospc);
        }
        let mut parent = self.get(above)?.cloned().ok_or(Errno::Enoent)?;
        let inherited = parent.perms.inherited_by(who);
        let mut made = Vec::new();
        for name in missing.into_iter().rev() {
            parent.children.insert(path::leaf(name).into());
            check_size(who, &parent)?;
            made.push((above, core::mem::replace(&mut parent, Node::new(b"", inherited.clone()))));
            above = name;
        }
        parent.value = value.to_vec();
        parent.perms = perms.unwrap_or(inherited);
        check_size(who, &parent)?;
        made.push((above, parent));
        for (at, node) in made {
            self.put(at, node);
        }
        Ok(())
    }

    /// Removes a node and all below; it may be missing, but not the one above.
    ///
    /// # Errors
    /// `EACCES`, `ENOENT`, `EINVAL` for the root, or a transaction's quota.
    pub fn rm(&mut self, who: u16, at: &str) -> Result<(), Errno> {
        match self.node(who, at, Access::WRITE).map(|_| ()) {
            Ok(()) => {}
            Err(Errno::Enoent) if self.get(path::parent(at))?.is_some() => return Ok(()),
            Err(e) => return Err(e),
        }
        if at == "/" {
            return Err(Errno::Einval);
        }
        // Each node before its children and siblings in falling order; backwards, as xenstored goes.
        let (mut all, mut stack) = (Vec::new(), vec![at.to_string()]);
        while let Some(at) = stack.pop() {
            if let Some(node) = self.get(&at)? {
                stack.extend(node.children.iter().map(|name| path::child(&at, name)));
                all.push(at);
            }
        }
        let above = path::parent(at);
        let mut parent = self.get(above)?.cloned().ok_or(Errno::Enoent)?;
        parent.children.remove(path::leaf(at));
        self.put(above, parent);
        for gone in all.iter().rev() {
            self.changed(gone, gone != at, None);
            self.delete(gone);
        }
        Ok(())
    }

    /// Sets a node's permissions. Only the owner may, and a guest cannot give its node away.
    ///
    /// # Errors
    /// `EACCES`, `ENOENT`, `EPERM`, or a quota.
    pub fn set_perms(&mut self, who: u16, at: &str, list: &[Perm]) -> Result<(), Errno> {
        if who != 0 && list.len() > QUOTA_PERMS {
            return Err(Errno::Enospc);
        }
        let perms = Perms::new(list).ok_or(Errno::Einval)?;
        let node = self.node(who, at, Access::OWNER)?;
        if who != 0 && perms.owner() != node.perms.owner() {
            return Err(Errno::Eperm);
        }
        let mut new = node.clone();
        let old = core::mem::replace(&mut new.perms, perms);
        check_size(who, &new)?;
        self.put(at, new);
        self.changed(at, false, Some(old));
        Ok(())
    }
}

fn check_size(who: u16, node: &Node) -> Result<(), Errno> {
    if who != 0 && node.size() >= QUOTA_ENTRY_SIZE { Err(Errno::Enospc) } else { Ok(()) }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
