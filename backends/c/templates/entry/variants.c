#include <stdatomic.h>

@TABLES@

enum { WORDS = @WORDS@ };

@ASK@
/* The same network for several kinds of processor, and the features that each needs, as bits of the
 * words above. A later one is faster; the first needs nothing. */
static const struct variant {
    struct order @ORDERS@;
    uint32_t needs[WORDS];
} variants[@UPPER@_VARIANTS] = {
@VARIANTS@
};

static int fits(const struct variant *v, const uint32_t words[WORDS]) {
    uint32_t missing = 0;
    for (int i = 0; i < WORDS; i++) missing |= v->needs[i] & ~words[i];
    return !missing;
}

/* Numbers of variants, one added: 0 is none yet. Threads that meet here find the same. */
static _Atomic int wanted, found;

static int best(void) {
    uint32_t words[WORDS] = {0};
    int number = @UPPER@_VARIANTS - 1;
    ask(words);
    while (number && !fits(&variants[number], words)) number--;
    return number;
}

static int in_use(void) {
    int number = atomic_load_explicit(&wanted, memory_order_relaxed);
    if (!number) number = atomic_load_explicit(&found, memory_order_relaxed);
    if (!number) {
        number = best() + 1;
        atomic_store_explicit(&found, number, memory_order_relaxed);
    }
    return number - 1;
}

int @NAME@_variant(void) {
    return in_use();
}

int @NAME@_use_variant(int number) {
    uint32_t words[WORDS] = {0};
    if (number >= @UPPER@_VARIANTS) return 1;
    ask(words);
    if (number > 0 && !fits(&variants[number], words)) return 2;
    atomic_store_explicit(&wanted, number < 0 ? 0 : number + 1, memory_order_relaxed);
    return 0;
}

static struct order order_of_steps(@WHICH@) {
    return variants[in_use()].@TAKEN@;
}
