//! The verifier of generated modules refuses what it should (`wasm/verify`); that it accepts what the compiler
//! writes is shown by every test with compiled code.

#[path = "wasm/verify/mod.rs"]
mod verify;

use tabvisor_core::cpu::Cpu;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::decode::cache::CodeCache;
use tabvisor_core::jit::code::Code;
use tabvisor_core::jit::layout::Layout;
use tabvisor_core::jit::module::{Region, import, module};
use tabvisor_core::mem::GuestRam;
use wasm_encoder::{BlockType, InstructionSink, MemArg, MemArgTarget, ValType};

fn layout() -> Layout {
    let ram = GuestRam::new(1 << 20).expect("a megabyte");
    Layout::new(&Cpu::new(&ram, Model::X64V2), &CodeCache::default())
}

fn at(address: u32) -> MemArg {
    MemArg { offset: address.into(), align: 0, target: MemArgTarget::Memory(0), ordering: None }
}

/// What the verifier says of a function with an i32 parameter, five i32, then i64 locals.
fn says(l: &Layout, body: impl FnOnce(&mut InstructionSink<'_>)) -> Result<(), String> {
    let mut code = Code::default();
    let mut out = code.out();
    body(&mut out);
    out.i32_const(0).end();
    let locals = [[ValType::I32; 5].as_slice(), &[ValType::I64; 5]].concat();
    verify::module(&module(&[(1, Region { locals, code })]), l)
}

const ENTRY: u32 = 4;
const LEFT: u32 = 7;
const LA: u32 = 8;

/// The budget into its local.
fn begin(out: &mut InstructionSink<'_>, l: &Layout) {
    out.i32_const(0).i64_load(at(l.left)).i32_const(0).i64_load(at(l.floor)).i64_sub().local_set(LEFT);
    out.i32_const(0).i64_load(at(l.gpr(0))).local_set(LA);
}

/// What an access may do differently from what it should.
#[derive(Clone, Copy)]
struct Access {
    /// The mask of the TLB's index.
    mask: i32,
    /// Bytes checked.
    checked: i64,
    /// The table of the tag, and that of the address.
    tables: [u32; 2],
    /// Is `fill` believed without a look?
    believed: bool,
    /// Is an instruction called between check and store?
    called: bool,
    /// The offset of the store.
    offset: u32,
}

fn good(l: &Layout) -> Access {
    let tables = [l.tlb_write; 2];
    Access { mask: 0xfff0, checked: 8, tables, believed: false, called: false, offset: 0 }
}

/// Eight bytes are stored at LA.
fn store(l: &Layout, a: Access) -> Result<(), String> {
    says(l, |out| {
        begin(out, l);
        out.block(BlockType::Empty);
        out.local_get(LA).i64_const(8).i64_shr_u().i32_wrap_i64().i32_const(a.mask).i32_and();
        out.i32_const(0).i32_load(at(l.tlb_bytes)).i32_or().local_set(ENTRY);
        out.local_get(ENTRY).i64_load(at(a.tables[0])).local_get(LA).i64_xor();
        out.i64_const(4096 - a.checked).i64_gt_u().if_(BlockType::Result(ValType::I32));
        out.i32_const(l.cpu as i32).local_get(LA).i32_const(8 | 1 << 8).call(import::FILL).local_set(ENTRY);
        if !a.believed {
            out.local_get(ENTRY).i32_eqz().if_(BlockType::Empty).br(2).end();
        }
        out.local_get(ENTRY).else_();
        out.local_get(LA).i32_wrap_i64().local_get(ENTRY).i32_load(at(a.tables[1] + 8)).i32_add().end();
        if a.called {
            out.i32_const(l.cpu as i32).i32_const(l.insn(0) as i32).call(import::PLAIN).drop();
        }
        out.i64_const(0).i64_store(at(a.offset)).end();
    })
}

#[test]
fn an_access_is_good_only_if_it_is_checked() {
    let l = &layout();
    let good = good(l);
    assert_eq!(store(l, good), Ok(()));
    for (what, bad) in [
        ("an index beyond the table", Access { mask: 0x7_fff0, ..good }),
        ("an index between entries", Access { mask: 0xfff8, ..good }),
        ("too few bytes checked", Access { checked: 4, ..good }),
        ("the table of loads", Access { tables: [l.tlb_read; 2], ..good }),
        ("two tables", Access { tables: [l.tlb_write, l.tlb_read], ..good }),
        ("fill said no", Access { believed: true, ..good }),
        ("the TLB may have changed", Access { called: true, ..good }),
        ("an offset", Access { offset: 8, ..good }),
    ] {
        assert!(store(l, bad).is_err(), "{what}");
    }
}

/// So many bytes, from so far from LA on, are known to be in one page; then what `near` does with ENTRY, the host's address
/// of LA.
fn near(l: &Layout, (from, to): (i64, i64), near: impl FnOnce(&mut InstructionSink<'_>)) -> Result<(), String> {
    says(l, |out| {
        begin(out, l);
        out.block(BlockType::Empty);
        out.local_get(LA).i64_const(8).i64_shr_u().i32_wrap_i64().i32_const(0xfff0).i32_and().local_set(ENTRY);
        out.local_get(ENTRY).i64_load(at(l.tlb_read)).local_get(LA).i64_const(from).i64_add().i64_xor();
        out.i64_const(4096 - (to - from)).i64_gt_u().br_if(0);
        out.local_get(LA).i32_wrap_i64().local_get(ENTRY).i32_load(at(l.tlb_read + 8)).i32_add().local_set(ENTRY);
        near(out);
        out.end();
    })
}

#[test]
fn an_access_near_another_is_good_if_it_is_in_its_page() {
    let l = &layout();
    let load = |out: &mut InstructionSink<'_>, offset: u32| _ = out.local_get(ENTRY).i64_load(at(offset)).drop();
    let behind = |out: &mut InstructionSink<'_>, distance: i32| {
        out.local_get(ENTRY).i32_const(distance).i32_add().i64_load(at(0)).drop();
    };
    assert_eq!(near(l, (-16, 24), |out| (load(out, 0), load(out, 16)).1), Ok(()));
    assert_eq!(near(l, (-16, 24), |out| (behind(out, -16), behind(out, 16)).1), Ok(()));
    assert!(near(l, (0, 8), |out| load(out, 16)).is_err(), "not asked");
    assert!(near(l, (0, 20), |out| load(out, 16)).is_err(), "too few bytes");
    assert!(near(l, (-16, 24), |out| load(out, 17)).is_err(), "further away");
    assert!(near(l, (-16, 24), |out| behind(out, -17)).is_err(), "further away");
    assert!(near(l, (8, 16), |out| load(out, 0)).is_err(), "in front of what was asked");
    assert!(
        near(l, (0, 24), |out| _ = out.local_get(ENTRY).i64_const(0).i64_store(at(16))).is_err(),
        "a store where only loads were allowed"
    );
    assert!(
        near(l, (0, 24), |out| {
            out.i32_const(l.cpu as i32).i32_const(l.insn(0) as i32).call(import::PLAIN).drop();
            load(out, 16);
        })
        .is_err(),
        "the TLB may have changed"
    );
}

#[test]
fn fields_of_the_cpu_have_their_sizes_and_some_are_read_only() {
    let l = &layout();
    let write = |address: u32| says(l, |out| _ = out.i32_const(0).i64_const(0).i64_store(at(address)));
    assert_eq!(write(l.rip), Ok(()));
    assert_eq!(write(l.gpr(15)), Ok(()));
    for address in [l.gpr(15) + 8, l.floor, l.tlb_write, l.flag_op, l.jump_context, l.insn(1), 0] {
        assert!(write(address).is_err(), "{address:x}");
    }
    assert!(says(l, |out| _ = out.local_get(0).i32_load(at(l.rip)).drop()).is_err());
}

#[test]
fn a_loop_asks_for_its_budget_and_uses_it() {
    let l = &layout();
    let round = |ask: bool, charge: i64| {
        says(l, |out| {
            begin(out, l);
            out.block(BlockType::Empty).loop_(BlockType::Empty);
            if ask {
                out.local_get(LEFT).i64_const(3).i64_lt_s().if_(BlockType::Empty).br(2).end();
            }
            out.local_get(LEFT).i64_const(charge).i64_sub().local_set(LEFT);
            out.br(0).end().end();
        })
    };
    assert_eq!(round(true, 3), Ok(()));
    assert!(round(false, 3).is_err());
    assert!(round(true, 0).is_err());
    assert!(round(true, -1).is_err());
}

#[test]
fn calls_are_of_what_is_known() {
    let l = &layout();
    let call = |cpu: u32, insn: u32| {
        says(l, |out| _ = out.i32_const(cpu as i32).i32_const(insn as i32).call(import::PLAIN).drop())
    };
    assert_eq!(call(l.cpu, l.insn(7)), Ok(()));
    assert!(call(l.cpu + 8, l.insn(7)).is_err());
    assert!(call(l.cpu, l.insn(7) + 1).is_err());
    assert!(call(l.cpu, l.insn(0) - 32).is_err());
}
