//! Page types: the discipline that keeps a PV guest's page tables what the hypervisor has checked (Xen: xen/arch/x86/mm.c).
//!
//! A frame is writable, or a page table of one level, or a page of descriptors, but never two of these while anybody uses
//! it as one. A present entry of a table is a use of what it leads to: of a frame as writable, or as a table of the next
//! level. The first such use of a frame looks at all entries of it, the last one gives all of them up again. Every
//! refusal of a hypercall about memory follows from this.
//!
//! None of that takes longer than one table does: what a whole tree of tables asks for is done in parts (`mmu_large`).

use super::abi::{Errno, hole, pte};
use super::frames::{Frames, PER_PAGE, STATUS_FRAMES};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT};

/// What a frame is used as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[repr(u8)]
pub enum Kind {
    /// Nothing in particular.
    #[default]
    None,
    /// Some entry maps it for writing.
    Writable,
    /// Page tables, by level.
    L1,
    /// See there.
    L2,
    /// See there.
    L3,
    /// The top.
    L4,
    /// Segment descriptors.
    Descriptors,
}

impl Kind {
    /// The page table of a level, 1 to 4.
    pub fn of_level(level: u8) -> Self {
        [Self::None, Self::L1, Self::L2, Self::L3, Self::L4][usize::from(level.min(4))]
    }
    /// Its level; 0 for what is no page table.
    pub fn level(self) -> u8 {
        match self {
            Self::L1 => 1,
            Self::L2 => 2,
            Self::L3 => 3,
            Self::L4 => 4,
            _ => 0,
        }
    }
}

/// A frame of the guest.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Frame {
    pub kind: Kind,
    /// Uses as that kind.
    pub uses: u32,
    /// Entries that map it, in whatever way, and other uses.
    pub refs: u32,
    /// The guest has pinned it.
    pub pinned: bool,
    /// The guest has not got it.
    pub absent: bool,
    /// It was writable: translations for writing may still exist.
    pub was_writable: bool,
    /// Nobody uses this table any more, but what its entries lead to has not been given up yet.
    pub dying: bool,
    /// It is in the list of those.
    pub listed: bool,
}

/// All frames of the guest.
#[derive(Clone, Debug)]
pub struct Types {
    pub(super) frames: Vec<Frame>,
    pub(super) layout: Frames,
    /// Frames that became something else than writable: translations for writing to them have to go.
    protect: Vec<u64>,
    /// Frames that are absent.
    pub(super) absent: u64,
    /// Frames that the guest has only if it asks for none of the others, as in Xen's populate-on-demand.
    pub(super) on_demand: u64,
    /// Frames of grants' states that the guest may map now, and how many entries map each.
    pub(super) status_frames: u64,
    pub(super) status_uses: [u32; STATUS_FRAMES as usize],
    /// Where the next absent frame is looked for.
    pub(super) next_absent: u64,
    /// Tables that nobody uses any more, to be taken apart.
    pub(super) dying: Vec<u64>,
    /// Tables in use because one above them is to be one soon.
    pub(super) held: Vec<u64>,
    /// Entries of tables that were looked at, and what else takes as long.
    pub work: u64,
}

/// Bits that an entry of each level may have.
const L1_BITS: u64 =
    pte::P | pte::RW | pte::US | pte::A | pte::D | pte::G | pte::AVAIL | pte::AVAIL_HIGH | pte::NX | pte::ADDR;
const TABLE_BITS: u64 = L1_BITS & !pte::G;
/// What may change without another look at where the entry leads.
const FLAGS_ONLY: u64 = pte::NX | pte::AVAIL | pte::AVAIL_HIGH | pte::G | pte::D | pte::A | pte::US;

/// Bits that an entry of a table of this level may have.
pub(super) fn bits(level: u8) -> u64 {
    if level == 1 { L1_BITS } else { TABLE_BITS }
}

impl Types {
    /// The frames that the guest has at first are nothing in particular. With `on_demand` it sees all that it may ever
    /// have, and is to give some of them back.
    pub fn new(layout: Frames, on_demand: bool) -> Self {
        let more = layout.guest - layout.boot;
        let frame = |n| Frame { absent: n >= layout.boot && !on_demand, ..Frame::default() };
        Self {
            frames: (0..layout.guest).map(frame).collect(),
            layout,
            protect: Vec::new(),
            absent: if on_demand { 0 } else { more },
            on_demand: if on_demand { more } else { 0 },
            status_frames: 0,
            status_uses: [0; STATUS_FRAMES as usize],
            next_absent: layout.boot,
            dying: Vec::new(),
            held: Vec::new(),
            work: 0,
        }
    }

    pub(super) fn frame(&mut self, mfn: u64) -> Result<&mut Frame, Errno> {
        let frame = usize::try_from(mfn).ok().and_then(|n| self.frames.get_mut(n)).ok_or(Errno::EINVAL)?;
        if frame.absent { Err(Errno::EINVAL) } else { Ok(frame) }
    }
    /// What a frame is used as now.
    pub fn kind(&self, mfn: u64) -> Kind {
        let frame = usize::try_from(mfn).ok().and_then(|n| self.frames.get(n));
        frame.filter(|f| f.uses > 0).map_or(Kind::None, |f| f.kind)
    }
    /// Does the guest have this frame?
    pub fn owned(&self, mfn: u64) -> bool {
        usize::try_from(mfn).ok().and_then(|n| self.frames.get(n)).is_some_and(|f| !f.absent)
    }
    /// May data be written to it by who has no use of it? Not if it is a table, or a page of descriptors.
    pub fn is_data(&self, mfn: u64) -> bool {
        let frame = usize::try_from(mfn).ok().and_then(|n| self.frames.get(n)).filter(|f| !f.absent && !f.dying);
        frame.is_some_and(|f| f.uses == 0 || f.kind == Kind::Writable)
    }
    /// Takes the frames whose translations for writing have to go.
    pub fn take_protected(&mut self) -> Vec<u64> {
        core::mem::take(&mut self.protect)
    }

    /// An entry of a page table.
    pub fn read(&self, ram: &GuestRam, at: u64) -> u64 {
        u64::from_le_bytes(ram.read_le(at))
    }

    /// One more use of a frame as `kind`.
    ///
    /// # Errors
    /// EINVAL if it is not the guest's or cannot be that, EBUSY if it is something else.
    pub fn get(&mut self, ram: &GuestRam, mfn: u64, kind: Kind) -> Result<(), Errno> {
        let f = self.frame(mfn)?;
        if f.dying {
            if f.kind == kind {
                // What its entries lead to is still in use.
                (f.dying, f.uses, f.refs) = (false, 1, f.refs.saturating_add(1));
                return Ok(());
            }
            self.take_apart(ram, mfn);
        }
        let f = self.frame(mfn)?;
        if f.uses > 0 && f.kind != kind {
            return Err(if kind == Kind::Writable { Errno::EBUSY } else { Errno::EINVAL });
        }
        if f.uses == u32::MAX {
            return Err(Errno::EBUSY);
        }
        f.uses += 1;
        f.refs = f.refs.saturating_add(1);
        if f.uses > 1 {
            return Ok(());
        }
        f.kind = kind;
        if kind == Kind::Writable {
            f.was_writable = true;
            return Ok(());
        }
        if core::mem::take(&mut f.was_writable) {
            self.protect.push(mfn);
        }
        let checked = match kind {
            Kind::Descriptors => self.check_descriptors(ram, mfn),
            _ => self.promote(ram, mfn, kind.level()),
        };
        if checked.is_err() {
            let f = self.frame(mfn)?;
            (f.uses, f.refs) = (0, f.refs.saturating_sub(1));
        }
        checked
    }

    /// One use less. A table that nobody uses any more gives up what its entries lead to, now or later
    /// ([`Types::take_dying`]).
    pub fn put(&mut self, mfn: u64) {
        let Ok(f) = self.frame(mfn) else { return };
        // Nobody gives up what he has not got; but a mistake here must not lead round in circles for ever.
        let Some(uses) = f.uses.checked_sub(1) else { return };
        f.uses = uses;
        f.refs = f.refs.saturating_sub(1);
        if uses == 0 && f.kind.level() > 0 {
            f.dying = true;
            if !core::mem::replace(&mut f.listed, true) {
                self.dying.push(mfn);
            }
        }
    }

    /// A use that does not write: the frame cannot be given back.
    ///
    /// # Errors
    /// EINVAL if it is not the guest's.
    pub fn hold(&mut self, mfn: u64) -> Result<(), Errno> {
        let f = self.frame(mfn)?;
        f.refs = f.refs.saturating_add(1);
        Ok(())
    }
    /// One of these less.
    pub fn let_go(&mut self, mfn: u64) {
        if let Ok(f) = self.frame(mfn) {
            f.refs = f.refs.saturating_sub(1);
        }
    }

    /// The guest pins a page table.
    ///
    /// # Errors
    /// EINVAL if it is none, or is pinned.
    pub fn pin(&mut self, ram: &GuestRam, mfn: u64, kind: Kind) -> Result<(), Errno> {
        if self.frame(mfn)?.pinned {
            return Err(Errno::EINVAL);
        }
        self.get(ram, mfn, kind).map_err(|_| Errno::EINVAL)?;
        self.frame(mfn)?.pinned = true;
        Ok(())
    }
    /// The guest gives that up.
    ///
    /// # Errors
    /// EINVAL if it is not pinned.
    pub fn unpin(&mut self, mfn: u64) -> Result<(), Errno> {
        let f = self.frame(mfn)?;
        if !core::mem::take(&mut f.pinned) {
            return Err(Errno::EINVAL);
        }
        self.put(mfn);
        Ok(())
    }

    /// Looks at all entries of a table.
    fn promote(&mut self, ram: &GuestRam, mfn: u64, level: u8) -> Result<(), Errno> {
        self.work += PER_PAGE;
        for index in 0..PER_PAGE {
            let at = (mfn << PAGE_SHIFT) + 8 * index;
            let entry = self.read(ram, at);
            if entry & pte::P == 0 {
                continue;
            }
            if let Err(e) = self.get_entry(ram, mfn, level, index, entry) {
                for before in 0..index {
                    let entry = self.read(ram, (mfn << PAGE_SHIFT) + 8 * before);
                    self.put_entry(mfn, level, before, entry);
                }
                return Err(e);
            }
        }
        if level == 4 {
            self.layout.fill_l4(ram, mfn);
        }
        Ok(())
    }

    /// Is it Xen's slot of a table of this level?
    pub(super) fn reserved(level: u8, index: u64) -> bool {
        level == 4 && hole::SLOTS.contains(&(index as usize))
    }

    /// Uses what an entry leads to.
    fn get_entry(&mut self, ram: &GuestRam, table: u64, level: u8, index: u64, entry: u64) -> Result<(), Errno> {
        if entry & pte::P == 0 || Self::reserved(level, index) {
            return Ok(());
        }
        if entry & !bits(level) != 0 {
            return Err(Errno::EINVAL);
        }
        let mfn = (entry & pte::ADDR) >> PAGE_SHIFT;
        if level > 1 {
            if entry & pte::RW == 0 && (mfn == table || self.kind(mfn).level() == level) {
                return self.get_linear(table, mfn);
            }
            return self.get(ram, mfn, Kind::of_level(level - 1));
        }
        if self.layout.is_shared(mfn) {
            return Ok(());
        }
        if let Some(uses) = self.status_uses(mfn) {
            *uses = uses.checked_add(1).ok_or(Errno::EBUSY)?;
            return Ok(());
        }
        if !self.owned(mfn) {
            return Err(if mfn == pte::ADDR >> PAGE_SHIFT { Errno::EINVAL } else { Errno::EPERM });
        }
        if entry & pte::RW != 0 {
            return self.get(ram, mfn, Kind::Writable);
        }
        self.hold(mfn)
    }

    /// How many entries map a frame of grants' states, which the hypervisor may want to have for itself again.
    fn status_uses(&mut self, mfn: u64) -> Option<&mut u32> {
        let n = mfn.checked_sub(self.layout.status).filter(|n| *n < self.status_frames)?;
        self.status_uses.get_mut(n as usize)
    }

    /// A table that leads to one of its own level, read-only (a linear page table).
    fn get_linear(&mut self, table: u64, mfn: u64) -> Result<(), Errno> {
        if table != mfn {
            let f = self.frame(mfn)?;
            f.uses = f.uses.checked_add(1).ok_or(Errno::EBUSY)?;
            f.refs = f.refs.saturating_add(1);
        }
        Ok(())
    }

    /// Gives up what an entry leads to.
    pub(super) fn put_entry(&mut self, table: u64, level: u8, index: u64, entry: u64) {
        let mfn = (entry & pte::ADDR) >> PAGE_SHIFT;
        if entry & pte::P == 0 || Self::reserved(level, index) || level > 1 && mfn == table {
            return;
        }
        if let Some(uses) = self.status_uses(mfn).filter(|_| level == 1) {
            *uses = uses.saturating_sub(1);
        } else if level > 1 || entry & pte::RW != 0 {
            self.put(mfn);
        } else {
            self.let_go(mfn);
        }
    }

    /// Changes an entry of a page table. `at` is its address, `keep` the bits that stay as they are. The entry before.
    ///
    /// # Errors
    /// EINVAL for what is not allowed in such a table, EBUSY, EPERM.
    pub fn change(&mut self, ram: &GuestRam, at: u64, new: u64, keep: u64) -> Result<u64, Errno> {
        let (table, index) = (at >> PAGE_SHIFT, at % (8 * PER_PAGE) / 8);
        let level = self.kind(table).level();
        if Self::reserved(level, index) {
            return Err(Errno::EINVAL);
        }
        let old = self.read(ram, at);
        let new = new & !keep | old & keep;
        let both = old & new & pte::P != 0;
        if !(both && (old ^ new) & !FLAGS_ONLY == 0) {
            self.get_entry(ram, table, level, index, new)?;
            ram.write(at, &new.to_le_bytes());
            self.put_entry(table, level, index, old);
        } else {
            if new & !bits(level) != 0 {
                return Err(Errno::EINVAL);
            }
            ram.write(at, &new.to_le_bytes());
        }
        Ok(old)
    }

    /// May a guest have this descriptor? As it is stored, if so.
    pub fn descriptor(d: u64) -> Option<u64> {
        /// Present; code or data; DPL.
        const P: u64 = 1 << 47;
        const S: u64 = 1 << 44;
        const DPL: u64 = 3 << 45;
        if d & P == 0 {
            return Some(d);
        }
        let kind = d >> 40 & 0xf;
        // Whatever a guest loads is of privilege 3.
        let d = d | DPL;
        match d & S != 0 {
            // Long mode ignores base and limit; compatibility mode is the user's own.
            true => Some(d),
            false if kind == 0 => Some(d),
            // A call gate, for 32-bit domains; its DPL makes it useless here.
            false if kind == 0xc => Some(d & !DPL),
            false => None,
        }
    }

    fn check_descriptors(&mut self, ram: &GuestRam, mfn: u64) -> Result<(), Errno> {
        self.work += PER_PAGE;
        for index in 0..PER_PAGE {
            let at = (mfn << PAGE_SHIFT) + 8 * index;
            let old = self.read(ram, at);
            let new = Self::descriptor(old).ok_or(Errno::EINVAL)?;
            if new != old {
                ram.write(at, &new.to_le_bytes());
            }
        }
        Ok(())
    }

    /// Are all uses accounted for? `held` are those that are no entries of tables and no pins; of no kind
    /// are those that only read.
    #[cfg(test)]
    pub fn check(&self, ram: &GuestRam, held: &[(u64, Kind)]) {
        let mut counts = vec![(0, 0); self.frames.len()];
        let mut status_uses = [0; STATUS_FRAMES as usize];
        let mut count = |mfn: u64, use_: bool| {
            let Some(c) = counts.get_mut(mfn as usize) else { return };
            *c = (c.0 + u32::from(use_), c.1 + 1);
        };
        for &(mfn, kind) in held {
            assert!(kind == Kind::None || self.kind(mfn) == kind, "frame {mfn:#x} is held");
            count(mfn, kind != Kind::None);
        }
        for &mfn in &self.held {
            count(mfn, true);
        }
        assert_eq!(self.absent, self.frames.iter().filter(|f| f.absent).count() as u64);
        for (mfn, f) in (0..).zip(&self.frames) {
            assert!(!f.dying || f.uses == 0 && f.listed && self.dying.contains(&mfn), "frame {mfn:#x} is dying");
            if f.pinned {
                assert!(f.kind.level() > 0, "frame {mfn:#x} is pinned");
                count(mfn, true);
            }
            let level = if f.uses > 0 || f.dying { f.kind.level() } else { 0 };
            for index in 0..if level > 0 { PER_PAGE } else { 0 } {
                let entry = self.read(ram, (mfn << PAGE_SHIFT) + 8 * index);
                let to = (entry & pte::ADDR) >> PAGE_SHIFT;
                if entry & pte::P == 0 || Self::reserved(level, index) || level > 1 && to == mfn {
                    continue;
                }
                let writable = entry & pte::RW != 0;
                let kind = self.kind(to);
                match level {
                    1 if self.layout.is_shared(to) => continue,
                    1 if (self.layout.status..self.layout.status + self.status_frames).contains(&to) => {
                        status_uses[(to - self.layout.status) as usize] += 1;
                        continue;
                    }
                    1 => assert!(self.owned(to) && (!writable || kind == Kind::Writable), "{to:#x} is {kind:?}"),
                    _ => {
                        assert!(kind.level() + 1 == level || kind.level() == level && !writable, "{to:#x} is {kind:?}")
                    }
                }
                count(to, level > 1 || writable);
            }
        }
        assert_eq!(self.status_uses, status_uses);
        for (mfn, (f, c)) in self.frames.iter().zip(counts).enumerate() {
            assert_eq!((f.uses, f.refs), c, "uses of frame {mfn:#x}, {:?}", f.kind);
            assert!(!f.absent || c.1 == 0, "frame {mfn:#x} is used");
        }
    }

    /// Appends everything a guest could tell apart.
    pub fn state_bytes(&self, out: &mut Vec<u8>) {
        crate::device::put_state(out, &(&self.frames, self.on_demand, self.next_absent, &self.dying, &self.held));
        crate::device::put_state(out, &self.status_uses);
    }
}
