//! The debug console at port E9h, known from Bochs and QEMU: bytes written come out, a read
//! answers E9h so that software can find it.

use crate::device::{Cx, Device};
use crate::effect::push_debug;

/// The console. It has no state.
#[derive(Default)]
pub struct DebugCon;

impl Device for DebugCon {
    fn read(&mut self, _cx: &mut Cx<'_>, _at: u64, data: &mut [u8]) {
        data.fill(0xe9);
    }
    fn write(&mut self, cx: &mut Cx<'_>, _at: u64, data: &[u8]) {
        data.iter().for_each(|&b| push_debug(cx.out, b));
    }
    fn reset(&mut self, _cx: &mut Cx<'_>) {}
    fn state_bytes(&self, _out: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::bench::Bench;
    use crate::effect::Effect;

    #[test]
    fn bytes_come_out_in_one_batch() {
        let (mut d, mut b) = (DebugCon, Bench::new());
        b.write(&mut d, 0, b'h');
        b.write(&mut d, 0, b'i');
        assert_eq!(b.read(&mut d, 0), 0xe9);
        assert_eq!(b.out, [Effect::Debug(b"hi".to_vec())]);
    }
}
