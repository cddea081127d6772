use super::super::front::Guest;
use super::super::xenbus::XenbusState::*;
use super::*;
use crate::backend::input::{Button, FAR, position};
use crate::xen::abi::domid;
use tabvisor_core::mem::PAGE_SHIFT;

const CONFIG: DisplayConfig = DisplayConfig { width: 800, height: 600 };
const SLOTS: usize = 51;

/// What kbdfront is.
struct Front {
    guest: Guest,
    paths: DevicePaths,
    page: u64,
    port: u32,
    in_cons: u32,
}

/// An event as a guest reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    Motion([i32; 3]),
    Key(u32, bool),
    Position([i32; 3]),
}
use Got::{Key, Motion, Position};

impl Front {
    fn new(absolute: bool) -> Self {
        let mut guest = Guest::with_display(CONFIG);
        let paths = DevicePaths::new("vkbd", domid::GUEST, 0);
        assert_eq!(guest.state(&paths), InitWait);
        let (page, port) = (guest.page(), guest.port());
        let mut f = Self { guest, paths, page, port, in_cons: 0 };
        f.connect(absolute);
        assert_eq!((f.guest.state(&f.paths), f.guest.logs().len()), (Connected, 0));
        f
    }
    fn connect(&mut self, absolute: bool) {
        let keys = [
            ("page-ref", (self.page >> PAGE_SHIFT).to_string()),
            ("event-channel", self.port.to_string()),
            ("request-abs-pointer", u8::from(absolute).to_string()),
        ];
        self.guest.set(&self.paths, &keys, Initialised);
    }
    fn key(&mut self, code: u16, pressed: bool) {
        self.guest.input(&Input::Key { code, pressed });
    }
    fn pointer(&mut self, pointer: Pointer) {
        self.guest.input(&Input::Pointer(pointer));
    }
    fn set(&self, at: u64, v: u32) {
        self.guest.ram.write(self.page + at, &v.to_le_bytes());
    }
    fn word(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.guest.ram.read_le(self.page + at))
    }
    /// Takes all events there are, and tells the back end.
    fn take(&mut self) -> Vec<Got> {
        let mut all = Vec::new();
        while self.in_cons != self.word(4) {
            let e = self.guest.read(self.page + 0x400 + u64::from(self.in_cons % SLOTS as u32) * 40, 40);
            let word = |n: usize| i32::from_le_bytes([e[4 * n], e[4 * n + 1], e[4 * n + 2], e[4 * n + 3]]);
            all.push(match e[0] {
                1 => Motion([word(1), word(2), word(3)]),
                3 => Key(word(1) as u32, e[1] != 0),
                4 => Position([word(1), word(2), word(3)]),
                other => panic!("an event of type {other}"),
            });
            self.in_cons = self.in_cons.wrapping_add(1);
        }
        self.set(0, self.in_cons);
        if !all.is_empty() {
            self.guest.kick(self.port);
        }
        all
    }
    /// The same until there are no more.
    fn take_all(&mut self) -> Vec<Got> {
        let mut all = Vec::new();
        loop {
            let some = self.take();
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }
    fn state(&self) -> crate::xen::back::xenbus::XenbusState {
        self.guest.state(&self.paths)
    }
}

#[test]
fn keys_and_buttons_arrive_in_their_order_with_an_event() {
    let mut f = Front::new(false);
    assert_eq!(f.guest.get(&f.paths, "feature-abs-pointer").as_deref(), Some("1"));
    f.key(30, true);
    assert!(f.guest.event(f.port));
    f.key(30, true);
    f.key(30, false);
    f.pointer(Pointer::Button { button: Button::Right, pressed: true });
    f.key(KEY_COUNT, true);
    f.key(u16::MAX, true);
    assert_eq!(f.take(), [Key(30, true), Key(30, true), Key(30, false), Key(0x111, true)]);
}

#[test]
fn a_guest_that_wants_motion_gets_motion() {
    let mut f = Front::new(false);
    f.pointer(Pointer::Motion { dx: 3, dy: -4 });
    f.pointer(Pointer::Wheel(2));
    f.pointer(Pointer::Position { x: position(100, 800), y: position(50, 600) });
    f.pointer(Pointer::Position { x: position(90, 800), y: position(60, 600) });
    assert_eq!(f.take(), [Motion([3, -4, 0]), Motion([0, 0, -2]), Motion([100, 50, 0]), Motion([-10, 10, 0])]);
}

#[test]
fn a_guest_that_wants_positions_gets_positions() {
    let mut f = Front::new(true);
    assert_eq!(f.guest.get(&f.paths, "width").as_deref(), Some("800"));
    f.pointer(Pointer::Position { x: FAR, y: FAR });
    f.pointer(Pointer::Motion { dx: -9, dy: 1 });
    f.pointer(Pointer::Wheel(-1));
    f.pointer(Pointer::Motion { dx: i32::MIN, dy: i32::MAX });
    let expected = [Position([799, 599, 0]), Position([790, 599, 0]), Position([790, 599, 1]), Position([0, 599, 0])];
    assert_eq!(f.take(), expected);
}

#[test]
fn what_has_no_room_waits_and_motion_is_joined() {
    let mut f = Front::new(false);
    for n in 0..SLOTS as u16 {
        f.key(n, true);
    }
    f.key(100, true);
    (0..1000).for_each(|_| f.pointer(Pointer::Motion { dx: 1, dy: -1 }));
    f.key(100, false);
    assert_eq!(f.take().len(), SLOTS);
    assert_eq!(f.take(), [Key(100, true), Motion([1000, -1000, 0]), Key(100, false)]);
    assert_eq!(f.take(), []);
}

#[test]
fn of_too_much_the_oldest_motion_is_lost_and_no_key() {
    let mut f = Front::new(false);
    let mut keys = Vec::new();
    // Neither kind can be joined with what is before it.
    for n in 0..150u16 {
        f.key(n, true);
        keys.push(Key(n.into(), true));
        f.pointer(Pointer::Motion { dx: n.into(), dy: 0 });
    }
    let all = f.take_all();
    let (got, moved): (Vec<Got>, Vec<Got>) = all.iter().partition(|e| matches!(e, Key(..)));
    assert_eq!((got, moved.last()), (keys, Some(&Motion([149, 0, 0]))));
    assert!(all.len() <= SLOTS + MAX_QUEUE);
}

#[test]
fn keys_beyond_all_room_are_not_left_pressed() {
    let mut f = Front::new(false);
    for n in 0..600 {
        f.key(n, true);
    }
    for n in 0..599 {
        f.key(n, false);
    }
    let mut pressed = std::collections::BTreeSet::new();
    for e in f.take_all() {
        match e {
            Key(code, true) => pressed.insert(code),
            Key(code, false) => pressed.remove(&code),
            _ => panic!("{e:?}"),
        };
    }
    assert_eq!(Vec::from_iter(pressed), [599]);
}

#[test]
fn what_is_typed_to_nobody_is_lost() {
    let mut f = Front::new(false);
    f.guest.set(&f.paths, &[], Closing);
    f.guest.set(&f.paths, &[], Closed);
    f.key(30, true);
    f.guest.set(&f.paths, &[], Initialising);
    assert_eq!(f.state(), InitWait);
    f.port = f.guest.port();
    f.connect(true);
    f.key(31, true);
    assert_eq!((f.state(), f.take()), (Connected, vec![Key(31, true)]));
}

#[test]
fn a_guest_that_has_taken_what_it_did_not_get_is_disconnected() {
    let mut f = Front::new(false);
    f.set(0, 1);
    f.key(30, true);
    assert_eq!(f.state(), Closing);
    let mut f = Front::new(false);
    f.set(12, 26);
    f.guest.kick(f.port);
    assert_eq!(f.state(), Closing);
}

#[test]
fn what_waits_is_part_of_the_state() {
    let mut f = Front::new(false);
    (0..SLOTS as u16).for_each(|n| f.key(n, true));
    let before = f.guest.state_bytes();
    f.pointer(Pointer::Motion { dx: 1, dy: 0 });
    assert_ne!(f.guest.state_bytes(), before);
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
    for _ in 0..200 {
        let mut f = Front::new(random() % 2 == 0);
        for _ in 0..200 {
            let (a, b) = (random() as i32, random() as i32);
            match random() % 8 {
                0 => {
                    let (at, v) = (random() % 16, random().to_le_bytes());
                    f.guest.ram.write(f.page + at, &v[..1 + random() as usize % 4]);
                }
                1 => f.guest.kick(f.port),
                2 => f.set(0, f.word(4)),
                3 => f.pointer(Pointer::Motion { dx: a, dy: b }),
                4 => f.pointer(Pointer::Position { x: a as u16, y: b as u16 }),
                5 => f.pointer(Pointer::Wheel(a)),
                6 => f.guest.set(
                    &f.paths,
                    &[],
                    [Initialising, Initialised, Connected, Closing, Closed][random() as usize % 5],
                ),
                _ => f.key(a as u16, b > 0),
            }
        }
        assert!(f.guest.logs().len() <= 16);
        let mut state = Vec::new();
        f.guest.domain.back.state_bytes(&mut state);
        assert!(state.len() < 8192, "{}", state.len());
    }
}
