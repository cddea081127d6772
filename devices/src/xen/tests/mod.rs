//! Domains around kernels of a few bytes, without an image: what a guest asks for by hypercalls, made here one by one or
//! by code that runs, and what comes of it.
//!
//! The kernel is a page of code at [`CODE`]; the initial mapping reaches from [`VIRT`] over the first 4 MiB. Frames below
//! the kernel are mapped for writing and free ([`DATA`] is where arguments go), those behind the mapping are free and not
//! mapped.

mod build;
mod control;
mod cpu;
mod events;
mod fuzz;
mod fuzz_code;
mod grants;
mod kept;
mod memory;
mod pages;
mod pvh;
mod suspend;
mod traps;
mod vcpus;

use super::abi::{Errno, pte};
use super::domain::{Cx, Domain, Options};
use super::mmu::Kind;
use crate::effect::Effect;
use crate::machine::clock::Rate;
use crate::machine::machine::Payload;
use crate::machine::platform::{Platform, Start, StopCause};
use crate::machine::processor::Processor;
use crate::machine::xen::{Memory, Xen};
use std::sync::Arc;
use tabvisor_core::bus::{Bus, Trap};
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::{Cpu, reg};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE};
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// The guest's RAM in frames.
const FRAMES: u64 = 2048;
/// Where the kernel's mapping begins.
const VIRT: u64 = 0xffff_ffff_8000_0000;
/// The kernel's frame.
const CODE: u64 = 0x100;
/// The kernel's pages: code, and more.
const CODE_PAGES: u64 = 16;
/// A frame for the arguments of hypercalls.
const DATA: u64 = 0x10;
/// The first of many frames that nothing uses and that are mapped for writing.
const MAPPED: u64 = 0x20;
/// The first of many frames that nothing uses and that are not mapped.
const FREE: u64 = 0x500;
/// Frames for the tables of [`Bench::users`].
const USERS: u64 = 0x780;
/// Where users' code is, and their stack ends.
const USER_CODE: u64 = 0x40_0000;
/// A stack pointer of users.
const USER_STACK: u64 = USER_CODE + 0x2000;

/// `-EINVAL` and its like, as RAX shows it.
const fn errno(e: Errno) -> i64 {
    -(e.0 as i64)
}
const EINVAL: i64 = errno(Errno::EINVAL);
const EBUSY: i64 = errno(Errno::EBUSY);
const EPERM: i64 = errno(Errno::EPERM);
const EFAULT: i64 = errno(Errno::EFAULT);
const ENOSYS: i64 = errno(Errno::ENOSYS);
const ENOENT: i64 = errno(Errno::ENOENT);
const ESRCH: i64 = errno(Errno::ESRCH);

/// The address at which the kernel sees a frame.
fn va(frame: u64) -> u64 {
    VIRT + (frame << PAGE_SHIFT)
}
/// An entry of an L1.
fn leaf(frame: u64, flags: u64) -> u64 {
    frame << PAGE_SHIFT | flags | pte::P
}
/// Numbers as they lie in memory.
fn words(all: &[u64]) -> Vec<u8> {
    all.iter().flat_map(|v| v.to_le_bytes()).collect()
}
/// Two 32-bit fields.
fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// One note of Xen's.
fn note(kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut n: Vec<u8> = [4, desc.len() as u32, kind].iter().flat_map(|v| v.to_le_bytes()).collect();
    n.extend(b"Xen\0");
    n.extend(desc);
    n.resize(n.len().next_multiple_of(4), 0);
    n
}

/// An ELF64 kernel for PV and PVH with `code` at its entry and `more` notes.
fn kernel(code: &[u8], more: &[u8]) -> Vec<u8> {
    let entry = CODE << PAGE_SHIFT;
    let size = CODE_PAGES << PAGE_SHIFT;
    let notes = [
        note(5, b"xen-3.0\0"),
        note(6, b"test\0"),
        note(8, b"generic\0"),
        note(3, &VIRT.to_le_bytes()),
        note(1, &va(CODE).to_le_bytes()),
        note(18, &(entry as u32).to_le_bytes()),
        more.to_vec(),
    ]
    .concat();
    let mut k = vec![0; 0x1000 + size as usize];
    let mut put = |at: usize, bytes: &[u8]| k[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &words(&[0x0001_0102_464c_457f, 0, 0x1_003e_0002, va(CODE), 0x40, 0]));
    put(0x36, &[56, 0, 2, 0]);
    // PT_LOAD, readable, writable and executable; PT_NOTE.
    put(0x40, &words(&[pair(1, 7), 0x1000, entry, entry, size, size, 0x1000]));
    put(0x78, &words(&[pair(4, 4), 0x200, 0, 0, notes.len() as u64, notes.len() as u64, 4]));
    put(0x200, &notes);
    put(0x1000, &vec![0x90; size as usize]);
    put(0x1000, code);
    k
}

/// A domain with its CPU.
struct Bench {
    xen: Xen,
    vcpu: Vcpu,
    ram: GuestRam,
    /// The frame of start_info; behind it are the rings.
    start_info: u64,
}

impl Bench {
    /// A PV domain that has just begun: one vCPU.
    fn pv() -> Self {
        Self::build(false, 1, &[], &[], "")
    }
    /// One whose kernel is `code`.
    fn pv_code(code: &[u8]) -> Self {
        Self::build(false, 1, code, &[], "")
    }
    /// A PVH domain with so many vCPUs, the first in 64-bit mode with all of 4 GiB mapped to itself.
    fn pvh(vcpus: u32, code: &[u8]) -> Self {
        Self::pvh_with(vcpus, code, FRAMES)
    }
    /// One that may have up to `most` frames.
    fn pvh_with(vcpus: u32, code: &[u8], most: u64) -> Self {
        let mut b = Self::build_with(true, vcpus, code, &[], "", most);
        let entry = crate::boot::entry::long_mode(&b.ram, CODE << PAGE_SHIFT, 0);
        b.vcpu.enter(&entry);
        b.vcpu.cpu.regs[usize::from(reg::RSP)] = va_pvh(CODE + CODE_PAGES);
        b
    }
    fn build(hvm: bool, vcpus: u32, code: &[u8], notes: &[u8], cmdline: &str) -> Self {
        Self::build_with(hvm, vcpus, code, notes, cmdline, FRAMES)
    }
    /// One that may have up to `most` frames.
    fn build_with(hvm: bool, vcpus: u32, code: &[u8], notes: &[u8], cmdline: &str, most: u64) -> Self {
        let memory = Memory { boot: FRAMES << PAGE_SHIFT, most: most << PAGE_SHIFT };
        let ram = Xen::ram(memory).unwrap();
        let uuid = core::array::from_fn(|n| n as u8);
        let options =
            Options { hvm, vcpus, wall_clock: 1_700_000_000, uuid, nics: Vec::new(), display: None, files: None };
        let mut xen = Xen::new(&ram, memory, Rate::ONE, 1, options, Vec::new());
        let payload = Payload {
            kernel: Arc::new(kernel(code, notes)),
            initrd: Arc::new(Vec::new()),
            cmdline: cmdline.to_string(),
        };
        let ram = xen.seen();
        let mut vcpu = Vcpu::new(&ram, Model::by_name("x86-64-v2").expect("a model"));
        match xen.load(&payload).unwrap() {
            Start::Guest(begin) => vcpu.enter_guest(begin),
            Start::Bare(entry) => vcpu.enter(&entry),
        }
        let start_info = vcpu.cpu.regs[usize::from(reg::RSI)].wrapping_sub(VIRT) >> PAGE_SHIFT;
        Self { xen, vcpu, ram, start_info }
    }

    /// Lets `f` look at the domain, or change it.
    fn domain<R>(&mut self, f: impl FnOnce(&mut Domain, &mut Cx<'_>) -> R) -> R {
        self.xen.with(f)
    }
    fn cpu(&mut self) -> &mut Cpu {
        &mut self.vcpu.cpu
    }
    fn reg(&self, r: u8) -> u64 {
        self.vcpu.cpu.regs[usize::from(r)]
    }
    fn set(&mut self, r: u8, v: u64) {
        self.vcpu.cpu.regs[usize::from(r)] = v;
    }
    /// The stop that the domain has asked for.
    fn stop(&mut self) -> Option<StopCause> {
        self.xen.take_stop()
    }
    /// What went out on the console.
    fn said(&mut self) -> Vec<u8> {
        let all = core::mem::take(self.xen.effects());
        all.into_iter().flat_map(|e| if let Effect::Serial { bytes, .. } = e { bytes } else { Vec::new() }).collect()
    }

    /// Bytes of a frame.
    fn put(&self, frame: u64, at: u64, bytes: &[u8]) {
        self.ram.write((frame << PAGE_SHIFT) + at, bytes);
    }
    fn word(&self, frame: u64, at: u64) -> u64 {
        u64::from_le_bytes(self.ram.read_le((frame << PAGE_SHIFT) + at))
    }
    fn half(&self, frame: u64, at: u64) -> u32 {
        self.word(frame, at) as u32
    }
    fn bytes(&self, frame: u64, at: u64, n: usize) -> Vec<u8> {
        let mut all = vec![0; n];
        self.ram.read((frame << PAGE_SHIFT) + at, &mut all);
        all
    }

    /// A hypercall, made as SYSCALL or VMCALL makes it.
    fn call(&mut self, number: u64, args: &[u64]) -> i64 {
        let cpu = &mut self.vcpu.cpu;
        cpu.regs[usize::from(reg::RAX)] = number;
        for (r, v) in [reg::RDI, reg::RSI, reg::RDX, 10, 8, 9].into_iter().zip(args) {
            cpu.regs[usize::from(r)] = *v;
        }
        let trap = if cpu.paravirtual { Trap::Syscall } else { Trap::Hypercall };
        // As the run loop does between two instructions.
        let rip = cpu.rip;
        for _ in 0..1 << 20 {
            self.xen.trap(&mut self.vcpu.cpu, trap).expect("a hypercall raises nothing");
            if self.vcpu.cpu.rip == rip || !self.again(rip) {
                break;
            }
        }
        self.reg(reg::RAX) as i64
    }
    /// Is the CPU to make the same hypercall once more, to go on with it? Then it stands behind it again.
    fn again(&mut self, behind: u64) -> bool {
        let cpu = &mut self.vcpu.cpu;
        let again = cpu.rip == behind.wrapping_sub(if cpu.paravirtual { 2 } else { 3 });
        if again {
            cpu.rip = behind;
        }
        again
    }
    /// A hypercall with a structure in [`DATA`] as its argument number `n`, behind `args`.
    fn call_with(&mut self, number: u64, args: &[u64], structure: &[u64]) -> i64 {
        self.put(DATA, 0, &words(structure));
        let at = if self.vcpu.cpu.paravirtual { va(DATA) } else { va_pvh(DATA) };
        let all: Vec<u64> = args.iter().copied().chain([at]).collect();
        self.call(number, &all)
    }
    /// Runs up to `n` instructions.
    fn run(&mut self, n: u64) -> CpuExit {
        let allowed = self.xen.run_until().saturating_sub(self.vcpu.retired());
        let exit = self.vcpu.run(&mut self.xen, n.min(allowed));
        self.xen.sync(self.vcpu.retired());
        exit
    }
    /// Nanoseconds pass while the CPU waits.
    fn pass(&mut self, nanos: u64) {
        let to = self.xen.now() + tabvisor_core::time::VmDuration::from_nanos(nanos);
        while self.xen.nearest() <= to {
            let at = self.xen.nearest();
            self.xen.adjust_clock(&mut |clock| clock.jump(at));
        }
        self.xen.adjust_clock(&mut |clock| clock.jump(to));
    }

    /// mmuext_op with one operation.
    fn mmuext(&mut self, cmd: u64, arg1: u64, arg2: u64) -> i64 {
        self.put(DATA, 0, &words(&[cmd, arg1, arg2]));
        self.call(26, &[va(DATA), 1, 0, 0x7ff0])
    }
    /// mmu_update with one entry.
    fn update(&mut self, ptr: u64, val: u64) -> i64 {
        self.put(DATA, 0, &words(&[ptr, val]));
        self.call(1, &[va(DATA), 1, 0, 0x7ff0])
    }
    /// Maps a frame of the initial mapping differently.
    fn remap(&mut self, frame: u64, entry: u64) -> i64 {
        self.call(14, &[va(frame), entry, 2])
    }
    fn kind(&mut self, frame: u64) -> Kind {
        self.domain(|d, _| d.types.kind(frame))
    }
    /// The machine address of the entry that maps a frame in the initial mapping.
    fn slot_of(&mut self, frame: u64) -> u64 {
        let Self { xen, vcpu, .. } = self;
        xen.with(|d, _| d.entry_of(&vcpu.cpu, va(frame))).expect("a frame of the initial mapping")
    }
    /// The frame of the boot vCPU's L4.
    fn l4(&mut self) -> u64 {
        self.domain(|d, _| d.vcpu().pv.guest_table)
    }
    /// vcpu_info of vCPU `n`: its byte or word at an offset.
    fn info(&mut self, n: usize, at: u64) -> u64 {
        self.domain(|d, _| d.vcpus[n].info + at)
    }
    /// A word of the first vCPU's.
    fn info_word(&mut self, at: u64) -> u64 {
        let at = self.info(0, at);
        u64::from_le_bytes(self.ram.read_le(at))
    }
    fn upcall_mask(&mut self) -> bool {
        let at = self.info(0, 1);
        self.ram.read_le::<1>(at)[0] != 0
    }
    fn set_upcall_mask(&mut self, mask: bool) {
        let at = self.info(0, 1);
        self.ram.write(at, &[mask.into()]);
    }

    /// Gives the kernel's users an address space: a page of code and a stack at [`USER_CODE`]; and the kernel a stack for
    /// when they are interrupted.
    fn users(&mut self, code: &[u8]) {
        let [l4, l3, l2, l1, page, stack] = core::array::from_fn(|n| USERS + n as u64);
        let table = |frame| leaf(frame, pte::RW | pte::US | pte::A);
        self.put(l4, 0, &words(&[table(l3)]));
        self.put(l3, 0, &words(&[table(l2)]));
        self.put(l2, 8 * (USER_CODE >> 21), &words(&[table(l1)]));
        self.put(l1, 0, &words(&[table(page), table(stack)]));
        self.put(page, 0, code);
        assert_eq!(self.mmuext(3, l4, 0), 0);
        assert_eq!(self.mmuext(15, l4, 0), 0);
        assert_eq!(self.call(3, &[0, va(MAPPED + 0x81)]), 0);
    }
    /// The iret hypercall with this frame: RAX, R11, RCX, flags, RIP, CS, RFLAGS, RSP, SS.
    fn iret(&mut self, frame: [u64; 9]) -> i64 {
        let at = va(MAPPED + 0x91) - 0x100;
        self.put(MAPPED + 0x90, 0xf00, &words(&frame));
        self.set(reg::RSP, at);
        self.call(23, &[])
    }
    /// Goes to the users' code.
    fn enter_users(&mut self) {
        self.iret([0, 0, 0, 0, USER_CODE, 0xe033, 0x202, USER_STACK, 0xe02b]);
        assert!(!self.vcpu.cpu.guest_kernel);
    }
    /// A gate of the trap table.
    fn gate(&mut self, vector: u8, flags: u8, address: u64) -> i64 {
        let head = u64::from(vector) | u64::from(flags) << 8 | 0xe033 << 16;
        self.call_with(0, &[], &[head, address, 0, 0])
    }
    /// Are all uses of frames accounted for?
    fn check(&mut self) {
        let si = self.start_info;
        self.domain(|d, _| {
            let rings = if d.hvm.is_some() { Vec::new() } else { vec![si + 1, si + 2] };
            let mut held: Vec<(u64, Kind)> = rings.iter().map(|&f| (f, Kind::Writable)).collect();
            for m in d.mappings.iter().flatten().filter(|m| m.device) {
                held.push((m.frame, if m.readonly { Kind::None } else { Kind::Writable }));
            }
            let pages = d.grants.places.iter().chain(&d.grants.status_places);
            let shown = pages.chain([&d.shared_info]).filter(|&&at| at < d.frames.guest);
            shown.for_each(|&at| assert!(d.types.is_absent(at), "a page of the hypervisor is at {at:#x}"));
            for (n, v) in d.vcpus.iter().enumerate() {
                let pv = &v.pv;
                held.extend(
                    [pv.guest_table, pv.user_table]
                        .iter()
                        .filter(|t| **t != 0 && d.hvm.is_none())
                        .map(|t| (*t, Kind::L4)),
                );
                held.extend(pv.gdt_frames.iter().map(|f| (*f, Kind::Descriptors)));
                if v.info_registered {
                    held.push((v.info >> PAGE_SHIFT, Kind::Writable));
                }
                for page in (0..16).filter(|p| pv.ldt_mapped >> p & 1 != 0) {
                    held.push((d.frames.table(&d.ram, n as u64, 16 + page), Kind::Descriptors));
                }
            }
            d.types.check(&d.ram, &held);
        });
    }
    /// The words at the stack pointer, in the kernel's address space.
    fn stack(&mut self, n: u64) -> Vec<u64> {
        let sp = self.reg(reg::RSP);
        (0..n).map(|k| u64::from_le_bytes(self.ram.read_le(sp - VIRT + 8 * k))).collect()
    }
    /// An exception of the code at RIP.
    fn fault(&mut self, vector: u8, code: Option<u16>) {
        let source = tabvisor_core::cpu::exception::Source::Exception(code);
        let return_rip = self.vcpu.cpu.rip;
        let trap = Trap::Interrupt { vector, source, return_rip };
        self.xen.trap(&mut self.vcpu.cpu, trap).expect("exceptions are delivered or crash the domain");
    }
}

/// Where a PVH guest has a frame.
fn va_pvh(frame: u64) -> u64 {
    frame << PAGE_SHIFT
}
const _: () = assert!(PAGE_SIZE == 4096);
