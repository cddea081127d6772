//! A folder as a tree of files that a guest may mount. It is read once; what the guest changes stays in the machine.

use anyhow::{Context, Result, anyhow};
use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;
use tabvisor_devices::backend::files::{Attributes, NodeId, ROOT, Share, Tree};

/// Bytes that it may come to hold.
const LIMIT: u64 = 256 << 20;

/// The tree of a folder.
pub fn open(folder: &Path) -> Result<Share> {
    let mut tree = Tree::new(LIMIT);
    copy(folder, &mut tree, ROOT)?;
    Ok(Rc::new(RefCell::new(tree)))
}

fn copy(from: &Path, tree: &mut Tree, to: NodeId) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("cannot read the folder {}", from.display()))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>()?;
    // The same tree whatever order the folder has.
    paths.sort();
    for path in paths {
        one(&path, tree, to).with_context(|| format!("cannot share {}", path.display()))?;
    }
    Ok(())
}

fn one(path: &Path, tree: &mut Tree, dir: NodeId) -> Result<()> {
    let about = fs::symlink_metadata(path)?;
    let name = path.file_name().and_then(|name| name.to_str()).context("its name is no text")?;
    let time = (about.mtime().try_into().unwrap_or(0), about.mtime_nsec().try_into().unwrap_or(0));
    let attributes = Attributes { mode: about.mode(), uid: 0, gid: 0, atime: time, mtime: time };
    let refused = |e| anyhow!("{e:?}");
    if about.is_dir() {
        let id = tree.make_directory(dir, name, attributes).map_err(refused)?;
        copy(path, tree, id)?;
    } else if about.is_symlink() {
        let target = fs::read_link(path)?;
        tree.make_link(dir, name, target.to_str().context("its target is no text")?, 0).map_err(refused)?;
    } else if about.is_file() {
        let id = tree.create(dir, name, attributes).map_err(refused)?;
        tree.write(id, 0, &fs::read(path)?).map_err(refused)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_becomes_a_tree() {
        let folder = std::env::temp_dir().join(format!("tabvisor-share-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/c"), "text").unwrap();
        std::os::unix::fs::symlink("a/b", folder.join("l")).unwrap();
        let share = open(&folder);
        fs::remove_dir_all(&folder).unwrap();
        let tree = share.unwrap();
        let tree = tree.borrow();
        let c = ["a", "b", "c"].iter().try_fold(ROOT, |dir, name| tree.find(dir, name)).unwrap();
        assert_eq!(tree.read(c, 0, 9), Ok(b"text".to_vec()));
        assert_eq!(tree.find(ROOT, "l").and_then(|l| tree.target(l)), Ok("a/b"));
        assert!(open(&folder).unwrap_err().to_string().contains("cannot read the folder"));
    }
}
