#include <cpuid.h>

/* What the processor says of itself, and in the last word which registers the system keeps. */
static void ask(uint32_t words[WORDS]) {
    uint32_t a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d)) words[0] = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        words[1] = b, words[2] = c;
        if (a && __get_cpuid_count(7, 1, &a, &b, &c, &d)) words[3] = a;
    }
    if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) words[4] = c;
    if (words[0] >> 27 & 1) __asm__ volatile("xgetbv" : "=a"(words[5]), "=d"(d) : "c"(0));
}
