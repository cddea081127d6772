//! Loading whole kernels, good and bad. The kernels are made here, by the books.

use super::pack;
use super::*;

const RAM: u64 = 64 << 20;

fn ram() -> GuestRam {
    GuestRam::new(RAM).unwrap()
}
fn u32_at(ram: &GuestRam, at: u64) -> u32 {
    u32::from_le_bytes(ram.read_le::<4>(at))
}
fn u64_at(ram: &GuestRam, at: u64) -> u64 {
    u64::from_le_bytes(ram.read_le::<8>(at))
}
fn put(to: &mut [u8], at: usize, b: &[u8]) {
    to[at..at + b.len()].copy_from_slice(b);
}

/// A bzImage with 3 setup sectors and 0x1000 bytes of code, each byte of which tells its place.
fn bzimage(xloadflags: u16) -> Vec<u8> {
    let mut k = vec![0u8; 4 * 512];
    k[0x1f1] = 3;
    put(&mut k, 0x1f4, &0x100u32.to_le_bytes());
    put(&mut k, 0x1fe, &0xaa55u16.to_le_bytes());
    put(&mut k, 0x200, &[0xeb, 0x6a]);
    put(&mut k, 0x202, b"HdrS");
    put(&mut k, 0x206, &0x20fu16.to_le_bytes());
    put(&mut k, 0x20e, &0x300u16.to_le_bytes());
    k[0x211] = 1;
    put(&mut k, 0x22c, &0x37ff_ffffu32.to_le_bytes());
    put(&mut k, 0x230, &0x20_0000u32.to_le_bytes());
    put(&mut k, 0x236, &xloadflags.to_le_bytes());
    put(&mut k, 0x238, &100u32.to_le_bytes());
    put(&mut k, 0x258, &0x100_0000u64.to_le_bytes());
    put(&mut k, 0x260, &0x100_0000u32.to_le_bytes());
    put(&mut k, 0x500, b"9.9.9-test (x)\0");
    k.extend((0..0x1000u32).map(|i| (i * 7) as u8));
    k
}

/// An ELF executable with a code segment at 16 MiB and a data segment with 0x3000 bytes of bss.
fn elf(is_64_bit: bool) -> Vec<u8> {
    let mut k = vec![0u8; 0x1800];
    let code: Vec<u8> = (0..0x800u32).map(|i| (i * 5 + 1) as u8).collect();
    put(&mut k, 0, b"\x7fELF\x02\x01\x01");
    put(&mut k, 16, &2u16.to_le_bytes());
    let segments = [
        (0x1000u64, 0xc100_0000u64, 0x100_0000u64, 0x800u64, 0x800u64),
        (0x1000, 0xc110_0000, 0x110_0000, 0x800, 0x3800),
    ];
    let base: u64 = if is_64_bit { 0xffff_ffff_0000_0000 } else { 0 };
    if is_64_bit {
        put(&mut k, 18, &62u16.to_le_bytes());
        put(&mut k, 24, &0x100_0040u64.to_le_bytes());
        put(&mut k, 32, &64u64.to_le_bytes());
        put(&mut k, 54, &56u16.to_le_bytes());
        put(&mut k, 56, &2u16.to_le_bytes());
        for (i, (off, v, p, f, m)) in segments.into_iter().enumerate() {
            let at = 64 + 56 * i;
            put(&mut k, at, &1u32.to_le_bytes());
            for (j, x) in [off, base + v, p, f, m].into_iter().enumerate() {
                put(&mut k, at + 8 + 8 * j, &x.to_le_bytes());
            }
        }
    } else {
        k[4] = 1;
        put(&mut k, 18, &3u16.to_le_bytes());
        put(&mut k, 24, &0x100_0040u32.to_le_bytes());
        put(&mut k, 28, &52u32.to_le_bytes());
        put(&mut k, 42, &32u16.to_le_bytes());
        put(&mut k, 44, &2u16.to_le_bytes());
        for (i, (off, v, p, f, m)) in segments.into_iter().enumerate() {
            let at = 52 + 32 * i;
            put(&mut k, at, &1u32.to_le_bytes());
            for (j, x) in [off, v, p, f, m].into_iter().enumerate() {
                put(&mut k, at + 4 + 4 * j, &(x as u32).to_le_bytes());
            }
        }
    }
    put(&mut k, 0x1000, &code);
    k
}

/// Packs as the image builder does.
fn packed(file: &[u8], chunk: u32) -> Vec<u8> {
    let chunks: Vec<Vec<u8>> = file
        .chunks(chunk as usize)
        .map(|raw| {
            let p = lz4_flex::block::compress(raw);
            if p.len() < raw.len() { p } else { raw.to_vec() }
        })
        .collect();
    let mut out = pack::MAGIC.to_vec();
    out.extend((file.len() as u64).to_le_bytes());
    out.extend(chunk.to_le_bytes());
    out.extend((chunks.len() as u32).to_le_bytes());
    for c in &chunks {
        out.extend((c.len() as u32).to_le_bytes());
        out.extend(pack::adler32(c).to_le_bytes());
    }
    out.extend(chunks.concat());
    out
}

fn boot(ram: &GuestRam, kernel: &[u8], initrd: &[u8]) -> Result<Entry, BootError> {
    direct(ram, &Files { kernel, initrd, cmdline: "console=ttyS0" }, &acpi::Board::default())
}

#[test]
fn a_64_bit_bzimage_is_entered_in_64_bit_mode() {
    let ram = ram();
    let (k, initrd) = (bzimage(1), vec![0x5a; 10_000]);
    let e = boot(&ram, &k, &initrd).unwrap();
    assert!(e.is_64_bit());
    assert_eq!((e.rip, e.rsi), (0x10_0200, layout::ZERO_PAGE));
    // The code is at 1 MiB.
    let mut code = vec![0; 0x1000];
    ram.read(0x10_0000, &mut code);
    assert_eq!(code, k[4 * 512..]);
    // Zero page: header copied up to its stated end, our fields filled in.
    let z = layout::ZERO_PAGE;
    assert_eq!(ram.read_le::<4>(z + 0x202), *b"HdrS");
    assert_eq!(ram.read_le::<1>(z + 0x210), [0xff]);
    assert_eq!(u32_at(&ram, z + 0x214), 0x10_0000);
    assert_eq!(u32_at(&ram, z + 0x260), 0x100_0000);
    assert_eq!(ram.read_le::<1>(z + 0x1ef), [0], "the sentinel says that a boot loader cleared the rest");
    assert_eq!(u64_at(&ram, z + 0x70), layout::ROM_AREA);
    assert_eq!(ram.read_le::<8>(layout::ROM_AREA), *b"RSD PTR ");
    let at = u32_at(&ram, z + 0x228);
    assert_eq!(ram.read_le::<14>(at.into()), *b"console=ttyS0\0");
    // The initrd is high, on a page of its own, above what the kernel unpacks to.
    let (at, size) = (u64::from(u32_at(&ram, z + 0x218)), u32_at(&ram, z + 0x21c));
    assert_eq!((size, at % 0x1000), (10_000, 0));
    assert!(at >= 0x200_0000 && at + u64::from(size) <= RAM);
    let mut got = vec![0; 10_000];
    ram.read(at, &mut got);
    assert_eq!(got, initrd);
}

#[test]
fn the_memory_map_covers_ram_without_overlap() {
    let ram = ram();
    boot(&ram, &bzimage(1), &[]).unwrap();
    let z = layout::ZERO_PAGE;
    let n = ram.read_le::<1>(z + 0x1e8)[0];
    let (mut last, mut usable) = (0, 0);
    for i in 0..u64::from(n) {
        let at = z + 0x2d0 + 20 * i;
        let (from, len, kind) = (u64_at(&ram, at), u64_at(&ram, at + 8), u32_at(&ram, at + 16));
        assert!(from >= last && len > 0);
        last = from + len;
        if kind == 1 {
            usable += len;
            assert!(last <= RAM);
        }
    }
    assert_eq!(usable, RAM - 0x10_0000 + layout::LOW_RAM_END);
    assert_eq!(u32_at(&ram, z + 0x21c), 0, "no initrd");
}

#[test]
fn other_bzimages_are_entered_in_protected_mode() {
    let ram = ram();
    let e = boot(&ram, &bzimage(0), &[]).unwrap();
    assert!(!e.is_64_bit());
    assert_eq!((e.rip, e.cr0 >> 31), (0x10_0000, 0));
}

#[test]
fn elf_segments_land_at_their_physical_addresses() {
    for is_64_bit in [true, false] {
        let file = elf(is_64_bit);
        for kernel in [file.clone(), packed(&file, pack::MIN_CHUNK)] {
            let ram = ram();
            // A reset machine's RAM is not clean.
            ram.write(0x110_0800, &[0xee; 0x3000]);
            let e = boot(&ram, &kernel, b"initrd").unwrap();
            assert_eq!((e.rip, e.is_64_bit()), (0x100_0040, is_64_bit));
            for at in [0x100_0000, 0x110_0000] {
                let mut got = vec![0; 0x800];
                ram.read(at, &mut got);
                assert_eq!(got, file[0x1000..]);
            }
            let mut bss = vec![1; 0x3000];
            ram.read(0x110_0800, &mut bss);
            assert!(bss.iter().all(|b| *b == 0));
            assert_eq!(ram.read_le::<4>(layout::ZERO_PAGE + 0x202), *b"HdrS");
        }
    }
}

#[test]
fn a_virtual_entry_point_is_translated() {
    let mut k = elf(true);
    put(&mut k, 24, &0xffff_ffff_c100_0123u64.to_le_bytes());
    assert_eq!(boot(&ram(), &k, &[]).unwrap().rip, 0x100_0123);
    put(&mut k, 24, &0x1234u64.to_le_bytes());
    assert!(matches!(boot(&ram(), &k, &[]), Err(BootError::Damaged { what: "its entry point", .. })));
}

#[test]
fn a_pack_of_many_chunks_is_whole() {
    let mut file = elf(true);
    // A second megabyte of data that does not compress, in the last segment.
    let mut x = 1u64;
    let noise: Vec<u8> = (0..1_000_000)
        .map(|_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 56) as u8
        })
        .collect();
    file.extend(&noise);
    let at = 64 + 56;
    put(&mut file, at + 8, &0x1800u64.to_le_bytes());
    put(&mut file, at + 32, &1_000_000u64.to_le_bytes());
    put(&mut file, at + 40, &1_000_000u64.to_le_bytes());
    let ram = ram();
    boot(&ram, &packed(&file, pack::MIN_CHUNK), &[]).unwrap();
    let mut got = vec![0; noise.len()];
    ram.read(0x110_0000, &mut got);
    assert_eq!(got, noise);
}

#[test]
fn every_truncation_is_an_error_that_says_so() {
    let ram = ram();
    let (e32, e64) = (elf(false), elf(true));
    for (whole, magic) in
        [(bzimage(1), 0x206), (e64.clone(), 4), (e32, 4), (multiboot_kernel(3), 4), (packed(&e64, pack::MIN_CHUNK), 8)]
    {
        boot(&ram, &whole, &[]).unwrap();
        for n in 0..whole.len() {
            match boot(&ram, &whole[..n], &[]) {
                Err(BootError::Truncated { needs, has, .. }) => assert!(n >= magic && needs > has),
                Err(BootError::NotAKernel(_)) => assert!(n < magic, "{n}"),
                other => panic!("{n} of {} bytes: {other:?}", whole.len()),
            }
        }
    }
}

#[test]
fn too_little_memory_says_how_much_would_do() {
    for kernel in [bzimage(1), elf(true)] {
        let small = GuestRam::new(16 << 20).unwrap();
        let Err(BootError::NeedsMemory { needs, has, .. }) = boot(&small, &kernel, &[]) else { panic!() };
        assert_eq!(has, 16 << 20);
        boot(&GuestRam::new(needs.next_multiple_of(4096)).unwrap(), &kernel, &[]).unwrap();
    }
    let initrd = vec![1; 40 << 20];
    let Err(BootError::InitrdTooLarge { needs: Some(needs), .. }) = boot(&ram(), &bzimage(1), &initrd) else {
        panic!()
    };
    boot(&GuestRam::new(needs).unwrap(), &bzimage(1), &initrd).unwrap();
    assert!(matches!(boot(&GuestRam::new(4096).unwrap(), &elf(true), &[]), Err(BootError::NeedsMemory { .. })));
}

#[test]
fn an_initrd_beyond_the_kernels_reach_cannot_be_helped_by_memory() {
    let mut k = bzimage(1);
    put(&mut k, 0x22c, &0x200_0fffu32.to_le_bytes());
    boot(&ram(), &k, &[7; 0x1000]).unwrap();
    let e = boot(&ram(), &k, &[7; 0x1001]).unwrap_err();
    assert_eq!(e, BootError::InitrdTooLarge { size: 0x1001, room: 0x1000, needs: None });
    assert!(e.to_string().contains("more memory would not help"));
}

#[test]
fn command_lines_are_checked_against_the_kernel() {
    let ram = ram();
    let with = |kernel: &[u8], cmdline: &str| {
        linux::load(&ram, &Files { kernel, initrd: &[], cmdline }, &linux::Platform::default())
    };
    assert!(with(&bzimage(1), &"x".repeat(100)).is_ok());
    let e = with(&bzimage(1), &"x".repeat(101)).unwrap_err();
    assert_eq!(e, BootError::CommandLineTooLong { len: 101, max: 100 });
    assert_eq!(
        with(&elf(true), &"x".repeat(2048)).unwrap_err(),
        BootError::CommandLineTooLong { len: 2048, max: 2047 }
    );
    assert_eq!(with(&elf(true), "a\0b").unwrap_err(), BootError::CommandLineZero(1));
}

#[test]
fn other_files_are_recognised() {
    let says = |k: &[u8]| boot(&ram(), k, &[]).unwrap_err().to_string();
    assert!(says(b"").contains("is empty"));
    assert!(says(b"\x1f\x8b\x08\0\0\0").contains("gzip"));
    assert!(says(b"<!DOCTYPE html>").contains("web page"));
    assert!(says(&[0xcc; 4096]).contains("begins with cc cc cc cc"));
    let mut arm = elf(true);
    arm[18] = 183;
    assert!(says(&arm).contains("another machine"));
    let mut old = bzimage(0);
    put(&mut old, 0x206, &0x200u16.to_le_bytes());
    assert!(says(&old).contains("protocol 2.00"));
    assert!(says(&packed(&[0; 100_000], pack::MIN_CHUNK)).contains("not an ELF"));
}

#[test]
fn the_version_is_read_from_the_header() {
    assert_eq!(linux::version(&bzimage(1)), Some("9.9.9-test (x)"));
    assert_eq!(linux::version(&elf(true)), None);
    assert_eq!(linux::version(&bzimage(1)[..0x400]), None);
}

/// Random damage to the headers never panics, and what still loads lies inside RAM.
#[test]
fn damaged_headers_are_refused_or_harmless() {
    let ram = ram();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let e64 = elf(true);
    let kernels = [
        (bzimage(1), 0x1f1, 0x80),
        (e64.clone(), 0, 176),
        (elf(false), 0, 116),
        (packed(&e64, pack::MIN_CHUNK), 0, 300),
    ];
    let (mut loaded, mut refused) = (0, 0);
    for i in 0..40_000u32 {
        let (kernel, from, len) = &kernels[i as usize % kernels.len()];
        let mut k = kernel.clone();
        for _ in 0..1 + next() % 3 {
            let at = from + next() as usize % len;
            let width = 1 << (next() % 4);
            let interesting =
                [0, 1, u64::MAX, u64::MAX >> 1, 0x8000_0000, 0xffff_f000, RAM, RAM - 1, next(), next() & 0xffff];
            let value = interesting[next() as usize % interesting.len()].to_le_bytes();
            let end = k.len().min(at + width);
            k[at..end].copy_from_slice(&value[..end - at]);
        }
        match boot(&ram, &k, b"an initrd") {
            Ok(e) => {
                loaded += 1;
                assert!(ram.contains(e.rip, 1), "{e:?}");
            }
            Err(e) => {
                refused += 1;
                assert!(e.to_string().len() > 20);
            }
        }
    }
    assert!(loaded > 1000 && refused > 1000, "{loaded} loaded, {refused} refused");
}

/// The 32-bit ELF executable with a Multiboot header of these flags.
fn multiboot_kernel(flags: u32) -> Vec<u8> {
    let mut k = elf(false);
    for (i, w) in [0x1bad_b002, flags, 0u32.wrapping_sub(0x1bad_b002).wrapping_sub(flags)].into_iter().enumerate() {
        put(&mut k, 0x204 + 4 * i, &w.to_le_bytes());
    }
    k
}

#[test]
fn a_multiboot_kernel_is_told_of_memory_command_line_and_module() {
    let ram = ram();
    let e = boot(&ram, &multiboot_kernel(3), b"a module").unwrap();
    assert!(!e.is_64_bit());
    assert_eq!((e.rip, e.rax, e.rbx), (0x100_0040, 0x2bad_b002, layout::MULTIBOOT));
    let word = |at| u64::from(u32_at(&ram, at));
    let info = layout::MULTIBOOT;
    let text = |at: u64, n: usize| {
        let mut b = vec![0; n];
        ram.read(at, &mut b);
        b
    };
    // Multiboot 3.3: memory in KiB, command line, modules, memory map, loader name.
    assert_eq!(word(info) & 0x24d, 0x24d);
    assert_eq!((word(info + 4), word(info + 8)), (639, (RAM >> 10) - 1024));
    assert_eq!(text(word(info + 16), 14), b"console=ttyS0\0");
    assert_eq!(word(info + 20), 1);
    let module = word(info + 24);
    assert_eq!((word(module) & 0xfff, word(module + 4) - word(module)), (0, 8));
    assert_eq!(text(word(module), 8), b"a module");
    assert_eq!(text(word(info + 64), 9), b"Tabvisor\0");
    let (mut at, end) = (word(info + 48), word(info + 48) + word(info + 44));
    let mut usable = 0;
    while at < end {
        usable += if word(at + 20) == 1 { u64_at(&ram, at + 12) } else { 0 };
        at += word(at) + 4;
    }
    assert_eq!((at, usable), (end, RAM - (1 << 20) + layout::LOW_RAM_END));
}

#[test]
fn a_multiboot_kernel_may_lie_in_low_memory_but_not_on_its_tables() {
    let at = |paddr: u32| {
        let mut k = multiboot_kernel(0);
        put(&mut k, 24, &(paddr + 0x40).to_le_bytes());
        put(&mut k, 52 + 8, &paddr.to_le_bytes());
        put(&mut k, 52 + 12, &paddr.to_le_bytes());
        boot(&ram(), &k, &[])
    };
    assert_eq!(at(0x8000).unwrap().rip, 0x8040);
    for bad in [0x1800, 0x9_f800, 0xf_0000] {
        assert!(matches!(at(bad), Err(BootError::Damaged { value, .. }) if value == u64::from(bad)), "{bad:x}");
    }
}

#[test]
fn multiboot_demands_that_are_not_met_are_refused() {
    for flags in [4, 1 << 15, 1 << 16] {
        let e = boot(&ram(), &multiboot_kernel(flags), &[]).unwrap_err();
        assert!(e.to_string().contains("Multiboot flags"), "{e}");
    }
    // A header that does not add up is none: Linux's protocol, and its tables.
    let mut k = multiboot_kernel(0);
    put(&mut k, 0x208, &[1]);
    assert_eq!(boot(&ram(), &k, &[]).unwrap().rsi, layout::ZERO_PAGE);
    let long = "x".repeat(4000);
    let files = Files { kernel: &multiboot_kernel(0), initrd: &[], cmdline: &long };
    assert!(matches!(
        direct(&ram(), &files, &acpi::Board::default()),
        Err(BootError::CommandLineTooLong { len: 4000, .. })
    ));
}

#[test]
fn any_part_of_a_kernel_can_be_read_packed_or_not() {
    let mut file = elf(true);
    file.extend((0..0x3_0000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8));
    let packed = packed(&file, pack::MIN_CHUNK);
    let (a, b) = (elf::Image::open(&file).unwrap(), elf::Image::open(&packed).unwrap());
    let len = file.len() as u64;
    for (offset, size) in
        [(0, 4), (0xfff0, 0x20), (0x8000, 0x2_0000), (0x1_0000, 0x1_0000), (len - 1, 1), (len, 0), (0, len)]
    {
        let part = elf::Part { offset, size };
        let want = &file[offset as usize..(offset + size) as usize];
        assert!(a.read(part, "it").unwrap() == want && b.read(part, "it").unwrap() == want, "{part:x?}");
    }
    for (offset, size) in [(len, 1), (0, len + 1), (u64::MAX, 1), (1, u64::MAX)] {
        let part = elf::Part { offset, size };
        for image in [&a, &b] {
            assert!(matches!(image.read(part, "it"), Err(BootError::Truncated { what: "it", .. })));
        }
    }
}

#[test]
fn a_64_bit_machine_with_32_bit_headers_is_for_protected_mode() {
    let mut k = elf(false);
    put(&mut k, 18, &62u16.to_le_bytes());
    assert!(!boot(&ram(), &k, &[]).unwrap().is_64_bit());
    let mut k = elf(true);
    put(&mut k, 18, &3u16.to_le_bytes());
    assert!(matches!(boot(&ram(), &k, &[]), Err(BootError::NotAKernel(_))));
}
