use super::*;

/// A TCP frame with data 0, 1, 2, … ; all checksums are blank.
pub(crate) fn tcp(v6: bool, data: usize) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let len = 32 + data;
    if v6 {
        f.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        f.extend((len as u16).to_be_bytes());
        f.extend([TCP, 64]);
        f.extend((1..=32).collect::<Vec<u8>>());
    } else {
        f.extend([8, 0, 0x45, 0]);
        f.extend((20 + len as u16).to_be_bytes());
        f.extend([0xff, 0xff, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let check = fold(sum(&f[14..34]));
        f[24..26].copy_from_slice(&check.to_be_bytes());
    }
    // FIN, PSH, ACK, CWR; twelve bytes of options.
    f.extend([0, 80, 0x12, 0x34, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 7, 0x80, 0x99, 1, 0, 0, 0, 0, 0]);
    f.extend([1; 12]);
    f.extend((0..data).map(|k| k as u8));
    f
}

/// Are all checksums of a TCP frame right?
pub(crate) fn is_right(frame: &[u8]) -> bool {
    let l = Layout::of(frame).expect("IP");
    super::is_right(frame) && (l.v6 || fold(sum(&frame[l.l3..l.l4])) == 0)
}

fn finished(packet: Packet) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    packet.finish(|f| all.push(f));
    all
}

#[test]
fn a_blank_checksum_is_computed() {
    for v6 in [false, true] {
        for n in [0, 1, 2, 3, 100, 1461] {
            let bytes = tcp(v6, n);
            assert!(!is_right(&bytes));
            let given = Packet { bytes: bytes.clone(), checksum: Checksum::Given, gso: None };
            assert_eq!(finished(given), core::slice::from_ref(&bytes), "only if it is blank");
            let mut padded = bytes.clone();
            padded.extend([0xee; 6]);
            for bytes in [bytes, padded] {
                let all = finished(Packet { bytes, checksum: Checksum::Blank, gso: None });
                assert!(all.len() == 1 && is_right(&all[0]));
            }
        }
    }
}

#[test]
fn a_right_checksum_is_told_apart_from_a_wrong_one() {
    for v6 in [false, true] {
        let good = finished(Packet { bytes: tcp(v6, 77), checksum: Checksum::Blank, gso: None }).remove(0);
        assert_eq!(Packet::new(good.clone()).checksum, Checksum::Valid);
        let mut bad = good.clone();
        bad[100] ^= 1;
        assert_eq!(Packet::new(bad).checksum, Checksum::Given);
        assert_eq!(Packet::new(good[..good.len() - 1].into()).checksum, Checksum::Given);
    }
}

#[test]
fn a_known_checksum_comes_out() {
    // A UDP datagram 10.0.0.1:1 -> 10.0.0.2:2 with the data "hi": the sum is written out by hand.
    let mut f = vec![0; 12];
    f.extend([8, 0, 0x45, 0, 0, 30, 0, 0, 0, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    f.extend([0, 1, 0, 2, 0, 10, 0xab, 0xcd, b'h', b'i']);
    let all = finished(Packet { bytes: f, checksum: Checksum::Blank, gso: None });
    let want = !(0xa00 + 1 + 0xa00 + 2 + 17 + 10 + 1 + 2 + 10 + 0x6869u16);
    assert_eq!(all[0][40..42], want.to_be_bytes());
}

#[test]
fn a_large_segment_is_divided() {
    for v6 in [false, true] {
        let gso = Some(Gso { v6, size: 1000 });
        let packet = Packet { bytes: tcp(v6, 3500), checksum: Checksum::Blank, gso };
        let all = finished(packet);
        assert_eq!(all.len(), 4);
        let l4 = if v6 { 54 } else { 34 };
        for (k, f) in (0u32..).zip(&all) {
            assert!(is_right(f));
            let data = &f[l4 + 32..];
            assert_eq!(data.len(), if k < 3 { 1000 } else { 500 });
            assert_eq!(data[0], (k * 1000) as u8);
            assert_eq!(f[l4 + 4..l4 + 8], 0xffff_fff0u32.wrapping_add(k * 1000).to_be_bytes());
            assert_eq!(f[l4 + 13], 0x10 | if k == 0 { 0x80 } else { 0 } | if k == 3 { 9 } else { 0 });
            if !v6 {
                assert_eq!(f[18..20], 0xffffu16.wrapping_add(k as u16).to_be_bytes());
            }
        }
    }
}

#[test]
fn what_is_no_ip_is_left_as_it_is_and_nothing_panics() {
    let mut x = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let arp = [&[0xff; 12][..], &[8, 6], &[0; 28]].concat();
    let gso = Some(Gso { v6: false, size: 100 });
    assert_eq!(finished(Packet { bytes: arp.clone(), checksum: Checksum::Blank, gso }), [arp]);
    for n in 0..20_000 {
        let mut bytes = tcp(n % 2 == 0, 200);
        for _ in 0..random() % 4 {
            let k = random() as usize % 80;
            bytes[k] = random() as u8;
        }
        bytes.truncate(random() as usize % 400);
        let gso = (n % 3 > 0).then_some(Gso { v6: n % 3 == 1, size: (random() % 300) as u16 });
        finished(Packet { bytes, checksum: Checksum::Blank, gso });
    }
}
