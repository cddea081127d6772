//! Repacking a distribution's kernel: out of the bzImage, into the container of
//! `tabvisor_devices::boot::pack`, which the page unpacks in a fraction of a second. A kernel that
//! unpacks itself needs billions of instructions for it, and an emulator has to run each of them.
//! The code and data of the kernel stay as they are: only what is not loaded is left out.

use super::lz4;
use anyhow::{Context, Result, ensure};

/// The container's own file: depending on its crate would compile a whole CPU for five constants.
#[allow(dead_code, reason = "the builder writes; what it does not need is for the reader")]
#[path = "../../../devices/src/boot/pack_format.rs"]
mod pack_format;

/// The devices' own unpacking, for the same reason.
#[path = "../../../devices/src/boot/unpack/mod.rs"]
mod unpack;

/// Bytes per chunk of the packed kernel.
const CHUNK: usize = 1 << 20;

/// Unpacks an xz file, filters for machine code included.
pub fn unxz(data: &[u8]) -> Result<Vec<u8>> {
    Ok(unpack::unpack(data, unpack::Format::Xz, None)?)
}

/// The ELF executable inside a bzImage.
pub fn extract(bzimage: &[u8]) -> Result<Vec<u8>> {
    Ok(unpack::kernel(bzimage)?.into_owned())
}

/// Where an ELF class keeps the fields we change.
struct Layout {
    header: usize,
    program_headers: (usize, usize),
    sections: (usize, usize),
    counts: usize,
    entry: usize,
    offset: usize,
    file_size: usize,
    width: usize,
}
const ELF32: Layout = Layout {
    header: 52,
    program_headers: (28, 4),
    sections: (32, 4),
    counts: 44,
    entry: 32,
    offset: 4,
    file_size: 16,
    width: 4,
};
const ELF64: Layout = Layout {
    header: 64,
    program_headers: (32, 8),
    sections: (40, 8),
    counts: 56,
    entry: 56,
    offset: 8,
    file_size: 32,
    width: 8,
};

fn get(data: &[u8], at: usize, n: usize) -> Result<usize> {
    let mut b = [0; 8];
    b[..n].copy_from_slice(data.get(at..at.saturating_add(n)).context("an ELF header lies outside of the file")?);
    Ok(usize::try_from(u64::from_le_bytes(b))?)
}

fn set(data: &mut [u8], at: usize, n: usize, value: usize) {
    data[at..at + n].copy_from_slice(&(value as u64).to_le_bytes()[..n]);
}

/// The same executable without sections, without the zeros its segments end with, and without the
/// gaps between them. Notes (Xen's entry points) stay, be they named by program headers or by sections only.
pub fn slim(elf: &[u8]) -> Result<Vec<u8>> {
    const LOAD: usize = 1;
    const NOTE: usize = 4;
    ensure!(elf.starts_with(b"\x7fELF") && elf.len() > 64, "it is not an ELF executable");
    let l = if elf[4] == 2 { &ELF64 } else { &ELF32 };
    let (table, count) = (get(elf, l.program_headers.0, l.program_headers.1)?, get(elf, l.counts, 2)?);
    ensure!((1..=64).contains(&count), "it has {count} program headers");
    let mut headers = Vec::new();
    for i in 0..count {
        let at = table.saturating_add(i * l.entry);
        let h = elf.get(at..at.saturating_add(l.entry)).context("a program header lies outside of the file")?;
        if matches!(get(h, 0, 4)?, LOAD | NOTE) {
            headers.push(h.to_vec());
        }
    }
    if !headers.iter().any(|h| h[0] == NOTE as u8) {
        headers.extend(note_sections(elf, l)?.into_iter().map(|(offset, size)| {
            let mut h = vec![0; l.entry];
            set(&mut h, 0, 4, NOTE);
            set(&mut h, l.offset, l.width, offset);
            set(&mut h, l.file_size, l.width, size);
            h
        }));
    }
    let mut out = elf[..l.header].to_vec();
    set(&mut out, l.program_headers.0, l.program_headers.1, l.header);
    set(&mut out, l.sections.0, l.sections.1, 0);
    set(&mut out, l.counts, 2, headers.len());
    set(&mut out, l.counts + 4, 4, 0); // e_shnum, e_shstrndx
    out.resize(l.header + headers.len() * l.entry, 0);
    // Where each note ends in the old file: it is kept whole even if it ends with zeros.
    let mut notes = Vec::new();
    for h in headers.iter().filter(|h| h[0] == NOTE as u8) {
        notes.push(get(h, l.offset, l.width)?.saturating_add(get(h, l.file_size, l.width)?));
    }
    // Old offset and size of each loaded segment, and its new offset.
    let mut moved = Vec::new();
    for h in headers.iter_mut().filter(|h| h[0] == LOAD as u8) {
        let (offset, size) = (get(h, l.offset, l.width)?, get(h, l.file_size, l.width)?);
        let bytes = elf.get(offset..offset.saturating_add(size)).context("a segment lies outside of the file")?;
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let noted = notes.iter().filter_map(|end| end.checked_sub(offset)).filter(|n| *n <= size).max();
        let used = used.max(noted.unwrap_or(0));
        out.resize(out.len().next_multiple_of(4096), 0);
        moved.push((offset, used, out.len()));
        set(h, l.offset, l.width, out.len());
        set(h, l.file_size, l.width, used);
        out.extend(&bytes[..used]);
    }
    for h in headers.iter_mut().filter(|h| h[0] == NOTE as u8) {
        let (offset, size) = (get(h, l.offset, l.width)?, get(h, l.file_size, l.width)?);
        let inside = moved.iter().find(|(o, n, _)| offset >= *o && offset.saturating_add(size) <= o + n);
        let to = match inside {
            Some((from, _, to)) => offset - from + to,
            None => {
                let bytes = elf.get(offset..offset.saturating_add(size)).context("a note lies outside of the file")?;
                out.resize(out.len().next_multiple_of(4), 0);
                out.extend(bytes);
                out.len() - size
            }
        };
        set(h, l.offset, l.width, to);
    }
    let table = headers.concat();
    out[l.header..l.header + table.len()].copy_from_slice(&table);
    Ok(out)
}

/// Offset and size of each section that holds notes.
fn note_sections(elf: &[u8], l: &Layout) -> Result<Vec<(usize, usize)>> {
    const NOTE: usize = 7;
    let (table, count) = (get(elf, l.sections.0, l.sections.1)?, get(elf, l.counts + 4, 2)?);
    let mut found = Vec::new();
    for i in 0..count {
        let at = table.saturating_add(i * (16 + 6 * l.width));
        if get(elf, at.saturating_add(4), 4)? == NOTE {
            // The address comes first, and before that the flags, both as wide as an address.
            let offset = at.saturating_add(8 + 2 * l.width);
            found.push((get(elf, offset, l.width)?, get(elf, offset + l.width, l.width)?));
        }
    }
    // As many as program headers there may be.
    found.truncate(32);
    Ok(found)
}

/// Puts an executable into the container, on all processors.
pub fn pack(elf: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = elf.chunks(CHUNK).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let packed: Vec<std::sync::Mutex<Vec<u8>>> = parts.iter().map(|_| std::sync::Mutex::default()).collect();
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            s.spawn(|| {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(part) = parts.get(i) else { break };
                    let block = lz4::block(part);
                    *packed[i].lock().expect("no worker panics") =
                        if block.len() < part.len() { block } else { part.to_vec() };
                }
            });
        }
    });
    let packed: Vec<Vec<u8>> = packed.into_iter().map(|p| p.into_inner().expect("no worker panics")).collect();
    let mut out = pack_format::MAGIC.to_vec();
    out.extend((elf.len() as u64).to_le_bytes());
    out.extend((CHUNK as u32).to_le_bytes());
    out.extend((packed.len() as u32).to_le_bytes());
    for p in &packed {
        out.extend((p.len() as u32).to_le_bytes());
        out.extend(pack_format::adler32(p).to_le_bytes());
    }
    for p in packed {
        out.extend(p);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tabvisor_core::mem::GuestRam;
    use tabvisor_devices::boot::{self, Files, acpi::Board};

    /// An executable with one segment at 2 MiB whose content begins with `text`, and a note in it.
    fn elf64(text: &[u8]) -> Vec<u8> {
        let mut e = vec![0; 0x3000];
        let put = |e: &mut Vec<u8>, at: usize, b: &[u8]| e[at..at + b.len()].copy_from_slice(b);
        put(&mut e, 0, b"\x7fELF\x02\x01\x01");
        put(&mut e, 16, &[2, 0, 62, 0]);
        put(&mut e, 24, &0x20_0000u64.to_le_bytes());
        put(&mut e, 32, &64u64.to_le_bytes());
        put(&mut e, 40, &0x2800u64.to_le_bytes());
        put(&mut e, 54, &[56, 0, 2, 0, 64, 0, 3, 0, 2, 0]);
        for (i, (kind, off, at, n)) in
            [(1u32, 0x1000u64, 0x20_0000u64, 0x1800u64), (4, 0x1004, 0x20_0004, 8)].into_iter().enumerate()
        {
            let h = 64 + 56 * i;
            put(&mut e, h, &kind.to_le_bytes());
            for (j, v) in [off, at, at, n, n].into_iter().enumerate() {
                put(&mut e, h + 8 + 8 * j, &v.to_le_bytes());
            }
        }
        put(&mut e, 0x1000, text);
        e
    }

    #[test]
    fn a_note_that_ends_with_zeros_stays_whole() {
        let slim = slim(&elf64(b"abcdef")).unwrap();
        let note = get(&slim, 64 + 56 + 8, 8).unwrap();
        assert_eq!(slim[note..], *b"ef\0\0\0\0\0\0");
    }

    #[test]
    fn slimming_keeps_what_is_loaded() {
        let text: Vec<u8> = (1..=200).collect();
        let whole = elf64(&text);
        let slim = slim(&whole).unwrap();
        assert!(slim.len() < 0x1100 && slim.len() > 0x1000);
        // The note still names the same bytes.
        let note = get(&slim, 64 + 56 + 8, 8).unwrap();
        assert_eq!(slim[note..note + 8], whole[0x1004..0x100c]);
        let mut loaded = Vec::new();
        for file in [whole, slim.clone(), pack(&slim)] {
            let ram = GuestRam::new(4 << 20).unwrap();
            ram.write(0x20_0000, &[0xff; 0x1800]);
            let files = Files { kernel: &file, initrd: &[], cmdline: "" };
            assert_eq!(boot::direct(&ram, &files, &Board::default()).unwrap().rip, 0x20_0000);
            let mut got = vec![0; 0x1800];
            ram.read(0x20_0000, &mut got);
            loaded.push(got);
        }
        assert!(loaded[0].starts_with(&text) && loaded[0] == loaded[1] && loaded[1] == loaded[2]);
    }

    #[test]
    fn notes_outside_of_segments_and_those_of_sections_stay() {
        let mut outside = elf64(b"abcdef");
        outside[0x2900..0x2908].copy_from_slice(b"a note\0\0");
        let mut section = outside.clone();
        // The note's header says where it is.
        set(&mut outside, 64 + 56 + 8, 8, 0x2900);
        // One program header, and sections from 0x2800 on: none, text, notes.
        set(&mut section, 56, 2, 1);
        for (i, kind) in [0, 1, 7].into_iter().enumerate() {
            set(&mut section, 0x2800 + 64 * i + 4, 4, kind);
            set(&mut section, 0x2800 + 64 * i + 24, 8, 0x2900);
            set(&mut section, 0x2800 + 64 * i + 32, 8, 8);
        }
        for file in [outside, section] {
            let slim = slim(&file).unwrap();
            assert_eq!((get(&slim, 56, 2).unwrap(), get(&slim, 64 + 56, 4).unwrap()), (2, 4));
            let at = get(&slim, 64 + 56 + 8, 8).unwrap();
            assert_eq!(slim[at..], *b"a note\0\0");
        }
    }
}
