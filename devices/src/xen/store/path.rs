//! Names of nodes. Source: Xen's docs/misc/xenstore.txt ("Paths are /-separated") and
//! public/io/xs_wire.h for the limits.

use super::errno::Errno;

/// Longest absolute path in bytes.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Longest path below a domain's own directory in bytes.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;

/// A domain's own directory, which its relative paths start from.
pub fn domain_path(domid: u16) -> String {
    format!("/local/domain/{domid}")
}

/// Is this the name of a special watch, such as `@releaseDomain`?
pub fn is_special(path: &str) -> bool {
    path.starts_with('@')
}

/// The absolute form of what domain `domid` calls `name`; not yet known to be valid.
pub fn canonicalize(domid: u16, name: &str) -> String {
    if name.starts_with('/') || is_special(name) { name.into() } else { format!("{}/{name}", domain_path(domid)) }
}

/// The valid absolute path of a node that domain `domid` calls `name`.
///
/// # Errors
/// `EINVAL` for anything else.
pub fn node_path(domid: u16, name: &[u8]) -> Result<String, Errno> {
    let name = core::str::from_utf8(name).map_err(|_| Errno::Einval)?;
    let path = canonicalize(domid, name);
    if is_valid(&path) { Ok(path) } else { Err(Errno::Einval) }
}

/// Is this the absolute path of a possible node?
pub fn is_valid(path: &str) -> bool {
    let Some(names) = path.strip_prefix('/') else { return false };
    let well_formed = names.is_empty() || names.split('/').all(|n| !n.is_empty() && n.bytes().all(is_name_byte));
    well_formed && path.len() <= XENSTORE_ABS_PATH_MAX && path.len() - domain_prefix(path) <= XENSTORE_REL_PATH_MAX
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_@".contains(&b)
}

/// Length of `/local/domain/N/` at the start of `path`, which does not count towards its length.
fn domain_prefix(path: &str) -> usize {
    let Some(rest) = path.strip_prefix("/local/domain/") else { return 0 };
    let digits = rest.bytes().take(5).take_while(u8::is_ascii_digit).count();
    let slash = rest.as_bytes().get(digits) == Some(&b'/');
    if digits > 0 && slash { path.len() - rest.len() + digits + 1 } else { 0 }
}

/// The path of the node above; the root is above itself.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

/// The last part of a path.
pub fn leaf(path: &str) -> &str {
    path.rfind('/').map_or(path, |at| &path[at + 1..])
}

/// The path of a node's child.
pub fn child(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

/// Is `path` the node `top` or somewhere below?
pub fn is_below(path: &str, top: &str) -> bool {
    top == "/" || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_names_are_below_the_domains_directory() {
        assert_eq!(node_path(7, b"device/vif"), Ok("/local/domain/7/device/vif".into()));
        assert_eq!(node_path(7, b"/tool"), Ok("/tool".into()));
        assert_eq!(node_path(7, b"/"), Ok("/".into()));
    }

    #[test]
    fn malformed_names_are_refused() {
        for name in ["", "//", "/a//b", "/a/", "a/", "/a b", "/a.b", "/\u{e9}", "@releaseDomain", "/a\n"] {
            assert_eq!(node_path(1, name.as_bytes()), Err(Errno::Einval), "{name:?}");
        }
        assert_eq!(node_path(1, b"/a\xff"), Err(Errno::Einval));
        assert!(is_valid("/A-z_0@9/b"));
    }

    #[test]
    fn the_length_of_a_path_counts_from_the_domains_directory() {
        let long = "x".repeat(XENSTORE_REL_PATH_MAX);
        assert!(node_path(65535, long.as_bytes()).is_ok());
        assert!(node_path(1, format!("{long}x").as_bytes()).is_err());
        assert!(is_valid(&format!("/{}", &long[1..])));
        assert!(!is_valid(&format!("/{long}")));
        assert!(!is_valid(&format!("/local/domain/123456/{}", &long[..2040])));
    }

    #[test]
    fn above_and_below() {
        assert_eq!((parent("/a/b"), parent("/a"), parent("/")), ("/a", "/", "/"));
        assert_eq!((leaf("/a/b"), leaf("/a")), ("b", "a"));
        assert_eq!((child("/", "a"), child("/a", "b")), ("/a".into(), "/a/b".into()));
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a") && is_below("/a", "/"));
        assert!(!is_below("/ab", "/a") && !is_below("/", "/a"));
    }
}
