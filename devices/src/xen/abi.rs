//! Numbers of the Xen guest ABI that more than one file here needs, by the names of Xen's public headers
//! (xen/include/public: errno.h, xen.h, arch-x86/xen-x86_64.h).

/// An error of a hypercall; the guest gets it negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u16);

/// What a hypercall returns.
pub type Answer = Result<u64, Errno>;

#[allow(missing_docs, reason = "Xen's names")]
impl Errno {
    pub const EPERM: Self = Self(1);
    pub const ENOENT: Self = Self(2);
    pub const ESRCH: Self = Self(3);
    pub const EAGAIN: Self = Self(11);
    pub const ENOMEM: Self = Self(12);
    pub const EACCES: Self = Self(13);
    pub const EFAULT: Self = Self(14);
    pub const EBUSY: Self = Self(16);
    pub const EEXIST: Self = Self(17);
    pub const ENODEV: Self = Self(19);
    pub const EINVAL: Self = Self(22);
    pub const ENOSPC: Self = Self(28);
    pub const ENOSYS: Self = Self(38);
    pub const ENODATA: Self = Self(61);
    pub const ETIME: Self = Self(62);
    pub const EOPNOTSUPP: Self = Self(95);
}

/// What an answer looks like in RAX.
pub fn rax(answer: Answer) -> u64 {
    answer.unwrap_or_else(|e| u64::from(e.0).wrapping_neg())
}

/// Domain identifiers.
pub mod domid {
    /// Who calls.
    pub const SELF: u16 = 0x7ff0;
    /// Where the back ends and xenstore are.
    pub const DOM0: u16 = 0;
    /// The guest.
    pub const GUEST: u16 = 1;
}

/// Selectors of Xen's own descriptors.
pub mod sel {
    /// 32-bit code of users.
    pub const CS32: u16 = 0xe023;
    /// Data and stacks.
    pub const DS: u16 = 0xe02b;
    /// 64-bit code.
    pub const CS64: u16 = 0xe033;
    /// First selector that is Xen's.
    pub const FIRST_RESERVED: u16 = 0xe000;
    /// What lies at [`FIRST_RESERVED`] and behind it. No one can do harm with a segment of ring 0 that a guest cannot load.
    pub const DESCRIPTORS: [u64; 7] = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0,
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
    ];
}

/// The hypervisor's part of the address space: L4 slots 256 to 271.
pub mod hole {
    /// Its first address.
    pub const START: u64 = 0xffff_8000_0000_0000;
    /// The first address behind it.
    pub const END: u64 = 0xffff_8800_0000_0000;
    /// Its slots in the L4.
    pub const SLOTS: core::ops::Range<usize> = 256..272;
    /// The machine-to-phys table, read-only for the guest.
    pub const M2P: u64 = START;
    /// Its end.
    pub const M2P_END: u64 = 0xffff_8040_0000_0000;
    /// Where it is once more, for who asks (`XENMEM_machphys_mapping`), in entries of an L2. Linux looks a frame up there
    /// and in its own table in turn, which begins at a multiple of 1 GiB: at [`M2P`], both had the same entry of the TLB.
    pub const M2P_SHIFT: u64 = 256 + 5;
    /// That address.
    pub const M2P_SHOWN: u64 = M2P + (M2P_SHIFT << 21);
    /// Each vCPU's descriptor tables: 16 pages of GDT, 16 of LDT (slot 260).
    pub const TABLES: u64 = 0xffff_8200_0000_0000;
    /// May a hypercall's pointer lie there?
    pub fn contains(va: u64) -> bool {
        (1 << 47..END).contains(&va)
    }
}

/// Bits of a page-table entry.
#[allow(missing_docs, reason = "the SDM's names")]
pub mod pte {
    pub const P: u64 = 1;
    pub const RW: u64 = 2;
    pub const US: u64 = 4;
    pub const PWT: u64 = 8;
    pub const PCD: u64 = 16;
    pub const A: u64 = 0x20;
    pub const D: u64 = 0x40;
    pub const PSE: u64 = 0x80;
    pub const G: u64 = 0x100;
    pub const AVAIL: u64 = 0xe00;
    pub const AVAIL_HIGH: u64 = 0x7ff << 52;
    pub const NX: u64 = 1 << 63;
    /// Bits of the frame number.
    pub const ADDR: u64 = 0x000f_ffff_ffff_f000;
}

/// Virtual interrupts.
#[allow(missing_docs, reason = "Xen's names")]
pub mod virq {
    pub const TIMER: u32 = 0;
    pub const DEBUG: u32 = 1;
    pub const XENOPROF: u32 = 7;
    pub const XENPMU: u32 = 13;
    pub const COUNT: u32 = 24;
    /// Does each vCPU have its own?
    pub fn per_vcpu(virq: u32) -> bool {
        matches!(virq, TIMER | DEBUG | XENOPROF | XENPMU)
    }
}

/// Why a domain shuts down (sched.h).
#[allow(missing_docs, reason = "Xen's names")]
pub mod shutdown {
    pub const POWEROFF: u32 = 0;
    pub const REBOOT: u32 = 1;
    pub const SUSPEND: u32 = 2;
    pub const CRASH: u32 = 3;
    pub const WATCHDOG: u32 = 4;
    pub const SOFT_RESET: u32 = 5;
}
