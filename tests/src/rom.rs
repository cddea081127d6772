//! Runs a ROM that takes the place of a PC's firmware, such as test386.asm (github.com/barotto/test386.asm), from the
//! reset vector: memory, a port for progress codes, a port for text, and nothing else.

use anyhow::{Result, ensure};
use tabvisor_core::bus::Bus;
use tabvisor_core::cpu::features::Model;
use tabvisor_core::mem::GuestRam;
use tabvisor_core::size::Size;
use tabvisor_core::vcpu::{CpuExit, Vcpu};

/// Bytes of RAM.
const RAM: u64 = 4 << 20;
/// Where the ROM ends below 1 MiB, and (less one) at the top of the 32-bit address space.
const END: u64 = 1 << 20;
const TOP: u64 = 1 << 32;
/// Instructions after which the program counts as hung.
const BUDGET: u64 = 2_000_000_000;

/// Where the program reports.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Progress: a byte per write.
    pub post: u16,
    /// Text: a byte per write.
    pub text: u16,
}

/// What it reported.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Progress codes in order.
    pub posts: Vec<u8>,
    /// Text.
    pub text: Vec<u8>,
    /// How it ended: it halted, it never did, or it ran into a triple fault.
    pub end: Option<CpuExit>,
    /// CS:EIP and the count of instructions at the end.
    pub place: (u16, u64, u64),
}

struct Board<'a> {
    rom: &'a [u8],
    ports: Ports,
    report: Report,
    retired: u64,
}

impl Bus for Board<'_> {
    fn sync(&mut self, retired: u64) {
        self.retired = retired;
    }
    fn port_read(&mut self, _port: u16, _size: Size) -> u32 {
        u32::MAX
    }
    fn port_write(&mut self, port: u16, _size: Size, value: u32) {
        if port == self.ports.post {
            self.report.posts.push(value as u8);
        } else if port == self.ports.text {
            self.report.text.push(value as u8);
        }
    }
    fn mmio_read(&mut self, at: u64, size: Size) -> u64 {
        let from = TOP - self.rom.len() as u64;
        let byte = |n: u64| (at + n).checked_sub(from).and_then(|k| self.rom.get(k as usize)).copied();
        (0..size.bytes()).rev().fold(0, |v, n| v << 8 | u64::from(byte(n).unwrap_or(0xff)))
    }
    fn mmio_write(&mut self, _at: u64, _size: Size, _value: u64) {}
    fn tsc(&mut self) -> u64 {
        self.retired
    }
    fn random(&mut self) -> u64 {
        0
    }
}

/// Runs `rom` from the reset vector until it halts.
///
/// # Errors
/// If it is no ROM of 64 or 128 KiB.
pub fn run(rom: &[u8], ports: Ports, model: Model) -> Result<Report> {
    ensure!(matches!(rom.len() >> 10, 64 | 128) && rom.len() & 0x3ff == 0, "a ROM of {} bytes", rom.len());
    let ram = GuestRam::new(RAM)?;
    ram.write(END - rom.len() as u64, rom);
    let mut vcpu = Vcpu::new(&ram, model);
    vcpu.cpu.reset();
    let mut board = Board { rom, ports, report: Report::default(), retired: 0 };
    let end = vcpu.run(&mut board, BUDGET);
    board.report.end = Some(end);
    board.report.place = (vcpu.cpu.seg[1].sel, vcpu.cpu.rip, vcpu.cpu.retired());
    Ok(board.report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rom_starts_at_the_reset_vector_and_reports() {
        let mut rom = vec![0xf4; 64 << 10];
        // F000:FFF0 jumps far to F000:0000, which is at F0000h: mov dx, 190h; mov al, 5; out dx, al; out E9h, al; hlt
        rom[0xfff0..0xfff5].copy_from_slice(&[0xea, 0x00, 0x00, 0x00, 0xf0]);
        rom[..9].copy_from_slice(&[0xba, 0x90, 0x01, 0xb0, 0x05, 0xee, 0xe6, 0xe9, 0xf4]);
        let report = run(&rom, Ports { post: 0x190, text: 0xe9 }, Model::Pentium).unwrap();
        assert_eq!((report.posts, report.text), (vec![5], vec![5]));
        assert_eq!((report.end, report.place), (Some(CpuExit::Halt), (0xf000, 9, 6)));
        assert!(run(&rom[1..], Ports { post: 0x190, text: 0xe9 }, Model::Pentium).is_err());
    }
}
