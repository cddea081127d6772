//! From a request path to a file below one of the served folders, and what kind of file it is.

use anyhow::{Context, Result};
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The folders that are served, by path prefix.
#[derive(Clone, Debug)]
pub struct Files {
    roots: Vec<(String, PathBuf)>,
}

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// A file to send.
    File(Entry),
    /// A folder asked for without its closing slash: go there.
    Folder(String),
    /// Nothing that may be sent.
    Nothing,
}

/// An open file with what the answer's head says of it.
#[derive(Debug)]
pub struct Entry {
    /// Open for reading, at its start.
    pub file: File,
    /// Length in bytes.
    pub len: u64,
    /// Changes whenever the content does.
    pub etag: String,
    /// Time of the last change.
    pub modified: SystemTime,
    /// Media type.
    pub kind: &'static str,
}

impl Files {
    /// Serves each folder below its prefix; the first prefix that matches counts. Folders may appear later.
    pub fn new(roots: &[(&str, PathBuf)]) -> Result<Self> {
        let roots = roots
            .iter()
            .map(|(prefix, dir)| {
                let dir = std::path::absolute(dir).with_context(|| format!("no path: {}", dir.display()))?;
                Ok(((*prefix).to_owned(), dir))
            })
            .collect::<Result<_>>()?;
        Ok(Self { roots })
    }

    /// Opens what a decoded request path names.
    pub fn find(&self, path: &str) -> Found {
        let Some((prefix, root)) = self.roots.iter().find(|(prefix, _)| path.starts_with(prefix.as_str())) else {
            return Found::Nothing;
        };
        let Some(inside) = safe(&path[prefix.len()..]) else { return Found::Nothing };
        self.open(path, root, &inside).unwrap_or(Found::Nothing)
    }

    fn open(&self, path: &str, root: &Path, inside: &Path) -> std::io::Result<Found> {
        // Links are followed, but not out of the folder.
        let root = root.canonicalize()?;
        let mut full = root.join(inside).canonicalize()?;
        if full.is_dir() {
            if !path.ends_with('/') {
                return Ok(Found::Folder(format!("{path}/")));
            }
            full = full.join("index.html").canonicalize()?;
        } else if path.ends_with('/') {
            return Ok(Found::Nothing);
        }
        if !full.starts_with(&root) {
            return Ok(Found::Nothing);
        }
        let file = File::open(&full)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(Found::Nothing);
        }
        let modified = meta.modified()?;
        Ok(Found::File(Entry { file, len: meta.len(), etag: etag(&meta, modified), modified, kind: kind(&full) }))
    }
}

fn etag(meta: &Metadata, modified: SystemTime) -> String {
    let nanos = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("\"{:x}-{nanos:x}\"", meta.len())
}

/// The relative path of a request, or none if any part could lead elsewhere or is hidden.
fn safe(path: &str) -> Option<PathBuf> {
    let mut result = PathBuf::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part.starts_with('.') || part.contains(['\\', ':', '\0']) {
            return None;
        }
        result.push(part);
    }
    Some(result)
}

/// Media type by the name's end. Workers and modules are refused by browsers if theirs is wrong.
fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|ext| ext.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "webmanifest" => "application/manifest+json; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" | "md" | "toml" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_folder_are_refused() {
        for path in ["../x", "a/../../x", "a/..", ".git/config", "a/.env", "..\\x", "c:/x", "a\0"] {
            assert_eq!(safe(path), None, "{path}");
        }
        assert_eq!(safe("a//b.js"), Some(PathBuf::from("a/b.js")));
        assert_eq!(safe(""), Some(PathBuf::new()));
    }

    #[test]
    fn modules_and_wasm_have_the_type_browsers_insist_on() {
        assert_eq!(kind(Path::new("a/vm.js")), "text/javascript; charset=utf-8");
        assert_eq!(kind(Path::new("xterm.mjs")), "text/javascript; charset=utf-8");
        assert_eq!(kind(Path::new("a_bg.wasm")), "application/wasm");
        assert_eq!(kind(Path::new("vmlinuz")), "application/octet-stream");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_folder_leads_nowhere() {
        let base = std::env::temp_dir().join(format!("tabvisor-files-{}", std::process::id()));
        let www = base.join("www");
        std::fs::create_dir_all(&www).unwrap();
        std::fs::write(base.join("secret"), "s").unwrap();
        std::fs::write(www.join("page.html"), "p").unwrap();
        std::os::unix::fs::symlink(base.join("secret"), www.join("out")).unwrap();
        std::os::unix::fs::symlink("page.html", www.join("in.html")).unwrap();
        let files = Files::new(&[("/", www)]).unwrap();
        assert!(matches!(files.find("/out"), Found::Nothing));
        assert!(matches!(files.find("/in.html"), Found::File(_)));
        assert!(matches!(files.find("/page.html/"), Found::Nothing));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
