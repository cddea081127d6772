use super::super::front::Guest;
use super::super::xenbus::XenbusState::*;
use super::*;
use crate::xen::abi::domid;
use tabvisor_core::mem::PAGE_SHIFT;

const CONFIG: DisplayConfig = DisplayConfig { width: 64, height: 40 };

/// What fbfront is, with a picture of 32 bits a pixel.
struct Front {
    guest: Guest,
    paths: DevicePaths,
    page: u64,
    port: u32,
    /// Pages of the picture, in their order in it.
    memory: Vec<u64>,
    list: u64,
    out_prod: u32,
}

impl Front {
    /// Pages are there, and the shared page is filled in; nothing is said yet.
    fn unconnected(wide: bool) -> Self {
        let mut guest = Guest::with_display(CONFIG);
        let paths = DevicePaths::new("vfb", domid::GUEST, 0);
        let (page, list, port) = (guest.page(), guest.page(), guest.port());
        // Upside down, so that they do not lie side by side.
        let mut memory: Vec<u64> = (0..3).map(|_| guest.page()).collect();
        memory.reverse();
        let f = Self { guest, paths, page, port, memory, list, out_prod: 0 };
        let word = |at: u64, v: u64| f.guest.ram.write(at, &v.to_le_bytes()[..if wide { 8 } else { 4 }]);
        word(page + if wide { 0x28 } else { 0x24 }, list >> PAGE_SHIFT);
        for (n, m) in (0..).zip(&f.memory) {
            word(list + n * if wide { 8 } else { 4 }, m >> PAGE_SHIFT);
        }
        for (at, v) in [(0x10, 64), (0x14, 40), (0x18, 256), (0x1c, 3 * 4096)] {
            f.set(at, v);
        }
        f.guest.ram.write(page + 0x20, &[32]);
        f
    }
    fn set(&self, at: u64, v: u32) {
        self.guest.ram.write(self.page + at, &v.to_le_bytes());
    }
    fn get(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.guest.ram.read_le(self.page + at))
    }
    fn connect(&mut self, more: &[(&str, &str)]) {
        let mut keys: Vec<(&str, String)> =
            vec![("page-ref", (self.page >> PAGE_SHIFT).to_string()), ("event-channel", self.port.to_string())];
        keys.extend(more.iter().map(|(k, v)| (*k, (*v).to_string())));
        self.guest.set(&self.paths, &keys, Initialised);
    }
    fn new() -> Self {
        let mut f = Self::unconnected(true);
        f.connect(&[("protocol", "x86_64-abi"), ("feature-update", "1")]);
        assert_eq!((f.guest.state(&f.paths), f.guest.logs().len()), (Connected, 0));
        f
    }
    fn put(&mut self, kind: u8, words: &[i32]) {
        let at = self.page + 0x800 + u64::from(self.out_prod % 51) * 40;
        self.guest.ram.write(at, &[kind]);
        for (n, word) in (1..).zip(words) {
            self.guest.ram.write(at + 4 * n, &word.to_le_bytes());
        }
        self.out_prod = self.out_prod.wrapping_add(1);
    }
    fn send(&mut self) {
        self.set(12, self.out_prod);
        self.guest.kick(self.port);
    }
    fn event(&mut self, kind: u8, words: &[i32]) {
        self.put(kind, words);
        self.send();
    }
    fn display(&mut self) -> &mut dyn Display {
        self.guest.domain.display().expect("there is one")
    }
    fn damage(&mut self) -> Vec<Rect> {
        self.display().take_damage()
    }
    fn mode(&mut self) -> Option<Mode> {
        self.display().mode()
    }
    fn picture(&mut self, part: Rect) -> Vec<u8> {
        let mut to = vec![0; part.area() as usize * 4];
        self.display().copy(part, &mut to);
        to
    }
    fn state(&self) -> crate::xen::back::xenbus::XenbusState {
        self.guest.state(&self.paths)
    }
}

fn whole() -> Rect {
    Rect { x: 0, y: 0, width: 64, height: 40 }
}

#[test]
fn the_back_end_says_which_size_it_would_like_and_what_it_can() {
    let mut f = Front::unconnected(true);
    assert_eq!(f.state(), InitWait);
    let expected =
        [("width", "64"), ("height", "40"), ("videoram", "1"), ("request-update", "1"), ("feature-resize", "1")];
    for (key, value) in expected {
        assert_eq!(f.guest.get(&f.paths, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!((f.mode(), f.damage()), (None, vec![]));
    assert_eq!(f.picture(whole()), vec![0; 64 * 40 * 4]);
}

#[test]
fn a_guest_without_a_display_has_none() {
    assert!(Guest::new(vec![]).domain.display().is_none());
}

#[test]
fn the_picture_is_where_the_lists_say_for_guests_of_both_sizes() {
    for (wide, protocol) in [(true, "x86_64-abi"), (false, "x86_32-abi")] {
        let mut f = Front::unconnected(wide);
        f.connect(&[("protocol", protocol), ("feature-update", "1")]);
        assert_eq!(f.state(), Connected);
        let mode = f.mode().unwrap();
        assert_eq!((mode.width, mode.height, mode.stride, mode.format), (64, 40, 256, PixelFormat::Xrgb8888));
        assert_eq!((f.damage(), f.damage()), (vec![whole()], vec![]));
        // Line 16 begins the second page, line 32 the third.
        for (page, (y, blue)) in f.memory.clone().iter().zip([(0, 1), (16, 2), (32, 3)]) {
            f.guest.ram.write(page + 4, &[blue, 50, 60, 99]);
            assert_eq!(f.picture(Rect { x: 1, y, width: 2, height: 1 }), [60, 50, blue, 255, 0, 0, 0, 255]);
        }
        let all = f.picture(whole());
        assert_eq!(all[(16 * 64 + 1) * 4..][..4], [60, 50, 2, 255]);
    }
}

#[test]
fn what_was_drawn_is_known_until_somebody_looks() {
    let mut f = Front::new();
    f.damage();
    f.put(2, &[1, 2, 3, 4]);
    f.put(2, &[-5, 30, 10, 100]);
    f.put(2, &[64, 0, 9, 9]);
    f.put(99, &[0, 0, 64, 40]);
    f.send();
    let [a, b] = [Rect { x: 1, y: 2, width: 3, height: 4 }, Rect { x: 0, y: 30, width: 5, height: 10 }];
    assert_eq!((f.damage(), f.damage()), (vec![a, b], vec![]));
    assert_eq!(f.get(8), 4);
}

#[test]
fn the_guest_is_told_only_when_it_had_no_room() {
    let mut f = Front::new();
    for n in 1..=51 {
        f.event(2, &[0, 0, n, 1]);
        assert!(!f.guest.event(f.port));
    }
    (0..51).for_each(|n| f.put(2, &[n, 0, 1, 1]));
    f.send();
    assert!(f.guest.event(f.port));
    assert_eq!(f.get(8), 102);
}

#[test]
fn a_guest_that_says_nothing_is_looked_at_each_time() {
    let mut f = Front::unconnected(true);
    f.connect(&[]);
    assert_eq!((f.damage(), f.damage()), (vec![whole()], vec![whole()]));
}

#[test]
fn the_guest_can_change_the_size_within_its_memory() {
    let mut f = Front::new();
    f.damage();
    f.guest.ram.write(f.memory[1] + 8, &[0x1f, 0]);
    // 32 x 16 with 16 bits, in the second page, with gaps.
    f.event(3, &[32, 16, 128, 16, 4096 + 8]);
    let mode = f.mode().unwrap();
    assert_eq!((mode.width, mode.height, mode.stride, mode.format), (32, 16, 128, PixelFormat::Rgb565));
    assert_eq!(f.damage(), [Rect { x: 0, y: 0, width: 32, height: 16 }]);
    assert_eq!(f.picture(Rect { x: 0, y: 0, width: 1, height: 1 }), [0, 0, 255, 255]);
    f.event(2, &[0, 0, 64, 40]);
    assert_eq!(f.damage(), [Rect { x: 0, y: 0, width: 32, height: 16 }]);
}

#[test]
fn sizes_that_do_not_fit_change_nothing() {
    let mut f = Front::new();
    f.damage();
    let before = f.mode();
    for words in [
        [64, 49, 256, 32, 0],
        [64, 40, 256, 32, 3 * 4096],
        [64, 40, 256, 32, -1],
        [64, 40, 255, 32, 0],
        [64, 40, 0, 32, 0],
        [64, 40, -1, 32, 0],
        [0, 40, 256, 32, 0],
        [-64, 40, 256, 32, 0],
        [64, i32::MIN, 256, 32, 0],
        [64, 40, 256, 15, 0],
        [i32::MAX, i32::MAX, i32::MAX, 8, i32::MAX],
    ] {
        f.event(3, &words);
        assert_eq!((f.mode(), f.state()), (before, Connected), "{words:?}");
    }
    assert_eq!(f.damage(), []);
    f.event(3, &[64, 48, 256, 32, 0]);
    assert_ne!(f.mode(), before);
}

#[test]
fn a_front_end_that_does_not_make_sense_is_not_connected() {
    type Damage = fn(&mut Front);
    let cases: [(&str, Damage); 14] = [
        ("no such frame for the list", |f| f.guest.ram.write(f.page + 0x28, &u64::MAX.to_le_bytes())),
        ("the hypervisor's frame for the list", |f| {
            let frame = f.guest.domain.frames.shared_info;
            f.guest.ram.write(f.page + 0x28, &frame.to_le_bytes());
        }),
        ("the hypervisor's frame for the picture", |f| {
            let frame = f.guest.domain.frames.grants;
            f.guest.ram.write(f.list + 16, &frame.to_le_bytes());
        }),
        ("a frame whose address is too large", |f| f.guest.ram.write(f.list, &(1u64 << 52).to_le_bytes())),
        ("more memory than it lists", |f| {
            f.set(0x1c, u32::MAX);
            f.guest.ram.write(f.page + 0x30, &u64::MAX.to_le_bytes());
        }),
        ("less memory than the picture", |f| f.set(0x1c, 4096)),
        ("no memory", |f| f.set(0x1c, 0)),
        ("no width", |f| f.set(0x10, 0)),
        ("a negative height", |f| f.set(0x14, u32::MAX)),
        ("lines that overlap", |f| f.set(0x18, 255)),
        ("pixels of no bits", |f| f.guest.ram.write(f.page + 0x20, &[0])),
        ("more events than there can be", |f| f.set(12, 52)),
        ("events that it has not got", |f| f.set(0, 1)),
        ("a port that waits for nobody", |f| f.port = 1000),
    ];
    for (what, damage) in cases {
        let mut f = Front::unconnected(true);
        damage(&mut f);
        f.connect(&[("feature-update", "1")]);
        assert_eq!((f.state(), f.mode(), f.guest.logs().len()), (Closing, None, 1), "{what}");
        // What was taken is given back, so it can try again.
        if what != "a port that waits for nobody" {
            let waits = crate::xen::event::Binding::Unbound(domid::DOM0);
            assert_eq!(f.guest.domain.ports.binding(f.port), waits, "{what}");
        }
    }
    for (key, value) in [
        ("page-ref", "x"),
        ("page-ref", "99999999999999999999"),
        ("page-ref", "4503599627370496"),
        ("event-channel", "-1"),
    ] {
        let mut f = Front::unconnected(true);
        f.connect(&[(key, value)]);
        assert_eq!(f.state(), Closing, "{key}={value}");
    }
}

#[test]
fn impossible_indices_end_the_connection_and_it_can_start_over() {
    let mut f = Front::new();
    f.set(12, 52);
    f.guest.kick(f.port);
    assert_eq!((f.state(), f.mode()), (Closing, None));
    f.guest.set(&f.paths, &[], Closed);
    f.guest.set(&f.paths, &[], Initialising);
    assert_eq!(f.state(), InitWait);
    f.set(12, 0);
    f.port = f.guest.port();
    f.connect(&[("feature-update", "1")]);
    assert_eq!((f.state(), f.damage()), (Connected, vec![whole()]));
}

#[test]
fn who_looks_does_not_change_the_guest() {
    let mut f = Front::new();
    f.event(2, &[1, 2, 3, 4]);
    let before = f.guest.state_bytes();
    f.damage();
    f.picture(whole());
    assert_eq!(f.guest.state_bytes(), before);
    f.event(3, &[32, 40, 256, 32, 0]);
    assert_ne!(f.guest.state_bytes(), before, "the mode is part of the state");
}

#[test]
fn a_hostile_front_end_harms_only_itself() {
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut connected = 0;
    for _ in 0..300 {
        let mut f = Front::unconnected(random() % 2 == 0);
        // Some damage before it connects: sizes, lists, entries.
        for _ in 0..random() % 3 {
            let at = [f.page + 0x10 + random() % 32, f.list + random() % 24][random() as usize % 2];
            f.guest.ram.write(at, &random().to_le_bytes()[..1 + random() as usize % 8]);
        }
        f.connect(&[("feature-update", "1"), ("protocol", ["x86_64-abi", "x86_32-abi"][random() as usize % 2])]);
        connected += u32::from(f.state() == Connected);
        for _ in 0..30 {
            match random() % 6 {
                0 => {
                    let (at, v) = (random() % 4096, random().to_le_bytes());
                    f.guest.ram.write(f.page + at, &v[..1 + random() as usize % 8]);
                    f.guest.kick(f.port);
                }
                1 => {
                    let mut n = |max: u64| (random() % max) as i32;
                    let depth = [8, 16, 24, 32][n(4) as usize];
                    let words = [n(200), n(200), n(1000), depth, n(20000)];
                    f.event(3, &words);
                }
                _ => {
                    let words =
                        [0; 5].map(|_| if random() % 4 == 0 { random() as i32 } else { (random() % 100) as i32 });
                    f.event(2 + (random() % 2) as u8, &words);
                }
            }
            let damage = f.damage();
            assert!(damage.len() <= 16);
            match f.mode() {
                Some(mode) => {
                    let inside =
                        |r: &Rect| r.x + r.width <= mode.width && r.y + r.height <= mode.height && r.area() > 0;
                    assert!(damage.iter().all(inside), "{damage:?}");
                    for part in damage {
                        f.picture(part);
                    }
                }
                None => assert!(damage.is_empty()),
            }
            let part = Rect {
                x: random() as u32,
                y: random() as u32,
                width: (random() % 50) as u32,
                height: (random() % 50) as u32,
            };
            f.picture(part);
        }
        assert!(f.guest.logs().len() <= 16);
    }
    assert!(connected > 20, "{connected}");
}
