//! Notes of kernels as they are found, and of such as nobody should build.

use super::*;
use crate::boot::pack;

/// One note.
fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut n = Vec::new();
    for v in [name.len() as u32, desc.len() as u32, kind] {
        n.extend(v.to_le_bytes());
    }
    for part in [name, desc] {
        n.extend(part);
        n.resize(n.len().next_multiple_of(4), 0);
    }
    n
}

fn xen(kind: u32, desc: &[u8]) -> Vec<u8> {
    note(b"Xen\0", kind, desc)
}

/// An ELF file whose one segment has 0x2000 bytes at `paddr`. `notes` lie in it from 0x400 on if PT_NOTE is to say
/// so; else a section header does, of the type and name given.
fn elf(wide: bool, entry: u64, paddr: u64, notes: &[u8], section: Option<(u32, &str)>) -> Vec<u8> {
    let mut k = vec![0; 0x3000];
    let word = if wide { 8 } else { 4 };
    let mut put = |at: usize, n: usize, v: u64| k[at..at + n].copy_from_slice(&v.to_le_bytes()[..n]);
    put(0, 4, 0x464c_457f);
    put(4, 3, if wide { 0x01_0102 } else { 0x01_0101 });
    put(16, 4, if wide { 0x3e_0002 } else { 3 << 16 | 2 });
    put(24, word, entry);
    put(24 + word, word, 0x100);
    let counts = if wide { 54 } else { 42 };
    put(counts, 2, if wide { 56 } else { 32 });
    put(counts + 2, 2, if section.is_none() { 2 } else { 1 });
    for (i, (kind, offset, n)) in [(1, 0x1000, 0x2000), (4, 0x1400, notes.len() as u64)].into_iter().enumerate() {
        let at = 0x100 + i * if wide { 56 } else { 32 };
        put(at, 4, kind);
        for (j, v) in [offset, paddr + offset - 0x1000, paddr + offset - 0x1000, n, n].into_iter().enumerate() {
            put(at + word + word * j, word, v);
        }
    }
    if let Some((kind, name)) = section {
        // Sections: none, the names (at 0xe00 of the file), the notes.
        put(24 + 2 * word, word, 0x200);
        put(counts + 4, 2, if wide { 64 } else { 40 });
        put(counts + 6, 2, 3);
        put(counts + 8, 2, 1);
        let all = [(3u64, 1u64, 0xe00, 0x40), (u64::from(kind), 10, 0x1400, notes.len() as u64)];
        for (i, (kind, name, offset, n)) in all.into_iter().enumerate() {
            let at = 0x200 + (i + 1) * if wide { 64 } else { 40 };
            put(at, 4, name);
            put(at + 4, 4, kind);
            put(at + 8 + 2 * word, word, offset);
            put(at + 8 + 3 * word, word, n);
        }
        k[0xe01..0xe09].copy_from_slice(b".strtab\0");
        k[0xe0a..0xe0a + name.len()].copy_from_slice(name.as_bytes());
    }
    k[0x1400..0x1400 + notes.len()].copy_from_slice(notes);
    k
}

fn packed(file: &[u8]) -> Vec<u8> {
    let chunk = pack::MIN_CHUNK as usize;
    let chunks: Vec<Vec<u8>> = file.chunks(chunk).map(lz4_flex::block::compress).collect();
    let mut out = pack::MAGIC.to_vec();
    out.extend((file.len() as u64).to_le_bytes());
    out.extend((chunk as u32).to_le_bytes());
    out.extend((chunks.len() as u32).to_le_bytes());
    for c in &chunks {
        out.extend((c.len() as u32).to_le_bytes());
        out.extend(pack::adler32(c).to_le_bytes());
    }
    out.extend(chunks.concat());
    out
}

fn read(file: &[u8]) -> Result<Notes, NotesError> {
    Notes::read(&Image::open(file)?)
}

/// The notes of Debian's Linux 6.1 for amd64, but for the addresses, which are those of [`linux`].
fn linux_notes() -> Vec<u8> {
    [
        xen(6, b"linux\0"),
        xen(7, b"2.6\0"),
        xen(5, b"xen-3.0\0"),
        xen(3, &0xffff_ffff_8000_0000u64.to_le_bytes()),
        xen(15, &0x80_0000_0000u64.to_le_bytes()),
        xen(1, &0xffff_ffff_8100_01c0u64.to_le_bytes()),
        xen(10, b"!writable_page_tables|pae_pgdir_above_4gb"),
        xen(17, &0x8801u32.to_le_bytes()),
        xen(9, b"yes\0"),
        xen(8, b"generic\0"),
        xen(13, &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        xen(14, &1u32.to_le_bytes()),
        xen(16, &1u32.to_le_bytes()),
        xen(12, &0xffff_8000_0000_0000u64.to_le_bytes()),
        xen(4, &0u64.to_le_bytes()),
        note(b"GNU\0", 3, &[7; 20]),
        note(b"Linux\0", 257, &[0; 4]),
        xen(18, &0x100_0850u64.to_le_bytes()),
    ]
    .concat()
}

fn linux() -> Vec<u8> {
    elf(true, 0x100_0000, 0x100_0000, &linux_notes(), None)
}

#[test]
fn linux_says_all_that_both_kinds_of_domain_need() {
    for file in [linux(), packed(&linux())] {
        let n = read(&file).unwrap();
        assert_eq!((n.guest_os.as_deref(), n.guest_version.as_deref()), (Some("linux"), Some("2.6")));
        assert_eq!((n.xen_version.as_deref(), n.loader.as_deref()), (Some("xen-3.0"), Some("generic")));
        assert_eq!((n.pae, n.suspend_cancel, n.bsd_symtab, n.legacy), (Pae::ExtendedCr3, true, false, false));
        assert_eq!(n.features, Features { supported: 0x8811, required: 1 });
        assert_eq!(n.l1_mfn_valid, [(1, 1)]);
        assert_eq!(n.hv_start_low, Some(0xffff_8000_0000_0000));
        assert_eq!((n.phys32_entry, n.phys32_reloc), (Some(0x100_0850), None));
        let pv = Pv {
            is_64_bit: true,
            entry: 0xffff_ffff_8100_01c0,
            virt_base: 0xffff_ffff_8000_0000,
            paddr_offset: 0,
            start: 0x100_0000,
            end: 0x100_2000,
            hypercall_page: None,
            init_p2m: Some(0x80_0000_0000),
            mod_start_pfn: true,
            features: n.features,
        };
        assert_eq!(n.pv(), Ok(pv));
        assert_eq!(n.pvh(), Ok(Pvh { entry: 0x100_0850, reloc: None, start: 0x100_0000, end: 0x100_2000 }));
        assert_eq!(Modes::of(&file), Ok(Modes { pc: true, pv: true, pvh: true, is_64_bit: true }));
    }
}

#[test]
fn notes_far_into_a_packed_kernel_are_found() {
    // The segment and with it the notes come after 200 KiB of something else.
    let mut file = linux();
    let tail = file.split_off(0x1000);
    file.resize(0x32fff, 0xa5);
    file.extend([0; 1]);
    file.extend(tail);
    for i in 0..2 {
        let at = 0x108 + 56 * i;
        let offset = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) + 0x32000;
        file[at..at + 8].copy_from_slice(&offset.to_le_bytes());
    }
    let want = read(&file).unwrap();
    assert!(want.is_pv());
    assert_eq!(read(&packed(&file)), Ok(want));
}

#[test]
fn a_kernel_without_entry_starts_at_its_elf_entry_with_virtual_base_0() {
    // As the Xen Test Framework and Mini-OS have it, the latter in a section only.
    let notes = [xen(6, b"XTF\0"), xen(8, b"generic\0"), xen(2, &0x10_1000u64.to_le_bytes()), xen(5, b"xen-3.0\0")];
    for section in [None, Some((7, ".note"))] {
        let file = elf(true, 0x10_0000, 0x10_0000, &notes.concat(), section);
        let pv = read(&file).unwrap().pv().unwrap();
        assert_eq!((pv.entry, pv.virt_base, pv.paddr_offset), (0x10_0000, 0, 0));
        assert_eq!((pv.hypercall_page, pv.init_p2m, pv.mod_start_pfn), (Some(0x10_1000), None, false));
        let modes = Modes { pc: false, pv: true, pvh: false, is_64_bit: true };
        assert_eq!(Modes::of(&file), Ok(modes));
    }
}

#[test]
fn a_32_bit_header_with_one_note_is_a_pvh_kernel() {
    let mut file = elf(false, 0x10_0000, 0x10_0000, &xen(18, &0x10_0070u32.to_le_bytes()), None);
    for machine in [3, 62] {
        file[18] = machine;
        let n = read(&file).unwrap();
        assert_eq!(n.pvh().unwrap().entry, 0x10_0070);
        assert_eq!(n.pv(), Err(NotesError::NotPv("ENTRY", " or as PVH")));
        assert_eq!(Modes::of(&file), Ok(Modes { pc: false, pv: false, pvh: true, is_64_bit: false }));
    }
    // Linux without anything of Xen but that entry.
    let notes = [xen(18, &0x10_0070u32.to_le_bytes()), note(b"Linux\0", 257, &[0; 4])].concat();
    let modes = Modes { pc: true, pv: false, pvh: true, is_64_bit: false };
    assert_eq!(Modes::of(&elf(false, 0x10_0000, 0x10_0000, &notes, None)), Ok(modes));
}

#[test]
fn where_a_pvh_kernel_may_be_moved_is_read_with_its_defaults() {
    let reloc = |desc: &[u8]| {
        let notes = [xen(18, &0x10_0070u32.to_le_bytes()), xen(19, desc)].concat();
        read(&elf(true, 0, 0x10_0000, &notes, None)).map(|n| n.phys32_reloc.unwrap())
    };
    let words = |w: &[u32]| w.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    assert_eq!(reloc(&[]), Ok(Reloc { align: None, min: 0, max: u32::MAX }));
    assert_eq!(reloc(&words(&[0x20_0000])), Ok(Reloc { align: Some(0x20_0000), min: 0, max: u32::MAX }));
    let all = reloc(&words(&[0x1000, 0x100_0000, 0x3fff_ffff]));
    assert_eq!(all, Ok(Reloc { align: Some(0x1000), min: 0x100_0000, max: 0x3fff_ffff }));
    assert!(matches!(reloc(&words(&[3])), Err(NotesError::Damaged { note: "PHYS32_RELOC", .. })));
}

#[test]
fn physical_addresses_count_from_the_offset_the_kernel_names() {
    let base = 0xffff_ffff_8000_0000u64;
    let notes = [
        xen(8, b"generic\0"),
        xen(5, b"xen-3.0\0"),
        xen(3, &base.to_le_bytes()),
        xen(4, &base.to_le_bytes()),
        xen(1, &(base + 0x20_0010).to_le_bytes()),
    ];
    let file = elf(true, 0, base + 0x20_0000, &notes.concat(), None);
    let pv = read(&file).unwrap().pv().unwrap();
    assert_eq!((pv.start, pv.end, pv.entry), (0x20_0000, 0x20_2000, base + 0x20_0010));
    // Which is how the segments come into memory.
    let image = Image::open(&file).unwrap().shifted(pv.paddr_offset, 0).unwrap();
    assert_eq!((image.elf().start, image.elf().segments[0].paddr, image.elf().end), (0x20_0000, 0x20_0000, 0x20_2000));
    let ram = tabvisor_core::mem::GuestRam::new(4 << 20).unwrap();
    image.elf().check_fits(&ram, |_, _| true, "").unwrap();
    image.place(&ram).unwrap();
    assert_eq!(ram.read_le::<4>(0x20_0400 + 12), *b"Xen\0");
    // An offset that is too large cannot be subtracted.
    assert!(Image::open(&file).unwrap().shifted(u64::MAX, 0).is_err());
}

#[test]
fn the_text_of_old_kernels_is_understood() {
    let text = b"GUEST_OS=linux,GUEST_VER=2.6,XEN_VER=xen-3.0,VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0xC0000000,\
        VIRT_ENTRY=0xC0100000,HYPERCALL_PAGE=0x101,FEATURES=writable_page_tables|!pae_pgdir_above_4gb,PAE=yes,LOADER=generic\0";
    let file = elf(false, 0, 0xc010_0000, text, Some((1, "__xen_guest")));
    let n = read(&file).unwrap();
    assert!(n.legacy);
    assert_eq!((n.pae, n.features), (Pae::Yes, Features { supported: 0x11, required: 0x10 }));
    let pv = n.pv().unwrap();
    assert_eq!((pv.entry, pv.start, pv.paddr_offset), (0xc010_0000, 0x10_0000, 0xc000_0000));
    assert_eq!((pv.hypercall_page, pv.is_64_bit), (Some(0xc010_1000), false));
    // Without the offset, addresses count from VIRT_BASE.
    let at = text.windows(8).position(|w| w == b"ELF_PADD").unwrap();
    let mut shorter = text.to_vec();
    shorter[at] = b'X';
    let n = read(&elf(false, 0, 0xc010_0000, &shorter, Some((1, "__xen_guest")))).unwrap();
    assert_eq!(n.pv().unwrap().paddr_offset, 0xc000_0000);
    let bad = elf(false, 0, 0xc010_0000, b"VIRT_BASE=zero\0", Some((1, "__xen_guest")));
    assert!(matches!(read(&bad), Err(NotesError::Damaged { note: "VIRT_BASE", .. })));
}

#[test]
fn errors_say_what_is_missing_and_what_to_do() {
    let with = |notes: &[Vec<u8>]| read(&elf(true, 0x10_0000, 0x10_0000, &notes.concat(), None));
    let none = with(&[note(b"GNU\0", 3, &[1; 20])]).unwrap_err();
    assert_eq!(none, NotesError::NoNotes);
    assert!(none.to_string().contains("boot it as a PC"));
    let (generic, version) = (xen(8, b"generic\0"), xen(5, b"xen-3.0\0"));
    let pv = |notes: &[Vec<u8>]| with(notes).unwrap().pv().unwrap_err();
    assert_eq!(pv(core::slice::from_ref(&generic)), NotesError::NotPv("XEN_VERSION", ""));
    assert!(matches!(pv(core::slice::from_ref(&version)), NotesError::Loader { .. }));
    assert_eq!(pv(&[generic.clone(), xen(5, b"xen-2.0\0")]), NotesError::Version("xen-2.0".into()));
    let offset = [generic.clone(), version.clone(), xen(4, &[0; 8])];
    assert!(pv(&offset).to_string().contains("VIRT_BASE"));
    let far = [generic.clone(), version.clone(), xen(1, &0x20_0000u64.to_le_bytes())];
    assert!(matches!(pv(&far), NotesError::Damaged { note: "ENTRY", value: 0x20_0000, .. }));
    let page = [generic.clone(), version.clone(), xen(2, &0x10_0800u64.to_le_bytes())];
    assert!(matches!(pv(&page), NotesError::Damaged { note: "HYPERCALL_PAGE", .. }));
    let p2m = [generic.clone(), version.clone(), xen(15, &0x10_0000u64.to_le_bytes())];
    assert!(matches!(pv(&p2m), NotesError::Damaged { note: "INIT_P2M", .. }));
    let pvh = with(&[generic, version]).unwrap().pvh().unwrap_err();
    assert!(pvh.to_string().contains("PHYS32_ENTRY"));
    assert_eq!(with(&[xen(10, b"dom0|!time_travel")]), Err(NotesError::Feature("time_travel".into())));
    assert!(matches!(with(&[xen(1, &[0; 5])]), Err(NotesError::Damaged { note: "ENTRY", value: 5, .. })));
    assert!(matches!(with(&[xen(18, &[1; 8])]), Err(NotesError::Damaged { note: "PHYS32_ENTRY", .. })));
}

#[test]
fn a_last_note_that_is_cut_off_is_taken_as_far_as_it_goes() {
    let mut notes = [xen(18, &0x10_0070u32.to_le_bytes()), xen(9, b"yes,bimodal\0")].concat();
    notes.truncate(notes.len() - 8);
    assert_eq!(read(&elf(true, 0, 0x10_0000, &notes, None)).unwrap().phys32_entry, Some(0x10_0070));
    let mut long = xen(18, &0x10_0070u32.to_le_bytes());
    long.extend([0xff; 12]);
    assert!(matches!(read(&elf(true, 0, 0x10_0000, &long, None)), Err(NotesError::Damaged { note: "name", .. })));
}

#[test]
fn files_that_end_anywhere_and_random_damage_are_survived() {
    let text = b"GUEST_OS=linux,VIRT_BASE=0xC0000000,HYPERCALL_PAGE=0xffffffffffffffff,PAE=yes\0";
    let files = [
        linux(),
        packed(&linux()),
        elf(true, 0, 0x10_0000, &linux_notes(), Some((7, ".notes"))),
        elf(false, 0, 0xc010_0000, text, Some((1, "__xen_guest"))),
    ];
    let try_all = |file: &[u8]| {
        let _ = Modes::of(file);
        if let Ok(n) = read(file) {
            let _ = (n.pv(), n.pvh());
        }
    };
    let mut x = 3u32;
    let mut random = move |n: usize| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as usize % n
    };
    for file in files {
        for n in 0..file.len() {
            try_all(&file[..n]);
        }
        // Headers, section headers and notes; a packed file is damaged anywhere, its sums then made right.
        for _ in 0..20_000 {
            let mut bad = file.clone();
            for _ in 0..=random(4) {
                let from = [0, 0x100, 0x200, 0xe00, 0x1400, random(bad.len())][random(6)];
                let at = (from + random(0x100)).min(bad.len() - 1);
                bad[at] = [0, 0xff, 1, 0x7f, 0x80, random(256) as u8][random(6)];
            }
            if bad.starts_with(&pack::MAGIC) && bad.len() > 32 {
                let sum = pack::adler32(&bad[32..]).to_le_bytes();
                bad[28..32].copy_from_slice(&sum);
            }
            try_all(&bad);
        }
    }
}

#[test]
fn the_kernel_that_has_been_built_here_is_for_both_kinds_of_domain() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/out/linux64/vmlinux.pack");
    let Ok(file) = std::fs::read(&path) else {
        eprintln!("SKIPPED: there is no {}; `cargo xtask image linux64` makes it", path.display());
        return;
    };
    let n = read(&file).unwrap();
    assert_eq!(n.guest_os.as_deref(), Some("linux"));
    assert!(n.pv().unwrap().is_64_bit && n.pvh().unwrap().entry > 0x10_0000);
    assert!(Modes::of(&file).unwrap().pc);
}
