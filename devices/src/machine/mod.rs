//! Boards: which device sits where, and the loop that runs them.

pub mod board;
pub mod clock;
pub mod hash;
#[expect(clippy::module_inception, reason = "the run loop is the machine")]
pub mod machine;
pub mod pc;
pub mod platform;
pub mod processor;
#[cfg(test)]
mod tests;
pub mod xen;

pub use board::next_random;
pub use clock::{ClockPolicy, Rate};
pub use machine::{Config, ConfigError, Exit, Machine, Mode, Payload, Stats, TripleFault, Until};
pub use platform::{Count, Counted, Reservation};
