//! Paging with 2, 3 and 4 levels: rights, error codes, accessed and dirty bits, reserved bits, PDPTEs, large pages,
//! and which loads and instructions drop translations (SDM 3A chapter 4).

mod guest;

use guest::{DATA, Guest, STACK0, TABLES, TSS, USER_END};
use tabvisor_core::cpu::features::Model;
use tabvisor_core::cpu::segment::Segment;
use tabvisor_core::cpu::{cr0, cr4, efer};
use tabvisor_core::flags;

const GP: Option<u8> = Some(13);
const PF: Option<u8> = Some(14);
const END: Option<u8> = Some(USER_END);

/// The linear address that tests change, and where it leads at first.
const LA: u64 = 0xc000_0000;
/// Tables of this test.
const ROOT: u64 = 0x20_0000;
const LOW: u64 = 0x20_1000;
const LEAF: u64 = 0x20_2000;
const DIR: u64 = 0x20_3000;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const NX: u64 = 1 << 63;

/// mov eax, [rbx]; mov [rbx], eax; call rbx; each followed by INT 80h.
const READ: &[u8] = &[0x8b, 0x03, 0xcd, 0x80];
const WRITE: &[u8] = &[0x89, 0x03, 0xcd, 0x80];
const CALL: &[u8] = &[0xff, 0xd3, 0xcd, 0x80];

/// A guest with paging on. The first 2 MiB are mapped onto themselves, [`LA`] leads to [`DATA`].
struct World {
    g: Guest,
    /// Bytes of an entry.
    width: u64,
    /// Page table of the first 2 MiB.
    low: u64,
    /// Entry of LA's page table in its directory.
    upper: u64,
}

impl World {
    fn put(&self, at: u64, v: u64) {
        self.g.ram.write(at, &v.to_le_bytes()[..self.width as usize]);
    }
    fn get(&self, at: u64) -> u64 {
        if self.width == 4 { self.g.get4(at) } else { self.g.get(at) }
    }
    fn common(self) -> Self {
        for page in 0..512 {
            self.put(self.low + self.width * page, page << 12 | P | RW);
        }
        self.put(LEAF, DATA | P | RW | US);
        self.put(LEAF + self.width, (DATA + 0x1000) | P | RW | US);
        self.g.ram.write(DATA, &[0xc3; 0x2000]);
        self
    }

    /// Two levels.
    fn legacy() -> Self {
        Self::legacy_model(Model::X64V2)
    }
    fn legacy_model(model: Model) -> Self {
        let mut g = Guest::protected_model(model);
        g.put4(ROOT, LOW | 7);
        g.put4(ROOT + 4 * (LA >> 22), LEAF | 7);
        let c = &mut g.vcpu.cpu;
        c.cr3 = ROOT;
        c.cr4 |= cr4::PSE;
        c.cr0 |= cr0::PG;
        World { g, width: 4, low: LOW, upper: ROOT + 4 * (LA >> 22) }.common()
    }
    /// Three levels, PAE.
    fn pae() -> Self {
        let mut g = Guest::protected();
        g.put(ROOT, (ROOT + 0x5000) | P);
        g.put(ROOT + 0x5000, LOW | 7);
        g.put(ROOT + 8 * (LA >> 30), DIR | P);
        g.put(DIR, LEAF | 7);
        let c = &mut g.vcpu.cpu;
        c.cr3 = ROOT;
        c.cr4 |= cr4::PAE;
        c.efer |= efer::NXE;
        c.load_pdptes(ROOT).expect("no reserved bits");
        c.cr0 |= cr0::PG;
        World { g, width: 8, low: LOW, upper: DIR }.common()
    }
    /// Four levels.
    fn long() -> Self {
        Self::long_model(Model::X64V2)
    }
    fn long_model(model: Model) -> Self {
        let g = Guest::long_model(model);
        g.put(TABLES[1] + 8 * (LA >> 30), DIR | 7);
        g.put(DIR, LEAF | 7);
        World { g, width: 8, low: TABLES[3], upper: DIR }.common()
    }

    /// Runs `code` with RBX = LA at CPL 3 or 0; the vector that ended it.
    fn run(&mut self, user: bool, code: &[u8]) -> Option<u8> {
        // Code and stack belong to whom they serve.
        let who = if user { US } else { 0 };
        for page in [9, 0xa] {
            self.put(self.low + self.width * page, page << 12 | P | RW | who);
        }
        if user {
            self.g.user()
        } else {
            self.g.kernel()
        }
        self.g.load(code);
        self.g.vcpu.cpu.regs[3] = LA;
        self.g.vcpu.cpu.regs[4] = 0xa000;
        self.g.vcpu.cpu.tlb.flush_all();
        self.g.go_on()
    }

    /// The same; the error code if it ended in a page fault at LA.
    fn access(&mut self, user: bool, code: &[u8]) -> Result<(), u64> {
        match self.run(user, code) {
            END => Ok(()),
            PF => {
                assert_eq!(self.g.vcpu.cpu.cr2, LA);
                Err(self.g.frame(14).code)
            }
            v => panic!("vector {v:?}"),
        }
    }
}

/// SDM 3A 4.6.1: may it be done with the rights `e` of all levels?
fn may(e: u64, user: bool, code: &[u8], wp: bool, smep: bool, smap: bool, ac: bool) -> bool {
    let to_user = e & US != 0;
    let by_code = match code {
        CALL => e & NX == 0 && (user || !(to_user && smep)),
        WRITE => e & RW != 0 || !user && !wp,
        _ => true,
    };
    let by_smap = user || !to_user || !smap || ac || code == CALL;
    e & P != 0 && by_code && by_smap && (!user || to_user)
}

#[test]
fn rights_error_codes_and_accessed_bits_in_all_modes() {
    for mut w in [World::legacy(), World::pae(), World::long()] {
        let nx = w.width == 8;
        for setting in 0..16u64 {
            let [wp, smep, smap, ac] = [0, 1, 2, 3].map(|k| setting >> k & 1 != 0);
            let c = &mut w.g.vcpu.cpu;
            c.cr0 = c.cr0 & !cr0::WP | if wp { cr0::WP } else { 0 };
            let new = if smep { cr4::SMEP } else { 0 } | if smap { cr4::SMAP } else { 0 };
            c.cr4 = c.cr4 & !(cr4::SMEP | cr4::SMAP) | new;
            for rights in 0..16u64 {
                let e = rights & 7 | if rights & 8 != 0 { NX } else { 0 };
                if e & NX != 0 && !nx {
                    continue;
                }
                for in_upper in [false, true] {
                    for (user, code) in [READ, WRITE, CALL].iter().flat_map(|c| [(false, *c), (true, *c)]) {
                        let (upper, leaf) = if in_upper { (e, P | RW | US) } else { (P | RW | US, e) };
                        w.put(w.upper, LEAF | upper);
                        w.put(LEAF, DATA | leaf);
                        w.g.vcpu.cpu.set_rflags_image(2 | if ac { flags::AC } else { 0 });
                        let got = w.access(user, code);
                        let ok = may(e, user, code, wp, smep, smap, ac);
                        let fetch = code == CALL && (nx || smep);
                        let error = e & P
                            | if code == WRITE { 2 } else { 0 }
                            | if user { 4 } else { 0 }
                            | if fetch { 0x10 } else { 0 };
                        let what = format!("{e:x} in_upper {in_upper} user {user} {code:x?} setting {setting:x}");
                        assert_eq!(got, if ok { Ok(()) } else { Err(error) }, "{what}");
                        let (upper, leaf) = (w.get(w.upper), w.get(LEAF));
                        if ok {
                            let want = if code == WRITE { A | D } else { A };
                            assert_eq!((upper & A, leaf & (A | D)), (A, want), "{what}");
                        } else {
                            assert_eq!(leaf & (A | D), 0, "{what}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_page_that_was_read_is_still_clean_and_still_read_only() {
    for mut w in [World::legacy(), World::pae(), World::long()] {
        // mov eax, [rbx]; mov [rbx], eax
        let both = &[0x8b, 0x03, 0x89, 0x03, 0xcd, 0x80];
        w.put(LEAF, DATA | P | US);
        assert_eq!(w.access(true, both), Err(7));
        assert_eq!(w.get(LEAF) & (A | D), A);
        w.put(LEAF, DATA | P | RW | US);
        assert_eq!(w.access(true, both), Ok(()));
        assert_eq!(w.get(LEAF) & (A | D), A | D);
    }
}

#[test]
fn reserved_bits_are_page_faults_that_say_so() {
    // mov eax, [rbx] at CPL 0: present, reserved.
    const RESERVED: Result<(), u64> = Err(9);
    for mut w in [World::pae(), World::long()] {
        let high = if w.width == 8 && w.g.vcpu.cpu.long { 51 } else { 62 };
        for bit in [40, 45, high] {
            w.put(LEAF, DATA | 7 | 1 << bit);
            assert_eq!(w.access(false, READ), RESERVED, "bit {bit} of the last level");
            w.put(LEAF, DATA | 7);
            w.put(w.upper, LEAF | 7 | 1 << bit);
            assert_eq!(w.access(false, READ), RESERVED, "bit {bit} of the level above");
            w.put(w.upper, LEAF | 7);
        }
        // A page of 2 MiB: bits 20:13.
        for bit in 13..=20 {
            w.put(w.upper, 7 | PS | 1 << bit);
            assert_eq!(w.access(false, READ), RESERVED, "bit {bit} of a large page");
        }
        w.put(w.upper, 7 | PS | 1 << 12);
        assert_eq!(w.access(false, READ), Ok(()));
        // NX without EFER.NXE.
        w.put(w.upper, LEAF | 7);
        w.put(LEAF, DATA | 7 | NX);
        assert_eq!(w.access(false, READ), Ok(()));
        w.g.vcpu.cpu.efer &= !efer::NXE;
        assert_eq!(w.access(false, READ), RESERVED);
    }
    // 64-bit mode: bits 62:52 are ignored; PS of a PML4E is not.
    let mut w = World::long();
    w.put(LEAF, DATA | 7 | 0x7ff << 52);
    assert_eq!(w.access(false, READ), Ok(()));
    let la = 0x4000_0000_0000u64;
    w.put(TABLES[0] + 8 * (la >> 39), TABLES[1] | 7 | PS);
    w.g.load(READ);
    w.g.vcpu.cpu.regs[3] = la;
    assert_eq!((w.g.go_on(), w.g.frame(14).code, w.g.vcpu.cpu.cr2), (PF, 9, la));
    // 4 MiB: bit 21; without PSE-36 all of bits 21:13, without PSE the bit means nothing.
    for (model, bits) in [(Model::X64V2, 21..=21), (Model::Pentium, 13..=21)] {
        let mut w = World::legacy_model(model);
        for bit in bits {
            w.put(w.upper, 7 | PS | 1 << bit);
            assert_eq!(w.access(false, READ), RESERVED, "bit {bit}, {model:?}");
        }
        w.put(w.upper, LEAF | 7 | PS);
        w.g.vcpu.cpu.cr4 &= !cr4::PSE;
        assert_eq!(w.access(false, READ), Ok(()));
    }
}

#[test]
fn large_pages_lead_where_they_say() {
    // A value at 2 MiB + 10000h, seen through a page of 4 MiB, 2 MiB, 1 GiB.
    let at = 0x61_0000;
    for (mut w, entry, base) in [
        (World::legacy(), ROOT + 4 * (LA >> 22), 0x40_0000u64),
        (World::pae(), DIR, 0x60_0000),
        (World::long(), DIR, 0x60_0000),
        (World::long(), TABLES[1] + 8 * (LA >> 30), 0),
    ] {
        w.g.put4(at, 0x1234_5678);
        w.put(entry, base | 7 | PS);
        w.g.load(&[0x8b, 0x03, 0x89, 0x43, 0x04, 0xcd, 0x80]);
        w.g.vcpu.cpu.regs[3] = LA + (at - base);
        assert_eq!(w.g.go_on(), END);
        assert_eq!((w.g.vcpu.cpu.regs[0], w.g.get4(at + 4)), (0x1234_5678, 0x1234_5678));
        assert_eq!(w.get(entry) & (A | D), A | D);
    }
    // PSE-36: bits 39:32 of the address; nothing is there.
    let mut w = World::legacy();
    w.put(w.upper, 7 | PS | 1 << 13);
    assert_eq!(w.access(false, READ), Ok(()));
    assert_eq!(w.g.vcpu.cpu.regs[0], 0xffff_ffff);
    // x86-64-v1 has no pages of 1 GiB: the bit is reserved.
    let mut w = World::long_model(Model::X64V1);
    w.put(TABLES[1] + 8 * (LA >> 30), 7 | PS);
    assert_eq!(w.access(false, READ), Err(9));
}

#[test]
fn pdptes_are_checked_and_loaded_with_cr3() {
    // mov cr3, eax
    let load = &[0x0f, 0x22, 0xd8, 0xcd, 0x80];
    for bit in [1, 2, 5, 6, 7, 8, 40, 62, 63] {
        let mut w = World::pae();
        w.g.put(ROOT + 8, P | 1 << bit);
        w.g.vcpu.cpu.regs[0] = ROOT;
        let before = w.g.vcpu.cpu.pdpte;
        w.g.vcpu.cpu.cr3 = ROOT | 8;
        assert_eq!(w.run(false, load), GP, "bit {bit}");
        assert_eq!((w.g.frame(13).code, w.g.vcpu.cpu.cr3, w.g.vcpu.cpu.pdpte), (0, ROOT | 8, before));
        // The same bits in one that is not present do not matter.
        w.g.put(ROOT + 8, 1 << bit);
        w.g.vcpu.cpu.regs[0] = ROOT;
        assert_eq!(w.run(false, load), END, "bit {bit}");
    }
    // A change in memory shows with the next load.
    let mut w = World::pae();
    w.g.put(ROOT + 8 * 3, 0);
    assert_eq!(w.access(false, READ), Ok(()));
    w.g.vcpu.cpu.regs[0] = ROOT;
    assert_eq!(w.run(false, load), END);
    assert_eq!(w.access(false, READ), Err(0));
    // So does it with CR4 if PGE changes: mov cr4, eax.
    w.g.put(ROOT + 8 * 3, DIR | P);
    assert_eq!(w.access(false, READ), Err(0));
    w.g.vcpu.cpu.regs[0] = w.g.vcpu.cpu.cr4 | cr4::PGE;
    assert_eq!(w.run(false, &[0x0f, 0x22, 0xe0, 0xcd, 0x80]), END);
    assert_eq!(w.access(false, READ), Ok(()));
    // And at the moment paging is switched on: mov cr0, eax.
    w.g.put(ROOT + 8, P | 2);
    w.g.vcpu.cpu.cr0 &= !cr0::PG;
    w.g.vcpu.cpu.regs[0] = w.g.vcpu.cpu.cr0 | cr0::PG;
    assert_eq!(w.run(false, &[0x0f, 0x22, 0xc0, 0xcd, 0x80]), GP);
    assert_eq!(w.g.vcpu.cpu.cr0 & cr0::PG, 0);
}

/// mov eax, [rbx]; put `change` between; mov edx, [rbx]. LA leads to another page before `change`.
fn seen_after(w: &mut World, change: &[u8]) -> u64 {
    w.g.put4(DATA, 0x1111);
    w.g.put4(DATA + 0x1000, 0x2222);
    w.put(LEAF, DATA | 7);
    // mov eax, [rbx]; mov [rcx], esi (the low half of the entry); change; mov edx, [rbx]
    let code = [&[0x8b, 0x03, 0x89, 0x31][..], change, &[0x8b, 0x13, 0xcd, 0x80]].concat();
    // The page tables are mapped.
    w.g.vcpu.cpu.regs[1] = 0x1_f000;
    w.put(w.low + w.width * 0x1f, LEAF | 3);
    w.g.vcpu.cpu.regs[6] = (DATA + 0x1000) | 7;
    assert_eq!(w.run(false, &code), END);
    assert_eq!(w.g.vcpu.cpu.regs[0] & 0xffff, 0x1111);
    w.g.vcpu.cpu.regs[2]
}

#[test]
fn translations_go_when_they_have_to() {
    for mut w in [World::legacy(), World::pae(), World::long()] {
        // invlpg [rbx]; mov rdi, cr3 and back; CR4.PSE or PGE over and back
        assert_eq!(seen_after(&mut w, &[0x0f, 0x01, 0x3b]), 0x2222);
        assert_eq!(seen_after(&mut w, &[0x0f, 0x20, 0xdf, 0x0f, 0x22, 0xdf]), 0x2222);
        w.g.vcpu.cpu.cr4 |= cr4::PGE;
        w.g.vcpu.cpu.regs[7] = w.g.vcpu.cpu.cr4 ^ cr4::PGE;
        assert_eq!(seen_after(&mut w, &[0x0f, 0x22, 0xe7]), 0x2222);
    }
}

#[test]
fn invpcid_drops_what_it_names() {
    for kind in 0..4u64 {
        for pcide in [false, true] {
            let mut w = World::long();
            let c = &mut w.g.vcpu.cpu;
            c.cr4 |= if pcide { cr4::PCIDE } else { 0 };
            c.regs[7] = kind;
            w.g.put(0x1_0000, 0);
            w.g.put(0x1_0008, LA);
            // invpcid rdi, [10000h]
            let invpcid = &[0x66, 0x0f, 0x38, 0x82, 0x3c, 0x25, 0, 0, 1, 0];
            assert_eq!(seen_after(&mut w, invpcid), 0x2222, "type {kind}");
        }
    }
    // What is refused: type, descriptor's low half, its address, PCIDE -> end.
    for (kind, low, la, pcide, ok) in [
        (4, 0, 0, true, false),
        (1 << 32, 0, 0, true, false),
        (0, 0, 0x8000_0000_0000, true, false),
        (1, 0, 0x8000_0000_0000, true, true),
        (0, 1 << 12, 0, true, false),
        (2, 1 << 12, 0, true, false),
        (3, 1 << 63, 0, true, false),
        (0, 5, 0, true, true),
        (0, 5, 0, false, false),
        (1, 5, 0, false, false),
        (2, 5, 0, false, true),
        (3, 5, 0, false, true),
    ] {
        let mut g = Guest::long();
        g.vcpu.cpu.cr4 |= if pcide { cr4::PCIDE } else { 0 };
        g.put(DATA, low);
        g.put(DATA + 8, la);
        g.vcpu.cpu.regs[7] = kind;
        g.vcpu.cpu.regs[3] = DATA;
        let end = g.run_code(&[0x66, 0x0f, 0x38, 0x82, 0x3b]);
        assert_eq!(end, if ok { None } else { GP }, "type {kind:x} {low:x} {la:x} {pcide}");
    }
    // Only for ring 0.
    let mut w = World::long();
    w.put(LEAF, DATA | 7);
    assert_eq!(w.run(true, &[0x66, 0x0f, 0x38, 0x82, 0x3b]), GP);
}

#[test]
fn pcids_keep_address_spaces_apart() {
    // Two address spaces whose LA differ; CR3 with bit 63 keeps translations of its own PCID only.
    let mut w = World::long();
    let other = 0x20_4000;
    w.g.put(other, (other + 0x1000) | 7);
    w.g.put(other + 0x1000, TABLES[2] | 7);
    w.g.put(other + 0x1000 + 8 * 3, (other + 0x2000) | 7);
    w.g.put(other + 0x2000, (other + 0x3000) | 7);
    w.g.put(other + 0x3000, (DATA + 0x1000) | 7);
    w.g.put4(DATA, 0x1111);
    w.g.put4(DATA + 0x1000, 0x2222);
    let c = &mut w.g.vcpu.cpu;
    c.cr4 |= cr4::PCIDE;
    c.regs[6] = other | 1 | 1 << 63;
    c.regs[7] = TABLES[0] | 1 << 63;
    // mov eax, [rbx]; mov cr3, rsi; mov ecx, [rbx]; mov cr3, rdi; mov edx, [rbx]
    let code = [0x8b, 0x03, 0x0f, 0x22, 0xde, 0x8b, 0x0b, 0x0f, 0x22, 0xdf, 0x8b, 0x13, 0xcd, 0x80];
    assert_eq!(w.run(false, &code), END);
    let r = &w.g.vcpu.cpu.regs;
    assert_eq!((r[0], r[1], r[2]), (0x1111, 0x2222, 0x1111));
    assert_eq!(w.g.vcpu.cpu.cr3, TABLES[0]);
    // PCIDE cannot be set with a PCID in CR3, and not cleared paging with it on; bit 63 of CR3 is reserved without.
    let mut g = Guest::long();
    g.vcpu.cpu.cr3 |= 1;
    g.vcpu.cpu.regs[0] = g.vcpu.cpu.cr4 | cr4::PCIDE;
    assert_eq!(g.run_code(&[0x0f, 0x22, 0xe0]), GP);
    g.vcpu.cpu.cr3 &= !1;
    assert_eq!(g.run_code(&[0x0f, 0x22, 0xe0]), None);
    g.vcpu.cpu.cr4 &= !cr4::PCIDE;
    g.vcpu.cpu.regs[0] = TABLES[0] | 1 << 63;
    assert_eq!(g.run_code(&[0x0f, 0x22, 0xd8]), GP);
    let mut g = Guest::protected();
    g.vcpu.cpu.cr4 |= cr4::PAE;
    g.vcpu.cpu.regs[0] = g.vcpu.cpu.cr4 | cr4::PCIDE;
    assert_eq!(g.run_code(&[0x0f, 0x22, 0xe0]), GP);
}

#[test]
fn smap_holds_for_implicit_accesses_whatever_ac_says() {
    // mov es, ax with the LDT in a user page.
    for (smap, ac) in [(false, false), (true, false), (true, true)] {
        for user in [false, true] {
            let mut w = World::long();
            w.put(LEAF, DATA | 7);
            w.g.put(DATA + 8, 0x00cf_f300_0000_ffff);
            let c = &mut w.g.vcpu.cpu;
            c.cr4 |= if smap { cr4::SMAP } else { 0 };
            c.seg[6] = Segment { base: LA, limit: 0xff, sel: 0x40, attr: 0x82 };
            c.regs[0] = 0xf;
            c.set_rflags_image(2 | if ac { flags::AC } else { 0 });
            let end = w.run(user, &[0x8e, 0xc0, 0xcd, 0x80]);
            if smap {
                // A supervisor's access, even at CPL 3.
                assert_eq!((end, w.g.frame(14).code, w.g.vcpu.cpu.cr2), (PF, 1, LA + 8), "user {user}");
            } else {
                assert_eq!(end, END);
            }
        }
    }
    // The stack of CPL 0 in a user page: the frame of an interrupt from CPL 3 cannot be pushed.
    let mut w = World::long();
    w.g.vcpu.cpu.cr4 |= cr4::SMAP;
    w.g.put(TSS + 4, LA + 0x800);
    w.put(LEAF, DATA | 7);
    // #PF and #DF have stacks of their own.
    for v in [8, 14] {
        w.g.ram.write(guest::IDT + 16 * v + 4, &[1]);
    }
    w.g.put(TSS + 0x24, STACK0);
    assert_eq!(w.run(true, &[0xcd, 0x80]), PF);
    assert_eq!((w.g.frame(14).code, w.g.vcpu.cpu.cr2), (3, LA + 0x7f8));
}

#[test]
fn stac_and_clac_open_and_close_user_pages() {
    let mut w = World::long();
    w.g.vcpu.cpu.cr4 |= cr4::SMAP;
    // stac; mov eax, [rbx]; clac; mov eax, [rbx]
    let code = [0x0f, 0x01, 0xcb, 0x8b, 0x03, 0x0f, 0x01, 0xca, 0x8b, 0x03];
    assert_eq!(w.run(false, &code), PF);
    assert_eq!(w.g.frame(14).ip, guest::CODE + 8);
    assert_eq!(w.run(true, &code), Some(6));
}

#[test]
fn umip_hides_the_tables_from_ring_3() {
    // sgdt [rbx]; sidt [rbx]; sldt eax; str eax; smsw eax
    let instructions: [&[u8]; 5] = [
        &[0x0f, 0x01, 0x03, 0xcd, 0x80],
        &[0x0f, 0x01, 0x0b, 0xcd, 0x80],
        &[0x0f, 0x00, 0xc0, 0xcd, 0x80],
        &[0x0f, 0x00, 0xc8, 0xcd, 0x80],
        &[0x0f, 0x01, 0xe0, 0xcd, 0x80],
    ];
    for mut w in [World::legacy(), World::long()] {
        for code in instructions {
            for umip in [false, true] {
                w.g.vcpu.cpu.cr4 = w.g.vcpu.cpu.cr4 & !cr4::UMIP | if umip { cr4::UMIP } else { 0 };
                assert_eq!(w.run(false, code), END, "{code:x?}");
                assert_eq!(w.run(true, code), if umip { GP } else { END }, "{code:x?}");
            }
        }
    }
}

#[test]
fn an_access_across_pages_needs_both() {
    for mut w in [World::legacy(), World::pae(), World::long()] {
        w.put(LEAF + w.width, (DATA + 0x1000) | US);
        // mov [rbx + ffeh], eax: nothing of the first page changes, CR2 is in the second.
        w.g.put4(DATA + 0xffc, 0);
        w.g.vcpu.cpu.regs[0] = u64::MAX;
        assert_eq!(w.run(true, &[0x89, 0x83, 0xfe, 0x0f, 0, 0, 0xcd, 0x80]), PF);
        assert_eq!((w.g.vcpu.cpu.cr2, w.g.frame(14).code, w.g.get4(DATA + 0xffc)), (LA + 0x1000, 6, 0));
    }
}
