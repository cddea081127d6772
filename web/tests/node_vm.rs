//! The module in node.
#![cfg(target_arch = "wasm32")]

mod common;
