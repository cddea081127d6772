//! What differs between the machines this kernel runs on: console, clock, timer, switching off.
//! Today there is one, the PC; a PVH guest without emulated devices and a paravirtual guest would be
//! further modules with the same functions.

mod pc;

pub use pc::*;
