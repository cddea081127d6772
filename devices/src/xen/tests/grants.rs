//! Grant tables of both versions: what the guest finds in them, and what it can do with them itself.

use super::*;

/// The first reference that is the guest's.
const FIRST: u64 = 8;

fn op(b: &mut Bench, cmd: u64, structure: &[u64]) -> i64 {
    b.put(DATA, 0, &words(structure));
    let at = if b.vcpu.cpu.paravirtual { va(DATA) } else { va_pvh(DATA) };
    b.call(20, &[cmd, at, 1])
}
fn set_version(b: &mut Bench, v: u64) -> (i64, u32) {
    (op(b, 8, &[v]), b.half(DATA, 0))
}
fn version(b: &mut Bench) -> u32 {
    assert_eq!(op(b, 10, &[0x7ff0]), 0);
    b.half(DATA, 4)
}
/// The frame of the table's beginning.
fn table(b: &mut Bench) -> u64 {
    b.domain(|d, _| d.grants.places[0])
}
/// get_status_frames: the status and the first.
fn status_frame(b: &mut Bench, n: u64) -> (i16, u64) {
    b.put(DATA, 0x800, &[0; 8]);
    let list = if b.vcpu.cpu.paravirtual { va(DATA) } else { va_pvh(DATA) } + 0x800;
    assert_eq!(op(b, 9, &[n | 0x7ff0 << 32, list]), 0);
    ((b.half(DATA, 4) >> 16) as i16, b.word(DATA, 0x800))
}
/// Grants a frame, or a part of one, to the guest itself.
fn grant(b: &mut Bench, reference: u64, flags: u64, frame: u64, part: (u64, u64)) {
    let table = table(b);
    let head = flags | 1 << 16;
    if version(b) == 2 {
        b.put(table, 16 * reference, &words(&[head | part.0 << 32 | part.1 << 48, frame]));
    } else {
        b.put(table, 8 * reference, &words(&[head | frame << 32]));
    }
}
/// map_grant_ref: the status and the handle.
fn map(b: &mut Bench, host: u64, flags: u32, reference: u64) -> (i16, u32) {
    assert_eq!(op(b, 0, &[host, pair(flags, reference as u32), 0x7ff0, 0]), 0);
    ((b.half(DATA, 16) >> 16) as i16, b.half(DATA, 20))
}
fn unmap(b: &mut Bench, host: u64, device: u64, handle: u32) -> i16 {
    assert_eq!(op(b, 1, &[host, device, handle.into()]), 0);
    b.half(DATA, 20) as i16
}

#[test]
fn a_table_of_version_2_begins_with_the_toolstacks_grants() {
    let mut b = Bench::pv();
    let (table, si) = (table(&mut b), b.start_info);
    b.put(table, 8 * FIRST, &words(&[1 | 1 << 16 | FREE << 32]));
    assert_eq!(set_version(&mut b, 3), (EINVAL, 1));
    assert_eq!(set_version(&mut b, 2), (0, 2));
    assert_eq!((set_version(&mut b, 2), version(&mut b)), ((0, 2), 2));
    assert_eq!([0, 8, 16, 24].map(|at| b.word(table, at)), [1, si + 2, 1, si + 1]);
    assert_eq!((b.word(table, 8 * FIRST), b.word(table, 16 * FIRST)), (0, 0), "and nothing else");
    // What was in use is, with its state in its new place.
    let state = b.domain(|d, _| d.grants.status_places[0]);
    b.put(state, 2, &[0x18, 0]);
    b.put(table, 0, &words(&[1, 1 << 40]));
    assert_eq!(set_version(&mut b, 1), (0, 1));
    assert_eq!([0, 8].map(|at| b.word(table, at)), [0, 0x19 | (si + 1) << 32], "a frame that has no name in version 1");
    b.check();
}

#[test]
fn states_have_frames_of_their_own_as_long_as_nobody_maps_them() {
    let mut b = Bench::pv();
    assert_eq!(status_frame(&mut b, 1).0, -1, "version 1 has none");
    assert_eq!(op(&mut b, 9, &[pair(1, 5), va(DATA) + 0x800]), 0);
    assert_eq!((b.half(DATA, 4) >> 16) as i16, -2);
    let states = b.domain(|d, _| d.frames.status);
    assert_eq!(b.remap(MAPPED, leaf(states, 0)), EPERM);
    assert_eq!(set_version(&mut b, 2).0, 0);
    assert_eq!((status_frame(&mut b, 1), status_frame(&mut b, 2).0), ((0, states), -1));
    // A larger table has more of them.
    assert_eq!(op(&mut b, 2, &[pair(0x7ff0, 9), 0, va(DATA) + 0x800]), 0);
    assert_eq!((status_frame(&mut b, 2), status_frame(&mut b, 3).0), ((0, states), -1));
    assert_eq!(b.remap(MAPPED, leaf(states, pte::RW)), 0);
    assert_eq!(b.remap(MAPPED + 1, leaf(states, 0)), 0);
    for left in [MAPPED, MAPPED + 1] {
        assert_eq!((set_version(&mut b, 1), version(&mut b)), ((EBUSY, 2), 2));
        b.check();
        assert_eq!(b.remap(left, 0), 0);
    }
    assert_eq!(set_version(&mut b, 1), (0, 1));
    assert_eq!(b.remap(MAPPED, leaf(states, 0)), EPERM);
    b.check();
}

#[test]
fn a_mapped_grant_shows_its_state_and_keeps_the_version() {
    let mut b = Bench::pv();
    for (v, state) in [(1, (0, FIRST * 8)), (2, (1, FIRST * 2))] {
        assert_eq!(set_version(&mut b, v).0, 0);
        let at = b.domain(|d, _| [d.grants.places[0], d.grants.status_places[0]])[state.0];
        grant(&mut b, FIRST, 1, FREE, (0, 0));
        assert_eq!(map(&mut b, va(MAPPED), 2 | 4, FIRST), (0, 0));
        assert_eq!(b.half(at, state.1) & 0x18, 8);
        assert_eq!(map(&mut b, va(MAPPED + 1), 1 | 2, FIRST), (0, 1));
        assert_eq!(b.half(at, state.1) & 0x18, 0x18);
        b.check();
        assert_eq!(set_version(&mut b, 3 - v).0, EBUSY);
        assert_eq!((unmap(&mut b, va(MAPPED + 1), FREE << 12, 1), unmap(&mut b, va(MAPPED), 0, 0)), (0, 0));
        assert_eq!(b.half(at, state.1) & 0x18, 0);
    }
    // In version 2 a frame's number has 64 bits.
    grant(&mut b, FIRST, 1, 1 << 52 | FREE, (0, 0));
    assert_eq!(map(&mut b, va(MAPPED), 2, FIRST).0, -1);
    // Only all of a page can be mapped.
    grant(&mut b, FIRST, 0x101, FREE, (0, 64));
    assert_eq!(map(&mut b, va(MAPPED), 2, FIRST).0, -1);
    b.check();
}

/// GNTTABOP_copy: (reference or frame, domain, offset) twice, length, flags; the status.
fn copy(b: &mut Bench, from: (u64, u64, u64), to: (u64, u64, u64), len: u64, flags: u64) -> i16 {
    let side = |s: (u64, u64, u64)| [s.0, s.1 | s.2 << 16];
    assert_eq!(op(b, 5, &[&side(from)[..], &side(to), &[len | flags << 16]].concat()), 0);
    b.half(DATA, 36) as i16
}

#[test]
fn bytes_are_copied_between_frames_and_grants() {
    const SELF: u64 = 0x7ff0;
    let mut b = Bench::pv();
    assert_eq!(set_version(&mut b, 2).0, 0);
    b.put(FREE, 0x100, b"some bytes");
    grant(&mut b, FIRST, 0x105, FREE, (0x100, 10));
    grant(&mut b, FIRST + 1, 1, FREE + 1, (0, 0));
    grant(&mut b, FIRST + 2, 3, FREE + 1, (0, 0));
    assert_eq!(copy(&mut b, (FIRST, SELF, 0x100), (FIRST + 1, 1, 5), 10, 3), 0);
    assert_eq!(b.bytes(FREE + 1, 5, 10), b"some bytes");
    assert_eq!(copy(&mut b, (FREE, SELF, 0x105), (FREE + 2, SELF, 0), 5, 0), 0);
    assert_eq!(b.bytes(FREE + 2, 0, 6), b"bytes\0");
    let l4 = b.l4();
    let refused = [
        (-1, (FIRST, SELF, 0xff), (FREE + 2, SELF, 0), 5, 1, "in front of its part"),
        (-1, (FIRST, SELF, 0x101), (FREE + 2, SELF, 0), 10, 1, "behind it"),
        (-1, (FREE + 1, SELF, 0), (FIRST, SELF, 0x100), 1, 2, "read-only"),
        (-1, (FIRST + 2, SELF, 0), (FREE + 2, SELF, 0), 1, 1, "transitive"),
        (-1, (FIRST, 0, 0), (FREE + 2, SELF, 0), 1, 1, "domain 0 grants nothing"),
        (-3, (4096, SELF, 0), (FREE + 2, SELF, 0), 1, 1, "beyond the table"),
        (-8, (FREE, 1, 0), (FREE + 2, SELF, 0), 1, 0, "a frame by its domain's number"),
        (-2, (FIRST, 9, 0), (FREE + 2, SELF, 0), 1, 1, "no such domain"),
        (-9, (FRAMES, SELF, 0), (FREE + 2, SELF, 0), 1, 0, "not the guest's"),
        (-10, (FREE, SELF, 4000), (FREE + 2, SELF, 0), 97, 0, "across its end"),
        (-1, (FREE, SELF, 0), (l4, SELF, 0), 8, 0, "a page table"),
    ];
    for (status, from, to, len, flags, why) in refused {
        assert_eq!(copy(&mut b, from, to, len, flags), status, "{why}");
    }
    b.check();
}

#[test]
fn entries_are_exchanged_unless_they_are_in_use() {
    for v in [1, 2] {
        let mut b = Bench::pv();
        let swap = |b: &mut Bench, x: u64, y: u64| {
            assert_eq!(op(b, 11, &[pair(x as u32, y as u32), 0]), 0);
            b.half(DATA, 8) as i16
        };
        assert_eq!(set_version(&mut b, v).0, 0);
        grant(&mut b, FIRST, 1, FREE, (0, 0));
        grant(&mut b, FIRST + 1, 5, FREE + 1, (0, 0));
        assert_eq!(swap(&mut b, FIRST, FIRST + 1), 0);
        let entry =
            |b: &mut Bench, n: u64| b.domain(|d, _| d.grants.read(&d.ram, n as u32).map(|e| (e.flags, e.frame)));
        assert_eq!(entry(&mut b, FIRST), Some((5, FREE + 1)));
        assert_eq!(entry(&mut b, FIRST + 1), Some((1, FREE)));
        assert_eq!((swap(&mut b, FIRST, FIRST), swap(&mut b, 0, 512 / v)), (0, -3));
        assert_eq!(map(&mut b, va(MAPPED), 2, FIRST + 1).0, 0);
        assert_eq!(swap(&mut b, FIRST, FIRST + 1), -12);
    }
}

#[test]
fn there_is_no_cache_to_flush_but_one_has_to_ask_for_ones_own_page() {
    let mut b = Bench::pv();
    let mut flush = |frame: u64, offset: u32, len: u32, op_: u32| {
        op(&mut b, 12, &[frame << PAGE_SHIFT, pair(offset | len << 16, op_)])
    };
    assert_eq!((flush(FREE, 0, 4096, 3), flush(FREE, 64, 64, 1)), (0, 0));
    assert_eq!((flush(FREE, 1, 4096, 3), flush(FREE, 0, 64, 4)), (EINVAL, EINVAL));
    assert_eq!(
        (flush(FREE, 0, 64, 2), flush(8, 0, 64, 1 << 31 | 1)),
        (errno(Errno::EOPNOTSUPP), errno(Errno::EOPNOTSUPP))
    );
    assert_eq!((flush(FRAMES, 0, 64, 3), flush(1 << 40, 0, 64, 3), flush(1 << 40, 0, 0, 3)), (EPERM, EINVAL, 0));
}

#[test]
fn states_can_be_put_within_and_beyond_the_ram_of_a_domain_with_its_own_paging() {
    for place in [FREE, FRAMES + 0x1_0000] {
        let mut b = Bench::pvh(1, &[]);
        let add = |b: &mut Bench, index: u64| b.call_with(12, &[7], &[pair(0x7ff0, 1), index, place]);
        assert_eq!(add(&mut b, 1 << 31), EINVAL, "version 1 has none");
        assert_eq!(set_version(&mut b, 2).0, 0);
        assert_eq!(status_frame(&mut b, 1), (0, u64::MAX), "it is nowhere yet");
        assert_eq!((add(&mut b, 1 << 31 | 8), add(&mut b, 1 << 31)), (EINVAL, 0));
        assert_eq!(status_frame(&mut b, 1), (0, place));
        b.domain(|d, _| d.grants.set_uses(&d.ram, 5, 0x18));
        assert_eq!(b.word(place, 8) >> 16 & 0xffff, 0x18);
        assert_eq!(set_version(&mut b, 1), (0, 1));
        let nothing = if place < FRAMES { 0 } else { u64::MAX };
        assert_eq!((b.word(place, 8), status_frame(&mut b, 1).0), (nothing, -1), "it has gone with the version");
        b.check();
    }
}
