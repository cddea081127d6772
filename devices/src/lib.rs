//! Tabvisor's boards and everything on them.
#![forbid(unsafe_code)]

pub mod boot;
