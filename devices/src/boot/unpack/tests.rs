//! Unpacking kernels, good and bad.

use super::vectors::ALL;
use super::*;

/// What the vectors hold: something like code, texts, zeros, and repeats near, far and of every length.
pub(super) fn sample() -> Vec<u8> {
    let mut x = 1u32;
    let mut noise = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    let noise: Vec<u8> = (0..64).map(|_| noise()).collect();
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.extend(&noise);
    for i in 0..48u32 {
        // mov rdi, rax; call 4000h: the filter for x86 makes all these calls alike.
        let call = 0x4000u32.wrapping_sub(out.len() as u32 + 8);
        out.extend(b"\x48\x89\xc7\xe8");
        out.extend(call.to_le_bytes());
        out.extend(format!("line {}\n", i * i % 37).bytes());
    }
    out.extend([0; 17_000]);
    out.extend(&noise);
    out.extend_from_within(100..400);
    for i in 0..64 {
        out.push(noise[i]);
        out.extend(&noise[i..64.min(i + 2)]);
    }
    out.extend([0xff; 300]);
    out.extend(&noise[..20]);
    out.extend(&noise[..9]);
    out
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn vectors() -> impl Iterator<Item = (Format, Vec<u8>)> {
    ALL.into_iter().map(|(format, hex)| (format, unhex(hex)))
}

/// A bzImage with one setup sector, whose payload begins 16 bytes behind it.
fn bzimage_of(payload: &[u8]) -> Vec<u8> {
    let mut k = vec![0; 1024];
    k[0x1f1] = 1;
    k[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    k[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
    k[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    k.extend([0; 16]);
    k.extend(payload);
    k
}

/// What Linux's build puts into a bzImage.
fn payload(format: Format, data: &[u8], size: u32) -> Vec<u8> {
    let mut p = data.to_vec();
    if format != Format::Gzip {
        p.extend(size.to_le_bytes());
    }
    p
}

#[test]
fn every_format_unpacks_to_the_same_kernel() {
    let want = sample();
    for (format, data) in vectors() {
        assert_eq!(Format::of(&data), Some(format));
        assert!(kernel(&data).unwrap() == want, "{format}");
        let boxed = bzimage_of(&payload(format, &data, want.len() as u32));
        assert!(kernel(&boxed).unwrap() == want, "{format} in a bzImage");
    }
    assert!(kernel(&bzimage_of(&want)).unwrap() == want, "not compressed at all");
    assert!(matches!(kernel(&want), Ok(Cow::Borrowed(_))));
}

#[test]
fn a_kernel_that_ends_anywhere_is_an_error() {
    let want = sample();
    for (format, data) in vectors() {
        let stated = Some(want.len() as u64);
        for n in 0..data.len() {
            match unpack(&data[..n], format, stated) {
                Err(_) => {}
                // Nothing checks an end marker once all is there.
                Ok(got) => assert!(format == Format::Lzma && n + 8 > data.len() && got == want, "{format} to {n}"),
            }
        }
        let whole = bzimage_of(&payload(format, &data, want.len() as u32));
        for n in 0..whole.len() {
            assert!(kernel(&whole[..n]).is_err(), "{format} to {n} of the file");
        }
    }
}

#[test]
fn damage_is_survived_and_found_where_there_are_checksums() {
    let want = sample();
    let mut x = 7u32;
    let mut random = move |n: usize| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as usize % n
    };
    for (format, data) in vectors() {
        for _ in 0..3000 {
            let mut bad = data.clone();
            for _ in 0..=random(3) {
                let at = random(bad.len());
                bad[at] ^= 1 << random(8);
            }
            let Ok(got) = unpack(&bad, format, Some(want.len() as u64)) else { continue };
            assert_eq!(got.len(), want.len());
            let checked = !matches!(format, Format::Lzma | Format::Lz4 | Format::Lzo);
            assert!(!checked || got == want, "{format}: {bad:02x?}");
        }
    }
}

#[test]
fn only_the_stated_size_comes_out() {
    let n = sample().len() as u64;
    for (format, data) in vectors() {
        assert_eq!(unpack(&data, format, Some(n - 1)), Err(UnpackError::TooLarge { limit: n - 1 }), "{format}");
        assert_eq!(
            unpack(&data, format, Some(n + 1)),
            Err(UnpackError::WrongSize { has: n, stated: n + 1 }),
            "{format}"
        );
        assert_eq!(unpack(&data, format, Some(0)), Err(UnpackError::TooLarge { limit: 0 }), "{format}");
        let huge = unpack(&data, format, Some(u32::MAX.into()));
        assert_eq!(huge, Err(UnpackError::TooLarge { limit: MAX_UNPACKED }), "{format}");
    }
}

#[test]
fn a_bomb_is_an_error() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gz, &vec![0; 16 << 20]).unwrap();
    let mut bomb = gz.finish().unwrap();
    let at = bomb.len() - 4;
    bomb[at..].copy_from_slice(&1000u32.to_le_bytes());
    assert_eq!(kernel(&bzimage_of(&bomb)), Err(UnpackError::TooLarge { limit: 1000 }));
}

#[test]
fn windows_beyond_what_kernels_use_are_refused() {
    let find = |wanted| vectors().find(|(format, _)| *format == wanted).unwrap().1;
    let mut lzma = find(Format::Lzma);
    lzma[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(unpack(&lzma, Format::Lzma, None), Err(UnpackError::Damaged { .. })));
    let mut zstd = find(Format::Zstd);
    // RFC 8878, 3.1.1.1.2: the byte after the frame header's descriptor; 255 is 3.75 TiB.
    assert_eq!(zstd[4] & 0x20, 0, "the vector states a window");
    zstd[5] = 0xff;
    assert!(matches!(unpack(&zstd, Format::Zstd, None), Err(UnpackError::Damaged { .. })));
}

#[test]
fn errors_say_what_and_what_to_do() {
    let text = |file: &[u8]| kernel(file).unwrap_err().to_string();
    let mut old = bzimage_of(b"");
    old[0x206] = 5;
    assert!(text(&old).contains("protocol 2.05") && text(&old).contains("boot it as a PC"));
    assert!(text(&bzimage_of(b"abcdefgh")).contains("begins with 61 62 63 64"));
    assert!(text(&bzimage_of(b"")).contains("begins with nothing"));
    assert!(text(b"hello").contains("neither a bzImage nor an ELF"));
    let (_, mut gz) = vectors().next().unwrap();
    gz[300] ^= 0xff;
    assert!(text(&gz).contains("the gzip data in the kernel file is damaged"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, b"a text").unwrap();
    assert_eq!(kernel(&encoder.finish().unwrap()), Err(UnpackError::NotElf));
}

/// A file of lzop with one block.
fn lzop(flags: u32, raw: u32, sums: &[u32], packed: &[u8]) -> Vec<u8> {
    let mut f = b"\x89LZO\0\r\n\x1a\n\x10\x40\x20\xa0\x09\x40\x03\x09".to_vec();
    f.extend(flags.to_be_bytes());
    f.extend([0; 12]);
    f.extend([0; 5]); // no name; the header's checksum
    f.extend(raw.to_be_bytes());
    f.extend((packed.len() as u32).to_be_bytes());
    for s in sums {
        f.extend(s.to_be_bytes());
    }
    f.extend(packed);
    f.extend([0; 4]);
    f
}

#[test]
fn each_instruction_of_lzo_does_what_the_kernels_paper_says() {
    let end: &[u8] = &[0x11, 0, 0];
    let text: Vec<u8> = (0..238).collect();
    let literals = [&[255][..], &text].concat();
    let case = |code: &[u8], tail: &[u8], want_tail: Vec<u8>| {
        let mut got = vec![0; 238 + want_tail.len()];
        super::lzop::lzo1x(&[&literals, code, tail, end].concat(), &mut got).unwrap();
        assert!(got[..238] == text && got[238..] == want_tail, "{code:02x?}");
    };
    // 1LLDDDSS: 5 to 8 bytes within 2 KiB; then S literals.
    case(&[0x80 | 3 << 5 | 7 << 2 | 2, 1], b"xy", [&text[222..230], b"xy"].concat());
    // 01LDDDSS: 3 or 4.
    case(&[0x40 | 1 << 5 | 3 << 2, 0], b"", text[234..238].to_vec());
    // 001LLLLL, with a long length that overlaps itself; distance 1.
    case(&[0x20, 0, 4, 0, 0], b"", vec![237; 2 + 31 + 255 + 4]);
    // 0000DDSS after one to three literals: 2 bytes within 1 KiB.
    case(
        &[0x40 | 1, 0, b'z', 2 << 2, 1],
        b"",
        [&text[237..], &text[237..], &text[237..], b"z", &text[235..237]].concat(),
    );
    // 0000LLLL after none: a run of literals; after it 0000DDSS copies 3 bytes from 2 to 3 KiB.
    let long = vec![9; 2100];
    let run = [&[0x40, 0, 0][..], &[0; 8], &[(2100 - 18 - 8 * 255) as u8], &long, &[1 << 2, 0]].concat();
    let from = 238 + 3 + 2100 - 2050;
    let mut all = [text.clone(), vec![237; 3], long.clone()].concat();
    all.extend_from_within(from..from + 3);
    case(&run, b"", all[238..].to_vec());
    // 0001HLLL: from 16 KiB on.
    let mut far = vec![0x20];
    let zeros = 16384 + 100 - 238;
    far.extend(vec![0; (zeros - 33) / 255]);
    far.push(((zeros - 33) % 255) as u8);
    far.extend([0, 0, 0x10 | 6]);
    far.extend((100u16 << 2).to_le_bytes());
    case(&far, b"", [vec![237; zeros], text[..8].to_vec()].concat());
}

#[test]
fn lzo_streams_that_break_the_rules_are_errors() {
    let bad = |n: u32, packed: &[u8]| {
        let got = unpack(&lzop(0, n, &[], packed), Format::Lzo, None);
        assert!(matches!(got, Err(UnpackError::Damaged { .. })), "{packed:02x?}: {got:?}");
    };
    bad(20, &[18, b'a', 0x40, 9, 0x11, 0, 0]); // from before the beginning
    bad(20, &[18, b'a', 0x11, 0, 0]); // too short
    bad(3, &[21, b'a', b'b', b'c', b'd', 0x11, 0, 0]); // packed is longer than raw
    bad(300, &[17, 1, 0x11, 0, 0]); // LZO-RLE
    bad(300, &[0; 40]); // a length that does not end
    bad(40_000, &[18, b'a', 0x11, 0, 0]); // no such ratio
    bad(u32::MAX, &[18, b'a', 0x11, 0, 0]);
}

#[test]
fn lzops_checksums_and_stored_blocks_are_read() {
    let sum = crate_adler(b"\x7fELFabcd");
    let stored = lzop(1 | 2, 8, &[sum], b"\x7fELFabcd");
    assert_eq!(kernel(&stored).unwrap(), &b"\x7fELFabcd"[..]);
    let wrong = lzop(1, 8, &[sum ^ 1], b"\x7fELFabcd");
    assert!(matches!(kernel(&wrong), Err(UnpackError::Damaged { format: Format::Lzo, .. })));
    // Four literals and a repeat of distance 4: packed, so both kinds of sums are there.
    let packed = [21, b'a', b'b', b'c', b'd', 0x20 | 18, 3 << 2, 0, 0x11, 0, 0];
    let want = b"abcd".repeat(6);
    let sums = [crate_adler(&want), 0, 0, 0];
    let got = unpack(&lzop(0x303, 24, &sums, &packed), Format::Lzo, Some(24));
    assert_eq!(got.unwrap(), want);
}

fn crate_adler(data: &[u8]) -> u32 {
    super::super::pack_format::adler32(data)
}

#[test]
fn kernels_that_have_been_built_here_unpack() {
    let out = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/out");
    for image in ["linux64", "linux32"] {
        let path = out.join(image).join("bzImage");
        let Ok(file) = std::fs::read(&path) else {
            eprintln!("SKIPPED: there is no {}; `cargo xtask image {image}` makes it", path.display());
            continue;
        };
        let elf = kernel(&file).unwrap();
        assert!(elf.starts_with(b"\x7fELF") && elf.len() > 2 * file.len(), "{image}");
    }
}
