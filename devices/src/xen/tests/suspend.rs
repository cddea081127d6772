//! A guest that is suspended, and what it finds when it goes on.

use super::*;
use crate::effect::{Control, Input};
use tabvisor_core::time::VmTime;

/// Suspends the guest; `start_info` is where it will look for news.
fn suspend(b: &mut Bench, start_info: u64) {
    b.xen.effects().clear();
    b.put(DATA, 0, &words(&[2]));
    let at = if b.vcpu.cpu.paravirtual { va(DATA) } else { va_pvh(DATA) };
    assert_eq!(b.call(29, &[2, at, start_info]), 0);
    assert!(b.xen.effects().contains(&Effect::Suspended));
    assert_eq!((b.stop(), b.run(100)), (None, CpuExit::Halt));
}
fn resume(b: &mut Bench, cancelled: bool) {
    b.xen.input(&Input::Control(Control::Resume { cancelled }));
}
/// An event channel for an IPI to oneself.
fn ipi(b: &mut Bench) -> u64 {
    assert_eq!(b.call_with(32, &[7], &[0]), 0);
    b.half(DATA, 4).into()
}
/// EVTCHNOP_send.
fn send(b: &mut Bench, port: u64) -> i64 {
    b.call_with(32, &[4], &[port])
}

#[test]
fn a_suspended_guest_stands_still_until_it_is_resumed_as_what_it_was() {
    for (mut b, begin) in [(Bench::pv_code(&[0x90; 8]), va(CODE)), (Bench::pvh(1, &[0x90; 8]), CODE << PAGE_SHIFT)] {
        let port = ipi(&mut b);
        let at = b.xen.now().nanos() + 1000;
        assert_eq!(b.call(15, &[at]), 0);
        let si = b.start_info;
        suspend(&mut b, si);
        assert_eq!((b.cpu().rip, b.xen.nearest()), (begin, VmTime::NEVER), "its timer does not run");
        b.pass(10_000_000);
        assert_eq!((b.run(100), b.cpu().rip), (CpuExit::Halt, begin));
        resume(&mut b, true);
        b.run(2);
        assert_eq!((b.reg(reg::RAX), b.cpu().rip), (1, begin + 2));
        assert_eq!(send(&mut b, port), 0, "its event channels are what they were");
        resume(&mut b, false);
        assert_eq!(send(&mut b, port), 0, "it is not suspended");
        b.check();
    }
}

#[test]
fn a_restored_guest_has_a_new_hypervisor_around_it() {
    let mut b = Bench::pv_code(&[0x90; 8]);
    let si = b.start_info;
    let (port, table, info) = (ipi(&mut b), b.domain(|d, _| d.grants.places[0]), b.domain(|d, _| d.shared_info));
    assert_eq!(send(&mut b, port), 0);
    assert_eq!(b.call_with(24, &[10, 0], &[MAPPED + 1, 0]), 0);
    assert_eq!(b.call_with(24, &[5, 0], &[va(MAPPED + 2)]), 0);
    b.put(DATA, 0, &words(&[2]));
    assert_eq!(b.call(20, &[8, va(DATA), 1]), 0);
    b.put(table, 16 * 9, &words(&[1, FREE]));
    b.xen.input(&Input::Control(Control::Memory(5 << 20)));
    let l4 = b.l4();
    // As Linux does: places in its own memory.
    b.put(si, 0x38, &words(&[77, 0, 78]));
    suspend(&mut b, si);
    resume(&mut b, false);
    b.run(2);
    assert_eq!((b.reg(reg::RAX), b.cpu().rip, b.l4()), (0, va(CODE) + 2, l4));
    // start_info has the rings again, and their ports.
    assert_eq!([0x28, 0x38, 0x40, 0x48, 0x50].map(|at| b.word(si, at)), [info << 12, si + 1, 1, si + 2, 2]);
    assert_eq!(send(&mut b, port), EINVAL, "the port is gone");
    assert_eq!([0x800, 0xa00].map(|at| b.word(info, at)), [0, u64::MAX]);
    assert_eq!(b.word(info, 0) & 0xffff, 0x100, "and upcalls are masked");
    assert_eq!((b.word(table, 0) >> 32, b.word(table, 16 * 9)), (si + 2, 0));
    assert_eq!(b.domain(|d, _| (d.grants.version, d.vcpus[0].runstate_area)), (1, None));
    assert_eq!(b.call_with(24, &[10, 0], &[MAPPED + 1, 64]), 0, "vcpu_info can be registered anew");
    let target = b.domain(|d, _| d.store.read("/local/domain/1/memory/target").map(<[u8]>::to_vec));
    assert_eq!(target, Some(b"5120".to_vec()), "it is to have what it was to have");
    b.check();
}

#[test]
fn xenstore_has_forgotten_what_the_guest_said() {
    let mut b = Bench::pv();
    let si = b.start_info;
    b.domain(|d, _| d.store.write("/local/domain/1/data/mine", "1").expect("a valid path"));
    // The ring has indices of its own, which stay.
    let message: Vec<u8> = [2u32, 1, 0, 5].iter().flat_map(|v| v.to_le_bytes()).chain(*b"data\0").collect();
    b.put(si + 1, 0, &message);
    b.put(si + 1, 0x804, &(message.len() as u32).to_le_bytes());
    assert_eq!(send(&mut b, 1), 0);
    let answered = b.half(si + 1, 0x80c);
    assert!(answered >= 16);
    suspend(&mut b, si);
    resume(&mut b, false);
    b.run(1);
    assert!(b.domain(|d, _| d.store.read("/local/domain/1/data/mine").is_none()));
    assert_eq!(b.domain(|d, _| d.store.read("/local/domain/1/domid").map(<[u8]>::to_vec)), Some(b"1".to_vec()));
    b.put(si + 1, message.len() as u64, &message);
    b.put(si + 1, 0x804, &(2 * message.len() as u32).to_le_bytes());
    assert_eq!(send(&mut b, 1), 0);
    assert!(b.half(si + 1, 0x80c) > answered, "and answers where it was");
}

#[test]
fn without_a_start_info_there_is_nothing_to_restore() {
    for bad in [FRAMES + 100, 1 << 50] {
        let mut b = Bench::pv_code(&[0x90; 8]);
        let port = ipi(&mut b);
        suspend(&mut b, bad);
        resume(&mut b, false);
        b.run(1);
        assert_eq!((b.reg(reg::RAX), send(&mut b, port)), (1, 0));
        assert!(b.xen.effects().iter().any(|e| matches!(e, Effect::Log(text) if text.contains("start_info"))));
    }
    let mut b = Bench::pv_code(&[0x90; 8]);
    let l4 = b.l4();
    suspend(&mut b, l4);
    resume(&mut b, false);
    b.run(1);
    assert_eq!(b.reg(reg::RAX), 1, "a page table is none");
    b.check();
}

#[test]
fn a_restored_domain_with_its_own_paging_asks_for_its_interrupts_again() {
    let mut b = Bench::pvh(2, &[0x90; 8]);
    assert_eq!(b.call_with(34, &[23], &[pair(0, 0xf3)]), 0);
    assert_eq!(b.call_with(12, &[7], &[pair(0x7ff0, 0), 0, FREE]), 0);
    let port = ipi(&mut b);
    assert_eq!(send(&mut b, port), 0);
    suspend(&mut b, 0);
    resume(&mut b, false);
    b.run(1);
    assert_eq!((b.reg(reg::RAX), send(&mut b, port)), (0, EINVAL));
    assert_eq!(
        b.domain(|d, _| (d.hvm.as_ref().map(|h| h.upcall_vectors.clone()), d.shared_info)),
        (Some(vec![0; 2]), FREE)
    );
    assert_eq!((b.word(FREE, 0) & 0xffff, b.word(FREE, 0x800)), (0, 0));
    b.check();
}
