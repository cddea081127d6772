//! The `fault` command: exceptions on purpose. Each is reported with all registers, and the shell
//! goes on.

use crate::{println, trap};
use core::arch::asm;

type Case = (&'static str, &'static str, extern "C" fn(u64));

const CASES: [Case; 8] = [
    ("divide", "a division by zero (#DE)", divide),
    ("page", "a read from an address that is not mapped (#PF)", page),
    ("opcode", "an instruction that is not one (#UD)", opcode),
    ("protection", "a read from an address that is not canonical (#GP)", protection),
    ("stack", "a read through RBP from an address that is not canonical (#SS)", stack),
    ("segment", "a selector beyond the end of the GDT (#GP with the selector)", segment),
    ("breakpoint", "INT3: reported, and execution goes on (#BP)", breakpoint),
    ("double", "a page fault that finds no stack: a double fault on a stack of its own (#DF)", double),
];

/// Runs a case by name; without one, or with a wrong one, lists them.
pub fn command(name: &str) {
    match CASES.iter().find(|c| c.0 == name) {
        Some((_, _, f)) => {
            if !trap::guard(*f, 0) {
                println!("the exception was reported, and here is the shell again");
            }
        }
        None => {
            println!("fault CASE, where CASE is one of");
            for (name, text, _) in CASES {
                println!("  {name:<11} {text}");
            }
        }
    }
}

extern "C" fn divide(_: u64) {
    // SAFETY: the code below raises an exception, after which the guard abandons the function.
    unsafe { asm!("xor edx, edx", "mov eax, 42", "xor ecx, ecx", "div ecx", out("eax") _, out("edx") _, out("ecx") _) };
}
extern "C" fn page(_: u64) {
    // SAFETY: as above. 256 GiB is beyond the 4 GiB that are mapped.
    unsafe { asm!("mov rax, [rcx]", in("rcx") 1u64 << 38, out("rax") _) };
}
extern "C" fn opcode(_: u64) {
    // SAFETY: as above.
    unsafe { asm!("ud2") };
}
extern "C" fn protection(_: u64) {
    // SAFETY: as above.
    unsafe { asm!("mov rax, [rcx]", in("rcx") 1u64 << 62, out("rax") _) };
}
extern "C" fn stack(_: u64) {
    // SAFETY: as above; RBP-relative accesses use SS, so this is #SS on a good stack.
    unsafe { asm!("push rbp", "mov rbp, rcx", "mov rax, [rbp]", "pop rbp", in("rcx") 1u64 << 62, out("rax") _) };
}
extern "C" fn segment(_: u64) {
    // SAFETY: as above.
    unsafe { asm!("mov fs, ecx", in("ecx") 0x40) };
}
extern "C" fn breakpoint(_: u64) {
    // SAFETY: the handler returns behind the instruction.
    unsafe { asm!("int3") };
}
extern "C" fn double(_: u64) {
    // SAFETY: as above; #DF has a stack of its own.
    unsafe { asm!("mov rsp, rcx", "push rax", in("rcx") 1u64 << 38) };
}
