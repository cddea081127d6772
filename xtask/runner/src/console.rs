//! Standard input and output as the guest's console.

use crate::keys::{Ask, Keys};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

/// Typed bytes that wait for the guest; more are left in the pipe.
const PENDING: usize = 4096;

/// What the user types, and a place for what the guest prints.
pub struct Console {
    typed: Receiver<Vec<u8>>,
    keys: Option<Keys>,
    /// Typed, and not yet taken by the guest.
    pub pending: VecDeque<u8>,
    asks: VecDeque<Ask>,
    /// Somebody sees what he types.
    shows_commands: bool,
    /// Nobody will type any more.
    pub closed: bool,
}

impl Console {
    /// Reads standard input from now on; with `own_keys` the runner's are told apart. `terminal`: they are typed there.
    pub fn open(own_keys: bool, terminal: bool) -> Self {
        let (to, typed) = sync_channel(4);
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            // Ends with the input, or when nobody listens any more.
            while let Ok(len @ 1..) = io::stdin().lock().read(&mut buffer) {
                if to.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keys = own_keys.then(Keys::default);
        let (pending, asks) = (VecDeque::new(), VecDeque::new());
        Self { typed, keys, pending, asks, shows_commands: terminal, closed: false }
    }

    /// The next wish of the user; takes what was typed without waiting.
    pub fn ask(&mut self) -> Option<Ask> {
        while self.pending.len() < PENDING && !self.closed {
            match self.typed.try_recv() {
                Ok(bytes) => self.sort(&bytes),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.closed = true,
            }
        }
        self.asks.pop_front()
    }

    /// Sleeps until something is typed or `limit` is over.
    pub fn wait(&mut self, limit: Duration) {
        if self.closed || self.pending.len() >= PENDING {
            std::thread::sleep(limit);
            return;
        }
        match self.typed.recv_timeout(limit) {
            Ok(bytes) => self.sort(&bytes),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.closed = true,
        }
    }

    fn sort(&mut self, mut bytes: &[u8]) {
        let Some(keys) = &mut self.keys else {
            self.pending.extend(bytes);
            return;
        };
        while !bytes.is_empty() {
            let mut guest = Vec::new();
            let (taken, ask) = keys.take(bytes, &mut guest);
            self.pending.extend(guest);
            self.asks.extend(ask);
            bytes = &bytes[taken..];
        }
    }

    /// Shows what the guest printed.
    pub fn print(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Shows a command that is being typed.
    pub fn show_command(&self, line: &str) {
        if self.shows_commands {
            let _ = write!(io::stderr().lock(), "\r\x1b[K:{line}");
        }
    }
    /// It is typed.
    pub fn end_command(&self) {
        if self.shows_commands {
            let _ = write!(io::stderr().lock(), "\r\n");
        }
    }

    /// Shows a message of the runner, on lines of its own even on a raw terminal.
    pub fn say(&self, text: &str) {
        let mut err = io::stderr().lock();
        for line in text.lines() {
            let _ = write!(err, "\r\n[{line}]"); // a closed terminal has no reader anyway
        }
        let _ = write!(err, "\r\n");
    }
}
