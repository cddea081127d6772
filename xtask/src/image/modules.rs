//! Kernel modules: which ones a wish needs, and the index files modprobe reads in the guest.
//! A package has no `modules.dep`; depmod would make it from the modules when they are installed.
//! We do the same from their `.modinfo` sections.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A module's file and what it says about itself.
pub struct Module {
    /// The path below `/lib/modules/<version>/`, without `.xz`.
    pub path: String,
    /// The module, uncompressed.
    pub data: Vec<u8>,
    depends: Vec<String>,
    /// Modules that should be there as well; a module that is built in or missing is no error.
    soft: Vec<String>,
    aliases: Vec<String>,
}

/// Modules by name, in which `-` and `_` are the same.
#[derive(Default)]
pub struct Modules {
    all: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
}

/// The name as the kernel spells it.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The name in a path like `kernel/fs/ext4/ext4.ko`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, rest) = file.split_once(".ko")?;
    matches!(rest, "" | ".xz").then(|| canonical(name))
}

impl Modules {
    /// Adds a module's file. `path` is below `/lib/modules/<version>/`.
    pub fn add(&mut self, path: &str, data: Vec<u8>) -> Result<()> {
        let name = name_of(path).with_context(|| format!("{path} is no module"))?;
        let (path, data) = match path.strip_suffix(".xz") {
            Some(plain) => (plain, super::kernel::unxz(&data).with_context(|| format!("in {path}"))?),
            None => (path, data),
        };
        let info = modinfo(&data).with_context(|| format!("in {path}"))?;
        let get = |key: &'static str| info.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str());
        let words = |text: &str| -> Vec<String> {
            text.split([',', ' ']).filter(|w| !w.is_empty() && !w.ends_with(':')).map(canonical).collect()
        };
        let module = Module {
            path: path.into(),
            depends: get("depends").flat_map(words).collect(),
            soft: get("softdep").flat_map(words).collect(),
            aliases: get("alias").map(str::to_string).collect(),
            data,
        };
        self.all.insert(name, module);
        Ok(())
    }

    /// Adds what is compiled into the kernel: the text of `modules.builtin`.
    pub fn add_builtin(&mut self, text: &str) {
        self.builtin.extend(text.lines().filter_map(name_of));
    }

    /// The wanted modules and all they depend on.
    ///
    /// # Errors
    /// A wanted module or a dependency is neither there nor built in.
    pub fn closure(&self, wanted: &[String]) -> Result<BTreeMap<&str, &Module>> {
        let mut chosen = BTreeMap::new();
        let mut queue: Vec<(String, bool)> = wanted.iter().map(|w| (canonical(w), true)).collect();
        while let Some((name, must)) = queue.pop() {
            if chosen.contains_key(name.as_str()) || self.builtin.contains(&name) {
                continue;
            }
            match self.all.get_key_value(&name) {
                Some((name, module)) => {
                    queue.extend(module.depends.iter().map(|d| (d.clone(), true)));
                    queue.extend(module.soft.iter().map(|d| (d.clone(), false)));
                    chosen.insert(name.as_str(), module);
                }
                None if must => bail!("the kernel package has no module `{name}`"),
                None => {}
            }
        }
        Ok(chosen)
    }
}

/// `modules.dep`: each module's path, and the paths of all that must be loaded before it.
pub fn dep_file(chosen: &BTreeMap<&str, &Module>) -> String {
    let mut out = String::new();
    for (name, module) in chosen {
        // Nearest first, each once: modprobe loads them from the end.
        let (mut order, mut queue): (Vec<&str>, _) = (Vec::new(), vec![*name]);
        // No chain is longer than all modules together; a circle would be.
        for _ in 0..chosen.len() {
            let next: Vec<&str> = queue
                .iter()
                .filter_map(|n| chosen.get(n))
                .flat_map(|m| m.depends.iter().filter_map(|d| chosen.get_key_value(d.as_str())))
                .map(|(n, _)| *n)
                .collect();
            for n in &next {
                order.retain(|o| o != n);
                order.push(*n);
            }
            queue = next;
        }
        write!(out, "{}:", module.path).expect("writing to a String works");
        for path in order.iter().filter_map(|n| chosen.get(*n)).map(|m| &m.path) {
            write!(out, " {path}").expect("writing to a String works");
        }
        out.push('\n');
    }
    out
}

/// `modules.alias`: which module serves which device or request.
pub fn alias_file(chosen: &BTreeMap<&str, &Module>) -> String {
    let lines = chosen.iter().flat_map(|(name, m)| m.aliases.iter().map(move |a| format!("alias {a} {name}\n")));
    lines.collect()
}

/// `modules.softdep`.
pub fn softdep_file(chosen: &BTreeMap<&str, &Module>) -> String {
    let mut out = String::new();
    for (name, m) in chosen {
        let there: Vec<&str> = m.soft.iter().map(String::as_str).filter(|s| chosen.contains_key(s)).collect();
        if !there.is_empty() {
            writeln!(out, "softdep {name} pre: {}", there.join(" ")).expect("writing to a String works");
        }
    }
    out
}

/// The entries of a module's `.modinfo` section.
fn modinfo(elf: &[u8]) -> Result<Vec<(String, String)>> {
    let section = section(elf, b".modinfo").context("it is no ELF file with a .modinfo section")?;
    let entries = section.split(|b| *b == 0).filter(|e| !e.is_empty());
    Ok(entries
        .filter_map(|e| {
            let e = String::from_utf8_lossy(e);
            e.split_once('=').map(|(k, v)| (k.to_string(), v.to_string()))
        })
        .collect())
}

/// A section of a little-endian ELF file (System V ABI, chapter 4).
fn section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let number = |at: usize, n: usize| -> Option<usize> {
        let mut b = [0; 8];
        b[..n].copy_from_slice(elf.get(at..at.checked_add(n)?)?);
        usize::try_from(u64::from_le_bytes(b)).ok()
    };
    let wide = match elf.get(..5)? {
        b"\x7fELF\x01" => false,
        b"\x7fELF\x02" => true,
        _ => return None,
    };
    let (headers, size, count, names) = if wide {
        (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?, number(0x3e, 2)?)
    } else {
        (number(0x20, 4)?, number(0x2e, 2)?, number(0x30, 2)?, number(0x32, 2)?)
    };
    let header = |i: usize| headers.checked_add(size.checked_mul(i)?);
    let content = |i: usize| {
        let h = header(i)?;
        let (at, n) = if wide {
            (number(h + 0x18, 8)?, number(h + 0x20, 8)?)
        } else {
            (number(h + 0x10, 4)?, number(h + 0x14, 4)?)
        };
        elf.get(at..at.checked_add(n)?)
    };
    let all_names = content(names)?;
    (0..count).find_map(|i| {
        let own = all_names.get(number(header(i)?, 4)?..)?;
        (own.starts_with(name) && own.get(name.len()) == Some(&0)).then(|| content(i))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, depends: &[&str], soft: &[&str]) -> Module {
        let own = |l: &[&str]| l.iter().map(|s| s.to_string()).collect();
        Module {
            path: path.into(),
            data: vec![],
            depends: own(depends),
            soft: own(soft),
            aliases: vec![format!("fs-{path}")],
        }
    }

    fn some() -> Modules {
        let mut m = Modules::default();
        m.add_builtin("kernel/lib/crc16.ko\nkernel/x/built-in.ko\n");
        m.all.insert("a".into(), module("k/a.ko", &["b", "crc16"], &["s", "not_there"]));
        m.all.insert("b".into(), module("k/b.ko", &["c"], &[]));
        m.all.insert("c".into(), module("k/c.ko", &[], &[]));
        m.all.insert("d".into(), module("k/d.ko", &["c", "b"], &[]));
        m.all.insert("s".into(), module("k/s.ko", &[], &[]));
        m
    }

    #[test]
    fn dependencies_come_along_and_builtin_ones_do_not() {
        let m = some();
        let chosen = m.closure(&["a".into(), "built_in".into()]).unwrap();
        assert_eq!(chosen.keys().copied().collect::<Vec<_>>(), ["a", "b", "c", "s"]);
        assert!(m.closure(&["zzz".into()]).is_err());
    }

    #[test]
    fn the_index_names_dependencies_before_their_own() {
        let m = some();
        let chosen = m.closure(&["a".into(), "d".into()]).unwrap();
        let dep = dep_file(&chosen);
        assert!(dep.contains("k/a.ko: k/b.ko k/c.ko\n"), "{dep}");
        // c is needed by b as well: it must stay behind it.
        assert!(dep.contains("k/d.ko: k/b.ko k/c.ko\n"), "{dep}");
        assert!(alias_file(&chosen).contains("alias fs-k/a.ko a\n"));
        assert_eq!(softdep_file(&chosen), "softdep a pre: s\n");
    }

    #[test]
    fn names_are_spelled_one_way() {
        assert_eq!(name_of("kernel/drivers/block/xen-blkfront.ko").as_deref(), Some("xen_blkfront"));
        assert_eq!(name_of("kernel/fs/ext4/ext4.ko.xz").as_deref(), Some("ext4"));
        assert_eq!(name_of("modules.order"), None);
    }

    #[test]
    fn damaged_elf_files_are_errors() {
        for bad in [&b""[..], b"\x7fELF\x02", &[0x7f, b'E', b'L', b'F', 2, 0xff, 0xff], &[0xff; 100]] {
            assert!(modinfo(bad).is_err());
        }
        let mut elf = b"\x7fELF\x02".to_vec();
        elf.resize(64, 0xff);
        assert!(modinfo(&elf).is_err());
    }
}
