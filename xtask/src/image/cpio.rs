//! Writing a cpio archive in the "newc" format that Linux takes as an initrd.
//! Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
//!
//! The same files give the same bytes: no times, no owners but those that are given, inodes counted from 1.

use std::collections::BTreeMap;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

struct Entry {
    mode: u32,
    data: Vec<u8>,
    device: (u32, u32),
    owner: (u32, u32),
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link; its data is where it leads.
    Link,
    /// A character device with its major and minor number.
    Character(u32, u32),
}

/// An entry, to be read.
pub struct Item<'a> {
    /// Without a leading slash.
    pub path: &'a str,
    /// What it is.
    pub kind: Kind,
    /// Kind and permissions, as `stat` has them.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// A file's content, or where a link leads.
    pub data: &'a [u8],
}

/// An archive in the making. Paths have no leading slash; their folders come by themselves.
#[derive(Default)]
pub struct Archive {
    // Sorted, so a folder comes before what is in it.
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    fn add(&mut self, path: &str, mode: u32, data: Vec<u8>, device: (u32, u32)) {
        for (i, _) in path.match_indices('/') {
            self.folder(&path[..i], 0o755);
        }
        self.entries.insert(path.into(), Entry { mode, data, device, owner: (0, 0) });
    }

    /// A folder; one that is there already keeps its mode.
    pub fn folder(&mut self, path: &str, mode: u32) {
        if !self.entries.contains_key(path) {
            self.add(path, DIRECTORY | mode, Vec::new(), (0, 0));
        }
    }

    /// A regular file.
    pub fn file(&mut self, path: &str, mode: u32, data: Vec<u8>) {
        self.add(path, FILE | mode, data, (0, 0));
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.add(path, LINK | 0o777, to.as_bytes().to_vec(), (0, 0));
    }

    /// A character device.
    pub fn character(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.add(path, CHARACTER | mode, Vec::new(), (major, minor));
    }

    /// Gives an entry to a user and a group; without, it is root's.
    pub fn owner(&mut self, path: &str, owner: (u32, u32)) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.owner = owner;
        }
    }

    /// The content of a file.
    pub fn data(&self, path: &str) -> Option<&[u8]> {
        self.entries.get(path).map(|e| e.data.as_slice())
    }

    /// What is in it, folders first.
    pub fn entries(&self) -> impl Iterator<Item = Item<'_>> {
        self.entries.iter().map(|(path, e)| {
            let kind = match e.mode & 0o170_000 {
                DIRECTORY => Kind::Folder,
                LINK => Kind::Link,
                CHARACTER => Kind::Character(e.device.0, e.device.1),
                _ => Kind::File,
            };
            Item { path, kind, mode: e.mode, owner: e.owner, data: &e.data }
        })
    }

    /// The archive's bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        let end = Entry { mode: 0, data: Vec::new(), device: (0, 0), owner: (0, 0) };
        let last = ("TRAILER!!!".to_string(), end);
        for (i, (name, e)) in self.entries.into_iter().chain([last]).enumerate() {
            let links = if e.mode & DIRECTORY != 0 { 2 } else { 1 };
            let (major, minor) = e.device;
            // inode, mode, uid, gid, links, time, size, device of the archive, of the file, name's size, checksum
            let fields = [
                i as u32 + 1,
                e.mode,
                e.owner.0,
                e.owner.1,
                links,
                0,
                e.data.len() as u32,
                0,
                0,
                major,
                minor,
                name.len() as u32 + 1,
                0,
            ];
            out.extend(b"070701");
            for f in fields {
                out.extend(format!("{f:08x}").as_bytes());
            }
            out.extend(name.as_bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend(e.data);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_first_and_fields_are_where_linux_reads_them() {
        let mut a = Archive::default();
        a.file("etc/rc", 0o755, b"hello".to_vec());
        a.link("bin/sh", "busybox");
        a.character("dev/console", 0o600, 5, 1);
        let out = a.finish();
        let (mut at, mut names) = (0, Vec::new());
        loop {
            assert_eq!(&out[at..at + 6], b"070701");
            let f = |i: usize| {
                let s = std::str::from_utf8(&out[at + 6 + 8 * i..at + 14 + 8 * i]).unwrap();
                u32::from_str_radix(s, 16).unwrap() as usize
            };
            let name = String::from_utf8(out[at + 110..at + 109 + f(11)].to_vec()).unwrap();
            let data = (at + 110 + f(11)).next_multiple_of(4);
            match name.as_str() {
                "etc/rc" => assert_eq!((&out[data..data + f(6)], f(1)), (&b"hello"[..], 0o100_755)),
                "dev/console" => assert_eq!((f(9), f(10), f(1)), (5, 1, 0o020_600)),
                _ => {}
            }
            at = (data + f(6)).next_multiple_of(4);
            if name == "TRAILER!!!" {
                break;
            }
            names.push(name);
        }
        assert_eq!(names, ["bin", "bin/sh", "dev", "dev/console", "etc", "etc/rc"]);
        assert_eq!(at, out.len());
    }
}
