use super::*;

fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect { x, y, width, height }
}
fn convert(format: PixelFormat, from: &[u8]) -> Vec<u8> {
    let mut to = vec![0; from.len() / format.bytes() as usize * RGBA];
    format.to_rgba(from, &mut to);
    to
}
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn each_format_has_its_colours_where_cards_have_them() {
    let (red, green, blue) = ([255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]);
    let all = [red, green, blue].concat();
    assert_eq!(convert(PixelFormat::Rgb332, &[0xe0, 0x1c, 0x03]), all);
    assert_eq!(convert(PixelFormat::Rgb565, &[0x00, 0xf8, 0xe0, 0x07, 0x1f, 0x00]), all);
    assert_eq!(convert(PixelFormat::Rgb888, &[0, 0, 255, 0, 255, 0, 255, 0, 0]), all);
    assert_eq!(convert(PixelFormat::Xrgb8888, &[0, 0, 255, 7, 0, 255, 0, 8, 255, 0, 0, 9]), all);
    assert_eq!(convert(PixelFormat::Rgb565, &[0x10, 0x84]), [131, 129, 131, 255]);
}

#[test]
fn rectangles_with_any_numbers_are_cut_to_the_picture() {
    let size = (100, 50);
    assert_eq!(Rect::clipped(-10, -10, 30, 20, size), rect(0, 0, 20, 10));
    assert_eq!(Rect::clipped(90, 40, 30, 30, size), rect(90, 40, 10, 10));
    for (x, y, w, h) in [(100, 0, 5, 5), (0, 0, -5, 5), (-9, 0, 9, 9), (i64::MAX, 0, i64::MAX, 1), (i64::MIN, 0, 1, 1)]
    {
        assert_eq!(Rect::clipped(x, y, w, h, size).area(), 0, "{x} {y} {w} {h}");
    }
    assert_eq!(Rect::clipped(i64::MIN, i64::MIN, i64::MAX, i64::MAX, size).area(), 0);
    assert_eq!(Rect::clipped(0, 0, i64::MAX, i64::MAX, size), rect(0, 0, 100, 50));
}

#[test]
fn modes_that_no_host_could_show_are_refused() {
    let new = |w, h, stride| Mode::new(w, h, stride, PixelFormat::Xrgb8888);
    assert!(new(3840, 2160, 3840 * 4).is_ok());
    for (w, h, stride) in
        [(0, 1, 4), (1, 0, 4), (8193, 1, 40000), (8192, 8192, 32768), (2, 1, 7), (u32::MAX, u32::MAX, 0)]
    {
        assert!(new(w, h, stride).is_err(), "{w} {h} {stride}");
    }
    assert_eq!(new(2, 3, 100).unwrap().bytes(), 208);
}

#[test]
fn a_part_is_copied_without_gaps_and_what_is_outside_stays() {
    let mode = Mode::new(4, 3, 10, PixelFormat::Rgb332).unwrap();
    let memory: Vec<u8> = (0..30).collect();
    let mut reads = Vec::new();
    let mut to = vec![9; 3 * 2 * RGBA];
    copy_lines(&mode, rect(2, 1, 3, 2), &mut to, |at, line| {
        reads.push((at, line.len()));
        line.copy_from_slice(&memory[at as usize..][..line.len()]);
    });
    assert_eq!(reads, [(12, 2), (22, 2)]);
    assert_eq!(to[..8], convert(PixelFormat::Rgb332, &[12, 13]));
    assert_eq!((&to[8..12], &to[12..20]), (&[9; 4][..], &convert(PixelFormat::Rgb332, &[22, 23])[..]));
    for part in [rect(9, 9, 2, 2), rect(0, 0, 0, 2), rect(u32::MAX, u32::MAX, u32::MAX, u32::MAX)] {
        copy_lines(&mode, part, &mut to, |_, line| assert!(line.is_empty(), "nothing of it is in the picture"));
    }
    copy_lines(&mode, mode.whole(), &mut to[..7], |_, line| line.fill(0));
}

#[test]
fn neighbours_are_joined_and_what_is_far_apart_is_not() {
    let mut d = Damage::default();
    d.add(rect(0, 0, 8, 16));
    d.add(rect(8, 0, 8, 16));
    d.add(rect(2, 2, 3, 3));
    d.add(rect(0, 0, 0, 100));
    d.add(rect(500, 400, 8, 16));
    assert_eq!(d.take(), [rect(0, 0, 16, 16), rect(500, 400, 8, 16)]);
    assert_eq!(d.take(), []);
    d.add(rect(1, 1, 1, 1));
    d.set(rect(0, 0, 9, 9));
    assert_eq!(d.take(), [rect(0, 0, 9, 9)]);
}

#[test]
fn the_list_stays_short_and_has_everything() {
    let seed = &mut 7;
    for _ in 0..50 {
        let mut d = Damage::default();
        let all: Vec<Rect> = (0..200)
            .map(|_| {
                let mut n = |max| (random(seed) % max) as i64;
                Rect::clipped(n(640), n(480), n(60), n(60), (640, 480))
            })
            .collect();
        all.iter().for_each(|r| d.add(*r));
        let list = d.take();
        assert!(list.len() <= MAX_RECTS);
        for r in all.iter().filter(|r| r.area() > 0) {
            assert!(list.iter().any(|l| l.union(r) == *l), "{r:?} is in none of {list:?}");
        }
    }
}

#[test]
fn a_display_that_is_asked_for_has_a_size_that_can_be_shown() {
    assert_eq!(DisplayConfig::new(1024, 768), DisplayConfig { width: 1024, height: 768 });
    for (w, h) in [(0, 0), (u32::MAX, u32::MAX), (8192, 8192)] {
        let c = DisplayConfig::new(w, h);
        assert!(Mode::new(c.width, c.height, c.width * 4, PixelFormat::Xrgb8888).is_ok(), "{c:?}");
    }
}
