//! The nodes of the store. Source: Xen's docs/misc/xenstore.txt.
//!
//! Nodes are found by their absolute path and know the names of their children; if a node exists,
//! so do all above it. Each change of a node, its list of children included, gives it a new
//! generation. Nothing here asks who may do what: see `access`.

use super::path;
use super::perms::Perms;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that xenstored keeps for a node besides its contents; they count towards its size.
const NODE_HEADER: usize = 24;
/// Bytes of one entry of the permissions.
const NODE_PERM: usize = 8;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Any bytes.
    pub value: Vec<u8>,
    /// Who may use it.
    pub perms: Perms,
    /// The last parts of its children's paths.
    pub children: BTreeSet<String>,
    /// Differs after each change.
    pub generation: u64,
}

impl Node {
    /// A node without children; its generation comes with [`Tree::put`].
    pub fn new(value: &[u8], perms: Perms) -> Self {
        Self { value: value.to_vec(), perms, children: BTreeSet::new(), generation: 0 }
    }
    /// Bytes, as the quota counts them.
    pub fn size(&self) -> usize {
        let children: usize = self.children.iter().map(|name| name.len() + 1).sum();
        NODE_HEADER + NODE_PERM * self.perms.count() + self.value.len() + children
    }
}

/// All nodes, how many each domain owns, and the generation of the last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    owned: BTreeMap<u16, usize>,
    generation: u64,
}

impl Default for Tree {
    fn default() -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), owned: BTreeMap::new(), generation: 0 };
        tree.put("/", Node::new(b"", Perms::private(0)));
        tree
    }
}

impl Tree {
    /// The node at `path`.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }
    /// The generation of the node at `path`, if there is one.
    pub fn generation(&self, path: &str) -> Option<u64> {
        self.get(path).map(|node| node.generation)
    }
    /// A generation that no node has had.
    pub fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }
    /// How many nodes a domain owns.
    pub fn owned_by(&self, domid: u16) -> usize {
        self.owned.get(&domid).copied().unwrap_or(0)
    }
    /// Stores a node. Its parent's list of children is the caller's.
    pub fn put(&mut self, path: &str, mut node: Node) {
        node.generation = self.next_generation();
        *self.owned.entry(node.perms.owner()).or_default() += 1;
        if let Some(old) = self.nodes.insert(path.into(), node) {
            self.disown(old.perms.owner());
        }
    }
    /// Removes a node. Its children and its parent's list are the caller's.
    pub fn delete(&mut self, path: &str) {
        if let Some(old) = self.nodes.remove(path) {
            self.disown(old.perms.owner());
        }
    }
    fn disown(&mut self, domid: u16) {
        if let Some(count) = self.owned.get_mut(&domid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.owned.remove(&domid);
            }
        }
    }
    /// The nodes of a domain that are not below another node of it.
    pub fn tops_of(&self, domid: u16) -> Vec<String> {
        let mut tops: Vec<String> = Vec::new();
        for (path, _) in self.nodes.iter().filter(|(_, node)| node.perms.owner() == domid) {
            let mut above = path::parent(path);
            while above != "/" && self.get(above).is_none_or(|node| node.perms.owner() != domid) {
                above = path::parent(above);
            }
            if above == "/" {
                tops.push(path.clone());
            }
        }
        tops
    }
    /// Takes a domain that is gone out of all permissions.
    pub fn forget(&mut self, domid: u16) {
        for node in self.nodes.values_mut() {
            if node.perms.forget(domid) {
                self.generation += 1;
                node.generation = self.generation;
            }
        }
    }
    /// Is the tree whole: children and parents agree, counts are right?
    #[cfg(test)]
    pub fn check(&self) {
        let mut owned = BTreeMap::new();
        for (path, node) in &self.nodes {
            *owned.entry(node.perms.owner()).or_default() += 1;
            assert!(path::is_valid(path) && node.generation <= self.generation);
            for name in &node.children {
                assert!(self.nodes.contains_key(&path::child(path, name)), "{path} lists {name}");
            }
            if path != "/" {
                let parent = &self.nodes[path::parent(path)];
                assert!(parent.children.contains(path::leaf(path)), "{path} is not listed");
            }
        }
        assert_eq!(owned, self.owned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_count_for_their_owner_until_they_are_gone() {
        let mut tree = Tree::default();
        tree.put("/a", Node::new(b"1", Perms::private(1)));
        tree.put("/b", Node::new(b"2", Perms::private(1)));
        assert_eq!((tree.owned_by(0), tree.owned_by(1)), (1, 2));
        tree.put("/b", Node::new(b"2", Perms::private(2)));
        assert_eq!((tree.owned_by(1), tree.owned_by(2)), (1, 1));
        tree.delete("/a");
        tree.delete("/a");
        assert_eq!(tree.owned_by(1), 0);
    }

    #[test]
    fn a_node_made_again_has_another_generation() {
        let mut tree = Tree::default();
        tree.put("/a", Node::new(b"", Perms::private(0)));
        let first = tree.generation("/a");
        tree.delete("/a");
        assert_eq!(tree.generation("/a"), None);
        tree.put("/a", Node::new(b"", Perms::private(0)));
        assert_ne!(tree.generation("/a"), first);
    }
}
