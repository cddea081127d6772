//! A folder that a domain may mount, and what whoever runs it puts in and takes out: files in memory behind its 9P device.
//! What is put in is the guest's as well; what the guest has changed since is told apart.

use crate::error::VmError;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tabvisor_devices::backend::files::{Attributes, FileError, NodeId, ROOT, Share, Stat, Tree, check_name};

/// Bytes of a path, as Linux has it.
const PATH_MAX: usize = 4096;
/// Bytes of a list: a guest can make more files, with longer names, than can be told.
const LIST_MAX: usize = 16 << 20;
/// Bytes that are read at a time.
const READ_MAX: u32 = 16 << 20;
/// Permissions. What comes from outside may be a program, and has nothing that says so.
const MODE: u32 = 0o755;

/// The folder.
#[derive(Clone, Debug)]
pub struct Shared {
    tree: Share,
    /// Versions of the files that were put in, as they were then.
    given: BTreeMap<NodeId, u32>,
}

/// There is no such folder.
pub fn none() -> VmError {
    let why = "Such a folder is there from the boot on, or not at all";
    VmError::from_line("This machine shares no files.", &format!("{why}; share a folder, then boot again"))
}

impl Shared {
    /// An empty folder, which may come to hold so many bytes.
    pub fn new(limit: u64) -> Self {
        Self { tree: Rc::new(RefCell::new(Tree::new(limit))), given: BTreeMap::new() }
    }

    /// What the guest gets.
    pub fn tree(&self) -> &Share {
        &self.tree
    }

    /// Bytes in use, how many there may be, and a count of changes.
    pub fn usage(&self) -> Vec<f64> {
        let tree = self.tree.borrow();
        let (used, limit) = tree.usage();
        [used, limit, tree.changes()].map(|n| n as f64).to_vec()
    }

    /// Puts bytes of a file, from a place in it on; at its beginning they replace what it was. No bytes: it is a folder.
    /// `modified`: milliseconds since 1970. A file that finds no room goes.
    ///
    /// # Errors
    /// The path is none, something else is there, or there is no room.
    pub fn put(&mut self, path: &str, at: u64, bytes: Option<&[u8]>, modified: f64) -> Result<(), VmError> {
        let mut tree = self.tree.borrow_mut();
        let limit = tree.usage().1;
        let refused = |error: FileError| refusal(path, error, limit);
        if path.len() > PATH_MAX {
            return Err(refused(FileError::Enametoolong));
        }
        path.split('/').try_for_each(check_name).map_err(refused)?;
        // `as` saturates, and makes 0 of what is no number.
        let ms = modified as u64;
        let time = (ms / 1000, ms % 1000 * 1_000_000);
        let attributes = Attributes { mode: MODE, uid: 0, gid: 0, atime: time, mtime: time };
        let (above, name) = match (path.rsplit_once('/'), bytes) {
            (_, None) => (path, None),
            (Some((above, name)), Some(bytes)) => (above, Some((name, bytes))),
            (None, Some(bytes)) => ("", Some((path, bytes))),
        };
        let mut dir = ROOT;
        for part in above.split('/').filter(|_| !above.is_empty()) {
            dir = match tree.find(dir, part) {
                Err(FileError::Enoent) => tree.make_directory(dir, part, attributes),
                found => found,
            }
            .map_err(refused)?;
        }
        let Some((name, bytes)) = name else {
            // It may be something else than a folder.
            return tree.entry_after(dir, 0).map(drop).map_err(refused);
        };
        let file = match tree.find(dir, name) {
            Err(FileError::Enoent) => tree.create(dir, name, attributes),
            found => found,
        };
        let file = file.map_err(refused)?;
        let written = if at == 0 { tree.resize(file, 0) } else { Ok(()) }
            .and_then(|()| tree.write(file, at, bytes))
            .and_then(|()| tree.set_attributes(file, attributes));
        if let Err(error) = written {
            if error == FileError::Enospc {
                tree.remove(dir, name, false).map_err(refused)?;
            }
            return Err(refused(error));
        }
        self.given.insert(file, tree.stat(file).map_err(refused)?.version);
        Ok(())
    }

    /// Everything in it, folders before what is in them. A line for each: its kind (f: file, d: folder, l: symbolic link, x: a
    /// folder so deep that what is in it is not listed), 1 if the guest has made or changed it, permissions in octal, bytes,
    /// seconds since 1970 of its last change, a number to read it by, and its path, which may be of any characters.
    ///
    /// # Errors
    /// There are too many.
    pub fn list(&self) -> Result<Vec<String>, VmError> {
        let tree = self.tree.borrow();
        let (mut lines, mut path, mut bytes) = (Vec::new(), String::new(), 0);
        // Folders that are being listed: the place in each, and how long its path is.
        let mut open = vec![(ROOT, 0, 0)];
        while let Some((dir, place, length)) = open.last_mut() {
            path.truncate(*length);
            let Ok(Some((next, name, id))) = tree.entry_after(*dir, *place) else {
                open.pop();
                continue;
            };
            *place = next;
            let Ok(stat) = tree.stat(id) else { continue };
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(name);
            let kind = match stat {
                s if s.is_link() => 'l',
                s if !s.is_directory() => 'f',
                _ if path.len() < PATH_MAX => 'd',
                _ => 'x',
            };
            let line = self.line(kind, id, &stat, &path);
            bytes += line.len();
            if bytes > LIST_MAX {
                let why = "The guest has made more files in it than can be listed";
                let next = "remove some of them, in the guest";
                return Err(VmError::from_line("The shared folder cannot be shown.", &format!("{why}; {next}")));
            }
            lines.push(line);
            if kind == 'd' {
                open.push((id, 0, path.len()));
            }
        }
        Ok(lines)
    }

    fn line(&self, kind: char, id: NodeId, stat: &Stat, path: &str) -> String {
        let changed = u8::from(self.given.get(&id) != Some(&stat.version));
        let (mode, size, (seconds, _)) = (stat.mode & 0o7777, stat.size, stat.attributes.mtime);
        format!("{kind} {changed} {mode:o} {size} {seconds} {id} {path}")
    }

    /// Bytes of a file by its number, as many as there are up to `length`; of a link, what it leads to.
    ///
    /// # Errors
    /// It is gone, or a folder.
    pub fn read(&self, file: NodeId, at: u64, length: u32) -> Result<Vec<u8>, VmError> {
        let tree = self.tree.borrow();
        if let Ok(target) = tree.target(file) {
            return Ok(target.as_bytes().iter().skip(at as usize).take(length as usize).copied().collect());
        }
        tree.read(file, at, length.min(READ_MAX) as usize).map_err(|error| {
            let why = format!("the guest has removed it, or replaced it ({error:?})");
            VmError::from_line("The file cannot be read.", &format!("{why}; look at the list again"))
        })
    }
}

/// Why something was not put.
fn refusal(path: &str, error: FileError, limit: u64) -> VmError {
    // A name that is too long is no better in full.
    let short: String = path.chars().take(100).collect();
    let line = match error {
        FileError::Einval => {
            "its path is not names with one slash between them; choose a file with another name".into()
        }
        FileError::Enametoolong => {
            format!("a name has at most 255 bytes, a path {PATH_MAX}; choose a file with a shorter name")
        }
        FileError::Enotdir | FileError::Eisdir => {
            "a file and a folder cannot have the same name; rename one of them".into()
        }
        FileError::Enospc => {
            format!("the files of a shared folder can have {} MiB in all; leave some away", limit >> 20)
        }
        error => format!("the folder refuses it ({error:?})"),
    };
    VmError::from_line(&format!("{short:?} cannot be shared."), &line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(shared: &mut Shared, path: &str, text: &str) -> Result<(), VmError> {
        shared.put(path, 0, Some(text.as_bytes()), 5_025.0)
    }

    #[test]
    fn what_is_put_in_is_listed_and_read() {
        let mut shared = Shared::new(1 << 20);
        put(&mut shared, "a/b c", "text").unwrap();
        put(&mut shared, "e", "").unwrap();
        shared.put("a/d", 0, None, f64::NAN).unwrap();
        shared.put("a/b c", 4, Some(b" more"), 5_025.0).unwrap();
        let lines = shared.list().unwrap();
        assert_eq!(lines, ["d 1 755 4096 5 1 a", "f 0 755 9 5 2 a/b c", "d 1 755 4096 0 4 a/d", "f 0 755 0 5 3 e"]);
        assert_eq!(shared.read(2, 3, 4).unwrap(), b"t mo");
        assert_eq!(shared.read(1, 0, 9).unwrap_err().what, "The file cannot be read.");
        put(&mut shared, "a/b c", "new").unwrap();
        assert_eq!(shared.read(2, 0, 99).unwrap(), b"new");
    }

    #[test]
    fn what_the_guest_changes_is_told_apart() {
        let mut shared = Shared::new(1 << 20);
        put(&mut shared, "kept", "x").unwrap();
        put(&mut shared, "changed", "x").unwrap();
        let before = shared.usage()[2];
        {
            let mut tree = shared.tree().borrow_mut();
            let id = tree.find(ROOT, "changed").unwrap();
            tree.write(id, 0, b"y").unwrap();
            tree.create(ROOT, "made", Attributes::default()).unwrap();
            tree.make_link(ROOT, "link", "kept", 0).unwrap();
        }
        assert!(shared.usage()[2] > before);
        let changed: Vec<_> = shared.list().unwrap().iter().map(|line| line[..3].to_owned()).collect();
        assert_eq!(changed, ["f 0", "f 1", "f 1", "l 1"]);
        assert_eq!(shared.read(4, 1, 2).unwrap(), b"ep");
    }

    #[test]
    fn hostile_paths_and_too_much_are_refused() {
        let mut shared = Shared::new(100_000);
        put(&mut shared, "file", "x").unwrap();
        put(&mut shared, "a/x", "x").unwrap();
        for path in ["", "/", "/etc", "a/", "a//b", "..", "../x", "a/../../x", "./x", "a/.", "nul\0"] {
            assert!(put(&mut shared, path, "x").unwrap_err().why.starts_with("Its path"), "{path:?}");
        }
        for path in ["n".repeat(256), "d/".repeat(2100) + "x"] {
            assert!(put(&mut shared, &path, "x").unwrap_err().why.starts_with("A name has"), "{path:?}");
        }
        for (path, bytes) in [("file/x", Some(&b"x"[..])), ("file", None), ("a", Some(b"x"))] {
            assert!(shared.put(path, 0, bytes, 0.0).unwrap_err().why.starts_with("A file and a folder"), "{path}");
        }
        assert_eq!(shared.list().unwrap().len(), 3);
        let used = shared.usage()[0];
        let error = shared.put("big", 0, Some(&[1; 200_000]), 0.0).unwrap_err();
        assert_eq!(error.why, "The files of a shared folder can have 0 MiB in all.");
        assert_eq!(shared.usage()[0], used);
        assert_eq!(shared.put("far", u64::MAX, Some(b"x"), 0.0).unwrap_err().what, "\"far\" cannot be shared.");
    }

    #[test]
    fn a_list_ends_however_deep_a_guest_digs() {
        let shared = Shared::new(64 << 20);
        let mut dir = ROOT;
        for _ in 0..10_000 {
            dir = shared.tree().borrow_mut().make_directory(dir, "deep", Attributes::default()).unwrap();
        }
        let lines = shared.list().unwrap();
        assert!(lines.len() < 1000 && lines.last().unwrap().starts_with('x'), "{}", lines.len());
        let name = "n".repeat(255);
        dir = ROOT;
        for _ in 0..10 {
            dir = shared.tree().borrow_mut().make_directory(dir, &name, Attributes::default()).unwrap();
        }
        for n in 0..10_000 {
            shared.tree().borrow_mut().create(dir, &n.to_string(), Attributes::default()).unwrap();
        }
        assert!(shared.list().unwrap_err().why.contains("more files"));
    }
}
