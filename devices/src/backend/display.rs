//! What a screen shows: the picture of any graphics device, with what has changed in it, for whoever draws it. The pixel
//! formats are those that cards have had since VESA's BIOS extensions; text modes are a matter of the card.

use serde::Serialize;

/// Longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 8192;
/// Most pixels of a picture: it is the guest who chooses, and the host who has to hold it.
pub const MAX_PIXELS: u32 = 1 << 23;
/// Bytes of a pixel in the host's pictures: red, green, blue, 255.
pub const RGBA: usize = 4;
/// Rectangles that [`Damage`] keeps apart.
const MAX_RECTS: usize = 16;

/// A display to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisplayConfig {
    /// Pixels of a line, at first: the guest may choose another size.
    pub width: u32,
    /// Lines, at first.
    pub height: u32,
}

impl DisplayConfig {
    /// Such a display, within what there can be.
    pub fn new(width: u32, height: u32) -> Self {
        let width = width.clamp(1, MAX_SIDE);
        Self { width, height: height.clamp(1, MAX_SIDE.min(MAX_PIXELS / width)) }
    }
}

/// How a pixel is stored; words are little-endian, and the first colour has the highest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the bits of each colour")]
pub enum PixelFormat {
    Rgb332,
    Rgb565,
    Rgb888,
    /// Four bytes, of which the last is nothing.
    Xrgb8888,
}

impl PixelFormat {
    /// The usual format for so many bits.
    pub fn of_depth(bits: u32) -> Option<Self> {
        Some(match bits {
            8 => Self::Rgb332,
            16 => Self::Rgb565,
            24 => Self::Rgb888,
            32 => Self::Xrgb8888,
            _ => return None,
        })
    }
    /// Bytes of a pixel.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Rgb332 => 1,
            Self::Rgb565 => 2,
            Self::Rgb888 => 3,
            Self::Xrgb8888 => 4,
        }
    }
    /// Converts pixels, as many as both sides have.
    pub fn to_rgba(self, from: &[u8], to: &mut [u8]) {
        let to = to.as_chunks_mut::<RGBA>().0.iter_mut();
        // A value of few bits becomes eight so that the largest is 255.
        let wide = |v: u16, bits: u32| (u32::from(v & ((1 << bits) - 1)) * 255 / ((1 << bits) - 1)) as u8;
        match self {
            Self::Rgb332 => to.zip(from).for_each(|(to, &p)| {
                let p = u16::from(p);
                *to = [wide(p >> 5, 3), wide(p >> 2, 3), wide(p, 2), 255];
            }),
            Self::Rgb565 => to.zip(from.as_chunks::<2>().0).for_each(|(to, p)| {
                let p = u16::from_le_bytes(*p);
                *to = [wide(p >> 11, 5), wide(p >> 5, 6), wide(p, 5), 255];
            }),
            Self::Rgb888 => to.zip(from.as_chunks::<3>().0).for_each(|(to, &[b, g, r])| *to = [r, g, b, 255]),
            Self::Xrgb8888 => to.zip(from.as_chunks::<4>().0).for_each(|(to, &[b, g, r, _])| *to = [r, g, b, 255]),
        }
    }
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "what they say")]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Rect {
    /// The part of a rectangle, with any numbers, that lies in a picture of this size; perhaps nothing.
    pub fn clipped(x: i64, y: i64, width: i64, height: i64, (w, h): (u32, u32)) -> Self {
        let cut = |at: i64, len: i64, max: u32| {
            let end = at.saturating_add(len.max(0)).clamp(0, max.into());
            let at = at.clamp(0, end);
            (at as u32, (end - at) as u32)
        };
        let ((x, width), (y, height)) = (cut(x, width, w), cut(y, height, h));
        Self { x, y, width, height }
    }
    /// Pixels.
    pub fn area(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
    /// The smallest that has both.
    fn union(&self, other: &Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let (right, bottom) =
            ((self.x + self.width).max(other.x + other.width), (self.y + self.height).max(other.y + other.height));
        Self { x, y, width: right - x, height: bottom - y }
    }
}

/// How a picture lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mode {
    /// Pixels of a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bytes from a line to the next.
    pub stride: u32,
    /// How a pixel is stored.
    pub format: PixelFormat,
}

impl Mode {
    /// A mode that can be shown.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn new(width: u32, height: u32, stride: u32, format: PixelFormat) -> Result<Self, String> {
        let side = 1..=MAX_SIDE;
        if !side.contains(&width) || !side.contains(&height) || width * height > MAX_PIXELS {
            return Err(format!("a picture of {width} x {height} pixels cannot be shown"));
        }
        if stride < width * format.bytes() {
            return Err(format!("lines of {width} pixels do not fit into {stride} bytes"));
        }
        Ok(Self { width, height, stride, format })
    }
    /// Bytes from the first pixel to the end of the last.
    pub fn bytes(&self) -> u64 {
        u64::from(self.stride) * u64::from(self.height - 1) + u64::from(self.width * self.format.bytes())
    }
    /// The whole picture.
    pub fn whole(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }
}

/// A device that shows a picture. It is looked at between slices: after a change of mode all of it has changed.
pub trait Display {
    /// What it shows now; `None` for nothing.
    fn mode(&self) -> Option<Mode>;
    /// What has changed since the last call; a few rectangles within the picture.
    fn take_damage(&mut self) -> Vec<Rect>;
    /// Copies a part of the picture, line by line without gaps, each pixel as [`RGBA`]. `to` has room for all of it, and
    /// what is outside of the picture is left as it is.
    fn copy(&self, part: Rect, to: &mut [u8]);
}

/// Copies as [`Display::copy`] says, when `read` fills a buffer from a byte of the picture on.
pub fn copy_lines(mode: &Mode, part: Rect, to: &mut [u8], mut read: impl FnMut(u64, &mut [u8])) {
    let Some(pitch) = (part.width as usize).checked_mul(RGBA).filter(|n| *n > 0) else { return };
    let inside =
        Rect::clipped(part.x.into(), part.y.into(), part.width.into(), part.height.into(), (mode.width, mode.height));
    let mut line = vec![0; (inside.width * mode.format.bytes()) as usize];
    for (y, to) in (inside.y..inside.y + inside.height).zip(to.chunks_mut(pitch)) {
        read(u64::from(y) * u64::from(mode.stride) + u64::from(inside.x * mode.format.bytes()), &mut line);
        mode.format.to_rgba(&line, to);
    }
}

/// What has changed in a picture: a short list of rectangles, joined where little is lost.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    rects: Vec<Rect>,
}

impl Damage {
    /// A part has changed.
    pub fn add(&mut self, mut new: Rect) {
        if new.area() == 0 {
            return;
        }
        // What it is joined to may then touch others.
        while let Some((n, joined)) = self.neighbour(&new) {
            self.rects.swap_remove(n);
            new = joined;
        }
        self.rects.push(new);
    }
    /// A rectangle to join with: the one that adds the fewest pixels, if these are few or the list is full.
    fn neighbour(&self, new: &Rect) -> Option<(usize, Rect)> {
        let cost = |joined: &Rect, old: &Rect| joined.area().saturating_sub(old.area() + new.area());
        let all = self.rects.iter().enumerate().map(|(n, old)| (n, old.union(new), cost(&old.union(new), old)));
        let (n, joined, lost) = all.min_by_key(|&(_, _, lost)| lost)?;
        (lost <= joined.area() / 4 || self.rects.len() >= MAX_RECTS).then_some((n, joined))
    }
    /// All of a picture has changed.
    pub fn set(&mut self, whole: Rect) {
        self.rects.clear();
        self.add(whole);
    }
    /// What has changed since the last call.
    pub fn take(&mut self) -> Vec<Rect> {
        core::mem::take(&mut self.rects)
    }
}

#[cfg(test)]
#[path = "display_tests.rs"]
mod tests;
