//! A device's life in xenstore (Xen: public/io/xenbus.h; Linux: drivers/xen/xenbus, drivers/block/xen-blkback/xenbus.c).

use super::{BackEnd, Cx};
use crate::xen::store::{DevicePaths, Store, SubscriptionId};
use core::str::FromStr;
use serde::Serialize;

/// `enum xenbus_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "Xen's names")]
pub enum XenbusState {
    Unknown = 0,
    Initialising = 1,
    InitWait = 2,
    Initialised = 3,
    Connected = 4,
    Closing = 5,
    Closed = 6,
    Reconfiguring = 7,
    Reconfigured = 8,
}

impl XenbusState {
    /// What a `state` node says; [`XenbusState::Unknown`] if there is none.
    pub fn read(store: &Store, dir: &str) -> Self {
        use XenbusState::*;
        let all =
            [Unknown, Initialising, InitWait, Initialised, Connected, Closing, Closed, Reconfiguring, Reconfigured];
        number(store, dir, "state").and_then(|n: usize| all.get(n).copied()).unwrap_or(Unknown)
    }
}

/// A key of a directory, as text.
pub fn text<'a>(store: &'a Store, dir: &str, key: &str) -> Option<&'a str> {
    store.read(&format!("{dir}/{key}")).and_then(|v| core::str::from_utf8(v).ok())
}
/// A key of a directory, as a decimal number.
pub fn number<T: FromStr>(store: &Store, dir: &str, key: &str) -> Option<T> {
    text(store, dir, key).and_then(|v| v.trim_matches('\0').trim().parse().ok())
}
/// A key that turns something on.
pub fn flag(store: &Store, dir: &str, key: &str) -> bool {
    number(store, dir, key).is_some_and(|n: u32| n != 0)
}

/// Keys of a directory.
pub type Keys = Vec<(&'static str, String)>;

fn borrowed(keys: &Keys) -> Vec<(&str, &str)> {
    keys.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

/// A device: its place in xenstore, and what it does once it is connected.
pub struct Device {
    /// What it is in xenstore, and its number there.
    pub kind: &'static str,
    pub number: u32,
    /// Its directories.
    pub paths: DevicePaths,
    /// Our side's state.
    pub state: XenbusState,
    subscription: SubscriptionId,
    /// What it does.
    pub back: Box<dyn BackEnd>,
}

impl Device {
    /// A device that waits for its front end.
    pub fn new(store: &mut Store, domid: u16, kind: &'static str, number: u32, back: Box<dyn BackEnd>) -> Self {
        let (front_keys, mut back_keys) = back.keys();
        let state = XenbusState::InitWait;
        back_keys.push(("state", (state as u8).to_string()));
        let paths = store
            .add_device(kind, domid, number, &borrowed(&front_keys), &borrowed(&back_keys))
            .expect("our own keys are valid");
        let subscription = store.subscribe(&paths.frontend);
        Self { kind, number, paths, state, subscription, back }
    }

    /// Looks whether the front end has changed its state, and follows it. `true`: it is connected now.
    pub fn watch(&mut self, cx: &mut Cx<'_>) -> bool {
        use XenbusState::*;
        if !cx.store.has_changes(self.subscription) {
            return false;
        }
        cx.store.take_changes(self.subscription);
        let before = self.state;
        match XenbusState::read(cx.store, &self.paths.frontend) {
            // A front end that starts over: a driver that was loaded again, another kernel in the same domain.
            Initialising if self.state != InitWait => {
                self.back.disconnect(cx);
                self.switch(cx, InitWait);
            }
            // One of the two says that its keys are complete; who is slow sees only the second.
            Initialised | Connected if self.state == InitWait => match self.back.connect(cx, &self.paths) {
                Ok(()) => self.switch(cx, Connected),
                Err(why) => {
                    let text = format!("{}: cannot connect: {why}", self.paths.backend);
                    self.back.log().say(cx.out, text);
                    self.back.disconnect(cx);
                    self.switch(cx, Closing);
                }
            },
            Closing if self.state != Closed => self.switch(cx, Closing),
            // Also if the guest has removed its node.
            Closed | Unknown => {
                self.back.disconnect(cx);
                self.switch(cx, Closed);
            }
            _ => {}
        }
        (before, self.state) == (InitWait, Connected)
    }
    fn switch(&mut self, cx: &mut Cx<'_>, to: XenbusState) {
        if self.state != to {
            self.state = to;
            let path = format!("{}/state", self.paths.backend);
            cx.store.write(&path, (to as u8).to_string()).expect("our own path is valid");
        }
    }
    /// The front end's indices make no sense: it gets nothing more until it starts over.
    pub fn fail(&mut self, cx: &mut Cx<'_>, why: &str) {
        let text = format!("{}: disconnected: {why}", self.paths.backend);
        self.back.log().say(cx.out, text);
        self.back.disconnect(cx);
        self.switch(cx, XenbusState::Closing);
    }
}
