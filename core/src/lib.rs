//! Tabvisor's CPU and the ground it stands on: memory, time, instructions.
//! No device, no browser: the board is a [`bus::Bus`].
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bus;
pub mod cpu;
pub mod decode;
pub mod emit;
pub mod flags;
pub mod float;
pub mod interp;
pub mod isa;
pub mod jit;
mod lookup;
pub mod mem;
#[cfg(feature = "profile")]
pub mod profile;
pub mod size;
pub mod time;
pub mod vcpu;
pub mod vector;
mod zeroed;
