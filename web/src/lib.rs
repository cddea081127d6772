//! Tabvisor for JavaScript: the class `Vm`, short methods with plain types. `www/wasm.js` is its typed mirror;
//! nothing else knows this boundary.
//!
//! A caller's mistake, a bad file or a misbehaving guest is an `Error` with `why` and `next`. A panic would be
//! a fault of ours: it traps, and [`last_panic`] keeps its text for the report.

mod board;
#[cfg(target_arch = "wasm32")]
mod code_host;
mod error;
#[cfg_attr(not(feature = "xen"), allow(dead_code, reason = "a PC has nothing outside"))]
mod outside;
mod pace;
#[cfg_attr(not(feature = "xen"), allow(dead_code, reason = "a PC has no screen yet"))]
mod screen;
mod session;
#[cfg_attr(not(feature = "xen"), allow(dead_code, reason = "a PC shares no files"))]
mod shared;

use board::Pc;
pub use error::VmError;
#[cfg(feature = "xen")]
use outside::Outbox;
use outside::{DOMAINS, Parts};
use session::{Config, Session};
#[cfg(feature = "xen")]
use shared::Shared;
use std::cell::RefCell;
use tabvisor_core::jit::Limits;
#[cfg(feature = "xen")]
use tabvisor_devices::backend::display::DisplayConfig;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The host's clock, in milliseconds since some fixed moment.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    pub(crate) fn host_ms() -> f64;
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs when the module is loaded.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        // A panic while the text is being kept is not worth a second panic.
        LAST_PANIC.with(|text| {
            if let Ok(mut text) = text.try_borrow_mut() {
                *text = info.to_string();
            }
        });
        console_error_panic_hook::hook(info);
    }));
}

/// The text of the panic that trapped, or nothing.
#[wasm_bindgen(js_name = lastPanic)]
pub fn last_panic() -> String {
    LAST_PANIC.with(|text| text.try_borrow().map(|t| t.clone()).unwrap_or_default())
}

/// A machine. Load its files, `boot`, then call `run` again and again.
#[wasm_bindgen]
pub struct Vm {
    session: Session<Pc>,
}

#[wasm_bindgen]
impl Vm {
    /// `memoryMiB` of RAM, a CPUID model by name, the kernel's command line, the clock policy, and the wall-clock
    /// time in milliseconds since 1970 UTC.
    #[wasm_bindgen(constructor)]
    pub fn new(memory_mib: u32, cpu: String, cmdline: String, deterministic: bool, wall_clock_ms: f64) -> Self {
        let (mode, vcpus) = ("pc".to_owned(), 1);
        let (compile, parts): (_, [_; DOMAINS]) = (None, core::array::from_fn(|_| Parts::default()));
        let config = Config { mode, vcpus, memory_mib, cpu, cmdline, deterministic, wall_clock_ms, compile, parts };
        Self { session: Session::new(config, Pc::build) }
    }

    /// What the guest runs on: `pc`, `pv` or `pvh`, with so many virtual CPUs. To be said before `boot`.
    #[wasm_bindgen(js_name = setMode)]
    pub fn set_mode(&mut self, mode: String, vcpus: u32) {
        self.session.set_mode(mode, vcpus);
    }

    /// Is hot code compiled? To be said before `boot`. `codeMiB`: memory for compiled code, 128 MiB if not given; `hot`:
    /// how often code has to be seen before it is compiled (for tests; 65535 at most).
    #[wasm_bindgen(js_name = setCompile)]
    pub fn set_compile(
        &mut self,
        on: bool,
        #[wasm_bindgen(js_name = codeMiB)] code_mib: Option<u32>,
        hot: Option<u16>,
    ) {
        let mut limits = Limits::default();
        if let Some(mib) = code_mib {
            limits.code_bytes = u64::from(mib) << 20;
        }
        if let Some(hot) = hot {
            limits.hot = hot;
        }
        self.session.set_compile(on.then_some(limits));
    }

    /// Appends bytes of the file with the role "kernel" or "initrd".
    pub fn load(&mut self, role: &str, bytes: Vec<u8>) -> Result<(), VmError> {
        self.session.load(role, bytes)
    }

    /// Places the kernel; the next `run` executes its first instruction.
    pub fn boot(&mut self) -> Result<(), VmError> {
        self.session.boot()
    }

    /// Runs for about `sliceMs`, or until the guest waits. Returns for how many milliseconds the caller may sleep: 0 to
    /// come back at once, Infinity to wait for input.
    pub fn run(&mut self, slice_ms: f64) -> f64 {
        self.session.run(slice_ms, &mut host_ms)
    }

    /// Runs `count` instructions on the deterministic clock; returns how many were run.
    #[wasm_bindgen(js_name = runInstructions)]
    pub fn run_instructions(&mut self, count: f64) -> Result<f64, VmError> {
        // `as` saturates, and makes 0 of what is no number.
        self.session.run_instructions(count as u64).map(|n| n as f64)
    }

    /// Where in its life the machine is: a number of `VM_STATE`.
    pub fn state(&self) -> u8 {
        self.session.state() as u8
    }

    /// Offers typed bytes; returns how many were taken.
    #[wasm_bindgen(js_name = serialInput)]
    pub fn serial_input(&mut self, bytes: &[u8]) -> usize {
        self.session.serial_input(bytes)
    }

    /// What the guest printed since the last call.
    #[wasm_bindgen(js_name = takeSerial)]
    pub fn take_serial(&mut self) -> Vec<u8> {
        self.session.take_serial()
    }

    /// Guest time stands still until the next `run`.
    pub fn pause(&mut self) {
        self.session.pause();
    }

    /// The reset button.
    pub fn reset(&mut self) -> Result<(), VmError> {
        self.session.reset()
    }

    /// The plug is pulled.
    #[wasm_bindgen(js_name = powerOff)]
    pub fn power_off(&mut self) {
        self.session.power_off();
    }

    /// Figures, in the order of `VM_STAT`.
    pub fn stats(&mut self) -> Vec<f64> {
        self.session.stats()
    }

    /// The WebAssembly module of the guest's code at a hexadecimal linear address, or where the CPU stands; empty if there
    /// is none. For developers: `cargo xtask code` prints it.
    #[wasm_bindgen(js_name = dumpCode)]
    pub fn dump_code(&self, address: &str) -> Result<Vec<u8>, VmError> {
        self.session.dump_code(address)
    }

    /// A hash over everything the guest could tell apart.
    #[wasm_bindgen(js_name = stateHash)]
    pub fn state_hash(&mut self) -> Result<String, VmError> {
        self.session.state_hash()
    }

    /// Why the machine stopped, then registers and messages.
    pub fn report(&mut self) -> String {
        self.session.report()
    }

    /// What this build can do, as JSON.
    pub fn features() -> String {
        let modes = if cfg!(feature = "xen") { r#"["pc","pv","pvh"]"# } else { r#"["pc"]"# };
        format!(r#"{{"version":"{}","modes":{modes},"jit":true,"smp":false}}"#, env!("CARGO_PKG_VERSION"))
    }
}

/// What only domains have: the engine for PCs alone has nothing of this.
#[cfg(feature = "xen")]
#[wasm_bindgen]
impl Vm {
    /// One more disk: of these bytes, or of so many sectors that are asked for when they are needed. What the guest writes
    /// stays in memory. To be said before `boot`.
    pub fn disk(&mut self, bytes: Option<Vec<u8>>, sectors: f64, read_only: bool) {
        // `as` saturates, and makes 0 of what is no number.
        if let Some(parts) = self.session.parts() {
            parts.add_disk(bytes, sectors as u64, read_only);
        }
    }

    /// One more network card, with an address of six bytes. To be said before `boot`.
    pub fn nic(&mut self, mac: &[u8]) {
        if let (Some(parts), Ok(mac)) = (self.session.parts(), mac.try_into()) {
            parts.add_nic(mac);
        }
    }

    /// A display of this size, in pixels, with keyboard and pointer. To be said before `boot`.
    pub fn display(&mut self, width: u32, height: u32) {
        if let Some(parts) = self.session.parts() {
            parts.display = Some(DisplayConfig::new(width, height));
        }
    }

    /// The guest may come to have so many MiB of memory. To be said before `boot`; less than it boots with is no limit.
    #[wasm_bindgen(js_name = mostMemory)]
    pub fn most_memory(&mut self, mib: u32) {
        if let Some(parts) = self.session.parts() {
            parts.most_mib = mib;
        }
    }

    /// A folder that the guest may mount, which may come to hold so many bytes. To be said before `boot`.
    #[wasm_bindgen(js_name = shareFiles)]
    pub fn share_files(&mut self, limit: f64) {
        if let Some(parts) = self.session.parts() {
            parts.shared = Some(Shared::new(limit as u64));
        }
    }

    /// Puts bytes of a file into that folder, from a place in the file on; at its beginning they replace what it was.
    /// `modified`: milliseconds since 1970 UTC. No bytes: it is a folder. Folders on the way are made.
    #[wasm_bindgen(js_name = putShared)]
    pub fn put_shared(&mut self, path: &str, at: f64, bytes: Option<Vec<u8>>, modified: f64) -> Result<(), VmError> {
        let shared = self.session.parts().and_then(|parts| parts.shared.as_mut()).ok_or_else(shared::none)?;
        shared.put(path, at as u64, bytes.as_deref(), modified)
    }

    /// Everything in that folder, as [`Shared::list`] says.
    #[wasm_bindgen(js_name = listShared)]
    pub fn list_shared(&mut self) -> Result<Vec<String>, VmError> {
        self.session.parts().and_then(|parts| parts.shared.as_ref()).ok_or_else(shared::none)?.list()
    }

    /// Bytes of a file in that folder, by its number in the list, or what a link leads to.
    #[wasm_bindgen(js_name = readShared)]
    pub fn read_shared(&mut self, file: f64, at: f64, length: u32) -> Result<Vec<u8>, VmError> {
        let shared = self.session.parts().and_then(|parts| parts.shared.as_ref()).ok_or_else(shared::none)?;
        shared.read(file as u64, at as u64, length)
    }

    /// Of that folder: bytes in use, how many there may be, and a count of changes. Empty if there is none.
    #[wasm_bindgen(js_name = sharedUsage)]
    pub fn shared_usage(&mut self) -> Vec<f64> {
        let shared = self.session.parts().and_then(|parts| parts.shared.as_ref());
        shared.map(Shared::usage).unwrap_or_default()
    }

    /// A portion of what has changed in the guest's picture; empty if nothing has. See `www/picture.js`.
    pub fn picture(&mut self) -> Vec<u8> {
        self.session.picture()
    }

    /// What people do with keyboard and pointer: three numbers for each event. See `www/picture.js`.
    pub fn play(&mut self, events: &[i32]) {
        self.session.play(events);
    }

    /// Asks something of the guest, in the words of [`Control`](tabvisor_devices::effect::Control): `poweroff`, `reboot`,
    /// `memory 200` (MiB) ...
    pub fn tell(&mut self, what: &str) -> Result<(), VmError> {
        self.session.tell(what)
    }

    /// Bytes of memory: what the guest has, what it was asked to have, what it may have. Empty before `boot`.
    pub fn memory(&self) -> Vec<f64> {
        self.session.memory()
    }

    /// What the guest and its hypervisor had to do with each other: lines of a kind (h: hypercalls, x: whatever its CPU came
    /// for, those included, e: events it was sent), a count and a name, the most frequent first.
    pub fn counts(&self) -> String {
        self.session.counts()
    }

    /// Sectors that the guest waits for, four numbers each: disk, first sector, how many, ticket.
    pub fn requests(&mut self) -> Vec<f64> {
        self.session.outbox().map(Outbox::take_requests).unwrap_or_default()
    }

    /// What was asked for with this ticket; nothing if it cannot be had.
    pub fn answer(&mut self, disk: u8, ticket: f64, bytes: Option<Vec<u8>>) {
        self.session.block_data(disk, ticket as u64, bytes);
    }

    /// What was written to a disk at and behind a sector, or a part of it: runs of sectors, each after its first sector and how
    /// many they are, eight bytes each, the lower first. The rest comes from the sector on that follows the last.
    pub fn written(&self, disk: u8, from: f64) -> Vec<u8> {
        self.session.written(disk, from as u64)
    }

    /// Ethernet frames that the guest sends, each after three bytes: the card's number, the length with its lower byte first.
    pub fn frames(&mut self) -> Vec<u8> {
        self.session.outbox().map(Outbox::take_frames).unwrap_or_default()
    }

    /// Such frames arrive.
    pub fn arrive(&mut self, frames: &[u8]) {
        self.session.frames_in(frames);
    }
}
