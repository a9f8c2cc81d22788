/* What compilers may call where there is no C library; used by the runner alone. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    unsigned char *t = to;
    const unsigned char *f = from;
    while (size--) *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    unsigned char *t = to;
    const unsigned char *f = from;
    if (t < f) {
        while (size--) *t++ = *f++;
    } else {
        while (size--) t[size] = f[size];
    }
    return to;
}

void *memset(void *to, int value, size_t size) {
    unsigned char *t = to;
    while (size && (uintptr_t)t % sizeof(uint64_t)) *t++ = (unsigned char)value, size--;
    const uint64_t word = 0x0101010101010101u * (unsigned char)value;
    for (; size >= sizeof word; t += sizeof word, size -= sizeof word) *(uint64_t *)t = word;
    while (size--) *t++ = (unsigned char)value;
    return to;
}

#if defined(__aarch64__)
/* As Linux leaves it: count, arguments, null, environment, null, then pairs of type and value. */
const unsigned long *qir_stack;

unsigned long getauxval(unsigned long type) {
    const unsigned long *at = qir_stack + qir_stack[0] + 2;
    while (*at++) {}
    for (; at[0]; at += 2) {
        if (at[0] == type) return at[1];
    }
    return 0;
}
#elif defined(__arm__)
void __aeabi_memcpy(void *to, const void *from, size_t size) { memcpy(to, from, size); }
void __aeabi_memcpy4(void *to, const void *from, size_t size) { memcpy(to, from, size); }
void __aeabi_memcpy8(void *to, const void *from, size_t size) { memcpy(to, from, size); }
void __aeabi_memmove(void *to, const void *from, size_t size) { memmove(to, from, size); }
void __aeabi_memset(void *to, size_t size, int value) { memset(to, value, size); }
void __aeabi_memset4(void *to, size_t size, int value) { memset(to, value, size); }
void __aeabi_memset8(void *to, size_t size, int value) { memset(to, value, size); }
void __aeabi_memclr(void *to, size_t size) { memset(to, 0, size); }
void __aeabi_memclr4(void *to, size_t size) { memset(to, 0, size); }
void __aeabi_memclr8(void *to, size_t size) { memset(to, 0, size); }
#elif defined(__hexagon__)
void *__hexagon_memcpy_likely_aligned_min32bytes_mult8bytes(void *to, const void *from, size_t size) {
    return memcpy(to, from, size);
}
#endif
