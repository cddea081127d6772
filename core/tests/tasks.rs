//! Task switches by JMP, CALL, IRET and task gates, with TSSs of 32 and 16 bits (SDM 3A chapter 8).

mod guest;

use guest::{CODE, CODE0, CODE3, DATA, DATA0, DATA3, FREE_SEL, GDT, Guest, IDT, STACK, TSS, TSS_SEL};
use tabvisor_core::cpu::segment::Segment;
use tabvisor_core::cpu::{cr0, cr4, reg};
use tabvisor_core::flags;
use tabvisor_core::vcpu::CpuExit;

const DB: Option<u8> = Some(1);
const TS: Option<u8> = Some(10);
const NP: Option<u8> = Some(11);
const SS: Option<u8> = Some(12);
const GP: Option<u8> = Some(13);

/// The other task: its TSS, selector, code and stack. A task gate to it.
const NEW: u64 = 0x1_0000;
const NEW_SEL: u16 = FREE_SEL;
const GATE: u16 = FREE_SEL + 8;
const LDT_SEL: u16 = FREE_SEL + 16;
const NEW_CODE: u64 = 0xb000;
const NEW_STACK: u64 = 0x1_8000;

const AVAILABLE: u64 = 0x89;
const BUSY: u64 = 0x8b;

fn tss(at: u64, kind: u64, limit: u64) -> u64 {
    limit | (at & 0xff_ffff) << 16 | kind << 40
}

fn task_gate(dpl: u64) -> u64 {
    u64::from(NEW_SEL) << 16 | (0x85 | dpl << 5) << 40
}

/// Byte 5 of a descriptor.
fn kind(g: &Guest, sel: u16) -> u64 {
    g.get(GDT + u64::from(sel)) >> 40 & 0xff
}

/// Two tasks; the running one is that of [`TSS_SEL`]. The new one begins at [`NEW_CODE`] with flags IF and CF.
fn tasks() -> Guest {
    let g = Guest::protected();
    g.put(GDT + u64::from(NEW_SEL), tss(NEW, AVAILABLE, 0x67));
    g.put(GDT + u64::from(GATE), task_gate(0));
    g.put(GDT + u64::from(LDT_SEL), 0x0000_8200_0000_00ff | DATA << 16);
    g.ram.write(NEW, &[0; 0x68]);
    g.put4(NEW + 0x20, NEW_CODE);
    g.put4(NEW + 0x24, 0x203);
    for r in 0..8 {
        g.put4(NEW + 0x28 + 4 * r, 0x1000_0000 + r);
    }
    g.put4(NEW + 0x28 + 4 * 4, NEW_STACK);
    for (s, sel) in (0..).zip([DATA0, CODE0, DATA0, DATA0, DATA0, DATA0]) {
        g.put4(NEW + 0x48 + 4 * s, sel.into());
    }
    g.ram.write(NEW_CODE, &[0xf4]);
    g
}

/// JMP and CALL sel:0.
fn jmp(sel: u16) -> [u8; 7] {
    [0xea, 0, 0, 0, 0, sel as u8, 0]
}
fn call(sel: u16) -> [u8; 7] {
    [0x9a, 0, 0, 0, 0, sel as u8, 0]
}

/// Runs `code`, which must end at the HLT of the new task.
fn switches(g: &mut Guest, code: &[u8]) {
    g.load(code);
    assert_eq!(g.run_for(1000), CpuExit::Halt);
    assert_eq!(g.vcpu.cpu.rip, NEW_CODE + 1);
}

#[test]
fn a_jump_swaps_the_whole_state() {
    for sel in [NEW_SEL, GATE] {
        let mut g = tasks();
        g.load(&jmp(sel));
        for (r, v) in g.vcpu.cpu.regs[..8].iter_mut().zip(1u64..) {
            *r = if v == 5 { STACK } else { 0x100 + v };
        }
        g.vcpu.cpu.set_rflags_image(2 | flags::DF);
        g.vcpu.cpu.dr[7] = 0x4ff;
        g.vcpu.cpu.dr[..4].fill(0x7000_0000);
        let before: Vec<u64> = g.vcpu.cpu.regs[..8].to_vec();
        assert_eq!(g.run_for(1000), CpuExit::Halt);
        // The new task.
        let c = &mut g.vcpu.cpu;
        let mut regs: Vec<u64> = (0..8).map(|r| 0x1000_0000 + r).collect();
        regs[4] = NEW_STACK;
        assert_eq!((c.rflags_image(), c.rip, &c.regs[..8]), (0x203, NEW_CODE + 1, &regs[..]));
        let sel: Vec<u16> = c.seg.iter().map(|s| s.sel).collect();
        assert_eq!(sel, [DATA0, CODE0, DATA0, DATA0, DATA0, DATA0, 0, NEW_SEL]);
        assert_ne!(c.cr0 & cr0::TS, 0);
        // Local breakpoints are off, global ones stay.
        assert_eq!(c.dr[7], 0x4aa);
        // The old one.
        assert_eq!((g.get4(TSS + 0x20), g.get4(TSS + 0x24)), (CODE + 7, 2 | flags::DF));
        let saved: Vec<u64> = (0..8).map(|r| g.get4(TSS + 0x28 + 4 * r)).collect();
        assert_eq!(saved, before);
        let saved: Vec<u64> = (0..6).map(|s| g.get4(TSS + 0x48 + 4 * s)).collect();
        assert_eq!(saved, [DATA0, CODE0, DATA0, DATA0, DATA0, DATA0].map(u64::from));
        assert_eq!((kind(&g, TSS_SEL), kind(&g, NEW_SEL)), (AVAILABLE, BUSY));
    }
}

#[test]
fn a_call_nests_and_iret_comes_back() {
    for sel in [NEW_SEL, GATE] {
        let mut g = tasks();
        switches(&mut g, &call(sel));
        assert_ne!(g.vcpu.cpu.rflags & flags::NT, 0);
        assert_eq!(g.get4(NEW) & 0xffff, u64::from(TSS_SEL));
        assert_eq!((kind(&g, TSS_SEL), kind(&g, NEW_SEL)), (BUSY, BUSY));
        // iretd behind the HLT; the HLT behind the call ends it.
        g.ram.write(NEW_CODE + 1, &[0xcf]);
        assert_eq!(g.go_on(), None);
        assert_eq!((kind(&g, TSS_SEL), kind(&g, NEW_SEL)), (BUSY, AVAILABLE));
        assert_eq!((g.vcpu.cpu.seg[7].sel, g.vcpu.cpu.regs[4]), (TSS_SEL, STACK));
        assert_eq!(g.vcpu.cpu.rflags & flags::NT, 0);
        // The task that was left will go on behind its IRET, without NT.
        assert_eq!((g.get4(NEW + 0x20), g.get4(NEW + 0x24) & flags::NT), (NEW_CODE + 2, 0));
    }
}

#[test]
fn what_is_not_an_available_task_is_refused() {
    let good = tss(NEW, AVAILABLE, 0x67);
    let new = u64::from(NEW_SEL);
    for (name, descriptor, gate, code, want) in [
        ("busy", tss(NEW, BUSY, 0x67), task_gate(0), jmp(NEW_SEL), (GP, new)),
        ("busy, by a gate", tss(NEW, BUSY, 0x67), task_gate(0), call(GATE), (GP, new)),
        ("not present", tss(NEW, 0x09, 0x67), task_gate(0), jmp(NEW_SEL), (NP, new)),
        ("not present, by a gate", tss(NEW, 0x09, 0x67), task_gate(0), jmp(GATE), (NP, new)),
        ("too short", tss(NEW, AVAILABLE, 0x66), task_gate(0), jmp(NEW_SEL), (TS, new)),
        ("too short for 16 bits", tss(NEW, 0x81, 0x2a), task_gate(0), jmp(NEW_SEL), (TS, new)),
        ("RPL above DPL", good, task_gate(0), jmp(NEW_SEL | 3), (GP, new)),
        ("gate not present", good, task_gate(0) & !(0x80 << 40), jmp(GATE), (NP, GATE.into())),
        ("gate to an LDT selector", good, 0x44 << 16 | 0x85 << 40, jmp(GATE), (GP, 0x44)),
        ("gate to data", good, u64::from(DATA0) << 16 | 0x85 << 40, jmp(GATE), (GP, DATA0.into())),
    ] {
        let mut g = tasks();
        g.put(GDT + new, descriptor);
        g.put(GDT + u64::from(GATE), gate);
        let v = g.run_code(&code);
        assert_eq!((v, g.frame(v.unwrap()).code), want, "{name}");
        // The old task is where it was.
        assert_eq!((g.frame(v.unwrap()).ip, g.vcpu.cpu.seg[7].sel, kind(&g, TSS_SEL)), (CODE, TSS_SEL, BUSY), "{name}");
    }
    // Ring 3 needs a gate of its own.
    for (gate_dpl, code, want) in [(0, jmp(GATE), (GP, GATE.into())), (3, jmp(NEW_SEL), (GP, new))] {
        let mut g = tasks();
        g.put(GDT + u64::from(GATE), task_gate(gate_dpl));
        g.user();
        let v = g.run_code(&code);
        assert_eq!((v, g.frame(13).code), want);
    }
    let mut g = tasks();
    g.put(GDT + u64::from(GATE), task_gate(3));
    g.user();
    switches(&mut g, &jmp(GATE));
    assert_eq!(g.get4(TSS + 0x4c), CODE3.into());
}

#[test]
fn a_return_needs_a_busy_task() {
    for (link, want) in
        [(0, (TS, 0)), (NEW_SEL, (TS, NEW_SEL)), (DATA0, (TS, DATA0)), (0x44, (TS, 0x44)), (0x200, (TS, 0x200))]
    {
        let mut g = tasks();
        g.put(TSS, link.into());
        g.put4(TSS + 4, guest::STACK0);
        g.vcpu.cpu.set_rflags_image(2 | flags::NT);
        let v = g.run_code(&[0xcf]);
        assert_eq!((v, g.frame(10).code), (want.0, want.1.into()), "{link:x}");
    }
    // In 64-bit mode NT is #GP.
    let mut g = Guest::long();
    g.vcpu.cpu.set_rflags_image(2 | flags::NT);
    assert_eq!((g.run_code(&[0x48, 0xcf]), g.frame(13).code), (GP, 0));
}

#[test]
fn an_exception_through_a_task_gate_pushes_its_code_in_the_new_task() {
    // mov eax, 1000h; mov ds, eax: #GP(1000h).
    let code = [0xb8, 0x00, 0x10, 0, 0, 0x8e, 0xd8];
    let mut g = tasks();
    g.put(IDT + 8 * 13, task_gate(0));
    switches(&mut g, &code);
    assert_eq!((g.vcpu.cpu.regs[4], g.get4(NEW_STACK - 4)), (NEW_STACK - 4, 0x1000));
    // The faulting instruction is what the old task goes on with; RF is set for it.
    assert_eq!((g.get4(TSS + 0x20), g.get4(TSS + 0x24) & flags::RF), (CODE + 5, flags::RF));
    assert_ne!(g.vcpu.cpu.rflags & flags::NT, 0);
    // INT n pushes nothing and comes back behind itself.
    let mut g = tasks();
    g.put(IDT + 8 * 0x40, task_gate(0));
    switches(&mut g, &[0xcd, 0x40]);
    assert_eq!((g.vcpu.cpu.regs[4], g.get4(TSS + 0x20)), (NEW_STACK, CODE + 2));
    // A double fault finds a good stack that way: no room for the first two.
    let mut g = tasks();
    g.put(IDT + 8 * 8, task_gate(0));
    g.put(GDT + u64::from(FREE_SEL) + 24, 0x0040_9300_0000_0fff);
    g.set_seg(2, FREE_SEL + 24);
    g.vcpu.cpu.mode_changed();
    g.load(&[0x0f, 0x0b]);
    g.vcpu.cpu.regs[4] = 0x8_0000;
    // #UD finds no room, #SS neither: #DF.
    assert_eq!(g.run_for(1000), CpuExit::Halt);
    assert_eq!((g.vcpu.cpu.rip, g.get4(NEW_STACK - 4)), (NEW_CODE + 1, 0));
    assert_eq!(g.get4(TSS + 0x20), CODE);
    // A gate to a busy task cannot be used: #GP names it, with EXT for a fault.
    for (code, ext) in [(&[0xcd, 0x40][..], 0), (&[0xf1], 1)] {
        let mut g = tasks();
        g.put(GDT + u64::from(NEW_SEL), tss(NEW, BUSY, 0x67));
        g.put(IDT + 8 * 0x40, task_gate(0));
        g.put(IDT + 8, task_gate(0));
        let v = g.run_code(code);
        assert_eq!((v, g.frame(13).code), (GP, u64::from(NEW_SEL) | ext));
    }
}

/// A third task as a handler, so that there is a stack to deliver on whatever SS is.
const THIRD: u64 = 0x1_1000;
const THIRD_CODE: u64 = NEW_CODE + 0x100;

fn handler_is_a_task(g: &mut Guest, vector: Option<u8>) {
    let sel = FREE_SEL + 40;
    g.put(IDT + 8 * u64::from(vector.unwrap()), u64::from(sel) << 16 | 0x85 << 40);
    g.put(GDT + u64::from(sel), tss(THIRD, AVAILABLE, 0x67));
    let image = g.ram.read_le::<0x68>(NEW);
    g.ram.write(THIRD, &image);
    g.put4(THIRD + 0x20, THIRD_CODE);
    g.ram.write(THIRD_CODE, &[0xf4]);
}

#[test]
fn faults_behind_the_switch_belong_to_the_new_task() {
    let absent = FREE_SEL + 24;
    let s = |n: u64| NEW + 0x48 + 4 * n;
    for (name, at, v, want) in [
        ("null CS", s(1), 0, (TS, 0)),
        ("data as CS", s(1), DATA0.into(), (TS, DATA0.into())),
        ("CS of another ring", s(1), u64::from(CODE3) & !3, (TS, u64::from(CODE3) & !3)),
        ("CS not present", s(1), u64::from(FREE_SEL) + 32, (NP, u64::from(FREE_SEL) + 32)),
        ("null SS", s(2), 0, (TS, 0)),
        ("SS of another ring", s(2), u64::from(DATA3) & !3, (TS, u64::from(DATA3) & !3)),
        ("SS not present", s(2), absent.into(), (SS, absent.into())),
        ("DS not present", s(3), absent.into(), (NP, absent.into())),
        ("DS beyond the table", s(3), 0x200, (TS, 0x200)),
        ("GS is a TSS", s(5), TSS_SEL.into(), (TS, TSS_SEL.into())),
        ("LDT is none", NEW + 0x60, DATA0.into(), (TS, DATA0.into())),
        ("LDT in the LDT", NEW + 0x60, 0x44, (TS, 0x44)),
        ("EIP beyond the limit", NEW + 0x20, 0x1000_0000, (GP, 0)),
    ] {
        for code in [jmp(NEW_SEL), call(GATE)] {
            let mut g = tasks();
            handler_is_a_task(&mut g, want.0);
            g.put(GDT + u64::from(absent), 0x00cf_1300_0000_ffff);
            g.put(GDT + u64::from(FREE_SEL) + 32, 0x00cf_1b00_0000_ffff);
            // Code of 64 KiB for a limit.
            if name.starts_with("EIP") {
                g.put(GDT + u64::from(CODE0), 0x0040_9b00_0000_ffff);
            }
            g.put4(at, v);
            g.load(&code);
            assert_eq!(g.run_for(1000), CpuExit::Halt, "{name}");
            assert_eq!((g.vcpu.cpu.rip, g.get4(NEW_STACK - 4)), (THIRD_CODE + 1, want.1), "{name}");
            // The new task was running, and is what will be returned to, at its own EIP.
            assert_eq!(g.get4(THIRD) & 0xffff, NEW_SEL.into(), "{name}");
            let eip = if at == NEW + 0x20 { v } else { NEW_CODE };
            assert_eq!(g.get4(NEW + 0x20), eip, "{name}");
            assert_eq!((g.get4(TSS + 0x20), kind(&g, NEW_SEL)), (CODE + 7, BUSY), "{name}");
        }
    }
}

#[test]
fn tasks_of_16_bits_have_half_the_state() {
    let mut g = tasks();
    g.put(GDT + u64::from(NEW_SEL), tss(NEW, 0x81, 0x2b));
    g.ram.write(NEW, &[0; 0x2c]);
    let word = |g: &Guest, at: u64, v: u64| g.ram.write(at, &(v as u16).to_le_bytes());
    word(&g, NEW + 0x0e, NEW_CODE);
    word(&g, NEW + 0x10, 0x0003);
    for r in 0..8 {
        word(&g, NEW + 0x12 + 2 * r, 0x2000 + r);
    }
    for (s, sel) in (0..).zip([DATA0, CODE0, DATA0, DATA0]) {
        word(&g, NEW + 0x22 + 2 * s, sel.into());
    }
    switches(&mut g, &call(NEW_SEL));
    let c = &mut g.vcpu.cpu;
    assert_eq!((c.regs[0] & 0xffff, c.regs[7] & 0xffff, c.rflags_image()), (0x2000, 0x2007, 3 | flags::NT));
    let sel: Vec<u16> = c.seg.iter().map(|s| s.sel).collect();
    assert_eq!(sel, [DATA0, CODE0, DATA0, DATA0, 0, 0, 0, NEW_SEL]);
    assert_eq!((kind(&g, NEW_SEL), g.get4(NEW) & 0xffff), (0x83, TSS_SEL.into()));
    // And back, saving 16 bits of everything; nothing beyond the image is written.
    g.ram.write(NEW + 0x2a, &[0xee; 4]);
    word(&g, NEW + 0x2a, 0);
    g.vcpu.cpu.regs[reg::RBX as usize] = 0x1234_5678;
    g.ram.write(NEW_CODE + 1, &[0xcf]);
    assert_eq!(g.go_on(), None);
    assert_eq!(g.get4(NEW + 0x18) & 0xffff, 0x5678);
    assert_eq!((g.get4(NEW + 0x0e) & 0xffff, g.get4(NEW + 0x2a)), (NEW_CODE + 2, 0xeeee_0000));
    assert_eq!((kind(&g, NEW_SEL), g.vcpu.cpu.regs[4]), (0x81, STACK));
}

#[test]
fn a_task_brings_its_ldt_its_ring_and_its_mode() {
    let mut g = tasks();
    // Entry 1 of the LDT: data for ring 3, used as DS.
    g.put(DATA + 8, 0x00cf_f300_0000_ffff);
    g.put4(NEW + 0x60, LDT_SEL.into());
    for (s, sel) in (0..).zip([DATA3, CODE3, DATA3, 0xf, DATA3, 0]) {
        g.put4(NEW + 0x48 + 4 * s, sel.into());
    }
    // HLT is refused in ring 3.
    g.put(NEW + 4, guest::STACK0 | u64::from(DATA0) << 32);
    assert_eq!(g.run_code(&jmp(NEW_SEL)), GP);
    let f = g.frame(13);
    assert_eq!((f.ip, f.cs, f.outer), (NEW_CODE, CODE3, Some((NEW_STACK, DATA3))));
    assert_eq!((g.vcpu.cpu.seg[6].base, g.vcpu.cpu.seg[3].sel), (DATA, 0xf));
    // Virtual-8086 mode.
    let mut g = tasks();
    g.put4(NEW + 0x24, 2 | flags::VM);
    g.put4(NEW + 0x20, 0x100);
    for s in 0..6 {
        g.put4(NEW + 0x48 + 4 * s, 0xb00 + s);
    }
    g.ram.write(0xb010 + 0x100, &[0xf4]);
    g.put(NEW + 4, guest::STACK0 | u64::from(DATA0) << 32);
    assert_eq!(g.run_code(&jmp(NEW_SEL)), GP);
    let f = g.frame(13);
    assert_eq!((f.ip, f.cs, f.flags & flags::VM, f.outer), (0x100, 0xb01, flags::VM, Some((NEW_STACK, 0xb02))));
}

#[test]
fn a_task_brings_its_address_space() {
    for pae in [false, true] {
        let mut g = tasks();
        // Two spaces: the same low 4 MiB (2 MiB), and a page that differs.
        let la = 0xc000_0000u64;
        for (root, target) in [(0x20_0000u64, DATA), (0x21_0000, DATA + 0x1000)] {
            if pae {
                g.put(root, (root + 0x1000) | 1);
                g.put(root + 0x1000, 0x83);
                g.put(root + 24, (root + 0x2000) | 1);
                g.put(root + 0x2000, (root + 0x3000) | 3);
                g.put(root + 0x3000, target | 3);
            } else {
                g.put4(root, 0x83);
                g.put4(root + 4 * (la >> 22), (root + 0x1000) | 3);
                g.put4(root + 0x1000, target | 3);
            }
        }
        g.put4(DATA, 0x1111);
        g.put4(DATA + 0x1000, 0x2222);
        let c = &mut g.vcpu.cpu;
        c.cr4 |= if pae { cr4::PAE } else { cr4::PSE };
        c.cr3 = 0x20_0000;
        if pae {
            c.load_pdptes(0x20_0000).unwrap();
        }
        c.cr0 |= cr0::PG;
        c.tlb.flush_all();
        g.put4(NEW + 0x1c, 0x21_0000);
        g.put4(TSS + 0x1c, 0x20_0000);
        // mov eax, [ebx]; call; hlt, and in the other task mov eax, [ebx]; hlt
        g.put4(NEW + 0x28 + 4 * 3, la);
        g.ram.write(NEW_CODE, &[0x8b, 0x03, 0xf4, 0xcf]);
        g.load(&[&[0x8b, 0x03][..], &call(NEW_SEL), &[0x8b, 0x03]].concat());
        g.vcpu.cpu.regs[3] = la;
        assert_eq!(g.run_for(1000), CpuExit::Halt);
        assert_eq!((g.vcpu.cpu.rip, g.vcpu.cpu.regs[0], g.vcpu.cpu.cr3), (NEW_CODE + 3, 0x2222, 0x21_0000));
        assert_eq!(g.get4(TSS + 0x28), 0x1111);
        assert_eq!(g.go_on(), None);
        assert_eq!((g.vcpu.cpu.regs[0], g.vcpu.cpu.cr3), (0x1111, 0x20_0000));
        // A bad CR3 is the new task's fault.
        if pae {
            g.put4(NEW + 0x20, NEW_CODE);
            handler_is_a_task(&mut g, GP);
            g.put4(THIRD + 0x1c, 0x20_0000);
            g.put(0x21_0000, 0x21_1000 | 1 | 1 << 5);
            g.load(&call(NEW_SEL));
            assert_eq!(g.run_for(1000), CpuExit::Halt);
            assert_eq!((g.vcpu.cpu.rip, g.get4(NEW_STACK - 4)), (THIRD_CODE + 1, 0));
            assert_eq!((g.get4(THIRD) & 0xffff, g.get4(NEW + 0x20)), (NEW_SEL.into(), NEW_CODE));
        }
    }
}

#[test]
fn the_debug_trap_flag_of_a_tss_stops_in_front_of_the_task() {
    let mut g = tasks();
    g.put4(NEW + 0x64, 1);
    assert_eq!(g.run_code(&jmp(NEW_SEL)), DB);
    assert_eq!((g.frame(1).ip, g.vcpu.cpu.dr[6] & 0xe00f), (NEW_CODE, 0x8000));
}

#[test]
fn tasks_that_fault_for_ever_shut_down() {
    // Every exception goes to a task that cannot be entered, and tables that never remember that it is busy.
    let mut g = tasks();
    g.put4(NEW + 0x4c, 0);
    for v in 0..32 {
        g.put(IDT + 8 * v, task_gate(0));
    }
    g.load(&[0x0f, 0x0b]);
    assert_eq!(g.run_for(100_000), CpuExit::Shutdown);
}

#[test]
fn ltr_and_str_and_the_busy_bit() {
    // mov eax, NEW_SEL; ltr ax; str ecx; ltr ax again is #GP
    let code = [0xb8, NEW_SEL as u8, 0, 0, 0, 0x0f, 0x00, 0xd8, 0x0f, 0x00, 0xc9];
    let mut g = tasks();
    assert_eq!(g.run_code(&code), None);
    assert_eq!((g.vcpu.cpu.regs[1] & 0xffff, kind(&g, NEW_SEL)), (NEW_SEL.into(), BUSY));
    assert_eq!(g.vcpu.cpu.seg[7], Segment { base: NEW, limit: 0x67, sel: NEW_SEL, attr: 0x8b });
    assert_eq!((g.run_code(&code), g.frame(13).code), (GP, NEW_SEL.into()));
}
