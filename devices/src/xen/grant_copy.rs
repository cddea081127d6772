//! GNTTABOP_copy: bytes from one page to another, each a frame of the caller's or one that it was granted
//! (public/grant_table.h; Xen: gnttab_copy_one in xen/common/grant_table.c).

use super::abi::{Errno, domid};
use super::domain::Domain;
use super::grant::{flag, status};
use super::grant_ops::is_own;
use super::guest::{self, Struct};
use super::hypercall::Call;
use super::mmu::Kind;
use tabvisor_core::mem::{PAGE_SHIFT, PAGE_SIZE};

/// Bytes of `struct gnttab_copy`.
const LEN: usize = 40;
/// What copying a page costs.
const COPY_WORK: u64 = 32;

/// One side of a copy.
struct Side {
    frame: u64,
    /// Bytes of the frame that may be touched.
    may: core::ops::Range<u64>,
    /// Where in it the copy begins.
    offset: u64,
}

impl Domain {
    pub(super) fn copy_grant(&mut self, call: &mut Call<'_, '_>, at: u64) -> Result<(), Errno> {
        let a = guest::get::<LEN>(call.cpu, at)?;
        let result = self.copy(&a).err().unwrap_or(status::OKAY);
        guest::put_u16(call.cpu, at.wrapping_add(36), result as u16)
    }

    fn copy(&mut self, a: &Struct<LEN>) -> Result<(), i16> {
        const SOURCE_IS_REFERENCE: u16 = 1;
        const TARGET_IS_REFERENCE: u16 = 2;
        let (len, flags) = (u64::from(a.u16(32)), a.u16(34));
        // Both domains come first.
        let by = [SOURCE_IS_REFERENCE, TARGET_IS_REFERENCE].map(|bit| flags & bit != 0);
        for (reference, dom) in by.into_iter().zip([a.u16(8), a.u16(24)]) {
            match dom {
                domid::SELF => {}
                _ if !reference => return Err(status::PERMISSION_DENIED),
                domid::GUEST | domid::DOM0 => {}
                _ => return Err(status::BAD_DOMAIN),
            }
        }
        let from = self.side(by[0], a.u64(0), a.u16(8), a.u16(10), false)?;
        let to = self.side(by[1], a.u64(16), a.u16(24), a.u16(26), true)?;
        if [&from, &to].iter().any(|side| side.offset + len > PAGE_SIZE) {
            return Err(status::BAD_COPY_ARG);
        }
        if [&from, &to].iter().any(|side| side.offset < side.may.start || side.offset + len > side.may.end) {
            return Err(status::GENERAL_ERROR);
        }
        self.types.get(&self.ram, to.frame, Kind::Writable).map_err(|_| status::GENERAL_ERROR)?;
        let mut bytes = vec![0; len as usize];
        self.ram.read((from.frame << PAGE_SHIFT) + from.offset, &mut bytes);
        self.ram.write((to.frame << PAGE_SHIFT) + to.offset, &bytes);
        self.types.put(to.frame);
        self.types.work += COPY_WORK;
        Ok(())
    }

    /// What a side of a copy names: a frame of the caller's, or a grant.
    fn side(&self, reference: bool, n: u64, dom: u16, offset: u16, write: bool) -> Result<Side, i16> {
        let offset = offset.into();
        if !reference {
            return if self.types.owned(n) {
                Ok(Side { frame: n, may: 0..PAGE_SIZE, offset })
            } else {
                Err(status::BAD_PAGE)
            };
        }
        if dom == domid::DOM0 {
            // Domain 0 has granted nothing.
            return Err(status::GENERAL_ERROR);
        }
        let entry = self.grants.read(&self.ram, n as u32).ok_or(status::BAD_GNTREF)?;
        // A transitive one leads to another domain's grants, and there are none.
        let ok = entry.flags & flag::TYPE == flag::PERMIT_ACCESS && is_own(entry.domid);
        if !ok || write && entry.flags & flag::READONLY != 0 {
            return Err(status::GENERAL_ERROR);
        }
        if !self.types.owned(entry.frame) {
            return Err(status::BAD_PAGE);
        }
        let start = u64::from(entry.part.0);
        Ok(Side { frame: entry.frame, may: start..start + u64::from(entry.part.1), offset })
    }
}
