//! A guest in the runner, as somebody at its terminal has it: built images, what is printed, what is typed.

#![allow(dead_code, reason = "no test needs all of it")]

use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// For a boot on a busy computer.
const BOOT: Duration = Duration::from_secs(300);
/// For a command.
const COMMAND: Duration = Duration::from_secs(60);
/// What the shell of our own images prints when it waits; the last part asks the terminal where the cursor is.
pub const PROMPT: &str = "root@tabvisor:/root# \x1b[6n";

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
    /// What the runner says.
    news: Receiver<Vec<u8>>,
    said: String,
    prompt: &'static str,
}

/// What comes through a pipe.
fn listen(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (to, heard) = channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = from.read(&mut bytes) {
            if to.send(bytes[..len].to_vec()).is_err() {
                return;
            }
        }
    });
    heard
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
        let typed = child.stdin.take().expect("it is piped");
        let printed = listen(child.stdout.take().expect("it is piped"));
        let news = listen(child.stderr.take().expect("it is piped"));
        Self { child, typed, printed, text: String::new(), news, said: String::new(), prompt }
    }
    /// Boots `linux64`, unless it is not built; `more` are further options of the runner.
    pub fn linux64(mode: &str, more: &[&str]) -> Option<Self> {
        let mut options = options(&image("linux64")?, mode);
        options.extend(more.iter().map(|&option| option.to_owned()));
        Some(Self::boot(&options, PROMPT))
    }

    /// Everything up to the first prompt.
    pub fn booted(&mut self) -> String {
        self.prompt(BOOT)
    }
    /// Everything up to the next prompt.
    fn prompt(&mut self, patience: Duration) -> String {
        self.wait(self.prompt, patience)
    }
    /// Everything up to a text, which is the last that is printed for now.
    pub fn until(&mut self, text: &str) -> String {
        self.wait(text, COMMAND)
    }
    /// Everything up to a text, which is the last that is printed for now.
    fn wait(&mut self, text: &str, patience: Duration) -> String {
        let end = Instant::now() + patience;
        while !self.text.ends_with(text) {
            match self.printed.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} after {patience:?}:\n{}", self.text),
                Err(RecvTimeoutError::Disconnected) => panic!("the runner ended:\n{}", self.text),
            }
        }
        std::mem::take(&mut self.text).replace('\r', "")
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
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

    /// A command of the runner, which was started with `--keys`.
    pub fn command(&mut self, line: &str) {
        self.type_line(&format!("\x01:{line}"));
    }

    /// Waits until the runner has said something once more.
    pub fn hear(&mut self, text: &str) {
        let (end, known) = (Instant::now() + COMMAND, self.said.len());
        while !self.said[known..].contains(text) {
            match self.news.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.said.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("the runner does not say {text:?}:\n{}\n{}", self.said, self.text),
            }
        }
    }

    /// Switches off; what the runner has said.
    pub fn power_off(mut self) -> String {
        self.type_line("poweroff");
        let said = self.ended().1;
        assert!(said.contains("the guest switched itself off"), "{said}");
        said
    }

    /// Waits for the runner's end; everything that was printed since the last prompt, and what the runner has said.
    pub fn ended(&mut self) -> (String, String) {
        let end = Instant::now() + COMMAND;
        while self.child.try_wait().expect("it is our child").is_none() {
            assert!(Instant::now() < end, "the runner still runs after {COMMAND:?}:\n{}", self.text);
            std::thread::sleep(Duration::from_millis(5));
        }
        while let Ok(bytes) = self.news.recv() {
            self.said.push_str(&String::from_utf8_lossy(&bytes));
        }
        while let Ok(bytes) = self.printed.recv() {
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
        (std::mem::take(&mut self.text).replace('\r', ""), self.said.clone())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // After a failed check it still runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
