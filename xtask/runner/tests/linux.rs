//! Debian's stock kernel in a terminal, in each mode of the image `linux64`: to the shell, a few commands, and off.

use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// For a boot on a busy computer; what it took is printed.
const BOOT: Duration = Duration::from_secs(300);
/// For a command.
const COMMAND: Duration = Duration::from_secs(60);
/// What the shell prints when it waits; the last part asks the terminal where the cursor is.
const PROMPT: &str = "root@tabvisor:/root# \x1b[6n";

/// Where the image is built, unless it is not.
fn image() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/out/linux64");
    if dir.join("manifest.json").exists() {
        return Some(dir);
    }
    println!("SKIPPED: there is no {}; `cargo xtask image linux64` makes it", dir.display());
    None
}

/// A guest in a terminal.
struct Guest {
    child: Child,
    typed: ChildStdin,
    printed: Receiver<Vec<u8>>,
    text: String,
}

impl Guest {
    fn boot(dir: &Path, mode: &str) -> Self {
        let text = std::fs::read_to_string(dir.join("manifest.json")).expect("it is there");
        let manifest: Value = serde_json::from_str(&text).expect("a manifest is JSON");
        let cmdline = manifest["cmdlines"][mode].as_str().or_else(|| manifest["cmdline"].as_str());
        let mut child = Command::new(env!("CARGO_BIN_EXE_tabvisor-runner"))
            .args(["--mode", mode, "--mem", "256", "--cmdline", cmdline.expect("there is a command line")])
            .arg("--kernel")
            .arg(dir.join("vmlinux.pack"))
            .arg("--initrd")
            .arg(dir.join("initrd"))
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
        Self { child, typed, printed, text: String::new() }
    }

    /// Everything up to the next prompt.
    fn prompt(&mut self, patience: Duration) -> String {
        let end = Instant::now() + patience;
        while !self.text.ends_with(PROMPT) {
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

    /// What a command prints.
    fn answer(&mut self, command: &str) -> String {
        self.type_line(command);
        let text = self.prompt(COMMAND);
        let body = text.strip_prefix(command).and_then(|rest| rest.strip_suffix(PROMPT));
        body.unwrap_or_else(|| panic!("no echo of {command:?} in {text:?}")).trim().to_owned()
    }

    /// Switches off; what the runner says last.
    fn power_off(mut self) -> String {
        self.type_line("poweroff");
        let end = Instant::now() + COMMAND;
        while self.child.try_wait().expect("it is our child").is_none() {
            assert!(Instant::now() < end, "still running {COMMAND:?} after poweroff");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut said = String::new();
        let mut err = self.child.stderr.take().expect("it is piped");
        err.read_to_string(&mut said).expect("the runner writes text");
        said
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // After a failed check it still runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Boots, asks, switches off; each of `asks` is a command and what its answer holds. Commands have up to 58 letters:
/// the shell breaks longer lines.
fn visit(mode: &str, asks: &[(&str, &str)]) {
    let Some(dir) = image() else { return };
    let start = Instant::now();
    let mut guest = Guest::boot(&dir, mode);
    let boot = guest.prompt(BOOT);
    println!("{mode}: {:.1} s to the prompt", start.elapsed().as_secs_f64());
    assert!(boot.contains("Welcome to Linux in Tabvisor"), "{boot}");
    let everywhere = [
        ("uname -sm", "Linux x86_64"),
        ("i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo =$i=", "=2000="),
        ("ls / | sort | head -n 2 | tr '\\n' ' '", "bin dev"),
        // A pipe, two processes, and memory that is written and given back.
        ("head -c 8000000 /dev/zero | md5sum | cut -c1-8", "14d20d18"),
        ("ip addr show lo | grep -c 127.0.0.1/8", "1"),
        ("dmesg | grep -cE 'BUG:|WARNING:|Oops'", "0"),
    ];
    for (command, says) in everywhere.iter().chain(asks) {
        let answer = guest.answer(command);
        assert!(answer.contains(says), "{command}: {answer}, expected {says}");
    }
    let said = guest.power_off();
    assert!(said.contains("the guest switched itself off"), "{said}");
}

#[test]
fn a_stock_kernel_runs_as_a_paravirtualized_domain_and_switches_itself_off() {
    visit(
        "pv",
        &[
            ("cat /sys/hypervisor/type", "xen"),
            ("dmesg | grep -o 'Hypervisor detected.*'", "Xen PV"),
            ("cat /sys/class/tty/console/active", "hvc0"),
            ("cat /sys/devices/system/clocksource/*/current*", "xen"),
        ],
    );
}

#[test]
fn the_same_kernel_runs_on_a_pc() {
    visit("pc", &[("ls /sys/hypervisor | wc -l", "0"), ("cat /sys/class/tty/console/active", "ttyS0")]);
}
