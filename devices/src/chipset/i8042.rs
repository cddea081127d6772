//! The 8042 keyboard controller with nothing plugged in. Source: IBM PS/2 Hardware Interface
//! Technical Reference, "Keyboard and auxiliary device controller". A byte for a device that is
//! not there is answered as the controller does when a device stays silent: FEh with the time-out
//! bit, so that drivers give up at once.
//!
//! Offsets: 0 data (port 60h), 1 command and status (port 64h).

use crate::device::{Cx, Device, put_state, read_bytes, write_bytes};
use crate::effect::{Effect, ResetCause};
use crate::irq::IrqLine;
use serde::{Deserialize, Serialize};

// Status register.
const OBF: u8 = 0x01;
const SYSTEM: u8 = 0x04;
const LAST_WAS_COMMAND: u8 = 0x08;
const NOT_INHIBITED: u8 = 0x10;
const AUX_OBF: u8 = 0x20;
const TIME_OUT: u8 = 0x40;
// Controller command byte.
const CONFIG_IRQ1: u8 = 0x01;
const CONFIG_IRQ12: u8 = 0x02;
const CONFIG_SYSTEM: u8 = 0x04;
const CONFIG_NO_KEYBOARD: u8 = 0x10;
const CONFIG_NO_AUX: u8 = 0x20;
// Output port.
const OUT_NOT_RESET: u8 = 0x01;
const OUT_A20: u8 = 0x02;
const OUT_OBF: u8 = 0x10;
const OUT_AUX_OBF: u8 = 0x20;
/// What the controller reports for a silent device: "resend".
const NO_ANSWER: u8 = 0xfe;

/// Where the byte in the output buffer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum From {
    Controller,
    Keyboard,
    Aux,
}

/// Everything the guest can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The controller's memory; byte 0 is the command byte.
    memory: [u8; 32],
    output: Option<(u8, From, bool)>,
    /// What stays visible after a read.
    last: u8,
    /// A command that waits for its parameter.
    command: Option<u8>,
    last_was_command: bool,
    output_port: u8,
}

impl Default for State {
    fn default() -> Self {
        let mut memory = [0; 32];
        memory[0] = CONFIG_NO_KEYBOARD | CONFIG_NO_AUX | CONFIG_SYSTEM;
        let output_port = OUT_NOT_RESET | OUT_A20;
        Self { memory, output: None, last: 0, command: None, last_was_command: false, output_port }
    }
}

/// The controller.
pub struct I8042 {
    state: State,
    keyboard: IrqLine,
    aux: IrqLine,
}

impl I8042 {
    /// A controller that drives `keyboard` (IRQ 1) and `aux` (IRQ 12).
    pub fn new(keyboard: IrqLine, aux: IrqLine) -> Self {
        Self { state: State::default(), keyboard, aux }
    }

    fn config(&mut self) -> &mut u8 {
        &mut self.state.memory[0]
    }
    fn answer(&mut self, v: u8) {
        self.state.output = Some((v, From::Controller, false));
    }
    fn silence_of(&mut self, device: From) {
        self.state.output = Some((NO_ANSWER, device, true));
    }

    fn update_irq(&self, cx: &mut Cx<'_>) {
        let config = self.state.memory[0];
        let from = self.state.output.map(|(_, from, _)| from);
        cx.irq.set(self.keyboard, config & CONFIG_IRQ1 != 0 && from.is_some_and(|f| f != From::Aux));
        cx.irq.set(self.aux, config & CONFIG_IRQ12 != 0 && from == Some(From::Aux));
    }

    fn status(&self) -> u8 {
        let mut v = NOT_INHIBITED | self.state.memory[0] & SYSTEM;
        if self.state.last_was_command {
            v |= LAST_WAS_COMMAND;
        }
        if let Some((_, from, time_out)) = self.state.output {
            v |= OBF | if from == From::Aux { AUX_OBF } else { 0 } | if time_out { TIME_OUT } else { 0 };
        }
        v
    }

    fn command(&mut self, cx: &mut Cx<'_>, v: u8) {
        self.state.last_was_command = true;
        self.state.command = None;
        match v {
            0x20..=0x3f => self.answer(self.state.memory[usize::from(v & 0x1f)]),
            // Write memory; output port; keyboard and aux output buffer; to the aux device.
            0x60..=0x7f | 0xd1..=0xd4 => self.state.command = Some(v),
            0xa7 => *self.config() |= CONFIG_NO_AUX,
            0xa8 => *self.config() &= !CONFIG_NO_AUX,
            0xa9 | 0xab => self.answer(0x00), // interface tests: no error
            0xaa => {
                *self.config() |= CONFIG_SYSTEM;
                self.answer(0x55);
            }
            0xad => *self.config() |= CONFIG_NO_KEYBOARD,
            0xae => *self.config() &= !CONFIG_NO_KEYBOARD,
            0xc0 => self.answer(0x80), // input port: keyboard not locked
            0xd0 => {
                let full = match self.state.output {
                    Some((_, From::Aux, _)) => OUT_AUX_OBF,
                    Some(_) => OUT_OBF,
                    None => 0,
                };
                self.answer(self.state.output_port | full);
            }
            0xe0 => self.answer(0x00), // test inputs: both clocks low
            // Pulse output lines whose bit is 0; line 0 is the processor's reset.
            0xf0..=0xff if v & 1 == 0 => cx.out.push(Effect::Reset(ResetCause::Keyboard)),
            _ => {}
        }
    }

    fn data(&mut self, cx: &mut Cx<'_>, v: u8) {
        self.state.last_was_command = false;
        match self.state.command.take() {
            Some(c @ 0x60..=0x7f) => self.state.memory[usize::from(c & 0x1f)] = v,
            Some(0xd1) => {
                self.state.output_port = v & (OUT_NOT_RESET | OUT_A20);
                if v & OUT_NOT_RESET == 0 {
                    cx.out.push(Effect::Reset(ResetCause::Keyboard));
                }
            }
            Some(0xd2) => self.state.output = Some((v, From::Keyboard, false)),
            Some(0xd3) => self.state.output = Some((v, From::Aux, false)),
            Some(_) => self.silence_of(From::Aux),
            None => {
                // A byte for the keyboard also switches its interface on.
                *self.config() &= !CONFIG_NO_KEYBOARD;
                self.silence_of(From::Keyboard);
            }
        }
    }
}

impl Device for I8042 {
    fn read(&mut self, cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        read_bytes(at, data, |at| match at {
            0 => {
                if let Some((v, ..)) = self.state.output.take() {
                    self.state.last = v;
                }
                self.state.last
            }
            1 => self.status(),
            _ => 0xff,
        });
        self.update_irq(cx);
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        write_bytes(at, data, |at, v| match at {
            0 => self.data(cx, v),
            1 => self.command(cx, v),
            _ => {}
        });
        self.update_irq(cx);
    }

    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.state = State::default();
        self.update_irq(cx);
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::bench::Bench;

    struct K(I8042, Bench);
    impl K {
        fn new() -> Self {
            let mut b = Bench::new();
            let (k, a) = (b.irq.connect(1).unwrap(), b.irq.connect(12).unwrap());
            Self(I8042::new(k, a), b)
        }
        fn cmd(&mut self, v: u8) {
            self.1.write(&mut self.0, 1, v);
        }
        fn out(&mut self, v: u8) {
            self.1.write(&mut self.0, 0, v);
        }
        fn status(&mut self) -> u8 {
            self.1.read(&mut self.0, 1)
        }
        fn inp(&mut self) -> u8 {
            self.1.read(&mut self.0, 0)
        }
    }

    #[test]
    fn self_test_and_interface_tests_answer() {
        let mut k = K::new();
        assert_eq!(k.status() & OBF, 0);
        for (cmd, want) in [(0xaa, 0x55), (0xa9, 0), (0xab, 0)] {
            k.cmd(cmd);
            assert_eq!(k.status() & (OBF | AUX_OBF | LAST_WAS_COMMAND), OBF | LAST_WAS_COMMAND);
            assert_eq!(k.inp(), want);
            assert_eq!(k.status() & OBF, 0);
        }
    }

    #[test]
    fn the_command_byte_is_memory_and_follows_enables() {
        let mut k = K::new();
        k.cmd(0x60);
        k.out(0x47);
        k.cmd(0xad);
        k.cmd(0xa7);
        k.cmd(0x20);
        assert_eq!(k.inp(), 0x77);
        k.cmd(0xae);
        k.cmd(0xa8);
        k.cmd(0x20);
        assert_eq!(k.inp(), 0x47);
    }

    #[test]
    fn absent_devices_time_out_at_once() {
        let mut k = K::new();
        k.cmd(0x60);
        k.out(CONFIG_IRQ1 | CONFIG_IRQ12);
        k.out(0xf2); // identify keyboard
        assert_eq!(k.status() & (OBF | AUX_OBF | TIME_OUT), OBF | TIME_OUT);
        assert!(k.1.level(1) && !k.1.level(12));
        assert_eq!(k.inp(), 0xfe);
        assert!(!k.1.level(1));
        k.cmd(0xd4);
        k.out(0xf2);
        assert_eq!(k.status() & (OBF | AUX_OBF | TIME_OUT), OBF | AUX_OBF | TIME_OUT);
        assert!(k.1.level(12) && !k.1.level(1));
    }

    #[test]
    fn the_aux_loop_returns_the_byte() {
        let mut k = K::new();
        k.cmd(0xd3);
        k.out(0x5a);
        assert_eq!(k.status() & (OBF | AUX_OBF), OBF | AUX_OBF);
        assert_eq!(k.inp(), 0x5a);
        k.cmd(0xd2);
        k.out(0xa5);
        assert_eq!(k.status() & (OBF | AUX_OBF), OBF);
    }

    #[test]
    fn reset_by_pulse_and_by_output_port() {
        let mut k = K::new();
        k.cmd(0xff); // no line
        k.cmd(0xd0);
        assert_eq!(k.inp(), OUT_NOT_RESET | OUT_A20);
        assert!(k.1.out.is_empty());
        k.cmd(0xfe);
        assert_eq!(k.1.out, [Effect::Reset(ResetCause::Keyboard)]);
        k.cmd(0xd1);
        k.out(0x02);
        assert_eq!(k.1.out.len(), 2);
    }

    #[test]
    fn any_access_is_survived() {
        let mut k = K::new();
        k.1.torture(&mut k.0, 3);
    }
}
