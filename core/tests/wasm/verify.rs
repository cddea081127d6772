//! Checks a generated module without running it: it imports what it may, touches only memory that is its own or that
//! the TLB allowed, and each of its loops uses up its budget.
//!
//! An abstract interpretation over WebAssembly's stack. A value is an expression; where ways meet, different ones become
//! an unknown one, and what a loop sets is unknown from its beginning on. On each way the conditions are known that led
//! there. An address is good if it is
//! - at most so large that it stays in a row of [`table`], or
//! - a host's address: what `fill` returned, if not 0, or `la + add` of a TLB entry with `la - tag <= 4096 - n`. It is
//!   good for `n` bytes until something is called that may change the TLB.

use std::collections::{BTreeSet, HashMap};
use tabvisor_core::cpu::tlb;
use tabvisor_core::decode::cache::{JUMPS, Jump, MAX_INSNS};
use tabvisor_core::decode::insn::{Insn, slot};
use tabvisor_core::jit::layout::Layout;
use tabvisor_core::jit::module::{REGION_TYPE, import};
use wasmparser::{BlockType, ModuleArity, Operator as O, Parser, Payload, TypeRef};

/// Memory that generated code may touch at addresses it knows: where, how much, and whether it may write there.
fn table(l: &Layout) -> Vec<(u64, u64, bool)> {
    let tlb = (tlb::LEN * size_of::<tlb::Entry>()) as u64;
    let mut rows = vec![
        (l.jumps, (JUMPS * size_of::<Jump>()) as u64, false),
        (l.tlb_read, tlb, false),
        (l.tlb_write, tlb, false),
        (l.tlb_exec, tlb, false),
        (l.insn(0), (MAX_INSNS * size_of::<Insn>()) as u64, false),
        (l.gpr(0), 128, true),
        (l.gpr(slot::BLOCK), 8, true),
        (l.xmm(0), 256, true),
        (l.tlb_bytes, 4, false),
        (l.mxcsr, 4, true),
        (l.rflags, 8, true),
        (l.simd_off, 1, false),
        (l.cpl, 1, false),
        (l.flag_op, 1, true),
        (l.compiled_region, 4, true),
    ];
    rows.extend([l.rip, l.flag_a, l.flag_b, l.flag_r, l.left, l.compiled_base, l.hops].map(|at| (at, 8, true)));
    rows.push((l.floor, 8, false));
    rows.extend((0..6).map(|s| (l.segment_base(s), 8, false)));
    rows.into_iter().map(|(at, len, write)| (at.into(), len, write)).collect()
}

/// A field whose values are trusted.
struct Trusted {
    place: u64,
    /// The distance between such places, if there are several.
    step: u64,
    /// The largest value.
    most: u64,
    /// What all values are multiples of.
    multiple: u64,
}

fn trusted(l: &Layout) -> [Trusted; 2] {
    let head = l.jumps as usize + std::mem::offset_of!(Jump, head);
    let entry = size_of::<tlb::Entry>() as u64;
    [
        Trusted { place: l.tlb_bytes.into(), step: 0, most: entry * (3 << tlb::CTX_SHIFT), multiple: entry },
        Trusted { place: head as u64, step: size_of::<Jump>() as u64, most: MAX_INSNS as u64 - 1, multiple: 1 },
    ]
}

/// Bytes of a page.
const PAGE: u64 = 4096;

type Id = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Bin {
    Add,
    Sub,
    Mul,
    And,
    Or,
    Shl,
    GtU,
    LtS,
}

/// How a value came about. Numbers tell apart what looks the same and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Value {
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
    /// What `fill` returned: `how`, state of the TLB, number.
    Fill(u64, u32, u32),
    /// An address of so many bytes, for stores, too; state of the TLB, number.
    Host(u64, bool, u32, u32),
}

/// What holds at a place.
#[derive(Clone, Debug)]
struct State {
    stack: Vec<Id>,
    locals: Vec<Id>,
    facts: BTreeSet<(Id, bool)>,
    /// Changes with every store.
    memory: u32,
    /// Changes with everything that may take entries away.
    tlb: u32,
    /// For each label: since it, has the budget been asked, and charged?
    asked: u64,
    charged: u64,
}

struct Frame {
    is_loop: bool,
    results: usize,
    height: usize,
    /// The state behind it, as far as ways have come there.
    after: Option<State>,
    /// The state at its ELSE.
    other: Option<State>,
}

struct Check<'a> {
    layout: &'a Layout,
    table: Vec<(u64, u64, bool)>,
    values: Vec<Value>,
    known: HashMap<Value, Id>,
    numbers: u32,
    /// The local that holds the budget.
    left: Option<u32>,
    frames: Vec<Frame>,
    /// `None`: nothing comes here.
    now: Option<State>,
}

/// The types of a module, for the operators' arity.
struct Types(Vec<wasmparser::SubType>, Vec<u32>);

impl ModuleArity for Types {
    fn sub_type_at(&self, n: u32) -> Option<&wasmparser::SubType> {
        self.0.get(n as usize)
    }
    fn tag_type_arity(&self, _: u32) -> Option<(u32, u32)> {
        None
    }
    fn type_index_of_function(&self, n: u32) -> Option<u32> {
        self.1.get(n as usize).copied()
    }
    fn func_type_of_cont_type(&self, _: &wasmparser::ContType) -> Option<&wasmparser::FuncType> {
        None
    }
    fn sub_type_of_ref_type(&self, _: &wasmparser::RefType) -> Option<&wasmparser::SubType> {
        None
    }
    fn control_stack_height(&self) -> u32 {
        0
    }
    fn label_block(&self, _: u32) -> Option<(BlockType, wasmparser::FrameKind)> {
        None
    }
}

/// What is wrong with a module that was made for this layout, if anything is.
pub fn module(bytes: &[u8], layout: &Layout) -> Result<(), String> {
    let mut types = Types(Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(text)? {
            Payload::TypeSection(s) => {
                for group in s {
                    types.0.extend(group.map_err(text)?.into_types());
                }
            }
            Payload::ImportSection(s) => {
                let mut names = vec!["memory", "table"];
                names.extend(import::NAMES);
                let mut found = Vec::new();
                for i in s {
                    let i = i.map_err(text)?;
                    if let TypeRef::Func(ty) = i.ty {
                        types.1.push(ty);
                    }
                    found.push(i.name);
                    if i.module != "t" {
                        return Err(format!("it imports from {}", i.module));
                    }
                }
                if found != names {
                    return Err(format!("it imports {found:?}"));
                }
            }
            Payload::CodeSectionEntry(body) => {
                let locals: usize = body.get_locals_reader().map_err(text)?.into_iter().map(count).sum();
                let operators: Result<Vec<_>, _> =
                    body.get_operators_reader().map_err(text)?.into_iter_with_offsets().collect();
                let operators: Vec<_> = operators.map_err(text)?.into_iter().map(|(op, _)| op).collect();
                Check::new(layout, 1 + locals).function(&operators, &types)?;
            }
            // Which branches are rare.
            Payload::CustomSection(s) if s.name() == "metadata.code.branch_hint" => {}
            Payload::Version { .. }
            | Payload::FunctionSection(_)
            | Payload::ElementSection(_)
            | Payload::CodeSectionStart { .. }
            | Payload::End(_) => {}
            other => return Err(format!("it has a section it should not have: {other:?}")),
        }
    }
    Ok(())
}

fn text(error: wasmparser::BinaryReaderError) -> String {
    error.to_string()
}

fn count(locals: wasmparser::Result<(u32, wasmparser::ValType)>) -> usize {
    locals.map_or(0, |(n, _)| n as usize)
}

impl<'a> Check<'a> {
    fn new(layout: &'a Layout, locals: usize) -> Self {
        let mut check = Self {
            layout,
            table: table(layout),
            values: Vec::new(),
            known: HashMap::new(),
            numbers: 0,
            left: None,
            frames: vec![Frame { is_loop: false, results: 1, height: 0, after: None, other: None }],
            now: None,
        };
        let zero = check.id(Value::Const(0));
        let mut locals = vec![zero; locals];
        locals[0] = check.unknown();
        let facts = BTreeSet::new();
        check.now = Some(State { stack: Vec::new(), locals, facts, memory: 0, tlb: 0, asked: 0, charged: 0 });
        check
    }

    fn id(&mut self, v: Value) -> Id {
        let next = self.values.len();
        let id = *self.known.entry(v).or_insert(next);
        if id == next {
            self.values.push(v);
        }
        id
    }
    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }
    fn unknown(&mut self) -> Id {
        let n = self.number();
        self.id(Value::Unknown(n))
    }
    fn constant(&self, id: Id) -> Option<u64> {
        match self.values[id] {
            Value::Const(c) => Some(c),
            _ => None,
        }
    }

    fn trusted(&self, at: Id, offset: u64) -> Option<Trusted> {
        let one = self.constant(at) == Some(0);
        trusted(self.layout)
            .into_iter()
            .find(|f| f.place == offset && if f.step == 0 { one } else { self.multiple(at) >= f.step })
    }

    /// The largest the value can be.
    fn most(&self, id: Id) -> u64 {
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
                    Bin::Sub => all,
                    Bin::GtU | Bin::LtS => 1,
                }
            }
            Value::Wrap(a) => self.most(a).min(u32::MAX.into()),
            Value::IsZero(_) | Value::Truth(_) => 1,
            Value::Unknown(_) | Value::Fill(..) | Value::Host(..) => u64::MAX,
        }
    }

    /// A power of two that the value is a multiple of.
    fn multiple(&self, id: Id) -> u64 {
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
            _ => 1,
        }
    }

    /// Bytes at the host's address that this is, and whether they may be written.
    fn host(&self, id: Id, s: &State) -> Option<(u64, bool)> {
        match self.values[id] {
            Value::Host(bytes, write, tlb, _) if tlb == s.tlb => Some((bytes, write)),
            Value::Fill(how, tlb, _) if tlb == s.tlb => {
                let zero = self.known.get(&Value::IsZero(id))?;
                s.facts.contains(&(*zero, false)).then_some((how & 0xff, how >> 8 != 0))
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
                let tag = self.known.get(&Value::Load(entry, table, 8, memory))?;
                let distance = *self.known.get(&Value::Bin(Bin::Sub, 64, la, *tag))?;
                s.facts.iter().find_map(|&(fact, holds)| match self.values[fact] {
                    Value::Bin(Bin::GtU, 64, a, most) if a == distance && !holds => {
                        Some((PAGE.checked_sub(self.constant(most)?)?, write))
                    }
                    _ => None,
                })
            }
            _ => None,
        }
    }

    /// An access of `bytes` at `at + offset`.
    fn access(&self, at: Id, offset: u64, bytes: u64, write: bool) -> Result<(), String> {
        let Some(s) = &self.now else { return Ok(()) };
        if let Some((n, writable)) = self.host(at, s) {
            let good = offset == 0 && bytes <= n && (writable || !write);
            return if good {
                Ok(())
            } else {
                Err(format!("{bytes} bytes, write {write}: checked for {n}, {writable}"))
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

    fn show(&self, id: Id, depth: u32) -> String {
        let part = |id| if depth == 0 { "...".into() } else { self.show(id, depth - 1) };
        match self.values[id] {
            Value::Bin(op, _, a, b) => format!("({op:?} {} {})", part(a), part(b)),
            Value::Load(at, offset, bytes, _) => format!("[{} + {offset:x}; {bytes}]", part(at)),
            Value::Wrap(a) => format!("(low {})", part(a)),
            v => format!("{v:x?}"),
        }
    }

    /// What holds where two ways meet.
    fn meet(&mut self, a: Option<State>, b: Option<State>) -> Option<State> {
        let (mut a, b) = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (a, b) => return a.or(b),
        };
        if a.memory != b.memory {
            a.memory = self.number();
        }
        let same_tlb = a.tlb == b.tlb;
        for n in 0..a.stack.len().min(b.stack.len()) {
            let hosts = (self.host(a.stack[n], &a), self.host(b.stack[n], &b));
            a.stack[n] = match hosts {
                (Some((n, v)), Some((m, w))) if same_tlb => {
                    let number = self.number();
                    self.id(Value::Host(n.min(m), v && w, a.tlb, number))
                }
                _ => self.either(a.stack[n], b.stack[n]),
            };
        }
        for n in 0..a.locals.len() {
            a.locals[n] = self.either(a.locals[n], b.locals[n]);
        }
        if !same_tlb {
            a.tlb = self.number();
        }
        a.facts.retain(|fact| b.facts.contains(fact));
        a.asked &= b.asked;
        a.charged &= b.charged;
        Some(a)
    }

    fn either(&mut self, a: Id, b: Id) -> Id {
        if a == b { a } else { self.unknown() }
    }

    fn pop(&mut self) -> Id {
        let top = self.now.as_mut().and_then(|s| s.stack.pop());
        // Where nothing comes, anything may be popped.
        top.unwrap_or_else(|| self.unknown())
    }
    fn push(&mut self, id: Id) {
        if let Some(s) = &mut self.now {
            s.stack.push(id);
        }
    }

    /// A way goes to a label.
    fn go(&mut self, depth: u32, state: Option<State>) -> Result<(), String> {
        let at = self.frames.len() - 1 - depth as usize;
        let Some(mut state) = state else { return Ok(()) };
        let frame = &self.frames[at];
        if frame.is_loop {
            let bit = 1 << at;
            let good = state.asked & state.charged & bit != 0;
            return if good { Ok(()) } else { Err("a loop goes round without asking for its budget".into()) };
        }
        let results = state.stack.split_off(state.stack.len() - frame.results);
        state.stack.truncate(frame.height);
        state.stack.extend(results);
        let before = self.frames[at].after.take();
        self.frames[at].after = self.meet(before, Some(state));
        Ok(())
    }

    fn enter(&mut self, ty: BlockType, is_loop: bool) -> Result<(), String> {
        let results = match ty {
            BlockType::Empty => 0,
            BlockType::Type(_) => 1,
            BlockType::FuncType(_) => return Err("a block with parameters".into()),
        };
        let height = self.now.as_ref().map_or(0, |s| s.stack.len());
        self.frames.push(Frame { is_loop, results, height, after: None, other: None });
        if self.frames.len() > 63 {
            return Err("too deep for this check".into());
        }
        Ok(())
    }

    /// The state with a condition known.
    fn given(&self, condition: Id, holds: bool) -> Option<State> {
        let mut s = self.now.clone()?;
        s.facts.insert((condition, holds));
        if let (false, Value::Bin(Bin::LtS, 64, a, least)) = (holds, self.values[condition]) {
            // The budget covers at least one instruction.
            let left = self.left.is_some_and(|left| s.locals[left as usize] == a);
            if left && self.constant(least).is_some_and(|n| n > 0 && n < 1 << 32) {
                s.asked = u64::MAX;
            }
        }
        if let (false, Value::IsZero(of)) = (holds, self.values[condition]) {
            s.facts.insert((of, true));
        }
        Some(s)
    }

    fn set_local(&mut self, local: u32, v: Id) -> Result<(), String> {
        let in_loop = self.frames.iter().any(|f| f.is_loop);
        let field =
            |id: Id, at: u32| matches!(self.values[id], Value::Load(_, offset, 8, _) if offset == u64::from(at));
        if let Value::Bin(Bin::Sub, 64, a, b) = self.values[v] {
            if self.left.is_none() && field(a, self.layout.left) && field(b, self.layout.floor) {
                self.left = Some(local);
            }
        }
        let charges = match self.values[v] {
            Value::Bin(Bin::Sub, 64, a, n) => {
                let now = self.now.as_ref().map(|s| s.locals[local as usize]);
                Some(a) == now && self.constant(n).is_some_and(|n| n > 0 && n < 1 << 32)
            }
            _ => false,
        };
        let Some(s) = &mut self.now else { return Ok(()) };
        if self.left == Some(local) && in_loop {
            if !charges {
                return Err("the budget is set in a loop".into());
            }
            s.charged = u64::MAX;
        }
        s.locals[local as usize] = v;
        Ok(())
    }

    fn bin(&mut self, op: Bin, bits: u32) {
        let (b, a) = (self.pop(), self.pop());
        let id = self.id(Value::Bin(op, bits, a, b));
        self.push(id);
    }

    fn load(&mut self, offset: u64, bytes: u64, signed: bool) -> Result<(), String> {
        let at = self.pop();
        self.access(at, offset, bytes, false)?;
        let memory = self.now.as_ref().map_or(0, |s| s.memory);
        let id = if signed { self.unknown() } else { self.id(Value::Load(at, offset, bytes, memory)) };
        self.push(id);
        Ok(())
    }

    fn store(&mut self, offset: u64, bytes: u64) -> Result<(), String> {
        self.pop();
        let at = self.pop();
        self.access(at, offset, bytes, true)?;
        let n = self.number();
        if let Some(s) = &mut self.now {
            s.memory = n;
        }
        Ok(())
    }

    fn call(&mut self, function: u32, types: &Types) -> Result<(), String> {
        let ty = types.1.get(function as usize).and_then(|t| types.0.get(*t as usize));
        let ty = ty.ok_or("it calls itself")?.unwrap_func();
        let mut given: Vec<Id> = ty.params().iter().map(|_| self.pop()).collect();
        given.reverse();
        let is = |check: &Self, n: usize, at: u32| check.constant(given[n]) == Some(at.into());
        let good = match function {
            import::FILL => is(self, 0, self.layout.cpu) && self.constant(given[2]).is_some(),
            import::PLAIN => {
                let insn = self.constant(given[1]).unwrap_or(0).wrapping_sub(self.layout.insn(0).into());
                let size = size_of::<Insn>() as u64;
                is(self, 0, self.layout.cpu) && insn % size == 0 && insn / size < MAX_INSNS as u64
            }
            import::IMAGE => is(self, 0, self.layout.cpu),
            import::FOLLOW => is(self, 0, self.layout.cpu) && is(self, 1, self.layout.code),
            _ => true,
        };
        if !good && self.now.is_some() {
            return Err(format!("function {function} is called with other arguments than it should be"));
        }
        let (number, changed) = (self.number(), self.number());
        let tlb = self.now.as_ref().map_or(0, |s| s.tlb);
        let result = match function {
            import::FILL => self.id(Value::Fill(self.constant(given[2]).unwrap_or(0), tlb, number)),
            _ => self.unknown(),
        };
        self.push(result);
        if let Some(s) = &mut self.now {
            s.memory = changed;
            if matches!(function, import::PLAIN | import::FOLLOW) {
                s.tlb = changed;
            }
        }
        Ok(())
    }

    fn function(&mut self, operators: &[O<'_>], types: &Types) -> Result<(), String> {
        for n in 0..operators.len() {
            self.operator(operators, n, types).map_err(|error| format!("operator {n}, {:?}: {error}", operators[n]))?;
        }
        Ok(())
    }

    fn operator(&mut self, operators: &[O<'_>], n: usize, types: &Types) -> Result<(), String> {
        match &operators[n] {
            O::Block { blockty } => self.enter(*blockty, false)?,
            O::Loop { blockty } => {
                self.enter(*blockty, true)?;
                for local in sets(&operators[n + 1..]) {
                    let v = self.unknown();
                    if let Some(s) = &mut self.now {
                        s.locals[local as usize] = v;
                    }
                }
                let (number, bit) = (self.number(), 1 << (self.frames.len() - 1));
                if let Some(s) = &mut self.now {
                    (s.memory, s.tlb) = (number, number);
                    (s.asked, s.charged) = (s.asked & !bit, s.charged & !bit);
                }
            }
            O::If { blockty } => {
                let condition = self.pop();
                self.enter(*blockty, false)?;
                let (yes, no) = (self.given(condition, true), self.given(condition, false));
                self.now = yes;
                self.frames.last_mut().expect("it was just added").other = no;
            }
            O::Else => {
                let now = self.now.take();
                self.go(0, now)?;
                self.now = self.frames.last_mut().and_then(|f| f.other.take());
            }
            O::End => {
                let is_loop = self.frames.last().is_some_and(|f| f.is_loop);
                let now = self.now.take();
                let Some(mut frame) = (if is_loop { self.frames.pop() } else { None }) else {
                    self.go(0, now)?;
                    let frame = self.frames.pop().ok_or("an END too many")?;
                    self.now = self.meet(frame.after, frame.other);
                    return Ok(());
                };
                frame.after = now;
                self.now = frame.after;
            }
            O::Br { relative_depth } => {
                let now = self.now.take();
                self.go(*relative_depth, now)?;
            }
            O::BrIf { relative_depth } => {
                let condition = self.pop();
                let taken = self.given(condition, true);
                self.go(*relative_depth, taken)?;
                self.now = self.given(condition, false);
            }
            O::BrTable { targets } => {
                self.pop();
                let now = self.now.take();
                for to in targets.targets() {
                    self.go(to.map_err(text)?, now.clone())?;
                }
                self.go(targets.default(), now)?;
            }
            O::Unreachable => self.now = None,
            O::Return => self.now = None,
            O::ReturnCallIndirect { type_index, table_index } => {
                if *type_index != REGION_TYPE || *table_index != 0 {
                    return Err("a call of something that is not a region".into());
                }
                self.now = None;
            }
            O::Call { function_index } => self.call(*function_index, types)?,
            O::LocalGet { local_index } => {
                if let Some(v) = self.now.as_ref().map(|s| s.locals[*local_index as usize]) {
                    self.push(v);
                }
            }
            O::LocalSet { local_index } => {
                let v = self.pop();
                self.set_local(*local_index, v)?;
            }
            O::LocalTee { local_index } => {
                let v = self.pop();
                self.set_local(*local_index, v)?;
                self.push(v);
            }
            O::I32Const { value } => {
                let v = self.id(Value::Const(*value as u32 as u64));
                self.push(v);
            }
            O::I64Const { value } => {
                let v = self.id(Value::Const(*value as u64));
                self.push(v);
            }
            O::I64Add => self.bin(Bin::Add, 64),
            O::I64Sub => self.bin(Bin::Sub, 64),
            O::I32Add => self.bin(Bin::Add, 32),
            O::I32Mul => self.bin(Bin::Mul, 32),
            O::I32And => self.bin(Bin::And, 32),
            O::I32Or => self.bin(Bin::Or, 32),
            O::I32Shl => self.bin(Bin::Shl, 32),
            O::I64GtU => self.bin(Bin::GtU, 64),
            O::I64LtS => self.bin(Bin::LtS, 64),
            O::I32WrapI64 => {
                let a = self.pop();
                let v = self.id(Value::Wrap(a));
                self.push(v);
            }
            O::I32Eqz => {
                let a = self.pop();
                let v = self.id(Value::IsZero(a));
                self.push(v);
            }
            O::I32Eq | O::I32Ne | O::I64Eq | O::I64Ne => {
                self.pop();
                self.pop();
                let number = self.number();
                let v = self.id(Value::Truth(number));
                self.push(v);
            }
            O::I64Load8U { memarg } | O::I32Load8U { memarg } => self.load(memarg.offset, 1, false)?,
            O::I64Load16U { memarg } => self.load(memarg.offset, 2, false)?,
            O::I64Load32U { memarg } | O::I32Load { memarg } => self.load(memarg.offset, 4, false)?,
            O::I64Load { memarg } => self.load(memarg.offset, 8, false)?,
            O::V128Load { memarg } => self.load(memarg.offset, 16, true)?,
            O::I32Store8 { memarg } | O::I64Store8 { memarg } => self.store(memarg.offset, 1)?,
            O::I32Store16 { memarg } => self.store(memarg.offset, 2)?,
            O::I32Store { memarg } => self.store(memarg.offset, 4)?,
            O::I64Store { memarg } => self.store(memarg.offset, 8)?,
            O::V128Store { memarg } => self.store(memarg.offset, 16)?,
            other => {
                // Whatever only computes: its result is unknown.
                let name = format!("{other:?}");
                if ["memarg", "Memory", "Table", "Call", "Global", "Ref", "Br"].iter().any(|part| name.contains(part)) {
                    return Err("generated code has no such instruction".into());
                }
                let (takes, gives) = other.operator_arity(types).ok_or("an operator of unknown arity")?;
                for _ in 0..takes {
                    self.pop();
                }
                for _ in 0..gives {
                    let v = self.unknown();
                    self.push(v);
                }
            }
        }
        Ok(())
    }
}

/// The locals that are set up to the END of the loop that begins here.
fn sets(operators: &[O<'_>]) -> BTreeSet<u32> {
    let mut depth = 1;
    let mut found = BTreeSet::new();
    for op in operators {
        match op {
            O::Block { .. } | O::Loop { .. } | O::If { .. } => depth += 1,
            O::End => depth -= 1,
            O::LocalSet { local_index } | O::LocalTee { local_index } => {
                found.insert(*local_index);
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}
