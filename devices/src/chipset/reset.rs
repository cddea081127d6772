//! The two reset ports of a PIIX board: system control port A (92h) and the reset control
//! register (CF9h). Source: PIIX4 data sheet sections 8.4.2 (port 92h) and 8.7.1 (RC register).
//! The A20 gate of port 92h is stored, but address line 20 is always open.
//!
//! Offsets: 0 is port 92h, 1 is port CF9h.

use crate::device::{Cx, Device, put_state, read_bytes, write_bytes};
use crate::effect::{Effect, Input, ResetCause};
use serde::{Deserialize, Serialize};

const P92_FAST_INIT: u8 = 0x01;
const P92_A20: u8 = 0x02;
/// System reset: hard instead of soft. Both are the same here.
const RC_SRST: u8 = 0x02;
const RC_RCPU: u8 = 0x04;

/// Everything the guest can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    port92: u8,
    rc: u8,
}

impl Default for State {
    fn default() -> Self {
        Self { port92: P92_A20, rc: 0 }
    }
}

/// The reset ports.
#[derive(Default)]
pub struct ResetPorts {
    state: State,
}

impl Device for ResetPorts {
    fn read(&mut self, _cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        read_bytes(at, data, |at| match at {
            0 => self.state.port92,
            1 => self.state.rc,
            _ => 0xff,
        });
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        // Both ports reset on a 0 to 1 transition of their bit.
        write_bytes(at, data, |at, v| match at {
            0 => {
                let old = core::mem::replace(&mut self.state.port92, v & (P92_FAST_INIT | P92_A20));
                if v & !old & P92_FAST_INIT != 0 {
                    cx.out.push(Effect::Reset(ResetCause::Port92));
                }
            }
            1 => {
                let old = core::mem::replace(&mut self.state.rc, v & (RC_SRST | RC_RCPU));
                if v & !old & RC_RCPU != 0 {
                    cx.out.push(Effect::Reset(ResetCause::Cf9));
                }
            }
            _ => {}
        });
    }

    fn input(&mut self, cx: &mut Cx<'_>, input: &Input) {
        if *input == Input::ResetButton {
            cx.out.push(Effect::Reset(ResetCause::Button));
        }
    }

    fn reset(&mut self, _cx: &mut Cx<'_>) {
        self.state = State::default();
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::bench::Bench;

    #[test]
    fn cf9_resets_when_rcpu_rises() {
        let (mut d, mut b) = (ResetPorts::default(), Bench::new());
        b.write(&mut d, 1, 0x02);
        assert!(b.out.is_empty());
        b.write(&mut d, 1, 0x06);
        b.write(&mut d, 1, 0x06);
        assert_eq!(b.out, [Effect::Reset(ResetCause::Cf9)]);
    }

    #[test]
    fn port_92_resets_when_its_bit_0_rises_and_keeps_a20() {
        let (mut d, mut b) = (ResetPorts::default(), Bench::new());
        assert_eq!(b.read(&mut d, 0), 0x02);
        b.write(&mut d, 0, 0x00);
        assert_eq!(b.read(&mut d, 0), 0x00);
        b.write(&mut d, 0, 0x03);
        b.write(&mut d, 0, 0x03);
        assert_eq!(b.out, [Effect::Reset(ResetCause::Port92)]);
    }

    #[test]
    fn any_access_is_survived() {
        Bench::new().torture(&mut ResetPorts::default(), 3);
    }
}
