//! placeholder
/// x87 state.
#[derive(Clone, Debug, Default)]
pub struct Fpu;
