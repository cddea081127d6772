//! Fetching packages with apt, in a root of our own: its package lists, its cache and its idea of
//! the processor lie under `images/cache`, so the machine's own package state is neither read nor
//! changed. Signatures are checked by apt against Debian's keyring, as always.

use super::lock::Locked;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Debian's keys, from the package debian-archive-keyring (on Debian always there).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How the names of kernel packages begin.
const KERNEL: &str = "linux-image-";
/// Names a mirror on systems whose apt does not know one.
const MIRROR: &str = "TABVISOR_DEBIAN_MIRROR";
/// The same for security updates.
const SECURITY_MIRROR: &str = "TABVISOR_DEBIAN_SECURITY_MIRROR";
/// Package lists younger than this are not fetched again.
const LISTS_LIVE: Duration = Duration::from_secs(6 * 3600);

/// A private apt root for one processor and release.
pub struct Apt {
    config: PathBuf,
    arch: String,
    cache: PathBuf,
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256(data: &[u8]) -> String {
    Sha256::digest(data).iter().fold(String::new(), |mut s, b| {
        write!(s, "{b:02x}").expect("writing to a String works");
        s
    })
}

/// Runs a program and gives its standard output.
fn output(command: &mut Command) -> Result<String> {
    let what = crate::proc::show(command);
    let out = command.output().with_context(|| format!("cannot start `{what}`"))?;
    if !out.status.success() {
        bail!("`{what}` ended with {}:\n{}", out.status, String::from_utf8_lossy(&out.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The file of a package in the cache, if it is there and whole.
pub fn cached(cache: &Path, package: &Locked) -> Option<PathBuf> {
    // A package for all processors is one for ours, and is named otherwise.
    [&package.arch, "all"].into_iter().map(|arch| cache.join(file_name(package, arch))).find(|path| {
        let data = std::fs::read(path);
        data.is_ok_and(|data| sha256(&data) == package.sha256)
    })
}

/// As apt names it: a colon in the version is escaped.
fn file_name(p: &Locked, arch: &str) -> String {
    format!("{}_{}_{arch}.deb", p.name, p.version.replace(':', "%3a"))
}

impl Apt {
    /// Sets up the root, with fresh package lists.
    pub fn open(cache: &Path, suite: &str, arch: &str) -> Result<Self> {
        if Command::new("apt-get").arg("--version").output().is_err() {
            bail!(
                "this image is made of Debian packages and there is no apt-get here; build it on a Debian or Ubuntu \
                 system (or in a container of one) and copy images/out from there"
            );
        }
        if !Path::new(KEYRING).exists() {
            bail!("Debian's keys are not installed ({KEYRING}); run `apt-get install debian-archive-keyring`");
        }
        let root = cache.join(format!("apt-{suite}-{arch}"));
        let dirs = ["etc", "lists/partial", "cache/archives/partial", "dpkg"];
        for dir in dirs {
            std::fs::create_dir_all(root.join(dir))
                .with_context(|| format!("cannot create {}/{dir}", root.display()))?;
        }
        let root = root.canonicalize()?;
        std::fs::write(root.join("dpkg/status"), "")?;
        let sources = sources(suite)?;
        let same = std::fs::read_to_string(root.join("etc/sources.list")).is_ok_and(|old| old == sources);
        std::fs::write(root.join("etc/sources.list"), sources)?;
        let config = root.join("apt.conf");
        std::fs::write(&config, configuration(&root, arch)?)?;
        let this = Self { config, arch: arch.into(), cache: cache.into() };
        let stamp = root.join("updated");
        let age =
            std::fs::metadata(&stamp).and_then(|m| m.modified()).ok().map(|t| SystemTime::now().duration_since(t));
        if !same || !matches!(age, Some(Ok(age)) if age < LISTS_LIVE) {
            println!("image    reading Debian's package lists ({suite}, {arch})");
            if let Err(error) = output(this.apt("apt-get").args(["update", "-q", "--error-on=any"])) {
                // A mirror in the middle of an update has lists that do not match their signed
                // checksums. apt leaves those out; the others are whole, and signed.
                if !has_list(&root, suite, arch) {
                    return Err(error.context("the package lists could not be read"));
                }
                let text = error.to_string();
                let reason = text.lines().find(|l| l.starts_with("E: ")).unwrap_or(&text);
                println!("image    going on without a list that could not be read, next time it is tried again:");
                println!("         {reason}");
            } else {
                std::fs::write(&stamp, "")?;
            }
        }
        Ok(this)
    }

    /// The processor's name.
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// The file with the archives' addresses.
    pub fn sources(&self) -> PathBuf {
        self.config.with_file_name("etc").join("sources.list")
    }

    fn apt(&self, program: &str) -> Command {
        let mut c = Command::new(program);
        c.env("APT_CONFIG", &self.config).env("LC_ALL", "C").current_dir(&self.cache);
        c
    }

    /// A field of a package's entry in the signed index; of `version`, or of the newest.
    fn show(&self, name: &str, version: Option<&str>, field: &str) -> Result<Option<String>> {
        let what = version.map_or_else(|| name.to_string(), |v| format!("{name}={v}"));
        let out = self.apt("apt-cache").args(["show", "--no-all-versions", &what]).output()?;
        if !out.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&out.stdout);
        let value = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(": ").map(str::to_string));
        Ok(value)
    }

    /// The newest package for a wish: itself, or for a `linux-image-*` package that only depends on
    /// the current kernel's, that one.
    fn newest(&self, wanted: &str) -> Result<Locked> {
        let mut name = wanted.to_string();
        if wanted.starts_with(KERNEL) {
            let depends = self.show(wanted, None, "Depends")?.unwrap_or_default();
            if let Some(real) = depends.split([',', ' ', '|']).find(|d| d.starts_with(KERNEL)) {
                name = real.to_string();
            }
        }
        let field = |f: &str| -> Result<String> {
            self.show(&name, None, f)?
                .with_context(|| format!("Debian's index has no {f} of `{name}` for {}", self.arch))
        };
        let (version, sha256) = (field("Version")?, field("SHA256")?);
        Ok(Locked { wanted: wanted.into(), version, sha256, name, arch: self.arch.clone() })
    }

    /// Which package serves a wish now: the locked one while the archive has it, else the newest.
    pub fn choose(&self, wanted: &str, locked: Option<&Locked>) -> Result<Locked> {
        if let Some(l) = locked {
            match self.show(&l.name, Some(&l.version), "SHA256")? {
                Some(sum) if sum == l.sha256 => return Ok(l.clone()),
                Some(sum) => bail!(
                    "{} {} has checksum {sum} in Debian's signed index, images/lock.toml has {}; if you trust the \
                     archive, record it with `cargo xtask image --update-lock`",
                    l.name,
                    l.version,
                    l.sha256
                ),
                None => {}
            }
        }
        let new = self.newest(wanted)?;
        if let Some(l) = locked {
            println!(
                "image    the archive has moved on: {} {} instead of the tested {} {}",
                new.name, new.version, l.name, l.version
            );
            println!("         (checksum from Debian's signed index; `--update-lock` records it)");
        }
        Ok(new)
    }

    /// The package's file, from the cache or the archive.
    pub fn download(&self, p: &Locked) -> Result<PathBuf> {
        if let Some(path) = cached(&self.cache, p) {
            return Ok(path);
        }
        println!("image    fetching {} {} ({})", p.name, p.version, p.arch);
        output(self.apt("apt-get").args(["download", "-q", &format!("{}:{}={}", p.name, p.arch, p.version)]))?;
        match cached(&self.cache, p) {
            Some(path) => Ok(path),
            None => bail!("apt-get brought no {} with checksum {}", file_name(p, &p.arch), p.sha256),
        }
    }
}

/// Is there a verified list of the release itself?
fn has_list(root: &Path, suite: &str, arch: &str) -> bool {
    let end = format!("_dists_{suite}_main_binary-{arch}_Packages");
    std::fs::read_dir(root.join("lists"))
        .is_ok_and(|dir| dir.flatten().any(|e| e.file_name().to_string_lossy().ends_with(&end)))
}

/// The mirrors this machine's own apt uses for Debian: main archive and security updates.
fn mirrors() -> Result<(String, Option<String>)> {
    let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    if let Some(main) = var(MIRROR) {
        return Ok((main, var(SECURITY_MIRROR)));
    }
    let format = "$(REPO_URI) $(RELEASE) $(ORIGIN)";
    let list = output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    // Before the first `apt-get update` the origin is unknown; then the address must tell.
    let debian = |uri: &str, origin: Option<&str>| match origin {
        Some(o) => o == "Debian",
        None => {
            uri.trim_end_matches('/').ends_with("/debian") || uri.trim_end_matches('/').ends_with("/debian-security")
        }
    };
    let (mut main, mut security) = (None, None);
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let (Some(uri), Some(release)) = (words.next(), words.next()) else { continue };
        if debian(uri, words.next()) {
            let to = if release.contains("-security") { &mut security } else { &mut main };
            to.get_or_insert_with(|| uri.to_string());
        }
    }
    match main {
        Some(main) => Ok((main, security)),
        None => bail!(
            "this machine's apt knows no Debian mirror; set {MIRROR} (and {SECURITY_MIRROR}) to the address of one"
        ),
    }
}

fn sources(suite: &str) -> Result<String> {
    let (main, security) = mirrors()?;
    let mut s = format!(
        "deb [signed-by={KEYRING}] {main} {suite} main\ndeb [signed-by={KEYRING}] {main} {suite}-updates main\n"
    );
    if let Some(security) = security {
        writeln!(s, "deb [signed-by={KEYRING}] {security} {suite}-security main")?;
    }
    Ok(s)
}

/// The root's apt.conf. How to reach the network (proxies, retries) is the machine's own setting.
fn configuration(root: &Path, arch: &str) -> Result<String> {
    let root = root.display();
    let mut c = format!(
        "Dir \"{root}/\";\nDir::Etc \"{root}/etc\";\nDir::Etc::SourceList \"{root}/etc/sources.list\";\n\
         Dir::Etc::SourceParts \"/dev/null\";\nDir::Etc::Parts \"/dev/null\";\nDir::Etc::PreferencesParts \"/dev/null\";\n\
         Dir::State \"{root}\";\nDir::State::Lists \"{root}/lists\";\nDir::State::Status \"{root}/dpkg/status\";\n\
         Dir::Cache \"{root}/cache\";\nAPT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n\
         Acquire::Languages \"none\";\nAcquire::AllowInsecureRepositories \"false\";\n"
    );
    // apt would change to a user who cannot write below a private work tree.
    c.push_str("APT::Sandbox::User \"root\";\n");
    let network = ["Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::ForceIPv"];
    for line in output(Command::new("apt-config").arg("dump"))?.lines() {
        if network.iter().any(|n| line.starts_with(n)) {
            writeln!(c, "{line}")?;
        }
    }
    Ok(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_the_standards_example() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_damaged_file_in_the_cache_is_not_used() {
        let dir = std::env::temp_dir().join(format!("tabvisor-apt-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let p = Locked {
            wanted: "p".into(),
            name: "p".into(),
            version: "1:2".into(),
            arch: "amd64".into(),
            sha256: sha256(b"good"),
        };
        std::fs::write(dir.join("p_1%3a2_amd64.deb"), "bad").unwrap();
        assert_eq!(cached(&dir, &p), None);
        std::fs::write(dir.join("p_1%3a2_amd64.deb"), "good").unwrap();
        assert!(cached(&dir, &p).is_some());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
