//! What a toolstack asks of the guest by writing to xenstore (Xen: docs/misc/xenstore-paths.pandoc; tools/libs/light).

use super::abi::domid;
use super::domain::{Cx, Domain};
use super::store::domain_path;
use crate::effect::{Control, Shutdown};
use crate::machine::platform::Reservation;
use tabvisor_core::mem::PAGE_SHIFT;

/// What it is to have, in KiB.
const TARGET: &str = "memory/target";

/// A node of the guest's.
fn path(node: &str) -> String {
    format!("{}/{node}", domain_path(domid::GUEST))
}

impl Domain {
    /// Asks the guest for something. It answers by doing it, or not at all.
    pub(super) fn control(&mut self, cx: &mut Cx<'_>, what: Control) {
        match what {
            Control::Shutdown(how) => {
                let how = match how {
                    Shutdown::PowerOff => "poweroff",
                    Shutdown::Halt => "halt",
                    Shutdown::Reboot => "reboot",
                    Shutdown::Suspend => "suspend",
                };
                self.ask(cx, "control/shutdown", how.as_bytes());
            }
            Control::SysRq(key) => self.ask(cx, "control/sysrq", &[key]),
            Control::Resume { cancelled } => self.resume_suspended(cx, cancelled),
            Control::Memory(bytes) => {
                let kib = bytes.min(self.frames.guest << PAGE_SHIFT) >> 10;
                self.ask(cx, TARGET, kib.to_string().as_bytes());
            }
        }
    }

    /// The memory that the guest has.
    pub fn reservation(&self) -> Reservation {
        let target = self.store.read(&path(TARGET)).and_then(|v| core::str::from_utf8(v).ok()?.parse().ok());
        Reservation {
            now: self.types.count() << PAGE_SHIFT,
            target: target.unwrap_or(0u64) << 10,
            most: self.frames.guest << PAGE_SHIFT,
        }
    }

    /// Writes a node of the guest's; whoever watches it is told.
    fn ask(&mut self, cx: &mut Cx<'_>, node: &str, value: &[u8]) {
        self.store.write(&path(node), value).expect("our own path is valid");
        self.pump_store(cx);
    }
}
