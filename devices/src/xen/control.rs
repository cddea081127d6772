//! What a toolstack asks of the guest by writing to xenstore (Xen: docs/misc/xenstore-paths.pandoc; tools/libs/light).

use super::abi::domid;
use super::domain::{Cx, Domain};
use super::store::domain_path;
use crate::effect::{Control, Shutdown};

impl Domain {
    /// Asks the guest for something. It answers by doing it, or not at all.
    pub(super) fn control(&mut self, cx: &mut Cx<'_>, what: Control) {
        match what {
            Control::Shutdown(how) => {
                let how = match how {
                    Shutdown::PowerOff => "poweroff",
                    Shutdown::Halt => "halt",
                    Shutdown::Reboot => "reboot",
                };
                self.ask(cx, "control/shutdown", how.as_bytes());
            }
            Control::SysRq(key) => self.ask(cx, "control/sysrq", &[key]),
        }
    }

    /// Writes a node of the guest's; whoever watches it is told.
    fn ask(&mut self, cx: &mut Cx<'_>, node: &str, value: &[u8]) {
        let path = format!("{}/{node}", domain_path(domid::GUEST));
        self.store.write(&path, value).expect("our own path is valid");
        self.pump_store(cx);
    }
}
