//! Keyboard and pointer, as people use them. Each device makes of it what it can: scan codes, reports, events. Keys are
//! places on the keyboard, not characters; their numbers are Linux's (include/uapi/linux/input-event-codes.h).

use serde::Serialize;

/// Numbers of keys and buttons are below this one (`KEY_CNT`).
pub const KEY_COUNT: u16 = 0x300;
/// [`Pointer::Position`] at the last pixel of a line, or in the last line.
pub const FAR: u16 = u16::MAX;

/// A button of a mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "their usual names")]
pub enum Button {
    Left,
    Right,
    Middle,
    Side,
    Extra,
}

impl Button {
    /// Its number among the keys (`BTN_LEFT` and so on).
    pub fn code(self) -> u16 {
        0x110 + self as u16
    }
}

/// What a pointer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Pointer {
    /// It is moved by so many pixels, to the right and down.
    Motion {
        /// To the right.
        dx: i32,
        /// Down.
        dy: i32,
    },
    /// It is at a place of the picture: 0 is left or above, [`FAR`] right or below, whatever size the picture has.
    Position {
        /// From the left.
        x: u16,
        /// From above.
        y: u16,
    },
    /// A button is pressed or released.
    Button {
        /// Which.
        button: Button,
        /// Pressed, or released.
        pressed: bool,
    },
    /// The wheel is turned by so many steps, away from the user.
    Wheel(i32),
}

/// The pixel at a [`Pointer::Position`], of `size` in a row.
pub fn pixel(position: u16, size: u32) -> u32 {
    let last = u64::from(size.saturating_sub(1));
    ((u64::from(position) * last + u64::from(FAR) / 2) / u64::from(FAR)) as u32
}
/// The [`Pointer::Position`] of a pixel, of `size` in a row.
pub fn position(pixel: u32, size: u32) -> u16 {
    let last = u64::from(size.saturating_sub(1)).max(1);
    ((u64::from(pixel).min(last) * u64::from(FAR) + last / 2) / last) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_has_a_position() {
        for size in [1, 2, 3, 640, 800, 1024, 1920, 8192] {
            for p in 0..size {
                assert_eq!(pixel(position(p, size), size), p, "of {size}");
            }
        }
        assert_eq!((pixel(0, 800), pixel(FAR, 800), pixel(FAR, 0), position(9, 0)), (0, 799, 0, FAR));
    }

    #[test]
    fn buttons_have_the_numbers_that_linux_gives_them() {
        assert_eq!((Button::Left.code(), Button::Middle.code(), Button::Extra.code()), (0x110, 0x112, 0x114));
    }
}
