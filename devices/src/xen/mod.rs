//! The hypervisor: the guest ABI of Xen for a paravirtualized domain. Sources are Xen's public headers (xen/include/public)
//! and, for what they leave open, the behaviour of Xen 4.17.
//!
//! A guest traps into [`Domain::trap`](domain::Domain::trap); [`hypercall`] has the table of what it may ask for.

pub mod abi;
pub mod back;
pub mod build_pv;
pub mod build_pvh;
mod calls;
mod console;
mod control;
mod counts;
pub mod domain;
mod emulate;
pub mod event;
pub mod frames;
pub mod grant;
mod grant_copy;
mod grant_map;
mod grant_ops;
pub mod guest;
pub mod hvm;
mod hvm_context;
pub mod hypercall;
mod memory;
mod mmu;
mod mmu_large;
mod mmu_types;
mod mode;
pub mod notes;
mod physmap;
mod reservation;
mod sched;
mod schedule;
pub mod store;
mod suspend;
#[cfg(test)]
mod tests;
pub mod vcpu;
mod vcpu_context;
