//! Guest images: recipes in `images/`, what is fetched in `images/cache`, what is built in
//! `images/out/<name>` with a `manifest.json`. Building an image that is up to date does nothing.

mod apt;
mod bootstrap;
pub mod cpio;
mod deb;
mod debian;
mod ext4;
mod hello;
pub(crate) mod kernel;
mod lock;
mod lz4;
mod manifest;
mod mbr;
mod modules;
mod recipe;

pub use bootstrap::NotHere;

use crate::project::Project;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// The image that is no recipe: our own guest kernel.
const HELLO: &str = "hello";

/// What can be built, with a title for each: the default image first.
pub fn images() -> Result<Vec<(String, String)>> {
    let dir = Project::find()?.at("images");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|e| e == "toml") && name != "lock" {
            all.push((name, recipe::Recipe::read(&path)?.title));
        }
    }
    // linux64 before linux32.
    all.sort_by(|a, b| b.cmp(a));
    all.push((HELLO.into(), hello::TITLE.into()));
    Ok(all)
}

/// Prints what can be built.
pub fn list() {
    match images() {
        Ok(all) => {
            for (name, title) in all {
                println!("{name:10} {title}");
            }
        }
        Err(error) => println!("{error:#}"),
    }
}

/// Builds one image if it is not up to date; the folder with its `manifest.json`.
pub fn build(name: &str) -> Result<PathBuf> {
    build_with(name, false)
}

/// The same; with `update_lock` the newest packages are used and recorded in `images/lock.toml`.
pub fn build_with(name: &str, update_lock: bool) -> Result<PathBuf> {
    let project = Project::find()?;
    if name == HELLO {
        return hello::build(&project);
    }
    if !images()?.iter().any(|(n, _)| n == name) {
        let names: Vec<String> = images()?.into_iter().map(|(n, _)| n).collect();
        bail!("there is no image `{name}`; there are {}", names.join(", "));
    }
    debian::build(&debian::Paths { images: project.at("images") }, name, update_lock)
        .with_context(|| format!("the image {name} was not built"))
}

/// `cargo xtask image [--update-lock] [NAME ...]`: builds the named images; none: lists them.
pub fn command(args: &[String]) -> Result<()> {
    let update_lock = args.iter().any(|a| a == "--update-lock");
    let mut names: Vec<String> = Vec::new();
    for arg in args {
        match arg.as_str() {
            "--update-lock" => {}
            a if a.starts_with('-') => bail!("`cargo xtask image` has no option `{a}`, only --update-lock"),
            a => names.push(a.into()),
        }
    }
    if names.is_empty() && update_lock {
        names = images()?.into_iter().map(|(n, _)| n).filter(|n| n != HELLO).collect();
    }
    if names.is_empty() {
        list();
    }
    for name in names {
        println!("{}", build_with(&name, update_lock)?.display());
    }
    Ok(())
}
