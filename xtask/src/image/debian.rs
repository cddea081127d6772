//! Building a recipe of Debian packages: kernel, static busybox and modules become a packed kernel
//! and an initrd, or a disk for another image's kernel and initrd, perhaps with a boot loader that reads them from it.

use super::apt::{self, Apt};
use super::cpio::Archive;
use super::lock::{Lock, Locked};
use super::manifest::{File, Manifest};
use super::modules::{self, Modules};
use super::recipe::{Compression, Disk, Loader, Recipe};
use super::{bootstrap, deb, ext4, kernel, lz4, mbr};
use anyhow::{Context, Result, bail, ensure};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where a build takes from and puts to.
pub struct Paths {
    /// The folder with recipes, lock file and rootfs.
    pub images: PathBuf,
}

impl Paths {
    /// What was fetched.
    pub fn cache(&self) -> PathBuf {
        self.images.join("cache")
    }
    /// What was built.
    pub fn out(&self, name: &str) -> PathBuf {
        self.images.join("out").join(name)
    }
    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.images.join("lock.toml")
    }
}

/// Changes when this builder makes something else of the same inputs.
const BUILDER: u32 = 1;

/// All files below a folder with their paths in it, sorted.
fn tree(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut queue = vec![(String::new(), dir.to_path_buf())];
    while let Some((prefix, dir)) = queue.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                queue.push((name + "/", entry.path()));
            } else {
                found.push((name, entry.path()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The files of all the recipe's folders.
fn rootfs(paths: &Paths, recipe: &Recipe) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for folder in &recipe.rootfs {
        files.extend(tree(&paths.images.join(folder))?);
    }
    Ok(files)
}

/// What is built for the image that starts a disk.
fn boot_image(paths: &Paths, disk: &Disk) -> Result<Manifest> {
    let boot = &disk.boot;
    Manifest::read(&paths.out(boot)).with_context(|| format!("the image {boot}, which starts this one, is not built"))
}

/// Names everything an image is made of.
fn inputs(paths: &Paths, name: &str, recipe: &Recipe, lock: &Lock) -> Result<String> {
    let mut all = format!("builder {BUILDER}\n").into_bytes();
    all.extend(std::fs::read(paths.images.join(format!("{name}.toml")))?);
    for wanted in recipe.wishes() {
        all.extend(format!("{:?}\n", lock.find(wanted, &recipe.arch)).into_bytes());
    }
    for (name, path) in rootfs(paths, recipe)? {
        all.extend(name.into_bytes());
        all.extend(std::fs::read(path)?);
    }
    if let Some(disk) = &recipe.disk {
        all.extend(boot_image(paths, disk)?.inputs.into_bytes());
    }
    Ok(apt::sha256(&all))
}

/// The package files for the recipe's wishes. The network is used only for what the cache lacks.
fn fetch(paths: &Paths, recipe: &Recipe, lock: &Lock) -> Result<Vec<(Locked, PathBuf)>> {
    let cache = paths.cache();
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let mut archive = None;
    let mut got = Vec::new();
    for wanted in recipe.wishes() {
        let locked = lock.find(wanted, &recipe.arch);
        if let Some((l, path)) = locked.and_then(|l| Some((l, apt::cached(&cache, l)?))) {
            got.push((l.clone(), path));
            continue;
        }
        if archive.is_none() {
            archive = Some(Apt::open(&cache, &recipe.suite, &recipe.arch)?);
        }
        let archive = archive.as_ref().context("it was just opened")?;
        let package = archive.choose(wanted, locked)?;
        let path = archive.download(&package)?;
        got.push((package, path));
    }
    Ok(got)
}

/// The kernel package's parts.
struct Kernel {
    version: String,
    bzimage: Vec<u8>,
    modules: Modules,
}

fn read_kernel(path: &Path) -> Result<Kernel> {
    let (mut bzimage, mut modules) = (None, Modules::default());
    // Newer packages have /usr/lib instead of /lib.
    let module_path = |name: &str| -> Option<String> {
        let rest = name.strip_prefix("usr/").unwrap_or(name).strip_prefix("lib/modules/")?;
        rest.split_once('/').map(|(_, path)| path.to_string())
    };
    let wanted = |name: &str| {
        name.starts_with("boot/vmlinuz-")
            || module_path(name).is_some_and(|p| p.ends_with(".ko") || p.ends_with(".ko.xz") || p == "modules.builtin")
    };
    deb::files(path, wanted, |name, data| {
        if let Some(version) = name.strip_prefix("boot/vmlinuz-") {
            bzimage = Some((version.to_string(), data));
        } else if let Some(path) = module_path(name) {
            if path == "modules.builtin" {
                modules.add_builtin(&String::from_utf8_lossy(&data));
            } else {
                modules.add(&path, data)?;
            }
        }
        Ok(())
    })?;
    let (version, bzimage) = bzimage.with_context(|| format!("{} has no /boot/vmlinuz-*", path.display()))?;
    Ok(Kernel { version, bzimage, modules })
}

fn read_busybox(path: &Path) -> Result<Vec<u8>> {
    let mut found = None;
    let wanted = |name: &str| matches!(name, "bin/busybox" | "usr/bin/busybox");
    deb::files(path, wanted, |_, data| {
        found = Some(data);
        Ok(())
    })?;
    found.with_context(|| format!("{} has no /bin/busybox", path.display()))
}

/// A system of one program, without the recipe's own files.
fn small_system(busybox: Vec<u8>) -> Archive {
    let mut a = Archive::default();
    for dir in ["dev", "etc", "mnt", "proc", "root", "run", "sbin", "sys", "usr/bin", "usr/sbin", "var/log"] {
        a.folder(dir, 0o755);
    }
    a.folder("tmp", 0o1777);
    // Before devtmpfs is there, /init already has a console.
    a.character("dev/console", 0o600, 5, 1);
    a.character("dev/null", 0o666, 1, 3);
    a.file("bin/busybox", 0o755, busybox);
    a.link("bin/sh", "busybox");
    a
}

/// The modules that the recipe wants and what modprobe reads about them, below `/lib/modules`.
fn module_files(recipe: &Recipe, kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
    let chosen = kernel.modules.closure(&recipe.modules)?;
    let mut files: Vec<(String, Vec<u8>)> = chosen.values().map(|m| (m.path.clone(), m.data.clone())).collect();
    files.push(("modules.dep".into(), modules::dep_file(&chosen).into_bytes()));
    files.push(("modules.alias".into(), modules::alias_file(&chosen).into_bytes()));
    files.push(("modules.softdep".into(), modules::softdep_file(&chosen).into_bytes()));
    Ok(files.into_iter().map(|(path, data)| (format!("{}/{path}", kernel.version), data)).collect())
}

/// The files of the system; `package` has what it is made of or with.
fn system(paths: &Paths, name: &str, recipe: &Recipe, kernel: &Kernel, package: &Path) -> Result<Archive> {
    let modules = module_files(recipe, kernel)?;
    let packages = recipe.disk.as_ref().map_or(&[][..], |disk| &disk.packages);
    let mut a = if packages.is_empty() {
        let mut a = small_system(read_busybox(package)?);
        modules.into_iter().for_each(|(path, data)| a.file(&format!("lib/modules/{path}"), 0o644, data));
        a
    } else {
        let apt = Apt::open(&paths.cache(), &recipe.suite, &recipe.arch)?;
        let wanted = bootstrap::Wanted { suite: &recipe.suite, packages, modules: &modules, kernel: &kernel.version };
        bootstrap::system(&apt, package, &wanted, &paths.cache().join(format!("{name}-system")))?
    };
    for (name, path) in rootfs(paths, recipe)? {
        let data = std::fs::read(path)?;
        let mode = if data.starts_with(b"#!") { 0o755 } else { 0o644 };
        a.file(&name, mode, data);
    }
    Ok(a)
}

fn initrd(system: Archive, compression: Compression) -> Result<Vec<u8>> {
    let cpio = system.finish();
    Ok(match compression {
        Compression::None => cpio,
        Compression::Lz4 => lz4::legacy_frame(&cpio),
        Compression::Gzip => {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gz.write_all(&cpio)?;
            gz.finish()?
        }
    })
}

/// Puts the kernel into `/boot`, with the initrd of the image that starts a disk without a boot loader.
fn add_kernel(system: &mut Archive, paths: &Paths, disk: &Disk, kernel: &Kernel) -> Result<()> {
    let files = boot_image(paths, disk)?.files;
    let initrd = files.iter().find(|file| file.role == "initrd").context("there is no initrd for the disk")?;
    let initrd = std::fs::read(paths.out(&disk.boot).join(&initrd.path))?;
    // The files have Debian's names, which hold a version; links have those that do not change.
    for (name, data) in [("vmlinuz", kernel.bzimage.clone()), ("initrd.img", initrd)] {
        let versioned = format!("{name}-{}", kernel.version);
        system.file(&format!("boot/{versioned}"), 0o644, data);
        system.link(&format!("boot/{name}"), &versioned);
    }
    Ok(())
}

/// Takes the boot loader out of its package.
fn loader_files(out: &Path, loader: &Loader, package: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let wanted = [("kernel", Some(&loader.pv)), ("kernel-pvh", loader.pvh.as_ref())];
    for (role, path) in wanted.into_iter().filter_map(|(role, path)| Some((role, path?))) {
        let (name, mut found) = (path.rsplit('/').next().unwrap_or(path), None);
        deb::files(
            package,
            |name| name == path,
            |_, data| {
                found = Some(data);
                Ok(())
            },
        )?;
        let data = found.with_context(|| format!("{} has no /{path}", package.display()))?;
        files.push(File::write(out, name, role, &data)?);
    }
    Ok(files)
}

/// Builds the image `name`, if it is not up to date; the folder it is in.
pub fn build(paths: &Paths, name: &str, update_lock: bool) -> Result<PathBuf> {
    let recipe = Recipe::read(&paths.images.join(format!("{name}.toml")))?;
    if let Some(disk) = &recipe.disk {
        build(paths, &disk.boot, update_lock)?;
    }
    let mut lock = Lock::read(&paths.lock())?;
    let out = paths.out(name);
    if !update_lock && Manifest::is_current(&out, &inputs(paths, name, &recipe, &lock)?) {
        return Ok(out);
    }
    let none = Lock::default();
    let packages = fetch(paths, &recipe, if update_lock { &none } else { &lock })?;
    let [(kernel_package, kernel_path), (_, second_path), rest @ ..] = &packages[..] else {
        bail!("{} packages for {:?}", packages.len(), recipe.wishes());
    };
    if update_lock {
        let changed: Vec<bool> = packages.iter().map(|(p, _)| lock.record(p)).collect();
        if changed.contains(&true) {
            lock.write(&paths.lock())?;
            println!("image    wrote {}", paths.lock().display());
        }
    }
    println!("image    building {name} from {} {}", kernel_package.name, kernel_package.version);
    let kernel = read_kernel(kernel_path)?;
    let arch = if recipe.arch == "amd64" { "x86_64" } else { "i686" };
    let mut system = system(paths, name, &recipe, &kernel, second_path)?;
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let files = match (&recipe.disk, recipe.initrd) {
        (Some(disk), _) => {
            let shape = ext4::Shape { mib: disk.size, uuid: disk.uuid.clone(), label: "tabvisor".into() };
            let partition = |system: &Archive| ext4::image(system, &shape, &paths.cache().join(format!("{name}-disk")));
            if let (Some(loader), Some((_, package))) = (&disk.loader, rest.first()) {
                add_kernel(&mut system, paths, disk, &kernel)?;
                let mut files = loader_files(&out, loader, package)?;
                files.push(File::write(&out, "disk.img", "disk", &mbr::disk(&partition(&system)?)?)?);
                files
            } else {
                let there = |file: File| File { path: format!("../{}/{}", disk.boot, file.path), ..file };
                let mut files: Vec<File> = boot_image(paths, disk)?.files.into_iter().map(there).collect();
                files.push(File::write(&out, "root.ext4", "disk", &partition(&system)?)?);
                files
            }
        }
        (None, compression) => {
            let elf = kernel::extract(&kernel.bzimage)
                .with_context(|| format!("in the kernel of {}", kernel_package.name))?;
            let machine = elf.get(18).copied();
            ensure!(
                machine == Some(if arch == "x86_64" { 62 } else { 3 }),
                "{} is no kernel for {arch}",
                kernel_package.name
            );
            let initrd = initrd(system, compression.unwrap_or(Compression::None))?;
            vec![
                File::write(&out, "vmlinux.pack", "kernel", &kernel::pack(&kernel::slim(&elf)?))?,
                File::write(&out, "initrd", "initrd", &initrd)?,
                File::write(&out, "bzImage", "kernel-original", &kernel.bzimage)?,
            ]
        }
    };
    let inputs = inputs(paths, name, &recipe, &lock)?;
    let packages = packages.into_iter().map(|(p, _)| p).collect();
    let Recipe { title, cmdline, cmdlines, memory, modes, .. } = recipe;
    let network = recipe.network.map(|n| n.word().into());
    let arch = arch.into();
    Manifest { name: name.into(), title, arch, files, cmdline, cmdlines, network, memory, modes, packages, inputs }
        .write(&out)?;
    Ok(out)
}
