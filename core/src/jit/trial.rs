//! Values as code that runs, for tests.

use super::code::Code;
use super::ir::{VECTOR, Val, Values};
use super::layout::Layout;
use super::locals::Locals;
use super::lower::Lower;
use super::steps::at;
use crate::vector::V128;
use alloc::string::ToString;
use alloc::vec::Vec;
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemorySection, MemoryType, Module, TypeSection,
    ValType,
};

/// Two vectors and a number, which lie at 0, 16 and 32 of the memory.
pub type Input = (V128, V128, u64);

/// A function that computes a value of them, to 48.
pub struct Trial {
    code: Code,
    types: Vec<ValType>,
}

impl Trial {
    /// `None` if there is no value.
    pub fn of(build: impl FnOnce(&mut Values, Val, Val, Val) -> Option<Val>) -> Option<Self> {
        let mut locals = Locals::default();
        let [a, b] = [(); 2].map(|()| locals.take(ValType::V128));
        let x = locals.take(ValType::I64);
        let mut values = Values::default();
        let of = [values.local(a, VECTOR), values.local(b, VECTOR), values.local(x, 64)];
        let v = build(&mut values, of[0], of[1], of[2])?;
        let mut code = Code::default();
        let mut out = code.out();
        out.i32_const(0).v128_load(at(0)).local_set(a).i32_const(0).v128_load(at(16)).local_set(b);
        out.i32_const(0).i64_load(at(32)).local_set(x).i32_const(0);
        let layout = Layout::default();
        let mut lower = Lower::new(&mut code, &mut locals, &values, [v].into_iter(), true, &layout);
        lower.push(v);
        match values.bits(v) {
            VECTOR => lower.out().v128_store(at(48)),
            _ => lower.out().i64_store(at(48)),
        };
        lower.out().end();
        // Behind the parameter that functions of regions have.
        let types = [&[ValType::I32], locals.types()].concat();
        Some(Self { code, types })
    }
}

/// Calls `each` with the number of a function, an input, and the result.
pub fn run(codes: &[&Trial], inputs: &[Input], mut each: impl FnMut(usize, Input, V128)) {
    let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    let (mut memories, mut exports) = (MemorySection::new(), ExportSection::new());
    types.ty().function([], []);
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    exports.export("memory", ExportKind::Memory, 0);
    for (n, of) in (0..).zip(codes) {
        functions.function(0);
        exports.export(&n.to_string(), ExportKind::Func, n);
        let mut f = Function::new_with_locals_types(of.types.iter().copied());
        f.raw(of.code.bytes().iter().copied());
        code.function(&f);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    let engine = wasmi::Engine::default();
    let module = wasmi::Module::new(&engine, module.finish()).expect("it is valid");
    let mut store = wasmi::Store::new(&engine, ());
    let instance = wasmi::Linker::new(&engine).instantiate_and_start(&mut store, &module).expect("it links");
    let memory = instance.get_memory(&store, "memory").expect("it is exported");
    for n in 0..codes.len() {
        let f = instance.get_typed_func::<(), ()>(&store, &n.to_string()).expect("it is exported");
        for &input in inputs {
            let (a, b, x) = input;
            let data = memory.data_mut(&mut store);
            for (to, v) in data.chunks_exact_mut(8).zip([a[0], a[1], b[0], b[1], x, 0, 0, 0]) {
                to.copy_from_slice(&v.to_le_bytes());
            }
            f.call(&mut store, ()).expect("it does not trap");
            let mut r = [[0; 8]; 2];
            r.as_flattened_mut().copy_from_slice(&memory.data(&store)[48..64]);
            each(n, input, r.map(u64::from_le_bytes));
        }
    }
}

/// A sequence of numbers.
pub struct Random(pub u64);

impl Random {
    /// The next.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
