//! What the machine's run loop needs of a platform: everything that a CPU sits on, be it a PC's board or a hypervisor.

use super::clock::Clock;
use super::machine::{ConfigError, Payload};
use crate::backend::BlockBackend;
use crate::backend::display::Display;
use crate::backend::files::Share;
use crate::boot::Entry;
use crate::effect::{Effect, Input, ResetCause};
use tabvisor_core::bus::Bus;
use tabvisor_core::cpu::Cpu;
use tabvisor_core::time::VmTime;

/// Why the machine has to leave its run loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Soft off.
    Off,
    /// A reset was requested.
    Reset(ResetCause),
    /// The guest cannot go on; the text says why, for people.
    Crash(String),
}

/// How often the CPU came to the platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visits {
    /// Port accesses.
    pub ports: u64,
    /// Device memory accesses.
    pub mmio: u64,
    /// MSRs of the board.
    pub msrs: u64,
    /// Interrupts delivered.
    pub interrupts: u64,
    /// Accesses that nobody answered.
    pub unclaimed: u64,
    /// Hypercalls.
    pub hypercalls: u64,
}

/// What is counted by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Hypercalls.
    Hypercall,
    /// Everything for which the CPU comes to its hypervisor.
    Exit,
    /// Events that the guest is sent.
    Event,
}

/// How often something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// What it is one of.
    pub of: Counted,
    /// Its name, for people.
    pub name: &'static str,
    /// How often.
    pub n: u64,
}

/// Memory of a domain, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// What the guest has now.
    pub now: u64,
    /// What it was asked to have.
    pub target: u64,
    /// What it may have.
    pub most: u64,
}

/// How the processor begins.
pub enum Start {
    /// As on bare hardware.
    Bare(Entry),
    /// As a hypervisor has it; the function works on a CPU that was reset.
    Guest(Box<dyn FnOnce(&mut Cpu)>),
}

/// What a CPU sits on.
pub trait Platform {
    /// The platform as its CPU sees it.
    fn bus(&mut self) -> &mut dyn Bus;
    /// Everything as after power-on, but for time and RAM.
    fn reset(&mut self);
    /// Puts the payload into (cleared) RAM.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong with it.
    fn load(&mut self, payload: &Payload) -> Result<Start, ConfigError>;
    /// Guest time.
    fn now(&self) -> VmTime;
    /// When anything here next wants to be called.
    fn nearest(&self) -> VmTime;
    /// The instruction count at which the CPU has to come back; zero when the machine is to stop.
    fn run_until(&self) -> u64;
    /// Instruction count at which guest time is `time`.
    fn retired_at(&self, time: VmTime) -> u64;
    /// Lets guest time jump, or run at another rate; what is due catches up.
    fn adjust_clock(&mut self, f: &mut dyn FnMut(&mut Clock));
    /// Why the machine has to stop, once.
    fn take_stop(&mut self) -> Option<StopCause>;
    /// News from the outside world.
    fn input(&mut self, input: &Input);
    /// How many bytes of input console `port` takes now.
    fn console_room(&mut self, port: u8) -> usize;
    /// What the guest shows, if it has a display.
    fn display(&mut self) -> Option<&mut dyn Display> {
        None
    }
    /// Shares a tree of files with the guest.
    fn share_files(&mut self, _: &Share) {}
    /// Requests to the outside world that have gathered.
    fn effects(&mut self) -> &mut Vec<Effect>;
    /// Its disks, in order.
    fn disks(&self) -> &[Box<dyn BlockBackend>] {
        &[]
    }
    /// Figures for people.
    fn visits(&self) -> Visits;
    /// A domain's memory.
    fn reservation(&self) -> Option<Reservation> {
        None
    }
    /// The same by kind, of those that happened.
    fn counts(&self) -> Vec<Count> {
        Vec::new()
    }
    /// Appends everything the guest can tell apart, in a form that is the same on all hosts.
    fn state_bytes(&self, out: &mut Vec<u8>);
    /// What is where, in words.
    fn table(&self) -> String;
    /// For tests.
    #[cfg(test)]
    fn board(&mut self) -> Option<&mut super::board::Board> {
        None
    }
}
