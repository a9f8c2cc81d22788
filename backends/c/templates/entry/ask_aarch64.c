#include <sys/auxv.h>

/* What the system says of the processor: its two words of capabilities. */
static void ask(uint32_t words[WORDS]) {
    words[0] = (uint32_t)getauxval(AT_HWCAP);
    words[1] = (uint32_t)getauxval(AT_HWCAP2);
}
