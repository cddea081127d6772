//! The terminal of whoever started the runner: raw while a guest uses it, as it was afterwards.

use std::io::{self, IsTerminal};

/// Holds the terminal raw; puts it back when dropped.
pub struct Raw {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl Raw {
    /// Makes standard input raw if it is a terminal: no echo, no line editing, no signals from keys.
    pub fn enter() -> io::Result<Self> {
        #[cfg(unix)]
        {
            if !io::stdin().is_terminal() {
                return Ok(Self { before: None });
            }
            let before = rustix::termios::tcgetattr(io::stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &raw)?;
            // A panic ends the process without dropping anything, and its message should be readable.
            let (saved, old) = (before.clone(), std::panic::take_hook());
            std::panic::set_hook(Box::new(move |info| {
                restore(&saved);
                old(info);
            }));
            Ok(Self { before: Some(before) })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Whether keys arrive one by one.
    pub fn is_raw(&self) -> bool {
        #[cfg(unix)]
        return self.before.is_some();
        #[cfg(not(unix))]
        false
    }
}

#[cfg(unix)]
fn restore(before: &rustix::termios::Termios) {
    let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, before);
}

impl Drop for Raw {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(before) = &self.before {
            restore(before);
        }
    }
}
