use super::*;

/// Sector `n` of a test image: its number, over and over.
fn image(sectors: u64) -> Arc<Vec<u8>> {
    Arc::new((0..sectors * SECTOR / 8).flat_map(|k| (k / 64 + 1).to_le_bytes()).collect())
}

fn at(first: u64, count: u64) -> Sectors {
    Sectors { first, count }
}

/// What a read delivers, and how it ends.
fn read(disk: &mut dyn BlockBackend, out: &mut Vec<Effect>, what: Sectors) -> (Vec<u8>, Outcome) {
    let mut bytes = Vec::new();
    let outcome = disk.read(out, what, &mut |slice| {
        assert!(!slice.is_empty() && slice.len().is_multiple_of(512));
        bytes.extend_from_slice(slice);
    });
    (bytes, outcome)
}

fn write(disk: &mut dyn BlockBackend, what: Sectors, byte: u8) -> Outcome {
    disk.write(&mut Vec::new(), what, &mut |slice| slice.fill(byte))
}

/// What each sector begins with.
fn firsts(disk: &mut dyn BlockBackend, what: Sectors) -> Vec<u64> {
    let (bytes, outcome) = read(disk, &mut Vec::new(), what);
    assert_eq!((outcome, bytes.len() as u64), (Outcome::Done, what.count * SECTOR));
    bytes.as_chunks::<512>().0.iter().map(|s| u64::from_le_bytes(*s.first_chunk().expect("long"))).collect()
}

#[test]
fn an_image_ends_with_zeros_and_has_no_more_sectors() {
    let mut disk = Image::new(Arc::new(vec![7; 1000]));
    assert_eq!(disk.sectors(), 2);
    let (bytes, _) = read(&mut disk, &mut Vec::new(), at(0, 2));
    assert!(bytes[..1000].iter().all(|&b| b == 7) && bytes[1000..] == [0; 24]);
    for what in [at(1, 2), at(2, 1), at(u64::MAX, 2), at(0, u64::MAX)] {
        assert_eq!(read(&mut disk, &mut Vec::new(), what), (vec![], Outcome::Failed));
    }
    assert_eq!(write(&mut disk, at(0, 1), 1), Outcome::Failed);
    assert_eq!(firsts(&mut Image::blank(1 << 40), at(12345, 200)), vec![0; 200]);
}

#[test]
fn an_overlay_has_what_was_written_and_else_what_is_below() {
    let base = image(300);
    let mut disk = Overlay::new(Image::new(base.clone()), 1 << 20);
    let mut model = base.to_vec();
    let mut x = 0x1234_5678_9abc_def1u64;
    for k in 0..2000u32 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let first = x % 300;
        let what = at(first, 1 + (x >> 32) % (300 - first).min(150));
        let range = (what.first * 512) as usize..((what.first + what.count) * 512) as usize;
        if k % 2 == 0 {
            assert_eq!(write(&mut disk, what, k as u8), Outcome::Done);
            model[range].fill(k as u8);
        } else {
            assert!(read(&mut disk, &mut Vec::new(), what) == (model[range].to_vec(), Outcome::Done));
        }
    }
    assert_eq!(base, image(300));
}

#[test]
fn an_overlay_tells_what_was_written() {
    let mut disk = Overlay::new(Image::new(image(300)), 1 << 20);
    assert_eq!(disk.written(0), None);
    for what in [at(3, 2), at(62, 3), at(128, 64), at(299, 1)] {
        assert_eq!(write(&mut disk, what, 7), Outcome::Done);
    }
    assert_eq!(disk.discard(&mut Vec::new(), at(128, 64)), Outcome::Done);
    let runs = |from| {
        let mut from = Some(from);
        core::iter::from_fn(|| {
            let (first, bytes) = disk.written(from?)?;
            let count = bytes.len() as u64 / SECTOR;
            from = Some(first + count);
            Some((first, count, bytes[0]))
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(runs(0), [(3, 2, 7), (62, 2, 7), (64, 1, 7), (128, 64, 0), (299, 1, 7)]);
    assert_eq!(runs(4)[0], (4, 1, 7));
    assert_eq!(runs(65)[0], (128, 64, 0));
    assert_eq!((runs(300), runs(u64::MAX)), (vec![], vec![]));
    // Put over the base, it makes the disk.
    let mut copy = image(300).to_vec();
    for (first, count, byte) in runs(0) {
        copy[(first * SECTOR) as usize..((first + count) * SECTOR) as usize].fill(byte);
    }
    assert!(read(&mut disk, &mut Vec::new(), at(0, 300)) == (copy, Outcome::Done));
}

#[test]
fn an_overlay_refuses_what_there_is_no_room_for() {
    let mut disk = Overlay::new(Image::blank(1 << 30), 2 << 15);
    assert_eq!(write(&mut disk, at(0, 128), 1), Outcome::Done);
    assert_eq!(write(&mut disk, at(1000, 1), 1), Outcome::Failed);
    assert_eq!(write(&mut disk, at(3, 1), 2), Outcome::Done);
    assert_eq!(firsts(&mut disk, at(1000, 1)), [0]);
    // What is discarded makes room.
    assert_eq!(disk.discard(&mut Vec::new(), at(0, 64)), Outcome::Done);
    assert_eq!(write(&mut disk, at(1000, 1), 1), Outcome::Done);
    assert_eq!(write(&mut disk, at(0, 1), 1), Outcome::Failed);
}

#[test]
fn discarded_data_reads_as_zeros_and_can_be_written_again() {
    let mut disk = Overlay::new(Image::new(image(256)), 1 << 20);
    write(&mut disk, at(32, 160), 0xff);
    assert_eq!(disk.discard(&mut Vec::new(), at(60, 100)), Outcome::Done);
    let mut want: Vec<u64> = (1..=256).collect();
    want[32..192].fill(u64::MAX);
    want[60..160].fill(0);
    assert_eq!(firsts(&mut disk, at(0, 256)), want);
    write(&mut disk, at(100, 1), 0xff);
    want[100] = u64::MAX;
    assert_eq!(firsts(&mut disk, at(0, 256)), want);
    assert_eq!(disk.discard(&mut Vec::new(), at(0, 257)), Outcome::Failed);
    assert_eq!(disk.discard(&mut Vec::new(), at(0, 0)), Outcome::Done);
}

#[test]
fn the_same_writes_are_the_same_state() {
    let state = |writes: &[(u64, u8)]| {
        let mut disk = Overlay::new(Image::blank(1000), 1 << 20);
        writes.iter().for_each(|&(n, byte)| assert_eq!(write(&mut disk, at(n, 1), byte), Outcome::Done));
        let mut bytes = Vec::new();
        disk.state_bytes(&mut bytes);
        bytes
    };
    assert_eq!(state(&[(1, 1), (500, 2)]), state(&[(500, 2), (1, 7), (1, 1)]));
    assert_ne!(state(&[(1, 1)]), state(&[(2, 1)]));
    assert_ne!(state(&[(1, 1)]), state(&[(1, 2)]));
    assert_ne!(state(&[(1, 0)]), state(&[]));
}

/// Brings what was asked for.
fn serve(disk: &mut Fetched, out: &mut Vec<Effect>, data: &[u8]) -> Vec<Completion> {
    let mut done = Vec::new();
    for effect in out.drain(..) {
        let Effect::BlockRead { disk: n, first, count, ticket } = effect else { panic!("{effect:?}") };
        let bytes = Some(data[(first * 512) as usize..][..count as usize * 512].to_vec());
        done.extend(disk.input(&Input::BlockData { disk: n, ticket, bytes }));
    }
    done
}

#[test]
fn blocks_from_outside_are_asked_for_once_and_then_are_here() {
    let (data, mut out) = (image(1000), Vec::new());
    let mut disk = Fetched::new(3, 1000, 1 << 20);
    let what = at(100, 300);
    let (bytes, outcome) = read(&mut disk, &mut out, what);
    assert_eq!((bytes.len(), outcome), (0, Outcome::Pending(Ticket(0))));
    assert_eq!(out, [Effect::BlockRead { disk: 3, first: 0, count: 512, ticket: 0 }]);
    assert_eq!(read(&mut disk, &mut Vec::new(), at(500, 1)).1, Outcome::Pending(Ticket(0)));
    assert_eq!(serve(&mut disk, &mut out, &data), [Completion { ticket: Ticket(0), ok: true }]);
    assert_eq!(firsts(&mut disk, what), (101..=400).collect::<Vec<_>>());
    // The last block is shorter.
    assert_eq!(read(&mut disk, &mut out, at(999, 1)).1, Outcome::Pending(Ticket(1)));
    assert_eq!(out, [Effect::BlockRead { disk: 3, first: 896, count: 104, ticket: 1 }]);
    serve(&mut disk, &mut out, &data);
    assert_eq!(firsts(&mut disk, at(999, 1)), [1000]);
}

#[test]
fn what_was_delivered_is_not_delivered_again() {
    let (data, mut out) = (image(1000), Vec::new());
    let mut disk = Fetched::new(0, 1000, 0);
    let _ = read(&mut disk, &mut out, at(0, 1));
    serve(&mut disk, &mut out, &data);
    let (bytes, outcome) = read(&mut disk, &mut out, at(100, 200));
    assert_eq!((bytes.len(), outcome), (28 * 512, Outcome::Pending(Ticket(1))));
    serve(&mut disk, &mut out, &data);
    assert_eq!(firsts(&mut disk, at(128, 172)), (129..=300).collect::<Vec<_>>());
}

#[test]
fn few_blocks_are_kept_and_few_requests_are_under_way() {
    let (data, mut out) = (image(128 * 100), Vec::new());
    let mut disk = Fetched::new(0, 128 * 100, 0);
    for n in 0..100 {
        let _ = read(&mut disk, &mut out, at(n * 128, 1));
    }
    assert_eq!(out.len(), MAX_UNDER_WAY);
    for n in 0..100 {
        let _ = serve(&mut disk, &mut out, &data);
        let _ = read(&mut disk, &mut out, at(n * 128, 1));
        assert!(disk.held() <= 32);
    }
    serve(&mut disk, &mut out, &data);
    assert_eq!(firsts(&mut disk, at(99 * 128, 1)), [99 * 128 + 1]);
    assert_eq!(read(&mut disk, &mut out, at(0, 1)).0.len(), 0, "long forgotten");
}
const MAX_UNDER_WAY: usize = 16;

#[test]
fn what_cannot_be_brought_fails_and_may_be_asked_for_again() {
    let mut out = Vec::new();
    let mut disk = Fetched::new(0, 1000, 0);
    for bytes in [None, Some(vec![0; 100])] {
        let Outcome::Pending(ticket) = read(&mut disk, &mut out, at(0, 1)).1 else { panic!("nothing is here") };
        let answer = |disk: u8, bytes| Input::BlockData { disk, ticket: ticket.0, bytes };
        assert_eq!(disk.input(&answer(1, bytes.clone())), None, "another disk's");
        assert_eq!(disk.input(&answer(0, bytes.clone())), Some(Completion { ticket, ok: false }));
        assert_eq!(disk.input(&answer(0, bytes)), None, "twice");
    }
}
