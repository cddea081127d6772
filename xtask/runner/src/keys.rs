//! Tells the runner's own keys from the guest's: Ctrl-A is the prefix, as in QEMU's terminal.

/// Ctrl-A.
const PREFIX: u8 = 0x01;
/// Bytes of a command.
const COMMAND_MAX: usize = 80;

/// What the user asks of the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Ctrl-A x: leave at once.
    Leave,
    /// Ctrl-A r: press the reset button.
    Reset,
    /// Ctrl-A p: press the power button.
    Power,
    /// Ctrl-A s: print where the processor is.
    Status,
    /// Ctrl-A h: say which keys there are.
    Help,
    /// Ctrl-A : and a line with a command.
    Command(String),
    /// That line, as far as it has been typed; to be shown.
    Typing(String),
}

/// What Ctrl-A h prints.
pub const HELP: &str =
    "Ctrl-A then: x leave, r reset, p power button, s processor state, : a command, a Ctrl-A itself, h this";

/// Splits what was typed.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    prefixed: bool,
    /// The command that is being typed.
    command: Option<String>,
}

impl Keys {
    /// Bytes for the guest are appended to `guest`; a wish of the user ends the call, with the number of
    /// bytes looked at.
    pub fn take(&mut self, typed: &[u8], guest: &mut Vec<u8>) -> (usize, Option<Ask>) {
        for (at, &byte) in typed.iter().enumerate() {
            if let Some(line) = self.command.take() {
                return (at + 1, self.edit(line, byte));
            }
            if !self.prefixed {
                if byte == PREFIX {
                    self.prefixed = true;
                } else {
                    guest.push(byte);
                }
                continue;
            }
            self.prefixed = false;
            let ask = match byte.to_ascii_lowercase() {
                b'x' => Ask::Leave,
                b'r' => Ask::Reset,
                b'p' => Ask::Power,
                b's' => Ask::Status,
                b'h' | b'?' => Ask::Help,
                b':' => {
                    self.command = Some(String::new());
                    Ask::Typing(String::new())
                }
                b'a' | PREFIX => {
                    guest.push(PREFIX);
                    continue;
                }
                _ => continue,
            };
            return (at + 1, Some(ask));
        }
        (typed.len(), None)
    }

    /// Another byte of a command.
    fn edit(&mut self, mut line: String, byte: u8) -> Option<Ask> {
        /// Ctrl-C, Ctrl-D, Ctrl-U, Escape: never mind.
        const CANCEL: [u8; 4] = [0x03, 0x04, 0x15, 0x1b];
        match byte {
            b'\r' | b'\n' => return Some(Ask::Command(line)),
            _ if CANCEL.contains(&byte) => return Some(Ask::Command(String::new())),
            0x08 | 0x7f => drop(line.pop()),
            b' '..0x7f if line.len() < COMMAND_MAX => line.push(byte.into()),
            _ => {}
        }
        self.command = Some(line.clone());
        Some(Ask::Typing(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&[u8]]) -> (Vec<u8>, Vec<Ask>) {
        let (mut keys, mut guest, mut asks) = (Keys::default(), Vec::new(), Vec::new());
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let (taken, ask) = keys.take(rest, &mut guest);
                asks.extend(ask);
                rest = &rest[taken..];
            }
        }
        (guest, asks)
    }

    #[test]
    fn ordinary_bytes_and_ctrl_c_are_the_guests() {
        assert_eq!(all(&[b"ls\r", b"\x03\x1b[A\xff"]), (b"ls\r\x03\x1b[A\xff".to_vec(), vec![]));
    }

    #[test]
    fn the_prefix_works_across_reads() {
        assert_eq!(all(&[b"a\x01", b"xb"]), (b"ab".to_vec(), vec![Ask::Leave]));
        assert_eq!(all(&[b"\x01r\x01P\x01s\x01h"]), (vec![], vec![Ask::Reset, Ask::Power, Ask::Status, Ask::Help]));
    }

    #[test]
    fn a_command_is_a_line_that_can_be_edited_and_given_up() {
        let commands = |typed: &[u8]| -> Vec<Ask> {
            let (guest, asks) = all(&[typed]);
            assert_eq!(guest, b"z");
            asks.into_iter().filter(|a| !matches!(a, Ask::Typing(_))).collect()
        };
        let command = |text: &str| vec![Ask::Command(text.into())];
        assert_eq!(commands(b"\x01:sysrq x\x7fs\rz"), command("sysrq s"));
        assert_eq!(commands(b"\x01:halt\x03z"), command(""));
        let long = [b"\x01:", &[b'm'; 200][..], b"\nz"].concat();
        assert_eq!(commands(&long), command(&"m".repeat(COMMAND_MAX)));
        assert_eq!(all(&[b"\x01:h", b"i"]).1.last(), Some(&Ask::Typing("hi".into())));
    }

    #[test]
    fn ctrl_a_itself_can_be_typed_and_unknown_keys_are_dropped() {
        assert_eq!(all(&[b"\x01a\x01\x01\x01zq"]), (b"\x01\x01q".to_vec(), vec![]));
    }
}
