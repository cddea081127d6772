//! The module around a region's function: what it imports, and the bytes the host compiles.

use alloc::vec::Vec;
use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, MemoryType, Module,
    RefType, TableType, TypeSection, ValType,
};

/// The functions every module imports, by number. `helpers.rs` has what they do.
pub mod import {
    /// `(cpu: i32, la: i64, how: i32) -> i32`: the host's address of an access that the TLB does not serve; 0: none.
    pub const FILL: u32 = 0;
    /// `(cpu, insn: i32) -> i32`: runs an instruction that is not compiled; not 0: leave the region.
    pub const PLAIN: u32 = 1;
    /// `(cpu: i32, op, a, b, r: i64) -> i64`: the flags' image.
    pub const IMAGE: u32 = 2;
    /// How many.
    pub const COUNT: u32 = 3;
    /// Their names, in module "t".
    pub const NAMES: [&str; COUNT as usize] = ["fill", "plain", "image"];
}

/// The type of a region's function.
pub const REGION_TYPE: u32 = 0;

/// A module whose function "r" takes the number of an entry and returns that of an exit.
pub fn module(locals: &[ValType], body: &[u8]) -> Vec<u8> {
    use ValType::{I32, I64};
    let mut types = TypeSection::new();
    types.ty().function([I32], [I32]);
    types.ty().function([I32, I64, I32], [I32]);
    types.ty().function([I32, I64, I64, I64, I64], [I64]);
    types.ty().function([I32; 2], [I32]);

    let mut imports = ImportSection::new();
    let memory = MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None };
    imports.import("t", "memory", EntityType::Memory(memory));
    let table = TableType { element_type: RefType::FUNCREF, table64: false, minimum: 0, maximum: None, shared: false };
    imports.import("t", "table", EntityType::Table(table));
    for (name, ty) in import::NAMES.into_iter().zip([1, 3, 2]) {
        imports.import("t", name, EntityType::Function(ty));
    }

    let mut functions = FunctionSection::new();
    functions.function(REGION_TYPE);
    let mut exports = ExportSection::new();
    exports.export("r", ExportKind::Func, import::COUNT);

    let mut function = Function::new_with_locals_types(locals.iter().copied());
    function.raw(body.iter().copied());
    let mut code = CodeSection::new();
    code.function(&function);

    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&exports).section(&code);
    module.finish()
}
