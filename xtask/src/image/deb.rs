//! Reading files out of a Debian package: `dpkg-deb` unpacks it, we read the tar stream.
//! Source: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, long names.

use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// The largest file we take from a package.
const MAX_FILE: u64 = 256 << 20;

/// One entry of a tar stream.
#[derive(Debug, Default)]
pub struct Entry {
    /// Without "./".
    pub name: String,
    /// The type flag: `0` a file, `1` another name of one, `2` a symbolic link, `3` a character device, `5` a folder.
    pub kind: u8,
    /// Permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Major and minor number.
    pub device: (u32, u32),
    /// Where a link leads.
    pub link: String,
    /// A file's content.
    pub data: Vec<u8>,
}

/// Calls `each` with the name (without "./") and content of every regular file of a package whose
/// name `wanted` accepts.
pub fn files(
    deb: &Path,
    wanted: impl Fn(&str) -> bool,
    mut each: impl FnMut(&str, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start `dpkg-deb`")?;
    let stream = child.stdout.take().context("dpkg-deb has no output")?;
    let mut file = |e: Entry| if matches!(e.kind, b'0' | 0) { each(&e.name, e.data) } else { Ok(()) };
    let read = tar(std::io::BufReader::with_capacity(1 << 20, stream), wanted, &mut file);
    // After an error the rest is not read, so dpkg-deb must not be waited for with its pipe full.
    if read.is_err() {
        child.kill().ok();
    }
    let status = child.wait()?;
    read.with_context(|| format!("in {}", deb.display()))?;
    if !status.success() {
        bail!("`dpkg-deb --fsys-tarfile {}` ended with {status}", deb.display());
    }
    Ok(())
}

/// Calls `each` with every entry of a tar stream whose name `wanted` accepts. Attributes beside those of an
/// [`Entry`] (access lists, capabilities) are left out.
pub fn tar(
    mut from: impl Read,
    wanted: impl Fn(&str) -> bool,
    each: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut long_name = None;
    loop {
        let mut h = [0; 512];
        from.read_exact(&mut h).context("the archive ends early")?;
        if h.iter().all(|b| *b == 0) {
            std::io::copy(&mut from, &mut std::io::sink())?;
            return Ok(());
        }
        let size = octal(&h[124..136])?;
        let padding = size.next_multiple_of(512) - size;
        let name = match long_name.take() {
            Some(name) => name,
            None => text(&h[..100]),
        };
        let name = name.trim_start_matches("./");
        let number = |from: usize, to: usize| octal(&h[from..to]).unwrap_or(0) as u32;
        if h[156] == b'L' || wanted(name) && !matches!(h[156], b'x' | b'g') {
            if size > MAX_FILE {
                bail!("{name} has {size} bytes, expected at most {MAX_FILE}");
            }
            let mut data = vec![0; size as usize];
            from.read_exact(&mut data).context("the archive ends early")?;
            if h[156] == b'L' {
                long_name = Some(text(&data));
            } else {
                each(Entry {
                    name: name.into(),
                    kind: h[156],
                    mode: number(100, 108) & 0o7777,
                    owner: (number(108, 116), number(116, 124)),
                    device: (number(329, 337), number(337, 345)),
                    link: text(&h[157..257]),
                    data,
                })?;
            }
            std::io::copy(&mut from.by_ref().take(padding), &mut std::io::sink())?;
        } else {
            std::io::copy(&mut from.by_ref().take(size + padding), &mut std::io::sink())?;
        }
    }
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

fn octal(field: &[u8]) -> Result<u64> {
    let s = text(field);
    u64::from_str_radix(s.trim(), 8).with_context(|| format!("`{s}` is not an octal size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
        let mut h = vec![0; 512];
        h[..name.len()].copy_from_slice(name.as_bytes());
        h[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        h[156] = kind;
        h.extend(data);
        h.resize(h.len().next_multiple_of(512), 0);
        h
    }

    #[test]
    fn files_are_found_by_short_and_long_names() {
        let long = format!("./{}", "d/".repeat(80) + "f");
        let mut a = entry("./a", b'0', b"one");
        a.extend(entry("./dir/", b'5', b""));
        a.extend(entry("././@LongLink", b'L', format!("{long}\0").as_bytes()));
        a.extend(entry("cut", b'0', &[7; 600]));
        a.extend(entry("./c", b'0', b"three"));
        let end = a.len();
        a.resize(end + 1024, 0);
        let mut got = Vec::new();
        let mut each = |e: Entry| {
            got.push((e.name, e.data));
            Ok(())
        };
        tar(&a[..], |n| n != "a" && n != "dir/", &mut each).unwrap();
        assert_eq!(got, [(long[2..].to_string(), vec![7; 600]), ("c".into(), b"three".to_vec())]);
        assert!(tar(&a[..end - 100], |_| true, &mut |_| Ok(())).is_err());
        assert!(tar(&a[..700], |_| false, &mut |_| Ok(())).is_err());
    }
}
