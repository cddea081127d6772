//! `print!` and the line editor, over the platform's console.

use crate::platform;
use core::fmt;

/// The console as a place to write to.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for b in s.bytes() {
            if b == b'\n' {
                platform::put(b'\r');
            }
            platform::put(b);
        }
        Ok(())
    }
}

/// Writes to the console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        // The console never fails.
        let _ = write!($crate::console::Console, $($arg)*);
    }};
}
/// Writes a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::print!("{}\n", format_args!($($arg)*)) };
}

/// The longest line.
const MAX: usize = 120;

/// A line being typed, and the one before it.
pub struct Line {
    text: [u8; MAX],
    len: usize,
    last: [u8; MAX],
    last_len: usize,
}

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Self { text: [0; MAX], len: 0, last: [0; MAX], last_len: 0 }
    }

    fn erase(&mut self, n: usize) {
        for _ in 0..n.min(self.len) {
            self.len -= 1;
            print!("\x08 \x08");
        }
    }

    fn insert(&mut self, b: u8) {
        if self.len < MAX {
            self.text[self.len] = b;
            self.len += 1;
            platform::put(b);
        }
    }

    /// Lets the user type a line: backspace, Ctrl-U (all away), Ctrl-C (none), up (the last one again).
    pub fn read(&mut self, prompt: &str) -> &str {
        print!("{prompt}");
        self.len = 0;
        loop {
            match platform::get() {
                b'\r' | b'\n' => break,
                8 | 127 => self.erase(1),
                0x15 => self.erase(MAX),
                3 => {
                    print!("^C");
                    self.len = 0;
                    break;
                }
                // A cursor key is ESC [ and a letter.
                0x1b if platform::get() == b'[' && platform::get() == b'A' => {
                    self.erase(MAX);
                    for i in 0..self.last_len {
                        self.insert(self.last[i]);
                    }
                }
                b @ b' '..=b'~' => self.insert(b),
                _ => {}
            }
        }
        println!();
        if self.len > 0 {
            (self.last, self.last_len) = (self.text, self.len);
        }
        core::str::from_utf8(&self.text[..self.len]).unwrap_or("").trim()
    }
}
