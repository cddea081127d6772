//! What a domain does with its hypervisor, counted by kind, for people: they see what paravirtualization is made of.
//! Nothing else depends on these figures.

use super::event::Binding;
use crate::machine::platform::{Count, Counted};
use tabvisor_core::bus::Trap;
use tabvisor_core::cpu::Vector;
use tabvisor_core::cpu::exception::Source;

/// Why the CPU comes to the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names are in NAMES")]
pub enum Exit {
    Hypercall,
    SystemCall,
    PageFault,
    PageTable,
    Emulated,
    Exception,
    Software,
    Upcall,
    Switch,
}

impl Exit {
    const COUNT: usize = Self::Switch as usize + 1;
    const NAMES: [&str; Self::COUNT] = [
        "hypercall",
        "system call passed on",
        "page fault passed on",
        "page table write",
        "privileged instruction",
        "other exception",
        "software interrupt",
        "event or NMI delivered",
        "vCPU switch",
    ];

    /// Of a trap; `None` for exceptions and MSRs, of which only their handler knows whose they are.
    fn of(trap: &Trap, guest_kernel: bool) -> Option<Self> {
        Some(match trap {
            Trap::Syscall if guest_kernel => Self::Hypercall,
            Trap::Hypercall => Self::Hypercall,
            Trap::Syscall | Trap::Sysenter => Self::SystemCall,
            Trap::ReadMsr | Trap::WriteMsr => return None,
            Trap::Interrupt { source: Source::External, .. } => Self::Upcall,
            Trap::Interrupt { source: Source::Software, .. } => Self::Software,
            Trap::Interrupt { source: Source::Exception(_), .. } => return None,
            Trap::Preempted => Self::Switch,
        })
    }
}

/// Who sends events.
const SENDERS: [&str; 5] = ["timer", "other virtual interrupt", "back end", "vCPU to vCPU", "port to port"];

/// The figures.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    exits: [u64; Exit::COUNT],
    events: [u64; SENDERS.len()],
}

impl Counts {
    /// The CPU comes.
    pub fn trap(&mut self, trap: &Trap, guest_kernel: bool) {
        if let Some(exit) = Exit::of(trap, guest_kernel) {
            self.exits[exit as usize] += 1;
        }
    }
    /// An instruction has been done for the guest that came without an exception.
    pub fn emulated(&mut self) {
        self.exits[Exit::Emulated as usize] += 1;
    }
    /// It came with an exception, and the hypervisor has done what there was to do, or the guest gets it.
    pub fn exception(&mut self, vector: u8, handled: bool) {
        let exit = match (vector == Vector::PF as u8, handled) {
            (true, true) => Exit::PageTable,
            (true, false) => Exit::PageFault,
            (false, true) => Exit::Emulated,
            (false, false) => Exit::Exception,
        };
        self.exits[exit as usize] += 1;
    }
    /// An event arrives at a port that is bound so.
    pub fn event(&mut self, binding: Binding) {
        const VIRQ_TIMER: u32 = 0;
        let sender = match binding {
            Binding::Virq(VIRQ_TIMER) => 0,
            Binding::Virq(_) => 1,
            Binding::BackEnd => 2,
            Binding::Ipi => 3,
            Binding::Loop(_) => 4,
            Binding::Free | Binding::Unbound(_) => return,
        };
        self.events[sender] += 1;
    }
    /// What there was.
    pub fn list(&self) -> impl Iterator<Item = Count> {
        let exits = Exit::NAMES.iter().zip(self.exits).map(|(name, n)| Count { of: Counted::Exit, name, n });
        let events = SENDERS.iter().zip(self.events).map(|(name, n)| Count { of: Counted::Event, name, n });
        exits.chain(events).filter(|count| count.n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_name() {
        let mut counts = Counts::default();
        assert_eq!(counts.list().count(), 0);
        counts.trap(&Trap::Syscall, true);
        counts.trap(&Trap::Syscall, false);
        counts.trap(&Trap::Preempted, false);
        counts.trap(&Trap::Interrupt { vector: 14, source: Source::Exception(None), return_rip: 0 }, false);
        counts.exception(14, false);
        counts.exception(14, true);
        counts.exception(13, true);
        counts.event(Binding::Virq(0));
        counts.event(Binding::BackEnd);
        counts.event(Binding::Free);
        let names: Vec<&str> = counts.list().map(|count| count.name).collect();
        let exits = ["hypercall", "system call passed on", "page fault passed on", "page table write"];
        assert_eq!(names[..4], exits);
        assert_eq!(names[4..], ["privileged instruction", "vCPU switch", "timer", "back end"]);
        assert!(counts.list().all(|count| count.n == 1));
    }
}
