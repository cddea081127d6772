//! The domain builder for 64-bit PV: kernel, initrd, p2m list, rings and the page tables that the guest begins with
//! (Xen: tools/libs/guest/xg_dom_x86.c and xg_dom_core.c; public/xen.h for what the guest is told).

use super::abi::pte;
use super::domain::{Domain, Rings};
use super::emulate::real_cr4;
use super::frames::Frames;
use super::memory::entry;
use super::mmu::Kind;
use super::notes::Pv;
use crate::boot::BootError;
use crate::boot::elf::Image;
use crate::boot::zero_page;
use tabvisor_core::cpu::{Cpu, TableReg, cr0, efer, reg, segment::Segment};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE};
use tabvisor_core::time::VmTime;

/// Offsets in `struct start_info` (xen.h).
pub(super) mod start_info {
    pub const MAGIC: u64 = 0;
    pub const NR_PAGES: u64 = 0x20;
    pub const SHARED_INFO: u64 = 0x28;
    pub const FLAGS: u64 = 0x30;
    pub const STORE_MFN: u64 = 0x38;
    pub const STORE_EVTCHN: u64 = 0x40;
    pub const CONSOLE_MFN: u64 = 0x48;
    pub const CONSOLE_EVTCHN: u64 = 0x50;
    pub const PT_BASE: u64 = 0x58;
    pub const NR_PT_FRAMES: u64 = 0x60;
    pub const MFN_LIST: u64 = 0x68;
    pub const MOD_START: u64 = 0x70;
    pub const MOD_LEN: u64 = 0x78;
    pub const CMD_LINE: u64 = 0x80;
    pub const FIRST_P2M_PFN: u64 = 0x480;
    pub const NR_P2M_FRAMES: u64 = 0x488;
    /// Bytes of the command line, with its zero.
    pub const CMD_LINE_LEN: usize = 1024;
    /// `SIF_MOD_START_PFN`.
    pub const MOD_START_PFN: u32 = 8;
    /// `SIF_VIRT_P2M_4TOOLS`.
    pub const VIRT_P2M: u32 = 16;
}

/// Slack behind what the guest gets, and what the initial mapping is rounded to.
const SLACK: u64 = 512 << 10;
const ROUND: u64 = 4 << 20;
/// Entries of the initial tables: leaves that may be written, page tables, upper levels.
const LEAF: u64 = pte::RW | pte::A | pte::US;
const LEAF_TABLE: u64 = pte::A | pte::US;
const UPPER: u64 = pte::RW | pte::A | pte::D | pte::US;

/// A range of frames.
#[derive(Clone, Copy, Debug, Default)]
struct Area {
    first: u64,
    pages: u64,
}

impl Area {
    fn end(self) -> u64 {
        self.first + self.pages
    }
}

/// Where everything is, in frames.
#[derive(Clone, Copy, Debug)]
struct Plan {
    start_info: u64,
    store: u64,
    console: u64,
    tables: Area,
    stack: u64,
    /// First frame that is not mapped.
    mapped: u64,
    initrd: Area,
    p2m: Area,
    p2m_tables: Area,
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE)
}

/// Tables of each level below the top for `n` pages from `va` on, in one L4.
fn tables_for(va: u64, n: u64) -> [u64; 3] {
    [21u32, 30, 39].map(|shift| {
        let last = va.wrapping_add((n.max(1) << PAGE_SHIFT) - 1);
        ((last >> shift).wrapping_sub(va >> shift)) + 1
    })
}

impl Plan {
    fn new(pv: &Pv, frames: u64, initrd: u64) -> Result<Self, BootError> {
        let mut next = pages(pv.end);
        let mut take = |n: u64| {
            let area = Area { first: next, pages: n };
            next += n;
            area
        };
        let initrd_pages = pages(initrd);
        let mut module = Area::default();
        if initrd > 0 && !pv.mod_start_pfn {
            module = take(initrd_pages);
        }
        let mut p2m = Area::default();
        if pv.init_p2m.is_none() {
            p2m = take(pages(8 * frames));
        }
        let (start_info, store, console) = (take(1).first, take(1).first, take(1).first);
        // How many tables there are depends on how much they map, which they are part of.
        let first = take(0).first;
        let (mut count, mut mapped) = (0, 0);
        for _ in 0..8 {
            mapped = pages(((first + count + 1) << PAGE_SHIFT) + SLACK).next_multiple_of(ROUND >> PAGE_SHIFT);
            let more = 1 + tables_for(pv.virt_base, mapped).iter().sum::<u64>();
            if more == count {
                break;
            }
            count = more;
        }
        let tables = take(count);
        let stack = take(1).first;
        next = mapped;
        let mut take = |n: u64| {
            let area = Area { first: next, pages: n };
            next += n;
            area
        };
        if initrd > 0 && pv.mod_start_pfn {
            module = take(initrd_pages);
        }
        let mut p2m_tables = Area::default();
        if let Some(va) = pv.init_p2m {
            p2m = take(pages(8 * frames));
            p2m_tables = take(tables_for(va, p2m.pages).iter().sum());
        }
        if next > frames {
            let needs = next << PAGE_SHIFT;
            return Err(BootError::NeedsMemory {
                what: "the kernel with its initrd and page tables",
                needs,
                has: frames << PAGE_SHIFT,
            });
        }
        Ok(Self { start_info, store, console, tables, stack, mapped, initrd: module, p2m, p2m_tables })
    }
}

/// Page tables being written, from a stock of frames.
struct Writer<'a> {
    ram: &'a GuestRam,
    l4: u64,
    stock: Area,
}

impl Writer<'_> {
    fn read(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.ram.read_le(at))
    }
    /// The address of the L1 entry of `va`, with tables from the stock where there are none.
    fn slot(&mut self, va: u64) -> u64 {
        let mut table = self.l4;
        for level in (2..=4).rev() {
            let at = (table << PAGE_SHIFT) + (va >> (12 + 9 * (level - 1)) & 0x1ff) * 8;
            let mut e = self.read(at);
            if e & pte::P == 0 {
                assert!(self.stock.pages > 0, "the plan has counted the tables");
                let new = self.stock.first;
                self.stock = Area { first: new + 1, pages: self.stock.pages - 1 };
                self.ram.write(new << PAGE_SHIFT, &[0; PAGE_SIZE as usize]);
                e = entry(new, UPPER);
                self.ram.write(at, &e.to_le_bytes());
            }
            table = (e & pte::ADDR) >> PAGE_SHIFT;
        }
        (table << PAGE_SHIFT) + (va >> 12 & 0x1ff) * 8
    }
    fn map(&mut self, va: u64, area: Area, read_only: impl Fn(u64) -> bool) {
        for k in 0..area.pages {
            let mfn = area.first + k;
            let at = self.slot(va.wrapping_add(k << PAGE_SHIFT));
            let flags = if read_only(mfn) { LEAF_TABLE } else { LEAF };
            self.ram.write(at, &entry(mfn, flags).to_le_bytes());
        }
    }
}

/// Builds the domain; what the boot vCPU begins with.
///
/// # Errors
/// [`BootError`] if something is too large.
pub fn build(
    domain: &mut Domain,
    pv: &Pv,
    kernel: &Image<'_>,
    initrd: &[u8],
    cmdline: &str,
    now: VmTime,
) -> Result<Begin, BootError> {
    let (ram, frames) = (domain.ram.clone(), domain.frames);
    let plan = Plan::new(pv, frames.boot, initrd.len() as u64)?;
    zero_page::check_cmdline(cmdline, start_info::CMD_LINE_LEN - 1)?;
    kernel.place(&ram)?;
    ram.write(plan.initrd.first << PAGE_SHIFT, initrd);
    let address = |pfn: u64| pv.virt_base.wrapping_add(pfn << PAGE_SHIFT);

    for n in 0..frames.boot {
        ram.write((plan.p2m.first << PAGE_SHIFT) + 8 * n, &n.to_le_bytes());
    }
    let l4 = plan.tables.first;
    ram.write(l4 << PAGE_SHIFT, &[0; PAGE_SIZE as usize]);
    let is_table = |mfn: u64| [plan.tables, plan.p2m_tables].iter().any(|a| (a.first..a.end()).contains(&mfn));
    let stock = Area { first: l4 + 1, pages: plan.tables.pages - 1 };
    let mut writer = Writer { ram: &ram, l4, stock };
    writer.map(pv.virt_base, Area { first: 0, pages: plan.mapped }, is_table);
    if let Some(va) = pv.init_p2m {
        writer.stock = plan.p2m_tables;
        writer.map(va, plan.p2m, |_| false);
    }
    if let Some(page) = pv.hypercall_page {
        write_hypercall_page(&ram, page.wrapping_sub(pv.virt_base));
    }

    let (store_port, console_port) = domain.open_rings();
    let si = plan.start_info << PAGE_SHIFT;
    let put = |at: u64, v: u64| ram.write(si + at, &v.to_le_bytes());
    let put32 = |at: u64, v: u32| ram.write(si + at, &v.to_le_bytes());
    ram.write(si + start_info::MAGIC, b"xen-3.0-x86_64\0");
    put(start_info::NR_PAGES, frames.boot);
    put(start_info::SHARED_INFO, frames.shared_info << PAGE_SHIFT);
    let unmapped = plan.initrd.pages > 0 && pv.mod_start_pfn;
    put32(start_info::FLAGS, start_info::VIRT_P2M | if unmapped { start_info::MOD_START_PFN } else { 0 });
    put(start_info::STORE_MFN, plan.store);
    put32(start_info::STORE_EVTCHN, store_port);
    put(start_info::CONSOLE_MFN, plan.console);
    put32(start_info::CONSOLE_EVTCHN, console_port);
    put(start_info::PT_BASE, address(l4));
    put(start_info::NR_PT_FRAMES, plan.tables.pages);
    put(start_info::MFN_LIST, pv.init_p2m.unwrap_or(address(plan.p2m.first)));
    if plan.initrd.pages > 0 {
        put(start_info::MOD_START, if unmapped { plan.initrd.first } else { address(plan.initrd.first) });
        put(start_info::MOD_LEN, plan.initrd.pages << PAGE_SHIFT);
    }
    ram.write(si + start_info::CMD_LINE, cmdline.as_bytes());
    if pv.init_p2m.is_some() {
        put(start_info::FIRST_P2M_PFN, plan.p2m.first);
        put(start_info::NR_P2M_FRAMES, plan.p2m.pages + plan.p2m_tables.pages);
    }

    domain.connect(Rings { store: plan.store, console: plan.console });
    // As a toolstack pins what it has made; and it is what the vCPU runs on.
    domain.adopt(l4);
    domain.start(now);
    Ok(Begin { rip: pv.entry, rsp: address(plan.stack + 1), rsi: address(plan.start_info), l4 })
}

/// What the boot vCPU begins with.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    rip: u64,
    rsp: u64,
    rsi: u64,
    l4: u64,
}

impl Begin {
    /// Sets up a CPU that was reset.
    pub fn apply(&self, cpu: &mut Cpu) {
        cpu.regs[..16].fill(0);
        cpu.regs[usize::from(reg::RSI)] = self.rsi;
        cpu.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;
        cpu.cr4 = real_cr4(0);
        cpu.cr3 = self.l4 << PAGE_SHIFT;
        cpu.efer = efer::SCE | efer::LME | efer::LMA | efer::NXE;
        (cpu.paravirtual, cpu.guest_kernel) = (true, true);
        for s in [reg::ES, reg::DS, reg::FS, reg::GS] {
            cpu.seg[usize::from(s)] = Segment::null(0);
        }
        cpu.gdtr = TableReg { base: Frames::table_address(0, 0), limit: 0xe000 + 8 * 7 - 1 };
        cpu.idtr = TableReg::default();
        // A task without an I/O permission bitmap: ports trap.
        cpu.seg[7] = Segment::null(0);
        cpu.set_guest_ldt(Frames::table_address(0, 16), 0);
        cpu.enter_flat(super::abi::sel::CS64, super::abi::sel::DS, self.rip, self.rsp);
        cpu.set_rflags_image(Cpu::guest_rflags(0));
    }
}

impl Domain {
    /// The L4 that the builder has written is the guest's, pinned and in use.
    fn adopt(&mut self, l4: u64) {
        let pinned = self.types.pin(&self.ram, l4, Kind::L4).and_then(|()| self.types.get(&self.ram, l4, Kind::L4));
        pinned.expect("the builder's tables are valid");
        self.types.take_protected();
        self.vcpus[0].pv.guest_table = l4;
    }
}

/// Fills a PV hypercall page: 128 calls of 32 bytes (public/arch-x86/xen.h).
fn write_hypercall_page(ram: &GuestRam, at: u64) {
    let mut page = [0xcc; PAGE_SIZE as usize];
    for (n, slot) in (0u32..).zip(page.chunks_exact_mut(32)) {
        let [a, b, c, d] = n.to_le_bytes();
        let code: &[u8] = if n == super::hypercall::number::IRET as u32 {
            &[0x51, 0x41, 0x53, 0x50, 0xb8, a, b, c, d, 0x0f, 0x05]
        } else {
            &[0x51, 0x41, 0x53, 0xb8, a, b, c, d, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3]
        };
        slot[..code.len()].copy_from_slice(code);
    }
    ram.write(at, &page);
}
