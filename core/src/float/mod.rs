//! Exact binary floating point: f32, f64 and x87's 80-bit format in plain integers.
