//! The domain builder for PVH: a kernel with a 32-bit entry point and what it is told (public/arch-x86/hvm/start_info.h).

use super::domain::{Domain, Rings};
use super::hvm::param;
use super::notes::Pvh;
use crate::boot::elf::Image;
use crate::boot::{BootError, Entry, acpi, entry, zero_page};
use tabvisor_core::mem::{PAGE_SHIFT, PAGE_SIZE};
use tabvisor_core::time::VmTime;

/// Where the guest finds what it is told, from the first page behind kernel and initrd.
const MODULES: u64 = 0x100;
const MEMORY_MAP: u64 = 0x200;
const CMDLINE: u64 = 0x1000;
const CMDLINE_MAX: usize = 0x1000;
/// Bytes of all that.
const LENGTH: u64 = CMDLINE + CMDLINE_MAX as u64;
/// The ACPI tables' place.
const TABLES: core::ops::Range<u64> = 0xe_0000..0x10_0000;
/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
/// The pages that a guest cannot have, of which these two are rings.
pub(super) const SPECIAL_PAGES: core::ops::Range<u64> = 0xf_eff8..0xf_f000;
/// Frame of xenstore's ring.
const STORE_PFN: u64 = SPECIAL_PAGES.start + 4;
/// Frame of the console's.
const CONSOLE_PFN: u64 = SPECIAL_PAGES.start + 7;

/// Builds the domain; how its first vCPU begins.
///
/// # Errors
/// [`BootError`] if something does not fit.
pub fn build(
    domain: &mut Domain,
    pvh: &Pvh,
    kernel: &Image<'_>,
    initrd: &[u8],
    cmdline: &str,
    now: VmTime,
) -> Result<Entry, BootError> {
    let (ram, frames) = (domain.ram.clone(), domain.frames);
    let boot = frames.boot << PAGE_SHIFT;
    zero_page::check_cmdline(cmdline, CMDLINE_MAX - 1)?;
    let module = pvh.end.next_multiple_of(PAGE_SIZE);
    let told = module.saturating_add(initrd.len() as u64).next_multiple_of(PAGE_SIZE);
    let needs = told.saturating_add(LENGTH);
    if needs > boot {
        return Err(BootError::NeedsMemory { what: "the kernel with its initrd", needs, has: boot });
    }
    // A small kernel may lie below the tables, another one above them; one across them does without.
    let free = needs <= TABLES.start || pvh.start >= TABLES.end;
    let board = acpi::Board { cpus: domain.vcpus.len() as u32, ..acpi::Board::DOMAIN };
    let rsdp = if free { acpi::install(&ram, &board)? } else { 0 };
    kernel.place(&ram)?;
    ram.write(module, initrd);
    ram.write(told + CMDLINE, cmdline.as_bytes());

    let words = |at: u64, all: &[u64]| {
        for (k, v) in (0..).zip(all) {
            ram.write(at + 8 * k, &v.to_le_bytes());
        }
    };
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    // The guest sees all that it may ever have, as with Xen's populate-on-demand; the rest it gives back at once.
    let ranges = domain.memory_ranges();
    words(told + MODULES, &[module, initrd.len() as u64, 0, 0]);
    words(told + MEMORY_MAP, &ranges.concat());
    let modules = u32::from(!initrd.is_empty());
    // Magic and version, flags and modules; then addresses.
    words(
        told,
        &[
            pair(MAGIC, 1),
            pair(0, modules),
            told + MODULES,
            told + CMDLINE,
            rsdp,
            told + MEMORY_MAP,
            ranges.len() as u64,
        ],
    );

    let (store_port, console_port) = domain.open_rings();
    // The rings are the hypervisor's pages, under the numbers of the special ones.
    for (pfn, frame) in [(STORE_PFN, frames.rings), (CONSOLE_PFN, frames.rings + 1)] {
        ram.set_alias(pfn, Some(frame));
    }
    domain.connect(Rings { store: frames.rings, console: frames.rings + 1 });
    if let Some(hvm) = &mut domain.hvm {
        hvm.params[param::STORE_PFN] = STORE_PFN;
        hvm.params[param::STORE_EVTCHN] = store_port.into();
        hvm.params[param::CONSOLE_PFN] = CONSOLE_PFN;
        hvm.params[param::CONSOLE_EVTCHN] = console_port.into();
    }
    domain.start(now);
    Ok(entry::pvh(pvh.entry.into(), told))
}
