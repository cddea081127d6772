//! Tabvisor's CPU as a `Subject`: a small long-mode guest with the oracle's windows as user pages, a descriptor
//! table like the host's, and an IDT whose handlers all are HLT, so that where it halts names the vector.

use super::state::*;
use super::values;
use tabvisor_core::bus::Nothing;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::{Descriptor, Segment};
use tabvisor_core::cpu::{Shadow, TableReg, cr0, cr4, efer, event};
use tabvisor_core::mem::GuestRam;
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// Linear address of the supervisor's megabyte; its physical address is 0.
const SYSTEM: u64 = 0xffff_8000_0000_0000;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const PT_CODE: u64 = 0x4000;
const PT_DATA: u64 = 0x5000;
const PDPT_SYSTEM: u64 = 0x6000;
const PD_SYSTEM: u64 = 0x7000;
const IDT: u64 = 0x8000;
const GDT_AT: u64 = 0x9000;
const TSS: u64 = 0x9800;
const LDT_AT: u64 = 0x9c00;
const HANDLERS: u64 = 0xa000;
const STACK_TOP: u64 = 0xc000;
const CODE: u64 = 0x1_0000;
const DATA: u64 = 0x1_1000;
const RAM: u64 = 0x2_0000;

/// Page table bits (SDM 3A 4.5).
mod pte {
    pub const P: u64 = 1;
    pub const W: u64 = 2;
    pub const U: u64 = 4;
    /// Accessed and dirty, so that running does not change the tables.
    pub const AD: u64 = 0x60;
    pub const PS: u64 = 0x80;
    pub const NX: u64 = 1 << 63;
}

/// Instructions a test may take, string iterations included, before it counts as hung.
const BUDGET: u64 = 100_000;

/// The interpreter.
pub struct Interpreter {
    vcpu: Vcpu,
    prepare: fn(&mut Vcpu),
    ram: GuestRam,
    fills: Vec<Vec<u8>>,
    expect: Vec<u8>,
    /// Background the window has now.
    fill: Option<u8>,
}

impl Default for Interpreter {
    fn default() -> Self {
        Self::new()
    }
}

impl Interpreter {
    /// A machine ready for tests.
    pub fn new() -> Interpreter {
        Self::prepared(|_| {})
    }

    /// The CPU.
    pub fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.vcpu
    }

    /// A machine ready for tests, its CPU made ready by `prepare`.
    pub fn prepared(prepare: fn(&mut Vcpu)) -> Interpreter {
        let ram = GuestRam::new(RAM).expect("a small guest");
        let put = |at: u64, v: u64| ram.write(at, &v.to_le_bytes());
        let table = pte::P | pte::W | pte::U | pte::AD;
        put(PML4, PDPT | table);
        put(PDPT, PD | table);
        put(PD + 8 * (CODE_BASE >> 21), PT_CODE | table);
        put(PD + 8 * (DATA_BASE >> 21), PT_DATA | table);
        let entry = |table: u64, linear: u64| table + 8 * (linear >> 12 & 511);
        put(entry(PT_CODE, CODE_BASE), CODE | pte::P | pte::U | pte::AD);
        for page in (0..DATA_SIZE).step_by(4096) {
            put(entry(PT_DATA, DATA_BASE + page), (DATA + page) | table | pte::NX);
        }
        put(entry(PT_DATA, RO_BASE), (DATA + DATA_SIZE) | pte::P | pte::U | pte::AD | pte::NX);
        put(PML4 + 8 * (SYSTEM >> 39 & 511), PDPT_SYSTEM | pte::P | pte::W | pte::AD);
        put(PDPT_SYSTEM, PD_SYSTEM | pte::P | pte::W | pte::AD);
        put(PD_SYSTEM, pte::P | pte::W | pte::AD | pte::PS);
        for v in 0..256u64 {
            // A 64-bit interrupt gate (SDM 3A 6.14.1); INT3, INTO and INT 80h are open to user code.
            let to = SYSTEM + HANDLERS + v;
            let dpl = if matches!(v, 3 | 4 | 0x80) { 3 } else { 0 };
            let low = to & 0xffff | 0x10 << 16 | (0x8e | dpl << 5) << 40 | (to >> 16 & 0xffff) << 48;
            put(IDT + 16 * v, low);
            put(IDT + 16 * v + 8, to >> 32);
        }
        ram.write(HANDLERS, &[0xf4; 256]);
        let mut gdt = GDT;
        let tss = SYSTEM + TSS;
        gdt[8] = 0x67 | (tss & 0xff_ffff) << 16 | 0x8b << 40 | (tss >> 24 & 0xff) << 56;
        gdt[9] = tss >> 32;
        for (i, d) in gdt.iter().enumerate() {
            put(GDT_AT + 8 * i as u64, *d);
        }
        for (i, d) in LDT.iter().enumerate() {
            put(LDT_AT + 8 * i as u64, *d);
        }
        put(TSS + 4, SYSTEM + STACK_TOP);
        ram.write(TSS + 0x66, &0x68u16.to_le_bytes()); // no I/O permission map
        ram.write(CODE, &[FILLER; 4096]);
        ram.write(DATA + DATA_SIZE, &values::ro_fill());

        let mut vcpu = Vcpu::new(&ram, Model::X64V2);
        let cpu = &mut vcpu.cpu;
        cpu.cr3 = PML4;
        cpu.cr4 = cr4::PAE | cr4::PGE | cr4::OSFXSR | cr4::OSXMMEXCPT;
        cpu.efer = efer::SCE | efer::LME | efer::LMA | efer::NXE;
        cpu.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;
        cpu.gdtr = TableReg { base: SYSTEM + GDT_AT, limit: 16 * 8 - 1 };
        cpu.idtr = TableReg { base: SYSTEM + IDT, limit: 256 * 16 - 1 };
        let limit = 8 * LDT.len() as u32 - 1;
        cpu.seg[6] = Segment { sel: 0x50, base: SYSTEM + LDT_AT, limit, attr: 0x82 };
        cpu.seg[7] = Descriptor { raw: gdt[8], high: gdt[9] }.segment(0x40);
        cpu.mode_changed();
        cpu.tlb.flush_all();
        prepare(&mut vcpu);
        Interpreter {
            vcpu,
            prepare,
            ram,
            fills: (0..FILLS).map(values::data_fill).collect(),
            expect: vec![0; DATA_SIZE as usize],
            fill: None,
        }
    }

    fn load(&mut self, t: &Test) {
        if self.fill != Some(t.fill) {
            self.expect.copy_from_slice(&self.fills[t.fill as usize]);
            self.ram.write(DATA, &self.expect);
            self.fill = Some(t.fill);
        }
        t.apply_patches(&mut self.expect);
        for p in &t.patch {
            self.ram.write(DATA + u64::from(p.at), &p.bytes[..p.len as usize]);
        }
        self.ram.write(CODE + u64::from(t.entry), t.bytes_in_page());
        let cpu = &mut self.vcpu.cpu;
        cpu.regs[..16].copy_from_slice(&t.gpr);
        cpu.rip = t.rip();
        for (i, &sel) in t.sel.iter().enumerate() {
            cpu.seg[i] = match sel {
                0 => Segment::null(0),
                s => {
                    let table: &[u64] = if s & 4 == 0 { &GDT } else { &LDT };
                    Descriptor { raw: table[usize::from(s >> 3)], high: 0 }.segment(s)
                }
            };
        }
        if t.mode == Mode::Long64 {
            cpu.seg[FS].base = t.fs_base;
            cpu.seg[GS].base = t.gs_base;
        }
        cpu.cpl = 3;
        cpu.fpu.fxrstor(&t.fx.0, true);
        for (i, x) in cpu.xmm.iter_mut().enumerate() {
            *x = [t.fx.u64(Fx::xmm(i)), t.fx.u64(Fx::xmm(i) + 8)];
        }
        cpu.mxcsr = t.fx.mxcsr();
        cpu.cr2 = 0;
        cpu.shadow = Shadow::None;
        cpu.pending_db = 0;
        cpu.events &= !event::HALTED;
        cpu.set_rflags_image(t.rflags);
    }

    /// Reads the result out of the halted machine.
    fn store(&mut self, out: &mut Out) {
        let cpu = &mut self.vcpu.cpu;
        let vector = cpu.rip.wrapping_sub(SYSTEM + HANDLERS + 1);
        out.vector = vector as u16;
        let coded = matches!(vector, 8 | 10..=14 | 17);
        let mut at = cpu.regs[4].wrapping_sub(SYSTEM);
        let mut pop = |ram: &GuestRam| {
            at += 8;
            u64::from_le_bytes(ram.read_le::<8>(at - 8))
        };
        out.err = if coded { pop(&self.ram) as u32 } else { 0 };
        out.rip = pop(&self.ram);
        let cs = pop(&self.ram);
        out.rflags = pop(&self.ram);
        let rsp = pop(&self.ram);
        let ss = pop(&self.ram);
        out.gpr.copy_from_slice(&cpu.regs[..16]);
        out.gpr[4] = rsp;
        for i in 0..6 {
            out.sel[i] = cpu.seg[i].sel;
        }
        (out.sel[CS], out.sel[SS]) = (cs as u16, ss as u16);
        out.fs_base = cpu.seg[FS].base;
        out.gs_base = cpu.seg[GS].base;
        out.cr2 = if vector == 14 { cpu.cr2 } else { 0 };
        out.fx = Fx([0; 512]);
        cpu.fpu.fxsave(&mut out.fx.0, true);
        out.fx.0[24..32].fill(0);
        out.fx.set_mxcsr(cpu.mxcsr);
        for (i, x) in cpu.xmm.iter().enumerate() {
            out.fx.set_u64(Fx::xmm(i), x[0]);
            out.fx.set_u64(Fx::xmm(i) + 8, x[1]);
        }
        out.fx.0[416..].fill(0);
    }

    /// Takes the memory changes and puts everything back.
    fn clean(&mut self, t: &Test, out: &mut Out) {
        let mut window = vec![0; DATA_SIZE as usize];
        self.ram.read(DATA, &mut window);
        out.take_deltas(&mut window, &self.expect);
        t.remove_patches(&mut self.expect, &self.fills[t.fill as usize]);
        if out.deltas as usize > DELTAS {
            self.ram.write(DATA, &self.expect);
        }
        for (at, _) in out.deltas() {
            let at = at as usize;
            self.ram.write(DATA + at as u64, &self.expect[at..at + 8]);
        }
        for p in &t.patch {
            let at = p.at as usize;
            self.ram.write(DATA + at as u64, &self.expect[at..at + p.len as usize]);
        }
        self.ram.write(CODE + u64::from(t.entry), &[FILLER; 32][..t.bytes_in_page().len()]);
    }
}

impl Subject for Interpreter {
    fn run(&mut self, t: &Test, out: &mut Out) {
        self.load(t);
        match self.vcpu.run(&mut Nothing, BUDGET) {
            CpuExit::Halt => self.store(out),
            CpuExit::Budget | CpuExit::Shutdown => {
                *out = Out::unchanged(t);
                out.vector = VEC_KILLED;
                // A triple fault or a loop may leave anything behind: start afresh.
                *self = Interpreter::prepared(self.prepare);
                return;
            }
        }
        self.clean(t, out);
    }
}
