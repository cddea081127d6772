//! The machine as a session drives it: a narrow face of `tabvisor_devices::machine`, so that the slice
//! loop can be tested with a machine made of ten lines.

use tabvisor_core::time::VmTime;

/// Why [`Board::run`] came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The budget is used up; there is more to do.
    Slice,
    /// The guest waits, for an interrupt that comes at this guest time at the earliest
    /// ([`VmTime::NEVER`]: for input only).
    Halted(VmTime),
    /// The guest asked for a reset, and the board has done it.
    Reset,
    /// The guest switched the machine off.
    Off,
    /// The processor cannot go on. The first line says why, the rest are registers.
    Crash(String),
}

/// A machine with its kernel in place.
pub trait Board {
    /// Guest time.
    fn now(&self) -> VmTime;
    /// Instructions retired since power-on, resets included.
    fn retired(&self) -> u64;
    /// Runs at most about `budget` instructions. On the paced clock guest time moves towards `now` and not
    /// beyond; on the deterministic clock `now` is not looked at.
    fn run(&mut self, now: VmTime, budget: u64) -> Exit;
    /// The reset button.
    fn reset(&mut self) -> Result<(), String>;
    /// Offers typed bytes; returns how many were taken.
    fn serial_input(&mut self, bytes: &[u8]) -> usize;
    /// Moves what the guest printed to the end of `to`.
    fn take_serial(&mut self, to: &mut Vec<u8>);
    /// A hash over everything the guest could tell apart.
    fn state_hash(&self) -> u64;
    /// Registers and the last messages of the devices, for a report.
    fn report(&self) -> String;
}
