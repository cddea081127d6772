//! Shared parts of Tabvisor's tests.

pub mod fex;
pub mod fex_guest;
pub mod ins;
pub mod ins_guest;
pub mod ins_user;
pub mod kvm_unit;
pub mod oracle;
pub mod programs;
pub mod rom;
pub mod sst286;
