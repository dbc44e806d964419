/* A program that becomes the process that a script makes: linked at an address where nothing else lies, and with no
 * C library. Arguments: the script's descriptor, and the control socket's. */
#include <asm/unistd.h>
#include <stddef.h>
#include <stdint.h>

#include "script.h"

enum { ADDR_NO_RANDOMIZE = 0x0040000, AT_SYSINFO_EHDR = 33, ASK = 0xffffffff };

static long call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    long result;
    register uint64_t r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

static int number_of(const char *text)
{
    int value = 0;
    for (; *text; text++)
        value = value * 10 + (*text - '0');
    return value;
}

__attribute__((noreturn, used)) static void begin(uint64_t *stack)
{
    uint64_t count = stack[0], all = ~0ull;
    char **arguments = (char **)(stack + 1), **environment = arguments + count + 1;
    if (count != 3)
        for (;;)
            call(__NR_exit_group, 2, 0, 0, 0);
    call(__NR_rt_sigprocmask, 0, (uintptr_t)&all, 0, 8);
    /* So that mappings begin as high as they can, above all that an image holds. Once more, where it may be set. */
    long personality = call(__NR_personality, ASK, 0, 0, 0);
    if (personality >= 0 && !(personality & ADDR_NO_RANDOMIZE) &&
        call(__NR_personality, personality | ADDR_NO_RANDOMIZE, 0, 0, 0) >= 0)
        call(__NR_execve, (uintptr_t)"/proc/self/exe", (uintptr_t)arguments, (uintptr_t)environment, 0);
    uint64_t *auxiliary = (uint64_t *)environment, vdso = 0;
    while (*auxiliary++)
        ;
    for (; auxiliary[0]; auxiliary += 2)
        if (auxiliary[0] == AT_SYSINFO_EHDR)
            vdso = auxiliary[1];
    snapserv_run_script(number_of(arguments[1]), number_of(arguments[2]), vdso);
}

/* The compiler may ask for these. */
void *memcpy(void *to, const void *from, size_t size)
{
    void *result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size)::"memory");
    return result;
}

void *memset(void *to, int value, size_t size)
{
    void *result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return result;
}

__asm__(".globl _start\n"
        "_start:\n"
        "    movq %rsp, %rdi\n"
        "    xorl %ebp, %ebp\n"
        "    andq $-16, %rsp\n"
        "    call begin\n"
        "    ud2\n");
