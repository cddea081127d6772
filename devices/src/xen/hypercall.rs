//! The hypercalls as one table: number, name, and which function does it. The same names label the counters that
//! people see.

use super::abi::{Answer, Errno, rax};
use super::domain::{Cx, Domain};
use super::guest;
use tabvisor_core::cpu::{Cpu, reg};

/// A hypercall on its way.
pub struct Call<'a, 'c> {
    /// The CPU, in the caller's address space.
    pub cpu: &'a mut Cpu,
    /// What is outside of the domain.
    pub cx: &'a mut Cx<'c>,
    /// The arguments.
    pub args: [u64; 6],
    /// It has done its share: with these arguments the rest of it is to be done.
    pub again: Option<[u64; 6]>,
}

impl Call<'_, '_> {
    /// Does 32-bit code call? Then longs and pointers in structures have 32 bits (Xen's compat layouts).
    pub fn narrow(&self) -> bool {
        !self.cpu.long
    }
    /// Bytes of a long or a pointer.
    pub fn word(&self) -> u64 {
        if self.narrow() { 4 } else { 8 }
    }
    /// Reads a long.
    ///
    /// # Errors
    /// EFAULT.
    pub fn get_word(&mut self, at: u64) -> Result<u64, Errno> {
        if self.narrow() {
            return Ok(guest::get::<4>(self.cpu, at)?.u32(0).into());
        }
        Ok(guest::get::<8>(self.cpu, at)?.u64(0))
    }
    /// Writes a long.
    ///
    /// # Errors
    /// EFAULT.
    pub fn put_word(&mut self, at: u64, v: u64) -> Result<(), Errno> {
        if self.narrow() { guest::put_u32(self.cpu, at, v as u32) } else { guest::put_u64(self.cpu, at, v) }
    }
}

/// What one hypercall may do before the guest has to make it again, in units of about an entry of a page table looked at.
///
/// A list of a guest's may be as long as it likes (four thousand million entries that all lie in one page), but nothing
/// may keep the CPU from its caller. As in Xen, a hypercall that has done its share sets the instruction pointer back to
/// the instruction that has made it, with arguments for the rest, so that the guest goes on by itself; in between there is
/// time for interrupts and for the end of the CPU's budget. A part of a multicall writes its new arguments into the list.
/// All of that depends on what the guest has asked for and nothing else.
pub(super) const SHARE: u64 = 1 << 15;
/// What each entry of a list costs at least.
const ENTRY: u64 = 8;

/// What does a hypercall.
pub(super) type Function = fn(&mut Domain, &mut Call<'_, '_>) -> Answer;

/// Numbers of hypercalls with a meaning of their own here.
pub mod number {
    /// `__HYPERVISOR_multicall`.
    pub const MULTICALL: usize = 13;
    /// `__HYPERVISOR_iret`.
    pub const IRET: usize = 23;
}

/// Registers with the arguments in 32-bit code.
const NARROW: [u8; 6] = [reg::RBX, reg::RCX, reg::RDX, reg::RSI, reg::RDI, reg::RBP];
/// What only a paravirtualized guest may ask for.
const PV_ONLY: [usize; 17] = [0, 1, 2, 3, 4, 5, 8, 9, 10, 14, 22, 23, 25, 26, 28, 30, 33];

/// How many numbers there are.
pub const COUNT: usize = 56;

/// Number, name, function. What is not here is ENOSYS.
const TABLE: &[(usize, &str, Function)] = &[
    (0, "set_trap_table", Domain::set_trap_table),
    (1, "mmu_update", Domain::mmu_update),
    (2, "set_gdt", Domain::set_gdt),
    (3, "stack_switch", Domain::stack_switch),
    (4, "set_callbacks", Domain::set_callbacks),
    (5, "fpu_taskswitch", Domain::fpu_taskswitch),
    (6, "sched_op_compat", Domain::sched_op_compat),
    (7, "platform_op", |_, _| Err(Errno::EPERM)),
    (8, "set_debugreg", Domain::set_debugreg),
    (9, "get_debugreg", Domain::get_debugreg),
    (10, "update_descriptor", Domain::update_descriptor),
    (12, "memory_op", Domain::memory_op),
    (number::MULTICALL, "multicall", Domain::multicall),
    (14, "update_va_mapping", Domain::update_va_mapping),
    (15, "set_timer_op", Domain::set_timer_op),
    (16, "event_channel_op_compat", Domain::event_channel_op_compat),
    (17, "xen_version", Domain::xen_version),
    (18, "console_io", Domain::console_io),
    (19, "physdev_op_compat", |_, _| Err(Errno::ENOSYS)),
    (20, "grant_table_op", Domain::grant_table_op),
    (21, "vm_assist", Domain::vm_assist),
    (22, "update_va_mapping_otherdomain", Domain::update_va_mapping_otherdomain),
    (number::IRET, "iret", |domain, call| domain.iret(call.cx, call.cpu)),
    (24, "vcpu_op", Domain::vcpu_op),
    (25, "set_segment_base", Domain::set_segment_base),
    (26, "mmuext_op", Domain::mmuext_op),
    (27, "xsm_op", |_, _| Err(Errno::ENOSYS)),
    (28, "nmi_op", Domain::nmi_op),
    (29, "sched_op", Domain::sched_op),
    (30, "callback_op", Domain::callback_op),
    (31, "xenoprof_op", |_, _| Err(Errno::ENOSYS)),
    (32, "event_channel_op", Domain::event_channel_op),
    (33, "physdev_op", Domain::physdev_op),
    (35, "sysctl", |_, _| Err(Errno::EPERM)),
    (36, "domctl", |_, _| Err(Errno::EPERM)),
    (34, "hvm_op", Domain::hvm_op),
    (40, "xenpmu_op", |_, _| Err(Errno::EOPNOTSUPP)),
];

/// The name of a hypercall.
pub fn name(number: usize) -> &'static str {
    TABLE.iter().find(|t| t.0 == number).map_or("unknown", |t| t.1)
}

/// The table by number.
pub(super) fn by_number() -> [Option<Function>; COUNT] {
    let mut all = [None; COUNT];
    for &(n, _, f) in TABLE {
        all[n] = Some(f);
    }
    all
}

impl Domain {
    /// The hypercall that the registers ask for.
    pub(super) fn hypercall(&mut self, cx: &mut Cx<'_>, cpu: &mut Cpu) {
        let number = cpu.regs[reg::RAX as usize] as u32 as usize;
        // 64-bit code has the order of system calls, 32-bit code another one.
        let order = if cpu.long { [reg::RDI, reg::RSI, reg::RDX, 10, reg::R8, 9] } else { NARROW };
        let args =
            order.map(|r| if cpu.long { cpu.regs[usize::from(r)] } else { cpu.regs[usize::from(r)] & 0xffff_ffff });
        let (answer, again) = self.dispatch(cx, cpu, number, args);
        let Some(args) = again else {
            cpu.regs[reg::RAX as usize] = rax(answer);
            return;
        };
        // RAX still has the number. SYSCALL is 0F 05, VMCALL and VMMCALL are 0F 01 and another byte.
        for (r, v) in order.into_iter().zip(args) {
            cpu.regs[usize::from(r)] = v;
        }
        let length = if self.hvm.is_some() { 3 } else { 2 };
        cpu.rip = cpu.rip_mask(cpu.rip.wrapping_sub(length));
    }

    /// Has the hypercall that is being made done its share? Asked for before each entry of a list but the first.
    pub(super) fn has_done_its_share(&mut self) -> bool {
        self.types.work += ENTRY;
        self.types.work > SHARE
    }

    fn dispatch(
        &mut self,
        cx: &mut Cx<'_>,
        cpu: &mut Cpu,
        number: usize,
        args: [u64; 6],
    ) -> (Answer, Option<[u64; 6]>) {
        let slot = number.min(COUNT);
        self.counters.hypercalls[slot] += 1;
        if self.hvm.is_some() && PV_ONLY.contains(&number) {
            return (Err(Errno::ENOSYS), None);
        }
        let Some(f) = self.functions.get(number).copied().flatten() else { return (Err(Errno::ENOSYS), None) };
        if !self.types.take_dying(&self.ram, SHARE) {
            // What calls before have left behind is gone before another one looks at it.
            return (Ok(0), Some(args));
        }
        let mut call = Call { cpu, cx, args, again: None };
        let answer = f(self, &mut call);
        (answer, call.again.filter(|_| answer.is_ok()))
    }

    /// Hypercall 13: several at once.
    fn multicall(&mut self, call: &mut Call<'_, '_>) -> Answer {
        if self.in_multicall {
            return Err(Errno::EINVAL);
        }
        self.in_multicall = true;
        let answer = self.several(call);
        self.in_multicall = false;
        self.crossing = false;
        answer
    }

    fn several(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [list, n, ..] = call.args;
        let n = n & 0xffff_ffff;
        for k in 0..n {
            let at = list.wrapping_add(64 * k);
            if k > 0 && self.has_done_its_share() {
                call.again = Some([at, n - k, 0, 0, 0, 0]);
                break;
            }
            let entry = guest::get::<64>(call.cpu, at)?;
            let args = core::array::from_fn(|k| entry.u64(16 + 8 * k));
            let number = entry.u64(0).min(COUNT as u64);
            let (answer, again) = self.dispatch(call.cx, call.cpu, number as usize, args);
            if let Some(args) = again {
                guest::put_words(call.cpu, at.wrapping_add(16), &args)?;
                call.again = Some([at, n - k, 0, 0, 0, 0]);
                break;
            }
            if number == number::IRET as u64 {
                // What comes behind it belongs to a frame that is left.
                return answer;
            }
            guest::put_u64(call.cpu, at.wrapping_add(8), rax(answer))?;
            if call.cx.stop.is_some() {
                break;
            }
        }
        Ok(0)
    }
}
