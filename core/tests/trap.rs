//! Debug exceptions that user mode of a host cannot show: breakpoints, RF, and what SYSRET and SYSCALL do with TF.

mod guest;

use guest::{CODE, CODE0, DATA, DATA0, Guest, STACK};
use tabvisor_core::cpu::{event, reg};
use tabvisor_core::flags;
use tabvisor_core::vcpu::CpuExit;

const DB: Option<u8> = Some(1);

/// Sets breakpoint 0 with DR7's R/W and LEN.
fn breakpoint(g: &mut Guest, at: u64, kind: u64, len: u64) {
    g.vcpu.cpu.dr[0] = at;
    g.vcpu.cpu.dr[6] = 0xffff_0ff0;
    g.vcpu.cpu.dr[7] = 0x401 | kind << 16 | len << 18;
    g.vcpu.cpu.breakpoints_changed();
}

/// Runs `code` at CPL 0 in 64-bit mode with a breakpoint: offset of the trap's return address and bits of DR6, if it
/// came.
fn trap(code: &[u8], at: u64, kind: u64, len: u64) -> Option<(u64, u64)> {
    let mut g = Guest::long();
    g.vcpu.cpu.regs[reg::RBX as usize] = DATA;
    breakpoint(&mut g, at, kind, len);
    let end = g.run_code(code);
    end.map(|v| {
        assert_eq!(v, 1);
        (g.frame(v).ip - CODE, g.vcpu.cpu.dr[6] & 0xe00f)
    })
}

#[test]
fn rf_lets_one_instruction_pass_a_breakpoint() {
    // nop; nop with a breakpoint on the second.
    let mut g = Guest::long();
    breakpoint(&mut g, CODE + 1, EXECUTE, 0);
    assert_eq!(g.run_code(&[0x90, 0x90]), DB);
    let f = g.frame(1);
    assert_eq!((f.ip, f.flags & flags::RF), (CODE + 1, 0));
    assert_eq!(g.vcpu.cpu.dr[6] & 0xf, 1);

    g.vcpu.cpu.rip = CODE + 1;
    g.vcpu.cpu.set_rflags_image(2 | flags::RF);
    assert_eq!(g.go_on(), None);
    assert_eq!(g.vcpu.cpu.rflags & flags::RF, 0);
}

#[test]
fn a_repeated_instruction_cut_short_has_rf() {
    let mut g = Guest::long();
    g.load(&[0xf3, 0xaa]); // rep stosb
    g.vcpu.cpu.regs[reg::RCX as usize] = 10_000;
    g.vcpu.cpu.regs[reg::RDI as usize] = DATA;
    assert_eq!(g.run_for(1), CpuExit::Budget);
    assert_eq!(g.vcpu.cpu.rip, CODE);
    assert!((1..10_000).contains(&g.vcpu.cpu.regs[reg::RCX as usize]));
    assert_ne!(g.vcpu.cpu.rflags & flags::RF, 0);
    assert_eq!(g.go_on(), None);
    assert_eq!((g.vcpu.cpu.regs[reg::RCX as usize], g.vcpu.cpu.rflags & flags::RF), (0, 0));
}

#[test]
fn a_tf_that_sysret_sets_traps_right_behind_it() {
    let mut g = Guest::long();
    g.load(&[0x48, 0x0f, 0x07]); // sysretq
    g.vcpu.cpu.msr.star = 0x18 << 48;
    g.vcpu.cpu.regs[reg::RCX as usize] = CODE + 0x100;
    g.vcpu.cpu.regs[reg::R11 as usize] = flags::TF | 2;
    assert_eq!(g.go_on(), DB);
    let f = g.frame(1);
    assert_eq!((f.ip, f.flags & flags::TF), (CODE + 0x100, flags::TF));
    assert_ne!(g.vcpu.cpu.dr[6] & 1 << 14, 0);
}

#[test]
fn a_tf_that_syscall_masks_does_not_trap() {
    let mut g = Guest::long();
    g.load(&[0x0f, 0x05]); // syscall, to the HLT behind it
    g.vcpu.cpu.msr.star = u64::from(CODE0) << 32;
    g.vcpu.cpu.msr.lstar = CODE + 2;
    g.vcpu.cpu.msr.fmask = flags::TF;
    g.vcpu.cpu.set_rflags_image(2 | flags::TF);
    assert_eq!(g.go_on(), None);
    assert_eq!(g.vcpu.cpu.regs[reg::RCX as usize], CODE + 2);
    assert_eq!(g.vcpu.cpu.dr[6] & 1 << 14, 0);
}

// R/W of DR7, and LEN.
const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const PORT: u64 = 2;
const ACCESS: u64 = 3;
const LEN1: u64 = 0;
const LEN2: u64 = 1;
const LEN4: u64 = 3;
const LEN8: u64 = 2;

/// mov [rbx], eax; nop
const STORE: &[u8] = &[0x89, 0x03, 0x90];
/// mov eax, [rbx]; nop
const LOAD: &[u8] = &[0x8b, 0x03, 0x90];

#[test]
fn data_breakpoints_trap_behind_the_instruction() {
    assert_eq!(trap(STORE, DATA, WRITE, LEN4), Some((2, 1)));
    assert_eq!(trap(STORE, DATA, ACCESS, LEN4), Some((2, 1)));
    assert_eq!(trap(LOAD, DATA, ACCESS, LEN4), Some((2, 1)));
    assert_eq!(trap(LOAD, DATA, WRITE, LEN4), None);
    // add [rbx], eax reads and writes; cmp [rbx], eax reads; push and pop use the stack.
    assert_eq!(trap(&[0x01, 0x03, 0x90], DATA, WRITE, LEN1), Some((2, 1)));
    assert_eq!(trap(&[0x39, 0x03, 0x90], DATA, WRITE, LEN1), None);
    assert_eq!(trap(&[0x39, 0x03, 0x90], DATA, ACCESS, LEN1), Some((2, 1)));
    assert_eq!(trap(&[0x90, 0x50, 0x58], STACK - 8, WRITE, LEN8), Some((2, 1)));
    assert_eq!(trap(&[0x90, 0x50, 0x58, 0x90], STACK - 1, ACCESS, LEN1), Some((2, 1)));
    // fld tword [rbx]; movups xmm0, [rbx]; movups [rbx], xmm0; cmpxchg16b [rbx]
    assert_eq!(trap(&[0xdb, 0x2b, 0x90], DATA + 9, ACCESS, LEN1), Some((2, 1)));
    assert_eq!(trap(&[0xdb, 0x2b, 0x90], DATA + 10, ACCESS, LEN1), None);
    assert_eq!(trap(&[0x0f, 0x10, 0x03, 0x90], DATA + 15, ACCESS, LEN1), Some((3, 1)));
    assert_eq!(trap(&[0x0f, 0x11, 0x03, 0x90], DATA + 15, WRITE, LEN1), Some((3, 1)));
    assert_eq!(trap(&[0x48, 0x0f, 0xc7, 0x0b, 0x90], DATA + 8, WRITE, LEN8), Some((4, 1)));
}

#[test]
fn lengths_cover_what_they_say() {
    for (len, bytes) in [(LEN1, 1), (LEN2, 2), (LEN4, 4), (LEN8, 8)] {
        for off in 0..24u64 {
            // mov [rbx + off], al; the address bits below the length do not count.
            let code = [0x88, 0x43, off as u8, 0x90];
            let at = DATA + 8 + 5;
            let first = 8 + 5 / bytes * bytes;
            let want = (first..first + bytes).contains(&off).then_some((3, 1));
            assert_eq!(trap(&code, at, WRITE, len), want, "{bytes} bytes, offset {off}");
        }
    }
    // A store of four bytes that reaches into the watched one; a store across pages.
    assert_eq!(trap(STORE, DATA + 3, WRITE, LEN1), Some((2, 1)));
    assert_eq!(trap(STORE, DATA + 4, WRITE, LEN1), None);
    assert_eq!(trap(&[0x89, 0x43, 0xfe, 0x90], DATA, WRITE, LEN1), Some((3, 1)));
    assert_eq!(trap(&[0x89, 0x43, 0xfe, 0x90], DATA + 2, WRITE, LEN1), None);
}

#[test]
fn pages_that_were_used_before_are_watched_too_and_others_run_on() {
    // mov [rbx], eax; mov dr0, rbx; mov dr7, rcx; inc dword [rbx + 4]; mov [rbx], eax; nop
    let code = [0x89, 0x03, 0x0f, 0x23, 0xc3, 0x0f, 0x23, 0xf9, 0xff, 0x43, 0x04, 0x89, 0x03, 0x90];
    let mut g = Guest::long();
    g.vcpu.cpu.regs[reg::RBX as usize] = DATA;
    g.vcpu.cpu.regs[reg::RCX as usize] = 0xd_0001;
    assert_eq!(g.run_code(&code), DB);
    assert_eq!((g.frame(1).ip - CODE, g.get4(DATA + 4)), (13, 1));
    // Beside a watched page nothing runs alone.
    let mut g = Guest::long();
    breakpoint(&mut g, DATA, WRITE, LEN4);
    g.vcpu.cpu.regs[reg::RBX as usize] = DATA + 0x1000;
    let alone = g.vcpu.cpu.stats.alone;
    assert_eq!(g.run_code(STORE), None);
    assert_eq!(g.vcpu.cpu.stats.alone, alone);
}

#[test]
fn several_breakpoints_are_one_exception() {
    let mut g = Guest::long();
    g.vcpu.cpu.dr[..4].copy_from_slice(&[DATA, DATA + 1, DATA + 2, CODE + 0x800]);
    // All enabled, globally: write, read or write, write, execute.
    g.vcpu.cpu.dr[7] = 0x4aa | 0x0131_0000;
    g.vcpu.cpu.breakpoints_changed();
    g.vcpu.cpu.regs[reg::RBX as usize] = DATA;
    g.vcpu.cpu.set_rflags_image(flags::TF | 2);
    assert_eq!(g.run_code(STORE), DB);
    assert_eq!((g.frame(1).ip - CODE, g.vcpu.cpu.dr[6] & 0xe00f), (2, 0x4007));
}

#[test]
fn an_instruction_that_faults_has_met_no_breakpoint() {
    // push [rbx] onto a stack that is not there; the operand is watched.
    let mut g = Guest::long();
    breakpoint(&mut g, DATA, ACCESS, LEN4);
    g.load(&[0xff, 0x33]);
    g.vcpu.cpu.regs[reg::RBX as usize] = DATA;
    g.vcpu.cpu.regs[reg::RSP as usize] = 0x4000_0000;
    // The frame goes to a stack of its own.
    g.ram.write(guest::IDT + 16 * 14 + 4, &[1]);
    g.put(guest::TSS + 0x24, STACK);
    assert_eq!(g.go_on(), Some(14));
    assert_eq!((g.frame(14).ip, g.vcpu.cpu.dr[6] & 0xf), (CODE, 0));
}

#[test]
fn repeated_strings_trap_behind_the_iteration() {
    for (code, kind) in [([0xf3, 0xaa], WRITE), ([0xf3, 0xa4], WRITE), ([0xf3, 0xac], ACCESS), ([0xf2, 0xae], ACCESS)] {
        let mut g = Guest::long();
        breakpoint(&mut g, DATA + 5, kind, LEN1);
        g.load(&code);
        let c = &mut g.vcpu.cpu;
        c.regs[reg::RCX as usize] = 100;
        c.regs[reg::RDI as usize] = DATA;
        // MOVS reads from elsewhere.
        c.regs[reg::RSI as usize] = if code[1] == 0xa4 { DATA + 0x1000 } else { DATA };
        c.regs[reg::RAX as usize] = 0xff;
        assert_eq!(g.go_on(), DB, "{code:x?}");
        let f = g.frame(1);
        assert_eq!((f.ip, f.flags & flags::RF), (CODE, flags::RF));
        assert_eq!((g.vcpu.cpu.regs[reg::RCX as usize], g.vcpu.cpu.dr[6] & 0xe00f), (94, 1), "{code:x?}");
        // It goes on from there, to the end.
        g.vcpu.cpu.rip = CODE;
        assert_eq!(g.go_on(), None);
        assert_eq!(g.vcpu.cpu.regs[reg::RCX as usize], 0);
    }
    // The last iteration: behind the instruction, without RF.
    let mut g = Guest::long();
    breakpoint(&mut g, DATA + 5, WRITE, LEN1);
    g.load(&[0xf3, 0xaa, 0x90]);
    g.vcpu.cpu.regs[reg::RCX as usize] = 6;
    g.vcpu.cpu.regs[reg::RDI as usize] = DATA;
    assert_eq!(g.go_on(), DB);
    let f = g.frame(1);
    assert_eq!((f.ip, f.flags & flags::RF), (CODE + 2, 0));
}

#[test]
fn mov_ss_holds_a_breakpoint_back() {
    // mov ss, [rbx]; nop; nop
    let mut g = Guest::long();
    breakpoint(&mut g, DATA, ACCESS, LEN2);
    g.put(DATA, guest::DATA0.into());
    g.vcpu.cpu.regs[reg::RBX as usize] = DATA;
    assert_eq!(g.run_code(&[0x8e, 0x13, 0x90, 0x90]), DB);
    assert_eq!((g.frame(1).ip - CODE, g.vcpu.cpu.dr[6] & 0xe00f), (3, 1));
    // INT3 behind it: the trap comes in front of the handler's first instruction (SDM 3A 6.8.3).
    let mut g = Guest::long();
    breakpoint(&mut g, DATA, ACCESS, LEN2);
    g.put(DATA, guest::DATA0.into());
    g.vcpu.cpu.regs[reg::RBX as usize] = DATA;
    assert_eq!(g.run_code(&[0x8e, 0x13, 0xcc]), DB);
    assert_eq!(g.frame(1).ip, guest::HANDLERS + 4 * 3);
}

#[test]
fn port_breakpoints_want_cr4_de() {
    // in al, dx; nop and out dx, ax; nop at 3F8h
    for (code, at, len, hit) in [
        (&[0xec, 0x90][..], 0x3f8, LEN1, true),
        (&[0xec, 0x90], 0x3fa, LEN4, true),
        (&[0xec, 0x90], 0x3fc, LEN4, false),
        (&[0xef, 0x90], 0x3fb, LEN1, true),
        (&[0x66, 0xef, 0x90], 0x3fa, LEN1, false),
    ] {
        for de in [false, true] {
            let mut g = Guest::long();
            g.vcpu.cpu.cr4 |= if de { 8 } else { 0 };
            g.vcpu.cpu.regs[reg::RDX as usize] = 0x3f8;
            breakpoint(&mut g, at, PORT, len);
            let want = if hit && de { DB } else { None };
            assert_eq!(g.run_code(code), want, "{code:x?} {at:x} {len} {de}");
            if want.is_some() {
                assert_eq!((g.frame(1).ip, g.vcpu.cpu.dr[6] & 0xe00f), (CODE + code.len() as u64 - 1, 1));
            }
        }
    }
    // rep outsb traps behind the first iteration.
    let mut g = Guest::long();
    g.vcpu.cpu.cr4 |= 8;
    breakpoint(&mut g, 0x3f8, PORT, LEN1);
    g.load(&[0xf3, 0x6e]);
    let c = &mut g.vcpu.cpu;
    c.regs[reg::RDX as usize] = 0x3f8;
    c.regs[reg::RSI as usize] = DATA;
    c.regs[reg::RCX as usize] = 3;
    assert_eq!(g.go_on(), DB);
    assert_eq!((g.frame(1).ip, g.vcpu.cpu.regs[reg::RCX as usize]), (CODE, 2));
}

#[test]
fn general_detect_guards_the_registers_once() {
    // mov rax, dr7
    let mut g = Guest::long();
    g.vcpu.cpu.dr[7] = 0x2400;
    assert_eq!(g.run_code(&[0x0f, 0x21, 0xf8]), DB);
    assert_eq!((g.frame(1).ip, g.vcpu.cpu.dr[6] & 0xe00f, g.vcpu.cpu.dr[7]), (CODE, 0x2000, 0x400));
    // Any other debug exception lets the handler use them as well.
    g.vcpu.cpu.dr[7] = 0x2400;
    assert_eq!(g.run_code(&[0xf1]), DB);
    assert_eq!(g.vcpu.cpu.dr[7], 0x400);
}

#[test]
fn debug_registers_keep_their_fixed_bits() {
    // mov dr6, rax; mov dr7, rax; mov rcx, dr6; mov rdx, dr7; mov rsi, dr4
    let code = [0x0f, 0x23, 0xf0, 0x0f, 0x23, 0xf8, 0x0f, 0x21, 0xf1, 0x0f, 0x21, 0xfa, 0x0f, 0x21, 0xe6];
    let mut g = Guest::long();
    for (v, dr6, dr7) in [(0, 0xffff_0ff0, 0x400), (0xffff_dfff, 0xffff_cfff, 0xffff_07ff)] {
        g.vcpu.cpu.regs[0] = v;
        // The breakpoints of the second round are far away.
        g.vcpu.cpu.dr[..4].fill(0x7000_0000);
        let end = g.run_code(&code);
        assert_eq!(end, None);
        let r = &g.vcpu.cpu.regs;
        assert_eq!((r[1], r[2], r[6]), (dr6, dr7, dr6));
    }
    // With CR4.DE there are no aliases; the upper half of DR6 and DR7 is reserved.
    g.vcpu.cpu.cr4 |= 8;
    assert_eq!(g.run_code(&[0x0f, 0x21, 0xe6]), Some(6));
    g.vcpu.cpu.regs[0] = 1 << 32;
    assert_eq!(g.run_code(&[0x0f, 0x23, 0xf8]), Some(13));
}

#[test]
fn branches_alone_can_be_stepped() {
    // nop; jmp +1; nop; nop with TF and DEBUGCTL.BTF
    let mut g = Guest::long();
    g.vcpu.cpu.msr.debugctl = 2;
    g.vcpu.cpu.set_rflags_image(flags::TF | 2);
    assert_eq!(g.run_code(&[0x90, 0xeb, 0x01, 0x90, 0x90]), DB);
    assert_eq!((g.frame(1).ip - CODE, g.vcpu.cpu.dr[6] & 0xe00f), (4, 0x4000));
    // The exception switches it off.
    assert_eq!(g.vcpu.cpu.msr.debugctl, 0);
}

#[test]
fn a_pushed_frame_can_be_watched() {
    // int3: its frame lies right below the stack pointer.
    let mut g = Guest::long();
    breakpoint(&mut g, STACK - 8, WRITE, LEN8);
    assert_eq!(g.run_code(&[0xcc]), DB);
    assert_eq!((g.frame(1).ip, g.vcpu.cpu.dr[6] & 0xf), (guest::HANDLERS + 4 * 3, 1));
    assert_eq!(g.vcpu.cpu.events & event::SHUTDOWN, 0);
}

#[test]
fn dr6_tells_of_this_match_and_keeps_the_rest() {
    // Breakpoint 2 on the second NOP; software had left B1 and BS in DR6.
    let mut g = Guest::long();
    g.load(&[0x90, 0x90]);
    let c = &mut g.vcpu.cpu;
    (c.dr[2], c.dr[7], c.dr[6]) = (CODE + 1, 0x420, 0xffff_4ff2);
    c.breakpoints_changed();
    assert_eq!(g.go_on(), Some(1));
    assert_eq!((g.frame(1).ip, g.vcpu.cpu.dr[6]), (CODE + 1, 0xffff_4ff4));
}

#[test]
fn icebp_takes_along_what_mov_ss_held_off() {
    // mov ss, [rbx]; int1 with a data breakpoint on the selector: one #DB, behind INT1, no second one in the handler.
    let mut g = Guest::long();
    g.put(DATA, DATA0.into());
    g.load(&[0x8e, 0x13, 0xf1]);
    let c = &mut g.vcpu.cpu;
    (c.regs[reg::RBX as usize], c.dr[0], c.dr[7]) = (DATA, DATA, 0xf_0401);
    c.breakpoints_changed();
    assert_eq!(g.go_on(), Some(1));
    let c = &g.vcpu.cpu;
    assert_eq!((g.frame(1).ip, c.dr[6] & 0xf, c.pending_db), (CODE + 3, 1, 0));
    assert_eq!(c.regs[reg::RSP as usize], (STACK & !15) - 40, "one frame");
}
