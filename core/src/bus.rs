//! What a CPU sees of the board it sits on. The CPU calls this between
//! instructions only, so a device may raise or drop interrupts inside any call.

use crate::cpu::exception::Source;
use crate::cpu::{Cpu, Done, Vector, fault};
use crate::size::Size;

/// What a CPU leaves to the hypervisor that it runs under ([`Bus::trap`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// VMCALL or VMMCALL, in any mode of any guest.
    Hypercall,
    /// What [`Bus::preempts`] wanted, between two instructions.
    Preempted,
    /// SYSCALL of a paravirtualized guest, with RCX and R11 as the instruction leaves them.
    Syscall,
    /// SYSENTER of a paravirtualized guest.
    Sysenter,
    /// RDMSR of a paravirtualized kernel, which has no privilege for it; whoever does not do it answers #GP.
    ReadMsr,
    /// WRMSR of a paravirtualized kernel, likewise.
    WriteMsr,
    /// An exception, an INT or what the board has raised, instead of a look into the IDT. RIP may be beyond the
    /// instruction already; `return_rip` is what a handler's frame would say.
    Interrupt {
        /// The vector.
        vector: u8,
        /// Where it comes from.
        source: Source,
        /// The RIP that belongs to it.
        return_rip: u64,
    },
}

/// The board, seen from a CPU. What has a default is for boards without interrupt controllers and MSRs.
pub trait Bus {
    /// `retired` instructions have run since the CPU was created: bring the clock there.
    /// Called before every other call of this trait that a guest can time.
    fn sync(&mut self, retired: u64);
    /// How many instructions may run before the board wants the CPU back (its next deadline).
    fn allowance(&mut self) -> u64 {
        u64::MAX
    }
    /// IN. Unclaimed ports read all ones.
    fn port_read(&mut self, port: u16, size: Size) -> u32;
    /// OUT.
    fn port_write(&mut self, port: u16, size: Size, value: u32);
    /// A load from a physical address that is not RAM. Unclaimed addresses read all ones.
    fn mmio_read(&mut self, at: u64, size: Size) -> u64;
    /// A store to a physical address that is not RAM (or that is ROM).
    fn mmio_write(&mut self, at: u64, size: Size, value: u64);
    /// Does the board's hypervisor want the CPU, whatever runs there lets interrupt it, for [`Trap::Preempted`]?
    /// `halted`: nothing runs.
    fn preempts(&self, _halted: bool) -> bool {
        false
    }
    /// Is an interrupt waiting that the board wants to deliver (INTR)?
    fn interrupt_pending(&self) -> bool {
        false
    }
    /// The interrupt acknowledge cycle: the vector, or nothing if the request went away.
    fn acknowledge(&mut self) -> Option<u8> {
        None
    }
    /// Is there a non-maskable interrupt that [`Bus::take_nmi`] might take?
    fn nmi_pending(&self) -> bool {
        false
    }
    /// Takes a pending non-maskable interrupt, if there is one.
    fn take_nmi(&mut self) -> bool {
        false
    }
    /// An MSR the board owns (APIC base, x2APIC, TSC deadline, paravirtual ones); `None`: #GP.
    fn msr_read(&mut self, _msr: u32) -> Option<u64> {
        None
    }
    /// Writes an MSR the board owns; `false`: #GP.
    fn msr_write(&mut self, _msr: u32, _value: u64) -> bool {
        false
    }
    /// The task priority register, as CR8 shows it (bits 3:0).
    fn cr8_read(&mut self) -> u8 {
        0
    }
    /// MOV to CR8.
    fn cr8_write(&mut self, _value: u8) {}
    /// The time stamp counter, before IA32_TSC_ADJUST and offsets the CPU keeps.
    fn tsc(&mut self) -> u64;
    /// 64 random bits from the source that was injected into the machine (RDRAND, RDSEED).
    fn random(&mut self) -> u64;
    /// A paravirtual CPUID leaf (0x4000_0000 and up): eax, ebx, ecx, edx.
    fn hypervisor_leaf(&mut self, _leaf: u32, _subleaf: u32) -> Option<[u32; 4]> {
        None
    }
    /// Does for `cpu` what only a hypervisor can do. The CPU's registers may change in any way; it goes on at its RIP.
    /// While this runs the CPU has no board: accesses to devices read all ones.
    ///
    /// # Errors
    /// An exception of the instruction that trapped; a board without a hypervisor knows no such instruction.
    fn trap(&mut self, _cpu: &mut Cpu, _trap: Trap) -> Done {
        Err(fault(Vector::UD))
    }
    /// FERR#: with CR0.NE = 0, a waiting x87 instruction met an unmasked exception (`true`), or
    /// the exception is gone (`false`). A PC raises IRQ 13 and returns `false`: the CPU waits in
    /// front of the instruction for an interrupt. After a write to port F0h, and until FERR#
    /// drops, it returns `true` (IGNNE#): the CPU goes on regardless, as it does by default.
    fn fpu_error(&mut self, _asserted: bool) -> bool {
        true
    }
}

/// A board with nothing on it, for a CPU that runs by itself: nobody answers, nobody interrupts, time stands still.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Bus for Nothing {
    fn sync(&mut self, _retired: u64) {}
    fn port_read(&mut self, _port: u16, _size: Size) -> u32 {
        u32::MAX
    }
    fn port_write(&mut self, _port: u16, _size: Size, _value: u32) {}
    fn mmio_read(&mut self, _at: u64, _size: Size) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _at: u64, _size: Size, _value: u64) {}
    fn tsc(&mut self) -> u64 {
        0
    }
    fn random(&mut self) -> u64 {
        0
    }
}
