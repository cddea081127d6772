//! The x87's transcendental instructions, computed with 128-bit significands and rounded once.
//!
//! The error before the final rounding is below 2^-45 ulp of the result, so results are within
//! 0.5001 ulp and honour the rounding control; Intel and AMD promise less than 1 ulp
//! (SDM 1, 8.3.10) and differ from each other in the last bit. Range rules and special operands
//! are those of SDM 2. Precision control does not apply.

mod atan;
mod exp;
mod log;
mod trig;
mod wide;

pub use atan::atan2;
pub use exp::exp2_minus_1;
pub use log::{y_log2, y_log2_plus_1};
pub use trig::{Trig, cos, in_range, sin, sin_cos, tan};
