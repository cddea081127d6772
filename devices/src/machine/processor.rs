//! What the run loop needs of a CPU.

use crate::boot::Entry;
use tabvisor_core::bus::Bus;

/// Why a CPU came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuExit {
    /// The budget is used up, or the board asked for it (`Bus::run_until`).
    Budget,
    /// HLT, and nothing is pending that the CPU would take.
    Halt,
    /// A triple fault.
    Shutdown,
    /// The CPU cannot go on; why.
    Stop(String),
}

/// A CPU on a board.
pub trait Processor {
    /// Runs at most `budget` instructions.
    fn run(&mut self, bus: &mut dyn Bus, budget: u64) -> CpuExit;
    /// Instructions retired since the CPU was created; a reset does not set it back.
    fn retired(&self) -> u64;
    /// The RESET pin, and then the state a kernel is entered with.
    fn enter(&mut self, entry: &Entry);
    /// Appends everything the guest can tell apart, in a form that is the same on all hosts.
    fn state_bytes(&mut self, out: &mut Vec<u8>);
    /// The registers, for people.
    fn describe(&mut self) -> String;
}
