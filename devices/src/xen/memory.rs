//! memory_op: what memory the guest has, and giving some of it back (Xen: xen/common/memory.c; public/memory.h).

use super::abi::{Answer, Errno, domid, hole, pte};
use super::build_pvh;
use super::domain::Domain;
use super::guest;
use super::hypercall::Call;
use tabvisor_core::mem::{PAGE_SHIFT, PAGE_SIZE};

/// Pages beyond its RAM that a guest may have.
const MAX_ALIASES: usize = 256;

/// What giving or taking a page costs ([`Types::work`](super::mmu::Types::work)).
const PAGE_WORK: u64 = 64;

/// A list of frames (`struct xen_memory_reservation`).
struct Reservation {
    list: u64,
    count: u64,
    order: u32,
}

impl Reservation {
    fn get(call: &mut Call<'_, '_>, at: u64) -> Result<Self, Errno> {
        /// Larger extents are nobody's in a domain without devices.
        const MAX_ORDER: u32 = 9;
        let (list, count, order, dom) = if call.narrow() {
            let a = guest::get::<20>(call.cpu, at)?;
            (a.u32(0).into(), a.u32(4).into(), a.u32(8), a.u16(16))
        } else {
            let a = guest::get::<32>(call.cpu, at)?;
            (a.u64(0), a.u64(8), a.u32(16), a.u16(24))
        };
        if !matches!(dom, domid::SELF | domid::GUEST) {
            return Err(if dom == domid::DOM0 { Errno::EPERM } else { Errno::ESRCH });
        }
        if order > MAX_ORDER {
            return Err(Errno::EPERM);
        }
        Ok(Self { list, count, order })
    }
}

impl Domain {
    /// Hypercall 12.
    pub(super) fn memory_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, ..] = call.args;
        // The upper bits are Xen's own mark of how far a call has come.
        let (op, start) = (cmd & 0x3f, cmd >> 6);
        match op {
            0 | 6 => {
                let list = Reservation::get(call, arg)?;
                self.extents(call, &list, start, |d, mfn| d.populate(mfn))
            }
            1 => {
                let list = Reservation::get(call, arg)?;
                self.extents(call, &list, start, |d, mfn| d.release(mfn))
            }
            2 => Ok(self.frames.all),
            3 | 4 => {
                self.own_domain(call, arg)?;
                Ok(if op == 3 { self.types.count() } else { self.frames.guest })
            }
            5 => Err(Errno::EFAULT),
            7 => self.add_to_physmap(call, arg),
            15 if self.hvm.is_some() => self.remove_from_physmap(call, arg),
            9 => self.memory_map(call, arg),
            10 => Err(Errno::EPERM),
            11 => self.exchange(call, arg),
            12 => {
                // machphys_mapping: first address, end, highest frame.
                let mut b = [0; 24];
                for (b, v) in b.chunks_exact_mut(8).zip([hole::M2P_SHOWN, hole::M2P_END, self.frames.all - 1]) {
                    b.copy_from_slice(&v.to_le_bytes());
                }
                guest::write(call.cpu, arg, &b)?;
                Ok(0)
            }
            14 => {
                self.own_domain(call, arg)?;
                Ok(self.frames.guest - 1)
            }
            24 => Err(Errno::EPERM),
            26 => Err(Errno::EOPNOTSUPP),
            28 => Err(Errno::EPERM),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn own_domain(&self, call: &mut Call<'_, '_>, arg: u64) -> Result<(), Errno> {
        let dom = guest::get::<2>(call.cpu, arg)?.u16(0);
        if matches!(dom, domid::SELF | domid::GUEST) { Ok(()) } else { Err(Errno::ESRCH) }
    }

    /// Does something to the frames of a list; how many extents that went well for.
    fn extents(
        &mut self,
        call: &mut Call<'_, '_>,
        list: &Reservation,
        start: u64,
        mut each: impl FnMut(&mut Self, u64) -> Result<(), Errno>,
    ) -> Answer {
        for n in start..list.count {
            let at = list.list.wrapping_add(n.wrapping_mul(call.word()));
            if n > start && self.has_done_its_share() {
                call.again = Some([call.args[0] & 0x3f | n << 6, call.args[1], 0, 0, 0, 0]);
                return Ok(n);
            }
            let Ok(first) = call.get_word(at) else {
                return if n == start { Err(Errno::EFAULT) } else { Ok(n) };
            };
            for k in 0..1 << list.order {
                self.types.work += PAGE_WORK;
                if each(self, first.wrapping_add(k)).is_err() {
                    return Ok(n);
                }
            }
            // Where frames are asked for, the list would get machine frames: the same numbers.
        }
        Ok(list.count)
    }

    fn release(&mut self, mfn: u64) -> Result<(), Errno> {
        self.types.release(mfn)?;
        self.frames.set_m2p(&self.ram, mfn, u64::MAX);
        Ok(())
    }
    fn populate(&mut self, mfn: u64) -> Result<(), Errno> {
        self.types.populate(mfn)?;
        self.ram.write(mfn << PAGE_SHIFT, &[0; 4096]);
        self.frames.set_m2p(&self.ram, mfn, mfn);
        Ok(())
    }

    /// Puts a page of the hypervisor at one of the guest's frame numbers. Within the guest's RAM the page moves there;
    /// what was there is gone.
    fn add_to_physmap(&mut self, call: &mut Call<'_, '_>, arg: u64) -> Answer {
        const SHARED_INFO: u32 = 0;
        const GRANT_TABLE: u32 = 1;
        let (dom, space, index, gpfn) = if call.narrow() {
            let a = guest::get::<16>(call.cpu, arg)?;
            (a.u16(0), a.u32(4), a.u32(8).into(), a.u32(12).into())
        } else {
            let a = guest::get::<24>(call.cpu, arg)?;
            (a.u16(0), a.u32(4), a.u64(8), a.u64(16))
        };
        if self.hvm.is_none() {
            return Err(Errno::EACCES);
        }
        if !matches!(dom, domid::SELF | domid::GUEST) {
            return Err(Errno::ESRCH);
        }
        if gpfn >= 1 << (tabvisor_core::cpu::paging::PHYS_BITS - PAGE_SHIFT) {
            return Err(Errno::EINVAL);
        }
        match space {
            SHARED_INFO => {
                let old = self.shared_info;
                let new = self.move_page(call, old, self.frames.shared_info, gpfn)?;
                for v in &mut self.vcpus {
                    if !v.info_registered && v.info >> PAGE_SHIFT == old {
                        v.info = new << PAGE_SHIFT | v.info & 0xfff;
                    }
                }
                self.shared_info = new;
            }
            GRANT_TABLE => {
                let n = usize::try_from(index).ok().filter(|n| *n < self.grants.places.len()).ok_or(Errno::EINVAL)?;
                self.grants.count = self.grants.count.max(n as u64 + 1);
                let own = self.frames.grants + n as u64;
                self.grants.places[n] = self.move_page(call, self.grants.places[n], own, gpfn)?;
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }

    /// Moves the page in frame `from` to where the guest sees it at `gpfn`; the frame it is in then.
    fn move_page(&mut self, call: &mut Call<'_, '_>, from: u64, own: u64, gpfn: u64) -> Result<u64, Errno> {
        let to = if gpfn < self.frames.guest { gpfn } else { own };
        if to != from {
            let mut page = [0; PAGE_SIZE as usize];
            self.ram.read(from << PAGE_SHIFT, &mut page);
            self.ram.write(to << PAGE_SHIFT, &page);
        }
        if to == own {
            // The hypervisor's own frames are nobody's but through this.
            if self.aliases.len() >= MAX_ALIASES {
                return Err(Errno::ENOSPC);
            }
            self.aliases.insert(gpfn);
            self.ram.set_alias(gpfn, Some(own));
        }
        call.cpu.tlb.flush_all();
        Ok(to)
    }

    fn remove_from_physmap(&mut self, call: &mut Call<'_, '_>, arg: u64) -> Answer {
        let dom = guest::get::<2>(call.cpu, arg)?.u16(0);
        if !matches!(dom, domid::SELF | domid::GUEST) {
            return Err(Errno::ESRCH);
        }
        let gpfn = call.get_word(arg.wrapping_add(call.word()))?;
        if !self.aliases.remove(&gpfn) {
            return Err(Errno::EINVAL);
        }
        self.ram.set_alias(gpfn, None);
        call.cpu.tlb.flush_all();
        Ok(0)
    }

    /// What is where for the guest, as E820 says it: first address, bytes, type.
    pub(super) fn memory_ranges(&self) -> Vec<[u64; 3]> {
        const RAM: u64 = 1;
        const RESERVED: u64 = 2;
        let mut ranges = vec![[0, self.frames.guest << PAGE_SHIFT, RAM]];
        if self.hvm.is_some() {
            let special = build_pvh::SPECIAL_PAGES;
            ranges.push([special.start << PAGE_SHIFT, (special.end - special.start) << PAGE_SHIFT, RESERVED]);
        }
        ranges
    }

    /// The E820 map, in entries of 20 bytes.
    fn memory_map(&mut self, call: &mut Call<'_, '_>, arg: u64) -> Answer {
        let room = guest::get::<4>(call.cpu, arg)?.u32(0);
        let list = call.get_word(arg.wrapping_add(call.word()))?;
        let ranges = self.memory_ranges();
        if (room as usize) < ranges.len() {
            return Err(Errno::EINVAL);
        }
        for (at, [first, bytes, kind]) in (list..).step_by(20).zip(&ranges) {
            let mut e = [0; 20];
            e[..8].copy_from_slice(&first.to_le_bytes());
            e[8..16].copy_from_slice(&bytes.to_le_bytes());
            e[16..].copy_from_slice(&(*kind as u32).to_le_bytes());
            guest::write(call.cpu, at, &e)?;
        }
        guest::put_u32(call.cpu, arg, ranges.len() as u32)?;
        Ok(0)
    }

    /// Other frames for the guest's: as any is as good as another here, it keeps those it has, if it has them.
    fn exchange(&mut self, call: &mut Call<'_, '_>, arg: u64) -> Answer {
        let a = guest::get::<72>(call.cpu, arg)?;
        let (given, wanted) = (Reservation::get(call, arg)?, Reservation::get(call, arg.wrapping_add(32))?);
        let size = |r: &Reservation| r.count.checked_shl(r.order).filter(|_| r.count < 1 << 40);
        if a.u64(64) > given.count || size(&given).is_none() || size(&given) != size(&wanted) {
            return Err(Errno::EINVAL);
        }
        let total = size(&given).unwrap_or(0);
        if total > self.frames.guest {
            return Err(Errno::ENOMEM);
        }
        let mut frames = Vec::new();
        for n in a.u64(64)..given.count {
            let first = guest::get::<8>(call.cpu, given.list.wrapping_add(8 * n))?.u64(0);
            for k in 0..1u64 << given.order {
                let mfn = first.wrapping_add(k);
                if !self.types.owned(mfn) {
                    return Err(Errno::EINVAL);
                }
                frames.push(mfn);
            }
        }
        // Larger extents have to be in a row.
        let run = 1usize << wanted.order;
        let in_a_row =
            |c: &[u64]| c.windows(2).all(|w| w[1] == w[0] + 1) && c.first().is_some_and(|f| f % run as u64 == 0);
        if !frames.chunks(run).all(in_a_row) {
            return Err(Errno::ENOMEM);
        }
        for (n, chunk) in (0..).zip(frames.chunks(run)) {
            guest::put_u64(call.cpu, wanted.list.wrapping_add(8 * n), chunk[0])?;
        }
        guest::put_u64(call.cpu, arg.wrapping_add(64), given.count)?;
        Ok(0)
    }
}

/// A present entry for a frame.
pub(super) fn entry(mfn: u64, flags: u64) -> u64 {
    mfn << PAGE_SHIFT | flags | pte::P
}
