//! The processor's units.

pub mod fpu;
