//! Event channels, blocking, polling and timers.

use super::*;
use crate::xen::vcpu::RunState;

const HANDLER: u64 = VIRT + (CODE << PAGE_SHIFT) + 0x400;

/// A domain with an event callback, whose code is a hundred times `nop`, and a port for an IPI to itself.
fn with_ipi() -> (Bench, u64) {
    let mut b = Bench::pv_code(&[0x90; 100]);
    assert_eq!(b.call_with(30, &[0], &[0, HANDLER]), 0);
    assert_eq!(b.call_with(32, &[7], &[0]), 0);
    let port = u64::from(b.half(DATA, 4));
    (b, port)
}
fn shared(b: &mut Bench) -> u64 {
    b.domain(|d, _| d.shared_info)
}
fn send(b: &mut Bench, port: u64) {
    assert_eq!(b.call_with(32, &[4], &[port]), 0);
}
/// bind_virq(TIMER).
fn timer_port(b: &mut Bench) -> u64 {
    assert_eq!(b.call_with(32, &[1], &[0, 0]), 0);
    b.half(DATA, 8).into()
}
fn pending(b: &mut Bench, port: u64) -> bool {
    b.domain(|d, _| d.is_pending(port as u32))
}

#[test]
fn an_event_sets_its_bit_the_selector_and_the_upcall_byte() {
    let (mut b, port) = with_ipi();
    let frame = shared(&mut b);
    send(&mut b, port);
    assert_eq!((b.word(frame, 0x800), b.word(frame, 8), b.word(frame, 0) & 0xffff), (1 << port, 1, 0x101));
    b.run(5);
    assert_eq!(b.cpu().rip, va(CODE) + 5, "events are masked");
}

#[test]
fn a_masked_port_becomes_pending_and_says_nothing_until_it_is_unmasked() {
    let (mut b, port) = with_ipi();
    let frame = shared(&mut b);
    b.put(frame, 0xa00, &words(&[1 << port]));
    send(&mut b, port);
    assert_eq!((b.word(frame, 0x800), b.word(frame, 8), b.word(frame, 0) & 0xff), (1 << port, 0, 0));
    b.set_upcall_mask(false);
    b.run(2);
    assert_eq!(b.cpu().rip, va(CODE) + 2);
    assert_eq!(b.call_with(32, &[9], &[port]), 0);
    assert_eq!((b.word(frame, 0xa00), b.word(frame, 8)), (0, 1));
    b.run(1);
    assert_eq!(b.cpu().rip, HANDLER + 1);
    assert_eq!(b.stack(3)[2], va(CODE) + 2);
    assert!(b.upcall_mask());
}

#[test]
fn events_come_when_a_hypercall_ends_with_them_unmasked() {
    let (mut b, port) = with_ipi();
    send(&mut b, port);
    b.set_upcall_mask(false);
    // xen_version: what guests call to have events looked for.
    assert_eq!(b.call(17, &[0, 0]), 4 << 16 | 17);
    b.run(1);
    assert_eq!(b.cpu().rip, HANDLER + 1);
}

#[test]
fn two_events_are_one_upcall() {
    let (mut b, port) = with_ipi();
    b.call_with(32, &[7], &[0]);
    let other = u64::from(b.half(DATA, 4));
    send(&mut b, port);
    send(&mut b, other);
    b.set_upcall_mask(false);
    b.call(17, &[0, 0]);
    let before = b.domain(|d, _| d.counters.upcalls);
    b.run(50);
    let frame = shared(&mut b);
    assert_eq!(b.word(frame, 0x800), 1 << port | 1 << other);
    assert_eq!(b.domain(|d, _| d.counters.upcalls) - before, 1);
    // The handler's end looks again: still pending, so it comes again.
    b.iret([0, 0, 0, 0, va(CODE), 0xe030, 0x202, va(MAPPED + 4), 0xe02b]);
    b.run(1);
    assert_eq!(b.cpu().rip, HANDLER + 1);
}

#[test]
fn ports_are_bound_closed_and_refused() {
    let (mut b, port) = with_ipi();
    assert_eq!(b.call_with(32, &[1], &[pair(24, 0)]), EINVAL);
    assert_eq!(b.call_with(32, &[1], &[pair(0, 1)]), ENOENT);
    let timer = timer_port(&mut b);
    assert_eq!(b.call_with(32, &[1], &[pair(0, 0)]), errno(Errno::EEXIST));
    assert_eq!(b.call_with(32, &[4], &[timer]), EINVAL, "a virtual interrupt cannot be sent");
    assert_eq!(b.call_with(32, &[8], &[pair(port as u32, 0)]), EINVAL, "IPIs stay where they are");
    assert_eq!(b.call_with(32, &[3], &[port]), 0);
    assert_eq!(b.call_with(32, &[3], &[port]), EINVAL);
    assert_eq!(b.call_with(32, &[4], &[port]), EINVAL);
    for port in [0, 4096, u64::from(u32::MAX)] {
        assert_eq!(b.call_with(32, &[4], &[port]), EINVAL);
    }
    // A port between two ends of the same domain.
    assert_eq!(b.call_with(32, &[6], &[0x7ff0 | 0x7ff0 << 16]), 0);
    let one = b.half(DATA, 4);
    assert_eq!(b.call_with(32, &[0], &[pair(0x7ff0, one)]), 0);
    let two = u64::from(b.half(DATA, 8));
    assert!(pending(&mut b, two), "what the other side has missed");
    send(&mut b, two);
    assert!(pending(&mut b, one.into()));
    assert_eq!(b.call_with(32, &[5], &[pair(0x7ff0, two as u32), 0, 0]), 0);
    assert_eq!((b.half(DATA, 8), b.half(DATA, 16), b.half(DATA, 20)), (2, 1, one));
    assert_eq!(b.call_with(32, &[3], &[two]), 0);
    assert_eq!(b.call_with(32, &[5], &[pair(0x7ff0, one), 0, 0]), 0);
    assert_eq!(b.half(DATA, 8), 1, "the other end is unbound");
    assert_eq!(b.call_with(32, &[10], &[0x7ff0]), 0);
    assert_eq!(b.call_with(32, &[4], &[1]), EINVAL);
}

#[test]
fn there_are_4095_ports_and_no_more() {
    let mut b = Bench::pv();
    for _ in 3..4096 {
        assert_eq!(b.call_with(32, &[7], &[0]), 0);
    }
    assert_eq!(b.call_with(32, &[7], &[0]), errno(Errno::ENOSPC));
}

#[test]
fn a_blocked_vcpu_waits_for_its_timer_to_the_nanosecond() {
    let mut b = Bench::pv_code(&[0x90; 100]);
    b.call_with(30, &[0], &[0, HANDLER]);
    b.call(24, &[7, 0]);
    timer_port(&mut b);
    assert_eq!(b.call_with(24, &[8, 0], &[123_456, 0]), 0);
    assert_eq!(b.call(29, &[1, 0]), 0);
    assert!(!b.upcall_mask(), "block unmasks");
    assert_eq!(b.run(100), CpuExit::Halt);
    assert_eq!(b.domain(|d, _| d.vcpu().state), RunState::Blocked);
    assert_eq!(b.xen.nearest().nanos(), 123_456);
    let now = b.xen.now().nanos();
    b.pass(123_455 - now);
    assert_eq!(b.run(1), CpuExit::Halt);
    b.pass(1);
    b.run(1);
    assert_eq!((b.cpu().rip, b.stack(3)[2]), (HANDLER + 1, va(CODE)));
    assert_eq!(b.domain(|d, _| d.vcpu().state), RunState::Running);
}

#[test]
fn block_with_an_event_waiting_does_not_block() {
    let (mut b, port) = with_ipi();
    send(&mut b, port);
    assert_eq!(b.call(29, &[1, 0]), 0);
    assert_eq!(b.run(1), CpuExit::Budget);
    assert_eq!(b.cpu().rip, HANDLER + 1);
}

#[test]
fn a_timer_of_the_past_fires_at_once_unless_it_must_be_in_the_future() {
    let mut b = Bench::pv_code(&[0x90; 100]);
    let port = timer_port(&mut b);
    b.run(10);
    assert_eq!(b.call_with(24, &[8, 0], &[5, 1]), errno(Errno::ETIME));
    assert_eq!(b.call_with(24, &[8, 0], &[5, 0]), 0);
    b.run(1);
    assert!(pending(&mut b, port));
    assert_eq!(b.call_with(24, &[8, 1], &[5, 0]), ENOENT);
}

#[test]
fn set_timer_op_stops_with_zero_and_takes_nonsense_for_a_tenth_of_a_second() {
    let mut b = Bench::pv();
    b.call(24, &[7, 0]);
    b.call(15, &[1_000_000]);
    assert_eq!(b.xen.nearest().nanos(), 1_000_000);
    b.call(15, &[0]);
    assert_eq!(b.xen.nearest(), tabvisor_core::time::VmTime::NEVER);
    b.call(15, &[u64::MAX]);
    assert_eq!(b.xen.nearest().nanos(), 100_000_000);
}

#[test]
fn a_periodic_timer_ticks_while_its_vcpu_runs() {
    // jmp .
    let mut b = Bench::pv_code(&[0xeb, 0xfe]);
    let port = timer_port(&mut b);
    let frame = shared(&mut b);
    assert_eq!(b.call_with(24, &[6, 0], &[999_999]), EINVAL);
    assert_eq!(b.call_with(24, &[6, 0], &[1_000_000]), 0);
    for tick in 1..=3u64 {
        b.put(frame, 0x800, &[0]);
        while b.xen.now().nanos() < tick * 1_000_000 - 1 {
            b.run(tick * 1_000_000 - 1 - b.xen.now().nanos());
        }
        assert!(!pending(&mut b, port));
        b.run(1);
        b.run(1);
        assert!(pending(&mut b, port), "{tick}");
    }
    assert_eq!(b.call(24, &[7, 0]), 0);
    assert_eq!(b.xen.nearest(), tabvisor_core::time::VmTime::NEVER);
}

#[test]
fn poll_ends_with_its_timeout_and_does_not_touch_the_mask() {
    let mut b = Bench::pv_code(&[0x90; 100]);
    b.call(24, &[7, 0]);
    let port = timer_port(&mut b);
    b.put(DATA, 0x800, &words(&[port]));
    assert_eq!(b.call_with(29, &[3], &[va(DATA) + 0x800, 1, 5000]), 0);
    assert_eq!(b.run(10), CpuExit::Halt);
    assert_eq!(b.xen.nearest().nanos(), 5000);
    b.pass(5000);
    b.run(3);
    assert_eq!(b.cpu().rip, va(CODE) + 3);
    assert!(b.upcall_mask());
    assert_eq!(b.call_with(29, &[3], &[va(DATA) + 0x800, 129, 0]), EINVAL);
    assert_eq!(b.call_with(29, &[3], &[va(1024), 1, 0]), EFAULT);
}

#[test]
fn poll_ends_with_its_port_though_that_is_masked() {
    let mut b = Bench::pv_code(&[0x90; 100]);
    b.call(24, &[7, 0]);
    let port = timer_port(&mut b);
    let frame = shared(&mut b);
    b.put(frame, 0xa00, &words(&[1 << port]));
    b.call_with(24, &[8, 0], &[7000, 0]);
    b.put(DATA, 0x800, &words(&[port]));
    assert_eq!(b.call_with(29, &[3], &[va(DATA) + 0x800, 1, 0]), 0);
    assert_eq!(b.run(10), CpuExit::Halt);
    b.pass(7000);
    b.run(3);
    assert_eq!(b.cpu().rip, va(CODE) + 3);
    // It is pending now: polling for it again ends at once.
    assert_eq!(b.call_with(29, &[3], &[va(DATA) + 0x800, 1, 0]), 0);
    assert_eq!(b.run(1), CpuExit::Budget);
}

#[test]
fn a_watchdog_that_expires_ends_the_domain() {
    let mut b = Bench::pv_code(&[0xeb, 0xfe]);
    b.call(24, &[7, 0]);
    assert_eq!(b.call_with(29, &[6], &[pair(0, 2)]), 1);
    assert_eq!(b.call_with(29, &[6], &[pair(0, 3)]), 2);
    assert_eq!(b.call_with(29, &[6], &[pair(0, 3)]), errno(Errno::ENOSPC));
    assert_eq!(b.call_with(29, &[6], &[pair(3, 1)]), EINVAL);
    assert_eq!(b.call_with(29, &[6], &[pair(1, 0)]), 0);
    b.pass(2_999_999_999);
    assert_eq!(b.stop(), None);
    b.pass(1);
    assert!(matches!(b.stop(), Some(StopCause::Crash(why)) if why.contains("watchdog")));
}

#[test]
fn shutdown_says_why() {
    for (reason, stop) in [(0, StopCause::Off), (1, StopCause::Reset(crate::effect::ResetCause::Guest))] {
        let mut b = Bench::pv();
        assert_eq!(b.call_with(29, &[2], &[reason]), 0);
        assert_eq!(b.stop(), Some(stop));
    }
    let mut b = Bench::pv();
    b.call_with(29, &[2], &[3]);
    assert!(matches!(b.stop(), Some(StopCause::Crash(_))));
}
