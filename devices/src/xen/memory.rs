//! memory_op: what memory the guest has, and giving some of it back (Xen: xen/common/memory.c; public/memory.h).

use super::abi::{Answer, Errno, domid, hole, pte};
use super::build_pvh;
use super::domain::Domain;
use super::guest;
use super::hypercall::Call;
use tabvisor_core::mem::{PAGE_SHIFT, PAGE_SIZE};

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

/// Does something for an extent of `1 << order` frames, which the list names at an address.
type Extent = fn(&mut Domain, &mut Call<'_, '_>, Option<u64>, u32) -> Result<(), Errno>;

impl Domain {
    /// Hypercall 12.
    pub(super) fn memory_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, ..] = call.args;
        // The upper bits are Xen's own mark of how far a call has come.
        let (op, start) = (cmd & 0x3f, cmd >> 6);
        match op {
            0 | 1 | 6 => {
                let list = Reservation::get(call, arg)?;
                let each = [Self::increase, Self::decrease, Self::populate][op.min(2) as usize];
                self.extents(call, &list, start, each)
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
                guest::put_words(call.cpu, arg, &[hole::M2P_SHOWN, hole::M2P_END, self.frames.all - 1])?;
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

    /// Does something for each extent of a list; how many that went well for. An extent is dealt with as a whole or not.
    fn extents(&mut self, call: &mut Call<'_, '_>, list: &Reservation, start: u64, each: Extent) -> Answer {
        for n in start..list.count {
            let at = list.list.wrapping_add(n.wrapping_mul(call.word()));
            if n > start && self.has_done_its_share() {
                call.again = Some([call.args[0] & 0x3f | n << 6, call.args[1], 0, 0, 0, 0]);
                return Ok(n);
            }
            self.types.work += PAGE_WORK << list.order;
            if each(self, call, if list.list == 0 { None } else { Some(at) }, list.order).is_err() {
                return Ok(n);
            }
        }
        Ok(list.count)
    }

    /// Any frames, whose numbers the guest is told. It says itself where it has them.
    fn increase(&mut self, call: &mut Call<'_, '_>, at: Option<u64>, order: u32) -> Result<(), Errno> {
        if self.hvm.is_some() {
            // A frame without a place in its memory would be of no use.
            return Err(Errno::ENOMEM);
        }
        let first = self.types.find_absent(u64::MAX, order).ok_or(Errno::ENOMEM)?;
        if let Some(at) = at {
            call.put_word(at, first)?;
        }
        (first..first + (1 << order)).try_for_each(|mfn| self.give(mfn, u64::MAX))
    }

    /// Frames for places in the guest's memory that have none.
    fn populate(&mut self, call: &mut Call<'_, '_>, at: Option<u64>, order: u32) -> Result<(), Errno> {
        let at = at.ok_or(Errno::EFAULT)?;
        let pfn = call.get_word(at)?;
        if self.hvm.is_some() {
            let all = pfn..pfn.checked_add(1 << order).ok_or(Errno::EINVAL)?;
            if !all.clone().all(|gfn| self.types.is_absent(gfn)) {
                return Err(Errno::EINVAL);
            }
            return all.into_iter().try_for_each(|gfn| {
                self.take_back(gfn);
                self.give(gfn, gfn)
            });
        }
        let first = self.types.find_absent(pfn, order).ok_or(Errno::ENOMEM)?;
        call.put_word(at, first)?;
        (0..1 << order).try_for_each(|k| self.give(first + k, pfn.wrapping_add(k)))
    }

    /// A frame becomes the guest's, with zeros.
    fn give(&mut self, mfn: u64, pfn: u64) -> Result<(), Errno> {
        self.types.populate(mfn)?;
        self.ram.write(mfn << PAGE_SHIFT, &[0; PAGE_SIZE as usize]);
        self.frames.set_m2p(&self.ram, mfn, pfn);
        Ok(())
    }

    fn decrease(&mut self, call: &mut Call<'_, '_>, at: Option<u64>, order: u32) -> Result<(), Errno> {
        let first = call.get_word(at.ok_or(Errno::EFAULT)?)?;
        let all = first..first.checked_add(1 << order).ok_or(Errno::EINVAL)?;
        all.clone().try_for_each(|mfn| self.types.can_release(&self.ram, mfn))?;
        for mfn in all {
            self.types.release(&self.ram, mfn)?;
            self.frames.set_m2p(&self.ram, mfn, u64::MAX);
        }
        Ok(())
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
        for (n, [first, bytes, kind]) in (0..).zip(&ranges) {
            let mut e = [0; 20];
            e[..8].copy_from_slice(&first.to_le_bytes());
            e[8..16].copy_from_slice(&bytes.to_le_bytes());
            e[16..].copy_from_slice(&(*kind as u32).to_le_bytes());
            guest::write(call.cpu, list.wrapping_add(20 * n), &e)?;
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
        if size(&given).is_none_or(|n| n > self.frames.guest) {
            return Err(Errno::ENOMEM);
        }
        // As many as make up an extent of either side are exchanged at once.
        let at_once = 1u64 << wanted.order.saturating_sub(given.order);
        let mut done = a.u64(64);
        while done < given.count {
            if done > a.u64(64) && self.has_done_its_share() {
                call.again = Some(call.args);
                break;
            }
            self.exchange_some(call, &given, &wanted, done, at_once.min(given.count - done))?;
            done += at_once.min(given.count - done);
            // As far as that the call has come, whatever happens to the rest.
            guest::put_u64(call.cpu, arg.wrapping_add(64), done)?;
        }
        Ok(0)
    }

    fn exchange_some(
        &mut self,
        call: &mut Call<'_, '_>,
        given: &Reservation,
        wanted: &Reservation,
        done: u64,
        count: u64,
    ) -> Result<(), Errno> {
        let mut frames = Vec::new();
        for n in done..done + count {
            let first = guest::get::<8>(call.cpu, given.list.wrapping_add(8 * n))?.u64(0);
            frames.extend((0..1u64 << given.order).map(|k| first.wrapping_add(k)));
        }
        self.types.work += frames.len() as u64;
        if !frames.iter().all(|&mfn| self.types.owned(mfn)) {
            return Err(Errno::EINVAL);
        }
        // Larger extents have to be in a row.
        let run = 1usize << wanted.order;
        let in_a_row =
            |c: &[u64]| c.windows(2).all(|w| w[1] == w[0] + 1) && c.first().is_some_and(|f| f % run as u64 == 0);
        if !frames.chunks(run).all(in_a_row) {
            return Err(Errno::ENOMEM);
        }
        let place = (done << given.order) >> wanted.order;
        for (n, chunk) in (place..).zip(frames.chunks(run)) {
            guest::put_u64(call.cpu, wanted.list.wrapping_add(8 * n), chunk[0])?;
        }
        Ok(())
    }
}

/// A present entry for a frame.
pub(super) fn entry(mfn: u64, flags: u64) -> u64 {
    mfn << PAGE_SHIFT | flags | pte::P
}
