//! Every x87 encoding with a register or [RSI], the FXSAVE and XSAVE families and MXCSR, through
//! decoder and CPU in 64-bit mode, against the host: full images, memory, flags, exceptions.
//!
//! `TABVISOR_FLOAT_CASES=100000 cargo test --release --test x87_host` for the long run (cases
//! per encoding); `TABVISOR_X87_ONLY=d9f0` for one encoding.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod guest;
mod host;

use guest::{CODE, DATA, Guest};
use host::stub::{Memory, Stubs};
use host::x87::Image;
use host::{Rng, cases, seed};
use tabvisor_core::flags::OSZAPC;

fn encodings() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for op in 0xd8..=0xdf {
        for reg in 0..8 {
            all.push(vec![op, reg << 3 | 6]);
        }
        for modrm in 0xc0..=0xff {
            all.push(vec![op, modrm]);
        }
    }
    for prefix in [0x66, 0x48] {
        for (op, reg) in [(0xd9, 4), (0xd9, 6), (0xdd, 4), (0xdd, 6), (0xd8, 0), (0xdb, 5), (0xdf, 7)] {
            all.push(vec![prefix, op, reg << 3 | 6]);
        }
    }
    all.push(vec![0x9b]);
    all.push(vec![0x0f, 0x77]);
    for reg in [0, 1, 2, 3, 4, 5] {
        all.push(vec![0x0f, 0xae, reg << 3 | 6]);
        if !matches!(reg, 2 | 3) {
            all.push(vec![0x48, 0x0f, 0xae, reg << 3 | 6]);
        }
    }
    all
}

/// What the comparison must know about an encoding.
#[derive(Clone, Copy)]
struct Kind {
    op: u8,
    modrm: u8,
    /// 0F AE.
    area: bool,
    osize16: bool,
}

impl Kind {
    fn of(bytes: &[u8]) -> Self {
        let (osize16, rest) = match bytes {
            [0x66, rest @ ..] => (true, rest),
            [0x48, rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        match *rest {
            [0x0f, 0xae, modrm] => Kind { op: 0, modrm, area: true, osize16 },
            [op, modrm] => Kind { op, modrm, area: false, osize16 },
            _ => Kind { op: rest[0], modrm: 0xc0, area: false, osize16 },
        }
    }
    fn reg(self) -> u8 {
        self.modrm >> 3 & 7
    }
    fn memory(self) -> bool {
        self.modrm < 0xc0
    }
    /// FLDENV, FRSTOR.
    fn loads_env(self) -> bool {
        self.memory() && matches!((self.op, self.reg()), (0xd9, 4) | (0xdd, 4))
    }
    /// FNSTENV, FNSAVE.
    fn stores_env(self) -> bool {
        self.memory() && matches!((self.op, self.reg()), (0xd9, 6) | (0xdd, 6))
    }
    /// Does the encoding leave opcode and pointers alone, or set them from memory?
    fn control(self) -> bool {
        self.area
            || !matches!(self.op, 0xd8..=0xdf)
            || self.loads_env()
            || self.stores_env()
            || self.memory() && matches!((self.op, self.reg()), (0xd9, 5 | 7) | (0xdd, 7))
            || matches!((self.op, self.modrm), (0xdb, 0xe0..=0xe7) | (0xdf, 0xe0))
    }
    fn transcendental(self) -> bool {
        matches!((self.op, self.modrm), (0xd9, 0xf0..=0xf3 | 0xf9 | 0xfb | 0xfe | 0xff))
    }
}

fn random_image(rng: &mut Rng) -> Image {
    let mut image = Image::default();
    let r = rng.next();
    let masks = match r & 3 {
        0 => (r >> 8) as u16 & 0x3f,
        1 => 0x3f ^ 1 << (r >> 8 & 7),
        _ => 0x3f,
    } & 0x3f;
    image.set_word(0, 0x40 | masks | (r >> 16) as u16 & 0x1f00);
    let mut sw = (r >> 32) as u16 & 0x7f7f;
    if r >> 60 & 3 != 0 {
        sw &= !0x7f;
    }
    // An eighth of the rest begins with an error pending.
    if rng.next() & 7 != 0 {
        sw &= !(!masks & 0x3f);
    }
    image.set_word(2, sw);
    image.0[4] = match r >> 48 & 7 {
        0 => 0xff,
        1 => 0,
        2 => rng.next() as u8,
        _ => (0xffu8 >> rng.below(7)).rotate_left(u32::from(sw >> 11 & 7)),
    };
    image.set_word(6, rng.next() as u16 & 0x7ff);
    image.0[8..16].copy_from_slice(&(rng.next() >> 17).to_le_bytes());
    image.0[16..24].copy_from_slice(&(rng.next() >> 17).to_le_bytes());
    let (a, b) = rng.f80_pair();
    image.set_st(0, a);
    image.set_st(1, b);
    for i in 2..8 {
        image.set_st(i, rng.f80());
    }
    image.0[24..28].copy_from_slice(&(rng.next() as u32 & 0xffff).to_le_bytes());
    if rng.next() & 3 != 0 {
        image.0[160..416].iter_mut().for_each(|b| *b = rng.next() as u8);
    }
    image
}

fn random_memory(rng: &mut Rng, k: Kind) -> Memory {
    let mut m = Memory([0; 1024]);
    for chunk in m.0.chunks_exact_mut(8) {
        chunk.copy_from_slice(&rng.pattern().to_le_bytes());
    }
    if k.area {
        let image = random_image(rng);
        m.0[..512].copy_from_slice(&image.0);
        m.0[416..512].iter_mut().for_each(|b| *b = rng.next() as u8);
        let mxcsr = rng.next() as u32 & 0xffff | if rng.below(8) == 0 { 1 << (18 + rng.below(14)) } else { 0 };
        let at = if k.reg() == 2 { 0 } else { 24 };
        m.0[at..at + 4].copy_from_slice(&mxcsr.to_le_bytes());
        let bv = rng.below(4) | if rng.below(16) == 0 { 1 << 62 } else { 0 };
        m.0[512..520].copy_from_slice(&bv.to_le_bytes());
        m.0[520..536].fill(0);
        if rng.below(16) == 0 {
            m.0[520 + rng.below(16) as usize] = 0x11;
        }
        // No compaction.
        m.0[527] &= 0x7f;
        return m;
    }
    match k.op {
        0xd8 | 0xd9 => m.0[..4].copy_from_slice(&(rng.ieee(23, 8) as u32).to_le_bytes()),
        0xdc => m.0[..8].copy_from_slice(&rng.ieee(52, 11).to_le_bytes()),
        0xdd if k.reg() == 0 => m.0[..8].copy_from_slice(&rng.ieee(52, 11).to_le_bytes()),
        0xdb if k.reg() == 5 => {
            let v = rng.f80();
            m.0[..8].copy_from_slice(&v.0.to_le_bytes());
            m.0[8..10].copy_from_slice(&v.1.to_le_bytes());
        }
        _ => {}
    }
    if k.loads_env() {
        m.0[..108].iter_mut().for_each(|b| *b = rng.next() as u8);
    }
    m
}

/// Registers equal, or for a transcendental within one ulp.
fn near(k: Kind, a: (u64, u16), b: (u64, u16)) -> bool {
    let order = |x: (u64, u16)| u128::from(x.1 & 0x7fff) << 63 | u128::from(x.0 << 1 >> 1);
    a == b || k.transcendental() && a.1 >> 15 == b.1 >> 15 && order(a).abs_diff(order(b)) <= 1
}

/// Opcode and pointers, with the addresses of instruction and operand replaced.
fn pointers(i: &Image, code: u64, data: u64) -> (u16, Option<u64>, Option<u64>) {
    let get = |at: usize| u64::from_le_bytes(std::array::from_fn(|k| i.0[at + k]));
    let named = |v: u64, name: u64| (v != name).then_some(v);
    (i.word(6), named(get(8), code), named(get(16), data))
}

fn describe(i: &Image) -> String {
    let regs: Vec<String> = (0..8).map(|k| format!("{:04x}:{:016x}", i.st(k).1, i.st(k).0)).collect();
    format!(
        "cw={:04x} sw={:04x} tags={:02x} mxcsr={:02x}{:02x} {} pointers {:02x?}",
        i.word(0),
        i.word(2),
        i.0[4],
        i.0[25],
        i.0[24],
        regs.join(" "),
        &i.0[6..24]
    )
}

#[derive(Clone, Copy)]
struct Case {
    image: Image,
    memory: Memory,
    flags: u64,
    rax: u64,
    /// The exception's vector.
    vector: Option<u8>,
    /// Where the memory operand was.
    data: u64,
}

fn on_host(stubs: &Stubs, n: usize, c: &Case) -> Case {
    let mut r = *c;
    let mut flags = 0x202 | c.flags;
    r.data = r.memory.0.as_ptr() as u64;
    let signal = stubs.run(n, &mut r.image, &mut r.memory, &mut flags, &mut r.rax);
    r.flags = flags & OSZAPC;
    r.vector = match signal {
        0 => None,
        4 => Some(6),
        8 => Some(16),
        11 => Some(13),
        other => panic!("signal {other}"),
    };
    r
}

fn on_guest(g: &mut Guest, c: &Case) -> Case {
    let quad = |at: usize| u64::from_le_bytes(std::array::from_fn(|k| c.image.0[at + k]));
    g.ram.write(DATA, &c.memory.0);
    let cpu = &mut g.vcpu.cpu;
    cpu.fpu.fxrstor(&c.image.0, true);
    cpu.mxcsr = quad(24) as u32;
    for (n, x) in cpu.xmm.iter_mut().enumerate() {
        *x = [quad(160 + 16 * n), quad(168 + 16 * n)];
    }
    cpu.set_rflags_image(2 | c.flags);
    cpu.regs[0] = c.rax;
    cpu.regs[2] = 0;
    cpu.regs[6] = DATA;
    let mut r = *c;
    r.vector = g.run();
    let cpu = &mut g.vcpu.cpu;
    cpu.fpu.fxsave(&mut r.image.0, true);
    r.image.0[24..28].copy_from_slice(&cpu.mxcsr.to_le_bytes());
    for (n, x) in cpu.xmm.iter().enumerate() {
        r.image.0[160 + 16 * n..][..8].copy_from_slice(&x[0].to_le_bytes());
        r.image.0[168 + 16 * n..][..8].copy_from_slice(&x[1].to_le_bytes());
    }
    r.flags = if r.vector.is_none() { cpu.rflags_image() & OSZAPC } else { c.flags };
    r.rax = cpu.regs[0];
    g.ram.read(DATA, &mut r.memory.0);
    r
}

/// Takes out of the memory what differs between processors.
fn mask_memory(k: Kind, ours: &mut Memory, host: &Memory, rax: u64) {
    let mut copy = |range: std::ops::Range<usize>| ours.0[range.clone()].copy_from_slice(&host.0[range]);
    if k.stores_env() {
        // The host's own selectors.
        let size = if k.osize16 { 2 } else { 4 };
        copy(4 * size..4 * size + 2);
        copy(6 * size..6 * size + 2);
        // AMD's FXRSTOR and XRSTOR drop opcode and pointers unless an error is pending, and the
        // host's kernel may switch tasks in between.
        let zero = |field: usize, n: usize| host.0[field * size..field * size + n].iter().all(|&b| b == 0);
        if host.0[size] & 0x80 == 0 && zero(3, size) && zero(5, size) && (size == 2 || host.0[18..20] == [0, 0]) {
            copy(3 * size..7 * size);
        }
    }
    if k.area && matches!(k.reg(), 0 | 4) {
        // MXCSR_MASK; opcode and pointers if no error is pending; selectors.
        copy(28..32);
        if host.0[2] & 0x80 == 0 {
            copy(6..24);
        } else {
            copy(12..14);
            copy(20..22);
        }
        // Which components count as in use.
        if k.reg() == 4 && host.0[512..520] != ours.0[512..520] {
            let rfbm = rax as u8 & 3;
            ours.0[512] = ours.0[512] & !rfbm | host.0[512] & rfbm;
        }
    }
}

#[test]
fn every_encoding_equals_the_host_from_random_states() {
    let count = cases(400);
    let only = std::env::var("TABVISOR_X87_ONLY").ok();
    let all = encodings();
    let stubs = Stubs::new(&all);
    let mut guest = Guest::long();
    let mut failed = Vec::new();
    let (mut total, mut faults, mut last_bit, mut elementary, mut pointed) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for (n, bytes) in all.iter().enumerate() {
        let name: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        if only.as_ref().is_some_and(|o| *o != name) {
            continue;
        }
        let k = Kind::of(bytes);
        let mut rng = Rng(seed() ^ bytes.iter().fold(7u64, |h, &b| h.wrapping_mul(131) + u64::from(b)));
        guest.load(bytes);
        let mut wrong = 0;
        for _ in 0..count {
            let image = random_image(&mut rng);
            let memory = random_memory(&mut rng, k);
            let rax = if k.area { rng.below(4) } else { rng.next() };
            let case = Case { image, memory, flags: rng.next() & OSZAPC, rax, vector: None, data: DATA };
            let host = on_host(&stubs, n, &case);
            let mut ours = on_guest(&mut guest, &case);
            mask_memory(k, &mut ours.memory, &host.memory, rax);
            let c1 = if k.transcendental() { 0x200 } else { 0 };
            let pending = host.image.word(2) & 0x80 != 0;
            // A pointer that was loaded may be such an address by chance.
            let (code, data) = if k.control() { (u64::MAX, u64::MAX) } else { (CODE, DATA) };
            let (a, b) = (pointers(&ours.image, code, data), pointers(&host.image, stubs.address(n), host.data));
            // AMD shows opcode and pointers only while an error is pending; an instruction
            // without memory operand leaves the data pointer undefined.
            let data_matters = k.control() || k.memory() || host.vector.is_some();
            let pointers_differ = pending && ((a.0, a.1) != (b.0, b.1) || data_matters && a.2 != b.2);
            let registers_differ = (0..8).any(|i| !near(k, ours.image.st(i), host.image.st(i)));
            let differ = ours.vector != host.vector
                || ours.image.word(0) != host.image.word(0)
                || (ours.image.word(2) ^ host.image.word(2)) & !c1 != 0
                || ours.image.0[4] != host.image.0[4]
                || registers_differ
                || pointers_differ
                || ours.image.0[24..28] != host.image.0[24..28]
                || ours.image.0[160..416] != host.image.0[160..416]
                || ours.memory != host.memory
                || host.vector.is_none() && ours.flags != host.flags
                || ours.rax != host.rax;
            total += 1;
            faults += u64::from(host.vector.is_some());
            pointed += u64::from(pending);
            if k.transcendental() {
                elementary += 1;
                last_bit += u64::from((0..8).any(|i| ours.image.st(i) != host.image.st(i)));
            }
            if differ {
                wrong += 1;
                if wrong <= if only.is_some() { 5 } else { 1 } {
                    eprintln!("{name}: from {}", describe(&case.image));
                    eprintln!("  host {:?} {:x} {:x} {}", host.vector, host.flags, host.rax, describe(&host.image));
                    eprintln!("  ours {:?} {:x} {:x} {}", ours.vector, ours.flags, ours.rax, describe(&ours.image));
                    eprintln!("  pointers ours {a:x?} host {b:x?}, pending {pending}");
                    for at in (0..1024).filter(|&at| ours.memory.0[at] != host.memory.0[at]).take(20) {
                        eprintln!("  memory {at}: host {:02x} ours {:02x}", host.memory.0[at], ours.memory.0[at]);
                    }
                }
            }
        }
        if wrong != 0 {
            failed.push(format!("{name}: {wrong}"));
        }
    }
    println!("{} encodings, {total} cases, {faults} of them exceptions, {pointed} with pointers", all.len());
    println!("transcendentals: {last_bit} of {elementary} differ from the host in the last bit");
    assert!(failed.is_empty(), "differ from the host, of {count} each: {failed:#?}");
}
