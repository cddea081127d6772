//! One instruction on a `Vcpu`: a flat 64-bit guest at CPL 0 whose exception handlers are HLTs.

use super::{State, WINDOW};
use tabvisor_core::bus::Nothing;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::Segment;
use tabvisor_core::cpu::{TableReg, cr0, cr4, efer, event};
use tabvisor_core::mem::GuestRam;
use tabvisor_core::vcpu::{CpuExit, Vcpu};

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const PT: u64 = 0x4000;
const GDT: u64 = 0x5000;
const IDT: u64 = 0x6000;
const HANDLERS: u64 = 0x7000;
const STACK: u64 = 0x9000;
const CODE: u64 = 0xa000;
const DATA: u64 = 0x10000;

/// The guest between instructions.
pub struct Guest {
    vcpu: Vcpu,
    ram: GuestRam,
}

impl Guest {
    pub fn new() -> Self {
        let ram = GuestRam::new(0x40000).unwrap();
        let put = |at: u64, v: u64| ram.write(at, &v.to_le_bytes());
        put(PML4, PDPT | 3);
        put(PDPT, PD | 3);
        put(PD, PT | 3);
        for page in 0..0x40 {
            // The page behind the window is missing.
            if page << 12 != DATA + WINDOW as u64 {
                put(PT + 8 * page, page << 12 | 3);
            }
        }
        put(GDT + 8, 0x00af_9b00_0000_ffff);
        put(GDT + 16, 0x00cf_9300_0000_ffff);
        for v in 0..32 {
            let to = HANDLERS + v;
            put(IDT + 16 * v, to & 0xffff | 8 << 16 | 0x8e00 << 32);
            ram.write(to, &[0xf4]);
        }
        let mut vcpu = Vcpu::new(&ram, Model::X64V2);
        let c = &mut vcpu.cpu;
        c.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::PG;
        c.cr3 = PML4;
        c.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;
        c.efer = efer::LME | efer::LMA | efer::NXE;
        c.gdtr = TableReg { base: GDT, limit: 23 };
        c.idtr = TableReg { base: IDT, limit: 0x1ff };
        for s in [0, 2, 3, 4, 5] {
            c.seg[s] = Segment { sel: 16, base: 0, limit: u32::MAX, attr: 0xc093 };
        }
        c.seg[1] = Segment { sel: 8, base: 0, limit: u32::MAX, attr: 0xa09b };
        c.mode_changed();
        c.tlb.flush_all();
        assert!(c.long);
        Self { vcpu, ram }
    }

    /// The CPU, to set it up differently.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn cpu(&mut self) -> &mut tabvisor_core::cpu::Cpu {
        &mut self.vcpu.cpu
    }

    /// Runs the instruction; `pointer`: this register points to that offset of the window.
    pub fn run(
        &mut self,
        bytes: &[u8],
        before: &State,
        window: &[u8; WINDOW],
        pointer: Option<(usize, usize)>,
    ) -> (State, [u8; WINDOW]) {
        self.ram.write(DATA, window);
        let mut code = [0xf4; 16];
        code[..bytes.len()].copy_from_slice(bytes);
        self.ram.write(CODE, &code);
        let c = &mut self.vcpu.cpu;
        c.regs[..16].copy_from_slice(&before.gpr);
        c.regs[4] = STACK;
        if let Some((r, at)) = pointer {
            c.regs[r] = DATA + at as u64;
        }
        c.fpu.fxrstor(&before.fx, true);
        c.mxcsr = u32::from_le_bytes(before.fx[24..28].try_into().unwrap());
        let half = |at: usize| u64::from_le_bytes(before.fx[at..at + 8].try_into().unwrap());
        for (k, x) in c.xmm.iter_mut().enumerate() {
            *x = [half(160 + 16 * k), half(168 + 16 * k)];
        }
        c.set_rflags_image(before.rflags);
        c.rip = CODE;
        c.events &= !event::HALTED;
        let exit = self.vcpu.run(&mut Nothing, 100);
        assert_eq!(exit, CpuExit::Halt);
        let c = &mut self.vcpu.cpu;
        let mut s = before.clone();
        s.gpr.copy_from_slice(&c.regs[..16]);
        s.rflags = c.rflags_image();
        c.fpu.fxsave(&mut s.fx, true);
        s.fx[24..28].copy_from_slice(&c.mxcsr.to_le_bytes());
        for (k, x) in c.xmm.iter().enumerate() {
            s.fx[160 + 16 * k..][..8].copy_from_slice(&x[0].to_le_bytes());
            s.fx[168 + 16 * k..][..8].copy_from_slice(&x[1].to_le_bytes());
        }
        let end = CODE + bytes.len() as u64 + 1;
        s.vector = if c.rip == end { 0xff } else { c.rip.wrapping_sub(HANDLERS + 1) };
        let mut after = [0; WINDOW];
        self.ram.read(DATA, &mut after);
        (s, after)
    }
}
