//! What the machine must have, why, and how it gets there: the list that `doctor` prints and `setup` works off.

use crate::probe::{self, Browser};
use crate::project::{Project, WASM_PACK};
use crate::version::{self, Version};
use anyhow::Result;

/// What a need is for; a command sets up only its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Building the page: `web`, `serve`.
    Page,
    /// Building guest images.
    Images,
    /// Checks and tests.
    Tests,
}

impl Use {
    /// Everything.
    pub const ALL: &'static [Use] = &[Use::Page, Use::Images, Use::Tests];
    /// What `serve` needs.
    pub const SERVE: &'static [Use] = &[Use::Page, Use::Images];
}

/// How a need stands on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There, with what was found.
    Ok(String),
    /// Not there.
    Missing,
    /// There, but not usable: what was found.
    Wrong(String),
}

/// How to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// `rustup target add` / `rustup component add`: kind and name.
    Rustup(&'static str, &'static str),
    /// `cargo install` into the cache directory: package and version.
    Build(&'static str, String),
    /// The packages of the committed npm lock file.
    Npm,
    /// Packages of the system's package manager (Debian's names).
    System(&'static [&'static str]),
    /// Only a person can: what to do.
    ByHand(String),
}

/// One thing the machine must have.
#[derive(Clone, Debug)]
pub struct Need {
    /// What, with its version.
    pub what: String,
    /// Why.
    pub why: &'static str,
    /// For which commands.
    pub for_what: &'static [Use],
    /// How it stands.
    pub state: State,
    /// How to get it.
    pub fix: Fix,
}

impl Need {
    /// Whether nothing has to be done.
    pub fn is_met(&self) -> bool {
        matches!(self.state, State::Ok(_))
    }

    /// `ok/MISSING/WRONG  what  why -> fix`, one line.
    pub fn line(&self, project: &Project) -> String {
        let (word, found) = match &self.state {
            State::Ok(found) => ("ok", found.as_str()),
            State::Missing => ("MISSING", ""),
            State::Wrong(found) => ("WRONG", found.as_str()),
        };
        let what = match &self.state {
            State::Ok(_) | State::Missing => self.what.clone(),
            State::Wrong(_) => format!("{}: {found}", self.what),
        };
        let tail = match &self.state {
            State::Ok(_) if found.is_empty() => String::new(),
            State::Ok(_) => format!(" ({found})"),
            _ => format!(" -> {}", self.fix.command(project)),
        };
        format!("{word:<8} {what:<40} {}{tail}", self.why)
    }
}

impl Fix {
    /// The command that a person would type.
    pub fn command(&self, project: &Project) -> String {
        match self {
            Fix::Rustup(kind, name) => format!("rustup {kind} add {name}"),
            Fix::Build(package, version) => format!(
                "cargo xtask setup (cargo install {package} --version {version} --root {})",
                project.tool_dir(package, version).display()
            ),
            Fix::Npm => "cargo xtask setup (npm ci of package-lock.json, kept in the cache directory)".into(),
            Fix::System(packages) => {
                format!(
                    "apt-get install -y --no-install-recommends {} (or your system's equivalent)",
                    packages.join(" ")
                )
            }
            Fix::ByHand(text) => text.clone(),
        }
    }
}

/// An exact version is wanted.
pub fn exactly(found: Option<&Version>, want: &Version) -> State {
    match found {
        None => State::Missing,
        Some(found) if found == want => State::Ok(String::new()),
        Some(found) => State::Wrong(format!("{found} found")),
    }
}

/// At least this version is wanted.
pub fn at_least(found: Option<&Version>, want: &Version) -> State {
    match found {
        None => State::Missing,
        Some(found) if found >= want => State::Ok(found.to_string()),
        Some(found) => State::Wrong(format!("{found} found")),
    }
}

/// Browser and driver must be there and of one major version.
pub fn matching(browser: Option<&Version>, driver: Option<&Version>) -> State {
    match (browser, driver) {
        (None, None) => State::Missing,
        (None, Some(_)) => State::Wrong("driver without browser".into()),
        (Some(_), None) => State::Wrong("browser without driver".into()),
        (Some(browser), Some(driver)) if browser.major() == driver.major() => State::Ok(browser.to_string()),
        (Some(browser), Some(driver)) => State::Wrong(format!("browser {browser}, driver {driver}")),
    }
}

/// Looks at the machine. Nothing is changed.
pub fn all(project: &Project) -> Result<Vec<Need>> {
    let mut needs = rust(project)?;
    needs.push(wasm_bindgen(project)?);
    needs.push(wasm_pack(project));
    needs.extend(node(project)?);
    needs.push(browser());
    needs.push(packages());
    needs.push(file_systems());
    Ok(needs)
}

fn rust(project: &Project) -> Result<Vec<Need>> {
    let want = version::toolchain(&project.read("rust-toolchain.toml")?)?;
    let found = probe::version("rustc");
    let sysroot = probe::output("rustc", &["--print", "sysroot"]).unwrap_or_default();
    let has_target =
        |target: &str| std::path::Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir();
    let present = |yes: bool| if yes { State::Ok(String::new()) } else { State::Missing };
    let runs = |args: &[&str]| present(probe::output("cargo", args).is_some());
    let need = |what: &str, why, for_what, state, fix| Need { what: what.into(), why, for_what, state, fix };
    Ok(vec![
        need(
            &format!("rust {want}"),
            "compiles everything",
            Use::ALL,
            exactly(found.as_ref(), &want),
            Fix::ByHand(format!("rustup toolchain install {want} (rust-toolchain.toml asks for it)")),
        ),
        need(
            "rust target wasm32-unknown-unknown",
            "the page is WebAssembly",
            &[Use::Page, Use::Tests],
            present(has_target("wasm32-unknown-unknown")),
            Fix::Rustup("target", "wasm32-unknown-unknown"),
        ),
        need(
            "rust target x86_64-unknown-none",
            "the small guest kernel images/hello runs on no system",
            Use::ALL,
            present(has_target("x86_64-unknown-none")),
            Fix::Rustup("target", "x86_64-unknown-none"),
        ),
        need(
            "clippy",
            "checks the code",
            &[Use::Tests],
            runs(&["clippy", "--version"]),
            Fix::Rustup("component", "clippy"),
        ),
        need(
            "rustfmt",
            "checks the layout",
            &[Use::Tests],
            runs(&["fmt", "--version"]),
            Fix::Rustup("component", "rustfmt"),
        ),
    ])
}

fn wasm_bindgen(project: &Project) -> Result<Need> {
    let why = "writes the JavaScript side of the WebAssembly; must equal the crate in Cargo.lock";
    let for_what = &[Use::Page, Use::Tests];
    Ok(match version::locked(&project.read("Cargo.lock")?, "wasm-bindgen") {
        Ok(want) => {
            let tool = probe::built_tool(project, "wasm-bindgen-cli", "wasm-bindgen", &want);
            let found = tool.or_else(|| probe::on_path("wasm-bindgen")).and_then(probe::version);
            Need {
                what: format!("wasm-bindgen-cli {want}"),
                why,
                for_what,
                state: exactly(found.as_ref(), &want),
                fix: Fix::Build("wasm-bindgen-cli", want.to_string()),
            }
        }
        Err(error) => Need {
            what: "wasm-bindgen-cli".into(),
            why,
            for_what,
            state: State::Wrong(error.to_string()),
            fix: Fix::ByHand("restore Cargo.lock from version control".into()),
        },
    })
}

fn wasm_pack(project: &Project) -> Need {
    let want = Version::parse(WASM_PACK).expect("our own pin is a version");
    let tool = probe::built_tool(project, "wasm-pack", "wasm-pack", &want);
    let found = tool.or_else(|| probe::on_path("wasm-pack")).and_then(probe::version);
    Need {
        what: format!("wasm-pack {WASM_PACK}"),
        why: "runs the WebAssembly tests in node and in the browser",
        for_what: &[Use::Tests],
        state: exactly(found.as_ref(), &want),
        fix: Fix::Build("wasm-pack", WASM_PACK.into()),
    }
}

fn node(project: &Project) -> Result<Vec<Need>> {
    let want = Version::parse("20").expect("our own pin is a version");
    let missing = ["binaryen/bin/wasm-opt", "@xterm/xterm/lib/xterm.mjs", "playwright-core/package.json"]
        .into_iter()
        .filter_map(|file| match probe::npm_file(project, file) {
            Ok(Some(_)) => None,
            Ok(None) => Some(Ok(file)),
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(vec![
        Need {
            what: "node >= 20".into(),
            why: "runs wasm-opt, and the tests outside the browser",
            for_what: Use::ALL,
            state: at_least(probe::version("node").as_ref(), &want),
            fix: Fix::System(&["nodejs"]),
        },
        Need {
            what: "npm".into(),
            why: "fetches the packages of package-lock.json",
            for_what: Use::ALL,
            state: at_least(probe::version("npm").as_ref(), &Version::parse("7").expect("our own pin is a version")),
            fix: Fix::System(&["npm"]),
        },
        Need {
            what: "npm packages of package-lock.json".into(),
            why: "wasm-opt shrinks the page, xterm is its terminal, playwright-core drives the tests",
            for_what: &[Use::Page, Use::Tests],
            state: if missing.is_empty() { State::Ok(String::new()) } else { State::Missing },
            fix: Fix::Npm,
        },
    ])
}

fn browser() -> Need {
    let found = Browser::find();
    let browser = found.browser.and_then(probe::version);
    let driver = found.driver.and_then(probe::version);
    Need {
        what: "chromium + chromedriver, same major".into(),
        why: "the tests open the page in a real browser",
        for_what: &[Use::Tests],
        state: matching(browser.as_ref(), driver.as_ref()),
        fix: Fix::System(&["chromium", "chromium-driver"]),
    }
}

fn packages() -> Need {
    let apt = ["apt-get", "apt-cache"].iter().all(|name| probe::on_path(name).is_some());
    Need {
        what: "apt-get and apt-cache".into(),
        why: "fetch the Debian kernels of the Linux guests (without them the page still has `hello`)",
        for_what: &[Use::Images],
        state: if apt { State::Ok(String::new()) } else { State::Missing },
        fix: Fix::ByHand("build the Linux images on a Debian or Ubuntu system and copy images/out from there".into()),
    }
}

fn file_systems() -> Need {
    let there = ["mke2fs", "debugfs"].iter().all(|name| probe::administrators(name).is_some());
    Need {
        what: "mke2fs and debugfs".into(),
        why: "make the file systems of guests' disks",
        for_what: &[Use::Images],
        state: if there { State::Ok(String::new()) } else { State::Missing },
        fix: Fix::System(&["e2fsprogs"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).expect("test data")
    }

    fn sample(state: State) -> Need {
        Need { what: "tool 2".into(), why: "does it", for_what: Use::ALL, state, fix: Fix::Rustup("target", "t") }
    }

    #[test]
    fn another_version_is_wrong_and_none_is_missing() {
        assert_eq!(exactly(Some(&v("0.2.130")), &v("0.2.130")), State::Ok(String::new()));
        assert_eq!(exactly(Some(&v("0.2.129")), &v("0.2.130")), State::Wrong("0.2.129 found".into()));
        assert_eq!(exactly(Some(&v("0.2.131")), &v("0.2.130")), State::Wrong("0.2.131 found".into()));
        assert_eq!(exactly(None, &v("0.2.130")), State::Missing);
        assert_eq!(at_least(Some(&v("18.20.4")), &v("20")), State::Wrong("18.20.4 found".into()));
        assert_eq!(at_least(Some(&v("20.0.0")), &v("20")), State::Ok("20.0.0".into()));
        assert_eq!(at_least(None, &v("20")), State::Missing);
    }

    #[test]
    fn a_driver_of_another_major_version_is_wrong() {
        assert_eq!(matching(Some(&v("156.0.1.2")), Some(&v("156.0.9.9"))), State::Ok("156.0.1.2".into()));
        assert!(matches!(matching(Some(&v("156.0.1.2")), Some(&v("155.0.1.2"))), State::Wrong(_)));
        assert!(matches!(matching(Some(&v("156.0.1.2")), None), State::Wrong(_)));
        assert!(matches!(matching(None, Some(&v("156.0.1.2"))), State::Wrong(_)));
        assert_eq!(matching(None, None), State::Missing);
    }

    #[test]
    fn a_line_shows_the_fix_only_where_one_is_needed() {
        let project = Project { root: "/p".into(), cache: "/c".into() };
        assert!(!sample(State::Ok("2.1".into())).line(&project).contains("->"));
        let missing = sample(State::Missing).line(&project);
        assert!(missing.starts_with("MISSING") && missing.ends_with("does it -> rustup target add t"), "{missing}");
        let wrong = sample(State::Wrong("1 found".into())).line(&project);
        assert!(wrong.starts_with("WRONG") && wrong.contains("tool 2: 1 found"), "{wrong}");
        assert!(!missing.contains('\n') && !wrong.contains('\n'));
    }

    #[test]
    fn a_build_is_pinned_and_goes_to_the_cache() {
        let project = Project { root: "/p".into(), cache: "/c".into() };
        let command = Fix::Build("wasm-pack", "0.15.1".into()).command(&project);
        assert!(command.contains("--version 0.15.1") && command.contains("wasm-pack-0.15.1"), "{command}");
    }

    #[test]
    fn serve_asks_for_no_browser_and_no_wasm_pack() {
        let serve = |need: &Need| need.for_what.iter().any(|use_| Use::SERVE.contains(use_));
        let project = Project::find().expect("tests run under cargo");
        assert!(!serve(&browser()) && !serve(&wasm_pack(&project)));
    }
}
