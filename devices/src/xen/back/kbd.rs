//! The back end of keyboard and pointer (Xen: public/io/kbdif.h; QEMU: hw/display/xenfb.c; Linux:
//! drivers/input/misc/xen-kbdfront.c). What the guest has no room for waits in a short queue: of motion the oldest is
//! lost, of keys nothing that would leave one pressed.
//!
//! Left out: touch (`XENKBD_TYPE_MTOUCH`), positions that are not scaled (`feature-raw-pointer`), a wheel to the sides.

use super::event_page::{EVENT, EventPage, Layout};
use super::ring::Broken;
use super::xenbus::{Keys, flag};
use super::{BackEnd, Cx, Log};
use crate::backend::display::DisplayConfig;
use crate::backend::input::{KEY_COUNT, Pointer, pixel};
use crate::device::put_state;
use crate::effect::Input;
use crate::xen::store::DevicePaths;
use serde::Serialize;
use std::collections::VecDeque;

/// The rings: of 51 events to the guest, of 25 from it, of which there are no kinds yet.
const LAYOUT: Layout = Layout { to_guest: 0x400..0xc00, from_guest: 0xc00..0x1000 };
/// Events that wait for room.
const MAX_QUEUE: usize = 128;

/// Types of events.
mod kind {
    pub const MOTION: u8 = 1;
    pub const KEY: u8 = 3;
    pub const POS: u8 = 4;
}

/// An event as the guest gets it. `dz` is the wheel, towards the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Event {
    Motion { dx: i32, dy: i32, dz: i32 },
    Position { x: u32, y: u32, dz: i32 },
    Key { code: u16, pressed: bool },
}

impl Event {
    fn bytes(self) -> [u8; EVENT] {
        let (kind, pressed, words) = match self {
            Self::Motion { dx, dy, dz } => (kind::MOTION, false, [dx as u32, dy as u32, dz as u32]),
            Self::Position { x, y, dz } => (kind::POS, false, [x, y, dz as u32]),
            Self::Key { code, pressed } => (kind::KEY, pressed, [code.into(), 0, 0]),
        };
        let mut bytes = [0; EVENT];
        (bytes[0], bytes[1]) = (kind, pressed.into());
        for (to, word) in bytes[4..].as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        bytes
    }
    /// The two as one, if nothing is lost but the way.
    fn join(self, next: Self) -> Option<Self> {
        Some(match (self, next) {
            (Self::Motion { dx, dy, dz }, Self::Motion { dx: a, dy: b, dz: c }) => {
                Self::Motion { dx: dx.saturating_add(a), dy: dy.saturating_add(b), dz: dz.saturating_add(c) }
            }
            (Self::Position { dz, .. }, Self::Position { x, y, dz: c }) => {
                Self::Position { x, y, dz: dz.saturating_add(c) }
            }
            _ => return None,
        })
    }
}

/// A key for each bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct KeySet([u64; KEY_COUNT as usize / 64]);

impl KeySet {
    fn set(&mut self, code: u16, on: bool) {
        if let Some(word) = self.0.get_mut(usize::from(code) / 64) {
            *word = *word & !(1 << (code % 64)) | u64::from(on) << (code % 64);
        }
    }
    fn has(&self, code: u16) -> bool {
        self.0.get(usize::from(code) / 64).is_some_and(|word| word >> (code % 64) & 1 != 0)
    }
}

/// A connection with a front end.
#[derive(Debug, Serialize)]
struct Link {
    events: EventPage,
    /// Does the guest want positions, not motion?
    absolute: bool,
    /// Where the pointer is, in pixels.
    at: (u32, u32),
    queue: VecDeque<Event>,
    /// Keys that are pressed, and those of which the guest knows or will learn from the queue. They differ when a key
    /// had no room.
    pressed: KeySet,
    told: KeySet,
}

impl Link {
    /// Something happens.
    fn enqueue(&mut self, event: Event) {
        let is_motion = |e: &Event| !matches!(e, Event::Key { .. });
        if let Some(last) = self.queue.back_mut() {
            if let Some(joined) = last.join(event) {
                *last = joined;
                return;
            }
        }
        if self.queue.len() >= MAX_QUEUE {
            match self.queue.iter().position(is_motion) {
                Some(oldest) => drop(self.queue.remove(oldest)),
                None => return,
            }
        }
        if let Event::Key { code, pressed } = event {
            self.told.set(code, pressed);
        }
        self.queue.push_back(event);
    }
    /// Keys that had no room.
    fn catch_up(&mut self) {
        for code in 0..KEY_COUNT {
            let pressed = self.pressed.has(code);
            if pressed != self.told.has(code) && self.queue.len() < MAX_QUEUE {
                self.enqueue(Event::Key { code, pressed });
            }
        }
    }

    fn pointer(&mut self, pointer: Pointer, size: DisplayConfig) {
        let (x, y) = self.at;
        // The two sides may speak of different things: what one moves, the other sees at a place.
        match pointer {
            Pointer::Motion { dx, dy } if self.absolute => {
                let go = |at: u32, by: i32, max: u32| at.saturating_add_signed(by).min(max.saturating_sub(1));
                self.place(go(x, dx, size.width), go(y, dy, size.height));
            }
            Pointer::Motion { dx, dy } => self.enqueue(Event::Motion { dx, dy, dz: 0 }),
            Pointer::Position { x, y } => self.place(pixel(x, size.width), pixel(y, size.height)),
            Pointer::Wheel(up) => {
                let dz = up.saturating_neg();
                let event =
                    if self.absolute { Event::Position { x, y, dz } } else { Event::Motion { dx: 0, dy: 0, dz } };
                self.enqueue(event);
            }
            Pointer::Button { button, pressed } => self.key(button.code(), pressed),
        }
    }
    fn place(&mut self, x: u32, y: u32) {
        let (old_x, old_y) = core::mem::replace(&mut self.at, (x, y));
        let (dx, dy) = (x as i32 - old_x as i32, y as i32 - old_y as i32);
        self.enqueue(if self.absolute { Event::Position { x, y, dz: 0 } } else { Event::Motion { dx, dy, dz: 0 } });
    }
    fn key(&mut self, code: u16, pressed: bool) {
        if code < KEY_COUNT {
            self.pressed.set(code, pressed);
            self.enqueue(Event::Key { code, pressed });
        }
    }

    /// Gives the guest what it has room for.
    fn deliver(&mut self, cx: &mut Cx<'_>) -> Result<(), Broken> {
        self.events.check(cx)?;
        self.events.take(cx)?;
        let mut room = self.events.room(cx.ram)?;
        let mut sent = false;
        loop {
            if self.queue.is_empty() && self.pressed != self.told {
                self.catch_up();
            }
            if room == 0 {
                break;
            }
            let Some(event) = self.queue.pop_front() else { break };
            self.events.put(cx.ram, &event.bytes());
            (room, sent) = (room - 1, true);
        }
        if sent {
            cx.notify(self.events.port);
        }
        Ok(())
    }
}

/// A vkbd.
pub struct Kbd {
    /// The range of positions.
    size: DisplayConfig,
    link: Option<Link>,
    log: Log,
}

impl Kbd {
    /// Keyboard and pointer of a display.
    pub fn new(size: DisplayConfig) -> Self {
        Self { size, link: None, log: Log::default() }
    }
}

impl BackEnd for Kbd {
    fn keys(&self) -> (Keys, Keys) {
        let back = vec![
            ("feature-abs-pointer", "1".into()),
            ("width", self.size.width.to_string()),
            ("height", self.size.height.to_string()),
        ];
        (Vec::new(), back)
    }
    fn connect(&mut self, cx: &mut Cx<'_>, paths: &DevicePaths) -> Result<(), String> {
        let absolute = flag(cx.store, &paths.frontend, "request-abs-pointer");
        let events = EventPage::attach(cx, paths, LAYOUT)?;
        let (pressed, told) = Default::default();
        self.link = Some(Link { events, absolute, at: (0, 0), queue: VecDeque::new(), pressed, told });
        Ok(())
    }
    fn disconnect(&mut self, cx: &mut Cx<'_>) {
        if let Some(link) = self.link.take() {
            cx.ports.unbind_back_end(link.events.port);
        }
    }
    fn has_port(&self, port: u32) -> bool {
        self.link.as_ref().is_some_and(|link| link.events.port == port)
    }
    fn kick(&mut self, cx: &mut Cx<'_>) -> Result<(), Broken> {
        self.link.as_mut().map_or(Ok(()), |link| link.deliver(cx))
    }
    fn input(&mut self, cx: &mut Cx<'_>, input: &Input) -> Result<(), Broken> {
        // With nobody connected, what is typed is lost.
        let Some(link) = &mut self.link else { return Ok(()) };
        match *input {
            Input::Key { code, pressed } => link.key(code, pressed),
            Input::Pointer(pointer) => link.pointer(pointer, self.size),
            _ => return Ok(()),
        }
        link.deliver(cx)
    }
    fn log(&mut self) -> &mut Log {
        &mut self.log
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.link);
    }
}

#[cfg(test)]
#[path = "kbd_tests.rs"]
mod tests;
