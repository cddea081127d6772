//! WebAssembly's vector instructions, and values made with them as code.

use super::ir::{LowOp, Node, Val};
use super::lower::Lower;
use crate::size::Size;
use crate::vector;

/// An instruction that has no immediate: its number behind the prefix 0xfd (WebAssembly Core Specification, 5.4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(u8);

macro_rules! numbers {
    ($($name:ident $number:literal,)*) => {
        #[allow(missing_docs, reason = "the specification's names, shortened where nothing else is called so")]
        impl Simd {
            $(pub const $name: Self = Self($number);)*
        }
    };
}
numbers! {
    V128_NOT 0x4d, V128_AND 0x4e, V128_ANDNOT 0x4f, V128_OR 0x50, V128_XOR 0x51,
    I8X16_SWIZZLE 0x0e, I8X16_EQ 0x23, I8X16_GT_S 0x27, I8X16_ABS 0x60, I8X16_BITMASK 0x64, I8X16_NARROW_S 0x65, I8X16_NARROW_U 0x66, I8X16_SHR_S 0x6c,
    I8X16_ADD 0x6e, I8X16_ADD_SAT_S 0x6f, I8X16_ADD_SAT_U 0x70, I8X16_SUB 0x71, I8X16_SUB_SAT_S 0x72, I8X16_SUB_SAT_U 0x73,
    I8X16_MIN_S 0x76, I8X16_MIN_U 0x77, I8X16_MAX_S 0x78, I8X16_MAX_U 0x79, I8X16_AVGR_U 0x7b,
    I16X8_EQ 0x2d, I16X8_GT_S 0x31, I16X8_EXTADD_PAIRWISE_U 0x7d, I16X8_ABS 0x80, I16X8_Q15MULR_SAT_S 0x82, I16X8_BITMASK 0x84, I16X8_NARROW_S 0x85, I16X8_NARROW_U 0x86,
    I16X8_EXTEND_LOW_S 0x87, I16X8_EXTEND_LOW_U 0x89, I16X8_SHL 0x8b, I16X8_SHR_S 0x8c, I16X8_SHR_U 0x8d,
    I16X8_ADD 0x8e, I16X8_ADD_SAT_S 0x8f, I16X8_ADD_SAT_U 0x90, I16X8_SUB 0x91, I16X8_SUB_SAT_S 0x92, I16X8_SUB_SAT_U 0x93, I16X8_MUL 0x95,
    I16X8_MIN_S 0x96, I16X8_MIN_U 0x97, I16X8_MAX_S 0x98, I16X8_MAX_U 0x99, I16X8_AVGR_U 0x9b,
    I32X4_EQ 0x37, I32X4_GT_S 0x3b, I32X4_EXTADD_PAIRWISE_U 0x7f, I32X4_ABS 0xa0, I32X4_BITMASK 0xa4, I32X4_EXTEND_LOW_S 0xa7, I32X4_EXTEND_LOW_U 0xa9,
    I32X4_SHL 0xab, I32X4_SHR_S 0xac, I32X4_SHR_U 0xad, I32X4_ADD 0xae, I32X4_SUB 0xb1, I32X4_MUL 0xb5,
    I32X4_MIN_S 0xb6, I32X4_MIN_U 0xb7, I32X4_MAX_S 0xb8, I32X4_MAX_U 0xb9, I32X4_DOT_S 0xba,
    I32X4_EXTMUL_LOW_S 0xbc, I32X4_EXTMUL_HIGH_S 0xbd, I32X4_EXTMUL_LOW_U 0xbe, I32X4_EXTMUL_HIGH_U 0xbf,
    I64X2_BITMASK 0xc4, I64X2_EXTEND_LOW_S 0xc7, I64X2_EXTEND_LOW_U 0xc9, I64X2_SHL 0xcb, I64X2_SHR_U 0xcd, I64X2_ADD 0xce, I64X2_SUB 0xd1,
    F32X4_EQ 0x41,
    F32X4_NE 0x42,
    F32X4_LT 0x43,
    F32X4_GT 0x44,
    F32X4_LE 0x45,
    F32X4_GE 0x46,
    F64X2_EQ 0x47,
    F64X2_NE 0x48,
    F64X2_LT 0x49,
    F64X2_GT 0x4a,
    F64X2_LE 0x4b,
    F64X2_GE 0x4c,
    F32X4_DEMOTE_F64X2_ZERO 0x5e,
    F64X2_PROMOTE_LOW_F32X4 0x5f,
    F32X4_NEAREST 0x6a,
    F64X2_NEAREST 0x94,
    F32X4_ABS 0xe0,
    F32X4_SQRT 0xe3,
    F32X4_ADD 0xe4,
    F32X4_SUB 0xe5,
    F32X4_MUL 0xe6,
    F32X4_DIV 0xe7,
    F32X4_PMIN 0xea,
    F32X4_PMAX 0xeb,
    F64X2_ABS 0xec,
    F64X2_SQRT 0xef,
    F64X2_ADD 0xf0,
    F64X2_SUB 0xf1,
    F64X2_MUL 0xf2,
    F64X2_DIV 0xf3,
    F64X2_PMIN 0xf6,
    F64X2_PMAX 0xf7,
    I32X4_TRUNC_SAT_F32X4_S 0xf8,
    F32X4_CONVERT_I32X4_S 0xfa,
    I32X4_TRUNC_SAT_F64X2_S_ZERO 0xfc,
    F64X2_CONVERT_LOW_I32X4_S 0xfe,
    I64X2_EQ 0xd6, I64X2_GT_S 0xd9, I64X2_EXTMUL_LOW_S 0xdc, I64X2_EXTMUL_LOW_U 0xde,
}

/// Appends an instruction.
fn put(lower: &mut Lower<'_>, Simd(number): Simd) {
    lower.code.number(0xfd, number);
}

/// Leaves the value on the stack: a v128, or an i64.
#[inline(never)]
pub fn write(lower: &mut Lower<'_>, node: Node) {
    match node {
        Node::Vector(v) => {
            lower.out().v128_const(vector::wide(v) as i128);
        }
        Node::Splat(v) => {
            lower.push(v);
            lower.out().i64x2_splat();
        }
        Node::Lane(Size::B8, 0, v) => {
            lower.push(v);
            lower.out().f64x2_extract_lane(0).i64_reinterpret_f64();
        }
        Node::Lane(Size::B8, lane, v) => {
            lower.push(v);
            lower.out().i64x2_extract_lane(lane);
        }
        Node::WithLane(size, lane, v, x) => {
            lower.push(v);
            if size == Size::B8 {
                lower.push(x);
            } else {
                lower.push32(x);
            }
            let mut out = lower.out();
            match size {
                Size::B1 => out.i8x16_replace_lane(lane),
                Size::B2 => out.i16x8_replace_lane(lane),
                Size::B4 => out.i32x4_replace_lane(lane),
                Size::B8 => out.i64x2_replace_lane(lane),
            };
        }
        Node::One(op, v) => {
            lower.push(v);
            put(lower, op);
        }
        Node::Two(op, a, b) => {
            lower.push(a);
            lower.push(b);
            put(lower, op);
        }
        Node::Shift(op, v, count) => {
            lower.push(v);
            lower.push32(count);
            put(lower, op);
        }
        Node::Shuffle(a, b, lanes) => {
            lower.push(a);
            lower.push(b);
            if let Node::Vector(lanes) = lower.node(lanes) {
                lower.out().i8x16_shuffle(vector::wide(lanes).to_le_bytes());
            }
        }
        Node::OfInt(Size::B4, v, x) => {
            lower.push(v);
            lower.push(x);
            lower.out().f32_convert_i64_s().f32x4_replace_lane(0);
        }
        Node::OfInt(_, v, x) => {
            lower.push(v);
            lower.push(x);
            lower.out().f64_convert_i64_s().f64x2_replace_lane(0);
        }
        Node::ToInt(Size::B4, v) => {
            lower.push(v);
            lower.out().f32x4_extract_lane(0).i64_trunc_sat_f32_s();
        }
        Node::ToInt(_, v) => {
            lower.push(v);
            lower.out().f64x2_extract_lane(0).i64_trunc_sat_f64_s();
        }
        Node::Low(op, size, a, b) => {
            lower.push(a);
            if op != LowOp::Sqrt {
                low(lower, size, a);
            }
            low(lower, size, b);
            let mut out = lower.out();
            if size == Size::B4 {
                match op {
                    LowOp::Add => out.f32_add(),
                    LowOp::Sub => out.f32_sub(),
                    LowOp::Mul => out.f32_mul(),
                    LowOp::Div => out.f32_div(),
                    LowOp::Sqrt => out.f32_sqrt(),
                };
                out.f32x4_replace_lane(0);
            } else {
                match op {
                    LowOp::Add => out.f64_add(),
                    LowOp::Sub => out.f64_sub(),
                    LowOp::Mul => out.f64_mul(),
                    LowOp::Div => out.f64_div(),
                    LowOp::Sqrt => out.f64_sqrt(),
                };
                out.f64x2_replace_lane(0);
            }
        }
        node => {
            write32(lower, node);
            lower.out().i64_extend_i32_u();
        }
    }
}

/// Leaves the low number on the stack.
fn low(lower: &mut Lower<'_>, size: Size, v: Val) {
    lower.push(v);
    if size == Size::B4 {
        lower.out().f32x4_extract_lane(0);
    } else {
        lower.out().f64x2_extract_lane(0);
    }
}

/// Leaves a value of up to 32 bits that is made of a vector on the stack as an i32.
pub fn write32(lower: &mut Lower<'_>, node: Node) {
    match node {
        Node::LowRelation(less, size, a, b) => {
            low(lower, size, a);
            low(lower, size, b);
            let mut out = lower.out();
            match (less, size) {
                (false, Size::B4) => out.f32_eq(),
                (true, Size::B4) => out.f32_lt(),
                (false, _) => out.f64_eq(),
                (true, _) => out.f64_lt(),
            };
        }
        Node::Mask(op, v) => {
            lower.push(v);
            put(lower, op);
        }
        Node::Lane(size, lane, v) => {
            lower.push(v);
            let mut out = lower.out();
            match size {
                Size::B1 => out.i8x16_extract_lane_u(lane),
                Size::B2 => out.i16x8_extract_lane_u(lane),
                _ => out.i32x4_extract_lane(lane),
            };
        }
        _ => unreachable!("other values are written elsewhere"),
    }
}
