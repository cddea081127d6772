//! The browser's (or node's) own compiler as the host of generated code: a module is compiled at once, and puts its
//! functions into a table.
//!
//! That table is one of its own, and a new one whenever all code is dropped: some of V8's versions keep every instance that
//! has imported a table as long as the table lives. This module calls by pointer, that is, through the table of its own
//! functions, where one function lets it into the other table.

use crate::host_ms;
use js_sys::{Object, Reflect, Uint8Array, WebAssembly};
use tabvisor_core::cpu::Cpu;
use tabvisor_core::decode::cache::CodeCache;
use tabvisor_core::decode::insn::Insn;
use tabvisor_core::jit::{CodeHost, Limits, helpers, module};
use wasm_bindgen::{JsCast, JsValue};

/// `enter` of [`module::entrance`]: takes the number of an entry and a place of the table, returns the number of an exit.
type Enter = extern "C" fn(u32, u32) -> u32;

/// Places added to the table at once: every module that imports it is told.
const GROWTH: u32 = 256;

/// Compiles with the host of this module.
pub struct Host {
    limits: Limits,
    /// This module's own functions, and those of generated code.
    own: WebAssembly::Table,
    table: WebAssembly::Table,
    /// What modules import, and what is in its module "t".
    imports: Object,
    imported: Object,
    /// The place of [`Enter`] in this module's own table.
    enter: u32,
    /// Places of the table that are free again.
    free: Vec<u32>,
    /// Milliseconds spent compiling.
    took: f64,
}

/// The memory's address of a pointer is the pointer.
fn cpu<'a>(at: u32) -> &'a mut Cpu {
    // SAFETY: generated code gives the address of the CPU that runs it. Whoever called it gave up its own reference for
    // as long as it runs.
    unsafe { &mut *(at as usize as *mut Cpu) }
}

extern "C" fn fill(at: u32, la: u64, how: u32) -> u32 {
    helpers::fill(cpu(at), la, how)
}

extern "C" fn plain(at: u32, insn: u32) -> u32 {
    // SAFETY: generated code gives the address of an instruction of the code cache, which outlives it.
    helpers::plain(cpu(at), unsafe { &*(insn as usize as *const Insn) })
}

extern "C" fn image(at: u32, told: u64, a: u64, b: u64, r: u64) -> u64 {
    helpers::image(cpu(at), told, a, b, r)
}

extern "C" fn follow(at: u32, code: u32) -> u64 {
    // SAFETY: generated code gives the address of the code cache, to which whoever called it gave up its own reference.
    helpers::follow(cpu(at), unsafe { &mut *(code as usize as *mut CodeCache) })
}

extern "C" fn segment(at: u32, s: u32, selector: u32) -> u32 {
    helpers::segment(cpu(at), s, selector)
}

extern "C" fn time(at: u32) -> u64 {
    helpers::time(cpu(at))
}

/// An empty table, which modules import from now on, and into which the place `enter` leads. If that fails, nothing has
/// changed.
fn begin(own: &WebAssembly::Table, enter: u32, imported: &Object) -> Result<WebAssembly::Table, JsValue> {
    let shape = Object::new();
    Reflect::set(&shape, &"element".into(), &"anyfunc".into())?;
    Reflect::set(&shape, &"initial".into(), &0.into())?;
    let table = WebAssembly::Table::new(&shape)?;
    let (imports, t) = (Object::new(), Object::new());
    Reflect::set(&t, &"table".into(), &table)?;
    Reflect::set(&imports, &"t".into(), &t)?;
    let entrance = WebAssembly::Module::new(&Uint8Array::from(&module::entrance(false)[..]))?;
    let entrance = WebAssembly::Instance::new(&entrance, &imports)?;
    let into = Reflect::get(&entrance.exports(), &"enter".into())?;
    Reflect::set(imported, &"table".into(), &table)?;
    own.set_raw(enter, &into)?;
    Ok(table)
}

/// The host frees the modules that were dropped when it next looks for garbage, for which running code gives it no reason
/// for minutes. Buffers that nobody keeps are one; their memory is never touched.
fn hint_at_garbage() {
    for _ in 0..HINTS {
        // A host without so much memory throws, and has looked then.
        if Reflect::construct(&js_sys::ArrayBuffer::new(0).constructor(), &js_sys::Array::of1(&HINT.into())).is_err() {
            return;
        }
    }
}

/// Buffers, and their bytes: V8 starts to mark at 64 MB of memory outside of its heap.
const HINTS: u32 = 4;
const HINT: u32 = 32 << 20;

impl Host {
    /// `None` where code cannot be made at run time.
    pub fn new(limits: Limits) -> Option<Self> {
        let own: WebAssembly::Table = wasm_bindgen::function_table().dyn_into().ok()?;
        let functions = [
            ("fill", fill as *const () as usize),
            ("plain", plain as *const () as usize),
            ("image", image as *const () as usize),
            ("follow", follow as *const () as usize),
            ("segment", segment as *const () as usize),
            ("time", time as *const () as usize),
        ];
        let imported = Object::new();
        Reflect::set(&imported, &"memory".into(), &wasm_bindgen::memory()).ok()?;
        for (name, place) in functions {
            Reflect::set(&imported, &name.into(), own.get(place as u32).ok()?.as_ref()).ok()?;
        }
        let imports = Object::new();
        Reflect::set(&imports, &"t".into(), &imported).ok()?;
        let enter = own.grow(1).ok()?;
        let table = begin(&own, enter, &imported).ok()?;
        let tail_call = Uint8Array::from(&module::entrance(true)[..]);
        let tail_calls = limits.tail_calls && WebAssembly::validate(&tail_call).unwrap_or(false);
        let limits = Limits { tail_calls, ..limits };
        Some(Self { limits, own, table, imports, imported, enter, free: Vec::new(), took: 0.0 })
    }

    fn instantiate(&mut self, module: &[u8]) -> Result<(), JsValue> {
        let bytes = Uint8Array::from(module);
        let module = WebAssembly::Module::new(&bytes)?;
        WebAssembly::Instance::new(&module, &self.imports)?;
        Ok(())
    }
}

impl CodeHost for Host {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn reserve(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            let first = self.table.grow(GROWTH).ok()?;
            self.free.extend((first..first + GROWTH).rev());
        }
        self.free.pop()
    }

    fn install(&mut self, module: &[u8]) -> bool {
        let start = host_ms();
        let done = self.instantiate(module).is_ok();
        self.took += host_ms() - start;
        done
    }

    fn call(&mut self, _: &mut Cpu, _: &mut CodeCache, function: u32, entry: u32) -> u32 {
        // SAFETY: in WebAssembly a function pointer is a place in the table; `begin` put a function of this type there.
        let enter = unsafe { core::mem::transmute::<usize, Enter>(self.enter as usize) };
        enter(entry, function)
    }

    fn remove(&mut self, function: u32) {
        if self.table.set_raw(function, &JsValue::NULL).is_ok() {
            self.free.push(function);
        }
    }

    fn clear(&mut self) {
        // Nothing was put into it, as when a machine begins.
        if self.table.length() == 0 {
            return;
        }
        // If that fails, the old table does as well.
        if let Ok(table) = begin(&self.own, self.enter, &self.imported) {
            self.table = table;
            self.free.clear();
            hint_at_garbage();
        }
    }

    fn took(&self) -> u64 {
        (self.took * 1e3) as u64
    }
}
