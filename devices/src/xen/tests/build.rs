//! What a domain begins with.

use super::*;
use crate::xen::abi::hole;

#[test]
fn start_info_says_where_everything_is() {
    let mut b = Bench::build(false, 1, &[], &[], "quiet splash");
    let si = (b.reg(reg::RSI) - VIRT) >> PAGE_SHIFT;
    assert_eq!(b.bytes(si, 0, 15), b"xen-3.0-x86_64\0");
    assert_eq!(b.word(si, 0x20), FRAMES);
    assert_eq!(b.word(si, 0x28), b.domain(|d, _| d.shared_info) << PAGE_SHIFT);
    assert_eq!(b.half(si, 0x30), 16);
    // Behind the kernel: the p2m list, then start_info and the two rings, then the tables and the stack.
    let p2m = CODE + CODE_PAGES;
    assert_eq!(b.word(si, 0x68), va(p2m));
    assert_eq!(si, p2m + FRAMES * 8 / 4096);
    assert_eq!((b.word(si, 0x38), b.word(si, 0x48)), (si + 1, si + 2));
    assert_eq!((b.half(si, 0x40), b.half(si, 0x50)), (1, 2));
    let l4 = b.l4();
    assert_eq!((b.word(si, 0x58), l4), (va(l4), si + 3));
    // An L4, an L3, an L2 and two L1s for 4 MiB.
    assert_eq!(b.word(si, 0x60), 5);
    assert_eq!(b.reg(reg::RSP), va(l4 + 6));
    assert_eq!(b.bytes(si, 0x80, 13), b"quiet splash\0");
    assert_eq!((b.word(si, 0x70), b.word(si, 0x78)), (0, 0));
    assert_eq!(b.word(p2m, 8 * 0x123), 0x123);
}

#[test]
fn the_p2m_list_may_have_a_mapping_of_its_own() {
    const P2M: u64 = 0x80_0000_0000;
    let mut b = Bench::build(false, 1, &[], &note(15, &P2M.to_le_bytes()), "");
    let si = (b.reg(reg::RSI) - VIRT) >> PAGE_SHIFT;
    assert_eq!(si, CODE + CODE_PAGES);
    assert_eq!((b.word(si, 0x68), b.word(si, 0x480)), (P2M, 1024));
    // Four pages of list, and three tables.
    assert_eq!(b.word(si, 0x488), 7);
    let Bench { xen, vcpu, .. } = &mut b;
    let at = xen.with(|d, _| d.entry_of(&vcpu.cpu, P2M)).unwrap();
    assert_eq!(u64::from_le_bytes(b.ram.read_le(at)) & pte::ADDR, 1024 << PAGE_SHIFT);
    assert_eq!(b.kind(at >> PAGE_SHIFT), Kind::L1);
}

#[test]
fn page_tables_are_mapped_read_only_and_all_else_for_writing() {
    let mut b = Bench::pv();
    let l4 = b.l4();
    for frame in [0, CODE, l4 - 1, l4, l4 + 4, l4 + 5, 1023] {
        let at = b.slot_of(frame);
        let entry = u64::from_le_bytes(b.ram.read_le(at));
        let table = (l4..l4 + 5).contains(&frame);
        assert_eq!((entry & pte::ADDR, entry & pte::RW == 0), (frame << PAGE_SHIFT, table), "{frame:#x}");
    }
    assert_eq!([0, 1, 2, 3].map(|n| b.kind(l4 + n)), [Kind::L4, Kind::L3, Kind::L2, Kind::L1]);
    assert_eq!(b.kind(DATA), Kind::Writable);
}

#[test]
fn the_first_instruction_finds_the_registers_as_xen_sets_them() {
    // hlt, which a kernel at CPL 3 may not do: without a handler the domain ends there.
    let mut b = Bench::pv_code(&[0xf4]);
    let cpu = b.cpu();
    assert_eq!((cpu.rip, cpu.cpl, cpu.rflags_image()), (va(CODE), 3, 0x202));
    assert_eq!((cpu.seg[1].sel, cpu.seg[2].sel, cpu.seg[3].sel), (0xe033, 0xe02b, 0));
    assert!(b.upcall_mask());
    b.run(10);
    assert!(matches!(b.stop(), Some(StopCause::Crash(why)) if why.contains("exception 13")));
}

#[test]
fn the_machine_to_phys_table_can_be_read_but_not_written() {
    // mov rax, [rbx]; mov [rbx], rax
    let mut b = Bench::pv_code(&[0x48, 0x8b, 0x03, 0x48, 0x89, 0x03]);
    b.gate(14, 4, va(CODE) + 0x100);
    b.set(reg::RBX, hole::M2P + 8 * 0x321);
    b.run(1);
    assert_eq!(b.reg(reg::RAX), 0x321);
    b.run(1);
    assert_eq!(b.cpu().rip, va(CODE) + 0x100);
    assert_eq!(b.stack(4)[2], 3, "present, write");
    assert_eq!(b.info_word(0x10), hole::M2P + 8 * 0x321);
}

#[test]
fn descriptor_tables_behind_the_hypervisors_addresses_are_not_the_guests_to_write() {
    use crate::xen::frames::Frames;
    // mov [rbx], rax: Xen's own selectors, and a page of the guest's GDT.
    for (page, offset) in [(14, 0x30), (0, 0x10)] {
        let mut b = Bench::pv_code(&[0x48, 0x89, 0x03]);
        b.gate(14, 4, va(CODE) + 0x100);
        b.put(DATA, 0x800, &words(&[FREE]));
        assert_eq!(b.call(2, &[va(DATA) + 0x800, 512]), 0);
        b.set(reg::RBX, Frames::table_address(0, page) + offset);
        b.set(reg::RAX, 0x00af_9b00_0000_ffff);
        b.run(1);
        assert_eq!(b.cpu().rip, va(CODE) + 0x100, "page {page}");
        assert_eq!(b.word(FREE, 0x10), 0);
    }
}
