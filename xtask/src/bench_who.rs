//! The machines that `cargo xtask bench` measures.

/// A machine to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Ours, compiled for this computer.
    Native,
    /// Ours in node.
    Node,
    /// Ours in headless Chromium.
    Chromium,
    /// Ours in node, compiling hot code.
    NodeJit,
    /// Ours in headless Chromium, compiling hot code.
    ChromiumJit,
    /// Ours in node, compiling hot code, as a PVH domain.
    NodePvh,
    /// Ours in node, compiling hot code, as a PV domain.
    NodePv,
    /// Ours in headless Chromium, compiling hot code, as a PVH domain.
    ChromiumPvh,
    /// Ours in headless Chromium, compiling hot code, as a PV domain.
    ChromiumPv,
    /// v86 in node.
    V86Node,
    /// v86 in headless Chromium.
    V86Chromium,
    /// QEMU's TCG.
    Qemu,
    /// No machine at all: the same programs on this computer's processor.
    Host,
}

impl Who {
    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Who::Native => "native",
            Who::Node => "node",
            Who::Chromium => "chromium",
            Who::NodeJit => "node-jit",
            Who::ChromiumJit => "chromium-jit",
            Who::NodePvh => "node-pvh",
            Who::NodePv => "node-pv",
            Who::ChromiumPvh => "chromium-pvh",
            Who::ChromiumPv => "chromium-pv",
            Who::V86Node => "v86-node",
            Who::V86Chromium => "v86-chromium",
            Who::Qemu => "qemu",
            Who::Host => "host",
        }
    }
    /// Is it our machine?
    pub const fn ours(self) -> bool {
        matches!(self, Who::Native) || self.ours_on_the_web()
    }
    /// Is it our machine in WebAssembly?
    pub const fn ours_on_the_web(self) -> bool {
        matches!(self, Who::Node | Who::Chromium) || self.compiles()
    }
    /// Does it compile hot code?
    pub const fn compiles(self) -> bool {
        matches!(self, Who::NodeJit | Who::ChromiumJit) || self.same_as_pc().is_some()
    }
    /// What a domain is to be compared with: a PC in the same place.
    pub const fn same_as_pc(self) -> Option<Who> {
        match self {
            Who::NodePvh | Who::NodePv => Some(Who::NodeJit),
            Who::ChromiumPvh | Who::ChromiumPv => Some(Who::ChromiumJit),
            _ => None,
        }
    }
    /// What the guest runs on, as the page calls it.
    pub const fn mode(self) -> &'static str {
        match self {
            Who::NodePvh | Who::ChromiumPvh => "pvh",
            Who::NodePv | Who::ChromiumPv => "pv",
            _ => "pc",
        }
    }
    /// Does it run in a browser?
    pub const fn in_browser(self) -> bool {
        matches!(self, Who::Chromium | Who::ChromiumJit | Who::ChromiumPvh | Who::ChromiumPv | Who::V86Chromium)
    }
    /// Ours by its name in tables.
    pub fn ours_named(name: &str) -> Option<Who> {
        const OURS: [Who; 9] = [
            Who::Native,
            Who::Node,
            Who::Chromium,
            Who::NodeJit,
            Who::ChromiumJit,
            Who::NodePvh,
            Who::NodePv,
            Who::ChromiumPvh,
            Who::ChromiumPv,
        ];
        OURS.into_iter().find(|who| who.name() == name)
    }
}
