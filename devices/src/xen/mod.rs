//! What Xen is to its guests.

pub mod notes;
pub mod store;
