//! The module around the functions of regions: what it imports, and the bytes the host compiles.

use super::code::Code;
use alloc::borrow::Cow;
use alloc::vec::Vec;
use wasm_encoder::{
    BranchHints, CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, ImportSection, MemoryType, Module, RefType, TableType, TypeSection, ValType,
};

/// The functions every module imports, by number. `helpers.rs` has what they do.
pub mod import {
    /// `(cpu: i32, la: i64, how: i32) -> i32`: the host's address of an access that the TLB does not serve; 0: none.
    pub const FILL: u32 = 0;
    /// `(cpu, insn: i32) -> i32`: runs an instruction that is not compiled; not 0: leave the region.
    pub const PLAIN: u32 = 1;
    /// `(cpu: i32, op, a, b, r: i64) -> i64`: the flags' image.
    pub const IMAGE: u32 = 2;
    /// `(cpu, code: i32) -> i64`: where the block at RIP is compiled, as in its head record; not negative: nowhere.
    pub const FOLLOW: u32 = 3;
    /// `(cpu, segment, selector: i32) -> i32`: loads a segment register; not 0: nothing is done.
    pub const SEGMENT: u32 = 4;
    /// `(cpu: i32) -> i64`: the time stamp counter.
    pub const TIME: u32 = 5;
    /// How many.
    pub const COUNT: u32 = 6;
    /// Their names, in module "t".
    pub const NAMES: [&str; COUNT as usize] = ["fill", "plain", "image", "follow", "segment", "time"];
}

/// The type of a region's function.
pub const REGION_TYPE: u32 = 0;

/// A function of a module.
pub struct Region {
    /// The types of its locals but the parameter.
    pub locals: Vec<ValType>,
    /// Its code.
    pub code: Code,
}

const TABLE: TableType =
    TableType { element_type: RefType::FUNCREF, table64: false, minimum: 0, maximum: None, shared: false };

/// A module whose function `enter` calls one of the table: it takes the number of an entry and the function's place. With
/// `tail`, as a tail call: a host that refuses that module has none.
pub fn entrance(tail: bool) -> Vec<u8> {
    use ValType::I32;
    let mut types = TypeSection::new();
    types.ty().function([I32], [I32]);
    types.ty().function([I32; 2], [I32]);
    let mut imports = ImportSection::new();
    imports.import("t", "table", EntityType::Table(TABLE));
    let (mut functions, mut exports, mut code) = (FunctionSection::new(), ExportSection::new(), CodeSection::new());
    functions.function(1);
    exports.export("enter", ExportKind::Func, 0);
    let mut function = Function::new([]);
    let mut out = function.instructions();
    out.local_get(0).local_get(1);
    if tail { out.return_call_indirect(0, REGION_TYPE) } else { out.call_indirect(0, REGION_TYPE) }.end();
    code.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&exports).section(&code);
    module.finish()
}

/// A module whose functions take the number of an entry and return that of an exit. When it is instantiated they are
/// put at these places of the table.
pub fn module(regions: &[(u32, Region)]) -> Vec<u8> {
    use ValType::{I32, I64};
    let mut types = TypeSection::new();
    types.ty().function([I32], [I32]);
    types.ty().function([I32, I64, I32], [I32]);
    types.ty().function([I32, I64, I64, I64, I64], [I64]);
    types.ty().function([I32; 2], [I32]);
    types.ty().function([I32; 2], [I64]);
    types.ty().function([I32; 3], [I32]);
    types.ty().function([I32], [I64]);

    let mut imports = ImportSection::new();
    let memory = MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None };
    imports.import("t", "memory", EntityType::Memory(memory));
    imports.import("t", "table", EntityType::Table(TABLE));
    for (name, ty) in import::NAMES.into_iter().zip([1, 3, 2, 4, 5, 6]) {
        imports.import("t", name, EntityType::Function(ty));
    }

    let (mut functions, mut elements) = (FunctionSection::new(), ElementSection::new());
    let (mut hints, mut code) = (BranchHints::new(), CodeSection::new());
    for (n, (place, region)) in (import::COUNT..).zip(regions) {
        functions.function(REGION_TYPE);
        elements.active(None, &ConstExpr::i32_const(*place as i32), Elements::Functions(Cow::Borrowed(&[n])));
        let mut function = Function::new_with_locals_types(region.locals.iter().copied());
        hints.function_hints(n, region.code.hints(function.byte_len()));
        function.raw(region.code.bytes().iter().copied());
        code.function(&function);
    }

    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&elements).section(&hints).section(&code);
    module.finish()
}
