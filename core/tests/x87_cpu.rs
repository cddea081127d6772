//! What surrounds the x87 instructions: #NM and #MF, IRQ 13, precise faults, real-mode
//! environments, pointers, and the rules of the FXSAVE and XSAVE families.

mod guest;

use guest::{CODE, DATA, Guest};
use tabvisor_core::cpu::fpu::Fpu;
use tabvisor_core::cpu::segment::Segment;
use tabvisor_core::cpu::{cr0, cr4};
use tabvisor_core::mem::PAGE_SIZE;

const NM: Option<u8> = Some(7);
const UD: Option<u8> = Some(6);
const GP: Option<u8> = Some(13);
const PF: Option<u8> = Some(14);
const MF: Option<u8> = Some(16);

/// Runs `code` with RSI at `data`.
fn run(g: &mut Guest, code: &[u8], data: u64) -> Option<u8> {
    g.load(code);
    g.vcpu.cpu.regs[6] = data;
    g.run()
}

/// An error pending: 1 / 0 unmasked, in the unit already.
fn with_error(g: &mut Guest) {
    g.vcpu.cpu.fpu = Fpu::default();
    g.vcpu.cpu.fpu.fld1();
    g.vcpu.cpu.fpu.fldcw(0x37b);
    g.vcpu.cpu.fpu.arith(tabvisor_core::cpu::fpu::Arith::Div, tabvisor_core::cpu::fpu::Operand::I16(0));
    assert!(g.vcpu.cpu.fpu.pending());
}

/// Without the second-level entry for `page`.
fn unmap(g: &mut Guest, page: u64) {
    g.ram.write(0x4000 + 8 * (page / PAGE_SIZE), &[0; 8]);
    g.vcpu.cpu.tlb.flush_all();
}

fn unit_image(f: &Fpu) -> [u8; 512] {
    let mut image = [0; 512];
    f.fxsave(&mut image, true);
    image
}

#[test]
fn em_and_ts_keep_the_unit_away() {
    let all: [&[u8]; 6] =
        [&[0xd9, 0xe8], &[0xdb, 0xe3], &[0xdf, 0xe0], &[0xd9, 0x36], &[0x0f, 0xae, 0x06], &[0xd8, 0x06]];
    for bits in [cr0::EM, cr0::TS] {
        let mut g = Guest::long();
        g.vcpu.cpu.cr0 |= bits;
        for code in all {
            let before = g.vcpu.cpu.fpu.clone();
            assert_eq!(run(&mut g, code, DATA), NM, "{code:x?}");
            assert_eq!(g.vcpu.cpu.fpu, before);
        }
    }
    // FWAIT wants MP and TS; EM alone does not matter. EMMS, LDMXCSR: EM is #UD.
    for (bits, fwait, emms, ldmxcsr, xsave) in
        [(cr0::MP | cr0::TS, NM, NM, NM, NM), (cr0::TS, None, NM, NM, NM), (cr0::EM, None, UD, UD, None)]
    {
        let mut g = Guest::long();
        g.vcpu.cpu.cr0 = g.vcpu.cpu.cr0 & !cr0::MP | bits;
        assert_eq!(run(&mut g, &[0x9b], DATA), fwait);
        assert_eq!(run(&mut g, &[0x0f, 0x77], DATA), emms);
        assert_eq!(run(&mut g, &[0x0f, 0xae, 0x16], DATA), ldmxcsr);
        assert_eq!(run(&mut g, &[0x0f, 0xae, 0x26], DATA), xsave);
    }
}

#[test]
fn an_error_waits_for_the_next_waiting_instruction() {
    let mut g = Guest::long();
    with_error(&mut g);
    for waits in [&[0x9b][..], &[0xd9, 0xe8], &[0xd9, 0xd0], &[0x0f, 0x77], &[0xd9, 0x2e], &[0xdd, 0x26]] {
        assert_eq!(run(&mut g, waits, DATA), MF, "{waits:x?}");
    }
    for goes_on in [&[0xdf, 0xe0][..], &[0xd9, 0x3e], &[0xdb, 0xe1], &[0x0f, 0xae, 0x06], &[0xd9, 0x36]] {
        with_error(&mut g);
        assert_eq!(run(&mut g, goes_on, DATA), None, "{goes_on:x?}");
    }
    with_error(&mut g);
    assert_eq!(run(&mut g, &[0xdb, 0xe2, 0xd9, 0xe8, 0x9b], DATA), None);
}

#[test]
fn without_ne_the_board_hears_of_it_and_irq_13_comes() {
    let mut g = Guest::real();
    g.board.irq13 = true;
    g.vcpu.cpu.cr0 &= !cr0::NE;
    g.vcpu.cpu.set_rflags_image(0x202);
    with_error(&mut g);
    // FLD1 waits; the handler of vector 75h is at its HLT with the address of FLD1 on the stack.
    assert_eq!(run(&mut g, &[0x90, 0xd9, 0xe8], DATA), Some(0x75));
    assert_eq!(g.board.errors, [true]);
    let sp = g.vcpu.cpu.regs[4];
    assert_eq!(u64::from(u16::from_le_bytes(g.ram.read_le(sp))), CODE + 1);
    // What such a handler does: out f0h, al; fnclex; iret.
    g.ram.write(0x6000 + 4 * 0x76, &[0xe6, 0xf0, 0xdb, 0xe2, 0xcf]);
    g.vcpu.cpu.rip = 0x6000 + 4 * 0x76;
    assert_eq!(g.go_on(), None);
    assert_eq!(g.board.errors, [true, false]);
    assert!(!g.board.ignne && !g.vcpu.cpu.fpu.pending());
    assert_eq!(g.vcpu.cpu.fpu.st(0), tabvisor_core::float::F80::ONE);
}

#[test]
fn ignne_lets_instructions_go_on() {
    let mut g = Guest::real();
    g.board.irq13 = true;
    g.vcpu.cpu.cr0 &= !cr0::NE;
    with_error(&mut g);
    // out f0h, al; fld1; fnstsw ax; fnclex
    assert_eq!(run(&mut g, &[0xe6, 0xf0, 0xd9, 0xe8, 0xdf, 0xe0, 0xdb, 0xe2], DATA), None);
    assert_eq!(g.board.errors, [true, false]);
    assert_ne!(g.vcpu.cpu.regs[0] & 0x80, 0);
}

#[test]
fn a_fault_in_the_second_page_changes_nothing() {
    // Every instruction that reads or writes more than one byte, across the end of a page.
    let edge = DATA + 0x3000;
    let mut g = Guest::long();
    unmap(&mut g, edge);
    let mut tried = 0;
    for op in 0xd8u8..=0xdf {
        for reg in 0..8u8 {
            let code = [op, reg << 3 | 6];
            let before = unit_image(&{
                let f = &mut g.vcpu.cpu.fpu;
                *f = Fpu::default();
                f.fld1();
                f.fldz();
                f.clone()
            });
            let bytes = [0x5au8; 16];
            g.ram.write(edge - 16, &bytes);
            let got = run(&mut g, &code, edge - 1);
            if got == UD {
                continue;
            }
            tried += 1;
            assert_eq!(got, PF, "{code:x?}");
            assert_eq!(g.vcpu.cpu.cr2, edge, "{code:x?}");
            assert_eq!(unit_image(&g.vcpu.cpu.fpu), before, "{code:x?}");
            assert_eq!(g.ram.read_le::<16>(edge - 16), bytes, "{code:x?}");
        }
    }
    // All but the reserved D9 /1, DB /4, DB /6, DD /5.
    assert_eq!(tried, 60);
    for code in [&[0x0f, 0xae, 0x06][..], &[0x0f, 0xae, 0x0e], &[0x0f, 0xae, 0x26], &[0x0f, 0xae, 0x2e]] {
        g.vcpu.cpu.regs[0] = 3;
        g.ram.write(edge - 128, &[0x5a; 128]);
        let before = g.vcpu.cpu.fpu.clone();
        assert_eq!(run(&mut g, code, edge - 128), PF, "{code:x?}");
        assert_eq!(g.vcpu.cpu.fpu, before);
        assert_eq!(g.ram.read_le::<128>(edge - 128), [0x5a; 128], "{code:x?}");
    }
}

#[test]
fn pointers_name_instruction_and_operand() {
    let mut g = Guest::long();
    g.load(&[0x90, 0x66, 0xd8, 0x46, 0x10]);
    g.vcpu.cpu.regs[6] = DATA;
    assert_eq!(g.run(), None);
    let image = unit_image(&g.vcpu.cpu.fpu);
    let quad = |at: usize| u64::from_le_bytes(std::array::from_fn(|k| image[at + k]));
    assert_eq!((quad(6) & 0xffff, quad(8), quad(16)), (0x046, CODE + 1, DATA + 0x10));
    // FXSAVE without REX.W has the selectors.
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x06], DATA), None);
    let image = g.ram.read_le::<24>(DATA);
    assert_eq!(image[12..14], [8, 0]);
    assert_eq!(image[20..22], [0x10, 0]);
}

#[test]
fn real_mode_environments_are_linear() {
    let mut g = Guest::real();
    g.vcpu.cpu.seg[3] = Segment::real(0x1800);
    g.vcpu.cpu.mode_changed();
    // fadd dword [si]; fnstenv [si+20h] with both operand sizes
    assert_eq!(run(&mut g, &[0xd8, 0x04, 0xd9, 0x74, 0x20], 0x8100), None);
    let w: [u8; 14] = g.ram.read_le(0x2_0120);
    let word = |n: usize| u16::from_le_bytes([w[2 * n], w[2 * n + 1]]);
    assert_eq!([word(3), word(4), word(5), word(6)], [CODE as u16, 0x004, 0x0100, 0x2000]);
    assert_eq!(run(&mut g, &[0xd8, 0x04, 0x66, 0xd9, 0x74, 0x20], 0x8100), None);
    let d: [u8; 28] = g.ram.read_le(0x2_0120);
    let long = |n: usize| u32::from_le_bytes(std::array::from_fn(|k| d[4 * n + k]));
    assert_eq!([long(4), long(5), long(6)], [0x004, 0xffff_0100, 0x2_0000 >> 16 << 12]);
    // The last byte of a state must lie in the segment.
    assert_eq!(run(&mut g, &[0xdd, 0x34], 0xffff - 93), None);
    assert_eq!(run(&mut g, &[0xdd, 0x34], 0xffff - 92), GP);
    assert_eq!(run(&mut g, &[0xdb, 0x2c], 0xffff - 9), None);
    assert_eq!(run(&mut g, &[0xdb, 0x2c], 0xffff - 8), GP);
}

#[test]
fn fxsave_leaves_reserved_bytes_and_wants_alignment() {
    let mut g = Guest::long();
    g.vcpu.cpu.xmm = [[0x1111, 0x2222]; 16];
    g.ram.write(DATA, &[0xee; 512]);
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x06], DATA), None);
    let image = g.ram.read_le::<512>(DATA);
    assert_eq!(image[28..32], [0xff, 0xff, 0, 0]);
    assert_eq!(image[400..402], [0x11, 0x11]);
    assert!(image[416..].iter().all(|&b| b == 0xee));
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x06], DATA + 8), GP);
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x0e], DATA + 8), GP);
    // Real mode: eight XMM registers; without OSFXSR none.
    let mut g = Guest::real();
    g.vcpu.cpu.xmm = [[0x1111, 0x2222]; 16];
    g.vcpu.cpu.seg[3] = Segment::real(0x1800);
    g.vcpu.cpu.mode_changed();
    let at = g.vcpu.cpu.seg[3].base;
    g.ram.write(at, &[0xee; 512]);
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x04], 0), None);
    let image = g.ram.read_le::<512>(at);
    assert_eq!(image[160 + 7 * 16..][..2], [0x11, 0x11]);
    assert!(image[288..].iter().all(|&b| b == 0xee));
    g.vcpu.cpu.cr4 &= !cr4::OSFXSR;
    g.ram.write(at, &[0xee; 512]);
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x04], 0), None);
    assert!(g.ram.read_le::<512>(at)[160..].iter().all(|&b| b == 0xee));
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x14], 0), UD);
}

#[test]
fn bad_images_are_refused_whole() {
    let mut g = Guest::long();
    let before = (g.vcpu.cpu.fpu.clone(), g.vcpu.cpu.xmm, g.vcpu.cpu.mxcsr);
    g.vcpu.cpu.regs[0] = 3;
    g.vcpu.cpu.regs[2] = 0;
    let mut image = [0u8; 576];
    image[0] = 0x7f;
    image[512] = 3;
    image[200] = 1;
    for (at, bit) in [(26, 1), (27, 0x80), (512, 4), (519, 0x80), (520, 1), (527, 0x80), (535, 1)] {
        let mut bad = image;
        bad[at] |= bit;
        g.ram.write(DATA, &bad);
        assert_eq!(run(&mut g, &[0x0f, 0xae, 0x2e], DATA), GP, "byte {at}");
        if at < 512 {
            assert_eq!(run(&mut g, &[0x0f, 0xae, 0x0e], DATA), GP, "byte {at}");
        }
        let now = (g.vcpu.cpu.fpu.clone(), g.vcpu.cpu.xmm, g.vcpu.cpu.mxcsr);
        assert_eq!(now, before, "byte {at}");
    }
    // Bytes 24 to 63 of the header do not count.
    image[536] = 1;
    g.ram.write(DATA, &image);
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x2e], DATA), None);
    // Byte 200 is the high half of XMM2.
    assert_eq!((g.vcpu.cpu.xmm[2], g.vcpu.cpu.mxcsr), ([0, 1], 0));
}

#[test]
fn xsave_needs_the_system_and_alignment() {
    let mut g = Guest::long();
    g.vcpu.cpu.regs[0] = 3;
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x26], DATA + 16), GP);
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x2e], DATA + 32), GP);
    g.vcpu.cpu.cr4 &= !cr4::OSXSAVE;
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x26], DATA), UD);
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x2e], DATA), UD);
}

#[test]
fn xsave_says_what_is_in_use_and_xrstor_brings_the_rest_back_to_its_beginning() {
    let mut g = Guest::long();
    g.vcpu.cpu.regs[0] = 7;
    g.vcpu.cpu.regs[2] = 0;
    g.ram.write(DATA, &[0xee; 576]);
    g.ram.write(DATA + 512, &[0xfc, 0xff, 0, 0, 0, 0, 0, 0]);
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x26], DATA), None);
    assert_eq!(g.ram.read_le::<8>(DATA + 512), [0xfc, 0xff, 0, 0, 0, 0, 0, 0]);
    assert_eq!(g.ram.read_le::<1>(DATA + 520), [0xee]);
    g.vcpu.cpu.xmm[9] = [0, 1];
    g.vcpu.cpu.mxcsr = 0x1fa0;
    g.ram.write(DATA + 512, &[0; 64]);
    assert_eq!(run(&mut g, &[0xd9, 0xe8, 0x0f, 0xae, 0x26], DATA), None);
    assert_eq!(g.ram.read_le::<1>(DATA + 512), [3]);
    let saved = g.vcpu.cpu.fpu.clone();
    g.vcpu.cpu.xmm[9] = [0, 0];
    g.vcpu.cpu.mxcsr = 0x1f80;
    assert_eq!(run(&mut g, &[0xdb, 0xe3, 0x48, 0x0f, 0xae, 0x2e], DATA), None);
    assert_eq!((g.vcpu.cpu.xmm[9], g.vcpu.cpu.mxcsr), ([0, 1], 0x1fa0));
    assert_eq!(g.vcpu.cpu.fpu.st(0), saved.st(0));
    g.ram.write(DATA + 512, &[0]);
    g.vcpu.cpu.mxcsr = 0x1f80;
    assert_eq!(run(&mut g, &[0x0f, 0xae, 0x2e], DATA), None);
    assert_eq!((g.vcpu.cpu.xmm[9], g.vcpu.cpu.mxcsr), ([0, 0], 0x1fa0));
    assert_eq!(g.vcpu.cpu.fpu, Fpu::default());
}
