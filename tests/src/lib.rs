//! Shared parts of Tabvisor's tests.

pub mod oracle;
