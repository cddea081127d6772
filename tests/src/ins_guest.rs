//! Runs one-line cases of every mode on Tabvisor's CPU: builds the world each mode promises, runs the code
//! instruction by instruction, and takes an exception's frame off the handler's stack again.

use crate::ins::{Case, Ending, Fault, Mode, Runner};
use crate::oracle::compare::{GPR, SEG};
use crate::oracle::state::{CODE_BASE, CODE_SIZE, CS, DATA_BASE, DATA_SIZE, FS, Fx, GDT, GS, RO_BASE, SEL_DATA, SS};
use anyhow::{Context, Result, ensure};
use tabvisor_core::bus::Nothing;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::{Descriptor, Segment};
use tabvisor_core::cpu::{Cpu, TableReg, cr0, cr4, efer};
use tabvisor_core::mem::GuestRam;
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// Physical memory: low megabyte for the 16-bit modes, tables above it.
const RAM: u64 = 0x20_0000;
const CODE: u64 = 0x1_0000;
const DATA: u64 = 0x1_1000;
const TABLES: u64 = 0x11_0000;
const IDT: u64 = 0x12_0000;
const GDT_AT: u64 = 0x12_1000;
const TSS: u64 = 0x12_2000;
const HANDLERS: u64 = 0x12_3000;
const STACK_TOP: u64 = 0x12_6000;
/// Real mode's handlers: a segment and the linear address of handler 0.
const REAL_HANDLERS: (u16, u64) = (0x0f00, 0xf000);

/// Descriptors behind the oracle's table: 16-bit code and data for CPL 0 (80h, 88h) and CPL 3 (93h, 9Bh), TSS (A0h).
const MORE: [u64; 6] = [
    0x0000_9b00_0000_ffff,
    0x0000_9300_0000_ffff,
    0x0000_fb00_0000_ffff,
    0x0000_f300_0000_ffff,
    0x0000_8b00_0000_0067 | (TSS & 0xff_ffff) << 16,
    0,
];

/// Instructions a case may take.
const STEPS: u32 = 1000;

/// Tabvisor's CPU as a runner of all cases.
#[derive(Default)]
pub struct Guest;

/// Where a linear address of a case lies in RAM.
fn physical(mode: Mode, at: u64) -> u64 {
    match mode {
        Mode::Long64 | Mode::Compat | Mode::Prot32 => match at {
            CODE_BASE..0x1000_1000 => at - CODE_BASE + CODE,
            DATA_BASE..0x2000_3000 => at - DATA_BASE + DATA,
            _ => u64::MAX,
        },
        Mode::Prot16 | Mode::V86 | Mode::Real => at,
    }
}

fn descriptor(sel: u16) -> Segment {
    let table: Vec<u64> = GDT.iter().chain(&MORE).copied().collect();
    match table.get(usize::from(sel >> 3)) {
        Some(d) if sel > 3 => Descriptor { raw: *d, high: 0 }.segment(sel),
        _ => Segment::null(sel),
    }
}

/// Page tables: the oracle's windows as user pages, the second megabyte for the system.
fn page_tables(ram: &GuestRam, long: bool) -> u64 {
    const USER: u64 = 0x67;
    const SYSTEM: u64 = 0x63;
    let size = if long { 8 } else { 4 };
    let mut next = TABLES;
    let mut table = || {
        next += 0x1000;
        next - 0x1000
    };
    let put = |table: u64, index: u64, v: u64| ram.write(table + size * index, &v.to_le_bytes()[..size as usize]);
    let root = table();
    // The directory, and how many address bits an entry of it covers.
    let (directory, bits) = if long {
        let (pdpt, pd) = (table(), table());
        put(root, 0, pdpt | USER);
        put(pdpt, 0, pd | USER);
        (pd, 21)
    } else {
        (root, 22)
    };
    let low = table();
    put(directory, 0, low | USER);
    for page in 0x100..0x200 {
        put(low, page, page << 12 | SYSTEM);
    }
    let (code, data) = (table(), table());
    put(directory, CODE_BASE >> bits, code | USER);
    put(directory, DATA_BASE >> bits, data | USER);
    put(code, 0, CODE | USER & !2);
    for page in (0..DATA_SIZE).step_by(4096) {
        put(data, page >> 12, (DATA + page) | USER);
    }
    put(data, (RO_BASE - DATA_BASE) >> 12, (DATA + DATA_SIZE) | USER & !2);
    root
}

/// IDT (or interrupt vector table) with a HLT behind every vector, GDT, TSS.
fn tables(ram: &GuestRam, mode: Mode, long: bool) {
    for v in 0..256u64 {
        let to = HANDLERS + v;
        let dpl = if matches!(v, 3 | 4) { 3 } else { 0 };
        let sel = if long { 0x10 } else { 0x08 };
        let gate = to & 0xffff | sel << 16 | (0x8e | dpl << 5) << 40 | (to >> 16 & 0xffff) << 48;
        match mode {
            Mode::Real => {
                let far = v | u64::from(REAL_HANDLERS.0) << 16;
                ram.write(4 * v, &(far as u32).to_le_bytes());
            }
            _ if long => ram.write(IDT + 16 * v, &u128::from(gate).to_le_bytes()),
            _ => ram.write(IDT + 8 * v, &gate.to_le_bytes()),
        }
    }
    ram.write(HANDLERS, &[0xf4; 256]);
    ram.write(REAL_HANDLERS.1, &[0xf4; 256]);
    for (i, d) in GDT.iter().chain(&MORE).enumerate() {
        ram.write(GDT_AT + 8 * i as u64, &d.to_le_bytes());
    }
    ram.write(TSS + 4, &STACK_TOP.to_le_bytes());
    if !long {
        ram.write(TSS + 8, &0x18u32.to_le_bytes());
    }
    ram.write(TSS + 0x66, &0x68u16.to_le_bytes());
}

fn set_up(c: &Case) -> Result<(Vcpu, GuestRam)> {
    let ram = GuestRam::new(RAM)?;
    let long = matches!(c.mode, Mode::Long64 | Mode::Compat);
    tables(&ram, c.mode, long);
    let mut vcpu = Vcpu::new(&ram, Model::X64V2);
    let cpu = &mut vcpu.cpu;
    cpu.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | if long { cr4::PAE } else { 0 };
    cpu.cr0 = cr0::ET | cr0::NE | cr0::MP;
    if c.mode != Mode::Real {
        cpu.cr0 |= cr0::PE;
    }
    if long || c.mode == Mode::Prot32 {
        cpu.cr3 = page_tables(&ram, long);
        cpu.cr0 |= cr0::PG | cr0::WP | cr0::AM;
    }
    if long {
        cpu.efer = efer::LME | efer::LMA | efer::SCE | efer::NXE;
    }
    for (name, v) in &c.before.values {
        let v = *v as u64;
        match name.as_str() {
            "cr0" => cpu.cr0 = v,
            "cr2" => cpu.cr2 = v,
            "cr3" => cpu.cr3 = v,
            "cr4" => cpu.cr4 = v,
            _ => {
                if let Some(n) = name.strip_prefix("dr").and_then(|n| n.parse::<usize>().ok()) {
                    *cpu.dr.get_mut(n).context("no such debug register")? = v;
                }
            }
        }
    }
    cpu.gdtr = TableReg { base: GDT_AT, limit: (GDT.len() + MORE.len()) as u32 * 8 - 1 };
    cpu.idtr = match c.mode {
        Mode::Real => TableReg { base: 0, limit: 0x3ff },
        _ => TableReg { base: IDT, limit: if long { 0xfff } else { 0x7ff } },
    };
    cpu.seg[6] = Segment::null(0);
    cpu.seg[7] = descriptor(0xa0);
    segments(cpu, c);
    registers(cpu, c);
    for (at, bytes) in &c.before.memory {
        let to = physical(c.mode, *at);
        ensure!(ram.contains(to, bytes.len() as u64), "memory at {at:x} is outside the case's world");
        ram.write(to, bytes);
    }
    ram.write(physical(c.mode, c.mode.code_at()), &c.code);
    cpu.mode_changed();
    cpu.tlb.flush_all();
    Ok((vcpu, ram))
}

fn segments(cpu: &mut Cpu, c: &Case) {
    let user = c.cpl == 3;
    let (cs, data) = match (c.mode, user) {
        (Mode::Long64, true) => (0x33, SEL_DATA),
        (Mode::Long64, false) => (0x10, 0x18),
        (Mode::Compat | Mode::Prot32, true) => (0x23, SEL_DATA),
        (Mode::Compat | Mode::Prot32, false) => (0x08, 0x18),
        (Mode::Prot16, true) => (0x93, 0x9b),
        (Mode::Prot16, false) => (0x80, 0x88),
        (Mode::V86 | Mode::Real, _) => (0, 0),
    };
    for (i, name) in SEG.iter().enumerate() {
        let usual = match i {
            CS => cs,
            FS | GS if matches!(c.mode, Mode::Long64 | Mode::Compat | Mode::Prot32) => 0,
            _ => data,
        };
        let sel = c.before.values.get(*name).map_or(usual, |v| *v as u16);
        cpu.seg[i] = match c.mode {
            Mode::Real => Segment::real(sel),
            Mode::V86 => Segment::v86(sel),
            _ => descriptor(sel),
        };
    }
    for (i, name) in [(FS, "fsbase"), (GS, "gsbase")] {
        if let Some(v) = c.before.values.get(name) {
            cpu.seg[i].base = *v as u64;
        }
    }
    cpu.cpl = c.cpl;
}

fn registers(cpu: &mut Cpu, c: &Case) {
    for (i, name) in GPR.iter().enumerate() {
        cpu.regs[i] = c.initial(name) as u64;
    }
    cpu.rip = c.initial("rip") as u64;
    let fx = c.initial_fx();
    cpu.fpu.fxrstor(&fx.0, true);
    for (i, x) in cpu.xmm.iter_mut().enumerate() {
        *x = [fx.u64(Fx::xmm(i)), fx.u64(Fx::xmm(i) + 8)];
    }
    cpu.mxcsr = fx.mxcsr();
    let vm = if c.mode == Mode::V86 { 1 << 17 } else { 0 };
    cpu.set_rflags_image(c.initial_rflags() | vm);
}

/// Takes an exception frame off the handler's stack and puts its values back where they were.
fn unwind(vcpu: &mut Vcpu, ram: &GuestRam, c: &Case, vector: u8) -> Fault {
    let cpu = &mut vcpu.cpu;
    let long = cpu.efer & efer::LMA != 0;
    let size = match c.mode {
        Mode::Real => 2,
        _ if long => 8,
        _ => 4,
    };
    let base = if long { 0 } else { cpu.seg[SS].base };
    let mask = if c.mode == Mode::Real { 0xffff } else { u64::MAX };
    let mut sp = cpu.regs[4] & mask;
    let mode = c.mode;
    let mut pop = || {
        let at = base + sp;
        // The system's stack is mapped one to one; a stack of the case lies in its windows.
        let at = if (TABLES..RAM).contains(&at) { at } else { physical(mode, at) };
        let mut b = [0; 8];
        ram.read(at, &mut b[..size as usize]);
        sp = sp.wrapping_add(size);
        u64::from_le_bytes(b)
    };
    let coded = matches!(vector, 8 | 10..=14 | 17) && c.mode != Mode::Real;
    let err = coded.then(|| pop() as u32);
    let (rip, cs, flags) = (pop(), pop() as u16, pop());
    let changed = cs & 3 != u16::from(cpu.cpl) || c.mode == Mode::V86;
    let outer = (long || changed && c.mode != Mode::Real).then(|| (pop(), pop() as u16));
    if c.mode == Mode::V86 {
        for i in [0, 3, 4, 5] {
            cpu.seg[i].sel = pop() as u16;
        }
    }
    match outer {
        Some((rsp, ss)) => {
            cpu.regs[4] = rsp;
            cpu.seg[SS].sel = ss;
        }
        None => cpu.regs[4] = cpu.regs[4] & !mask | sp & mask,
    }
    cpu.rip = rip;
    cpu.seg[CS].sel = cs;
    cpu.set_rflags_image(flags);
    Fault { vector, err }
}

fn values(cpu: &mut Cpu, e: &mut Ending) -> Result<()> {
    let mut fx = Fx([0; 512]);
    cpu.fpu.fxsave(&mut fx.0, true);
    let rflags = cpu.rflags_image();
    let mut put = |name: &str, v: u128| e.values.insert(name.to_string(), v);
    for (i, name) in GPR.iter().enumerate() {
        put(name, cpu.regs[i].into());
        put(&format!("xmm{i}"), u128::from(cpu.xmm[i][0]) | u128::from(cpu.xmm[i][1]) << 64);
    }
    for i in 0..8 {
        put(&format!("st{i}"), u128::from_le_bytes(fx.0[Fx::st(i)..Fx::st(i) + 16].try_into()?));
        put(&format!("mm{i}"), fx.u64(Fx::st(i)).into());
        put(&format!("dr{i}"), cpu.dr[i].into());
    }
    for (i, name) in SEG.iter().enumerate() {
        put(name, cpu.seg[i].sel.into());
    }
    for (name, v) in [
        ("rip", cpu.rip),
        ("rflags", rflags),
        ("fsbase", cpu.seg[FS].base),
        ("gsbase", cpu.seg[GS].base),
        ("cr0", cpu.cr0),
        ("cr2", cpu.cr2),
        ("cr3", cpu.cr3),
        ("cr4", cpu.cr4),
        ("fcw", fx.u16(0).into()),
        ("fsw", fx.u16(2).into()),
        ("ftw", fx.0[4].into()),
        ("mxcsr", cpu.mxcsr.into()),
    ] {
        put(name, v.into());
    }
    Ok(())
}

impl Runner for Guest {
    fn can(&self, _c: &Case) -> bool {
        true
    }

    fn run(&mut self, c: &Case) -> Result<Ending> {
        let (mut vcpu, ram) = set_up(c)?;
        let end = c.mode.code_at() + c.code.len() as u64;
        let target = c.after.values.get("rip").map_or(end, |v| *v as u64);
        let mut e = Ending::default();
        let mut done = false;
        for _ in 0..STEPS {
            let exit = vcpu.run(&mut Nothing, 1);
            let cpu = &vcpu.cpu;
            ensure!(exit != CpuExit::Shutdown, "a triple fault");
            let handler = match c.mode {
                Mode::Real if cpu.seg[CS].sel == REAL_HANDLERS.0 => Some(cpu.rip),
                Mode::Real => None,
                _ => Some(cpu.rip.wrapping_sub(HANDLERS)),
            };
            if let Some(v) = handler.filter(|v| *v < 256) {
                e.fault = Some(unwind(&mut vcpu, &ram, c, v as u8));
                done = true;
                break;
            }
            if cpu.rip == target || exit == CpuExit::Halt {
                done = true;
                break;
            }
        }
        ensure!(done, "it did not end at {target:x} but goes on at {:x}", vcpu.cpu.rip);
        values(&mut vcpu.cpu, &mut e)?;
        for (at, want) in &c.after.memory {
            let from = physical(c.mode, *at);
            ensure!(ram.contains(from, want.len() as u64), "memory at {at:x} is outside the case's world");
            let mut got = vec![0; want.len()];
            ram.read(from, &mut got);
            e.memory.push((*at, got));
        }
        Ok(e)
    }
}

const _: () = assert!(CODE + CODE_SIZE <= DATA);
