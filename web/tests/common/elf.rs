//! A kernel of a few instructions.

use tabvisor_devices::boot::layout::{COM1, PM1_CNT, SLP_TYP_S5};

/// An ELF kernel of a few instructions: prints `tiny`, then echoes what is typed. `q` switches off, `c` crashes.
pub fn tiny() -> Vec<u8> {
    const LOAD: u64 = 0x20_0000;
    const HEADERS: u64 = 64 + 56;
    let [data, status] = [COM1, COM1 + 5].map(u16::to_le_bytes);
    let [pm0, pm1] = PM1_CNT.to_le_bytes();
    let [off0, off1] = (1 << 13 | u16::from(SLP_TYP_S5) << 10).to_le_bytes();
    let code = [
        &[0x66, 0xba, data[0], data[1]][..], //  0 mov dx, data
        &[0x48, 0x8d, 0x35, 63, 0, 0, 0],    //  4 lea rsi, [rip + text (74)]
        &[0xac, 0x84, 0xc0],                 // 11 next: lodsb; test al, al
        &[0x74, 3, 0xee, 0xeb, 0xf8],        // 14 jz echo; out dx, al; jmp next
        &[0x66, 0xba, status[0], status[1]], // 19 echo: mov dx, status
        &[0xec, 0xa8, 1, 0x74, 0xfb],        // 23 wait: in al, dx; test al, 1; jz wait
        &[0x66, 0xba, data[0], data[1]],     // 28 mov dx, data
        &[0xec, 0x3c, b'q', 0x74, 7],        // 32 in al, dx; cmp al, 'q'; je off (44)
        &[0x3c, b'c', 0x74, 15],             // 37 cmp al, 'c'; je crash (56)
        &[0xee, 0xeb, 0xe7, 0x90][..3],      // 41 out dx, al; jmp echo
        &[0x66, 0xba, pm0, pm1],             // 44 off: mov dx, pm1_cnt
        &[0x66, 0xb8, off0, off1],           // 48 mov ax, sleep enable
        &[0x66, 0xef, 0xf4, 0x90],           // 52 out dx, ax; hlt
        &[0x0f, 0x01, 0x1d, 4, 0, 0, 0],     // 56 crash: lidt [rip + zeros (67)]
        &[0x0f, 0x0b, 0xf4, 0x90],           // 63 ud2
        &[0; 7],                             // 67 zeros, up to the text's own end
        b"tiny\n\0",                         // 74 text
    ]
    .concat();
    let size = (HEADERS + code.len() as u64).to_le_bytes();
    let at = LOAD.to_le_bytes();
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64, version 1
    elf.extend((LOAD + HEADERS).to_le_bytes()); // entry
    elf.extend(64u64.to_le_bytes()); // program headers
    elf.extend([0; 12]); // no section headers, no flags
    elf.extend([64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 7, 0, 0, 0]); // PT_LOAD, readable, writable, executable
    elf.extend(0u64.to_le_bytes());
    elf.extend([at, at, size, size, 0x1000u64.to_le_bytes()].concat());
    elf.extend(code);
    elf
}
