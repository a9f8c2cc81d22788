/* The system calls of runner.c on a bare Cortex-M55 under a debugger or QEMU: Arm's semihosting.
 *
 * Standard input and output are the host's, opened by their names there; the exit status is the
 * host's too, 4 after a fault. Nothing in memory needs to be zero or copied at the start.
 */
#include <stdint.h>

enum { READ = 0x06, WRITE = 0x05, EXIT = 0x20 };
enum { OPEN = 0x01, OPEN_TO_READ = 1, OPEN_TO_APPEND = 9, APPLICATION_EXIT = 0x20026 };

static long call_host(long number, const volatile void *block) {
    register long r0 __asm__("r0") = number;
    register const volatile void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt #0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static long opened(int is_output) {
    static const char *const names[] = {"/dev/stdin", "/dev/stdout"};
    static long handles[2] = {-1, -1};
    const long block[] = {(long)names[is_output], is_output ? OPEN_TO_APPEND : OPEN_TO_READ,
                          is_output ? 11 : 10};
    if (handles[is_output] == -1) handles[is_output] = call_host(OPEN, block);
    return handles[is_output];
}

/* As system calls do it: the bytes read or written, 0 at the end of the input. */
static long call_system(long number, long a, const void *b, long c) {
    if (number == EXIT) {
        const long block[] = {APPLICATION_EXIT, a};
        return call_host(EXIT, block);
    }
    const long block[] = {opened(number == WRITE), (long)b, c};
    const long left = call_host(number, block);
    return left < 0 ? left : c - left;
}

__attribute__((used, noreturn)) static void fault(void) {
    for (;;) call_system(EXIT, 4, 0, 0);
}

void _start(void);
extern unsigned char qir_stack[];

/* The stack, the reset, and the faults that can come before any interrupt is enabled. */
__attribute__((used, section(".vectors"))) static const void *const vectors[16] = {
    qir_stack, (const void *)_start, (const void *)fault, (const void *)fault,
    (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
};

/* Full access to the coprocessors 10 and 11 (floats and MVE) before anything uses them. */
__asm__(".syntax unified\n.thumb\n.globl _start\n.thumb_func\n_start:\n"
        " ldr r0, =0xe000ed88\n ldr r1, [r0]\n orr r1, r1, #0xf00000\n str r1, [r0]\n"
        " dsb\n isb\n b qir_main\n .ltorg\n");
