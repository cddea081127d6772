//! Every operation, as code, against its meaning.

use crate::jit::code::Code;
use crate::jit::ir::{VECTOR, Val, Values};
use crate::jit::locals::Locals;
use crate::jit::lower::Lower;
use crate::jit::steps::at;
use crate::size::Size;
use crate::vector::{self, V128, VecImm, VecOp, VecShift};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemorySection, MemoryType, Module, TypeSection,
    ValType,
};

/// What a function computes of the vectors at 0 and 16 and the number at 32, and where: a vector at 48 or a number.
struct Case {
    name: String,
    code: Code,
    types: Vec<ValType>,
    meaning: Box<dyn Fn(V128, V128, u64) -> V128>,
}

/// `None`: the operation has no short form.
fn case(
    name: String,
    build: impl FnOnce(&mut Values, Val, Val, Val) -> Option<Val>,
    meaning: impl Fn(V128, V128, u64) -> V128 + 'static,
) -> Option<Case> {
    let mut locals = Locals::default();
    let [a, b] = [(); 2].map(|()| locals.take(ValType::V128));
    let count = locals.take(ValType::I64);
    let mut values = Values::default();
    let of = [values.local(a, VECTOR), values.local(b, VECTOR), values.local(count, 64)];
    let v = build(&mut values, of[0], of[1], of[2])?;
    let mut code = Code::default();
    let mut out = code.out();
    out.i32_const(0).v128_load(at(0)).local_set(a).i32_const(0).v128_load(at(16)).local_set(b);
    out.i32_const(0).i64_load(at(32)).local_set(count).i32_const(0);
    let mut lower = Lower::new(&mut code, &mut locals, &values, [v].into_iter(), true, 0);
    lower.push(v);
    match values.bits(v) {
        VECTOR => lower.out().v128_store(at(48)),
        _ => lower.out().i64_store(at(48)),
    };
    lower.out().end();
    // Behind the parameter that functions of regions have.
    let types = [&[ValType::I32], locals.types()].concat();
    Some(Case { name, code, types, meaning: Box::new(meaning) })
}

/// Compares code and meaning for these inputs.
fn compare(cases: &[Case], inputs: &[(V128, V128, u64)]) {
    let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    let (mut memories, mut exports) = (MemorySection::new(), ExportSection::new());
    types.ty().function([], []);
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    exports.export("memory", ExportKind::Memory, 0);
    for (n, case) in (0..).zip(cases) {
        functions.function(0);
        exports.export(&n.to_string(), ExportKind::Func, n);
        let mut f = Function::new_with_locals_types(case.types.iter().copied());
        f.raw(case.code.bytes().iter().copied());
        code.function(&f);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    let engine = wasmi::Engine::default();
    let module = wasmi::Module::new(&engine, module.finish()).expect("it is valid");
    let mut store = wasmi::Store::new(&engine, ());
    let instance = wasmi::Linker::new(&engine).instantiate_and_start(&mut store, &module).expect("it links");
    let memory = instance.get_memory(&store, "memory").expect("it is exported");
    for (n, case) in cases.iter().enumerate() {
        let f = instance.get_typed_func::<(), ()>(&store, &n.to_string()).expect("it is exported");
        for &(a, b, count) in inputs {
            let data = memory.data_mut(&mut store);
            for (to, v) in data.chunks_exact_mut(8).zip([a[0], a[1], b[0], b[1], count, 0, 0, 0]) {
                to.copy_from_slice(&v.to_le_bytes());
            }
            f.call(&mut store, ()).expect("it does not trap");
            let mut r = [[0; 8]; 2];
            r.as_flattened_mut().copy_from_slice(&memory.data(&store)[48..64]);
            let (got, want) = (r.map(u64::from_le_bytes), (case.meaning)(a, b, count));
            assert_eq!(got, want, "{} of {a:x?}, {b:x?}, {count}: {got:x?}, not {want:x?}", case.name);
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    /// Often bytes, words and doublewords at the edges of their ranges.
    fn half(&mut self) -> u64 {
        const EDGES: [u16; 16] =
            [0, 1, 2, 0x7f, 0x80, 0x81, 0xff, 0x100, 0x7f80, 0x7fff, 0x8000, 0x8001, 0x80ff, 0xff7f, 0xfffe, 0xffff];
        match self.next() & 3 {
            0 => self.next(),
            1 => (0..4).fold(0, |v, _| v << 16 | u64::from(EDGES[self.next() as usize & 15])),
            2 => (0..8).fold(0, |v, _| v << 8 | u64::from(EDGES[self.next() as usize & 15] as u8)),
            _ => [0x7fff_ffff, 0x8000_0000, 0xffff_ffff_8000_0000, 0x8000_0000_0000_0000][self.next() as usize & 3],
        }
    }
    fn inputs(&mut self, number: usize) -> Vec<(V128, V128, u64)> {
        let counts = [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 1 << 31, 1 << 32, u64::MAX];
        (0..number)
            .map(|n| {
                let a = [self.half(), self.half()];
                let b = if n % 8 == 0 { a } else { [self.half(), self.half()] };
                (a, b, counts[n % counts.len()])
            })
            .collect()
    }
}

#[test]
fn operations_are_what_they_mean() {
    let mut missing = Vec::new();
    let mut cases = Vec::new();
    for &op in VecOp::ALL {
        let before = cases.len();
        cases.extend(case(format!("{op:?}"), |v, a, b, _| v.vec(op, a, b), move |a, b, _| op.run(a, b)));
        cases.extend(case(format!("{op:?} itself"), |v, a, _, _| v.vec(op, a, a), move |a, _, _| op.run(a, a)));
        if cases.len() == before {
            missing.push(op);
        }
    }
    assert_eq!(missing, [VecOp::MinPosU16]);
    compare(&cases, &Random(0x9e37_79b9_7f4a_7c15).inputs(3000));
}

#[test]
fn operations_with_an_immediate_are_what_they_mean() {
    let mut missing = Vec::new();
    let mut cases = Vec::new();
    for &op in VecImm::ALL {
        let before = cases.len();
        for imm in 0..=255 {
            let name = format!("{op:?} {imm:#x}");
            cases.extend(case(name, |v, a, b, _| v.vec_imm(op, a, b, imm), move |a, b, _| op.run(a, b, imm)));
        }
        if cases.len() == before {
            missing.push(op);
        }
    }
    assert_eq!(missing, [VecImm::MultiSad8]);
    compare(&cases, &Random(7).inputs(20));
}

#[test]
fn shifts_are_what_they_mean() {
    let mut cases = Vec::new();
    for &op in VecShift::ALL {
        let any = |v: &mut Values, a, _, count| Some(v.vec_shift(op, a, count));
        cases.extend(case(format!("{op:?}"), any, move |a, _, count| op.run(a, count)));
        for imm in 0..=255 {
            let by = |v: &mut Values, a, _, _| {
                let count = v.imm(imm);
                Some(v.vec_shift(op, a, count))
            };
            cases.extend(case(format!("{op:?} {imm}"), by, move |a, _, _| op.run(a, imm)));
        }
    }
    compare(&cases, &Random(11).inputs(54));
}

#[test]
fn lanes_are_where_they_belong() {
    let mut cases = Vec::new();
    cases.extend(case("pair".into(), |v, _, _, x| Some(v.pair(x, x)), |_, _, x| [x, x]));
    let low = |v: &mut Values, _, _, x| {
        let zero = v.imm(0);
        Some(v.pair(x, zero))
    };
    cases.extend(case("low".into(), low, |_, _, x| [x, 0]));
    let both = |v: &mut Values, a, b, _| {
        let (lo, hi) = (v.lane(a, Size::B8, 0), v.lane(b, Size::B8, 1));
        Some(v.pair(lo, hi))
    };
    cases.extend(case("halves".into(), both, |a, b, _| [a[0], b[1]]));
    for size in [Size::B1, Size::B2, Size::B4, Size::B8] {
        let name = format!("signs {size:?}");
        cases.extend(case(name, |v, a, _, _| Some(v.signs(a, size)), move |a, _, _| [vector::signs(a, size), 0]));
        for k in 0..16 {
            let name = format!("lane {k} {size:?}");
            let lane = move |a, _, _| [vector::extract(a, size, k), 0];
            cases.extend(case(name.clone(), |v, a, _, _| Some(v.lane(a, size, k)), lane));
            let with = move |a, _, x| vector::insert(a, size, k, x);
            cases.extend(case(name, |v, a, _, x| Some(v.with_lane(a, size, k, x)), with));
        }
    }
    compare(&cases, &Random(13).inputs(100));
}
