//! Gives the tests the hello kernel, if it has been built: from `TABVISOR_HELLO`, or from where
//! `cargo xtask image hello` puts it. Only the tests include it; the module does not.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=TABVISOR_HELLO");
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let built = here.join("../images/out/hello/hello.elf");
    let from = env::var_os("TABVISOR_HELLO").map_or(built, PathBuf::from);
    // A missing file is watched through its folder, so that it is seen once it is there.
    let watched = from.ancestors().find(|p| p.exists()).unwrap_or(&from);
    println!("cargo::rerun-if-changed={}", watched.display());
    let to = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("hello.elf");
    let bytes = fs::read(&from).unwrap_or_default();
    fs::write(to, bytes).expect("cargo's output folder can be written");
}
