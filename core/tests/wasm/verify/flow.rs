//! The ways through a function, and what holds on them.

use super::values::{Bin, Id, State, Value};
use super::{Types, table, text, trusted};
use std::collections::{BTreeSet, HashMap};
use tabvisor_core::decode::cache::MAX_INSNS;
use tabvisor_core::decode::insn::Insn;
use tabvisor_core::jit::layout::Layout;
use tabvisor_core::jit::module::{REGION_TYPE, import};
use wasmparser::{BlockType, Operator as O};

/// The local that holds the TLB's context, and nothing else.
const CONTEXT: u32 = 3;

struct Frame {
    is_loop: bool,
    results: usize,
    height: usize,
    /// The state behind it, as far as ways have come there.
    after: Option<State>,
    /// The state at its ELSE.
    other: Option<State>,
}

/// A function that is checked.
pub struct Check<'a> {
    pub(super) layout: &'a Layout,
    pub(super) table: Vec<(u64, u64, bool)>,
    pub(super) values: Vec<Value>,
    pub(super) known: HashMap<Value, Id>,
    pub(super) numbers: u32,
    /// The local that holds the budget.
    left: Option<u32>,
    frames: Vec<Frame>,
    /// `None`: nothing comes here.
    pub(super) now: Option<State>,
}

impl<'a> Check<'a> {
    pub fn new(layout: &'a Layout, locals: usize) -> Self {
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
        check.now =
            Some(State { stack: Vec::new(), locals, facts, memory: 0, tlb: 0, asked: 0, charged: 0, put_back: false });
        check
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
                (Some((from, to, v)), Some((begin, end, w))) if same_tlb => {
                    let number = self.number();
                    self.id(Value::Host(from.max(begin), to.min(end), v && w, a.tlb, number))
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
        a.put_back &= b.put_back;
        Some(a)
    }

    fn either(&mut self, a: Id, b: Id) -> Id {
        match a == b {
            true => a,
            false if self.is_context(a) && self.is_context(b) => self.some_context(),
            false => self.unknown(),
        }
    }

    /// Is the value the distance of a context in the TLB?
    fn is_context(&self, v: Id) -> bool {
        let [context, ..] = trusted(self.layout);
        self.most(v) <= context.most && self.multiple(v) >= context.multiple
    }
    fn some_context(&mut self) -> Id {
        let n = self.number();
        self.id(Value::Context(n))
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
        let taken = match self.values[v] {
            Value::Bin(Bin::Sub, 64, a, b) => field(a, self.layout.left) && field(b, self.layout.floor),
            _ => false,
        };
        if self.left.is_none() && taken {
            self.left = Some(local);
        }
        let charges = match self.values[v] {
            Value::Bin(Bin::Sub, 64, a, n) => {
                let now = self.now.as_ref().map(|s| s.locals[local as usize]);
                Some(a) == now && self.constant(n).is_some_and(|n| n > 0 && n < 1 << 32)
            }
            _ => false,
        };
        if local == CONTEXT && self.now.is_some() && !self.is_context(v) {
            return Err("the local of the TLB's context becomes something else".into());
        }
        let Some(s) = &mut self.now else { return Ok(()) };
        if self.left == Some(local) {
            if in_loop && charges {
                s.charged = u64::MAX;
            } else if in_loop && !(taken && s.put_back) {
                return Err("the budget is set in a loop".into());
            }
            s.put_back = false;
        }
        s.locals[local as usize] = v;
        Ok(())
    }

    fn bin(&mut self, op: Bin, bits: u32) {
        let (b, a) = (self.pop(), self.pop());
        let id = self.id(Value::Bin(op, bits, a, b));
        // A host's address stays one whatever is stored meanwhile.
        let host = self.now.as_ref().and_then(|s| self.host(id, s).map(|at| (at, s.tlb)));
        let id = match host {
            Some(((from, to, write), tlb)) => {
                let number = self.number();
                self.id(Value::Host(from, to, write, tlb, number))
            }
            None => id,
        };
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
        let v = self.pop();
        let at = self.pop();
        self.access(at, offset, bytes, true)?;
        // A field whose values are trusted.
        if offset == u64::from(self.layout.tlb_bytes) && !self.is_context(v) && self.now.is_some() {
            return Err("the TLB's context becomes something else".into());
        }
        let n = self.number();
        let floor = |id: Id| matches!(self.values[id], Value::Load(_, at, 8, _) if at == u64::from(self.layout.floor));
        let sum = match self.values[v] {
            Value::Bin(Bin::Add, 64, a, b) if floor(b) => Some(a),
            _ => None,
        };
        let left = self.left;
        if let Some(s) = &mut self.now {
            s.memory = n;
            if offset == u64::from(self.layout.left) {
                s.put_back = sum.is_some() && left.map(|left| s.locals[left as usize]) == sum;
            }
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
            import::IMAGE | import::TIME => is(self, 0, self.layout.cpu),
            import::SEGMENT => is(self, 0, self.layout.cpu) && self.constant(given[1]).is_some_and(|s| s < 6),
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
            if matches!(function, import::PLAIN | import::FOLLOW | import::SEGMENT) {
                s.tlb = changed;
            }
        }
        Ok(())
    }

    pub fn function(&mut self, operators: &[O<'_>], types: &Types) -> Result<(), String> {
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
                    let v = if local == CONTEXT { self.some_context() } else { self.unknown() };
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
            O::I32Add => self.bin(Bin::Add, 32),
            O::I64Sub => self.bin(Bin::Sub, 64),
            O::I64Xor => self.bin(Bin::Xor, 64),
            O::I32Mul => self.bin(Bin::Mul, 32),
            O::I32And => self.bin(Bin::And, 32),
            O::I32Or => self.bin(Bin::Or, 32),
            O::I32Shl => self.bin(Bin::Shl, 32),
            O::I64GtU => self.bin(Bin::GtU, 64),
            O::I32GtU => self.bin(Bin::GtU, 32),
            O::I64LtS => self.bin(Bin::LtS, 64),
            O::I32WrapI64 => {
                let a = self.pop();
                let v = self.id(Value::Wrap(a));
                self.push(v);
            }
            O::I64ExtendI32U => {
                let a = self.pop();
                // The same number.
                let v = if self.most(a) <= u32::MAX.into() { a } else { self.unknown() };
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
            O::V128Load32Zero { memarg } => self.load(memarg.offset, 4, true)?,
            O::V128Load64Zero { memarg } => self.load(memarg.offset, 8, true)?,
            O::V128Load { memarg } => self.load(memarg.offset, 16, true)?,
            O::I32Store8 { memarg } | O::I64Store8 { memarg } => self.store(memarg.offset, 1)?,
            O::I32Store16 { memarg } | O::I64Store16 { memarg } => self.store(memarg.offset, 2)?,
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
