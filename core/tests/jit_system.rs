//! Compiled system instructions against interpreted ones: flags, segments, strings, interrupts let in. The state has to
//! be the same at every count of instructions.

mod guest;
mod wasm;

use guest::{CODE, DATA, DATA0, FREE_SEL, GDT, Guest};
use iced_x86::code_asm::*;
use tabvisor_core::cpu::cr4;

#[global_allocator]
static GLOBAL: wasm::Global = wasm::Global::new();

/// All that a program can have changed.
type State = (u64, u64, u8, Vec<u64>, Vec<(u16, u64, u32, u16)>, u64, u64);

fn state(g: &mut Guest) -> State {
    let c = &mut *g.vcpu.cpu;
    let flags = c.rflags_image();
    let segments = c.seg.iter().map(|s| (s.sel, s.base, s.limit, s.attr)).collect();
    (c.rip, flags, c.cpl, c.regs[..16].to_vec(), segments, c.msr.kernel_gs_base, c.retired())
}

/// What is done to a guest.
type Change<'a> = &'a dyn Fn(&mut Guest);

/// A program; where it stops, and how the world around it is.
struct Case<'a> {
    long: bool,
    program: &'a dyn Fn(&mut CodeAssembler),
    prepare: Change<'a>,
    /// Done before the run that begins at this count.
    event: Option<(u64, Change<'a>)>,
    /// Instructions that may be called.
    called: u64,
}

impl Case<'_> {
    /// Runs it interpreted and compiled, in steps of so many instructions.
    fn run(&self, what: &str) {
        let mut a = CodeAssembler::new(if self.long { 64 } else { 32 }).unwrap();
        (self.program)(&mut a);
        let code = a.assemble(CODE).unwrap();
        for step in [1_000_000u64, 1_009, 331] {
            let [(plain, memory), (compiled, other)] = [false, true].map(|jit| {
                let mut g = if self.long { Guest::long() } else { Guest::protected() };
                if jit {
                    g.vcpu.set_code_host(Box::new(wasm::Wasmi::new()));
                    g.vcpu.jit().unwrap().set_hot(1);
                }
                g.load(&code);
                (self.prepare)(&mut g);
                let mut states = Vec::new();
                let mut event = self.event;
                for _ in 0..4_000_000 / step {
                    if event.is_some_and(|(count, _)| g.vcpu.retired() >= count) {
                        event.take().unwrap().1(&mut g);
                    }
                    let end = g.run_for(step);
                    states.push(state(&mut g));
                    if end != tabvisor_core::vcpu::CpuExit::Budget {
                        break;
                    }
                }
                let mut data = vec![0; 1 << 16];
                g.ram.read(DATA, &mut data);
                if let Some(jit) = g.vcpu.jit() {
                    let stats = jit.stats;
                    assert!(stats.called <= self.called * stats.regions, "{what}: {stats:?}");
                    assert!(stats.retired > 1_000, "{what}: {stats:?}");
                }
                (states, data)
            });
            let different = plain.iter().zip(&compiled).find(|(a, b)| a != b);
            assert!(different.is_none(), "{what}, steps of {step}: {different:x?}");
            assert_eq!(plain.len(), compiled.len(), "{what}, steps of {step}");
            assert!(memory == other, "{what}, steps of {step}: memory differs");
            // The handlers lie below the code.
            let interrupted = plain.last().is_some_and(|end| end.0 < CODE);
            assert!(interrupted || self.event.is_none_or(|(count, _)| step > count), "{what}, steps of {step}");
        }
    }
}

fn loops(a: &mut CodeAssembler, count: u32, body: impl Fn(&mut CodeAssembler)) {
    let mut again = a.create_label();
    a.mov(ebp, count).unwrap();
    a.set_label(&mut again).unwrap();
    body(a);
    a.dec(ebp).unwrap();
    a.jne(again).unwrap();
    a.hlt().unwrap();
}

const NOTHING: Change<'static> = &|_| ();

#[test]
fn flags_of_the_system() {
    for long in [true, false] {
        let program = |a: &mut CodeAssembler| {
            loops(a, 3000, |a| {
                a.add(eax, 0x1234567).unwrap();
                if long { a.pushfq() } else { a.pushfd() }.unwrap();
                a.cli().unwrap();
                a.std().unwrap();
                a.imul_3(ebx, eax, 5).unwrap();
                if long { a.pushfq() } else { a.pushfd() }.unwrap();
                if long { a.pop(rcx) } else { a.pop(ecx) }.unwrap();
                a.sti().unwrap();
                a.adc(edx, ecx).unwrap();
                a.cld().unwrap();
                a.sti().unwrap();
                if long { a.popfq() } else { a.popfd() }.unwrap();
                a.adc(edx, 0).unwrap();
                // IF rises, with other flags.
                a.cli().unwrap();
                if long { a.push(rax) } else { a.push(eax) }.unwrap();
                let stack = if long { dword_ptr(rsp) } else { dword_ptr(esp) };
                a.and(stack, 0x0000_0cd5).unwrap();
                a.or(stack, 0x0020_3202).unwrap();
                if long { a.popfq() } else { a.popfd() }.unwrap();
                a.setc(dl).unwrap();
                if long { a.pushf() } else { a.pushfd() }.unwrap();
                if long { a.popf() } else { a.popfd() }.unwrap();
                a.cld().unwrap();
            });
        };
        Case { long, program: &program, prepare: NOTHING, event: None, called: 0 }.run("flags");
    }
}

#[test]
fn an_interrupt_that_waits_for_its_flag() {
    // The handler is a HLT, so the place where it comes is the end.
    for long in [true, false] {
        for (masks, unmasks) in [(true, false), (true, true)] {
            let program = |a: &mut CodeAssembler| {
                loops(a, 2500, |a| {
                    if long { a.pushfq() } else { a.pushfd() }.unwrap();
                    a.cli().unwrap();
                    for _ in 0..9 {
                        a.add(eax, 3).unwrap();
                    }
                    if unmasks {
                        if long { a.popfq() } else { a.popfd() }.unwrap();
                    } else {
                        if long { a.pop(rcx) } else { a.pop(ecx) }.unwrap();
                        a.sti().unwrap();
                    }
                    a.add(ebx, 1).unwrap();
                    a.add(edx, 1).unwrap();
                });
            };
            let prepare = |g: &mut Guest| g.vcpu.cpu.set_rflags_image(if masks { 0x202 } else { 2 });
            for count in [20_000, 20_023] {
                let event: Change<'_> = &|g| g.board.irq = Some(0x40);
                Case { long, program: &program, prepare: &prepare, event: Some((count, event)), called: 0 }
                    .run("interrupt");
            }
        }
    }
}

#[test]
fn flags_that_others_depend_on() {
    // TF ends in the handler of #DB; AC and NT do not.
    for bits in [0x100u32, 0x4_0000, 0x4000, 0x4_4000] {
        let program = |a: &mut CodeAssembler| {
            loops(a, 3000, |a| {
                a.cmp(ebp, 40).unwrap();
                a.sete(al).unwrap();
                a.movzx(eax, al).unwrap();
                a.imul_3(eax, eax, bits as i32).unwrap();
                a.pushfq().unwrap();
                a.or(qword_ptr(rsp), rax).unwrap();
                a.popfq().unwrap();
                a.mov(ecx, dword_ptr(rsp - 8)).unwrap();
            });
        };
        Case { long: true, program: &program, prepare: NOTHING, event: None, called: 0 }.run("TF, AC, NT");
    }
}

#[test]
fn flags_without_the_privilege() {
    for (cpl, iopl) in [(3, 0u64), (3, 3), (0, 0)] {
        for with in [0, 1] {
            let program = |a: &mut CodeAssembler| {
                loops(a, 3000, |a| {
                    a.push(0x3602).unwrap();
                    a.popfd().unwrap();
                    a.pushfd().unwrap();
                    a.pop(eax).unwrap();
                    a.add(edx, eax).unwrap();
                    if with == 1 {
                        a.cmp(ebp, 30).unwrap();
                        let mut past = a.create_label();
                        a.jne(past).unwrap();
                        a.cli().unwrap();
                        a.set_label(&mut past).unwrap();
                    }
                });
            };
            let prepare = |g: &mut Guest| {
                if cpl == 3 {
                    g.user();
                }
                g.vcpu.cpu.set_rflags_image(0x202 | iopl << 12);
            };
            Case { long: false, program: &program, prepare: &prepare, event: None, called: 1 }.run("privilege");
        }
    }
}

/// Writes descriptors where tests have theirs: data with this base.
fn descriptor(g: &mut Guest, n: u64, base: u64, access: u64) {
    let raw = 0xffff | (base & 0xff_ffff) << 16 | access << 40 | 0xcf_u64 << 48 | (base >> 24) << 56;
    g.ram.write(GDT + u64::from(FREE_SEL) + 8 * n, &raw.to_le_bytes());
}

#[test]
fn segments_are_loaded() {
    let free = u32::from(FREE_SEL);
    let program = |a: &mut CodeAssembler| {
        a.mov(esi, DATA as u32).unwrap();
        loops(a, 3000, |a| {
            a.mov(eax, u32::from(DATA0)).unwrap();
            a.mov(ds, eax).unwrap();
            a.push(ds).unwrap();
            a.pop(es).unwrap();
            // FS with a base, GS null.
            a.mov(eax, free).unwrap();
            a.mov(fs, eax).unwrap();
            a.add(edx, dword_ptr(esi).fs()).unwrap();
            a.xor(eax, eax).unwrap();
            a.mov(gs, eax).unwrap();
            // A descriptor that changes.
            a.xor(dword_ptr(GDT + u64::from(FREE_SEL) + 10), 0x10).unwrap();
            a.mov(eax, free + 8).unwrap();
            a.mov(fs, eax).unwrap();
            a.add(dword_ptr(esi + 64).fs(), edx).unwrap();
            a.mov(eax, fs).unwrap();
            a.add(ebx, eax).unwrap();
            a.mov(word_ptr(esi + 2), es).unwrap();
            a.push(fs).unwrap();
            a.pop(gs).unwrap();
            a.add(ebx, dword_ptr(esi + 68).gs()).unwrap();
            a.lodsb().unwrap();
            a.dec(esi).unwrap();
        });
    };
    let prepare = |g: &mut Guest| {
        descriptor(g, 0, 0x100, 0x92);
        descriptor(g, 1, 0x200, 0x93);
        g.ram.write(DATA, &(0..=255).collect::<Vec<u8>>());
    };
    Case { long: false, program: &program, prepare: &prepare, event: None, called: 0 }.run("segments");
    // ES loses its flatness for a moment; a selector beyond the table; one that is not present.
    for sel in [free, free + 0x100, free + 16] {
        let program = |a: &mut CodeAssembler| {
            a.mov(edi, DATA as u32).unwrap();
            loops(a, 3000, |a| {
                a.mov(eax, u32::from(DATA0)).unwrap();
                a.mov(ecx, sel).unwrap();
                a.cmp(ebp, 100).unwrap();
                a.cmove(eax, ecx).unwrap();
                a.mov(es, eax).unwrap();
                a.add(edx, dword_ptr(edi)).unwrap();
                a.stosd().unwrap();
                a.sub(edi, 4).unwrap();
                a.mov(eax, u32::from(DATA0)).unwrap();
                a.mov(es, eax).unwrap();
            });
        };
        let prepare = |g: &mut Guest| {
            descriptor(g, 0, 0x100, 0x92);
            descriptor(g, 2, 0x100, 0x12);
        };
        Case { long: false, program: &program, prepare: &prepare, event: None, called: 0 }.run("ES");
    }
}

#[test]
fn bases_and_time_in_64_bit_code() {
    let program = |a: &mut CodeAssembler| {
        a.mov(rsi, DATA).unwrap();
        loops(a, 3000, |a| {
            a.swapgs().unwrap();
            a.mov(rax, qword_ptr(rsi).gs()).unwrap();
            a.add(rdx, rax).unwrap();
            a.rdgsbase(rcx).unwrap();
            a.add(rcx, 8).unwrap();
            a.and(rcx, 0xff8).unwrap();
            a.wrgsbase(rcx).unwrap();
            a.add(qword_ptr(rsi).gs(), rcx).unwrap();
            a.wrfsbase(ecx).unwrap();
            a.rdfsbase(ebx).unwrap();
            a.add(dword_ptr(rsi + 0x1000).fs(), ebx).unwrap();
            a.rdtsc().unwrap();
            a.add(r8, rax).unwrap();
            a.xor(r9, r8).unwrap();
            // RDX:RAX is there or not.
            a.mov(rax, r9).unwrap();
            a.and(eax, 1).unwrap();
            a.xor(edx, edx).unwrap();
            a.mov(rbx, rbp).unwrap();
            a.and(ebx, 1).unwrap();
            a.xor(ecx, ecx).unwrap();
            a.lock().cmpxchg16b(xmmword_ptr(rsi + 0x2000)).unwrap();
            a.setz(r10b).unwrap();
            a.add(r11, r10).unwrap();
            a.stac().unwrap();
            a.add(r12, qword_ptr(rsi + 0x3000)).unwrap();
            a.clac().unwrap();
        });
    };
    let prepare = |g: &mut Guest| {
        g.vcpu.cpu.cr4 |= cr4::FSGSBASE | cr4::SMAP;
        g.vcpu.cpu.msr.kernel_gs_base = 0x100;
        g.vcpu.cpu.mode_changed();
    };
    Case { long: true, program: &program, prepare: &prepare, event: None, called: 0 }.run("bases");
    // Not aligned; a base that is not canonical; not switched on.
    for kind in 0..3 {
        let program = |a: &mut CodeAssembler| {
            a.mov(rsi, DATA).unwrap();
            loops(a, 3000, |a| {
                a.xor(ecx, ecx).unwrap();
                a.cmp(ebp, 50).unwrap();
                a.sete(cl).unwrap();
                match kind {
                    0 => a.cmpxchg16b(xmmword_ptr(rsi + rcx * 8)).unwrap(),
                    1 => {
                        a.shl(rcx, 50).unwrap();
                        a.wrfsbase(rcx).unwrap();
                    }
                    _ => {
                        a.test(ecx, ecx).unwrap();
                        let mut past = a.create_label();
                        a.je(past).unwrap();
                        a.rdfsbase(rax).unwrap();
                        a.set_label(&mut past).unwrap();
                    }
                }
                a.add(edx, 1).unwrap();
            });
        };
        let prepare = |g: &mut Guest| {
            if kind == 1 {
                g.vcpu.cpu.cr4 |= cr4::FSGSBASE;
            }
        };
        Case { long: true, program: &program, prepare: &prepare, event: None, called: 0 }.run("faults");
    }
}

#[test]
fn supervisor_accesses_to_pages_of_the_user() {
    // Page 2 of the data belongs to the user. With SMAP, only STAC lets the kernel in.
    for faults in [false, true] {
        let program = |a: &mut CodeAssembler| {
            a.mov(rsi, DATA + 0x2000).unwrap();
            loops(a, 3000, |a| {
                a.stac().unwrap();
                a.add(rax, qword_ptr(rsi)).unwrap();
                a.add(qword_ptr(rsi + 8), rax).unwrap();
                a.clac().unwrap();
                a.add(rbx, qword_ptr(rsi - 0x1000)).unwrap();
                if faults {
                    let mut past = a.create_label();
                    a.cmp(ebp, 20).unwrap();
                    a.jne(past).unwrap();
                    a.add(rbx, qword_ptr(rsi)).unwrap();
                    a.set_label(&mut past).unwrap();
                }
            });
        };
        let prepare = |g: &mut Guest| {
            let entry = guest::TABLES[3] + 8 * ((DATA + 0x2000) >> 12);
            g.put(entry, g.get(entry) | 4);
            g.vcpu.cpu.cr4 |= cr4::SMAP;
            g.vcpu.cpu.mode_changed();
            g.vcpu.cpu.tlb.flush_all();
        };
        Case { long: true, program: &program, prepare: &prepare, event: None, called: 0 }.run("SMAP");
    }
}

#[test]
fn strings() {
    // By element, both ways.
    for long in [true, false] {
        let program = |a: &mut CodeAssembler| {
            loops(a, 500, |a| {
                let mut inner = a.create_label();
                for down in [false, true] {
                    a.mov(esi, DATA as u32 + 0x100).unwrap();
                    a.mov(edi, DATA as u32 + 0x140).unwrap();
                    if down { a.std() } else { a.cld() }.unwrap();
                    a.movsb().unwrap();
                    a.movsw().unwrap();
                    a.movsd().unwrap();
                    a.add(al, 3).unwrap();
                    a.stosb().unwrap();
                    a.stosd().unwrap();
                    a.lodsb().unwrap();
                    a.lodsd().unwrap();
                    a.scasb().unwrap();
                    a.sbb(edx, 3).unwrap();
                    a.scasd().unwrap();
                    a.adc(edx, 7).unwrap();
                    a.cmpsb().unwrap();
                    a.setg(bl).unwrap();
                    a.cmpsd().unwrap();
                    a.setbe(bh).unwrap();
                }
                a.cld().unwrap();
                a.mov(esi, DATA as u32).unwrap();
                a.mov(ecx, 7u32).unwrap();
                a.set_label(&mut inner).unwrap();
                a.lodsb().unwrap();
                a.add(edx, eax).unwrap();
                a.loop_(inner).unwrap();
            });
        };
        let prepare = |g: &mut Guest| g.ram.write(DATA, &(0..=255).rev().collect::<Vec<u8>>());
        Case { long, program: &program, prepare: &prepare, event: None, called: 0 }.run("elements");
    }
    // Repeated: counts, distances, ends of pages.
    for long in [true, false] {
        let program = |a: &mut CodeAssembler| {
            loops(a, 600, |a| {
                a.imul_3(ecx, ebp, 37).unwrap();
                a.mov(ebx, ecx).unwrap();
                a.and(ebx, 0x1fff).unwrap();
                a.lea(esi, dword_ptr(ebx + DATA as i32)).unwrap();
                a.imul_3(edx, ebp, 13).unwrap();
                a.and(edx, 0x7f).unwrap();
                a.lea(edi, dword_ptr(esi + edx - 0x20)).unwrap();
                a.and(ecx, 0x3f).unwrap();
                a.rep().movsd().unwrap();
                a.mov(ecx, ebp).unwrap();
                a.and(ecx, 0x1f).unwrap();
                a.rep().movsb().unwrap();
                a.mov(ecx, ebx).unwrap();
                a.and(ecx, 0x3ff).unwrap();
                a.mov(eax, ebp).unwrap();
                a.rep().stosw().unwrap();
                a.mov(ecx, 300u32).unwrap();
                a.mov(al, 0).unwrap();
                a.lea(edi, dword_ptr(ebx + DATA as i32)).unwrap();
                a.repne().scasb().unwrap();
                a.adc(edx, ecx).unwrap();
                a.lea(esi, dword_ptr(ebx + DATA as i32 + 0x800)).unwrap();
                a.lea(edi, dword_ptr(ebx + DATA as i32 + 0x840)).unwrap();
                a.mov(ecx, edx).unwrap();
                a.and(ecx, 0x3f).unwrap();
                a.cmp(eax, ebx).unwrap();
                a.repe().cmpsb().unwrap();
                a.adc(edx, ecx).unwrap();
                a.mov(ecx, 700u32).unwrap();
                a.and(edi, -4).unwrap();
                a.rep().stosd().unwrap();
            });
        };
        let prepare = |g: &mut Guest| {
            let bytes: Vec<u8> = (0..0x4000u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
            g.ram.write(DATA, &bytes);
        };
        Case { long, program: &program, prepare: &prepare, event: None, called: 8 }.run("repeated");
    }
    // More elements than a piece has, and a fault in the middle: page 4 is not there.
    let program = |a: &mut CodeAssembler| {
        loops(a, 300, |a| {
            a.mov(edi, DATA as u32).unwrap();
            a.mov(ecx, 9_000u32).unwrap();
            a.rep().stosb().unwrap();
            a.mov(esi, DATA as u32).unwrap();
            a.mov(ecx, 1_000u32).unwrap();
            a.cmp(ebp, 3).unwrap();
            let mut past = a.create_label();
            a.jne(past).unwrap();
            a.add(ecx, 0x1000).unwrap();
            a.set_label(&mut past).unwrap();
            a.rep().movsd().unwrap();
        });
    };
    let prepare = |g: &mut Guest| {
        g.ram.write(guest::TABLES[3] + 8 * ((DATA + 0x5000) >> 12), &[0; 8]);
        g.vcpu.cpu.tlb.flush_all();
    };
    Case { long: true, program: &program, prepare: &prepare, event: None, called: 3 }.run("pieces");
}

#[test]
fn segments_of_strings() {
    let program = |a: &mut CodeAssembler| {
        a.mov(eax, u32::from(FREE_SEL)).unwrap();
        a.mov(fs, eax).unwrap();
        loops(a, 3000, |a| {
            a.mov(esi, DATA as u32).unwrap();
            a.mov(edi, DATA as u32 + 0x400).unwrap();
            a.db(&[0x64, 0xa5]).unwrap();
            a.db(&[0x64, 0xac]).unwrap();
            a.db(&[0x2e, 0xa7]).unwrap();
            a.mov(ecx, 5u32).unwrap();
            a.db(&[0xf3, 0x64, 0xa5]).unwrap();
            a.add(ebx, eax).unwrap();
        });
    };
    let prepare = |g: &mut Guest| {
        descriptor(g, 0, 0x100, 0x92);
        g.ram.write(DATA, &(0..=255).rev().cycle().take(0x400).collect::<Vec<u8>>());
    };
    Case { long: false, program: &program, prepare: &prepare, event: None, called: 2 }.run("FS");
}
