//! A server of 9P2000.L over a tree in memory (Linux: Documentation/filesystems/9p.rst, include/net/9p/9p.h;
//! the protocol.md of diod).
//!
//! Everybody may do everything, as only one guest is there, whose kernel looks at permissions itself. Times are those that the
//! guest sets, for nobody here has a clock. Left out: authentication, extended attributes, hard links, device nodes; locks
//! are granted, as nobody else could hold them.

use crate::backend::files::{Attributes, FileError, NodeId, ROOT, Stat, Tree};
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The longest message, unless the client wants shorter ones.
pub const MSIZE: u32 = 64 << 10;
/// The shortest that is of use.
const MSIZE_MIN: u32 = 4096;
/// Size, type and tag.
pub const HEAD: usize = 7;
/// Handles that a client may have.
const FIDS: usize = 4096;
/// Names in a walk.
const WALK_MAX: u16 = 16;

/// Types of requests; an answer's is one more.
mod t {
    pub const LERROR: u8 = 6;
    pub const STATFS: u8 = 8;
    pub const LOPEN: u8 = 12;
    pub const LCREATE: u8 = 14;
    pub const SYMLINK: u8 = 16;
    pub const RENAME: u8 = 20;
    pub const READLINK: u8 = 22;
    pub const GETATTR: u8 = 24;
    pub const SETATTR: u8 = 26;
    pub const READDIR: u8 = 40;
    pub const FSYNC: u8 = 50;
    pub const LOCK: u8 = 52;
    pub const GETLOCK: u8 = 54;
    pub const MKDIR: u8 = 72;
    pub const RENAMEAT: u8 = 74;
    pub const UNLINKAT: u8 = 76;
    pub const VERSION: u8 = 100;
    pub const ATTACH: u8 = 104;
    pub const FLUSH: u8 = 108;
    pub const WALK: u8 = 110;
    pub const READ: u8 = 116;
    pub const WRITE: u8 = 118;
    pub const CLUNK: u8 = 120;
    pub const REMOVE: u8 = 122;
}
/// What Tsetattr is to set.
mod set {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME_SET: u32 = 1 << 7;
    pub const MTIME_SET: u32 = 1 << 8;
}
const O_TRUNC: u32 = 0o1000;
const AT_REMOVEDIR: u32 = 0x200;
/// `V9FS_MAGIC`.
const MAGIC: u32 = 0x0102_1997;

/// A message's fields, one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, n: usize) -> Result<&'a [u8], FileError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(FileError::Einval)?;
        self.0 = tail;
        Ok(head)
    }
    fn u16(&mut self) -> Result<u16, FileError> {
        Ok(self.bytes(2)?.iter().rev().fold(0, |v, b| v << 8 | u16::from(*b)))
    }
    fn u32(&mut self) -> Result<u32, FileError> {
        Ok(self.bytes(4)?.iter().rev().fold(0, |v, b| v << 8 | u32::from(*b)))
    }
    fn u64(&mut self) -> Result<u64, FileError> {
        Ok(self.bytes(8)?.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
    }
    fn text(&mut self) -> Result<&'a str, FileError> {
        let n = self.u16()?;
        core::str::from_utf8(self.bytes(n.into())?).map_err(|_| FileError::Einval)
    }
}

/// An answer in the making.
#[derive(Default)]
struct Answer(Vec<u8>);

impl Answer {
    fn u8(mut self, v: u8) -> Self {
        self.0.push(v);
        self
    }
    fn u16(mut self, v: u16) -> Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn u32(mut self, v: u32) -> Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn u64(mut self, v: u64) -> Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    fn text(mut self, text: &str) -> Self {
        self = self.u16(text.len() as u16);
        self.0.extend(text.as_bytes());
        self
    }
    fn data(mut self, bytes: &[u8]) -> Self {
        self = self.u32(bytes.len() as u32);
        self.0.extend(bytes);
        self
    }
    fn qid(self, id: NodeId, stat: &Stat) -> Self {
        let kind = if stat.is_directory() { 0x80 } else { u8::from(stat.is_link()) << 1 };
        self.u8(kind).u32(stat.version).u64(id)
    }
}

/// A client's handle.
#[derive(Clone, Copy, Debug, Serialize)]
struct Fid {
    node: NodeId,
    open: bool,
}

/// What is known of a client.
#[derive(Clone, Debug, Serialize)]
pub struct Session {
    fids: BTreeMap<u32, Fid>,
    /// The longest message.
    msize: u32,
}

impl Default for Session {
    fn default() -> Self {
        Self { fids: BTreeMap::new(), msize: MSIZE }
    }
}

impl Session {
    /// The longest message that may come.
    pub fn msize(&self) -> u32 {
        self.msize
    }
    /// The client has gone: its handles are given up.
    pub fn end(&mut self, tree: &mut Tree) {
        for fid in core::mem::take(&mut self.fids).into_values() {
            tree.let_go(fid.node);
        }
    }

    /// The answer to a whole message; to one of which not even the tag can be read there is none.
    pub fn answer(&mut self, tree: &mut Tree, message: &[u8]) -> Option<Vec<u8>> {
        let (kind, tag) = (*message.get(4)?, message.get(5..HEAD)?);
        let (kind, body) = match self.dispatch(tree, kind, &mut Fields(&message[HEAD..])) {
            Ok(answer) => (kind + 1, answer.0),
            Err(e) => (t::LERROR + 1, Answer::default().u32(e as u32).0),
        };
        let size = (HEAD + body.len()) as u32;
        Some([&size.to_le_bytes()[..], &[kind], tag, &body].concat())
    }

    fn fid(&self, f: &mut Fields<'_>) -> Result<Fid, FileError> {
        self.fids.get(&f.u32()?).copied().ok_or(FileError::Ebadf)
    }
    fn node(&self, f: &mut Fields<'_>) -> Result<NodeId, FileError> {
        Ok(self.fid(f)?.node)
    }
    fn open(&self, f: &mut Fields<'_>) -> Result<NodeId, FileError> {
        let fid = self.fid(f)?;
        if fid.open { Ok(fid.node) } else { Err(FileError::Ebadf) }
    }
    /// A new handle.
    fn add_fid(&mut self, tree: &mut Tree, number: u32, node: NodeId) -> Result<(), FileError> {
        let full = self.fids.len() >= FIDS;
        match self.fids.entry(number) {
            Entry::Occupied(_) => Err(FileError::Ebadf),
            Entry::Vacant(_) if full => Err(FileError::Enfile),
            Entry::Vacant(entry) => {
                tree.hold(node)?;
                entry.insert(Fid { node, open: false });
                Ok(())
            }
        }
    }
    /// A handle comes to be another node's.
    fn move_fid(&mut self, tree: &mut Tree, number: u32, node: NodeId, open: bool) -> Result<(), FileError> {
        tree.hold(node)?;
        let old = self.fids.insert(number, Fid { node, open });
        if let Some(old) = old {
            tree.let_go(old.node);
        }
        Ok(())
    }
    /// Bytes of data in an answer whose head has `head` bytes.
    fn room(&self, wanted: u32, head: usize) -> usize {
        (wanted as usize).min(self.msize as usize - HEAD - head)
    }

    fn dispatch(&mut self, tree: &mut Tree, kind: u8, f: &mut Fields<'_>) -> Result<Answer, FileError> {
        let a = Answer::default();
        Ok(match kind {
            t::VERSION => {
                let (msize, version) = (f.u32()?, f.text()?);
                self.end(tree);
                if msize < MSIZE_MIN {
                    return Err(FileError::Einval);
                }
                self.msize = msize.min(MSIZE);
                a.u32(self.msize).text(if version == "9P2000.L" { version } else { "unknown" })
            }
            t::ATTACH => {
                self.add_fid(tree, f.u32()?, ROOT)?;
                a.qid(ROOT, &tree.stat(ROOT)?)
            }
            t::FLUSH | t::FSYNC => a,
            t::WALK => self.walk(tree, f)?,
            t::CLUNK => {
                let fid = self.fids.remove(&f.u32()?).ok_or(FileError::Ebadf)?;
                tree.let_go(fid.node);
                a
            }
            t::LOPEN => {
                let (number, flags) = (f.u32()?, f.u32()?);
                let fid = self.fids.get_mut(&number).ok_or(FileError::Ebadf)?;
                let stat = tree.stat(fid.node)?;
                if flags & O_TRUNC != 0 && !stat.is_directory() {
                    tree.resize(fid.node, 0)?;
                }
                fid.open = true;
                a.qid(fid.node, &tree.stat(fid.node)?).u32(0)
            }
            t::LCREATE => {
                let number = f.u32()?;
                let dir = self.fids.get(&number).ok_or(FileError::Ebadf)?.node;
                let (name, _flags, mode, gid) = (f.text()?, f.u32()?, f.u32()?, f.u32()?);
                let node = tree.create(dir, name, Attributes { mode, gid, ..Attributes::default() })?;
                self.move_fid(tree, number, node, true)?;
                a.qid(node, &tree.stat(node)?).u32(0)
            }
            t::MKDIR => {
                let (dir, name, mode, gid) = (self.node(f)?, f.text()?, f.u32()?, f.u32()?);
                let node = tree.make_directory(dir, name, Attributes { mode, gid, ..Attributes::default() })?;
                a.qid(node, &tree.stat(node)?)
            }
            t::SYMLINK => {
                let (dir, name, to, gid) = (self.node(f)?, f.text()?, f.text()?, f.u32()?);
                let node = tree.make_link(dir, name, to, gid)?;
                a.qid(node, &tree.stat(node)?)
            }
            t::READLINK => a.text(tree.target(self.node(f)?)?),
            t::READ => {
                let (node, at, n) = (self.open(f)?, f.u64()?, f.u32()?);
                a.data(&tree.read(node, at, self.room(n, 4))?)
            }
            t::WRITE => {
                let (node, at, n) = (self.open(f)?, f.u64()?, f.u32()?);
                tree.write(node, at, f.bytes(n as usize)?)?;
                a.u32(n)
            }
            t::READDIR => self.read_directory(tree, f)?,
            t::GETATTR => attributes(self.node(f)?, tree)?,
            t::SETATTR => {
                let node = self.node(f)?;
                set_attributes(tree, node, f)?;
                a
            }
            t::STATFS => {
                self.node(f)?;
                let (used, limit) = tree.usage();
                let [blocks, free] = [limit, limit - used].map(|bytes| bytes / 4096);
                a.u32(MAGIC).u32(4096).u64(blocks).u64(free).u64(free).u64(free).u64(free).u64(0).u32(255)
            }
            t::RENAME => {
                let (node, dir, name) = (self.node(f)?, self.node(f)?, f.text()?);
                let (from, old) = tree.name_of(node).ok_or(FileError::Enoent)?;
                let old = old.to_string();
                tree.rename((from, &old), (dir, name))?;
                a
            }
            t::RENAMEAT => {
                let from = (self.node(f)?, f.text()?);
                tree.rename(from, (self.node(f)?, f.text()?))?;
                a
            }
            t::UNLINKAT => {
                let (dir, name, flags) = (self.node(f)?, f.text()?, f.u32()?);
                tree.remove(dir, name, flags & AT_REMOVEDIR != 0)?;
                a
            }
            t::REMOVE => {
                let fid = self.fids.remove(&f.u32()?).ok_or(FileError::Ebadf)?;
                let name = tree.name_of(fid.node).map(|(dir, name)| (dir, name.to_string()));
                let directory = tree.stat(fid.node)?.is_directory();
                let removed = name.ok_or(FileError::Enoent).and_then(|(dir, name)| tree.remove(dir, &name, directory));
                // The handle goes whatever comes of it.
                tree.let_go(fid.node);
                removed?;
                a
            }
            t::LOCK => {
                self.node(f)?;
                a.u8(0)
            }
            t::GETLOCK => {
                const F_UNLCK: u8 = 2;
                self.node(f)?;
                f.bytes(1)?;
                let (start, len, who, client) = (f.u64()?, f.u64()?, f.u32()?, f.text()?);
                a.u8(F_UNLCK).u64(start).u64(len).u32(who).text(client)
            }
            _ => return Err(FileError::Eopnotsupp),
        })
    }

    fn walk(&mut self, tree: &mut Tree, f: &mut Fields<'_>) -> Result<Answer, FileError> {
        let (number, new, count) = (f.u32()?, f.u32()?, f.u16()?);
        let mut node = self.fids.get(&number).ok_or(FileError::Ebadf)?.node;
        if count > WALK_MAX {
            return Err(FileError::Einval);
        }
        let mut qids = Vec::new();
        for n in 0..count {
            match tree.find(node, f.text()?) {
                Ok(next) => node = next,
                Err(e) if n == 0 => return Err(e),
                Err(_) => break,
            }
            qids.push((node, tree.stat(node)?));
        }
        // Who has come only a part of the way has no new handle.
        if qids.len() == usize::from(count) {
            if new == number { self.move_fid(tree, new, node, false)? } else { self.add_fid(tree, new, node)? }
        }
        let head = Answer::default().u16(qids.len() as u16);
        Ok(qids.iter().fold(head, |a, (id, stat)| a.qid(*id, stat)))
    }

    fn read_directory(&self, tree: &Tree, f: &mut Fields<'_>) -> Result<Answer, FileError> {
        let (dir, mut place, n) = (self.open(f)?, f.u64()?, f.u32()?);
        let room = self.room(n, 4);
        let mut entries = Answer::default();
        while let Some((next, name, id)) = tree.entry_after(dir, place)? {
            // A qid, the place, the type and the name's length.
            if entries.0.len() + 13 + 8 + 1 + 2 + name.len() > room {
                break;
            }
            let stat = tree.stat(id)?;
            entries = entries.qid(id, &stat).u64(next).u8((stat.mode >> 12) as u8).text(name);
            place = next;
        }
        Ok(Answer::default().data(&entries.0))
    }
}

fn attributes(id: NodeId, tree: &Tree) -> Result<Answer, FileError> {
    /// All but the time of birth, the generation and the data's version.
    const BASIC: u64 = 0x7ff;
    let s = tree.stat(id)?;
    let Attributes { uid, gid, atime, mtime, .. } = s.attributes;
    let links = if s.is_directory() { 2 } else { 1 };
    let a = Answer::default().u64(BASIC).qid(id, &s).u32(s.mode).u32(uid).u32(gid).u64(links).u64(0);
    let a = a.u64(s.size).u64(4096).u64(s.size.div_ceil(512));
    let times = [atime, mtime, mtime, (0, 0)];
    Ok(times.into_iter().fold(a, |a, (seconds, nanos)| a.u64(seconds).u64(nanos)).u64(0).u64(0))
}

fn set_attributes(tree: &mut Tree, node: NodeId, f: &mut Fields<'_>) -> Result<(), FileError> {
    let (what, mode, uid, gid, size) = (f.u32()?, f.u32()?, f.u32()?, f.u32()?, f.u64()?);
    let [atime, mtime] = [(f.u64()?, f.u64()?), (f.u64()?, f.u64()?)];
    if what & set::SIZE != 0 {
        tree.resize(node, size)?;
    }
    let mut new = tree.stat(node)?.attributes;
    let mut put = |bit: u32, f: &mut dyn FnMut(&mut Attributes)| {
        if what & bit != 0 {
            f(&mut new);
        }
    };
    put(set::MODE, &mut |a| a.mode = mode);
    put(set::UID, &mut |a| a.uid = uid);
    put(set::GID, &mut |a| a.gid = gid);
    put(set::ATIME_SET, &mut |a| a.atime = atime);
    put(set::MTIME_SET, &mut |a| a.mtime = mtime);
    tree.set_attributes(node, new)
}
