//! More than one vCPU.

use super::*;
use crate::xen::vcpu::RunState;

/// The second one's code, behind the first one's.
const SECOND: u64 = VIRT + (CODE << PAGE_SHIFT) + 0x800;

/// The context of a vCPU that begins at [`SECOND`] in the kernel, in [`MAPPED`] and the page behind it.
fn context(b: &mut Bench, flags: u64) {
    let l4 = b.l4();
    b.put(MAPPED, 0, &[0; 8192]);
    let put = |b: &Bench, at: u64, v: u64| b.put(MAPPED, at, &words(&[v]));
    put(b, 0x200, flags);
    put(b, 0x208 + 0x80, SECOND);
    put(b, 0x208 + 0x88, 0xe033);
    put(b, 0x208 + 0x90, 0x1202);
    put(b, 0x208 + 0x98, va(MAPPED + 0x41));
    put(b, 0x208 + 0xa0, 0xe02b);
    put(b, 0x208 + 8 * 11, 0x1111);
    put(b, 0x1368, 0xe02b);
    put(b, 0x1370, va(MAPPED + 0x42));
    put(b, 0x1378 + 24, l4 << PAGE_SHIFT);
    put(b, 0x13f8, SECOND + 0x400);
    put(b, 0x1420, 0x5000);
}
fn two(code: &[u8], second: &[u8]) -> Bench {
    let mut b = Bench::build(false, 2, code, &[], "");
    b.put(CODE, 0x800, second);
    context(&mut b, 4);
    b
}

#[test]
fn a_vcpu_is_initialised_once_and_brought_up_and_down() {
    let mut b = two(&[], &[]);
    assert_eq!(b.call(24, &[3, 1]), 0);
    assert_eq!(b.call(24, &[3, 2]), ENOENT);
    assert_eq!(b.call(24, &[1, 1]), EINVAL, "it has no state yet");
    b.put(MAPPED, 0x208 + 0x80, &words(&[1 << 47]));
    assert_eq!(b.call(24, &[0, 1, va(MAPPED)]), EINVAL);
    context(&mut b, 4);
    b.put(MAPPED, 0x1378 + 24, &words(&[MAPPED << PAGE_SHIFT]));
    assert_eq!(b.call(24, &[0, 1, va(MAPPED)]), EINVAL, "no L4");
    context(&mut b, 4);
    assert_eq!(b.call(24, &[0, 1, va(MAPPED)]), 0);
    assert_eq!(b.call(24, &[0, 1, va(MAPPED)]), errno(Errno::EEXIST));
    assert_eq!(b.call(24, &[3, 1]), 0);
    assert_eq!(b.call(24, &[1, 1]), 0);
    assert_eq!(b.call(24, &[3, 1]), 1);
    assert_eq!(b.call(24, &[2, 1]), 0);
    assert_eq!(b.call(24, &[3, 1]), 0);
    b.check();
}

#[test]
fn the_second_vcpu_begins_with_its_context_and_both_get_their_time() {
    let mut b = two(&[0xeb, 0xfe], &[0xeb, 0xfe]);
    b.call(8, &[0, 0x1234]);
    b.call(24, &[0, 1, va(MAPPED)]);
    b.call(24, &[1, 1]);
    b.run(3);
    assert_eq!((b.cpu().rip, b.domain(|d, _| d.current)), (SECOND, 1));
    let cpu = b.cpu();
    assert_eq!((cpu.seg[5].base, cpu.dr[0], cpu.guest_kernel), (0x5000, 0, true));
    assert_eq!(cpu.regs[usize::from(reg::RCX)], 0x1111);
    assert_eq!(b.domain(|d, _| (d.vcpus[0].state, d.vcpus[1].pv.iopl)), (RunState::Runnable, 1));
    // After its slice, or when it yields, the first one goes on.
    let begin = b.xen.now().nanos();
    while b.domain(|d, _| d.current) == 1 {
        b.run(1000);
    }
    let took = b.xen.now().nanos() - begin;
    assert!((4_900_000..5_100_000).contains(&took), "{took}");
    while b.domain(|d, _| d.current) == 0 {
        b.run(1000);
    }
    b.call(29, &[0, 0]);
    b.run(1);
    assert_eq!((b.domain(|d, _| d.current), b.cpu().rip), (0, va(CODE)));
}

#[test]
fn an_ipi_wakes_a_vcpu_that_waits() {
    // Send on the port that is in DATA: mov eax, 32; mov edi, 4; mov rsi, rbx; syscall; jmp .
    let send = [0xb8, 32, 0, 0, 0, 0xbf, 4, 0, 0, 0, 0x48, 0x89, 0xde, 0x0f, 0x05, 0xeb, 0xfe];
    let mut b = two(&[0x90; 8], &send);
    b.put(MAPPED, 0x208 + 8 * 5, &words(&[va(DATA)]));
    b.call_with(30, &[0], &[0, va(CODE) + 0x400]);
    b.call(24, &[0, 1, va(MAPPED)]);
    b.call(24, &[1, 1]);
    assert_eq!(b.call_with(32, &[7], &[0]), 0);
    let port = u64::from(b.half(DATA, 4));
    b.put(DATA, 0, &words(&[port]));
    assert_eq!(b.call(29, &[1, 0]), 0, "block");
    b.run(1);
    assert_eq!(b.domain(|d, _| (d.current, d.vcpus[0].state)), (1, RunState::Blocked));
    b.run(4);
    assert!(b.domain(|d, _| d.is_pending(port as u32)));
    b.call(29, &[0, 0]);
    b.run(1);
    assert_eq!(b.domain(|d, _| (d.current, d.vcpus[0].state)), (0, RunState::Running));
    assert!((va(CODE) + 0x400..va(CODE) + 0x4000).contains(&b.cpu().rip));
}

#[test]
fn an_offline_vcpu_is_woken_by_no_event() {
    let mut b = two(&[0x90; 8], &[0xeb, 0xfe]);
    b.call_with(30, &[0], &[0, va(CODE) + 0x400]);
    b.call_with(32, &[7], &[0]);
    let port = b.half(DATA, 4);
    b.call(24, &[0, 1, va(MAPPED)]);
    b.call(24, &[1, 1]);
    b.set_upcall_mask(false);
    b.run(2);
    assert_eq!(b.domain(|d, _| d.current), 1);
    b.call(29, &[0, 0]);
    b.run(2);
    assert_eq!(b.domain(|d, _| d.current), 0);
    b.domain(|d, cx| d.vcpus[1].account(cx.now, RunState::Blocked));
    assert_eq!(b.call(24, &[2, 0]), 0);
    assert_eq!(b.run(5), CpuExit::Halt);
    b.domain(|d, cx| {
        d.set_pending(port);
        d.settle(cx);
    });
    assert_eq!(b.run(5), CpuExit::Halt);
    assert_eq!(b.domain(|d, _| d.vcpus[0].state), RunState::Offline);
}

#[test]
fn the_last_vcpu_that_goes_down_switches_off() {
    let mut b = Bench::pv();
    assert_eq!(b.call(24, &[2, 0]), 0);
    assert_eq!(b.stop(), Some(StopCause::Off));
}

#[test]
fn runstates_are_written_where_the_guest_wants_them() {
    let mut b = two(&[], &[0xeb, 0xfe]);
    assert_eq!(b.call_with(24, &[5, 0], &[va(MAPPED + 8)]), 0);
    assert_eq!(b.half(MAPPED + 8, 0), 0);
    b.run(1000);
    b.call(24, &[0, 1, va(MAPPED)]);
    b.call(24, &[1, 1]);
    b.run(1);
    assert_eq!((b.half(MAPPED + 8, 0), b.word(MAPPED + 8, 16)), (1, 1000));
    assert_eq!(b.call(24, &[4, 1, va(DATA)]), 0);
    assert_eq!(b.half(DATA, 0), 0);
}

#[test]
fn vcpu_info_moves_once_with_all_that_waits() {
    let mut b = Bench::pv();
    assert_eq!(b.call_with(24, &[10, 0], &[FREE, 4096 - 60]), EINVAL);
    assert_eq!(b.call_with(24, &[10, 0], &[FRAMES, 0]), EINVAL);
    assert_eq!(b.call_with(24, &[10, 0], &[FREE, 0x40]), 0);
    assert_eq!((b.word(FREE, 0x40) & 0xffff, b.word(FREE, 0x48)), (0x101, u64::MAX));
    assert_eq!(b.call_with(24, &[10, 0], &[FREE + 1, 0]), EBUSY);
    b.check();
}

#[test]
fn an_nmi_comes_once_until_its_handler_ends() {
    let mut b = Bench::pv_code(&[0x90; 8]);
    assert_eq!(b.call_with(30, &[0], &[4, va(CODE) + 0x400]), 0);
    assert_eq!(b.call(24, &[11, 0]), 0);
    b.run(1);
    assert_eq!(b.cpu().rip, va(CODE) + 0x401);
    assert_eq!(b.call(24, &[11, 0]), 0);
    b.run(1);
    assert_eq!(b.cpu().rip, va(CODE) + 0x402);
    b.iret([0, 0, 0, 0, va(CODE), 0xe030, 0x202, va(MAPPED + 4), 0xe02b]);
    b.run(1);
    assert_eq!(b.cpu().rip, va(CODE) + 0x401);
}
