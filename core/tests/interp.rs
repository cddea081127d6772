//! The interpreter runs small 64-bit programs.

mod guest;

use guest::{CODE, DATA, Guest, STACK, TABLES};
use iced_x86::code_asm::*;
use tabvisor_core::vcpu::CpuExit;

fn program(f: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("64 bits");
    f(&mut a);
    a.hlt().expect("hlt");
    a.assemble(CODE).expect("assembles")
}

/// A 64-bit guest about to run `code`.
fn guest(code: &[u8]) -> Guest {
    let mut g = Guest::long();
    g.load(code);
    g
}

#[test]
fn a_loop_sums() {
    let code = program(|a| {
        let mut top = a.create_label();
        a.xor(eax, eax).unwrap();
        a.mov(ecx, 1000u32).unwrap();
        a.set_label(&mut top).unwrap();
        a.add(rax, rcx).unwrap();
        a.dec(rcx).unwrap();
        a.jnz(top).unwrap();
    });
    let mut g = guest(&code);
    assert_eq!(g.run_for(1_000_000), CpuExit::Halt);
    assert_eq!(g.vcpu.cpu.regs[0], 500_500);
    assert_eq!(g.vcpu.retired(), 3 + 3 * 1000);
}

#[test]
fn a_budget_is_exact_at_every_length() {
    let code = program(|a| {
        let mut top = a.create_label();
        a.mov(rbx, DATA).unwrap();
        a.mov(ecx, 10u32).unwrap();
        a.set_label(&mut top).unwrap();
        a.add(qword_ptr(rbx), rcx).unwrap();
        a.push(rcx).unwrap();
        a.pop(rdx).unwrap();
        a.dec(rcx).unwrap();
        a.jnz(top).unwrap();
    });
    for budget in 0..52 {
        let mut g = guest(&code);
        assert_eq!(g.run_for(budget), CpuExit::Budget);
        assert_eq!(g.vcpu.retired(), budget);
        assert_eq!(g.run_for(53 - budget), CpuExit::Halt);
        assert_eq!((g.vcpu.retired(), g.vcpu.cpu.regs[2]), (53, 1));
    }
}

#[test]
fn code_that_changes_itself_runs_as_written() {
    // The immediate of the `mov eax` behind the store is changed by it, in the same block.
    let code = program(|a| {
        let mut patch = a.create_label();
        let mut again = a.create_label();
        a.mov(ecx, 3u32).unwrap();
        a.set_label(&mut again).unwrap();
        a.lea(rbx, byte_ptr(patch)).unwrap();
        a.mov(byte_ptr(rbx + 1), cl).unwrap();
        a.set_label(&mut patch).unwrap();
        a.mov(eax, 0x55u32).unwrap();
        a.push(rax).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(again).unwrap();
    });
    let mut g = guest(&code);
    assert_eq!(g.run_for(1000), CpuExit::Halt);
    let top = |k: u64| u64::from_le_bytes(g.ram.read_le(STACK - 8 * k));
    assert_eq!([top(1), top(2), top(3)], [3, 2, 1]);
}

#[test]
fn rep_movs_and_stos_fill_memory() {
    let code = program(|a| {
        a.mov(rdi, DATA).unwrap();
        a.mov(ecx, 100_000u32).unwrap();
        a.mov(eax, 0x1234_5678u32).unwrap();
        a.rep().stosd().unwrap();
        a.mov(rsi, DATA).unwrap();
        a.mov(rdi, DATA + 0x10_0001).unwrap();
        a.mov(ecx, 0x3_0003u32).unwrap();
        a.rep().movsb().unwrap();
    });
    let mut g = guest(&code);
    assert_eq!(g.run_for(10_000_000), CpuExit::Halt);
    assert_eq!(g.ram.read_le::<4>(DATA + 399_996), 0x1234_5678u32.to_le_bytes());
    assert_eq!(g.ram.read_le::<5>(DATA + 0x13_0000), [0x12, 0x78, 0x56, 0x34, 0]);
}

#[test]
fn rep_movs_over_pages_some_of_which_lie_side_by_side() {
    // Eight pages behind each other are these.
    const PAGES: u64 = 0x18_0000;
    const FRAMES: [u64; 8] = [0x300, 0x301, 0x302, 0x310, 0x305, 0x304, 0x306, 0x307];
    // Elements, from where to where: also up to the end of a page, over itself a little above, and pages above.
    for (size, from, to, count) in [
        (1usize, 0x123, 0x4010, 0x3456),
        (4, 0, 0x4000, 0x1000),
        (4, 0x1ffe, 0x5001, 0x800),
        (8, 0x800, 0x5800, 0x400),
        (1, 0x10, 0x17, 0x2800),
        (4, 0x10, 0x1010, 0x1400),
        (1, 0x3001, 0x10, 0x2fff),
        (8, 0x1008, 0x1000, 0x700),
    ] {
        let code = program(|a| {
            a.mov(rsi, PAGES + from).unwrap();
            a.mov(rdi, PAGES + to).unwrap();
            a.mov(ecx, count as u32).unwrap();
            // Every page is known from the beginning.
            for page in 0..FRAMES.len() as u64 {
                a.mov(rax, PAGES + (page << 12)).unwrap();
                a.add(byte_ptr(rax), 0).unwrap();
            }
            match size {
                1 => a.rep().movsb(),
                4 => a.rep().movsd(),
                _ => a.rep().movsq(),
            }
            .unwrap();
        });
        let mut g = guest(&code);
        let mut bytes: Vec<u8> = (0..0x8000u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 23) as u8).collect();
        for (page, (frame, bytes)) in FRAMES.into_iter().zip(bytes.chunks(0x1000)).enumerate() {
            g.put(TABLES[3] + 8 * ((PAGES >> 12) + page as u64), frame << 12 | 3);
            g.ram.write(frame << 12, bytes);
        }
        assert_eq!(g.run_for(10_000_000), CpuExit::Halt);
        for k in (0..count * size).step_by(size) {
            bytes.copy_within(from as usize + k..from as usize + k + size, to as usize + k);
        }
        for (page, (frame, want)) in FRAMES.into_iter().zip(bytes.chunks(0x1000)).enumerate() {
            let mut have = [0; 0x1000];
            g.ram.read(frame << 12, &mut have);
            let at = have.iter().zip(want).position(|(a, b)| a != b);
            assert_eq!(at, None, "{count:x} of {size} from {from:x} to {to:x}: page {page}");
        }
    }
}

#[test]
fn a_fault_without_an_idt_is_a_shutdown() {
    let mut g = guest(&[0x0f, 0x0b]);
    g.vcpu.cpu.idtr.limit = 0;
    assert_eq!(g.run_for(100), CpuExit::Shutdown);
}

/// Not a test of time: `cargo test --release -p tabvisor-core --test interp -- --ignored --nocapture`.
#[test]
#[ignore = "prints a speed"]
fn speed_of_a_loop() {
    let code = program(|a| {
        let mut top = a.create_label();
        a.mov(rbx, DATA).unwrap();
        a.mov(ecx, 20_000_000u32).unwrap();
        a.set_label(&mut top).unwrap();
        a.mov(eax, ecx).unwrap();
        a.and(eax, 0xfff).unwrap();
        a.mov(edx, dword_ptr(rbx + rax * 4)).unwrap();
        a.add(edx, ecx).unwrap();
        a.mov(dword_ptr(rbx + rax * 4), edx).unwrap();
        a.shr(edx, 3).unwrap();
        a.add(rsi, rdx).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(top).unwrap();
    });
    let mut g = guest(&code);
    let t = std::time::Instant::now();
    assert_eq!(g.run_for(u64::MAX / 2), CpuExit::Halt);
    println!("{:.0} MIPS", g.vcpu.retired() as f64 / t.elapsed().as_secs_f64() / 1e6);
}

#[test]
fn a_fault_shows_in_cr2_only_when_it_happens() {
    let mut g = Guest::long();
    let mut a = CodeAssembler::new(64).unwrap();
    a.mov(rax, 0x1234_5678_9000u64).unwrap();
    a.jmp(rax).unwrap();
    g.load(&a.assemble(CODE).unwrap());
    assert_eq!(g.run_for(2), CpuExit::Budget);
    assert_eq!((g.vcpu.cpu.rip, g.vcpu.cpu.cr2), (0x1234_5678_9000, 0));
    g.run_for(1);
    assert_eq!(g.vcpu.cpu.cr2, 0x1234_5678_9000);
}
