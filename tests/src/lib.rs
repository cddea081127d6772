//! Shared parts of Tabvisor's tests.
