#include "registers.h"

#include <stddef.h>

#ifdef __x86_64__

_Static_assert(offsetof(struct snapserv_registers, rsp) == 48 && offsetof(struct snapserv_registers, mxcsr) == 64 &&
                   offsetof(struct snapserv_registers, x87) == 68 && offsetof(struct snapserv_registers, resume) == 72,
               "as the code below has it");

__asm__(".text\n"
        ".globl snapserv_save_registers\n"
        ".type snapserv_save_registers, @function\n"
        "snapserv_save_registers:\n"
        "    movq %rbx, (%rdi)\n"
        "    movq %rbp, 8(%rdi)\n"
        "    movq %r12, 16(%rdi)\n"
        "    movq %r13, 24(%rdi)\n"
        "    movq %r14, 32(%rdi)\n"
        "    movq %r15, 40(%rdi)\n"
        "    leaq 8(%rsp), %rax\n"
        "    movq %rax, 48(%rdi)\n"
        "    movq (%rsp), %rax\n"
        "    movq %rax, 56(%rdi)\n"
        "    stmxcsr 64(%rdi)\n"
        "    fnstcw 68(%rdi)\n"
        "    leaq 1f(%rip), %rax\n"
        "    movq %rax, 72(%rdi)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"
        "1:\n"
        "    movq (%rdi), %rbx\n"
        "    movq 8(%rdi), %rbp\n"
        "    movq 16(%rdi), %r12\n"
        "    movq 24(%rdi), %r13\n"
        "    movq 32(%rdi), %r14\n"
        "    movq 40(%rdi), %r15\n"
        "    movq 48(%rdi), %rsp\n"
        "    ldmxcsr 64(%rdi)\n"
        "    fldcw 68(%rdi)\n"
        "    movl $1, %eax\n"
        "    jmp *56(%rdi)\n"
        ".size snapserv_save_registers, . - snapserv_save_registers\n");

#else

int snapserv_save_registers(struct snapserv_registers *into)
{
    into->resume = 0;
    return 0;
}

#endif
