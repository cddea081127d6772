//! The oracle: the host CPU decides what an instruction does.
//!
//! Random instructions with random state run natively in a sandboxed child process and in a `Subject` of
//! ours, and everything user code can see is compared. See `sandbox` for how the native side works,
//! `generator` for what is tried, `masks` for what is allowed to differ and why.

pub mod compare;
pub mod corpus;
pub mod encoding;
pub mod generator;
mod intel;
pub mod masks;
pub mod operands;
pub mod outcome;
pub mod rng;
pub mod run;
pub mod show;
pub mod shrink;
pub mod state;
pub mod subject;
pub mod values;
pub mod vendor;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod host;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod sandbox;
