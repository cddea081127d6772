//! Machine memory: which frames there are, and what the hypervisor keeps in its own.
//!
//! The guest's frames are machine frames from 0 on; the hypervisor's frames lie behind all of them. So page tables need
//! no translation, and the machine-to-phys table is an identity at first.

use super::abi::{hole, pte, sel};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT, PAGE_SIZE};

/// Entries in a page of 8-byte numbers.
pub const PER_PAGE: u64 = 512;
/// Grant table frames a guest may have.
pub const GRANT_FRAMES: u64 = 64;
/// Frames for the states of all their entries in version 2: 256 entries in a frame of the table, 2048 states in one of these.
pub const STATUS_FRAMES: u64 = GRANT_FRAMES / 8;
/// vCPUs that have room for their descriptor tables.
pub const MAX_VCPUS: u64 = 32;
/// Pages of each vCPU in [`hole::TABLES`].
const TABLE_PAGES: u64 = 32;

/// Where the hypervisor's frames are, as frame numbers.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// Frames that the guest may ever have: 0 to this.
    pub guest: u64,
    /// Those that it has at first.
    pub boot: u64,
    /// Frames there are.
    pub all: u64,
    /// shared_info.
    pub shared_info: u64,
    /// The first frame of the grant table.
    pub grants: u64,
    /// The first frame of its entries' states.
    pub status: u64,
    /// Two pages for rings that the guest's own memory has no room for.
    pub rings: u64,
    /// Xen's descriptors, the last of each vCPU's GDT.
    gdt: u64,
    /// Zeros: the pages of a GDT that the guest has not given.
    zero: u64,
    /// L3 of slot 256, and L3 of slot 260.
    m2p_l3: u64,
    tables_l3: u64,
    tables_l1: u64,
    m2p: u64,
}

impl Frames {
    /// The layout for a guest with so many frames at first, and later up to `most` of them.
    pub fn new(boot: u64, most: u64) -> Self {
        let guest = boot.max(most);
        let shared_info = guest;
        let grants = shared_info + 1;
        let status = grants + GRANT_FRAMES;
        let rings = status + STATUS_FRAMES;
        let gdt = rings + 2;
        let zero = gdt + 1;
        let tables_l3 = zero + 1;
        let tables_l1 = tables_l3 + 2;
        let m2p_l3 = tables_l1 + MAX_VCPUS * TABLE_PAGES / PER_PAGE;
        // The table describes itself, too: a few entries more than there will be.
        let m2p_pages = (guest + guest / PER_PAGE + 256).div_ceil(PER_PAGE);
        let m2p = m2p_l3 + 2 + m2p_pages.div_ceil(PER_PAGE);
        Self {
            guest,
            boot,
            all: m2p + m2p_pages,
            shared_info,
            grants,
            status,
            rings,
            gdt,
            zero,
            m2p_l3,
            tables_l3,
            tables_l1,
            m2p,
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> u64 {
        self.all << PAGE_SHIFT
    }

    /// Is it a frame of the hypervisor that the guest may map, also for writing?
    pub fn is_shared(&self, mfn: u64) -> bool {
        mfn == self.shared_info || (self.grants..self.grants + GRANT_FRAMES).contains(&mfn)
    }

    /// Fills the hypervisor's frames for a new guest.
    pub fn install(&self, ram: &GuestRam) {
        let put = |mfn: u64, index: u64, v: u64| ram.write((mfn << PAGE_SHIFT) + 8 * index, &v.to_le_bytes());
        let zero = [0; PAGE_SIZE as usize];
        (self.guest..self.all).for_each(|mfn| ram.write(mfn << PAGE_SHIFT, &zero));
        for (i, d) in (0..).zip(sel::DESCRIPTORS) {
            put(self.gdt, i, d);
        }
        // No guest reaches these pages but through tables that Xen has filled.
        let table = pte::P | pte::RW | pte::A;
        put(self.tables_l3, 0, (self.tables_l3 + 1) << PAGE_SHIFT | table);
        for n in 0..MAX_VCPUS * TABLE_PAGES / PER_PAGE {
            put(self.tables_l3 + 1, n, (self.tables_l1 + n) << PAGE_SHIFT | table);
        }
        for vcpu in 0..MAX_VCPUS {
            (0..14).for_each(|page| self.map_gdt(ram, vcpu, page, None));
            self.map_table(ram, vcpu, 14, Some(self.gdt));
            self.map_gdt(ram, vcpu, 15, None);
        }
        put(self.m2p_l3, 0, (self.m2p_l3 + 1) << PAGE_SHIFT | table);
        for (n, mfn) in (0..).zip(self.m2p..self.all) {
            put(self.m2p_l3 + 2 + n / PER_PAGE, n % PER_PAGE, mfn << PAGE_SHIFT | pte::P | pte::A | pte::NX);
            for slot in [0, hole::M2P_SHIFT] {
                put(self.m2p_l3 + 1, slot + n / PER_PAGE, (self.m2p_l3 + 2 + n / PER_PAGE) << PAGE_SHIFT | table);
            }
        }
        (0..self.boot).for_each(|n| self.set_m2p(ram, n, n));
        (self.boot..self.m2p_entries()).for_each(|n| self.set_m2p(ram, n, u64::MAX));
    }

    /// Frames the machine-to-phys table has entries for.
    fn m2p_entries(&self) -> u64 {
        (self.all - self.m2p) * PER_PAGE
    }
    /// Sets an entry of the machine-to-phys table.
    pub fn set_m2p(&self, ram: &GuestRam, mfn: u64, pfn: u64) {
        if mfn < self.m2p_entries() {
            ram.write((self.m2p << PAGE_SHIFT) + 8 * mfn, &pfn.to_le_bytes());
        }
    }

    /// The linear address of a page of a vCPU's descriptor tables.
    pub fn table_address(vcpu: u64, page: u64) -> u64 {
        hole::TABLES + ((vcpu * TABLE_PAGES + page) << PAGE_SHIFT)
    }
    /// Lets a page of a vCPU's GDT lead to a frame, or to one of zeros.
    pub fn map_gdt(&self, ram: &GuestRam, vcpu: u64, page: u64, mfn: Option<u64>) {
        self.map_table(ram, vcpu, page, mfn.or(Some(self.zero)));
    }
    /// Lets a page of a vCPU's descriptor tables (0 to 15 GDT, 16 to 31 LDT) lead to a frame. Read-only, as the guest's
    /// kernel is a supervisor here; that a descriptor is accessed the processor notes all the same. TLBs are the caller's.
    pub fn map_table(&self, ram: &GuestRam, vcpu: u64, page: u64, mfn: Option<u64>) {
        let entry = mfn.map_or(0, |mfn| mfn << PAGE_SHIFT | pte::P | pte::A | pte::D | pte::NX);
        let n = vcpu * TABLE_PAGES + page;
        ram.write(((self.tables_l1 + n / PER_PAGE) << PAGE_SHIFT) + 8 * (n % PER_PAGE), &entry.to_le_bytes());
    }

    /// Which frame that is.
    #[cfg(test)]
    pub fn table(&self, ram: &GuestRam, vcpu: u64, page: u64) -> u64 {
        let n = vcpu * TABLE_PAGES + page;
        let entry: [u8; 8] = ram.read_le(((self.tables_l1 + n / PER_PAGE) << PAGE_SHIFT) + 8 * (n % PER_PAGE));
        (u64::from_le_bytes(entry) & pte::ADDR) >> PAGE_SHIFT
    }

    /// Xen's entries of an L4: slots 256 to 271.
    pub fn fill_l4(&self, ram: &GuestRam, l4: u64) {
        let at = |slot: usize| (l4 << PAGE_SHIFT) + 8 * slot as u64;
        for slot in hole::SLOTS {
            let entry = match slot {
                256 => self.m2p_l3 << PAGE_SHIFT | pte::P | pte::A,
                260 => self.tables_l3 << PAGE_SHIFT | pte::P | pte::RW | pte::A,
                _ => 0,
            };
            ram.write(at(slot), &entry.to_le_bytes());
        }
    }
}
