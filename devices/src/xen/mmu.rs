//! Hypercalls about page tables: mmu_update, update_va_mapping, mmuext_op (xen.h).

use super::abi::{Answer, Errno, domid, hole, pte};
use super::domain::Domain;
use super::frames::{Frames, PER_PAGE};
use super::guest;
use super::hypercall::{Call, SHARE};
pub use super::mmu_types::{Kind, Types};
use tabvisor_core::cpu::Cpu;
use tabvisor_core::cpu::memory::canonical;
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE};

/// In the count of a list: it goes on where it was (`MMU_UPDATE_PREEMPTED`).
const PREEMPTED: u64 = 1 << 31;

/// What dropping all translations costs ([`Types::work`]).
const FLUSH: u64 = 128;

/// What an update that preserves them leaves as they are.
const AD: u64 = pte::A | pte::D;

/// The address of the L1 entry of `va` in the tables at `l4`.
fn entry_of(ram: &GuestRam, l4: u64, va: u64) -> Option<u64> {
    let mut table = l4 << PAGE_SHIFT;
    for level in (2..=4).rev() {
        let at = table + (va >> (12 + 9 * (level - 1)) & 0x1ff) * 8;
        let entry = u64::from_le_bytes(ram.read_le(at));
        if entry & pte::P == 0 || entry & pte::PSE != 0 {
            return None;
        }
        table = entry & pte::ADDR;
    }
    Some(table + (va >> 12 & 0x1ff) * 8)
}

impl Domain {
    /// Do two L4s map the same in the upper half? Xen's slots are the same in all.
    fn have_same_upper_half(&self, a: u64, b: u64) -> bool {
        let first = hole::SLOTS.end as u64;
        let at = |l4: u64| (l4 << PAGE_SHIFT) + 8 * first;
        self.ram.same_words(at(a), at(b), PER_PAGE - first, AD)
    }

    /// The address of the L1 entry that maps `va` for the running kernel.
    pub(super) fn entry_of(&self, cpu: &Cpu, va: u64) -> Option<u64> {
        canonical(va).then(|| entry_of(&self.ram, cpu.cr3 >> PAGE_SHIFT, va)).flatten()
    }

    /// Drops translations that nobody may have any more.
    pub(super) fn protect(&mut self, cpu: &mut Cpu) {
        for mfn in self.types.take_protected() {
            cpu.protect_frame(mfn);
        }
    }

    /// Writes an entry of a table the guest has, with all checks, and drops what was cached of an upper level.
    pub(super) fn write_entry(&mut self, cpu: &mut Cpu, at: u64, new: u64, preserve: bool) -> Result<(), Errno> {
        let mfn = at >> PAGE_SHIFT;
        self.types.take_apart(&self.ram, mfn);
        let kind = self.types.kind(mfn);
        match kind {
            Kind::L1 | Kind::L2 | Kind::L3 | Kind::L4 => {
                let keep = if preserve { AD } else { 0 };
                let old = self.types.change(&self.ram, at, new, keep);
                self.protect(cpu);
                let old = old?;
                if old & pte::P != 0 && old != new {
                    self.types.work += if kind == Kind::L1 { 0 } else { FLUSH };
                    cpu.entry_changed(at, kind.level(), old, new);
                }
            }
            Kind::None | Kind::Writable if self.types.owned(mfn) => {
                self.types.get(&self.ram, mfn, Kind::Writable)?;
                self.ram.write(at, &new.to_le_bytes());
                self.types.put(mfn);
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// Hypercall 1: a list of entries to write.
    pub(super) fn mmu_update(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let dom = call.args[3];
        self.check_foreign(dom)?;
        self.updates(call, 16, |d, cpu, at| {
            let u = guest::get::<16>(cpu, at)?;
            d.update(cpu, u.u64(0), u.u64(8))
        })
    }

    /// Does something for each of a list's entries, and says how many that went well for. `each` is asked again for the
    /// same entry if it was not done with it.
    fn updates(
        &mut self,
        call: &mut Call<'_, '_>,
        size: u64,
        mut each: impl FnMut(&mut Self, &mut Cpu, u64) -> Result<bool, Errno>,
    ) -> Answer {
        let [list, count, done, dom, ..] = call.args;
        let before = if count & PREEMPTED != 0 && done != 0 { guest::get::<4>(call.cpu, done)?.u32(0) } else { 0 };
        let count = count & (PREEMPTED - 1);
        let (mut n, mut answer) = (0, Ok(0));
        loop {
            let at = list.wrapping_add(size * n);
            let over = n == count;
            // In the end there may still be tables to take apart.
            if over && self.types.take_dying(&self.ram, SHARE) {
                break;
            }
            let again = over || n > 0 && self.has_done_its_share();
            match if again { Ok(false) } else { each(self, call.cpu, at) } {
                Ok(true) => n += 1,
                Ok(false) => {
                    call.again = Some([at, (count - n) | PREEMPTED, done, dom, 0, 0]);
                    break;
                }
                Err(e) => {
                    answer = Err(e);
                    break;
                }
            }
        }
        if done != 0 {
            guest::put_u32(call.cpu, done, before.wrapping_add(n as u32))?;
        }
        answer
    }

    fn update(&mut self, cpu: &mut Cpu, ptr: u64, val: u64) -> Result<bool, Errno> {
        let at = ptr & !7;
        match ptr & 7 {
            kind @ (0 | 2 | 3) => {
                let level = self.types.kind(at >> PAGE_SHIFT).level();
                let table = (val & pte::ADDR) >> PAGE_SHIFT;
                // An entry that leads to a table of its own level is none that makes it one.
                let linear = val & pte::RW == 0 && self.types.kind(table).level() == level;
                if level > 1 && val & pte::P != 0 && !linear && !self.prepare(table, Kind::of_level(level - 1)) {
                    return Ok(false);
                }
                let r = self.write_entry(cpu, at, val, kind == 2);
                self.types.let_go_held();
                r?;
            }
            1 => {
                let mfn = ptr >> PAGE_SHIFT;
                if !self.types.owned(mfn) {
                    return Err(Errno::EINVAL);
                }
                self.frames.set_m2p(&self.ram, mfn, val);
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(true)
    }

    /// Can a frame be used as a table, or be refused, without much ado? `false`: the same is to be asked again.
    pub(super) fn prepare(&mut self, mfn: u64, kind: Kind) -> bool {
        self.types.prepare(&self.ram, mfn, kind, SHARE)
    }

    /// Only its own page tables are a guest's business.
    fn check_foreign(&self, dom: u64) -> Result<(), Errno> {
        let (owner, tables) = (dom as u16, (dom >> 16) as u16);
        let own = |d: u16| matches!(d, domid::SELF | domid::GUEST);
        if !own(owner) {
            return Err(if owner == domid::DOM0 { Errno::EPERM } else { Errno::ESRCH });
        }
        if tables != 0 && !own(tables - 1) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Hypercall 14: the entry that maps an address.
    pub(super) fn update_va_mapping(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [va, val, flags, ..] = call.args;
        let at = self.entry_of(call.cpu, va).ok_or(Errno::EINVAL)?;
        if self.types.kind(at >> PAGE_SHIFT) != Kind::L1 {
            return Err(Errno::EINVAL);
        }
        self.write_entry(call.cpu, at, val, false)?;
        match flags & 3 {
            1 => call.cpu.flush_guest(),
            2 => call.cpu.tlb.flush_page(va),
            _ => {}
        }
        Ok(0)
    }

    /// Hypercall 22.
    pub(super) fn update_va_mapping_otherdomain(&mut self, call: &mut Call<'_, '_>) -> Answer {
        self.check_foreign(call.args[3] & 0xffff)?;
        self.update_va_mapping(call)
    }

    /// Hypercall 26: a list of operations.
    pub(super) fn mmuext_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let dom = call.args[3];
        self.check_foreign(dom & 0xffff)?;
        self.updates(call, 24, |d, cpu, at| {
            let o = guest::get::<24>(cpu, at)?;
            d.extended(cpu, o.u32(0), o.u64(8), o.u64(16))
        })
    }

    fn extended(&mut self, cpu: &mut Cpu, cmd: u32, arg1: u64, arg2: u64) -> Result<bool, Errno> {
        let kind = match cmd {
            // PIN_L1_TABLE to PIN_L4_TABLE.
            0..=3 => Kind::of_level(cmd as u8 + 1),
            5 | 15 => Kind::L4,
            _ => Kind::None,
        };
        if kind.level() > 0 && !self.prepare(arg1, kind) {
            return Ok(false);
        }
        let r = self.extended_now(cpu, cmd, arg1, arg2);
        self.types.let_go_held();
        r.map(|()| true)
    }

    fn extended_now(&mut self, cpu: &mut Cpu, cmd: u32, arg1: u64, arg2: u64) -> Result<(), Errno> {
        match cmd {
            0..=3 => {
                let r = self.types.pin(&self.ram, arg1, Kind::of_level(cmd as u8 + 1));
                self.protect(cpu);
                r
            }
            4 => self.types.unpin(arg1),
            5 => self.new_base(cpu, arg1),
            // TLB_FLUSH_LOCAL, _MULTI, _ALL: with one processor there is no other TLB.
            6 | 8 | 10 => {
                self.types.work += FLUSH;
                cpu.flush_guest();
                Ok(())
            }
            // INVLPG_LOCAL, _MULTI, _ALL.
            7 | 9 | 11 => {
                if canonical(arg1) {
                    cpu.tlb.flush_page(arg1);
                }
                Ok(())
            }
            // FLUSH_CACHE: only for who has devices.
            12 | 18 => Err(Errno::EACCES),
            13 => self.set_ldt(cpu, arg1, arg2),
            15 => self.new_user_base(cpu, arg1),
            16 => self.with_writable(arg1, |ram| ram.write(arg1 << PAGE_SHIFT, &[0; PAGE_SIZE as usize])),
            17 => {
                if !self.types.owned(arg2) {
                    return Err(Errno::EINVAL);
                }
                self.with_writable(arg1, |ram| {
                    let mut page = [0; PAGE_SIZE as usize];
                    ram.read(arg2 << PAGE_SHIFT, &mut page);
                    ram.write(arg1 << PAGE_SHIFT, &page);
                })
            }
            // MARK_SUPER, UNMARK_SUPER.
            19 | 20 => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// Lets `f` write to a frame, if the guest might do so itself.
    fn with_writable(&mut self, mfn: u64, f: impl FnOnce(&GuestRam)) -> Result<(), Errno> {
        self.types.get(&self.ram, mfn, Kind::Writable).map_err(|_| Errno::EINVAL)?;
        self.types.work += PER_PAGE;
        f(&self.ram);
        self.types.put(mfn);
        Ok(())
    }

    /// A new L4 for the kernel.
    pub(super) fn new_base(&mut self, cpu: &mut Cpu, mfn: u64) -> Result<(), Errno> {
        self.types.get(&self.ram, mfn, Kind::L4).map_err(|_| Errno::EINVAL)?;
        self.protect(cpu);
        let old = core::mem::replace(&mut self.vcpu_mut().pv.guest_table, mfn);
        let same = old == mfn || self.have_same_upper_half(old, mfn);
        self.types.put(old);
        self.drop_ldt(cpu);
        if cpu.guest_kernel {
            cpu.cr3 = mfn << PAGE_SHIFT;
        }
        cpu.flush_guest_kernel(same);
        Ok(())
    }

    /// A new L4 for the kernel's users; 0: none.
    fn new_user_base(&mut self, cpu: &mut Cpu, mfn: u64) -> Result<(), Errno> {
        if mfn != 0 {
            self.types.get(&self.ram, mfn, Kind::L4).map_err(|_| Errno::EINVAL)?;
            self.protect(cpu);
        }
        let old = core::mem::replace(&mut self.vcpu_mut().pv.user_table, mfn);
        if old != 0 {
            self.types.put(old);
        }
        cpu.flush_guest_users();
        Ok(())
    }
}

impl Domain {
    /// Hypercall 2: frames with the GDT.
    pub(super) fn set_gdt(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [list, entries, ..] = call.args;
        const MOST: u64 = 7168;
        if entries > MOST {
            return Err(Errno::EINVAL);
        }
        let n = entries.div_ceil(512) as usize;
        let mut frames = Vec::new();
        for k in 0..n {
            frames.push(guest::get::<8>(call.cpu, list.wrapping_add(8 * k as u64))?.u64(0));
        }
        self.install_gdt(call.cpu, self.current, frames)?;
        Ok(0)
    }

    /// Gives a vCPU a GDT.
    pub(super) fn install_gdt(&mut self, cpu: &mut Cpu, vcpu: usize, frames: Vec<u64>) -> Result<(), Errno> {
        for (k, &mfn) in frames.iter().enumerate() {
            if self.types.get(&self.ram, mfn, Kind::Descriptors).is_err() {
                frames[..k].iter().for_each(|&mfn| self.types.put(mfn));
                return Err(Errno::EINVAL);
            }
        }
        self.protect(cpu);
        for page in 0..14 {
            let mfn = frames.get(page as usize).copied();
            self.frames.map_gdt(&self.ram, vcpu as u64, page, mfn);
            cpu.tlb.flush_page(Frames::table_address(vcpu as u64, page));
        }
        let Some(v) = self.vcpus.get_mut(vcpu) else { return Err(Errno::EINVAL) };
        v.pv.returned_to = None;
        let old = core::mem::replace(&mut v.pv.gdt_frames, frames);
        old.iter().for_each(|&mfn| self.types.put(mfn));
        Ok(())
    }

    /// Hypercall 10: one descriptor, by machine address.
    pub(super) fn update_descriptor(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [at, new, ..] = call.args;
        let new = Types::descriptor(new).filter(|_| at % 8 == 0).ok_or(Errno::EINVAL)?;
        let mfn = at >> PAGE_SHIFT;
        let kind = if self.types.kind(mfn) == Kind::Descriptors { Kind::Descriptors } else { Kind::Writable };
        self.types.get(&self.ram, mfn, kind).map_err(|_| Errno::EINVAL)?;
        self.ram.write(at, &new.to_le_bytes());
        self.types.put(mfn);
        self.vcpus.iter_mut().for_each(|v| v.pv.returned_to = None);
        Ok(0)
    }

    /// An LDT at a linear address. Its pages are looked at when they are used.
    fn set_ldt(&mut self, cpu: &mut Cpu, base: u64, entries: u64) -> Result<(), Errno> {
        if entries > 8192
            || entries > 0 && (!base.is_multiple_of(PAGE_SIZE) || !canonical(base) || hole::contains(base))
        {
            return Err(Errno::EINVAL);
        }
        self.drop_ldt(cpu);
        let pv = &mut self.vcpu_mut().pv;
        (pv.ldt_base, pv.ldt_entries) = (base, entries as u32);
        let vcpu = self.current as u64;
        cpu.set_guest_ldt(Frames::table_address(vcpu, 16), entries as u32 * 8);
        Ok(())
    }

    /// Forgets which frames the LDT's pages were.
    fn drop_ldt(&mut self, cpu: &mut Cpu) {
        let vcpu = self.current as u64;
        let mapped = core::mem::take(&mut self.vcpu_mut().pv.ldt_mapped);
        for page in (0..16).filter(|p| mapped >> p & 1 != 0) {
            let at = Frames::table_address(vcpu, 16 + page);
            if let Some(entry) = self.entry_of(cpu, at) {
                let mfn = (self.types.read(&self.ram, entry) & pte::ADDR) >> PAGE_SHIFT;
                self.types.put(mfn);
            }
            self.frames.map_table(&self.ram, vcpu, 16 + page, None);
            cpu.tlb.flush_page(at);
        }
    }

    /// #PF at the hypervisor's alias of the LDT: brings in the page of the guest's LDT.
    pub(super) fn ldt_fault(&mut self, cpu: &mut Cpu, at: u64) -> bool {
        let vcpu = self.current as u64;
        let first = Frames::table_address(vcpu, 16);
        let pv = &self.vcpu().pv;
        let off = at.wrapping_sub(first);
        let (page, base) = (off >> PAGE_SHIFT, pv.ldt_base);
        // If it is there already, it is the guest who looks.
        if off >= u64::from(pv.ldt_entries) * 8 || pv.ldt_mapped >> page & 1 != 0 {
            return false;
        }
        let va = base.wrapping_add(page << PAGE_SHIFT);
        let Some(entry) = entry_of(&self.ram, pv.guest_table, va).filter(|_| canonical(va)) else { return false };
        let entry = self.types.read(&self.ram, entry);
        let mfn = (entry & pte::ADDR) >> PAGE_SHIFT;
        if entry & pte::P == 0 || self.types.get(&self.ram, mfn, Kind::Descriptors).is_err() {
            return false;
        }
        self.protect(cpu);
        self.frames.map_table(&self.ram, vcpu, 16 + page, Some(mfn));
        cpu.tlb.flush_page(at);
        self.vcpu_mut().pv.ldt_mapped |= 1 << page;
        true
    }
}
