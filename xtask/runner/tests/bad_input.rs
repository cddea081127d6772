//! What the runner says about files and settings that no machine can be made of: on standard error what is wrong,
//! with which file, and what to do; a failing exit code; never a panic; the terminal as it was.

#[path = "../../../web/tests/common/elf.rs"]
mod elf;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// No mistake takes this long to find, however busy the computer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of files that goes away with the test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tabvisor-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("the temporary folder can be written");
        Self(dir)
    }
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).expect("the temporary folder can be written");
        self.path(name)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the runner to its end with `typed` on its standard input.
fn run(args: &[&str], typed: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tabvisor-runner"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the runner starts");
    // A runner that refuses its files does not read what is typed.
    let _ = child.stdin.take().expect("it is piped").write_all(typed);
    let end = Instant::now() + PATIENCE;
    while child.try_wait().expect("it is our child").is_none() {
        if Instant::now() > end {
            child.kill().expect("it is our child");
            panic!("{args:?}: still running after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("it has ended")
}

/// Expects a failure whose message holds every one of `says`.
fn fails(args: &[&str], says: &[&str]) {
    let out = run(args, b"");
    let (text, shown) = (String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout));
    assert_eq!(out.status.code(), Some(1), "{args:?}: {text}");
    assert!(text.starts_with("error: ") && !text.contains("panicked"), "{args:?}: {text}");
    assert_eq!(shown, "", "{args:?}: a message belongs on standard error");
    for word in says {
        assert!(text.contains(word), "{args:?}: no {word:?} in: {text}");
    }
}

#[test]
fn a_bad_kernel_is_named_with_what_is_wrong_and_what_to_do() {
    let files = Files::new("kernel");
    let tiny = elf::tiny();
    let mut arm = tiny.clone();
    arm[18] = 183; // EM_AARCH64
    let mut object = tiny.clone();
    object[16] = 1; // ET_REL
    let packed = [&b"TVPACK1\n"[..], &[0; 8]].concat();
    let bz = {
        let mut k = vec![0; 0x400];
        k[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        k[0x202..0x206].copy_from_slice(b"HdrS");
        k[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        k[0x1f4..0x1f8].copy_from_slice(&0x1000u32.to_le_bytes());
        k[0x211] = 1;
        k[0x201] = 0x6a;
        k
    };
    let cases: [(&str, &[u8], &[&str]); 11] = [
        ("cut.elf", &tiny[..tiny.len() - 8], &["cut off", "load or build the file again"]),
        ("header.elf", &tiny[..30], &["cut off"]),
        ("cut.bz", &bz, &["cut off", "protected-mode code"]),
        ("cut.pack", &packed, &["damaged", "unpacked length"]),
        ("notes.txt", b"just some notes\n", &["not a kernel", "use a Linux bzImage"]),
        ("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &["not a kernel", "use a Linux bzImage"]),
        ("page.html", b"<!doctype html><title>404</title>", &["not a kernel", "error page"]),
        ("kernel.gz", b"\x1f\x8b\x08\0\0\0", &["not a kernel", "unpack it first"]),
        ("arm.elf", &arm, &["another machine", "use a Linux bzImage"]),
        ("object.elf", &object, &["not an executable"]),
        ("empty", b"", &["is empty"]),
    ];
    for (name, bytes, says) in cases {
        let path = files.write(name, bytes);
        fails(&["--kernel", &path], &[says, &["cannot boot", name]].concat());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let files = Files::new("unread");
    let kernel = files.write("kernel", &elf::tiny());
    let says = ["cannot read", "check that"];
    fails(&["--kernel", &files.path("nowhere")], &[&says[..], &["nowhere"]].concat());
    fails(&["--kernel", &kernel, "--initrd", &files.path("nothing")], &[&says[..], &["nothing"]].concat());
    fails(&["--kernel", &files.path("")], &says);
    fails(&[], &["no kernel", "--kernel FILE"]);
}

#[cfg(unix)]
#[test]
fn a_file_without_an_end_is_too_large() {
    fails(&["--kernel", "/dev/zero"], &["cannot boot /dev/zero", "use a smaller file"]);
}

#[test]
fn memory_that_cannot_be_is_refused_with_what_could() {
    let files = Files::new("memory");
    let kernel = files.write("kernel", &elf::tiny());
    let initrd = files.write("initrd", &vec![0x55; 30 << 20]);
    for mem in ["0", "3073", "4096", "18446744073709551615"] {
        fails(&["--kernel", &kernel, "--mem", mem], &["bytes of memory", "give it 2 to 3072 MiB"]);
    }
    for mem in ["lots", "-1", ""] {
        fails(&["--kernel", &kernel, "--mem", mem], &["is not a number"]);
    }
    fails(&["--kernel", &kernel, "--mem", "1"], &["needs 2 MiB", "give it at least 2 MiB"]);
    fails(&["--kernel", &kernel, "--mem", "2"], &["needs", "give it at least"]);
    fails(&["--kernel", &kernel, "--initrd", &initrd, "--mem", "16"], &["initrd", "give the machine at least 33 MiB"]);
    fails(&["--kernel", &kernel, "--cpu", "z80"], &["z80", "x86-64-v2"]);
}

#[test]
fn a_good_kernel_still_runs_to_its_end() {
    let files = Files::new("good");
    let kernel = files.write("kernel", &elf::tiny());
    let out = run(&["--kernel", &kernel, "--mem", "16"], b"q");
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{text}");
    assert!(String::from_utf8_lossy(&out.stdout).starts_with("tiny\n"), "{text}");
}

/// On a terminal of its own, made by `script` (util-linux): its settings before and after.
#[cfg(target_os = "linux")]
#[test]
fn the_terminal_is_as_it_was_after_a_failure_and_after_a_run() {
    let files = Files::new("terminal");
    let kernel = files.write("kernel", &elf::tiny());
    let runner = env!("CARGO_BIN_EXE_tabvisor-runner");
    // Ctrl-A x leaves.
    let script = format!(
        "echo = $(stty -g); {runner} --kernel /nowhere; echo rc $?; {runner} --kernel {kernel} --mem 16; echo rc $?; echo = $(stty -g)"
    );
    let mut child = match Command::new("script")
        .args(["-qec", &script, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            println!("SKIPPED: no `script` to make a terminal with: {error}");
            return;
        }
    };
    child.stdin.take().expect("it is piped").write_all(b"\x01x").expect("script reads");
    let out = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&out.stdout).replace('\r', "");
    let settings: Vec<&str> = text.lines().filter_map(|line| line.split_once("= ")).map(|(_, after)| after).collect();
    assert!(settings.len() == 2 && settings[0].contains(':'), "{text}");
    assert_eq!(settings[0], settings[1], "{text}");
    assert!(text.contains("rc 1") && text.contains("rc 0") && text.contains("cannot read /nowhere"), "{text}");
}
