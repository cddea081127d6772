//! Structures in memory that one access does not move: environments, FXSAVE and XSAVE areas.

use crate::cpu::{Cpu, Done, Stop};
use crate::decode::insn::{Ea, Insn};
use crate::emit::Linear;
use crate::isa::operand::{linear, wrapped_offset};
use crate::size::Size;

/// The memory operand of an instruction as an area.
#[derive(Clone, Copy)]
pub(in crate::isa) struct Area(Linear<u64>);

impl Area {
    /// `len` bytes, checked against the segment.
    ///
    /// # Errors
    /// #GP or #SS.
    pub fn new(cpu: &mut Cpu, i: &Insn, len: u64, write: bool) -> Result<Self, Stop> {
        let start = linear(cpu, i, 1, write)?;
        if i.ea == Ea::Segmented {
            // What a segment covers is one range: with both ends, all of it.
            let last = wrapped_offset(cpu, i) + (len - 1);
            cpu.linear(i.seg, last, 1, write)?;
        }
        Ok(Self(start))
    }

    /// Does it start at a multiple of `n`, a power of two?
    pub fn is_aligned(self, n: u64) -> bool {
        self.0.at & (n - 1) == 0
    }

    fn place(self, cpu: &Cpu, at: usize) -> Linear<u64> {
        let la = self.0.at.wrapping_add(at as u64);
        Linear { at: if cpu.long { la } else { la & 0xffff_ffff }, ..self.0 }
    }

    /// Reads from byte `at` on, in steps of `unit`; `to` is whole units.
    ///
    /// # Errors
    /// Faults of the memory.
    pub fn read(self, cpu: &mut Cpu, at: usize, to: &mut [u8], unit: Size) -> Done {
        let step = unit as usize;
        for (n, chunk) in to.chunks_exact_mut(step).enumerate() {
            let place = self.place(cpu, at + n * step);
            let v = cpu.read(place, unit)?;
            chunk.copy_from_slice(&v.to_le_bytes()[..step]);
        }
        Ok(())
    }

    /// Checks that `len` bytes from byte `at` on can be written in steps of `unit`.
    ///
    /// # Errors
    /// Faults of the memory.
    pub fn probe(self, cpu: &mut Cpu, at: usize, len: usize, unit: Size) -> Done {
        let place = self.place(cpu, at);
        cpu.check_address(place, unit)?;
        cpu.probe_write(place, len as u64)
    }

    /// Writes from byte `at` on, in steps of `unit`; `from` is whole units. After a
    /// [`probe`](Self::probe) it can only stop to be run again alone.
    ///
    /// # Errors
    /// Faults of the memory.
    pub fn write(self, cpu: &mut Cpu, at: usize, from: &[u8], unit: Size) -> Done {
        let step = unit as usize;
        for (n, chunk) in from.chunks_exact(step).enumerate() {
            let place = self.place(cpu, at + n * step);
            let mut bytes = [0; 8];
            bytes[..step].copy_from_slice(chunk);
            cpu.write(place, unit, u64::from_le_bytes(bytes))?;
        }
        Ok(())
    }
}
