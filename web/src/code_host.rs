//! The browser's (or node's) own compiler as the host of generated code: a module is compiled at once, and puts
//! its functions into the table through which this module calls functions by pointer.

use crate::host_ms;
use js_sys::{Object, Reflect, Uint8Array, WebAssembly};
use tabvisor_core::cpu::Cpu;
use tabvisor_core::decode::cache::CodeCache;
use tabvisor_core::decode::insn::Insn;
use tabvisor_core::jit::{CodeHost, Limits, helpers};
use wasm_bindgen::{JsCast, JsValue};

/// What generated code exports: takes the number of an entry, returns that of an exit.
type Compiled = extern "C" fn(u32) -> u32;

/// Places added to the table at once: every module that imports it is told.
const GROWTH: u32 = 256;

/// Compiles with the host of this module.
pub struct Host {
    limits: Limits,
    table: WebAssembly::Table,
    imports: Object,
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

impl Host {
    /// `None` where code cannot be made at run time.
    pub fn new(limits: Limits) -> Option<Self> {
        let table: WebAssembly::Table = wasm_bindgen::function_table().dyn_into().ok()?;
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
        Reflect::set(&imported, &"table".into(), &table).ok()?;
        for (name, place) in functions {
            Reflect::set(&imported, &name.into(), table.get(place as u32).ok()?.as_ref()).ok()?;
        }
        let imports = Object::new();
        Reflect::set(&imports, &"t".into(), &imported).ok()?;
        Some(Self { limits, table, imports, free: Vec::new(), took: 0.0 })
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
        // SAFETY: in WebAssembly a function pointer is a place in the table; `install` put a function of this type
        // there.
        let f = unsafe { core::mem::transmute::<usize, Compiled>(function as usize) };
        f(entry)
    }

    fn remove(&mut self, function: u32) {
        if self.table.set_raw(function, &JsValue::NULL).is_ok() {
            self.free.push(function);
        }
    }

    fn took(&self) -> u64 {
        (self.took * 1e3) as u64
    }
}
