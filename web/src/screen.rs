//! The screen of a domain at the boundary: what has changed in its picture goes out in portions, what people do with
//! keyboard and pointer comes in. `www/picture.js` is the other side of both formats.

use tabvisor_devices::backend::display::{Display, RGBA, Rect};
use tabvisor_devices::backend::input::{Button, Pointer};
use tabvisor_devices::effect::Input;

/// Pixels of a portion at most: it is the guest who says how large a picture is, and the page that has to hold a copy.
const PORTION: u64 = 1 << 20;
/// Bytes in front of a portion, and of each rectangle in it.
const HEAD: usize = 8;
/// Rectangles that are kept for later portions; more become one.
const MAX_RECTS: usize = 64;
/// Numbers of an event of [`inputs`].
const EVENT: usize = 3;

/// What the page has seen of a display.
#[derive(Debug, Default)]
pub struct Screen {
    /// Pixels of a line, lines; zeros while there is no picture.
    size: (u32, u32),
    /// What it has not seen of the picture.
    rest: Vec<Rect>,
}

impl Screen {
    /// A portion of what has changed, nothing if nothing has. Numbers of 16 bits, the lower byte first: width and height of
    /// the picture (zeros: there is none), whether there is more, zero; then for each rectangle x, y, width, height, and its
    /// pixels, red, green, blue, 255.
    pub fn take(&mut self, display: Option<&mut dyn Display>) -> Vec<u8> {
        let Some(display) = display else { return self.none() };
        let Some(mode) = display.mode() else { return self.none() };
        let damage = display.take_damage();
        if self.size == (mode.width, mode.height) {
            self.rest.extend(damage);
        } else {
            self.size = (mode.width, mode.height);
            self.rest = vec![mode.whole()];
        }
        // Rectangles that lie on one another are not worth more than the picture.
        if self.rest.len() > MAX_RECTS || self.rest.iter().map(Rect::area).sum::<u64>() > mode.whole().area() {
            self.rest = vec![mode.whole()];
        }
        let now = self.portion();
        let bytes = now.iter().map(|r| HEAD + r.area() as usize * RGBA).sum::<usize>();
        let mut out = Vec::with_capacity(if bytes > 0 { HEAD + bytes } else { 0 });
        if now.is_empty() {
            return out;
        }
        put(&mut out, [mode.width, mode.height, u32::from(!self.rest.is_empty()), 0]);
        for rect in now {
            put(&mut out, [rect.x, rect.y, rect.width, rect.height]);
            let at = out.len();
            out.resize(at + rect.area() as usize * RGBA, 0);
            display.copy(rect, &mut out[at..]);
        }
        out
    }

    /// There is no picture, which is news once.
    fn none(&mut self) -> Vec<u8> {
        let had = core::mem::take(self).size != (0, 0);
        if had { vec![0; HEAD] } else { Vec::new() }
    }

    /// Takes rectangles, and pieces of them, until a portion is full.
    fn portion(&mut self) -> Vec<Rect> {
        let mut room = PORTION;
        let mut now = Vec::new();
        while let Some(rect) = self.rest.pop() {
            // A line always fits: the longest has 8192 pixels.
            let lines = (room / u64::from(rect.width.max(1))).min(rect.height.into()) as u32;
            let (piece, rest) =
                (Rect { height: lines, ..rect }, Rect { y: rect.y + lines, height: rect.height - lines, ..rect });
            room -= piece.area();
            now.extend((piece.area() > 0).then_some(piece));
            if rest.area() > 0 {
                self.rest.push(rest);
                break;
            }
        }
        now
    }
}

fn put(out: &mut Vec<u8>, words: [u32; 4]) {
    for word in words {
        out.extend_from_slice(&(word as u16).to_le_bytes());
    }
}

/// What people do, three numbers for each event: 0, the key's code, is it pressed; 1, a position from 0 to 65535, from the
/// left and from above; 2, the button's number, is it pressed; 3, steps of the wheel away from the user, nothing. Others are
/// left out.
pub fn inputs(events: &[i32]) -> impl Iterator<Item = Input> {
    const BUTTONS: [Button; 5] = [Button::Left, Button::Right, Button::Middle, Button::Side, Button::Extra];
    events.as_chunks::<EVENT>().0.iter().filter_map(|&[kind, a, b]| {
        Some(match kind {
            0 => Input::Key { code: u16::try_from(a).ok()?, pressed: b != 0 },
            1 => Input::Pointer(Pointer::Position { x: u16::try_from(a).ok()?, y: u16::try_from(b).ok()? }),
            2 => {
                let button = *BUTTONS.get(usize::try_from(a).ok()?)?;
                Input::Pointer(Pointer::Button { button, pressed: b != 0 })
            }
            3 => Input::Pointer(Pointer::Wheel(a)),
            _ => return None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tabvisor_devices::backend::display::{Damage, MAX_PIXELS, Mode, PixelFormat, copy_lines};

    /// A picture whose pixels are their numbers.
    struct Picture {
        mode: Option<Mode>,
        damage: Damage,
    }

    impl Picture {
        fn new(width: u32, height: u32) -> Self {
            let mode = Mode::new(width, height, width * 4, PixelFormat::Xrgb8888).expect("it can be shown");
            Self { mode: Some(mode), damage: Damage::default() }
        }
        fn changed(&mut self, x: u32, y: u32, width: u32, height: u32) {
            self.damage.add(Rect { x, y, width, height });
        }
    }

    impl Display for Picture {
        fn mode(&self) -> Option<Mode> {
            self.mode
        }
        fn take_damage(&mut self) -> Vec<Rect> {
            self.damage.take()
        }
        fn copy(&self, part: Rect, to: &mut [u8]) {
            let Some(mode) = &self.mode else { return };
            copy_lines(mode, part, to, |at, line| {
                for (n, pixel) in line.chunks_mut(4).enumerate() {
                    pixel.copy_from_slice(&(at as u32 / 4 + n as u32).to_le_bytes());
                }
            });
        }
    }

    /// Draws a portion; the picture's size and whether there is more.
    fn draw(bytes: &[u8], to: &mut [u32]) -> (u32, u32, bool) {
        let word = |at: usize| u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let (width, height) = (word(0), word(2));
        let mut at = HEAD;
        while at < bytes.len() {
            let rect = Rect { x: word(at), y: word(at + 2), width: word(at + 4), height: word(at + 6) };
            at += HEAD;
            for y in rect.y..rect.y + rect.height {
                for x in rect.x..rect.x + rect.width {
                    let [r, g, b, alpha] = [0, 1, 2, 3].map(|n| bytes[at + n]);
                    assert_eq!(alpha, 255);
                    to[(y * width + x) as usize] = u32::from_be_bytes([0, r, g, b]);
                    at += RGBA;
                }
            }
        }
        (width, height, word(4) != 0)
    }

    #[test]
    fn what_changes_is_seen_once() {
        let mut screen = Screen::default();
        assert!(screen.take(None).is_empty());
        let mut picture = Picture::new(40, 30);
        let mut seen = vec![u32::MAX; 40 * 30];
        let first = screen.take(Some(&mut picture));
        assert_eq!(draw(&first, &mut seen), (40, 30, false));
        assert!(seen.iter().zip(0..).all(|(pixel, n)| *pixel == n));
        assert!(screen.take(Some(&mut picture)).is_empty());

        picture.changed(3, 4, 2, 1);
        let mut seen = vec![u32::MAX; 40 * 30];
        let bytes = screen.take(Some(&mut picture));
        assert_eq!(bytes.len(), HEAD + HEAD + 2 * RGBA);
        draw(&bytes, &mut seen);
        assert_eq!(seen.iter().filter(|p| **p != u32::MAX).copied().collect::<Vec<_>>(), [163, 164]);
    }

    #[test]
    fn a_picture_that_is_gone_or_of_another_size_is_news() {
        let mut screen = Screen::default();
        let mut picture = Picture::new(4, 2);
        assert!(!screen.take(Some(&mut picture)).is_empty());
        picture.mode = None;
        assert_eq!(screen.take(Some(&mut picture)), [0; HEAD]);
        assert!(screen.take(Some(&mut picture)).is_empty());
        assert!(!screen.take(Some(&mut Picture::new(4, 2))).is_empty());
        let wide = screen.take(Some(&mut Picture::new(8, 1)));
        assert_eq!((wide[0], wide[2], wide.len()), (8, 1, 2 * HEAD + 8 * RGBA));
    }

    #[test]
    fn the_largest_picture_comes_in_portions() {
        let (mut screen, mut picture) = (Screen::default(), Picture::new(8192, MAX_PIXELS / 8192));
        let mut seen = vec![u32::MAX; MAX_PIXELS as usize];
        for portion in 1.. {
            let bytes = screen.take(Some(&mut picture));
            assert!(bytes.len() <= 2 * HEAD + PORTION as usize * RGBA && portion <= 8, "portion {portion}");
            if !draw(&bytes, &mut seen).2 {
                break;
            }
        }
        assert!(seen.iter().zip(0..).all(|(pixel, n)| *pixel == n));
    }

    #[test]
    fn a_storm_of_changes_is_no_more_than_the_picture() {
        let (mut screen, mut picture) = (Screen::default(), Picture::new(2048, 1024));
        screen.take(Some(&mut picture));
        for round in 0..200 {
            for k in 0..8 {
                picture.changed(k * 200 + round % 50, round * 5, 100 + k * 30, 20);
            }
            assert!(screen.take(Some(&mut picture)).len() <= (MAX_RECTS + 1) * HEAD + PORTION as usize * RGBA);
            assert!(screen.rest.iter().map(Rect::area).sum::<u64>() <= 2048 * 1024);
        }
    }

    #[test]
    fn events_are_what_the_page_says() {
        let events = [0, 30, 1, 1, 65535, 0, 2, 2, 1, 3, -2, 0, 0, -1, 1, 1, 70000, 0, 2, 9, 1, 8, 0, 0, 0, 1];
        let all: Vec<Input> = inputs(&events).collect();
        let pointer = [
            Pointer::Position { x: 65535, y: 0 },
            Pointer::Button { button: Button::Middle, pressed: true },
            Pointer::Wheel(-2),
        ];
        assert_eq!(all[0], Input::Key { code: 30, pressed: true });
        assert_eq!(all[1..], pointer.map(Input::Pointer));
    }
}
