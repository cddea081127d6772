//! PCI: configuration space and mechanism, and the bridges of the board.

pub mod bridges;
pub mod config;
pub mod mechanism;

pub use config::PciFunction;
