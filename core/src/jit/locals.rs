//! The local variables of a region's function: the CPU state it works on, and temporary ones.

use super::x87::LOCALS;
use crate::flags::FlagOp;
use crate::size::Size;
use alloc::vec::Vec;
use wasm_encoder::ValType;

/// What the local of the flags' operation holds: `op | size << 8`. Of 8 bytes it is `op` alone.
pub fn told(op: FlagOp, size: Size) -> u64 {
    u64::from(op as u8) | u64::from(size as u8 & 7) << 8
}

/// Registers with a local: the general ones, then those of vectors.
pub const REGISTERS: usize = 32;
/// The number of XMM0.
pub const XMM: u8 = 16;

/// The locals. Those of the CPU state exist once somebody asks for them.
pub struct Locals {
    types: Vec<ValType>,
    registers: [Option<u32>; REGISTERS],
    segment: [Option<u32>; 8],
    flags: Option<[u32; 4]>,
    fetch_context: Option<u32>,
    fast: Option<u32>,
    common: Option<u32>,
    x87: [Option<u32>; LOCALS],
    free: Vec<u32>,
    taken: Vec<u32>,
    held: Vec<u32>,
    /// Registers that are written somewhere in the region.
    pub written: u32,
    /// Are the flags written somewhere?
    pub flags_written: bool,
}

/// The function's parameter: which entry.
pub const ENTRY: u32 = 0;
/// i32: where the next dispatch goes.
pub const STATE: u32 = 1;
/// i32: why the region is left.
pub const EXIT: u32 = 2;
/// i32: the TLB context, as a distance in bytes.
pub const CONTEXT: u32 = 3;
/// i32: a TLB entry, or what a called function returned.
pub const ENTRY_AT: u32 = 4;
/// i32: where an operand in memory is, between load and store.
pub const HOST: u32 = 5;
/// i64: the linear address of the region's page.
pub const BASE: u32 = 6;
/// i64: instructions that may still be run.
pub const LEFT: u32 = 7;
/// i64: if it is known where the region leads when it is left, the place of that block in generated code, as its head
/// record has it.
pub const LINK: u32 = 8;

impl Default for Locals {
    fn default() -> Self {
        Self {
            types: [[ValType::I32; 5].as_slice(), &[ValType::I64; 3]].concat(),
            registers: [None; REGISTERS],
            segment: [None; 8],
            flags: None,
            fetch_context: None,
            fast: None,
            common: None,
            x87: [None; LOCALS],
            free: Vec::new(),
            taken: Vec::new(),
            held: Vec::new(),
            written: 0,
            flags_written: false,
        }
    }
}

impl Locals {
    fn add(types: &mut Vec<ValType>, ty: ValType) -> u32 {
        types.push(ty);
        // Behind the parameter.
        types.len() as u32
    }
    /// The types of all but the parameter, in order.
    pub fn types(&self) -> &[ValType] {
        &self.types
    }
    /// A register: i64 if it is a general one, v128 from [`XMM`] on.
    pub fn register(&mut self, r: u8) -> u32 {
        let ty = if r < XMM { ValType::I64 } else { ValType::V128 };
        *self.registers[usize::from(r)].get_or_insert_with(|| Self::add(&mut self.types, ty))
    }
    /// The registers that are in use, with their locals.
    pub fn registers(&self) -> impl Iterator<Item = (u8, u32)> {
        (0..).zip(self.registers).filter_map(|(r, local)| Some((r, local?)))
    }
    /// The general register whose local this is.
    pub fn general_register_in(&self, local: u32) -> Option<u8> {
        (0..XMM).find(|&r| self.registers[usize::from(r)] == Some(local))
    }
    /// i64: the base of a segment.
    pub fn segment_base(&mut self, s: u8) -> u32 {
        *self.segment[usize::from(s & 7)].get_or_insert_with(|| Self::add(&mut self.types, ValType::I64))
    }
    /// The segment bases that are in use, with their locals.
    pub fn segment_bases(&self) -> impl Iterator<Item = (u8, u32)> {
        (0..).zip(self.segment).filter_map(|(s, local)| Some((s, local?)))
    }
    /// i64: `a`, `b` and `r` of the flags, not sign-extended, and what they are of: `op | size << 8`.
    pub fn flag(&mut self, n: usize) -> u32 {
        self.flags.get_or_insert_with(|| [(); 4].map(|()| Self::add(&mut self.types, ValType::I64)))[n]
    }
    /// The fourth of [`Locals::flag`].
    pub fn flag_op(&mut self) -> u32 {
        self.flag(3)
    }
    /// Those of the flags, if they are in use.
    pub fn flags(&self) -> Option<[u32; 4]> {
        self.flags
    }
    /// i64: 2 if MXCSR lets floating point take the fast way, 1 if it does so for what is exact, else 0.
    pub fn fast(&mut self) -> u32 {
        *self.fast.get_or_insert_with(|| Self::add(&mut self.types, ValType::I64))
    }
    /// [`Locals::fast`], if it is in use.
    pub fn fast_used(&self) -> Option<u32> {
        self.fast
    }
    /// i64: 1 if the x87 unit may be used and its controls are common, else 0 (`x87.rs`).
    pub fn common(&mut self) -> u32 {
        *self.common.get_or_insert_with(|| Self::add(&mut self.types, ValType::I64))
    }
    /// [`Locals::common`], if it is in use.
    pub fn common_used(&self) -> Option<u32> {
        self.common
    }
    /// i64: a part of the x87 unit (`x87.rs`).
    pub fn x87(&mut self, n: u8) -> u32 {
        *self.x87[usize::from(n)].get_or_insert_with(|| Self::add(&mut self.types, ValType::I64))
    }
    /// i32: the TLB context of fetches, as a distance in bytes.
    pub fn fetch_context(&mut self) -> u32 {
        *self.fetch_context.get_or_insert_with(|| Self::add(&mut self.types, ValType::I32))
    }
    /// That, if it is in use.
    pub fn known_fetch_context(&self) -> Option<u32> {
        self.fetch_context
    }
    /// What is in use and what is written: changes if a second pass would find more.
    pub fn sets(&self) -> impl PartialEq + use<> {
        (
            self.registers.map(|l| l.is_some()),
            self.segment.map(|l| l.is_some()),
            self.flags.is_some(),
            self.fast.is_some(),
            self.common.is_some(),
            self.written,
            self.flags_written,
        )
    }
    /// One of this type, until [`Locals::release`].
    pub fn take(&mut self, ty: ValType) -> u32 {
        let free = self.free.iter().rposition(|&l| self.types[l as usize - 1] == ty);
        let local = free.map(|n| self.free.swap_remove(n)).unwrap_or_else(|| Self::add(&mut self.types, ty));
        self.taken.push(local);
        local
    }
    /// One of this type, until [`Locals::let_go`].
    pub fn hold(&mut self, ty: ValType) -> u32 {
        let local = self.take(ty);
        self.taken.pop();
        self.held.push(local);
        local
    }
    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }
    /// What was held is free again.
    pub fn let_go(&mut self) {
        self.free.append(&mut self.held);
    }
    /// What was taken, for [`Locals::take_over`].
    pub fn taken(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.taken)
    }
    /// Such locals are taken now.
    pub fn take_over(&mut self, locals: Vec<u32>) {
        self.taken.extend(locals);
    }
    /// What was taken is free again.
    pub fn release(&mut self) {
        self.free.append(&mut self.taken);
    }
}
