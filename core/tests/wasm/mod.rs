//! A host for compiled code on this machine: the wasmi interpreter, working on this process's own memory.
//!
//! Generated code has 32-bit addresses. So everything this process allocates comes from four gigabytes that begin at a
//! multiple of four gigabytes: the low half of a pointer is its address in the WebAssembly memory that lies there.

mod verify;

use dlmalloc::{Allocator, Dlmalloc};
use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, OnceLock};
use tabvisor_core::cpu::Cpu;
use tabvisor_core::decode::cache::CodeCache;
use tabvisor_core::decode::insn::Insn;
use tabvisor_core::jit::layout::Layout as Places;
use tabvisor_core::jit::{CodeHost, Limits, helpers};
use wasmi::{
    Caller, Engine, Linker, Memory, MemoryType, Module, Nullable, Ref, RefType, Store, Table, TableType, TypedFunc,
};

/// What addresses in the memory are counted from is a multiple of this.
const ALIGN: usize = 1 << 32;
/// Size of the memory.
const SPACE: usize = 1 << 30;

/// The memory, seen at two places: `base` is where this process works with it.
struct Shared {
    fd: i32,
    base: usize,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let fd = file(SPACE);
        let reserved = map(std::ptr::null_mut(), 2 * ALIGN, libc::PROT_NONE, 0, None);
        let base = reserved.next_multiple_of(ALIGN);
        map(base as *mut _, SPACE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_FIXED, Some(fd));
        Shared { fd, base }
    })
}

/// A file of zeros in memory.
fn file(size: usize) -> i32 {
    // SAFETY: system calls with valid arguments.
    unsafe {
        let fd = libc::memfd_create(c"tabvisor".as_ptr(), 0);
        assert!(fd >= 0 && libc::ftruncate(fd, size as i64) == 0, "no memory of {size} bytes");
        fd
    }
}

fn map(at: *mut libc::c_void, size: usize, access: i32, flags: i32, fd: Option<i32>) -> usize {
    let kind = if fd.is_some() { libc::MAP_SHARED } else { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS };
    // SAFETY: a fixed place is one that was reserved before.
    let at = unsafe { libc::mmap(at, size, access, flags | kind | libc::MAP_NORESERVE, fd.unwrap_or(-1), 0) };
    assert!(at != libc::MAP_FAILED, "no {size} bytes of addresses");
    at as usize
}

/// The same memory at another place, for wasmi. It clears what it is given, so it is given something else first.
fn view() -> &'static mut [u8] {
    const PART: usize = 2 << 20;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let scratch = file(PART);
    let at = map(std::ptr::null_mut(), SPACE, libc::PROT_NONE, 0, None);
    for part in (at..at + SPACE).step_by(PART) {
        map(part as *mut _, PART, access, libc::MAP_FIXED, Some(scratch));
    }
    // SAFETY: addresses that nothing else in this process refers to.
    unsafe { std::slice::from_raw_parts_mut(at as *mut u8, SPACE) }
}

/// The allocator's source.
struct Pages {
    used: Mutex<usize>,
}

// SAFETY: hands out parts of the mapping once, in order.
unsafe impl Allocator for &Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let mut used = self.used.lock().expect("nobody panics while holding it");
        // Nothing lies at the address that would be null.
        let at = (*used).max(1 << 16);
        if at + size > SPACE {
            return (std::ptr::null_mut(), 0, 0);
        }
        *used = at + size;
        ((shared().base + at) as *mut u8, size, 0)
    }
    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        std::ptr::null_mut()
    }
    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }
    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }
    fn can_release_part(&self, _: u32) -> bool {
        false
    }
    fn allocates_zeros(&self) -> bool {
        true
    }
    fn page_size(&self) -> usize {
        1 << 16
    }
}

static PAGES: Pages = Pages { used: Mutex::new(0) };

/// The allocator of a test that uses [`Wasmi`].
pub struct Global {
    heap: Mutex<Dlmalloc<&'static Pages>>,
}

impl Global {
    pub const fn new() -> Self {
        Self { heap: Mutex::new(Dlmalloc::new_with_allocator(&PAGES)) }
    }
}

// SAFETY: dlmalloc behind a lock.
unsafe impl GlobalAlloc for Global {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        unsafe { self.heap.lock().expect("no panics inside").malloc(l.size(), l.align()) }
    }
    unsafe fn alloc_zeroed(&self, l: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        unsafe { self.heap.lock().expect("no panics inside").calloc(l.size(), l.align()) }
    }
    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        // SAFETY: as the caller says.
        unsafe { self.heap.lock().expect("no panics inside").free(p, l.size(), l.align()) }
    }
    unsafe fn realloc(&self, p: *mut u8, l: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller says.
        unsafe { self.heap.lock().expect("no panics inside").realloc(p, l.size(), l.align(), size) }
    }
}

/// The pointer with this address in the memory.
fn pointer<T>(address: u32) -> *mut T {
    (shared().base + address as usize) as *mut T
}

/// Runs compiled code with wasmi.
pub struct Wasmi {
    engine: Engine,
    linker: Linker<()>,
    store: Store<()>,
    table: Table,
    functions: Vec<Option<TypedFunc<u32, u32>>>,
    /// Places that the next module fills.
    reserved: Vec<u32>,
    layout: Option<Places>,
    /// What the compiler is told.
    pub limits: Limits,
}

impl Wasmi {
    pub fn new() -> Self {
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let view = view();
        let at = view.as_mut_ptr();
        let pages = (SPACE >> 16) as u32;
        let memory = Memory::new_static(&mut store, MemoryType::new(pages, None), view).expect("it is large enough");
        map(at.cast(), SPACE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_FIXED, Some(shared().fd));
        let mut linker = Linker::new(&engine);
        linker.define("t", "memory", memory).expect("a new name");
        // Place 0 is no function's.
        let table = Table::new(&mut store, TableType::new(RefType::Func, 1, None), Ref::Func(Nullable::Null));
        let table = table.expect("one place");
        linker.define("t", "table", table).expect("a new name");
        // SAFETY: generated code gives the CPU's own address, and those of instructions.
        let cpu = |address: u32| unsafe { &mut *pointer::<Cpu>(address) };
        let fill = move |_: Caller<'_, ()>, at: u32, la: u64, how: u32| helpers::fill(cpu(at), la, how);
        // SAFETY: as above.
        let plain = move |_: Caller<'_, ()>, at: u32, i: u32| helpers::plain(cpu(at), unsafe { &*pointer::<Insn>(i) });
        let image =
            move |_: Caller<'_, ()>, at: u32, told: u64, a: u64, b: u64, r: u64| helpers::image(cpu(at), told, a, b, r);
        // SAFETY: as above; it is the CPU's code cache.
        let code = |address: u32| unsafe { &mut *pointer::<CodeCache>(address) };
        let follow = move |_: Caller<'_, ()>, at: u32, of: u32| helpers::follow(cpu(at), code(of));
        let segment = move |_: Caller<'_, ()>, at: u32, s: u32, selector: u32| helpers::segment(cpu(at), s, selector);
        linker.func_wrap("t", "segment", segment).expect("a new name");
        linker.func_wrap("t", "time", move |_: Caller<'_, ()>, at: u32| helpers::time(cpu(at))).expect("a new name");
        linker.func_wrap("t", "follow", follow).expect("a new name");
        linker.func_wrap("t", "fill", fill).expect("a new name");
        linker.func_wrap("t", "plain", plain).expect("a new name");
        linker.func_wrap("t", "image", image).expect("a new name");
        Self {
            engine,
            linker,
            store,
            table,
            functions: vec![None],
            reserved: Vec::new(),
            layout: None,
            limits: Limits::default(),
        }
    }
}

impl CodeHost for Wasmi {
    fn limits(&self) -> Limits {
        self.limits
    }
    fn made_for(&mut self, layout: &Places) {
        self.layout = Some(*layout);
    }
    fn reserve(&mut self) -> Option<u32> {
        self.functions.push(None);
        let place = self.table.grow(&mut self.store, 1, Ref::Func(Nullable::Null)).expect("there is room");
        self.reserved.push(place as u32);
        Some(place as u32)
    }
    fn install(&mut self, module: &[u8]) -> bool {
        if let Err(error) = verify::module(module, self.layout.as_ref().expect("modules are made for a layout")) {
            std::fs::write(std::env::temp_dir().join("refused.wasm"), module).ok();
            panic!("the module is refused: {error}");
        }
        let module = match Module::new(&self.engine, module) {
            Ok(module) => module,
            Err(error) => {
                std::fs::write(std::env::temp_dir().join("invalid.wasm"), module).ok();
                panic!("the module is not valid: {error}");
            }
        };
        self.linker.instantiate_and_start(&mut self.store, &module).expect("it links");
        for place in self.reserved.drain(..) {
            let Some(Ref::Func(Nullable::Val(function))) = self.table.get(&self.store, u64::from(place)) else {
                panic!("the module did not fill its places");
            };
            let function = function.typed(&self.store).expect("it has the type of a region");
            self.functions[place as usize] = Some(function);
        }
        true
    }
    fn call(&mut self, _: &mut Cpu, _: &mut CodeCache, function: u32, entry: u32) -> u32 {
        let f = self.functions[function as usize].expect("it is installed");
        f.call(&mut self.store, entry).expect("generated code does not trap")
    }
    fn remove(&mut self, function: u32) {
        self.functions[function as usize] = None;
    }
}
