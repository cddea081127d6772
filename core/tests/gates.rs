//! Call gates of 16, 32 and 64 bits, and the returns from them (SDM 3A 5.8.3 to 5.8.6; 2A CALL, JMP; 2B RET); error
//! codes of exceptions that cannot be delivered (3A 6.13).

mod guest;

use guest::{CODE, CODE0, CODE3, DATA, DATA0, DATA3, FREE_SEL, GDT, Guest, STACK, STACK0, TSS, TSS_SEL, USER_END};
use tabvisor_core::cpu::segment::Segment;

const TS: Option<u8> = Some(10);
const NP: Option<u8> = Some(11);
const SS: Option<u8> = Some(12);
const GP: Option<u8> = Some(13);
const END: Option<u8> = Some(USER_END);

/// The gate's selector without RPL, and where it leads: INT 80h, then HLT.
const GATE: u16 = FREE_SEL;
const TARGET: u64 = 0xb000;

/// A call gate's descriptor.
fn gate(kind: u64, sel: u16, to: u64, dpl: u64, count: u64) -> u64 {
    to & 0xffff | u64::from(sel) << 16 | count << 32 | (0x80 | dpl << 5 | kind) << 40 | (to >> 16 & 0xffff) << 48
}

/// call GATE|rpl:0 in 32-bit code.
fn call(rpl: u8) -> [u8; 7] {
    [0x9a, 0, 0, 0, 0, GATE as u8 | rpl, 0]
}
fn jmp(rpl: u8) -> [u8; 7] {
    [0xea, 0, 0, 0, 0, GATE as u8 | rpl, 0]
}

fn with_gate(gate: u64) -> Guest {
    let mut g = Guest::protected();
    g.put(GDT + u64::from(GATE), gate);
    g.ram.write(TARGET, &[0xcd, USER_END]);
    g.user();
    g
}

/// Runs `code` at CPL 3; the vector and, if an exception pushed one, its error code.
fn end(g: &mut Guest, code: &[u8]) -> (Option<u8>, u64) {
    let v = g.run_code(code);
    (v, v.map_or(0, |v| g.frame(v).code))
}

#[test]
fn a_gate_to_an_inner_ring_switches_stacks_and_copies_parameters() {
    for (kind, size) in [(0xc, 4u64), (4, 2)] {
        let mut g = with_gate(gate(kind, CODE0, TARGET, 3, 3));
        let parameters = [0x1111u64, 0x2222, 0x3333];
        for (k, p) in (0..).zip(parameters) {
            g.ram.write(STACK + size * k, &p.to_le_bytes()[..size as usize]);
        }
        assert_eq!(g.run_code(&call(3)), END);
        // Below the frame of INT 80h, which did not change rings: EIP, CS, parameters, ESP, SS.
        let f = g.frame(USER_END);
        assert_eq!((f.ip, f.cs), (TARGET + 2, CODE0));
        let sp = g.vcpu.cpu.regs[4] + 12;
        assert_eq!(sp, STACK0 - 7 * size);
        let word = |k: u64| if size == 4 { g.get4(sp + 4 * k) } else { g.get4(sp + 2 * k) & 0xffff };
        let words: Vec<u64> = (0..7).map(word).collect();
        let ss = u64::from(DATA3);
        assert_eq!(words, [CODE + 7, CODE3.into(), 0x1111, 0x2222, 0x3333, STACK, ss]);
        assert_eq!((g.vcpu.cpu.seg[2].sel, g.vcpu.cpu.cpl), (DATA0, 0));
    }
}

#[test]
fn a_return_to_an_outer_ring_releases_both_stacks_and_drops_segments() {
    let mut g = with_gate(gate(0xc, CODE0, TARGET, 3, 2));
    // mov eax, DATA0; mov ds, eax; retf 8
    g.ram.write(TARGET, &[0xb8, DATA0 as u8, 0, 0, 0, 0x8e, 0xd8, 0xca, 8, 0]);
    let code = [&call(3)[..], &[0xcd, USER_END]].concat();
    assert_eq!(g.run_code(&code), END);
    let f = g.frame(USER_END);
    assert_eq!((f.ip, f.cs, f.outer), (CODE + 9, CODE3, Some((STACK + 8, DATA3))));
    // DS was of ring 0; ES may stay.
    assert_eq!((g.vcpu.cpu.seg[3].sel, g.vcpu.cpu.seg[0].sel), (0, DATA3));
}

#[test]
fn the_same_ring_keeps_its_stack() {
    // From ring 0, and to a conforming segment from ring 3.
    let conforming = FREE_SEL + 8;
    for user in [false, true] {
        for code in [call(0), jmp(0)] {
            let mut g = with_gate(gate(0xc, if user { conforming } else { CODE0 }, TARGET, 3, 5));
            g.put(GDT + u64::from(conforming), 0x00cf_9e00_0000_ffff);
            if !user {
                g.kernel();
            }
            assert_eq!(g.run_code(&code), END);
            let f = g.frame(USER_END);
            let cs = if user { conforming | 3 } else { CODE0 };
            assert_eq!((f.ip, f.cs), (TARGET + 2, cs));
            let pushed = if code == call(0) { 8 } else { 0 };
            let sp = if user { f.outer.expect("another ring").0 } else { g.vcpu.cpu.regs[4] + 12 };
            assert_eq!(sp, STACK - pushed);
        }
    }
}

#[test]
fn gates_are_refused_with_the_right_error_code() {
    let at = u64::from(GATE);
    let cs = u64::from(CODE0);
    let present = 0x80 << 40;
    let g32 = |sel: u16, dpl: u64| gate(0xc, sel, TARGET, dpl, 0);
    for (name, descriptor, code, want) in [
        ("DPL of the gate below CPL", g32(CODE0, 0), call(0), (GP, at)),
        ("DPL of the gate below RPL", g32(CODE0, 2), call(3), (GP, at)),
        ("not present", g32(CODE0, 3) & !present, call(3), (NP, at)),
        ("null code segment", g32(0, 3), call(3), (GP, 0)),
        ("data instead of code", g32(DATA0, 3), call(3), (GP, DATA0.into())),
        ("beyond the table", g32(0x200, 3), call(3), (GP, 0x200)),
        ("JMP to an inner ring", g32(CODE0, 3), jmp(3), (GP, cs)),
        ("beyond the limit of the target", gate(0xc, FREE_SEL + 16, 0x2_0000, 3, 0), call(3), (GP, 0)),
        ("target not present", g32(FREE_SEL + 24, 3), call(3), (NP, (FREE_SEL + 24).into())),
        ("an interrupt gate", gate(0xe, CODE0, TARGET, 3, 0), call(3), (GP, at)),
        ("an LDT", 0xe2 << 40, call(3), (GP, at)),
    ] {
        let mut g = with_gate(descriptor);
        // 64 KiB of code for ring 0; code that is not present.
        g.put(GDT + u64::from(FREE_SEL) + 16, 0x0040_9a00_0000_ffff);
        g.put(GDT + u64::from(FREE_SEL) + 24, 0x00cf_1a00_0000_ffff);
        assert_eq!(end(&mut g, &code), want, "{name}");
        // Nothing happened: it can be repeated.
        assert_eq!(g.frame(want.0.unwrap()).ip, CODE, "{name}");
        assert_eq!(g.frame(want.0.unwrap()).outer, Some((STACK, DATA3)), "{name}");
    }
    // Ring 0 may not call an outer ring through a gate.
    let mut g = with_gate(g32(CODE3, 3));
    g.kernel();
    let v = g.run_code(&call(0));
    assert_eq!((v, g.frame(13).code), (GP, u64::from(CODE3) & !3));
}

#[test]
fn the_new_stack_is_checked_as_well() {
    let ss = FREE_SEL + 8;
    // The gate leads to ring 1, so that handlers in ring 0 keep their stack.
    let code1 = FREE_SEL + 16;
    for (name, descriptor, sel, sp, want) in [
        ("null", 0, 0, STACK0, (TS, 0)),
        ("RPL", 0x00cf_b300_0000_ffff, ss, STACK0, (TS, ss)),
        ("DPL", 0x00cf_9300_0000_ffff, ss | 1, STACK0, (TS, ss)),
        ("read-only", 0x00cf_b100_0000_ffff, ss | 1, STACK0, (TS, ss)),
        ("code", 0x00cf_bb00_0000_ffff, ss | 1, STACK0, (TS, ss)),
        ("beyond the table", 0, 0x201, STACK0, (TS, 0x200)),
        ("not present", 0x00cf_3300_0000_ffff, ss | 1, STACK0, (SS, ss)),
        ("no room", 0x0040_b300_0000_0fff, ss | 1, 0x2000, (SS, ss)),
        ("room for some", 0x0040_b300_0000_0fff, ss | 1, 0x0008, (SS, ss)),
    ] {
        let mut g = with_gate(gate(0xc, code1 | 1, TARGET, 3, 0));
        g.put(GDT + u64::from(code1), 0x00cf_bb00_0000_ffff);
        g.put(GDT + u64::from(ss), descriptor);
        // SS1:ESP1
        g.put(TSS + 12, sp | u64::from(sel) << 32);
        let want = (want.0, u64::from(want.1));
        assert_eq!(end(&mut g, &call(3)), want, "{name}");
        assert_eq!(g.frame(want.0.unwrap()).outer, Some((STACK, DATA3)), "{name}");
    }
    // A TSS that ends before the ring's stack.
    let mut g = with_gate(gate(0xc, code1 | 1, TARGET, 3, 0));
    g.put(GDT + u64::from(code1), 0x00cf_bb00_0000_ffff);
    g.vcpu.cpu.seg[7].limit = 16;
    assert_eq!(end(&mut g, &call(3)), (TS, TSS_SEL.into()));
}

#[test]
fn exceptions_that_cannot_be_delivered_name_their_stack() {
    // From CPL 3, INT 80h through a gate to ring 1 whose stack is too small: EXT is clear. ICEBP: EXT is set.
    let (ss, code1) = (FREE_SEL + 8, FREE_SEL + 16);
    for sp in [0x2000, 16] {
        for (code, vector, ext) in [(&[0xcd, USER_END][..], USER_END, 0), (&[0xf1], 1, 1)] {
            let mut g = with_gate(0);
            g.put(GDT + u64::from(code1), 0x00cf_bb00_0000_ffff);
            g.put(GDT + u64::from(ss), 0x0040_b300_0000_0fff);
            g.put(TSS + 12, sp | u64::from(ss | 1) << 32);
            let sel = u64::from(code1);
            g.put(guest::IDT + 8 * u64::from(vector), TARGET & 0xffff | sel << 16 | 0xee << 40);
            assert_eq!(end(&mut g, code), (SS, u64::from(ss) | ext), "sp {sp:x} {code:x?}");
        }
    }
    // At CPL 0 the stack is the old one: the selector is null, and the next exception finds no room either.
    let mut g = Guest::long();
    g.load(&[0xcd, USER_END]);
    g.vcpu.cpu.regs[4] = 0x9000_0000_0000;
    // #SS has a stack of its own.
    g.ram.write(guest::IDT + 16 * 12 + 4, &[1]);
    g.put(TSS + 0x24, STACK0);
    assert_eq!((g.go_on(), g.frame(12).code), (SS, 0));
    // The same for a fault: EXT.
    g.load(&[0x0f, 0x0b]);
    g.vcpu.cpu.regs[4] = 0x9000_0000_0000;
    assert_eq!((g.go_on(), g.frame(12).code), (SS, 1));
    // An IST entry that is not canonical, and one that lies behind the TSS.
    g.ram.write(guest::IDT + 16 * 6 + 4, &[2]);
    g.put(TSS + 0x2c, 0x9000_0000_0000);
    assert_eq!((g.run_code(&[0x0f, 0x0b]), g.frame(12).code), (SS, 1));
    g.vcpu.cpu.seg[7].limit = 0x2b;
    assert_eq!((g.run_code(&[0x0f, 0x0b]), g.frame(10).code), (TS, u64::from(TSS_SEL) | 1));
}

/// call far [rbx] and jmp far [rbx], with DATA = offset, selector.
const CALL64: &[u8] = &[0xff, 0x1b];
const JMP64: &[u8] = &[0xff, 0x2b];

fn with_gate64(low: u64, high: u64, user: bool) -> Guest {
    let mut g = Guest::long();
    g.put(GDT + u64::from(GATE), low);
    g.put(GDT + u64::from(GATE) + 8, high);
    g.put(DATA, u64::from(GATE | 3) << 32);
    g.vcpu.cpu.regs[3] = DATA;
    // Everything may be touched by ring 3.
    for page in 0..512 {
        g.put(guest::TABLES[3] + 8 * page, page << 12 | 7);
    }
    g.ram.write(TARGET, &[0xcd, USER_END]);
    if user {
        g.user();
    }
    g
}

#[test]
fn gates_of_64_bit_mode_push_64_bits_and_load_a_null_stack_segment() {
    let mut g = with_gate64(gate(0xc, CODE0, TARGET, 3, 7), 0, true);
    assert_eq!(g.run_code(CALL64), END);
    let f = g.frame(USER_END);
    // INT 80h stays in ring 0: its frame is right below the gate's, which has no parameters.
    let (sp, ss) = f.outer.expect("always in 64-bit mode");
    assert_eq!((f.ip, f.cs, sp, ss), (TARGET + 2, CODE0, STACK0 - 32, 0));
    let words: Vec<u64> = (0..4).map(|k| g.get(sp + 8 * k)).collect();
    assert_eq!(words, [CODE + 2, CODE3.into(), STACK, DATA3.into()]);

    // Back again: retfq
    let mut g = with_gate64(gate(0xc, CODE0, TARGET, 3, 0), 0, true);
    g.ram.write(TARGET, &[0x48, 0xcb]);
    assert_eq!(g.run_code(&[0xff, 0x1b, 0xcd, USER_END]), END);
    assert_eq!((g.frame(USER_END).ip, g.frame(USER_END).outer), (CODE + 4, Some((STACK, DATA3))));

    // Within ring 0, CALL and JMP.
    for (code, pushed) in [(CALL64, 16), (JMP64, 0)] {
        let mut g = with_gate64(gate(0xc, CODE0, TARGET, 3, 0), 0, false);
        assert_eq!(g.run_code(code), END);
        assert_eq!(g.frame(USER_END).outer, Some((STACK - pushed, DATA0)));
    }
}

#[test]
fn gates_of_64_bit_mode_are_checked() {
    let at = u64::from(GATE);
    let good = gate(0xc, CODE0, TARGET, 3, 0);
    for (name, low, high, code, want) in [
        ("DPL", gate(0xc, CODE0, TARGET, 0, 0), 0, CALL64, (GP, at)),
        ("a 16-bit gate", gate(4, CODE0, TARGET, 3, 0), 0, CALL64, (GP, at)),
        ("a task gate", gate(5, TSS_SEL, 0, 3, 0), 0, CALL64, (GP, at)),
        ("not present", good & !(0x80 << 40), 0, CALL64, (NP, at)),
        ("a type in the upper half", good, 1 << 40, CALL64, (GP, at)),
        ("a target that is not canonical", good, 0x8000, CALL64, (GP, 0)),
        ("32-bit code", gate(0xc, FREE_SEL + 16, TARGET, 3, 0), 0, CALL64, (GP, u64::from(FREE_SEL) + 16)),
        ("JMP to an inner ring", good, 0, JMP64, (GP, CODE0.into())),
    ] {
        let mut g = with_gate64(low, high, true);
        g.put(GDT + u64::from(FREE_SEL) + 16, 0x00cf_9a00_0000_ffff);
        assert_eq!(end(&mut g, code), want, "{name}");
        assert_eq!(g.frame(want.0.unwrap()).outer, Some((STACK, DATA3)), "{name}");
    }
    // The descriptor must lie in the table with all of its 16 bytes.
    let mut g = with_gate64(good, 0, true);
    g.vcpu.cpu.gdtr.limit = u32::from(GATE) + 7;
    assert_eq!(end(&mut g, CALL64), (GP, at));
    // The TSS ends before RSP1.
    let mut g = with_gate64(gate(0xc, FREE_SEL + 16, TARGET, 3, 0), 0, true);
    g.put(GDT + u64::from(FREE_SEL) + 16, 0x00af_ba00_0000_ffff);
    g.vcpu.cpu.seg[7] = Segment { limit: 18, ..g.vcpu.cpu.seg[7] };
    assert_eq!(end(&mut g, CALL64), (TS, TSS_SEL.into()));
}
