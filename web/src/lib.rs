//! Tabvisor for JavaScript.
mod board;
mod error;
mod pace;
mod session;
