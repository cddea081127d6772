//! The PC for direct boot, as a parts list: what is on the board, at which address, on which
//! interrupt. Addresses that the boot code tells the guest about come from [`layout`].

use super::board::{Board, IOAPIC, PCI_CONFIG, PIC};
use super::clock::{Clock, Rate};
use super::machine::{ConfigError, Payload};
use super::platform::{Platform, Start, StopCause, Visits};
use crate::boot::{self, Files, acpi, layout};
use crate::bus::{Handle, MapError, Widths};
use crate::chipset::acpi_pm::{APM, AcpiPm};
use crate::chipset::debugcon::DebugCon;
use crate::chipset::fpu_error::FpuError;
use crate::chipset::i8042::I8042;
use crate::chipset::pit8254::Pit8254;
use crate::chipset::reset::ResetPorts;
use crate::chipset::rtc146818::Rtc146818;
use crate::chipset::testdev::{self, TestDevice};
use crate::effect::{Effect, Input};
use crate::irq::LINES;
use crate::pci::bridges::Bridge;
use crate::pci::mechanism::Bdf;
use crate::serial::uart16550::Uart16550;
use tabvisor_core::bus::Bus;
use tabvisor_core::mem::GuestRam;
use tabvisor_core::size::Size;
use tabvisor_core::time::VmTime;

const BYTE: Widths = Widths::BYTE;
const DWORD: Widths = Widths::DWORD;
const QWORD: Widths = Widths::QWORD;

/// What may differ from one PC to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Guest time per instruction, to begin with.
    pub rate: Rate,
    /// What the real-time clock shows at first: seconds since 1970, UTC.
    pub wall_clock: i64,
    /// Source of the guest's random numbers.
    pub seed: u64,
    /// Serial ports, 0 to 2.
    pub serial_ports: u8,
    /// Is there a test device?
    pub test_device: bool,
}

/// The PC and the devices that its owner talks to.
pub struct Pc {
    /// Everything.
    pub board: Board,
    serial: Vec<Handle>,
    serial_ports: u8,
}

impl Pc {
    /// Puts the board together.
    ///
    /// # Errors
    /// [`MapError`] if two parts claim the same address.
    pub fn new(ram: &GuestRam, options: Options) -> Result<Self, MapError> {
        let mut b = Board::new(ram, options.rate, options.seed);

        // Interrupt controllers. They are already there and need addresses only.
        b.claim_ports(0x20..=0x21, BYTE, PIC, 0)?;
        b.claim_ports(0xa0..=0xa1, BYTE, PIC, 2)?;
        b.claim_ports(0x4d0..=0x4d1, BYTE, PIC, 4)?;
        b.claim_memory(layout::IOAPIC_BASE..=layout::IOAPIC_BASE + 0xfff, DWORD, IOAPIC, 0)?;

        // Timer: interrupt 0, which is pin 2 of the I/O APIC; gate and output of counter 2.
        let irq = b.line(layout::PIT_GSI);
        let pit = b.add("pit8254", Pit8254::new(irq));
        b.claim_ports(0x40..=0x43, BYTE, pit, 0)?;
        b.claim_ports(0x61..=0x61, BYTE, pit, 4)?;

        // Real-time clock.
        let irq = b.line(layout::RTC_IRQ);
        let mut clock = Rtc146818::new(options.wall_clock, irq);
        describe_memory(&mut clock, ram.len());
        let rtc = b.add("rtc146818", clock);
        b.claim_ports(0x70..=0x71, BYTE, rtc, 0)?;
        b.set_nmi_mask(rtc);

        // Keyboard controller, nothing plugged in.
        let (keyboard, aux) = (b.line(layout::KBD_IRQ), b.line(layout::AUX_IRQ));
        let kbc = b.add("i8042", I8042::new(keyboard, aux));
        b.claim_ports(0x60..=0x60, BYTE, kbc, 0)?;
        b.claim_ports(0x64..=0x64, BYTE, kbc, 1)?;

        // x87 errors of software that leaves CR0.NE clear.
        let irq = b.line(layout::FPU_IRQ);
        let fpu = b.add("fpu error", FpuError::new(irq));
        b.claim_ports(0xf0..=0xf0, BYTE, fpu, 0)?;
        b.set_fpu_error(fpu);

        // Reset: port 92h, and the byte at CF9h inside of the PCI address register.
        let reset = b.add("reset ports", ResetPorts::default());
        b.claim_ports(0x92..=0x92, BYTE, reset, 0)?;
        b.claim_ports(layout::RESET_PORT..=layout::RESET_PORT, BYTE, reset, 1)?;

        // PCI: 00.0 host bridge, 01.0 ISA bridge, 01.3 power management.
        b.claim_ports(0xcf8..=0xcfb, Widths::ONLY_DWORD, PCI_CONFIG, 0)?;
        b.claim_ports(0xcfc..=0xcff, DWORD, PCI_CONFIG, 4)?;
        let host = b.add("i440fx", Bridge::i440fx());
        b.add_function(Bdf::root(0, 0), host);
        let isa = b.add("piix3 isa", Bridge::piix3_isa());
        b.add_function(Bdf::root(1, 0), isa);
        let sci = b.line(layout::SCI_IRQ);
        let pm = b.add("piix4 pm", AcpiPm::new(layout::PM_BASE, sci, layout::SCI_IRQ, true));
        b.claim_ports(0xb2..=0xb3, BYTE, pm, APM)?;
        b.add_function(Bdf::root(1, 3), pm);

        // Serial ports.
        let mut serial = Vec::new();
        let ports = [(layout::COM1, layout::COM1_IRQ), (layout::COM2, layout::COM2_IRQ)];
        for (n, (port, irq)) in (0u8..options.serial_ports).zip(ports) {
            let irq = b.line(irq);
            let uart = b.add("uart16550", Uart16550::new(n, irq));
            b.claim_ports(port..=port + 7, BYTE, uart, 0)?;
            serial.push(uart);
        }

        // Debug console.
        let console = b.add("debug console", DebugCon);
        b.claim_ports(0xe9..=0xe9, BYTE, console, 0)?;

        // For test programs that want to say how they ended, and to pull interrupt lines.
        if options.test_device {
            let lines = core::array::from_fn(|n| b.line(n as u8));
            let test = b.add("test device", TestDevice::new(lines));
            b.claim_ports(0xf4..=0xf7, DWORD, test, testdev::EXIT)?;
            b.claim_ports(0xe0..=0xe3, DWORD, test, testdev::ECHO)?;
            b.claim_memory(0xff00_0000..=0xff00_0000 + testdev::MEMORY_LEN - 1, QWORD, test, testdev::MEMORY)?;
            b.claim_ports(0x2000..=0x2000 + LINES as u16 - 1, BYTE, test, testdev::LINE)?;
        }

        let mut pc = Self { board: b, serial, serial_ports: options.serial_ports.min(2) };
        pc.reset();
        Ok(pc)
    }

    /// The reset line, and then what firmware leaves behind.
    pub fn reset(&mut self) {
        self.board.reset();
        self.board.lapic().virtual_wire();
        // 8259s: the traditional vectors, everything masked but the cascade.
        for (command, vectors, cascade, mask) in [(0x20, 0x08, 0x04, 0xfb), (0xa0, 0x70, 0x02, 0xff)] {
            self.board.port_write(command, Size::B1, 0x11);
            for v in [vectors, cascade, 0x01, mask] {
                self.board.port_write(command + 1, Size::B1, v);
            }
        }
    }
}

impl Platform for Pc {
    fn bus(&mut self) -> &mut dyn Bus {
        &mut self.board
    }
    fn reset(&mut self) {
        Self::reset(self);
    }
    fn load(&mut self, p: &Payload) -> Result<Start, ConfigError> {
        let files = Files { kernel: &p.kernel, initrd: &p.initrd, cmdline: &p.cmdline };
        let tables = acpi::Board { serial_ports: self.serial_ports, ..acpi::Board::default() };
        Ok(Start::Bare(boot::direct(self.board.ram(), &files, &tables)?))
    }
    fn now(&self) -> VmTime {
        self.board.now()
    }
    fn nearest(&self) -> VmTime {
        self.board.nearest()
    }
    fn run_until(&self) -> u64 {
        self.board.run_until()
    }
    fn retired_at(&self, time: VmTime) -> u64 {
        self.board.retired_at(time)
    }
    fn adjust_clock(&mut self, f: &mut dyn FnMut(&mut Clock)) {
        self.board.adjust_clock(f);
    }
    fn take_stop(&mut self) -> Option<StopCause> {
        self.board.take_stop()
    }
    fn input(&mut self, input: &Input) {
        self.board.input(input);
    }
    fn console_room(&mut self, port: u8) -> usize {
        let handle = self.serial.get(usize::from(port)).copied();
        handle.and_then(|h| self.board.device::<Uart16550>(h)).map_or(0, |uart| uart.room())
    }
    fn effects(&mut self) -> &mut Vec<Effect> {
        self.board.effects()
    }
    fn visits(&self) -> Visits {
        self.board.visits()
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        self.board.state_bytes(out);
    }
    fn table(&self) -> String {
        self.board.table()
    }
    #[cfg(test)]
    fn board(&mut self) -> Option<&mut Board> {
        Some(&mut self.board)
    }
}

/// NVRAM as PC firmware fills it: conventional memory, memory above 1 MiB (in KiB, at most
/// 63 MiB), memory above 16 MiB (in 64 KiB).
fn describe_memory(rtc: &mut Rtc146818, ram: u64) {
    let put = |rtc: &mut Rtc146818, at: [u8; 2], v: u64| {
        let [low, high] = (v.min(0xffff) as u16).to_le_bytes();
        rtc.set_nvram(at[0], low);
        rtc.set_nvram(at[1], high);
    };
    let extended = (ram.saturating_sub(1 << 20) >> 10).min(63 << 10);
    put(rtc, [0x15, 0x16], 640);
    put(rtc, [0x17, 0x18], extended);
    put(rtc, [0x30, 0x31], extended);
    put(rtc, [0x34, 0x35], ram.saturating_sub(16 << 20) >> 16);
}
