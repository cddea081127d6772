//! Unpacks a kernel for a domain: what is compressed in a bzImage, or a file that is compressed as a whole. A module of its
//! own, because few visitors bring such a file, and because what unpacking takes (the file, what is in it, windows of
//! up to 128 MiB) is given back with the module's memory, which a machine's is not.

#[path = "../../src/error.rs"]
mod error;

use error::VmError;
use std::borrow::Cow;
use tabvisor_devices::boot::unpack;
use wasm_bindgen::prelude::*;

/// The ELF executable in a kernel file, or a packed kernel as it is.
///
/// # Errors
/// What is wrong with the file, for the visitor.
#[wasm_bindgen]
pub fn kernel(file: Vec<u8>) -> Result<Vec<u8>, VmError> {
    let unpacked = match unpack::kernel(&file) {
        Ok(Cow::Owned(unpacked)) => Some(unpacked),
        Ok(Cow::Borrowed(part)) if part.len() < file.len() => Some(part.to_vec()),
        Ok(Cow::Borrowed(_)) => None,
        Err(e) => return Err(VmError::from_line("The kernel could not be unpacked.", &e)),
    };
    Ok(unpacked.unwrap_or(file))
}
