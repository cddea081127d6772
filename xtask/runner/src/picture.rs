//! The guest's display as a file: a portable pixmap, which any program for pictures can read (netpbm: ppm(5)).

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tabvisor_devices::backend::display::{Display, RGBA};

/// What the display shows now, as a file; `None` if it shows nothing.
pub fn ppm(display: &dyn Display) -> Option<Vec<u8>> {
    let mode = display.mode()?;
    let mut rgba = vec![0; mode.width as usize * mode.height as usize * RGBA];
    display.copy(mode.whole(), &mut rgba);
    let mut bytes = format!("P6\n{} {}\n255\n", mode.width, mode.height).into_bytes();
    bytes.extend(rgba.chunks(RGBA).flat_map(|p| &p[..3]));
    Some(bytes)
}

/// How old a picture may be.
const AGE: Duration = Duration::from_millis(200);

/// Keeps the last picture for a file: a guest that switches itself off lets go of its display first.
pub struct Last {
    file: PathBuf,
    picture: Option<Vec<u8>>,
    taken: Instant,
}

impl Last {
    /// For this file.
    pub fn new(file: PathBuf) -> Self {
        Self { file, picture: None, taken: Instant::now() }
    }
    /// Looks at the display, if it was not just looked at.
    pub fn look(&mut self, display: Option<&mut dyn Display>) {
        if self.taken.elapsed() >= AGE {
            self.taken = Instant::now();
            self.take(display);
        }
    }
    fn take(&mut self, display: Option<&mut dyn Display>) {
        if let Some(display) = display.filter(|d| d.mode().is_some()) {
            if !display.take_damage().is_empty() {
                self.picture = ppm(display);
            }
        }
    }
    /// Writes the file; what there is to say of it.
    pub fn save(&mut self, display: Option<&mut dyn Display>) -> Result<String> {
        self.take(display);
        let file = self.file.display();
        let Some(bytes) = &self.picture else {
            return Ok(format!("the display has shown nothing, so there is no {file}"));
        };
        std::fs::write(&self.file, bytes).with_context(|| format!("cannot write the picture to {file}"))?;
        Ok(format!("the last picture is in {file}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tabvisor_devices::backend::display::{Mode, PixelFormat, Rect};

    struct Two;

    impl Display for Two {
        fn mode(&self) -> Option<Mode> {
            Mode::new(2, 1, 8, PixelFormat::Xrgb8888).ok()
        }
        fn take_damage(&mut self) -> Vec<Rect> {
            Vec::new()
        }
        fn copy(&self, _part: Rect, to: &mut [u8]) {
            to.copy_from_slice(&[1, 2, 3, 255, 4, 5, 6, 255]);
        }
    }

    #[test]
    fn a_picture_is_a_header_and_three_bytes_a_pixel() {
        assert_eq!(ppm(&Two).unwrap(), b"P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06");
    }
}
