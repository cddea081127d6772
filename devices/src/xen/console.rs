//! The console: a ring with the guest's bytes in both directions (public/io/console.h). console_io is refused.

use super::abi::{Answer, Errno};
use super::domain::Domain;
use super::hypercall::Call;
use crate::effect::{Effect, push_serial};
use serde::Serialize;
use std::collections::VecDeque;
use tabvisor_core::mem::GuestRam;

/// Offsets in `struct xencons_interface`.
mod ring {
    pub const IN: u64 = 0;
    pub const IN_LEN: u32 = 1024;
    pub const OUT: u64 = 0x400;
    pub const OUT_LEN: u32 = 2048;
    pub const IN_CONS: u64 = 0xc00;
    pub const IN_PROD: u64 = 0xc04;
    pub const OUT_CONS: u64 = 0xc08;
    pub const OUT_PROD: u64 = 0xc0c;
}

/// Bytes that wait for room in the ring.
const QUEUE: usize = 4096;

/// The back end of a console.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Console {
    /// Guest-physical address of the ring.
    page: u64,
    /// The guest's event channel.
    pub port: u32,
    /// Typed, but not in the ring yet.
    typed: VecDeque<u8>,
    /// The guest's indices make no sense.
    broken: bool,
}

impl Console {
    /// A console whose ring is at `page`.
    pub fn new(page: u64, port: u32) -> Self {
        Self { page, port, ..Self::default() }
    }

    fn index(&self, ram: &GuestRam, at: u64) -> u32 {
        u32::from_le_bytes(ram.read_le(self.page + at))
    }

    /// Takes what the guest has written, and puts what was typed. `true`: the guest is to be told.
    pub fn pump(&mut self, ram: &GuestRam, out: &mut Vec<Effect>) -> bool {
        let (cons, prod) = (self.index(ram, ring::OUT_CONS), self.index(ram, ring::OUT_PROD));
        let n = prod.wrapping_sub(cons);
        if n > ring::OUT_LEN {
            if !core::mem::replace(&mut self.broken, true) {
                out.push(Effect::Log(format!(
                    "xen console: the guest claims {n} bytes in a ring of {}",
                    ring::OUT_LEN
                )));
            }
            return false;
        }
        self.broken = false;
        for k in 0..n {
            let at = ring::OUT + u64::from(cons.wrapping_add(k) % ring::OUT_LEN);
            push_serial(out, 0, ram.byte(self.page + at));
        }
        ram.write(self.page + ring::OUT_CONS, &prod.to_le_bytes());
        self.fill(ram) || n > 0
    }

    fn fill(&mut self, ram: &GuestRam) -> bool {
        let (cons, prod) = (self.index(ram, ring::IN_CONS), self.index(ram, ring::IN_PROD));
        let used = prod.wrapping_sub(cons);
        if used > ring::IN_LEN {
            return false;
        }
        let n = self.typed.len().min((ring::IN_LEN - used) as usize) as u32;
        for (k, byte) in (0..n).zip(self.typed.drain(..n as usize)) {
            ram.write(self.page + ring::IN + u64::from(prod.wrapping_add(k) % ring::IN_LEN), &[byte]);
        }
        ram.write(self.page + ring::IN_PROD, &prod.wrapping_add(n).to_le_bytes());
        n > 0
    }

    /// Somebody types.
    pub fn typed(&mut self, bytes: &[u8]) {
        let room = self.room();
        self.typed.extend(&bytes[..bytes.len().min(room)]);
    }
    /// How many bytes that may be.
    pub fn room(&self) -> usize {
        QUEUE - self.typed.len().min(QUEUE)
    }
}

impl Domain {
    /// Hypercall 18: the hypervisor's own console, which is not for guests in a release of Xen. They have their ring.
    pub(super) fn console_io(&mut self, call: &mut Call<'_, '_>) -> Answer {
        match call.args[0] as u32 {
            0 | 1 => Err(Errno::EPERM),
            _ => Err(Errno::ENOSYS),
        }
    }
}
