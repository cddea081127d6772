//! Tabvisor's boards and everything on them.
#![forbid(unsafe_code)]

pub mod backend;
pub mod boot;
pub mod bus;
pub mod chipset;
pub mod device;
pub mod effect;
pub mod irq;
pub mod machine;
pub mod pci;
pub mod serial;
pub mod xen;
