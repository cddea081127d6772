//! What the host cannot show from user mode, and a few facts for hosts that are not x86.

use super::*;
use crate::float::x87::Constant;

const ONE: F80 = F80::ONE;
const PI: F80 = F80 { sig: 0xc90f_daa2_2168_c235, se: 0x4000 };

fn with(values: &[F80]) -> Fpu {
    let mut f = Fpu::default();
    values.iter().rev().for_each(|&v| f.fld_f80(v));
    f
}

#[test]
fn a_store_changes_nothing_before_commit() {
    let mut f = with(&[PI]);
    let before = f.clone();
    let store = f.fst_f32(true);
    assert_eq!(f, before);
    assert_eq!(store.value, Some(0x4049_0fdb));
    f.commit(store);
    assert!(f.is_empty(0) && f.is_empty(7));
    assert_eq!(f.status_word(), u16::from(flags::PE) | C1);
}

#[test]
fn an_unmasked_stack_fault_stops_and_stays_pending() {
    let mut f = Fpu::default();
    f.fldcw(0x37e);
    f.arith(Arith::Add, Operand::F32(0));
    assert!(f.pending());
    assert_eq!(f.status_word(), ES | B | SF | 1);
    assert!(f.is_empty(0));
    assert_eq!(f.fistp_i64().value, None);
    f.fnclex();
    assert!(!f.pending());
}

#[test]
fn a_push_on_a_full_stack_sets_c1_and_gives_the_indefinite() {
    let mut f = with(&[ONE; 8]);
    f.fldz();
    assert_eq!(f.st(0), F80::INDEFINITE);
    assert_eq!(f.status_word() & (SF | C1 | 1), SF | C1 | 1);
}

#[test]
fn unmasking_a_raised_exception_makes_it_pending() {
    let mut f = with(&[ONE]);
    f.arith(Arith::Div, Operand::I16(0));
    assert!(!f.pending());
    f.fldcw(0x37b);
    assert!(f.pending());
    f.fnstenv_commit();
    assert!(!f.pending());
}

#[test]
fn real_mode_environments_hold_linear_addresses() {
    // SDM 1, figures 8-10 and 8-12.
    let mut f = with(&[ONE]);
    f.note(0x5d8, 0xf123, 0x4567);
    f.note_segment(0x9abc);
    f.note_offset(0xdef0);
    let image = f.fnstenv(Layout::Real16);
    let word = |n: usize| u16::from_le_bytes([image[2 * n], image[2 * n + 1]]);
    assert_eq!([word(3), word(4), word(5), word(6)], [0x5797, 0xf5d8, 0x8ab0, 0xa000]);
    let image = f.fnstenv(Layout::Real32);
    let long = |n: usize| u32::from_le_bytes([image[4 * n], image[4 * n + 1], image[4 * n + 2], image[4 * n + 3]]);
    assert_eq!([long(3), long(4), long(5), long(6)], [0xffff_5797, 0xf5d8, 0xffff_8ab0, 0xa000]);
}

#[test]
fn every_layout_of_a_state_comes_back() {
    for layout in [Layout::Real16, Layout::Protected16, Layout::Real32, Layout::Protected32] {
        let mut f = with(&[PI, ONE, F80::ZERO, F80 { sig: 3, se: 0x8000 }]);
        f.fldcw(0xc7f);
        f.ffree(1);
        f.note(0x123, 0, 0x1234);
        let image = f.fnsave(layout);
        let mut g = Fpu::default();
        g.frstor(layout, &image);
        if layout == Layout::Protected16 {
            f.fop = 0; // that layout has no room for it
        }
        assert_eq!(g, f, "{layout:?}");
    }
}

#[test]
fn mmx_aliases_the_registers() {
    let mut f = with(&[ONE]);
    f.enter_mmx();
    f.set_mm(2, 0x0123_4567_89ab_cdef);
    assert_eq!(f.st(2), F80 { sig: 0x0123_4567_89ab_cdef, se: 0xffff });
    assert_eq!((f.tag_word(), f.mm(7)), (0b0000_0000_0010_0000 | f.tag_word() & !0x30, ONE.sig));
    f.emms();
    assert_eq!(f.tag_word(), 0xffff);
}

#[test]
fn constants_follow_the_rounding_control() {
    let mut f = Fpu::default();
    f.fld_constant(Constant::Pi);
    assert_eq!(f.st(0), PI);
    f.fldcw(0xf7f);
    f.fld_constant(Constant::Pi);
    assert_eq!(f.st(0), F80 { sig: PI.sig - 1, ..PI });
}

#[test]
fn arithmetic_agrees_with_recorded_hardware_results() {
    // The sum whose carry Berkeley SoftFloat 3 loses.
    let f80 = |se, sig| F80 { sig, se };
    let (a, b) = (f80(0x8000, 0x7288_baff_7b69_91f8), f80(0x8000, 0xdfcd_7a80_d873_91dc));
    let mut f = with(&[a, b]);
    f.arith(Arith::Add, Operand::St(1));
    assert_eq!(f.st(0), f80(0x8002, 0xa92b_1ac0_29ee_91ea));
    assert_eq!(f.status_word() & EXCEPTIONS, u16::from(flags::DE));
    let mut f = with(&[PI]);
    f.fsin();
    // sin of the 64-bit pi by the 66-bit pi of SDM 1, 8.3.8.
    assert_eq!(f.st(0), f80(0xbfbf, 0x8000_0000_0000_0000));
}
