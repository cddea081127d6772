//! Debian's stock kernel with a display, in each mode of a domain: its text console is in the picture, and a shell there
//! does what is typed on the keyboard.

mod guest;

use guest::PROMPT;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tabvisor_core::time::{VmDuration, VmTime};
use tabvisor_devices::backend::display::{DisplayConfig, Rect};
use tabvisor_devices::backend::input::{Button, FAR, Pointer};
use tabvisor_devices::effect::{Effect, Input};
use tabvisor_devices::machine::{ClockPolicy, Config, Exit, Machine, Mode, Payload, Rate, Until};

/// Guest time for a boot, and for a command.
const BOOT: u64 = 60;
const COMMAND: u64 = 30;
/// Pixels of a letter.
const LETTER: (u32, u32) = (8, 16);

struct Guest {
    machine: Machine,
    text: String,
}

impl Guest {
    fn new(dir: &Path, name: &str) -> Self {
        let read = |file: &str| Arc::new(std::fs::read(dir.join(file)).expect("the image has it"));
        let manifest: Value = serde_json::from_slice(&read("manifest.json")).expect("a manifest is JSON");
        let cmdline = manifest["cmdlines"][name].as_str().expect("there is a command line");
        let config = Config {
            mode: Mode::by_name(name).expect("a mode"),
            clock: ClockPolicy::Deterministic(Rate::ONE),
            display: Some(DisplayConfig { width: 800, height: 600 }),
            payload: Payload {
                kernel: read("vmlinux.pack"),
                initrd: read("initrd"),
                // The last one is the console of init.
                cmdline: cmdline.replace("console=hvc0", "console=tty0 console=hvc0"),
            },
            ..Config::default()
        };
        Self { machine: Machine::new(config).expect("it boots"), text: String::new() }
    }
    /// Runs until `done`, for some seconds of the guest's time at most.
    fn run(&mut self, what: &str, seconds: u64, done: impl Fn(&mut Self) -> bool) {
        let end = self.machine.now() + VmDuration::from_nanos(seconds * 1_000_000_000);
        while !done(self) {
            assert!(self.machine.now() < end, "no {what} after {seconds} s:\n{}", self.text);
            let until = (self.machine.now() + VmDuration::from_nanos(10_000_000)).min(end);
            let exit = self.machine.run(Until::time(until));
            assert!(matches!(exit, Exit::Slice | Exit::Halted(_)), "{exit:?}");
            assert_ne!(exit, Exit::Halted(VmTime::NEVER), "it waits for nothing, without {what}");
            for effect in self.machine.take_effects() {
                if let Effect::Serial { bytes, .. } = effect {
                    self.text.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
        }
    }
    /// Types a line at the console of the hypervisor; what is printed up to the next prompt.
    fn command(&mut self, line: &str) -> String {
        self.text.clear();
        self.machine.input(&Input::Serial { port: 0, bytes: format!("{line}\n").into_bytes() });
        self.run("prompt", COMMAND, |g| g.text.ends_with(PROMPT));
        self.text.replace('\r', "")
    }
    fn key(&mut self, code: u16) {
        for pressed in [true, false] {
            self.machine.input(&Input::Key { code, pressed });
        }
    }
    /// Types small letters, digits, spaces and ends of lines on the keyboard.
    fn keyboard(&mut self, text: &str) {
        const ROWS: [(u16, &str); 4] =
            [(2, "1234567890-="), (16, "qwertyuiop[]\n"), (30, "asdfghjkl;'`"), (44, "zxcvbnm,./")];
        for letter in text.chars() {
            let found = ROWS.iter().find_map(|(first, row)| row.find(letter).map(|n| first + n as u16));
            self.key(found.unwrap_or(57));
        }
    }
    fn picture(&mut self, part: Rect) -> Vec<u8> {
        let mut to = vec![0; part.area() as usize * 4];
        self.machine.display().expect("there is one").copy(part, &mut to);
        to
    }
    /// The cell of a letter.
    fn cell(&mut self, column: u32, line: u32) -> Vec<u8> {
        let (width, height) = LETTER;
        self.picture(Rect { x: column * width, y: line * height, width, height })
    }
    /// Keeps the whole picture for people.
    fn save(&mut self, name: &str) {
        let whole = Rect { x: 0, y: 0, width: 800, height: 600 };
        let mut ppm = b"P6\n800 600\n255\n".to_vec();
        ppm.extend(self.picture(whole).chunks(4).flat_map(|p| &p[..3]));
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("display-{name}.ppm"));
        std::fs::write(&file, ppm).expect("the folder for tests can be written to");
        println!("the picture is in {}", file.display());
    }
}

fn visit(name: &str) {
    let Some(dir) = guest::image("linux64") else { return };
    let mut g = Guest::new(&dir, name);
    g.run("prompt", BOOT, |g| g.text.ends_with(PROMPT));
    let mode = g.machine.display().and_then(|d| d.mode()).expect("the kernel drives it");
    assert_eq!((mode.width, mode.height), (800, 600));
    assert!(g.command("cat /sys/class/graphics/fb0/name").contains("xen\n"));

    // The same letters look the same, and what is erased is black.
    g.command("printf '\\033[2J\\033[?25l\\033[HHHI' > /dev/tty1");
    let (h, other, i, blank) = (g.cell(0, 0), g.cell(1, 0), g.cell(2, 0), g.cell(3, 0));
    assert_eq!((&h, h == i), (&other, false));
    assert!(h.chunks(4).any(|p| p[0] > 100) && blank.chunks(4).all(|p| *p == [0, 0, 0, 255]));

    // What changes is where it is written.
    g.machine.display().expect("there is one").take_damage();
    g.command("printf '\\033[20;41HX' > /dev/tty1");
    let damage = g.machine.display().expect("there is one").take_damage();
    let covers = |r: &Rect| (r.x..r.x + r.width).contains(&320) && (r.y..r.y + r.height).contains(&304);
    assert!(damage.iter().any(covers), "{damage:?}");

    g.command("setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1' &");
    g.keyboard("ls /sys\ntouch /tmp/typed-by-hand\n");
    g.run("answer to keys", COMMAND, |g| g.command("ls /tmp").contains("typed-by-hand\n"));
    // Pointers: what the kernel's driver makes of them is in the old protocol of mice.
    g.command("head -c 3 /dev/input/mice | od -An -tx1 > /tmp/mouse &");
    g.machine.input(&Input::Pointer(Pointer::Button { button: Button::Left, pressed: true }));
    g.run("answer to a button", COMMAND, |g| g.command("cat /tmp/mouse").contains(" 09 00 00\n"));
    // To a mouse, the lower right corner is far to the right and down: as far as a report can say.
    g.command("head -c 3 /dev/input/mice | od -An -tx1 > /tmp/mouse &");
    g.machine.input(&Input::Pointer(Pointer::Position { x: FAR, y: FAR }));
    g.run("answer to a position", COMMAND, |g| g.command("cat /tmp/mouse").contains(" 29 7f 81\n"));
    g.save(name);
}

#[test]
fn a_paravirtualized_domain_has_a_console_on_its_display() {
    visit("pv");
}

#[test]
fn a_domain_with_its_own_paging_has_a_console_on_its_display() {
    visit("pvh");
}
