//! Power management of the PIIX4 (82371AB data sheet, section 9 and 11): ACPI PM1 event and
//! control blocks, the PM timer, general-purpose event 0, the SMI command port with the
//! switch to ACPI mode, soft off; and the PCI function 3 that carries it.
//!
//! Deliberately absent: SMIs, suspend to RAM, throttling, SMBus, device traps.
//!
//! Offsets: 00h-3Fh the I/O space at PMBA, 40h-41h the APM ports B2h-B3h.

use crate::bus::Widths;
use crate::device::{Cx, Device, put_state, read_bytes, write_bytes};
use crate::effect::{Effect, Input};
use crate::irq::IrqLine;
use crate::pci::config::{ConfigSpace, Ids, PciFunction, Region};
use serde::{Deserialize, Serialize};
use tabvisor_core::time::VmTime;

/// The PM timer's clock.
pub const TIMER_HZ: u64 = 3_579_545;
/// Written to the SMI command port: switch to ACPI mode (FADT ACPI_ENABLE).
pub const ACPI_ENABLE: u8 = 0xf1;
/// Written to the SMI command port: switch back to legacy mode (FADT ACPI_DISABLE).
pub const ACPI_DISABLE: u8 = 0xf0;
/// SLP_TYP of soft off (table "SUS_TYP": 000 is S5); the DSDT's \_S5.
pub const SLP_TYP_S5: u8 = 0;
/// Offset of the GPE0 block (GPSTS, GPEN; 2 bytes each).
pub const GPE0: u64 = 0x0c;
/// Offset of the APM ports.
pub const APM: u64 = 0x40;

const PMSTS: u64 = 0x00;
const PMEN: u64 = 0x02;
const PMCNTRL: u64 = 0x04;
const PMTMR: u64 = 0x08;
const GPSTS: u64 = GPE0;
const GPEN: u64 = GPE0 + 2;
const APMC: u64 = APM;
const APMS: u64 = APM + 1;

const TMROF: u16 = 1 << 0;
const GBL: u16 = 1 << 5;
const PWRBTN: u16 = 1 << 8;
const RTC: u16 = 1 << 10;
const RSM: u16 = 1 << 15;
/// Status bits that exist, cleared by writing ones.
const STATUS: u16 = TMROF | GBL | PWRBTN | RTC | RSM;
const ENABLES: u16 = TMROF | GBL | PWRBTN | RTC;
const SCI_EN: u16 = 1 << 0;
const SUS_TYP_SHIFT: u32 = 10;
const SUS_EN: u16 = 1 << 13;
const CONTROL: u16 = 0x1c07;
/// TMROF_STS is set when bit 23 of the timer changes (PMSTS, bit 0).
const TIMER_OVERFLOW: u64 = 1 << 23;
const TIMER_MASK: u64 = (1 << 24) - 1;

// PCI function 3.
const PMBA: u8 = 0x40;
const PMREGMISC: u8 = 0x80;

/// Everything the guest can tell apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    status: u16,
    enable: u16,
    control: u16,
    gp_status: u16,
    gp_enable: u16,
    apm: [u8; 2],
    /// Overflows up to this moment are in `status`.
    seen: VmTime,
    /// A sleep type that does not exist here was reported.
    logged: bool,
}

/// The power management block.
pub struct AcpiPm {
    state: State,
    config: ConfigSpace,
    base: u16,
    sci: IrqLine,
    /// The board has no SMI handler: SCI_EN is always one (FADT with SMI_CMD 0).
    always_acpi: bool,
}

fn overflows(at: VmTime) -> u64 {
    at.ticks(TIMER_HZ) / TIMER_OVERFLOW
}

impl AcpiPm {
    /// Power management with its I/O space at `base` (a multiple of 64), as firmware sets it up,
    /// and the interrupt `sci`, which is ISA interrupt `sci_irq`. A board whose ACPI tables name no
    /// SMI command port is `always_acpi`.
    pub fn new(base: u16, sci: IrqLine, sci_irq: u8, always_acpi: bool) -> Self {
        let ids = Ids { vendor: 0x8086, device: 0x7113, class: 0x06_80_00, revision: 3, multifunction: false };
        let mut config = ConfigSpace::new(ids);
        config.set(PMBA, &(u32::from(base & 0xffc0) | 1).to_le_bytes());
        config.allow(PMBA, &0x0000_ffc0u32.to_le_bytes());
        config.set(PMREGMISC, &[1]);
        config.allow(PMREGMISC, &[1]);
        config.interrupt(sci_irq, 1);
        let mut pm = Self { state: State::default(), config, base, sci, always_acpi };
        pm.keep_acpi();
        pm
    }

    fn keep_acpi(&mut self) {
        if self.always_acpi {
            self.state.control |= SCI_EN;
        }
    }

    fn catch_up(&mut self, now: VmTime) {
        if overflows(now) > overflows(self.state.seen) {
            self.state.status |= TMROF;
        }
        self.state.seen = self.state.seen.max(now);
    }
    fn update_irq(&self, cx: &mut Cx<'_>) {
        let s = &self.state;
        let event = s.status & s.enable != 0 || s.gp_status & s.gp_enable != 0;
        cx.irq.set(self.sci, event && s.control & SCI_EN != 0);
    }

    fn read_byte(&self, now: VmTime, at: u64) -> u8 {
        let s = &self.state;
        let byte = |v: u64, of: u64| (v >> (8 * (at - of))) as u8;
        match at {
            PMSTS..PMEN => byte(s.status.into(), PMSTS),
            PMEN..PMCNTRL => byte(s.enable.into(), PMEN),
            PMCNTRL..6 => byte(s.control.into(), PMCNTRL),
            PMTMR..GPSTS => byte(now.ticks(TIMER_HZ) & TIMER_MASK, PMTMR),
            GPSTS..GPEN => byte(s.gp_status.into(), GPSTS),
            GPEN..0x10 => byte(s.gp_enable.into(), GPEN),
            APMC => s.apm[0],
            APMS => s.apm[1],
            _ => 0,
        }
    }

    fn write_byte(&mut self, cx: &mut Cx<'_>, at: u64, v: u8) {
        let s = &mut self.state;
        let shift = 8 * (at & 1) as u32;
        let (bits, keep) = (u16::from(v) << shift, !(0xffu16 << shift));
        match at {
            PMSTS..PMEN => s.status &= !(bits & STATUS),
            PMEN..PMCNTRL => s.enable = (s.enable & keep | bits) & ENABLES,
            PMCNTRL..6 => {
                s.control = (s.control & keep | bits) & CONTROL;
                // SUS_EN is write-only; the type is the one written with it or before.
                if bits & SUS_EN != 0 {
                    let typ = (s.control >> SUS_TYP_SHIFT & 7) as u8;
                    if typ == SLP_TYP_S5 {
                        cx.out.push(Effect::PowerOff);
                    } else if !core::mem::replace(&mut s.logged, true) {
                        cx.out.push(Effect::Log(format!("sleep type {typ} is not supported")));
                    }
                }
            }
            GPSTS..GPEN => s.gp_status &= !bits,
            GPEN..0x10 => s.gp_enable = s.gp_enable & keep | bits,
            APMC => {
                s.apm[0] = v;
                // What firmware's SMI handler would do.
                match v {
                    ACPI_ENABLE => s.control |= SCI_EN,
                    ACPI_DISABLE => s.control &= !SCI_EN,
                    _ => {}
                }
            }
            APMS => s.apm[1] = v,
            _ => {}
        }
    }
}

impl Device for AcpiPm {
    fn read(&mut self, cx: &mut Cx<'_>, at: u64, data: &mut [u8]) {
        self.catch_up(cx.now);
        read_bytes(at, data, |at| self.read_byte(cx.now, at));
        self.update_irq(cx);
    }
    fn write(&mut self, cx: &mut Cx<'_>, at: u64, data: &[u8]) {
        self.catch_up(cx.now);
        write_bytes(at, data, |at, v| self.write_byte(cx, at, v));
        self.keep_acpi();
        self.update_irq(cx);
    }

    fn deadline(&self) -> Option<VmTime> {
        let s = &self.state;
        let wanted = s.control & SCI_EN != 0 && s.enable & !s.status & TMROF != 0;
        wanted.then(|| VmTime::of_ticks((overflows(s.seen) + 1) * TIMER_OVERFLOW, TIMER_HZ))
    }
    fn advance(&mut self, cx: &mut Cx<'_>) {
        self.catch_up(cx.now);
        self.update_irq(cx);
    }
    fn input(&mut self, cx: &mut Cx<'_>, input: &Input) {
        if *input == Input::PowerButton {
            self.catch_up(cx.now);
            self.state.status |= PWRBTN;
            self.update_irq(cx);
        }
    }

    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.state = State { seen: cx.now, ..State::default() };
        self.keep_acpi();
        self.config.reset();
        self.config.set(PMBA, &(u32::from(self.base & 0xffc0) | 1).to_le_bytes());
        self.config.set(PMREGMISC, &[1]);
        self.update_irq(cx);
    }
    fn state_bytes(&self, out: &mut Vec<u8>) {
        put_state(out, &self.state);
        put_state(out, &self.config);
    }
    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }
}

impl PciFunction for AcpiPm {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
    fn regions(&self) -> Vec<Region> {
        // PMIOSE switches the decode; the base is not a standard base address register.
        if self.config.byte(PMREGMISC) & 1 == 0 {
            return Vec::new();
        }
        let first = u64::from(u16::from_le_bytes([self.config.byte(PMBA), self.config.byte(PMBA + 1)]) & 0xffc0);
        vec![Region { io: true, first, last: first + 0x3f, offset: 0, widths: Widths::DWORD }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::bench::Bench;

    struct P(AcpiPm, Bench);
    impl P {
        fn new() -> Self {
            let mut b = Bench::new();
            let sci = b.irq.connect(9).unwrap();
            Self(AcpiPm::new(0x600, sci, 9, false), b)
        }
        fn get(&mut self, at: u64) -> u16 {
            let mut b = [0; 2];
            self.0.read(&mut self.1.cx(), at, &mut b);
            u16::from_le_bytes(b)
        }
        fn set(&mut self, at: u64, v: u16) {
            self.0.write(&mut self.1.cx(), at, &v.to_le_bytes());
        }
        fn timer(&mut self) -> u32 {
            let mut b = [0; 4];
            self.0.read(&mut self.1.cx(), PMTMR, &mut b);
            u32::from_le_bytes(b)
        }
    }

    #[test]
    fn the_timer_runs_at_3_58_mhz_in_24_bits() {
        let mut p = P::new();
        p.1.now = VmTime::from_nanos(1_000_000_000);
        assert_eq!(p.timer(), 3_579_545);
        p.1.now = VmTime::of_ticks(0x0100_0005, TIMER_HZ);
        assert_eq!(p.timer(), 5);
    }

    #[test]
    fn acpi_mode_is_switched_through_the_smi_command_port() {
        let mut p = P::new();
        assert_eq!(p.get(PMCNTRL), 0);
        p.1.write(&mut p.0, APMC, ACPI_ENABLE);
        assert_eq!(p.get(PMCNTRL), SCI_EN);
        p.1.write(&mut p.0, APMC, ACPI_DISABLE);
        assert_eq!(p.get(PMCNTRL), 0);
        p.1.write(&mut p.0, APMS, 0x5a);
        assert_eq!(p.1.read(&mut p.0, APMS), 0x5a);
    }

    #[test]
    fn a_board_without_smi_stays_in_acpi_mode() {
        let mut b = Bench::new();
        let sci = b.irq.connect(9).unwrap();
        let mut p = P(AcpiPm::new(0x600, sci, 9, true), b);
        assert_eq!(p.get(PMCNTRL), SCI_EN);
        p.set(PMCNTRL, 0);
        p.1.write(&mut p.0, APMC, ACPI_DISABLE);
        assert_eq!(p.get(PMCNTRL), SCI_EN);
        p.0.reset(&mut p.1.cx());
        assert_eq!(p.get(PMCNTRL), SCI_EN);
    }

    #[test]
    fn timer_overflow_interrupts_when_bit_23_changes() {
        let mut p = P::new();
        p.set(PMEN, 0xffff);
        assert_eq!(p.get(PMEN), ENABLES);
        assert_eq!(p.0.deadline(), None); // not in ACPI mode
        p.set(PMCNTRL, SCI_EN);
        let at = VmTime::of_ticks(1 << 23, TIMER_HZ);
        assert_eq!(p.0.deadline(), Some(at));
        p.1.run_to(&mut p.0, at);
        assert!(p.1.level(9));
        assert_eq!(p.0.deadline(), None);
        p.set(PMSTS, TMROF);
        assert!(!p.1.level(9));
        assert_eq!(p.0.deadline(), Some(VmTime::of_ticks(2 << 23, TIMER_HZ)));
    }

    #[test]
    fn the_power_button_is_an_event() {
        let mut p = P::new();
        p.set(PMCNTRL, SCI_EN);
        p.0.input(&mut p.1.cx(), &Input::PowerButton);
        assert_eq!(p.get(PMSTS), PWRBTN);
        assert!(!p.1.level(9));
        p.set(PMEN, PWRBTN);
        assert!(p.1.level(9));
        p.set(PMSTS, PWRBTN);
        assert!(!p.1.level(9));
    }

    #[test]
    fn soft_off_switches_off_and_other_sleeps_do_not() {
        let mut p = P::new();
        p.set(PMCNTRL, SUS_EN | 1 << 10 | SCI_EN);
        p.set(PMCNTRL, SUS_EN | 2 << 10 | SCI_EN);
        assert!(matches!(p.1.out[..], [Effect::Log(_)])); // once
        p.set(PMCNTRL, SUS_EN | SCI_EN);
        assert_eq!(p.1.out[1], Effect::PowerOff);
        assert_eq!(p.get(PMCNTRL), SCI_EN);
    }

    #[test]
    fn general_purpose_enables_are_kept() {
        let mut p = P::new();
        p.set(GPEN, 0x0f01);
        assert_eq!((p.get(GPEN), p.get(GPSTS)), (0x0f01, 0));
    }

    #[test]
    fn the_function_moves_its_io_space() {
        let mut p = P::new();
        assert_eq!(p.0.regions()[0].first, 0x600);
        p.0.config().write(PMBA, &0xb03fu32.to_le_bytes());
        let r = p.0.regions();
        assert_eq!((r[0].first, r[0].last, r[0].io), (0xb000, 0xb03f, true));
        p.0.config().write(PMREGMISC, &[0]);
        assert!(p.0.regions().is_empty());
        p.0.reset(&mut p.1.cx());
        assert_eq!(p.0.regions()[0].first, 0x600);
    }

    #[test]
    fn any_access_is_survived() {
        let mut p = P::new();
        p.1.torture(&mut p.0, 0x44);
    }
}
