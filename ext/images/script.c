#include "script.h"

#include <stddef.h>

#include "processes/messages.h"
#include "registers.h"

#ifdef __x86_64__

#include <asm/unistd.h>
#include <linux/mman.h>

/* Nothing of the C library: its variables are of the process that is replaced. */
static long call(long number, const uint64_t *arguments)
{
    long result;
    register uint64_t r10 __asm__("r10") = arguments[3];
    register uint64_t r8 __asm__("r8") = arguments[4];
    register uint64_t r9 __asm__("r9") = arguments[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(arguments[0]), "S"(arguments[1]), "d"(arguments[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static long call_with(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    const uint64_t arguments[6] = {a, b, c, d, e, f};
    return call(number, arguments);
}

static int failed(long result)
{
    return result < 0 && result > -4096;
}

/* Tell the server, and end. */
__attribute__((noreturn)) static void fail(uint64_t control, long error, int64_t operation)
{
    struct {
        struct snapserv_prefix prefix;
        struct snapserv_failure failure;
    } message = {{SNAPSERV_FAILED, 0, sizeof message.failure}, {-error, operation}};
    call_with(__NR_write, control, (uintptr_t)&message, sizeof message, 0, 0, 0);
    for (;;)
        call_with(__NR_exit_group, 1, 0, 0, 0, 0, 0);
}

static uint64_t resolve(uint64_t value, unsigned added, const uint64_t *slots)
{
    if (added == SNAPSERV_NOTHING)
        return value;
    return value + (added == SNAPSERV_THE_SCRIPT ? SNAPSERV_SCRIPT_AT : slots[added - SNAPSERV_A_SLOT]);
}

static void run(const struct snapserv_operation *operation, uint64_t *slots, int64_t number)
{
    uint64_t arguments[6];
    for (int i = 0; i < 6; i++)
        arguments[i] = resolve(operation->arguments[i], operation->added[i], slots);
    if (operation->call == SNAPSERV_POKE) {
        *(volatile uint32_t *)arguments[0] = (uint32_t)arguments[1];
        return;
    }
    long result = call(operation->call, arguments);
    if (operation->check == SNAPSERV_MUST_SUCCEED && failed(result))
        fail(slots[SNAPSERV_SLOT_CONTROL], result, number);
    if (operation->check == SNAPSERV_MUST_EQUAL && result != operation->expected)
        fail(slots[SNAPSERV_SLOT_CONTROL], failed(result) ? result : 0, number);
    if (operation->into < SNAPSERV_SLOTS)
        slots[operation->into] = result;
}

/* The stack that this runs on is the script's own. */
__attribute__((noreturn, used)) static void run_all(uint64_t script, uint64_t control, uint64_t vdso)
{
    const struct snapserv_script *head = (const void *)SNAPSERV_SCRIPT_AT;
    uint64_t slots[SNAPSERV_SLOTS] = {[SNAPSERV_SLOT_SCRIPT] = script,
                                      [SNAPSERV_SLOT_CONTROL] = control,
                                      [SNAPSERV_SLOT_VDSO] = vdso};
    for (uint64_t i = 0; i < head->count; i++)
        run(&head->operations[i], slots, i);
    if (head->registers == 0)
        for (;;)
            call_with(__NR_exit_group, 0, 0, 0, 0, 0, 0);
    const struct snapserv_registers *registers = (const void *)head->registers;
    __asm__ volatile("jmp *%0" ::"r"(registers->resume), "D"(registers) : "memory");
    __builtin_unreachable();
}

void snapserv_run_script(int script, int control, uint64_t vdso)
{
    struct snapserv_script head;
    long got = call_with(__NR_pread64, script, (uintptr_t)&head, sizeof head, 0, 0, 0);
    if (got != sizeof head || head.magic != SNAPSERV_SCRIPT_MAGIC)
        fail(control, failed(got) ? got : 0, -1);
    got = call_with(__NR_mmap, SNAPSERV_SCRIPT_AT, head.mapped, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, script, 0);
    if (got != (long)SNAPSERV_SCRIPT_AT)
        fail(control, failed(got) ? got : 0, -2);
    got = call_with(__NR_mmap, SNAPSERV_STACK_AT, SNAPSERV_STACK_SIZE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != (long)SNAPSERV_STACK_AT)
        fail(control, failed(got) ? got : 0, -3);
    __asm__ volatile("movq %0, %%rsp\n\t"
                     "xorl %%ebp, %%ebp\n\t"
                     "call *%1\n\t"
                     "ud2"
                     :
                     : "r"(SNAPSERV_STACK_AT + SNAPSERV_STACK_SIZE), "r"(run_all), "D"((uint64_t)script),
                       "S"((uint64_t)control), "d"(vdso)
                     : "memory");
    __builtin_unreachable();
}

#else

#include <unistd.h>

/* Unreachable: no image says that it can be entered. */
void snapserv_run_script(int script, int control, uint64_t vdso)
{
    (void)script, (void)control, (void)vdso;
    _exit(1);
}

#endif
