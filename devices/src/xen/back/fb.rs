//! The framebuffer back end (Xen: public/io/fbif.h; QEMU: hw/display/xenfb.c; Linux: drivers/video/fbdev/xen-fbfront.c).
//! The guest draws in its own memory and says what has changed; whoever shows the picture reads it there.
//!
//! Left out: telling the guest how often it is looked at (`XENFB_TYPE_REFRESH_PERIOD`).

use super::event_page::{EVENT, EventPage, Layout, int};
use super::ring::Broken;
use super::xenbus::{Keys, flag, text};
use super::{BackEnd, Cx, Log};
use crate::backend::display::{Damage, Display, DisplayConfig, Mode, PixelFormat, Rect, copy_lines};
use crate::device::put_state;
use crate::effect::Input;
use crate::xen::store::DevicePaths;
use serde::Serialize;
use tabvisor_core::mem::{GuestRam, PAGE_SIZE};

/// The rings: of 25 events to the guest, of 51 from it.
const LAYOUT: Layout = Layout { to_guest: 0x400..0x800, from_guest: 0x800..0x1000 };
/// Memory that a guest may show, in bytes: much less than the page can list. As in QEMU, what it has beyond is not used.
const MAX_MEMORY: u64 = 64 << 20;

/// Types of events from the guest.
mod kind {
    pub const UPDATE: u8 = 2;
    pub const RESIZE: u8 = 3;
}
/// Offsets in the page, behind the indices.
mod field {
    pub const WIDTH: u64 = 0x10;
    pub const HEIGHT: u64 = 0x14;
    pub const LINE_LENGTH: u64 = 0x18;
    pub const MEM_LENGTH: u64 = 0x1c;
    pub const DEPTH: u64 = 0x20;
    /// Frames of lists of frames: words of the guest's size.
    pub const PD64: u64 = 0x28;
    pub const PD32: u64 = 0x24;
}

/// The picture in memory.
#[derive(Debug, Serialize)]
struct Picture {
    mode: Mode,
    /// Where its first byte is in the memory.
    offset: u64,
}

impl Picture {
    /// The picture that a guest describes, in so many bytes of memory.
    fn new([width, height, stride, depth, offset]: [u32; 5], memory: u64) -> Result<Self, String> {
        let format = PixelFormat::of_depth(depth).ok_or_else(|| format!("pixels of {depth} bits are unknown"))?;
        let mode = Mode::new(width, height, stride, format)?;
        let offset = u64::from(offset);
        if offset + mode.bytes() > memory {
            return Err(format!("{} bytes from {offset} on do not fit into {memory}", mode.bytes()));
        }
        Ok(Self { mode, offset })
    }
}

/// A connection with a front end.
#[derive(Debug, Serialize)]
struct Link {
    events: EventPage,
    /// Frames of the memory in their order, each below the guest's end.
    frames: Vec<u32>,
    /// Does the guest say what it draws?
    updates: bool,
    picture: Picture,
}

/// A vfb.
pub struct Fb {
    config: DisplayConfig,
    /// The guest's memory.
    ram: GuestRam,
    link: Option<Link>,
    /// For whoever looks: no part of the guest's state.
    damage: Damage,
    log: Log,
}

impl Fb {
    /// A display.
    pub fn new(config: DisplayConfig, ram: &GuestRam) -> Self {
        Self { config, ram: ram.clone(), link: None, damage: Damage::default(), log: Log::default() }
    }

    fn event(&mut self, cx: &mut Cx<'_>, link: &mut Link, event: &[u8; EVENT]) {
        let at = |n: usize| int(event, 4 * n);
        match event[0] {
            kind::UPDATE => {
                let Mode { width, height, .. } = link.picture.mode;
                let [x, y, w, h] = [1, 2, 3, 4].map(|n| at(n).into());
                self.damage.add(Rect::clipped(x, y, w, h, (width, height)));
            }
            kind::RESIZE => {
                let memory = link.frames.len() as u64 * PAGE_SIZE;
                match Picture::new([1, 2, 3, 4, 5].map(|n| at(n) as u32), memory) {
                    Ok(picture) => {
                        self.damage.set(picture.mode.whole());
                        link.picture = picture;
                    }
                    Err(why) => self.log.say(cx.out, format!("vfb: {why}")),
                }
            }
            _ => {}
        }
    }
}

/// The frames of the guest's memory, by the lists that the page names.
fn frames(cx: &Cx<'_>, events: &EventPage, wide: bool, memory: u64) -> Result<Vec<u32>, String> {
    let (word, pd) = if wide { (8, field::PD64) } else { (4, field::PD32) };
    let mut left = memory.min(MAX_MEMORY).div_ceil(PAGE_SIZE);
    let per_list = PAGE_SIZE / word;
    let mut all = Vec::with_capacity(left as usize);
    for n in 0..left.div_ceil(per_list) {
        let number = |at: u64| if wide { events.long(cx.ram, at) } else { events.word(cx.ram, at).into() };
        let list = cx.frame(number(pd + word * n), false)?;
        let mut bytes = vec![0; (left.min(per_list) * word) as usize];
        cx.ram.read(list, &mut bytes);
        for entry in bytes.chunks(word as usize) {
            let frame = crate::device::le(entry);
            cx.frame(frame, false)?;
            all.push(u32::try_from(frame).expect("the guest's memory is below 4 GiB"));
        }
        left -= left.min(per_list);
    }
    Ok(all)
}

impl BackEnd for Fb {
    fn keys(&self) -> (Keys, Keys) {
        let DisplayConfig { width, height } = self.config;
        // In MiB. Linux takes it for a limit; how much it wants is an option of its own (xen_fbfront.video=MiB,W,H).
        let memory = (u64::from(width) * u64::from(height) * 4).div_ceil(1 << 20).min(MAX_MEMORY >> 20);
        let back = vec![
            ("width", width.to_string()),
            ("height", height.to_string()),
            ("videoram", memory.to_string()),
            ("feature-resize", "1".into()),
            ("request-update", "1".into()),
        ];
        (Vec::new(), back)
    }
    fn connect(&mut self, cx: &mut Cx<'_>, paths: &DevicePaths) -> Result<(), String> {
        let wide = text(cx.store, &paths.frontend, "protocol") != Some("x86_32-abi");
        let updates = flag(cx.store, &paths.frontend, "feature-update");
        let events = EventPage::attach(cx, paths, LAYOUT)?;
        let result = (|| {
            let word = |at| events.word(cx.ram, at);
            let frames = frames(cx, &events, wide, word(field::MEM_LENGTH).into())?;
            let [width, height, stride] = [field::WIDTH, field::HEIGHT, field::LINE_LENGTH].map(word);
            let depth = word(field::DEPTH) & 0xff;
            let picture = Picture::new([width, height, stride, depth, 0], frames.len() as u64 * PAGE_SIZE)?;
            Ok((frames, picture))
        })();
        match result {
            Ok((frames, picture)) => {
                self.damage.set(picture.mode.whole());
                self.link = Some(Link { events, frames, updates, picture });
                Ok(())
            }
            Err(why) => {
                cx.ports.unbind_back_end(events.port);
                Err(why)
            }
        }
    }
    fn disconnect(&mut self, cx: &mut Cx<'_>) {
        if let Some(link) = self.link.take() {
            cx.ports.unbind_back_end(link.events.port);
        }
        self.damage.take();
    }
    fn has_port(&self, port: u32) -> bool {
        self.link.as_ref().is_some_and(|link| link.events.port == port)
    }
    fn kick(&mut self, cx: &mut Cx<'_>) -> Result<(), Broken> {
        let Some(mut link) = self.link.take() else { return Ok(()) };
        let result = link.events.check(cx).and_then(|()| link.events.take(cx));
        let result = result.map(|all| all.iter().for_each(|event| self.event(cx, &mut link, event)));
        self.link = Some(link);
        result
    }
    fn input(&mut self, _cx: &mut Cx<'_>, _input: &Input) -> Result<(), Broken> {
        Ok(())
    }
    fn display(&mut self) -> Option<&mut dyn Display> {
        Some(self)
    }
    fn log(&mut self) -> &mut Log {
        &mut self.log
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.link);
    }
}

impl Display for Fb {
    fn mode(&self) -> Option<Mode> {
        self.link.as_ref().map(|link| link.picture.mode)
    }
    fn take_damage(&mut self) -> Vec<Rect> {
        match &self.link {
            // It could have changed anywhere.
            Some(link) if !link.updates => vec![link.picture.mode.whole()],
            _ => self.damage.take(),
        }
    }
    fn copy(&self, part: Rect, to: &mut [u8]) {
        let Some(link) = &self.link else { return };
        copy_lines(&link.picture.mode, part, to, |at, mut line| {
            let mut at = link.picture.offset + at;
            while !line.is_empty() {
                let n = line.len().min((PAGE_SIZE - at % PAGE_SIZE) as usize);
                let (piece, rest) = line.split_at_mut(n);
                // What the guest does with a frame can have changed; it is its own all the same.
                if let Some(frame) = link.frames.get((at / PAGE_SIZE) as usize) {
                    self.ram.read(u64::from(*frame) * PAGE_SIZE + at % PAGE_SIZE, piece);
                }
                (line, at) = (rest, at + n as u64);
            }
        });
    }
}

#[cfg(test)]
#[path = "fb_tests.rs"]
mod tests;
