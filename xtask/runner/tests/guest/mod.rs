//! A guest in the runner, as somebody at its terminal has it: built images, what is printed, what is typed.

use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// For a boot on a busy computer.
pub const BOOT: Duration = Duration::from_secs(300);
/// For a command.
const COMMAND: Duration = Duration::from_secs(60);

/// Where the image is built, unless it is not.
pub fn image(name: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/out").join(name);
    if dir.join("manifest.json").exists() {
        return Some(dir);
    }
    println!("SKIPPED: there is no {}; `cargo xtask image {name}` makes it", dir.display());
    None
}

/// The runner's options for an image in one of its modes, as `cargo xtask run` has them.
pub fn options(dir: &Path, mode: &str) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("manifest.json")).expect("it is there");
    let manifest: Value = serde_json::from_str(&text).expect("a manifest is JSON");
    let cmdline = manifest["cmdlines"][mode].as_str().or_else(|| manifest["cmdline"].as_str());
    let mut options = vec!["--mode", mode, "--cmdline", cmdline.expect("there is a command line")];
    let memory = manifest["memory"].to_string();
    options.extend(["--mem", &memory]);
    let mut options: Vec<String> = options.into_iter().map(str::to_owned).collect();
    // Later ones win: a kernel for this mode alone comes behind the one for all.
    let own = format!("kernel-{mode}");
    for file in manifest["files"].as_array().expect("it has files") {
        let role = file["role"].as_str().expect("a file has a role");
        let role = if role == own { "kernel" } else { role };
        if ["kernel", "initrd", "disk"].contains(&role) {
            let path = dir.join(file["path"].as_str().expect("a file has a path"));
            options.extend([format!("--{role}"), path.to_str().expect("paths here are text").to_owned()]);
        }
    }
    options
}

/// A guest in a terminal.
pub struct Guest {
    child: Child,
    typed: ChildStdin,
    printed: Receiver<Vec<u8>>,
    text: String,
    prompt: &'static str,
}

impl Guest {
    /// Boots with the runner's options; `prompt` is what its shell prints when it waits.
    pub fn boot(options: &[String], prompt: &'static str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tabvisor-runner"))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the runner starts");
        let (typed, mut out) = (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
        let (to, printed) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = out.read(&mut bytes) {
                if to.send(bytes[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, typed, printed, text: String::new(), prompt }
    }

    /// Everything up to the next prompt.
    pub fn prompt(&mut self, patience: Duration) -> String {
        let end = Instant::now() + patience;
        while !self.text.ends_with(self.prompt) {
            match self.printed.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => panic!("no prompt after {patience:?}:\n{}", self.text),
                Err(RecvTimeoutError::Disconnected) => panic!("the runner ended:\n{}", self.text),
            }
        }
        std::mem::take(&mut self.text).replace('\r', "")
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.typed, "{line}").expect("the runner reads");
    }

    /// What a command prints. Commands have up to 58 letters: busybox's shell breaks longer lines.
    pub fn answer(&mut self, command: &str) -> String {
        self.type_line(command);
        let text = self.prompt(COMMAND);
        let body = text.strip_prefix(command).and_then(|rest| rest.strip_suffix(self.prompt));
        body.unwrap_or_else(|| panic!("no echo of {command:?} in {text:?}")).trim().to_owned()
    }

    /// Asks: each command with what its answer holds.
    pub fn ask(&mut self, asks: &[(&str, &str)]) {
        for (command, says) in asks {
            let answer = self.answer(command);
            assert!(answer.contains(says), "{command}: {answer}, expected {says}");
        }
    }

    /// Switches off, and looks at what the runner says last.
    pub fn power_off(mut self) {
        self.type_line("poweroff");
        let end = Instant::now() + COMMAND;
        while self.child.try_wait().expect("it is our child").is_none() {
            assert!(Instant::now() < end, "still running {COMMAND:?} after poweroff");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut said = String::new();
        let mut err = self.child.stderr.take().expect("it is piped");
        err.read_to_string(&mut said).expect("the runner writes text");
        assert!(said.contains("the guest switched itself off"), "{said}");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // After a failed check it still runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
