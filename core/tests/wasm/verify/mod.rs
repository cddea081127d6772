//! Checks a generated module without running it: it imports what it may, touches only memory that is its own or that
//! the TLB allowed, and each of its loops uses up its budget.
//!
//! An abstract interpretation over WebAssembly's stack. A value is an expression; where ways meet, different ones become
//! an unknown one, and what a loop sets is unknown from its beginning on. On each way the conditions are known that led
//! there. An address is good if it is
//! - at most so large that it stays in a row of [`table`], or
//! - a host's address: what `fill` returned, if not 0, or `la + add` of a TLB entry with `la - tag <= 4096 - n`. It is
//!   good for `n` bytes until something is called that may change the TLB; and for others in the same page, between those
//!   and what is found to be so far away that it lies in the page, too.

mod flow;
mod values;

use flow::Check;
use tabvisor_core::cpu::fpu::place as fpu;
use tabvisor_core::cpu::{reg, tlb};
use tabvisor_core::decode::cache::{JUMPS, Jump, MAX_INSNS};
use tabvisor_core::decode::insn::{Insn, slot};
use tabvisor_core::jit::layout::Layout;
use tabvisor_core::jit::module::import;
use wasmparser::{BlockType, ModuleArity, Parser, Payload, TypeRef};

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
        (l.tlb_bytes, 4, true),
        (l.tlb_ctx, 4, true),
        (l.ac_bytes, 4, false),
        (l.interrupt_waiting, 1, false),
        (l.kernel_gs_base, 8, true),
        (l.cpl, 1, false),
        (l.cr4, 8, false),
        (l.fetch_bytes, 4, false),
        (l.mxcsr, 4, true),
        (l.rflags, 8, true),
        (l.simd_off, 1, false),
        (l.jump_context, 8, false),
        (l.flag_op, 2, true),
        (l.compiled_region, 4, true),
        (l.strayed_from, 4, true),
        (l.fpu(fpu::REGS), 128, true),
        (l.fpu(fpu::CW), 2, false),
        (l.fpu(fpu::SW), 2, true),
        (l.fpu(fpu::VALID), 1, true),
        (l.fpu(fpu::FOP), 6, true),
        (l.fpu(fpu::FIP), 8, true),
        (l.fpu(fpu::FDP), 8, true),
    ];
    rows.extend(
        [l.rip, l.flag_a, l.flag_b, l.flag_r, l.left, l.compiled_base, l.hops, l.strayed_to].map(|at| (at, 8, true)),
    );
    rows.push((l.floor, 8, false));
    rows.extend((0..6).flat_map(|s| [(l.segment_base(s), 8, s >= reg::FS), (l.segment_limit(s), 8, false)]));
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

fn trusted(l: &Layout) -> [Trusted; 4] {
    let head = l.jumps as usize + std::mem::offset_of!(Jump, head);
    let entry = size_of::<tlb::Entry>() as u64;
    [
        Trusted { place: l.tlb_bytes.into(), step: 0, most: entry * (3 << tlb::CTX_SHIFT), multiple: entry },
        Trusted { place: l.ac_bytes.into(), step: 0, most: entry * (3 << tlb::CTX_SHIFT), multiple: entry },
        Trusted { place: l.fetch_bytes.into(), step: 0, most: entry << tlb::CTX_SHIFT, multiple: entry },
        Trusted { place: head as u64, step: size_of::<Jump>() as u64, most: MAX_INSNS as u64 - 1, multiple: 1 },
    ]
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
