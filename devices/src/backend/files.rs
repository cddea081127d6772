//! A tree of files in memory that a guest and whoever runs it share: what is behind a 9P device.
//!
//! Files, directories and symbolic links, with modes, owners and times as they were set; no hard links, no devices.

use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A tree that is shared with a guest and whoever runs it.
pub type Share = Rc<RefCell<Tree>>;

/// Bytes of a name.
const NAME_MAX: usize = 255;
/// Bytes of a page of a file.
const PAGE: u64 = 4096;
/// A file's size at most, as Linux counts.
const SIZE_MAX: u64 = i64::MAX as u64;
/// Directories above one that another directory can be moved into.
const DEPTH_MAX: usize = 1000;
/// What a node costs beside its bytes, towards [`Tree::new`]'s limit.
const NODE: u64 = 256;
/// `S_IFDIR` and its like.
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// What is wrong, as Linux numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of errno.h")]
pub enum FileError {
    Enoent = 2,
    Eio = 5,
    Ebadf = 9,
    Eexist = 17,
    Enotdir = 20,
    Eisdir = 21,
    Einval = 22,
    Enfile = 23,
    Efbig = 27,
    Enospc = 28,
    Enametoolong = 36,
    Enotempty = 39,
    Eopnotsupp = 95,
}
use FileError::*;

/// Names a node for as long as there is the tree.
pub type NodeId = u64;
/// The root.
pub const ROOT: NodeId = 0;

/// A directory: entries in the order in which they were made, so that reading it in parts misses none that stays.
#[derive(Clone, Debug, Default, Serialize)]
struct Directory {
    cookies: BTreeMap<String, u64>,
    entries: BTreeMap<u64, (String, NodeId)>,
    next: u64,
}

/// A file: the pages of it that were written to; between them are zeros, which cost nothing.
#[derive(Clone, Debug, Default, Serialize)]
struct File {
    size: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

#[derive(Clone, Debug, Serialize)]
enum Content {
    Directory(Directory),
    File(File),
    Link(String),
}

/// What a node says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// Permissions, without the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Seconds and nanoseconds since 1970 of the last access and the last change.
    pub atime: (u64, u64),
    /// The last change.
    pub mtime: (u64, u64),
}

#[derive(Clone, Debug, Serialize)]
struct Node {
    content: Content,
    attributes: Attributes,
    /// Counts changes.
    version: u32,
    parent: NodeId,
    /// Its place in that.
    place: u64,
    /// Is it in a directory?
    linked: bool,
    /// Who else holds it.
    held: u32,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Type and permissions.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Counts changes.
    pub version: u32,
    /// The rest.
    pub attributes: Attributes,
}

impl Stat {
    /// Is it a directory?
    pub fn is_directory(&self) -> bool {
        self.mode & 0o170_000 == S_IFDIR
    }
    /// Is it a symbolic link?
    pub fn is_link(&self) -> bool {
        self.mode & 0o170_000 == S_IFLNK
    }
}

/// The tree.
#[derive(Clone, Debug, Serialize)]
pub struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
    used: u64,
    limit: u64,
    changes: u64,
}

impl Tree {
    /// An empty tree that may come to hold so many bytes.
    pub fn new(limit: u64) -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), next: ROOT, used: 0, limit, changes: 0 };
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        tree.insert(ROOT, Content::Directory(Directory::default()), attributes);
        tree
    }
    /// Bytes in use, and how many there may be.
    pub fn usage(&self) -> (u64, u64) {
        (self.used, self.limit)
    }
    /// Counts what has changed in it.
    pub fn changes(&self) -> u64 {
        self.changes
    }
    fn insert(&mut self, parent: NodeId, content: Content, attributes: Attributes) -> NodeId {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node { content, attributes, version: 0, parent, place: 0, linked: true, held: 0 });
        id
    }
    fn node(&self, id: NodeId) -> Result<&Node, FileError> {
        self.nodes.get(&id).ok_or(Eio)
    }
    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, FileError> {
        self.nodes.get_mut(&id).ok_or(Eio)
    }
    /// A node that is about to change.
    fn changing_node(&mut self, id: NodeId) -> Result<&mut Node, FileError> {
        self.changes = self.changes.wrapping_add(1);
        let node = self.node_mut(id)?;
        node.version = node.version.wrapping_add(1);
        Ok(node)
    }
    fn directory(&self, id: NodeId) -> Result<&Directory, FileError> {
        if let Content::Directory(d) = &self.node(id)?.content { Ok(d) } else { Err(Enotdir) }
    }
    /// A directory that is about to change.
    fn changing(&mut self, id: NodeId) -> Result<&mut Directory, FileError> {
        if let Content::Directory(d) = &mut self.changing_node(id)?.content { Ok(d) } else { Err(Enotdir) }
    }

    /// What a node is.
    ///
    /// # Errors
    /// EIO if there is none.
    pub fn stat(&self, id: NodeId) -> Result<Stat, FileError> {
        let n = self.node(id)?;
        let (kind, size) = match &n.content {
            Content::Directory(_) => (S_IFDIR, 4096),
            Content::File(file) => (S_IFREG, file.size),
            Content::Link(to) => (S_IFLNK, to.len() as u64),
        };
        Ok(Stat { mode: kind | n.attributes.mode, size, version: n.version, attributes: n.attributes })
    }
    /// Sets what a node says about itself.
    ///
    /// # Errors
    /// EIO if there is none.
    pub fn set_attributes(&mut self, id: NodeId, attributes: Attributes) -> Result<(), FileError> {
        let n = self.changing_node(id)?;
        n.attributes = Attributes { mode: attributes.mode & 0o7777, ..attributes };
        Ok(())
    }
    /// The node of a name in a directory; `.` and `..` among them.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR.
    pub fn find(&self, dir: NodeId, name: &str) -> Result<NodeId, FileError> {
        let d = self.directory(dir)?;
        match name {
            "." => Ok(dir),
            ".." => Ok(self.node(dir)?.parent),
            _ => d.cookies.get(name).and_then(|c| d.entries.get(c)).map(|e| e.1).ok_or(Enoent),
        }
    }
    /// The first entry of a directory behind a place in it: its own place, its name and node.
    ///
    /// # Errors
    /// ENOTDIR.
    pub fn entry_after(&self, dir: NodeId, place: u64) -> Result<Option<(u64, &str, NodeId)>, FileError> {
        use core::ops::Bound::{Excluded, Unbounded};
        let next = self.directory(dir)?.entries.range((Excluded(place), Unbounded)).next();
        Ok(next.map(|(place, (name, id))| (*place, &name[..], *id)))
    }

    /// Can so much more be had?
    fn take_room(&mut self, bytes: u64) -> Result<(), FileError> {
        let used = self.used.checked_add(bytes).filter(|used| *used <= self.limit).ok_or(Enospc)?;
        self.used = used;
        Ok(())
    }
    fn add(&mut self, dir: NodeId, name: &str, content: Content, attributes: Attributes) -> Result<NodeId, FileError> {
        check_name(name)?;
        if self.directory(dir)?.cookies.contains_key(name) {
            return Err(Eexist);
        }
        if !self.node(dir)?.linked {
            return Err(Enoent);
        }
        let bytes = if let Content::Link(to) = &content { to.len() as u64 } else { 0 };
        self.take_room(NODE + bytes)?;
        let attributes = Attributes { mode: attributes.mode & 0o7777, ..attributes };
        let id = self.insert(dir, content, attributes);
        self.link(dir, name, id)?;
        Ok(id)
    }
    fn link(&mut self, dir: NodeId, name: &str, id: NodeId) -> Result<(), FileError> {
        let d = self.changing(dir)?;
        d.next += 1;
        d.cookies.insert(name.into(), d.next);
        let place = d.next;
        d.entries.insert(place, (name.into(), id));
        let n = self.node_mut(id)?;
        (n.parent, n.place, n.linked) = (dir, place, true);
        Ok(())
    }
    /// A new file.
    ///
    /// # Errors
    /// EEXIST, ENOTDIR, ENOSPC, and EINVAL or ENAMETOOLONG for its name.
    pub fn create(&mut self, dir: NodeId, name: &str, attributes: Attributes) -> Result<NodeId, FileError> {
        self.add(dir, name, Content::File(File::default()), attributes)
    }
    /// A new directory.
    ///
    /// # Errors
    /// Those of [`Tree::create`].
    pub fn make_directory(&mut self, dir: NodeId, name: &str, attributes: Attributes) -> Result<NodeId, FileError> {
        self.add(dir, name, Content::Directory(Directory::default()), attributes)
    }
    /// A new symbolic link.
    ///
    /// # Errors
    /// Those of [`Tree::create`].
    pub fn make_link(&mut self, dir: NodeId, name: &str, to: &str, gid: u32) -> Result<NodeId, FileError> {
        self.add(dir, name, Content::Link(to.into()), Attributes { mode: 0o777, gid, ..Attributes::default() })
    }
    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// EINVAL if it is none.
    pub fn target(&self, id: NodeId) -> Result<&str, FileError> {
        if let Content::Link(to) = &self.node(id)?.content { Ok(to) } else { Err(Einval) }
    }
    /// Removes a name. What it names goes with it, unless somebody holds it.
    ///
    /// # Errors
    /// ENOENT, ENOTEMPTY; EISDIR or ENOTDIR if it is not of the kind that was meant.
    pub fn remove(&mut self, dir: NodeId, name: &str, directory: bool) -> Result<(), FileError> {
        check_name(name)?;
        let id = self.find(dir, name)?;
        match (&self.node(id)?.content, directory) {
            (Content::Directory(d), true) if !d.entries.is_empty() => return Err(Enotempty),
            (Content::Directory(_), false) => return Err(Eisdir),
            (Content::File(_) | Content::Link(_), true) => return Err(Enotdir),
            _ => {}
        }
        self.unlink(dir, name)?;
        self.node_mut(id)?.linked = false;
        self.drop_if_unused(id);
        Ok(())
    }
    fn unlink(&mut self, dir: NodeId, name: &str) -> Result<(), FileError> {
        let d = self.changing(dir)?;
        let cookie = d.cookies.remove(name).ok_or(Enoent)?;
        d.entries.remove(&cookie);
        Ok(())
    }
    fn drop_if_unused(&mut self, id: NodeId) {
        let Some(n) = self.nodes.get(&id).filter(|n| !n.linked && n.held == 0) else { return };
        let bytes = match &n.content {
            Content::Directory(_) => 0,
            Content::File(file) => PAGE * file.pages.len() as u64,
            Content::Link(to) => to.len() as u64,
        };
        self.used = self.used.saturating_sub(NODE + bytes);
        self.nodes.remove(&id);
    }
    /// Somebody holds a node: it stays, though it may lose its name.
    ///
    /// # Errors
    /// EIO if there is none.
    pub fn hold(&mut self, id: NodeId) -> Result<(), FileError> {
        let n = self.node_mut(id)?;
        n.held = n.held.checked_add(1).ok_or(Enfile)?;
        Ok(())
    }
    /// No more.
    pub fn let_go(&mut self, id: NodeId) {
        if let Some(n) = self.nodes.get_mut(&id) {
            n.held = n.held.saturating_sub(1);
            self.drop_if_unused(id);
        }
    }
    /// Gives what is at a name another one. What had that name before goes.
    ///
    /// # Errors
    /// ENOENT; EINVAL if a directory would come to lie in itself, or a thousand others; those of [`Tree::remove`] for what is replaced.
    pub fn rename(&mut self, from: (NodeId, &str), to: (NodeId, &str)) -> Result<(), FileError> {
        check_name(from.1)?;
        check_name(to.1)?;
        let id = self.find(from.0, from.1)?;
        let directory = matches!(self.node(id)?.content, Content::Directory(_));
        if !self.node(to.0)?.linked {
            return Err(Enoent);
        }
        // The way up from where it is to lie.
        let (mut above, mut depth) = (to.0, 0);
        while directory && above != ROOT {
            if above == id || depth == DEPTH_MAX {
                return Err(Einval);
            }
            (above, depth) = (self.node(above)?.parent, depth + 1);
        }
        match self.find(to.0, to.1) {
            Ok(same) if same == id => return Ok(()),
            Ok(_) => self.remove(to.0, to.1, directory)?,
            Err(Enoent) => {}
            Err(e) => return Err(e),
        }
        self.unlink(from.0, from.1)?;
        self.link(to.0, to.1, id)
    }
    /// The name and the directory of a node; none for the root, or for what has lost its name.
    pub fn name_of(&self, id: NodeId) -> Option<(NodeId, &str)> {
        let n = self.nodes.get(&id).filter(|n| n.linked && id != ROOT)?;
        let d = self.directory(n.parent).ok()?;
        d.entries.get(&n.place).map(|e| (n.parent, &e.0[..]))
    }

    fn file(&self, id: NodeId) -> Result<&File, FileError> {
        match &self.node(id)?.content {
            Content::File(file) => Ok(file),
            Content::Directory(_) => Err(Eisdir),
            Content::Link(_) => Err(Einval),
        }
    }
    /// A file that is about to change, whose content is checked to be one.
    fn changing_file(&mut self, id: NodeId) -> Result<&mut File, FileError> {
        self.file(id)?;
        if let Content::File(file) = &mut self.changing_node(id)?.content { Ok(file) } else { Err(Eio) }
    }
    /// Bytes of a file from a place on, as many as there are up to `n`.
    ///
    /// # Errors
    /// EISDIR, EINVAL if it is no file.
    pub fn read(&self, id: NodeId, at: u64, n: usize) -> Result<Vec<u8>, FileError> {
        let file = self.file(id)?;
        let end = at.saturating_add(n as u64).min(file.size);
        let mut bytes = vec![0; end.saturating_sub(at) as usize];
        if at < end {
            for (&page, from) in file.pages.range(at / PAGE..=(end - 1) / PAGE) {
                let (begin, last) = (at.max(page * PAGE), end.min((page + 1) * PAGE));
                let part = &from[(begin - page * PAGE) as usize..(last - page * PAGE) as usize];
                bytes[(begin - at) as usize..(last - at) as usize].copy_from_slice(part);
            }
        }
        Ok(bytes)
    }
    /// Writes bytes of a file, which becomes longer if it has to.
    ///
    /// # Errors
    /// Those of [`Tree::read`], EFBIG, ENOSPC.
    pub fn write(&mut self, id: NodeId, at: u64, from: &[u8]) -> Result<(), FileError> {
        let file = self.file(id)?;
        let end = at.checked_add(from.len() as u64).filter(|end| *end <= SIZE_MAX).ok_or(Efbig)?;
        if from.is_empty() {
            return Ok(());
        }
        let pages = at / PAGE..=(end - 1) / PAGE;
        let new = pages.end() - pages.start() + 1 - file.pages.range(pages.clone()).count() as u64;
        self.take_room(new * PAGE)?;
        let file = self.changing_file(id)?;
        file.size = file.size.max(end);
        for page in pages {
            let to = file.pages.entry(page).or_insert_with(|| vec![0; PAGE as usize]);
            let (begin, last) = (at.max(page * PAGE), end.min((page + 1) * PAGE));
            let part = &from[(begin - at) as usize..(last - at) as usize];
            to[(begin - page * PAGE) as usize..(last - page * PAGE) as usize].copy_from_slice(part);
        }
        Ok(())
    }
    /// Makes a file so long.
    ///
    /// # Errors
    /// Those of [`Tree::read`], EFBIG.
    pub fn resize(&mut self, id: NodeId, size: u64) -> Result<(), FileError> {
        if size > SIZE_MAX {
            return Err(Efbig);
        }
        let file = self.changing_file(id)?;
        file.size = size;
        let gone = file.pages.split_off(&size.div_ceil(PAGE)).len() as u64;
        // What is behind the end of the last page comes back as zeros.
        if let Some(last) = file.pages.get_mut(&(size / PAGE)) {
            last[(size % PAGE) as usize..].fill(0);
        }
        self.used = self.used.saturating_sub(gone * PAGE);
        Ok(())
    }
}

/// Can that be a name in a directory?
///
/// # Errors
/// EINVAL, ENAMETOOLONG.
pub fn check_name(name: &str) -> Result<(), FileError> {
    match name {
        "" | "." | ".." => Err(Einval),
        _ if name.contains(['/', '\0']) => Err(Einval),
        _ if name.len() > NAME_MAX => Err(Enametoolong),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tree: &mut Tree, name: &str) -> NodeId {
        tree.create(ROOT, name, Attributes { mode: 0o100_644, ..Attributes::default() }).unwrap()
    }
    fn names(tree: &Tree, dir: NodeId) -> Vec<String> {
        let (mut all, mut place) = (Vec::new(), 0);
        while let Some((next, name, _)) = tree.entry_after(dir, place).unwrap() {
            all.push(name.to_string());
            place = next;
        }
        all
    }

    #[test]
    fn files_hold_what_is_written_and_take_room() {
        let mut t = Tree::new(NODE + 2 * PAGE);
        let f = file(&mut t, "f");
        t.write(f, 4, b"abc").unwrap();
        assert_eq!(t.read(f, 0, 100).unwrap(), b"\0\0\0\0abc");
        assert_eq!((t.read(f, 5, 1).unwrap(), t.read(f, u64::MAX, 5).unwrap()), (b"b".to_vec(), vec![]));
        assert_eq!((t.stat(f).unwrap().size, t.stat(f).unwrap().mode), (7, 0o100_644));
        assert_eq!((t.write(f, 4090, &[1; 9000]), t.read(f, 0, 9)), (Err(Enospc), Ok(b"\0\0\0\0abc".to_vec())));
        assert_eq!(
            (t.write(f, u64::MAX, b"x"), t.write(f, SIZE_MAX, b"x"), t.resize(f, 1 << 63)),
            (Err(Efbig), Err(Efbig), Err(Efbig))
        );
        // A hole costs nothing, and what was cut off is one.
        t.write(f, 1 << 60, b"far away").unwrap();
        assert_eq!((t.read(f, (1 << 60) - 2, 5).unwrap(), t.usage().0), (b"\0\0far".to_vec(), NODE + 2 * PAGE));
        t.resize(f, 5).unwrap();
        t.resize(f, 4098).unwrap();
        assert_eq!((t.read(f, 0, 7).unwrap(), t.read(f, 4000, 999).unwrap()), (b"\0\0\0\0a\0\0".to_vec(), vec![0; 98]));
        t.write(f, 4094, b"across").unwrap();
        assert_eq!((t.read(f, 4093, 99).unwrap(), t.usage().0), (b"\0across".to_vec(), NODE + 2 * PAGE));
        t.remove(ROOT, "f", false).unwrap();
        assert_eq!((t.usage().0, t.stat(f)), (0, Err(Eio)));
    }

    #[test]
    fn names_lead_to_nodes_and_errors_say_why_they_do_not() {
        let mut t = Tree::new(1 << 20);
        let d = t.make_directory(ROOT, "d", Attributes::default()).unwrap();
        let f = t.create(d, "f", Attributes::default()).unwrap();
        assert_eq!(
            (t.find(ROOT, "d"), t.find(d, "f"), t.find(d, ".."), t.find(d, ".")),
            (Ok(d), Ok(f), Ok(ROOT), Ok(d))
        );
        assert_eq!((t.find(ROOT, ".."), t.find(ROOT, "x"), t.find(f, "x")), (Ok(ROOT), Err(Enoent), Err(Enotdir)));
        assert_eq!(t.create(d, "f", Attributes::default()), Err(Eexist));
        for (name, e) in [("", Einval), ("..", Einval), ("a/b", Einval), (&"n".repeat(256)[..], Enametoolong)] {
            assert_eq!(t.create(d, name, Attributes::default()), Err(e), "{name}");
        }
        assert_eq!((t.remove(ROOT, "d", true), t.remove(ROOT, "d", false)), (Err(Enotempty), Err(Eisdir)));
        assert_eq!((t.remove(d, "f", true), t.read(d, 0, 1)), (Err(Enotdir), Err(Eisdir)));
        let l = t.make_link(ROOT, "l", "d/f", 0).unwrap();
        assert_eq!((t.target(l), t.target(f), t.read(l, 0, 1)), (Ok("d/f"), Err(Einval), Err(Einval)));
        assert_eq!(t.name_of(f), Some((d, "f")));
    }

    #[test]
    fn what_is_held_outlives_its_name() {
        let mut t = Tree::new(1 << 20);
        let f = file(&mut t, "f");
        t.write(f, 0, b"abc").unwrap();
        t.hold(f).unwrap();
        t.remove(ROOT, "f", false).unwrap();
        assert_eq!((t.read(f, 0, 9), t.name_of(f)), (Ok(b"abc".to_vec()), None));
        t.let_go(f);
        assert_eq!((t.stat(f), t.usage().0), (Err(Eio), 0));
    }

    #[test]
    fn renaming_replaces_and_never_makes_a_circle() {
        let mut t = Tree::new(1 << 20);
        let a = t.make_directory(ROOT, "a", Attributes::default()).unwrap();
        let b = t.make_directory(a, "b", Attributes::default()).unwrap();
        assert_eq!(t.rename((ROOT, "a"), (b, "c")), Err(Einval));
        assert_eq!(t.rename((ROOT, "a"), (a, "c")), Err(Einval));
        let f = file(&mut t, "f");
        file(&mut t, "g");
        t.rename((ROOT, "f"), (ROOT, "g")).unwrap();
        assert_eq!((t.find(ROOT, "g"), names(&t, ROOT)), (Ok(f), vec!["a".to_string(), "g".into()]));
        assert_eq!(t.rename((ROOT, "g"), (ROOT, "a")), Err(Eisdir));
        t.rename((a, "b"), (ROOT, "b")).unwrap();
        assert_eq!((t.find(b, ".."), names(&t, a)), (Ok(ROOT), vec![]));
        t.rename((ROOT, "g"), (b, "h")).unwrap();
        assert_eq!(t.find(b, "h"), Ok(f));
    }

    #[test]
    fn reading_a_directory_in_parts_misses_none_that_stays() {
        let mut t = Tree::new(1 << 20);
        for n in 0..20 {
            file(&mut t, &format!("f{n}"));
        }
        let (mut seen, mut place) = (Vec::new(), 0);
        while let Some((next, name, _)) = t.entry_after(ROOT, place).unwrap() {
            seen.push(name.to_string());
            place = next;
            let name = seen.last().unwrap().clone();
            t.remove(ROOT, &name, false).unwrap();
        }
        assert_eq!(seen.len(), 20);
    }
}
