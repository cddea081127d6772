# The ways in. Each one ends at `rust_main` in 64-bit mode, on our own stack, page tables and
# segments, with the address of what the loader left for us and its kind.

.section .text.start, "ax"

# Linux 64-bit boot protocol (Documentation/arch/x86/boot.rst): RSI = zero page.
.code64
.global linux64_entry
linux64_entry:
    cli
    mov rdi, rsi
    mov esi, 0
    jmp enter64

# PVH (Xen docs/misc/pvh.pandoc): 32-bit protected mode, no paging, EBX = start info.
.code32
.global pvh_entry
pvh_entry:
    cli
    cld
    mov eax, cr4
    or eax, 0x20                        # PAE
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080                 # IA32_EFER
    rdmsr
    or eax, 0x100                       # LME
    wrmsr
    mov eax, cr0
    or eax, 0x80000001                  # PG, PE
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    # Intel syntax has no far jump with an immediate that all assemblers agree on.
    push 0x08
    mov eax, offset pvh_64
    push eax
    retf

.code64
pvh_64:
    mov edi, ebx
    mov esi, 1

enter64:
    cld
    mov eax, offset boot_pml4
    mov cr3, rax
    lgdt [boot_gdt_pointer]
    mov esp, offset boot_stack_top
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    push 0x08
    mov eax, offset reload_cs
    push rax
    retfq
reload_cs:
    xor ebp, ebp
    call rust_main
1:  hlt
    jmp 1b

# Runs f(arg) so that an exception in it comes back here: guarded(f, arg) -> 0, or 1 after one.
.section .text, "ax"
.global guarded
guarded:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push qword ptr [guard_rsp]          # guards nest
    mov [guard_rsp], rsp
    mov rax, rdi
    mov rdi, rsi
    call rax
    xor eax, eax
    jmp 2f
.global guard_landing
guard_landing:                          # the exception handler returns here, RSP as saved
    mov eax, 1
2:  mov rsp, [guard_rsp]
    pop qword ptr [guard_rsp]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

# One small entry per vector, 16 bytes apart: an error code if the CPU pushed none, then the vector.
.balign 16
.global trap_entries
trap_entries:
.set vector, 0
.rept 48
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    .else
    push 0
    .endif
    push vector
    jmp trap_common
    .set vector, vector + 1
.endr

trap_common:
    push r15
    push r14
    push r13
    push r12
    push r11
    push r10
    push r9
    push r8
    push rbp
    push rdi
    push rsi
    push rdx
    push rcx
    push rbx
    push rax
    cld
    mov rdi, rsp
    # The frame has an even number of words on a stack the CPU aligned to 16: call keeps the ABI.
    call rust_trap
    pop rax
    pop rbx
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    pop rbp
    pop r8
    pop r9
    pop r10
    pop r11
    pop r12
    pop r13
    pop r14
    pop r15
    add rsp, 16
    iretq

.section .data, "aw"
# The first 4 GiB mapped to themselves in pages of 2 MiB.
.balign 4096
boot_pml4:
    .quad boot_pdpt + 3
    .fill 511, 8, 0
boot_pdpt:
    .quad boot_pd + 3, boot_pd + 0x1003, boot_pd + 0x2003, boot_pd + 0x3003
    .fill 508, 8, 0
boot_pd:
.set page, 0
.rept 2048
    .quad (page << 21) + 0x83
    .set page, page + 1
.endr

.balign 16
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 08: 64-bit code
    .quad 0x00cf93000000ffff            # 10: data
    .quad 0, 0                          # 18: the TSS, filled in by `trap::init`
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .quad boot_gdt
.balign 8
.global guard_rsp
guard_rsp:
    .quad 0

.section .bss, "aw", @nobits
.balign 16
    .skip 65536
boot_stack_top:

# XEN_ELFNOTE_PHYS32_ENTRY: where PVH enters.
.section .note.xen, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_entry
