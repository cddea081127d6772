//! What a machine asks of the world ([`Effect`]) and what the world tells it ([`Input`]).
//! Effects leave in batches after a slice; inputs arrive between slices, so that the same
//! inputs at the same guest times give the same run.

use crate::backend::input::Pointer;

/// Why the guest asked for a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// The reset control register CF9h.
    Cf9,
    /// Fast reset through port 92h.
    Port92,
    /// The keyboard controller's pulse command or output port.
    Keyboard,
    /// A triple fault: chipsets answer the processor's shutdown cycle with a reset.
    TripleFault,
    /// The guest asked its hypervisor.
    Guest,
    /// The runner pressed the button.
    Button,
}

/// A request to the world outside of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Bytes sent by serial port `port` (0 = COM1).
    Serial {
        /// Which serial port.
        port: u8,
        /// In the order the guest sent them.
        bytes: Vec<u8>,
    },
    /// Bytes written to the debug console.
    Debug(Vec<u8>),
    /// A test program has ended with this code, told by the test device. [`Effect::PowerOff`] follows.
    TestEnd(u32),
    /// Soft off. The run loop reports it as an exit.
    PowerOff,
    /// The guest wants to start over. The run loop reports it as an exit.
    Reset(ResetCause),
    /// Sectors of a disk are needed: the answer is [`Input::BlockData`].
    BlockRead {
        /// Number of the disk.
        disk: u8,
        /// The first sector.
        first: u64,
        /// How many there are.
        count: u32,
        /// Comes back with the answer.
        ticket: u64,
    },
    /// A network card sends an Ethernet frame, without its check sequence.
    Frame {
        /// Number of the card.
        nic: u8,
        /// From the destination's address on.
        bytes: Vec<u8>,
    },
    /// The guest is suspended: nothing happens until somebody resumes it ([`Control::Resume`]).
    Suspended,
    /// Something a developer wants to know. Bounded: each cause is reported once per reset.
    Log(String),
}

/// What a toolstack wants of a domain, which learns of it through xenstore (Xen: docs/misc/xenstore-paths.pandoc). Whether
/// it obeys is up to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// It is to end, in this way: `control/shutdown`.
    Shutdown(Shutdown),
    /// Its kernel is to obey a key, as with SysRq on a keyboard: `control/sysrq`. An ASCII character.
    SysRq(u8),
    /// It is suspended ([`Effect::Suspended`]) and goes on; a guest that is not takes no notice.
    Resume {
        /// Nothing has come of it: it is what it was. Else it is as a domain that was restored.
        cancelled: bool,
    },
    /// It is to have so many bytes of memory, of those that it may have at most: `memory/target`.
    Memory(u64),
}

/// What was said is nothing that can be asked of a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be asked of a domain; {words}", words = Control::WORDS)]
pub struct NoControl(String);

impl Control {
    /// The words for it, for people.
    pub const WORDS: &str = "\
poweroff, halt, reboot, suspend (the guest is asked to);
resume (a suspended guest goes on as one that was restored), resume cancelled (as one that was not saved);
sysrq KEY (its kernel obeys a key); memory MB (it gives memory back, or takes it)";
}

impl core::str::FromStr for Control {
    type Err = NoControl;

    /// From its words.
    fn from_str(line: &str) -> Result<Self, NoControl> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mib = |text: &str| text.parse::<u32>().ok();
        Ok(match words[..] {
            ["memory", text] if mib(text).is_some() => Control::Memory(u64::from(mib(text).unwrap_or(0)) << 20),
            ["poweroff"] => Control::Shutdown(Shutdown::PowerOff),
            ["halt"] => Control::Shutdown(Shutdown::Halt),
            ["reboot"] => Control::Shutdown(Shutdown::Reboot),
            ["suspend"] => Control::Shutdown(Shutdown::Suspend),
            ["resume"] => Control::Resume { cancelled: false },
            ["resume", "cancelled"] => Control::Resume { cancelled: true },
            ["sysrq", key] if key.len() == 1 => Control::SysRq(key.as_bytes()[0]),
            _ => return Err(NoControl(line.to_owned())),
        })
    }
}

/// Ways in which a domain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It switches itself off.
    PowerOff,
    /// It stops; for most guests that is the same.
    Halt,
    /// It starts again.
    Reboot,
    /// It comes to rest, and waits to be resumed ([`Control::Resume`]).
    Suspend,
}

/// News from the world outside of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes for serial port `port` (0 = COM1). What does not fit the port's queue is dropped;
    /// ask how much fits first.
    Serial {
        /// Which serial port.
        port: u8,
        /// In the order of arrival.
        bytes: Vec<u8>,
    },
    /// A break condition on serial port `port`.
    SerialBreak {
        /// Which serial port.
        port: u8,
    },
    /// The power button is pressed: the guest is asked to shut down.
    PowerButton,
    /// The reset button is pressed.
    ResetButton,
    /// The answer to [`Effect::BlockRead`].
    BlockData {
        /// Number of the disk.
        disk: u8,
        /// The request's.
        ticket: u64,
        /// All that was asked for; `None` if it cannot be had.
        bytes: Option<Vec<u8>>,
    },
    /// An Ethernet frame arrives at a network card, without its check sequence.
    Frame {
        /// Number of the card.
        nic: u8,
        /// From the destination's address on.
        bytes: Vec<u8>,
    },
    /// A key of the keyboard is pressed or released; pressed again without a release, it repeats.
    Key {
        /// Which one: see [`crate::backend::input`].
        code: u16,
        /// Pressed, or released.
        pressed: bool,
    },
    /// The pointer does something.
    Pointer(Pointer),
    /// What a toolstack wants of a domain. Nothing else takes notice of it.
    Control(Control),
    /// What the host's clock says: seconds since 1970-01-01 00:00 UTC.
    WallClock(i64),
}

/// Appends serial output, joining it to the batch that is already there.
pub fn push_serial(out: &mut Vec<Effect>, to: u8, byte: u8) {
    if let Some(Effect::Serial { port, bytes }) = out.last_mut() {
        if *port == to {
            bytes.push(byte);
            return;
        }
    }
    out.push(Effect::Serial { port: to, bytes: vec![byte] });
}

/// Appends debug output, joining it to the batch that is already there.
pub fn push_debug(out: &mut Vec<Effect>, byte: u8) {
    match out.last_mut() {
        Some(Effect::Debug(bytes)) => bytes.push(byte),
        _ => out.push(Effect::Debug(vec![byte])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_batched_per_port_and_keeps_its_order() {
        let mut out = Vec::new();
        for (port, byte) in [(0, b'a'), (0, b'b'), (1, b'c'), (0, b'd')] {
            push_serial(&mut out, port, byte);
        }
        push_debug(&mut out, b'x');
        push_debug(&mut out, b'y');
        assert_eq!(
            out,
            [
                Effect::Serial { port: 0, bytes: b"ab".to_vec() },
                Effect::Serial { port: 1, bytes: b"c".to_vec() },
                Effect::Serial { port: 0, bytes: b"d".to_vec() },
                Effect::Debug(b"xy".to_vec()),
            ]
        );
    }
}
