//! The chips every PC has.

pub mod acpi_pm;
mod calendar;
pub mod debugcon;
pub mod fpu_error;
pub mod i8042;
pub mod ioapic;
pub mod lapic;
mod lapic_timer;
pub mod pic8259;
pub mod pit8254;
pub mod reset;
pub mod rtc146818;
pub mod testdev;
