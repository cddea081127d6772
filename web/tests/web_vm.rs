//! The module in a browser, in a dedicated worker: where the page runs it.
#![cfg(target_arch = "wasm32")]

mod common;

use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[wasm_bindgen_test]
fn a_guest_talks_and_switches_off() {
    common::a_guest_talks_and_switches_off();
}

#[wasm_bindgen_test]
fn a_crash_is_reported_and_reset_cures_it() {
    common::a_crash_is_reported_and_reset_cures_it();
}

#[wasm_bindgen_test]
fn the_same_instructions_give_the_same_state() {
    common::the_same_instructions_give_the_same_state();
}

#[wasm_bindgen_test]
fn mistakes_are_explained() {
    common::mistakes_are_explained();
}

#[wasm_bindgen_test]
fn hello_boots_to_its_prompt() {
    common::hello_boots_to_its_prompt();
}
