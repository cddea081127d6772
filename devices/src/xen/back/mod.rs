//! Back ends of a domain's devices (Xen: public/io; in a real system, drivers of domain 0).
//!
//! A [`Device`] follows its front end through xenstore; a [`BackEnd`] serves rings. They run when the guest has sent an
//! event or changed a node, and when something arrives from outside, each time until there is nothing more to do.

pub mod blk;
mod blkif;
mod event_page;
pub mod fb;
#[cfg(test)]
mod front;
pub mod kbd;
pub mod net;
mod netif;
mod ninep;
mod ring;
pub mod share;
mod xenbus;

use super::abi::domid;
use super::domain::{self, Domain, Options};
use super::event::{Binding, Ports};
use super::grant::Grants;
use super::mmu::Types;
use super::store::{DevicePaths, Store};
use crate::backend::BlockBackend;
use crate::backend::display::Display;
use crate::backend::files::Share;
use crate::device::put_state;
use crate::effect::{Effect, Input};
use ring::{Broken, Ring};
use tabvisor_core::mem::{GuestRam, PAGE_SHIFT};
use xenbus::{Device, Keys};

/// What a back end has of the domain and of the world, for the length of one call.
pub struct Cx<'a> {
    /// The guest's memory.
    pub ram: &'a GuestRam,
    grants: &'a Grants,
    types: &'a Types,
    /// Xenstore, as domain 0.
    pub store: &'a mut Store,
    /// The guest's event channels.
    pub ports: &'a mut Ports,
    /// The machine's disks.
    pub disks: &'a mut [Box<dyn BlockBackend>],
    /// Requests to the outside world.
    pub out: &'a mut Vec<Effect>,
    /// Ports at which the guest is to get an event.
    notify: Vec<u32>,
}

impl Cx<'_> {
    /// The guest-physical address of a page that the guest has granted.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn page(&self, reference: u32, write: bool) -> Result<u64, String> {
        let at = self.grants.page(self.ram, reference, write)?;
        if self.may_use(at, write) {
            Ok(at)
        } else {
            Err(format!("grant {reference} is of frame {:#x}, which may not be used so", at >> PAGE_SHIFT))
        }
    }
    /// May a page be read, or written? Its use can have changed since it was granted: page tables are not for writing.
    pub fn may_use(&self, page: u64, write: bool) -> bool {
        let mfn = page >> PAGE_SHIFT;
        if write { self.types.is_data(mfn) } else { self.types.owned(mfn) }
    }
    /// Are the pages of a ring still what they were?
    ///
    /// # Errors
    /// [`Broken`] if we must not write to them any more.
    fn check_ring(&self, ring: &Ring) -> Result<(), Broken> {
        match ring.pages().iter().find(|&&page| !self.may_use(page, true)) {
            Some(page) => Err(Broken(format!("the ring's page at {page:#x} is not for data any more"))),
            None => Ok(()),
        }
    }
    /// The guest gets an event.
    pub fn notify(&mut self, port: u32) {
        if !self.notify.contains(&port) {
            self.notify.push(port);
        }
    }
}

/// Messages of a back end; few, as it is the guest who causes them.
#[derive(Debug)]
pub struct Log {
    left: u8,
}

impl Default for Log {
    fn default() -> Self {
        Self { left: 16 }
    }
}

impl Log {
    /// Says something, unless much was said.
    pub fn say(&mut self, out: &mut Vec<Effect>, text: String) {
        if self.left > 0 {
            self.left -= 1;
            out.push(Effect::Log(text));
        }
    }
}

/// What a device does once it is connected.
pub trait BackEnd {
    /// Further keys of the front end's and of our directory, at first.
    fn keys(&self) -> (Keys, Keys);
    /// The front end has written its keys: attach to its rings and ports, and write what it wants to know.
    ///
    /// # Errors
    /// What is wrong with them, for the log.
    fn connect(&mut self, cx: &mut Cx<'_>, paths: &DevicePaths) -> Result<(), String>;
    /// The rings and ports are gone. May come at any time, also if there is no connection.
    fn disconnect(&mut self, cx: &mut Cx<'_>);
    /// Is it connected through this port?
    fn has_port(&self, port: u32) -> bool;
    /// The guest has sent an event.
    ///
    /// # Errors
    /// [`Broken`] if a ring makes no sense.
    fn kick(&mut self, cx: &mut Cx<'_>) -> Result<(), Broken>;
    /// News from outside.
    ///
    /// # Errors
    /// [`Broken`] if a ring makes no sense.
    fn input(&mut self, cx: &mut Cx<'_>, input: &Input) -> Result<(), Broken>;
    /// What it shows, if it shows anything.
    fn display(&mut self) -> Option<&mut dyn Display> {
        None
    }
    /// Where its messages go.
    fn log(&mut self) -> &mut Log;
    /// Appends what the guest can tell apart.
    fn state_bytes(&self, out: &mut Vec<u8>);
}

/// All devices of a domain that have back ends of this kind.
#[derive(Default)]
pub struct BackEnds {
    devices: Vec<Device>,
}

impl BackEnds {
    /// A new device, by its kind in xenstore and its number there.
    fn add(&mut self, store: &mut Store, kind: &'static str, number: u32, back: Box<dyn BackEnd>) {
        self.devices.push(Device::new(store, domid::GUEST, kind, number, back));
    }
    /// All devices are as at first, in a new xenstore. They have no connections.
    fn start_over(&mut self, store: &mut Store) {
        for Device { kind, number, back, .. } in core::mem::take(&mut self.devices) {
            self.add(store, kind, number, back);
        }
    }
    /// Follows changes in xenstore.
    fn watch(&mut self, cx: &mut Cx<'_>) {
        for device in &mut self.devices {
            if device.watch(cx) {
                // What the guest has sent before there was anybody to listen.
                Self::serve(device, cx, None);
            }
        }
    }
    /// The guest has sent an event to a port.
    fn kick(&mut self, cx: &mut Cx<'_>, port: u32) {
        for device in self.devices.iter_mut().filter(|d| d.back.has_port(port)) {
            Self::serve(device, cx, None);
        }
    }
    /// News from outside.
    fn input(&mut self, cx: &mut Cx<'_>, input: &Input) {
        for device in &mut self.devices {
            Self::serve(device, cx, Some(input));
        }
    }
    fn serve(device: &mut Device, cx: &mut Cx<'_>, input: Option<&Input>) {
        let result = match input {
            None => device.back.kick(cx),
            Some(input) => device.back.input(cx, input),
        };
        if let Err(Broken(why)) = result {
            device.fail(cx, &why);
        }
    }
    /// The first device that shows something.
    fn display(&mut self) -> Option<&mut dyn Display> {
        self.devices.iter_mut().find_map(|device| device.back.display())
    }
    /// Appends what the guest can tell apart.
    pub fn state_bytes(&self, out: &mut Vec<u8>) {
        for device in &self.devices {
            put_state(out, &device.state);
            device.back.state_bytes(out);
        }
    }
}

impl Domain {
    /// Makes the devices of a domain that is built.
    pub fn add_devices(&mut self, cx: &mut domain::Cx<'_>, options: &Options) {
        for (n, disk) in cx.disks.iter().enumerate() {
            let blk = blk::Blk::new(n, &**disk);
            self.back.add(&mut self.store, "vbd", blk::device_number(n as u32), Box::new(blk));
        }
        for (n, config) in (0..).zip(&options.nics) {
            self.back.add(&mut self.store, "vif", n.into(), Box::new(net::Net::new(n, config)));
        }
        if let Some(config) = options.display {
            self.back.add(&mut self.store, "vfb", 0, Box::new(fb::Fb::new(config, &self.ram)));
            self.back.add(&mut self.store, "vkbd", 0, Box::new(kbd::Kbd::new(config)));
        }
        if let Some(tree) = &options.files {
            self.share_files(tree);
        }
    }
    /// One more device: a tree of files.
    pub fn share_files(&mut self, tree: &Share) {
        self.back.add(&mut self.store, "9pfs", 0, Box::new(share::NinePfs::new(tree.clone())));
    }
    /// The rings and ports of all devices are gone.
    pub(super) fn put_back_ends_to_rest(&mut self, cx: &mut domain::Cx<'_>) {
        self.with_back_ends(cx, |back, cx| back.devices.iter_mut().for_each(|device| device.back.disconnect(cx)));
    }
    /// They wait for their front ends again.
    pub(super) fn wake_back_ends(&mut self) {
        self.back.start_over(&mut self.store);
    }
    /// What the guest shows, if it has a display.
    pub fn display(&mut self) -> Option<&mut dyn Display> {
        self.back.display()
    }

    /// Lets `f` work on the back ends; then the guest is told.
    fn with_back_ends(&mut self, cx: &mut domain::Cx<'_>, f: impl FnOnce(&mut BackEnds, &mut Cx<'_>)) {
        let notify = {
            let mut cx = Cx {
                ram: &self.ram,
                grants: &self.grants,
                types: &self.types,
                store: &mut self.store,
                ports: &mut self.ports,
                disks: &mut *cx.disks,
                out: &mut *cx.out,
                notify: Vec::new(),
            };
            f(&mut self.back, &mut cx);
            cx.notify
        };
        for port in notify {
            // The guest may have closed it.
            if self.ports.binding(port) == Binding::BackEnd {
                self.set_pending(port);
            }
        }
    }
    /// The guest has sent an event to a port that is neither xenstore's nor the console's.
    pub(super) fn kick_back_ends(&mut self, cx: &mut domain::Cx<'_>, port: u32) {
        self.with_back_ends(cx, |back, cx| back.kick(cx, port));
        self.tell_of_back_ends(cx);
    }
    /// The guest may have changed nodes of its devices.
    pub(super) fn watch_back_ends(&mut self, cx: &mut domain::Cx<'_>) {
        self.with_back_ends(cx, BackEnds::watch);
    }
    /// Something has arrived from outside.
    pub(super) fn back_end_input(&mut self, cx: &mut domain::Cx<'_>, input: &Input) {
        self.with_back_ends(cx, |back, cx| back.input(cx, input));
        self.tell_of_back_ends(cx);
    }
    /// Back ends may have written nodes.
    fn tell_of_back_ends(&mut self, cx: &mut domain::Cx<'_>) {
        if self.store.has_output(domid::GUEST) {
            self.pump_store(cx);
        }
    }
}
