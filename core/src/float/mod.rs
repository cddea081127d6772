//! Exact binary floating point: f32, f64 and x87's 80-bit format in plain integers.
//!
//! One shared core does the work for all three formats: [`Unpacked`] operands, an exact
//! operation on 64-bit significands, and one [`round`] step that packs the result and raises
//! the flags. [`sse`] and [`x87`] are the two instruction families on top of it, each with its
//! own rule for NaNs. Nothing here uses the host's floating point.
//!
//! Sources: IEEE 754-2019; Intel SDM 1 chapter 4.8 and 4.9 (formats, exceptions, their
//! priority), chapter 8 (x87), chapter 11.5 (SSE exceptions). Where the manuals say
//! "undefined", the behaviour is that of the processors the tests ran on.

pub mod approx;
pub mod bcd;
pub mod elementary;
pub mod env;
pub mod f80;
pub mod integer;
pub mod quick;
pub mod round;
pub mod sse;
pub mod unpacked;
pub mod words;
pub mod x87;

mod arith;

pub use env::{Env, Precision, Rounding, flags};
pub use f80::F80;
pub use round::Format;
pub use unpacked::{Class, Relation, Unpacked};
