/* Runs @NAME@ alone, without a C library: for a machine of this kind, or an emulator of one.
 *
@PROTOCOL@ Exit: 0, 1 when @NAME@_run fails, 2 when the
 * input ends early, 3 when the output cannot be written. Where there are variants: the argument N
 * takes variant N, exit 5 when it cannot run; `which` writes the number of the one that runs, of
 * 32 bits, and nothing else.
 */
#include "@NAME@.h"

#if __has_include("semihosting.h")
#include "semihosting.h"
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, EXIT = 93 };
static long call_system(long number, long a, const void *b, long c) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register const void *x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
__asm__(".globl _start\n_start:\n mov x29, #0\n mov x0, sp\n and sp, x0, #-128\n b qir_main\n");
#elif defined(__arm__)
enum { READ = 3, WRITE = 4, EXIT = 1 };
static long call_system(long number, long a, const void *b, long c) {
    register long r7 __asm__("r7") = number;
    register long r0 __asm__("r0") = a;
    register const void *r1 __asm__("r1") = b;
    register long r2 __asm__("r2") = c;
    __asm__ volatile("svc #0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
    return r0;
}
#if defined(__thumb__)
__asm__(".syntax unified\n.thumb\n.globl _start\n.thumb_func\n_start:\n bl qir_main\n");
#else
__asm__(".globl _start\n_start:\n bic sp, sp, #127\n bl qir_main\n");
#endif
#elif defined(__hexagon__)
enum { READ = 63, WRITE = 64, EXIT = 93 };
static long call_system(long number, long a, const void *b, long c) {
    register long r6 __asm__("r6") = number;
    register long r0 __asm__("r0") = a;
    register const void *r1 __asm__("r1") = b;
    register long r2 __asm__("r2") = c;
    __asm__ volatile("trap0(#1)" : "+r"(r0) : "r"(r6), "r"(r1), "r"(r2) : "memory");
    return r0;
}
__asm__(".globl _start\n_start:\n { r29 = and(r29,#-128) }\n { call qir_main }\n");
#elif defined(__riscv)
enum { READ = 63, WRITE = 64, EXIT = 93 };
static long call_system(long number, long a, const void *b, long c) {
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register const void *a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
    return a0;
}
__asm__(".globl _start\n_start:\n andi sp, sp, -128\n call qir_main\n");
#else
#error "no system calls are written for this machine"
#endif

#define ALIGNED __attribute__((aligned(128)))
#define ROOM(bytes) (((bytes) + 2 * @UPPER@_ALIGNMENT - 1) & ~(@UPPER@_ALIGNMENT - 1))

extern const unsigned char @NAME@_weights[];
static unsigned char workspace[@UPPER@_WORKSPACE_BYTES + 128] ALIGNED;
@BUFFERS@

static void leave(int status) {
    for (;;) call_system(EXIT, status, 0, 0);
}

static void receive(unsigned char *to, long size) {
    while (size > 0) {
        const long got = call_system(READ, 0, to, size);
        if (got <= 0) leave(2);
        to += got, size -= got;
    }
}

static void deliver(const unsigned char *from, long size) {
    while (size > 0) {
        const long put = call_system(WRITE, 1, from, size);
        if (put <= 0) leave(3);
        from += put, size -= put;
    }
}

#ifdef @UPPER@_VARIANTS
extern const unsigned long *qir_stack;

static void choose(const unsigned long *stack) {
    const char *const word = stack[0] > 1 ? (const char *)stack[2] : "";
    qir_stack = stack;
    if (*word >= '0' && *word <= '9') {
        if (@NAME@_use_variant(*word - '0')) leave(5);
    } else if (*word) {
        const int32_t number = @NAME@_variant();
        deliver((const unsigned char *)&number, sizeof number);
        leave(0);
    }
}
#else
#define choose(stack) (void)(stack)
#endif

@MAIN@