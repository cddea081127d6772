//! Values of generated code: how they came about, how large they can be, and whether they are addresses.

use super::flow::Check;
use super::{Trusted, trusted};
use std::collections::BTreeSet;
use tabvisor_core::cpu::tlb;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// A value's number.
pub type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bin {
    Add,
    Sub,
    Xor,
    Mul,
    And,
    Or,
    Shl,
    GtU,
    LtS,
}

/// How a value came about. Numbers tell apart what looks the same and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    Unknown(u32),
    Const(u64),
    /// Address, offset, bytes, state of memory.
    Load(Id, u64, u64, u32),
    /// With the bits of the result.
    Bin(Bin, u32, Id, Id),
    /// The low half, or that the value is 0.
    Wrap(Id),
    IsZero(Id),
    /// Some comparison: 0 or 1.
    Truth(u32),
    /// Some context of the TLB.
    Context(u32),
    /// What `fill` returned: `how`, state of the TLB, number.
    Fill(u64, u32, u32),
    /// The host's address of what lies in a page from so many bytes behind it to so many, for stores, too; state of the TLB,
    /// number.
    Host(i64, i64, bool, u32, u32),
}

/// What holds at a place.
#[derive(Clone, Debug)]
pub struct State {
    pub stack: Vec<Id>,
    pub locals: Vec<Id>,
    pub facts: BTreeSet<(Id, bool)>,
    /// Changes with every store.
    pub memory: u32,
    /// Changes with everything that may take entries away.
    pub tlb: u32,
    /// For each label: since it, has the budget been asked, and charged?
    pub asked: u64,
    pub charged: u64,
    /// Has the budget been put back into the CPU, so that it may be taken from there again?
    pub put_back: bool,
}

impl Check<'_> {
    pub(super) fn id(&mut self, v: Value) -> Id {
        let next = self.values.len();
        let id = *self.known.entry(v).or_insert(next);
        if id == next {
            self.values.push(v);
        }
        id
    }
    pub(super) fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }
    pub(super) fn unknown(&mut self) -> Id {
        let n = self.number();
        self.id(Value::Unknown(n))
    }
    pub(super) fn constant(&self, id: Id) -> Option<u64> {
        match self.values[id] {
            Value::Const(c) => Some(c),
            _ => None,
        }
    }

    pub(super) fn trusted(&self, at: Id, offset: u64) -> Option<Trusted> {
        let one = self.constant(at) == Some(0);
        trusted(self.layout)
            .into_iter()
            .find(|f| f.place == offset && if f.step == 0 { one } else { self.multiple(at) >= f.step })
    }

    /// The largest the value can be.
    pub(super) fn most(&self, id: Id) -> u64 {
        match self.values[id] {
            Value::Const(c) => c,
            Value::Load(at, offset, bytes, _) => {
                if let Some(field) = self.trusted(at, offset) {
                    return field.most;
                }
                u64::MAX >> (64 - 8 * bytes.min(8))
            }
            Value::Bin(op, bits, a, b) => {
                let (a, b, all) = (self.most(a), self.most(b), u64::MAX >> (64 - bits));
                let fits = |v: Option<u64>| v.filter(|v| *v <= all).unwrap_or(all);
                match op {
                    Bin::Add => fits(a.checked_add(b)),
                    Bin::Mul => fits(a.checked_mul(b)),
                    Bin::And => a.min(b),
                    // All bits below the highest, but for those that are 0 in both.
                    Bin::Or => {
                        fits((a | b).checked_add(1).and_then(u64::checked_next_power_of_two).map(|v| v - 1))
                            & !(self.multiple(id) - 1)
                    }
                    Bin::Shl => fits(a.checked_mul(1u64.checked_shl(b as u32).unwrap_or(0)).filter(|_| b < 32)),
                    Bin::Sub | Bin::Xor => all,
                    Bin::GtU | Bin::LtS => 1,
                }
            }
            Value::Wrap(a) => self.most(a).min(u32::MAX.into()),
            Value::IsZero(_) | Value::Truth(_) => 1,
            Value::Context(_) => trusted(self.layout)[0].most,
            Value::Unknown(_) | Value::Fill(..) | Value::Host(..) => u64::MAX,
        }
    }

    /// A power of two that the value is a multiple of.
    pub(super) fn multiple(&self, id: Id) -> u64 {
        let lowest = |c: u64| if c == 0 { 1 << 63 } else { c & c.wrapping_neg() };
        match self.values[id] {
            Value::Const(c) => lowest(c),
            Value::Bin(Bin::And, _, a, b) => self.multiple(a).max(self.multiple(b)),
            Value::Bin(Bin::Or | Bin::Add, _, a, b) => self.multiple(a).min(self.multiple(b)),
            Value::Bin(Bin::Mul, _, a, b) => self.multiple(a).saturating_mul(self.multiple(b)).min(1 << 31),
            Value::Bin(Bin::Shl, _, a, n) => match self.constant(n) {
                Some(n) if n < 32 => self.multiple(a).saturating_mul(1 << n).min(1 << 31),
                _ => 1,
            },
            Value::Wrap(a) => self.multiple(a).min(1 << 31),
            Value::Load(at, offset, ..) => self.trusted(at, offset).map_or(1, |f| f.multiple),
            Value::Context(_) => trusted(self.layout)[0].multiple,
            _ => 1,
        }
    }

    /// If it is a host's address: from where behind it to where may be accessed, and whether for stores.
    pub(super) fn host(&self, id: Id, s: &State) -> Option<(i64, i64, bool)> {
        match self.values[id] {
            Value::Host(from, to, write, tlb, _) if tlb == s.tlb => Some((from, to, write)),
            Value::Fill(how, tlb, _) if tlb == s.tlb => {
                let zero = self.known.get(&Value::IsZero(id))?;
                s.facts.contains(&(*zero, false)).then_some((0, (how & 0xff) as i64, how >> 8 != 0))
            }
            Value::Bin(Bin::Add, 32, low, add) => {
                let Value::Wrap(la) = self.values[low] else { return None };
                let Value::Load(entry, offset, 4, memory) = self.values[add] else { return None };
                let table = offset.checked_sub(8)?;
                let write = table == u64::from(self.layout.tlb_write);
                let size = (tlb::LEN * size_of::<tlb::Entry>()) as u64;
                let is_entry = self.multiple(entry) >= 16 && self.most(entry) < size;
                if !is_entry || !write && table != u64::from(self.layout.tlb_read) || memory != s.memory {
                    return None;
                }
                let tag = *self.known.get(&Value::Load(entry, table, 8, memory))?;
                // `tag ^ (la + from) <= 4096 - n`, and tags are whole pages.
                let asked = |fact: Id| {
                    let Value::Bin(Bin::GtU, 64, distance, most) = self.values[fact] else { return None };
                    let Value::Bin(Bin::Xor, 64, of, begin) = self.values[distance] else { return None };
                    let from = match self.values[begin] {
                        _ if begin == la => 0,
                        Value::Bin(Bin::Add, 64, of, from) if of == la => self.constant(from)? as i64,
                        _ => return None,
                    };
                    let bytes = PAGE.checked_sub(self.constant(most)?)?;
                    (of == tag).then_some((from, from + bytes as i64, write))
                };
                s.facts.iter().filter(|(_, holds)| !holds).find_map(|&(fact, _)| asked(fact))
            }
            _ => None,
        }
    }

    /// The same of an address that a number was added to.
    fn near(&self, at: Id, s: &State) -> Option<(i64, i64, bool)> {
        self.host(at, s).or_else(|| {
            let Value::Bin(Bin::Add, 32, host, distance) = self.values[at] else { return None };
            let (from, to, write) = self.host(host, s)?;
            let distance = i64::from(self.constant(distance)? as u32 as i32);
            Some((from - distance, to - distance, write))
        })
    }

    /// An access of `bytes` at `at + offset`.
    pub(super) fn access(&self, at: Id, offset: u64, bytes: u64, write: bool) -> Result<(), String> {
        let Some(s) = &self.now else { return Ok(()) };
        if let Some((from, to, writable)) = self.near(at, s) {
            let at = offset as i64;
            let good = from <= at && at + bytes as i64 <= to && (writable || !write);
            return if good {
                Ok(())
            } else {
                Err(format!("{bytes} bytes at {at}, write {write}: checked for {from} to {to}, {writable}"))
            };
        }
        let end = self.most(at).checked_add(offset).and_then(|v| v.checked_add(bytes));
        let good = |&(place, len, writable): &(u64, u64, bool)| {
            (writable || !write) && place <= offset && end.is_some_and(|end| end <= place + len)
        };
        if self.table.iter().any(good) {
            return Ok(());
        }
        Err(format!("{bytes} bytes, write {write}, at {offset:x} and {}", self.show(at, 5)))
    }

    pub(super) fn show(&self, id: Id, depth: u32) -> String {
        let part = |id| if depth == 0 { "...".into() } else { self.show(id, depth - 1) };
        match self.values[id] {
            Value::Bin(op, _, a, b) => format!("({op:?} {} {})", part(a), part(b)),
            Value::Load(at, offset, bytes, _) => format!("[{} + {offset:x}; {bytes}]", part(at)),
            Value::Wrap(a) => format!("(low {})", part(a)),
            v => format!("{v:x?}"),
        }
    }
}
