//! Just enough ACPI to switch off and to reset: RSDP, RSDT or XSDT, FADT, and the _S5_ object.
//! Source: ACPI specification 6.5, chapters 5, 7 and 20.

use crate::boot::{BootInfo, peek};
use crate::cpu::{inw, outb, outw};
use crate::platform;

/// A system description table in memory, its length checked.
#[derive(Clone, Copy)]
struct Table {
    at: u64,
    len: u64,
}

impl Table {
    fn open(at: u64, signature: Option<&[u8; 4]>) -> Option<Self> {
        if !(0x400..0xffff_0000).contains(&at) {
            return None;
        }
        // SAFETY: below 4 GiB everything is mapped; numbers may have any value.
        let (found, len) = unsafe { (peek::<[u8; 4]>(at), u64::from(peek::<u32>(at + 4))) };
        let good = (36..0x10_0000).contains(&len) && signature.is_none_or(|s| *s == found);
        good.then_some(Self { at, len })
    }

    fn get<T: Copy + Default>(self, offset: u64) -> T {
        if offset + size_of::<T>() as u64 > self.len {
            return T::default();
        }
        // SAFETY: inside the table; callers ask for numbers.
        unsafe { peek(self.at + offset) }
    }
}

fn rsdp(info: &BootInfo) -> Option<u64> {
    // SAFETY: the first MiB is mapped.
    let is_rsdp = |at: u64| unsafe { peek::<[u8; 8]>(at) } == *b"RSD PTR ";
    if info.rsdp != 0 && info.rsdp < 0xffff_0000 && is_rsdp(info.rsdp) {
        return Some(info.rsdp);
    }
    (0xe_0000..0x10_0000).step_by(16).find(|at| is_rsdp(*at))
}

fn fadt(info: &BootInfo) -> Option<Table> {
    let rsdp = rsdp(info)?;
    // SAFETY: an RSDP is there.
    let (revision, rsdt, xsdt) =
        unsafe { (peek::<u8>(rsdp + 15), u64::from(peek::<u32>(rsdp + 16)), peek::<u64>(rsdp + 24)) };
    let xsdt = (revision >= 2).then(|| Table::open(xsdt, Some(b"XSDT"))).flatten();
    let (root, width) = match xsdt {
        Some(t) => (t, 8),
        None => (Table::open(rsdt, Some(b"RSDT"))?, 4),
    };
    (36..root.len)
        .step_by(width)
        .map(|at| if width == 8 { root.get::<u64>(at) } else { root.get::<u32>(at).into() })
        .find_map(|at| Table::open(at, Some(b"FACP")))
}

/// The SLP_TYP values of the _S5_ package for PM1a and PM1b.
fn s5(dsdt: Table) -> Option<(u16, u16)> {
    let byte = |at: u64| dsdt.get::<u8>(at);
    let mut at = (36..dsdt.len).find(|at| dsdt.get::<[u8; 4]>(*at) == *b"_S5_")? + 4;
    // PackageOp, PkgLength (its first byte says how many follow), number of elements.
    if byte(at) != 0x12 {
        return None;
    }
    at += 2 + u64::from(byte(at + 1) >> 6) + 1;
    // Each element is ZeroOp, OneOp, or BytePrefix and a byte.
    let mut element = || match byte(at) {
        0x0a => {
            at += 2;
            Some(u16::from(byte(at - 1)))
        }
        v @ (0 | 1) => {
            at += 1;
            Some(u16::from(v))
        }
        _ => None,
    };
    Some((element()?, element()?))
}

/// Switches off; comes back with the reason if that is not possible.
pub fn off(info: &BootInfo) -> &'static str {
    const SCI_EN: u16 = 1;
    const SLP_EN: u16 = 1 << 13;
    let Some(fadt) = fadt(info) else { return "there is no FADT" };
    let Some(dsdt) = Table::open(fadt.get::<u32>(40).into(), Some(b"DSDT")) else { return "there is no DSDT" };
    let Some((a, b)) = s5(dsdt) else { return "the DSDT has no _S5_ we can read" };
    let (pm1a, pm1b) = (fadt.get::<u32>(64) as u16, fadt.get::<u32>(68) as u16);
    let (smi, enable) = (fadt.get::<u32>(48) as u16, fadt.get::<u8>(52));
    if pm1a == 0 {
        return "the FADT has no PM1a control register";
    }
    if smi != 0 && enable != 0 && inw(pm1a) & SCI_EN == 0 {
        outb(smi, enable);
        for _ in 0..1_000_000 {
            if inw(pm1a) & SCI_EN != 0 {
                break;
            }
        }
    }
    outw(pm1a, a << 10 | SLP_EN);
    if pm1b != 0 {
        outw(pm1b, b << 10 | SLP_EN);
    }
    // It may take a moment.
    for _ in 0..platform::TICK_HZ / 2 {
        platform::wait_tick();
    }
    "the machine did not react"
}

/// Resets through the FADT's reset register, if it is an I/O port.
pub fn reset(info: &BootInfo) {
    const RESET_REG_SUP: u32 = 1 << 10;
    let is_port = |t: &Table| t.get::<u32>(112) & RESET_REG_SUP != 0 && t.get::<u8>(116) == 1;
    if let Some(fadt) = fadt(info).filter(is_port) {
        outb(fadt.get::<u64>(120) as u16, fadt.get(128));
    }
}
