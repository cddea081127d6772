//! grant_table_op, but for mapping and copying (`grant_map`, `grant_copy`): the table's frames, versions, swapping
//! entries, flushing caches (public/grant_table.h; Xen: xen/common/grant_table.c).

use super::abi::{Answer, Errno, domid};
use super::domain::Domain;
use super::frames::GRANT_FRAMES;
use super::grant::{Entry, flag, reserved, status};
use super::guest;
use super::hypercall::Call;
use super::physmap::Shared;
use tabvisor_core::mem::{PAGE_SHIFT, PAGE_SIZE};

/// One operation of a list, at its address.
type Operation = fn(&mut Domain, &mut Call<'_, '_>, u64) -> Result<(), Errno>;

impl Domain {
    /// Hypercall 20.
    pub(super) fn grant_table_op(&mut self, call: &mut Call<'_, '_>) -> Answer {
        let [cmd, arg, count, ..] = call.args;
        let count = count & 0xffff_ffff;
        let (size, f): (u64, Operation) = match cmd as u32 {
            0 => (32, Self::map_grant),
            1 => (24, Self::unmap_grant),
            7 => (24, Self::unmap_and_replace),
            2 => (24, Self::setup_table),
            5 => (40, Self::copy_grant),
            6 => (16, Self::query_size),
            8 => return self.set_version(call, arg),
            9 => (16, Self::status_frames),
            10 => return self.get_version(call, arg),
            11 => (12, Self::swap_grants),
            12 => (16, Self::flush_cache),
            // dump_table, transfer.
            _ => return Err(Errno::ENOSYS),
        };
        // What is about the table comes one at a time.
        if matches!(cmd, 2 | 6 | 9) && count != 1 {
            return Err(Errno::EINVAL);
        }
        for n in 0..count {
            let at = arg.wrapping_add(size * n);
            if n > 0 && self.has_done_its_share() {
                call.again = Some([cmd, at, count - n, 0, 0, 0]);
                break;
            }
            f(self, call, at)?;
        }
        Ok(0)
    }

    /// The table has at least so many frames from now on.
    pub(super) fn grow_grants(&mut self, frames: u64) {
        self.grants.count = self.grants.count.max(frames.min(GRANT_FRAMES));
        self.types.status_frames = self.grants.status_count();
    }

    fn setup_table(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let a = guest::get::<16>(call.cpu, at)?;
        let list = if call.narrow() { a.u32(12).into() } else { call.get_word(at.wrapping_add(16))? };
        let (dom, n) = (a.u16(0), u64::from(a.u32(4)));
        let result = if !is_own(dom) {
            bad_domain(dom)
        } else if n > GRANT_FRAMES {
            status::GENERAL_ERROR
        } else {
            self.grow_grants(n);
            for k in 0..n {
                let place = self.seen_at(Shared::Grants(k as usize));
                call.put_word(list.wrapping_add(call.word() * k), place)?;
            }
            status::OKAY
        };
        guest::put_u16(call.cpu, at.wrapping_add(8), result as u16)
    }

    /// `struct gnttab_get_status_frames`: how many, domain, status, list of 64-bit numbers.
    fn status_frames(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let a = guest::get::<16>(call.cpu, at)?;
        let (n, dom) = (u64::from(a.u32(0)), a.u16(4));
        let result = if !is_own(dom) {
            bad_domain(dom)
        } else if n > self.grants.status_count() {
            status::GENERAL_ERROR
        } else {
            for k in 0..n {
                let place = self.seen_at(Shared::Status(k as usize));
                guest::put_u64(call.cpu, a.u64(8).wrapping_add(8 * k), place)?;
            }
            status::OKAY
        };
        guest::put_u16(call.cpu, at.wrapping_add(6), result as u16)
    }

    fn query_size(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let dom = guest::get::<16>(call.cpu, at)?.u16(0);
        if !is_own(dom) {
            return guest::put_u16(call.cpu, at.wrapping_add(12), bad_domain(dom) as u16);
        }
        guest::put_u32(call.cpu, at.wrapping_add(4), self.grants.count as u32)?;
        guest::put_u32(call.cpu, at.wrapping_add(8), GRANT_FRAMES as u32)?;
        guest::put_u16(call.cpu, at.wrapping_add(12), status::OKAY as u16)
    }

    fn set_version(&mut self, call: &mut Call<'_, '_>, arg: u64) -> Answer {
        let wanted = guest::get::<4>(call.cpu, arg)?.u32(0);
        let answer = self.change_version(wanted);
        guest::put_u32(call.cpu, arg, self.grants.version)?;
        answer
    }

    /// The table becomes one of another version, with nothing in it but the toolstack's grants.
    pub(super) fn change_version(&mut self, wanted: u32) -> Answer {
        if !matches!(wanted, 1 | 2) {
            return Err(Errno::EINVAL);
        }
        if wanted == self.grants.version {
            return Ok(0);
        }
        if self.mappings.iter().flatten().any(|m| m.reference >= reserved::COUNT) {
            return Err(Errno::EBUSY);
        }
        let ram = self.ram.clone();
        let kept: Vec<_> = (0..reserved::COUNT)
            .filter_map(|n| Some((n, self.grants.read(&ram, n)?, self.grants.uses(&ram, n))))
            .filter(|(_, e, _)| e.flags & flag::TYPE == flag::PERMIT_ACCESS && e.frame >> 32 == 0)
            .collect();
        if wanted == 1 {
            // The guest must not keep what is not there any more.
            if self.types.status_uses.iter().any(|uses| *uses > 0) {
                return Err(Errno::EBUSY);
            }
            (0..self.grants.status_count() as usize).for_each(|n| self.hide(Shared::Status(n)));
        }
        self.grants.clear(&ram);
        self.grants.version = wanted;
        self.grants.clear(&ram);
        self.grow_grants(0);
        for (n, e, uses) in kept {
            let flags = e.flags & !(flag::READING | flag::WRITING);
            self.grants.write(&ram, n, &Entry { flags, ..e });
            self.grants.set_uses(&ram, n, uses);
        }
        self.types.work += 512 * self.grants.count;
        Ok(0)
    }

    fn get_version(&self, call: &mut Call<'_, '_>, arg: u64) -> Answer {
        if !is_own(guest::get::<8>(call.cpu, arg)?.u16(0)) {
            return Err(Errno::ESRCH);
        }
        guest::put_u32(call.cpu, arg.wrapping_add(4), self.grants.version)?;
        Ok(0)
    }

    /// `struct gnttab_swap_grant_ref`: two references, status.
    fn swap_grants(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let refs = guest::get::<8>(call.cpu, at)?;
        let [a, b] = [0, 4].map(|k| refs.u32(k));
        let used = |r: u32| self.mappings.iter().flatten().any(|m| m.reference == r);
        let result = if [a, b].iter().any(|&r| u64::from(r) >= self.grants.entries()) {
            status::BAD_GNTREF
        } else if a == b {
            status::OKAY
        } else if used(a) || used(b) {
            status::EAGAIN
        } else {
            self.grants.swap(&self.ram, a, b);
            status::OKAY
        };
        self.types.work += self.mappings.len() as u64 / 16;
        guest::put_u16(call.cpu, at.wrapping_add(8), result as u16)
    }

    /// `struct gnttab_cache_flush`: an address, where in its page and how much, what to do. There is no cache that anybody
    /// could see, so what remains is whose page it is.
    fn flush_cache(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        const CLEAN: u32 = 1;
        const INVALIDATE: u32 = 2;
        const BY_REFERENCE: u32 = 1 << 31;
        let a = guest::get::<16>(call.cpu, at)?;
        let (frame, offset, len, op) = (a.u64(0) >> PAGE_SHIFT, u64::from(a.u16(8)), u64::from(a.u16(10)), a.u32(12));
        if offset >= PAGE_SIZE || offset + len > PAGE_SIZE || op & !(CLEAN | INVALIDATE | BY_REFERENCE) != 0 {
            return Err(Errno::EINVAL);
        }
        match op {
            _ if len == 0 || op == 0 => Ok(()),
            _ if op & BY_REFERENCE != 0 => Err(Errno::EOPNOTSUPP),
            _ if frame >= self.frames.all => Err(Errno::EINVAL),
            _ if !self.types.owned(frame) => Err(Errno::EPERM),
            // x86 cannot drop a line without writing it back.
            INVALIDATE => Err(Errno::EOPNOTSUPP),
            _ => Ok(()),
        }
    }
}

/// Is it the caller's own number?
pub(super) fn is_own(dom: u16) -> bool {
    matches!(dom, domid::SELF | domid::GUEST)
}

/// The status for another domain's number.
pub(super) fn bad_domain(dom: u16) -> i16 {
    if dom == domid::DOM0 { status::PERMISSION_DENIED } else { status::BAD_DOMAIN }
}
