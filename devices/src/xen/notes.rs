//! What a kernel says about itself to Xen: ELF notes named "Xen", or the text of a section `__xen_guest`.
//! Sources: Xen public/elfnote.h; the rules of which note wins and what must be there are those of
//! common/libelf/libelf-dominfo.c.
//!
//! Left out: the INFO note, and loading the symbol table that BSD_SYMTAB asks for (it is said, not done).

mod read;

use crate::boot::elf::Image;
use crate::boot::{BootError, multiboot};

/// Bytes of a text that are kept.
const MAX_TEXT: usize = 64;
/// The version of the interface there is.
const XEN_VERSION: &str = "xen-3.0";

/// Why a kernel cannot be started as a domain of Xen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotesError {
    /// The file itself is at fault.
    #[error(transparent)]
    File(#[from] BootError),
    /// A note that does not hold what its type demands, or a value outside of what it may be.
    #[error("the kernel's Xen note {note} is damaged: it is {value:#x}, expected {expected}; build the kernel again")]
    Damaged {
        /// The note.
        note: &'static str,
        /// Its value, or its length.
        value: u64,
        /// What would have been right.
        expected: &'static str,
    },
    /// A kernel that knows nothing of Xen.
    #[error(
        "the kernel has no notes for Xen, so it cannot be started as its guest; boot it as a PC, or use a kernel with CONFIG_XEN_PV or CONFIG_PVH"
    )]
    NoNotes,
    /// The kernel cannot be a PV guest, as it has not this note.
    #[error("the kernel has no Xen note {0}, which a PV guest needs; boot it as a PC{1}")]
    NotPv(&'static str, &'static str),
    /// The kernel cannot be a PVH guest.
    #[error("the kernel has no Xen note PHYS32_ENTRY, which PVH needs; boot it as a PC{0}, or use one with CONFIG_PVH")]
    NotPvh(&'static str),
    /// A kernel for a loader of its own.
    #[error(
        "the kernel wants the loader `{loader}` for the system `{guest_os}`, here is the generic one; boot it as a PC"
    )]
    Loader {
        /// What LOADER says.
        loader: String,
        /// What GUEST_OS says.
        guest_os: String,
    },
    /// A kernel for another interface.
    #[error("the kernel is for the interface `{0}` of Xen, here is {XEN_VERSION}; use a newer kernel")]
    Version(String),
    /// A feature that nobody has.
    #[error("the kernel requires the Xen feature `{0}`, which is not known here; boot it as a PC")]
    Feature(String),
}

/// XENFEAT bits, as in `XENVER_get_features` of submap 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// The kernel knows what to do with these.
    pub supported: u32,
    /// It cannot run without these.
    pub required: u32,
}

/// How a 32-bit kernel uses physical address extension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pae {
    /// Not at all, or it does not say.
    #[default]
    No,
    /// Always.
    Yes,
    /// Always, and its top table may lie above 4 GiB.
    ExtendedCr3,
    /// As the machine likes.
    Bimodal,
}

/// Where a PVH kernel can be loaded if not where it was linked. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloc {
    /// A multiple of this, if the note says; else of the largest alignment of a segment.
    pub align: Option<u32>,
    /// The lowest address of its first byte.
    pub min: u32,
    /// The highest address of its last byte.
    pub max: u32,
}

/// What the kernel says. A field is `None` if there is no such note; [`Notes::pv`] and [`Notes::pvh`] know what that
/// means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// ENTRY: virtual address of the first instruction of a PV kernel.
    pub entry: Option<u64>,
    /// HYPERCALL_PAGE: virtual address of a page to fill with hypercall stubs.
    pub hypercall_page: Option<u64>,
    /// VIRT_BASE: virtual address of pseudo-physical address 0.
    pub virt_base: Option<u64>,
    /// PADDR_OFFSET: what is subtracted from `p_paddr` to get a pseudo-physical address.
    pub paddr_offset: Option<u64>,
    /// XEN_VERSION.
    pub xen_version: Option<String>,
    /// GUEST_OS.
    pub guest_os: Option<String>,
    /// GUEST_VERSION.
    pub guest_version: Option<String>,
    /// LOADER.
    pub loader: Option<String>,
    /// PAE_MODE.
    pub pae: Pae,
    /// FEATURES and SUPPORTED_FEATURES.
    pub features: Features,
    /// BSD_SYMTAB: the kernel would like its symbols behind it.
    pub bsd_symtab: bool,
    /// HV_START_LOW: the lowest virtual address that Xen may use.
    pub hv_start_low: Option<u64>,
    /// L1_MFN_VALID: an entry of a page table that has `value` under `mask` names a frame: (mask, value).
    pub l1_mfn_valid: Vec<(u64, u64)>,
    /// SUSPEND_CANCEL: the kernel understands that a suspend was cancelled.
    pub suspend_cancel: bool,
    /// INIT_P2M: virtual address where the list of frames is mapped at the start.
    pub init_p2m: Option<u64>,
    /// MOD_START_PFN: the initrd is named by its frame and need not be mapped.
    pub mod_start_pfn: bool,
    /// PHYS32_ENTRY: physical address of the first instruction of a PVH kernel, in 32-bit mode.
    pub phys32_entry: Option<u32>,
    /// PHYS32_RELOC.
    pub phys32_reloc: Option<Reloc>,
    /// Is there a note of Linux's own beside those for Xen?
    pub linux: bool,
    /// Do all these come from the text of `__xen_guest`?
    pub legacy: bool,
    /// `e_entry` of the file.
    elf_entry: u64,
    /// The kernel's first byte and its end, in `p_paddr`.
    range: (u64, u64),
    is_64_bit: bool,
}

/// How to build a PV domain of the kernel: all checked, all defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pv {
    /// Is it a kernel for 64-bit mode?
    pub is_64_bit: bool,
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// Virtual address of pseudo-physical address 0.
    pub virt_base: u64,
    /// `p_paddr` less this is a pseudo-physical address: [`Image::shifted`] from here to 0.
    pub paddr_offset: u64,
    /// Pseudo-physical address of the kernel's first byte.
    pub start: u64,
    /// Pseudo-physical address of the first byte after it.
    pub end: u64,
    /// Virtual address of the hypercall page, if there is one.
    pub hypercall_page: Option<u64>,
    /// Virtual address of the list of frames, if it is to be outside of the kernel's mapping.
    pub init_p2m: Option<u64>,
    /// Name the initrd by its frame, and do not map it.
    pub mod_start_pfn: bool,
    /// What it supports and requires.
    pub features: Features,
}

/// How to start the kernel as a PVH domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pvh {
    /// Physical address of the first instruction.
    pub entry: u32,
    /// Where else it can be loaded. The entry moves with it.
    pub reloc: Option<Reloc>,
    /// Physical address of the kernel's first byte.
    pub start: u64,
    /// Physical address of the first byte after it.
    pub end: u64,
}

/// The ways in which a kernel can be started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modes {
    /// On a PC, as Linux or by Multiboot.
    pub pc: bool,
    /// As a PV domain.
    pub pv: bool,
    /// As a PVH domain.
    pub pvh: bool,
    /// Is it for 64-bit mode?
    pub is_64_bit: bool,
}

impl Modes {
    /// The modes of an ELF executable, plain or packed. A bzImage is unpacked first (`boot::unpack::kernel`).
    ///
    /// # Errors
    /// [`BootError`] if it is no such file. Notes that make no sense are as good as none.
    pub fn of(kernel: &[u8]) -> Result<Self, BootError> {
        let image = Image::open(kernel)?;
        let notes = Notes::read(&image);
        let (pv, pvh) = notes.as_ref().map_or((false, false), |n| (n.is_pv(), n.is_pvh()));
        // Multiboot says what it is; of what has notes for Xen, Linux alone is known to run without it. A 64-bit
        // kernel with a PVH entry may be a Linux that lacks the rest; one with 32-bit headers is a test or a loader.
        let linux = notes.as_ref().is_ok_and(|n| n.linux || n.guest_os.as_deref() == Some("linux"));
        let is_64_bit = image.elf().is_64_bit;
        let pc = linux || multiboot::Header::find(kernel).is_some() || !pv && (!pvh || is_64_bit);
        Ok(Self { pc, pv, pvh, is_64_bit })
    }
}

impl Notes {
    /// Is it a kernel for a PV domain?
    pub fn is_pv(&self) -> bool {
        self.pv().is_ok()
    }

    /// Is it a kernel for a PVH domain?
    pub fn is_pvh(&self) -> bool {
        self.pvh().is_ok()
    }

    /// What building a PV domain needs.
    ///
    /// # Errors
    /// [`NotesError`] if the kernel is not for it.
    pub fn pv(&self) -> Result<Pv, NotesError> {
        let or_pvh = if self.phys32_entry.is_some() { " or as PVH" } else { "" };
        // A kernel for PVH only, or a Linux without CONFIG_XEN_PV: its ELF entry is not for us.
        if self.phys32_entry.is_some() && self.entry.is_none() && self.virt_base.is_none() {
            return Err(NotesError::NotPv("ENTRY", or_pvh));
        }
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let (loader, guest_os) = (text(&self.loader), text(&self.guest_os));
        if !loader.starts_with("generic") && !guest_os.starts_with("linux") {
            return Err(NotesError::Loader { loader, guest_os });
        }
        match &self.xen_version {
            None => return Err(NotesError::NotPv("XEN_VERSION", or_pvh)),
            Some(v) if !v.starts_with(XEN_VERSION) => return Err(NotesError::Version(v.clone())),
            Some(_) => {}
        }
        let virt_base = match (self.virt_base, self.paddr_offset) {
            (None, Some(_)) => return Err(NotesError::NotPv("VIRT_BASE (it has PADDR_OFFSET)", or_pvh)),
            (base, _) => base.unwrap_or(0),
        };
        let paddr_offset = self.paddr_offset.unwrap_or(if self.legacy { virt_base } else { 0 });
        let damaged = |note, value, expected| NotesError::Damaged { note, value, expected };
        let below = |at: u64| {
            at.checked_sub(paddr_offset).ok_or(damaged("PADDR_OFFSET", paddr_offset, "at most the lowest p_paddr"))
        };
        let (start, end) = (below(self.range.0)?, below(self.range.1)?);
        let virt_end =
            virt_base.checked_add(end).ok_or(damaged("VIRT_BASE", virt_base, "room for the kernel behind it"))?;
        let virt_start = virt_base + start;
        let entry = self.entry.unwrap_or(self.elf_entry);
        if !(virt_start..virt_end).contains(&entry) {
            return Err(damaged("ENTRY", entry, "an address inside the kernel"));
        }
        if let Some(page) = self.hypercall_page {
            if !(virt_start..virt_end).contains(&page) || page % 0x1000 != 0 || virt_end - page < 0x1000 {
                return Err(damaged("HYPERCALL_PAGE", page, "a page inside the kernel"));
            }
        }
        if let Some(p2m) = self.init_p2m.filter(|at| (virt_start..virt_end).contains(at)) {
            return Err(damaged("INIT_P2M", p2m, "an address outside of the kernel"));
        }
        Ok(Pv {
            is_64_bit: self.is_64_bit,
            entry,
            virt_base,
            paddr_offset,
            start,
            end,
            hypercall_page: self.hypercall_page,
            init_p2m: self.init_p2m,
            mod_start_pfn: self.mod_start_pfn,
            features: self.features,
        })
    }

    /// What starting a PVH domain needs.
    ///
    /// # Errors
    /// [`NotesError`] if the kernel is not for it.
    pub fn pvh(&self) -> Result<Pvh, NotesError> {
        let or_pv = if self.entry.is_some() { " or as PV" } else { "" };
        let entry = self.phys32_entry.ok_or(NotesError::NotPvh(or_pv))?;
        let (start, end) = self.range;
        if !(start..end).contains(&entry.into()) {
            let expected = "an address inside the kernel";
            return Err(NotesError::Damaged { note: "PHYS32_ENTRY", value: entry.into(), expected });
        }
        Ok(Pvh { entry, reloc: self.phys32_reloc, start, end })
    }
}

#[cfg(test)]
mod tests;
