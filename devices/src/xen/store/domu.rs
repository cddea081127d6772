//! The nodes that a toolstack makes for a domain and its devices. Sources: what libxl 4.17 writes for
//! a PV guest (values and permissions), Xen's docs/misc/xenstore-paths.pandoc.
//!
//! Left out: `/libxl` and the details of `/vm`, which only a toolstack reads; nodes of the time of day.

use super::Store;
use super::errno::Errno;
use super::path::{child, domain_path};
use super::perms::Perm;

/// Where a ring is: its page and the guest's event channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPort {
    /// Event channel port in the guest.
    pub port: u32,
    /// Frame number of the page.
    pub ring_ref: u64,
}

/// What the tree says of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomU<'a> {
    /// Its number, not 0.
    pub domid: u16,
    /// Its name, for people.
    pub name: &'a str,
    /// Its UUID in the usual form.
    pub uuid: &'a str,
    /// Processors; all are online.
    pub vcpus: u32,
    /// Memory that it should use, in KiB.
    pub memory: u64,
    /// Memory that it can ever have, in KiB.
    pub static_max: u64,
    /// The ring of the store.
    pub store: RingPort,
    /// The ring of the console.
    pub console: RingPort,
}

/// Where the two halves of a device are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePaths {
    /// The guest's directory, which it may write.
    pub frontend: String,
    /// The back end's directory, which the guest may read.
    pub backend: String,
}

impl DevicePaths {
    /// The directories of device `devid` of a kind, such as `vbd`.
    pub fn new(kind: &str, domid: u16, devid: u32) -> Self {
        // The first console has a place of its own.
        let frontend = match (kind, devid) {
            ("console", 0) => format!("{}/console", domain_path(domid)),
            _ => format!("{}/device/{kind}/{devid}", domain_path(domid)),
        };
        Self { frontend, backend: format!("{}/backend/{kind}/{domid}/{devid}", domain_path(0)) }
    }
}

impl Store {
    /// The nodes of domain 0.
    pub(super) fn add_domain0(&mut self) {
        const NODES: [(&str, &str); 9] = [
            ("/tool/xenstored", ""),
            ("/vm", ""),
            ("/local/pool/0/name", "Pool-0"),
            ("/local/domain/0/domid", "0"),
            ("/local/domain/0/name", "Domain-0"),
            ("/local/domain/0/backend", ""),
            ("/local/domain/0/control/feature-poweroff", "1"),
            ("/local/domain/0/control/feature-reboot", "1"),
            ("/local/domain/0/control/feature-suspend", "1"),
        ];
        for (path, value) in NODES {
            self.write(path, value).expect("these paths are valid");
        }
    }

    /// Writes the nodes of a new domain. [`Store::introduce`] is another step.
    ///
    /// # Errors
    /// `EINVAL` if the UUID cannot be part of a path.
    pub fn add_domain(&mut self, domain: &DomU<'_>) -> Result<(), Errno> {
        let DomU { domid, name, uuid, vcpus, memory, static_max, store, console } = *domain;
        let (theirs, open) = ([Perm::none(0), Perm::read(domid)], [Perm::none(domid)]);

        let vm = format!("/vm/{uuid}");
        self.write_with(&vm, "", &theirs)?;
        for (key, value) in [("name", name), ("uuid", uuid), ("image/ostype", "linux")] {
            self.write(&child(&vm, key), value)?;
        }

        let top = domain_path(domid);
        self.write_with(&top, "", &theirs)?;
        let fixed = [
            ("vm", vm),
            ("name", name.into()),
            ("domid", domid.to_string()),
            ("memory/static-max", static_max.to_string()),
            ("memory/target", memory.to_string()),
            ("memory/videoram", "0".into()),
            ("device", String::new()),
            ("control/platform-feature-multiprocessor-suspend", "1".into()),
            ("control/platform-feature-xs_reset_watches", "1".into()),
            ("store/port", store.port.to_string()),
            ("store/ring-ref", store.ring_ref.to_string()),
        ];
        for (key, value) in fixed {
            self.write(&child(&top, key), value)?;
        }
        for cpu in 0..vcpus {
            self.write(&format!("{top}/cpu/{cpu}/availability"), "online")?;
        }
        let writable = [
            ("control/shutdown", ""),
            ("control/feature-poweroff", "1"),
            ("control/feature-reboot", "1"),
            ("control/feature-suspend", "1"),
            ("control/sysrq", ""),
            ("device/suspend/event-channel", ""),
            ("data", ""),
            ("drivers", ""),
            ("feature", ""),
            ("attr", ""),
            ("error", ""),
        ];
        for (key, value) in writable {
            self.write_with(&child(&top, key), value, &open)?;
        }

        let paths = DevicePaths::new("console", domid, 0);
        self.write_backend(&paths, domid, &[("protocol", "vt100")])?;
        let keys = [
            ("backend", paths.backend),
            ("limit", (1 << 20).to_string()),
            ("type", "xenconsoled".into()),
            ("output", "pty".into()),
            ("port", console.port.to_string()),
            ("ring-ref", console.ring_ref.to_string()),
        ];
        for (key, value) in keys {
            self.write(&child(&paths.frontend, key), value)?;
        }
        self.write_with(&child(&paths.frontend, "backend-id"), "0", &[Perm::none(domid), Perm::read(0)])
    }

    /// Removes a domain's nodes and those of its devices. [`Store::release`] is another step.
    ///
    /// # Errors
    /// None for a domain that [`Store::add_domain`] made.
    pub fn remove_domain(&mut self, domid: u16) -> Result<(), Errno> {
        let backends = format!("{}/backend", domain_path(0));
        let kinds: Vec<String> = self.list(&backends).map(String::from).collect();
        for kind in kinds {
            self.remove(&format!("{backends}/{kind}/{domid}"))?;
        }
        let top = domain_path(domid);
        if let Some(vm) = self.read(&child(&top, "vm")).map(|vm| String::from_utf8_lossy(vm).into_owned()) {
            self.remove(&vm)?;
        }
        self.remove(&top)
    }

    /// Writes the nodes of a device, with both sides in state 1 (initialising) unless `frontend` and
    /// `backend` say otherwise. They hold further keys of the two directories.
    ///
    /// # Errors
    /// `EINVAL` if `kind` or a key cannot be part of a path.
    pub fn add_device(
        &mut self,
        kind: &str,
        domid: u16,
        devid: u32,
        frontend: &[(&str, &str)],
        backend: &[(&str, &str)],
    ) -> Result<DevicePaths, Errno> {
        let paths = DevicePaths::new(kind, domid, devid);
        // The back end first: a front end is looked at as soon as it is there.
        self.write_backend(&paths, domid, backend)?;
        self.write_with(&paths.frontend, "", &[Perm::none(domid), Perm::read(0)])?;
        let common = [("backend", &paths.backend[..]), ("backend-id", "0"), ("state", "1")];
        for (key, value) in common.iter().chain(frontend) {
            self.write(&child(&paths.frontend, key), value)?;
        }
        Ok(paths)
    }
    fn write_backend(&mut self, paths: &DevicePaths, domid: u16, keys: &[(&str, &str)]) -> Result<(), Errno> {
        self.write_with(&paths.backend, "", &[Perm::none(0), Perm::read(domid)])?;
        let id = domid.to_string();
        let common = [("frontend", &paths.frontend[..]), ("frontend-id", &id), ("online", "1"), ("state", "1")];
        for (key, value) in common.iter().chain(keys) {
            self.write(&child(&paths.backend, key), value)?;
        }
        Ok(())
    }
    /// Removes the nodes of a device.
    ///
    /// # Errors
    /// `EINVAL` if `kind` cannot be part of a path.
    pub fn remove_device(&mut self, kind: &str, domid: u16, devid: u32) -> Result<(), Errno> {
        let paths = DevicePaths::new(kind, domid, devid);
        self.remove(&paths.frontend)?;
        self.remove(&paths.backend)
    }
}

#[cfg(test)]
#[path = "domu_tests.rs"]
mod tests;
