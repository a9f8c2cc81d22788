/* @NAME@: the kernels in order. */
#define _POSIX_C_SOURCE 199309L
#include "@NAME@.h"

struct call {
    const void *const *inputs;
    void *const *outputs;
@FIELD@    unsigned char *workspace;
    const unsigned char *weights;
};

/* Functions that are alike stay apart: GCC 12 merges them (-fipa-icf), and then has compiled the
 * kernels inside them to other results. */
#ifdef __has_attribute
#if __has_attribute(no_icf)
#define APART __attribute__((no_icf))
#endif
#endif
#ifndef APART
#define APART
#endif

@KERNELS@

@FUNCTIONS@

struct step {
    qir_task run;
    int32_t units, grain;
@OF_JOB@};

struct order {
    const struct step *first;
    int32_t count;
};

@STEPS@

@PREPARES@
static void do_step(const struct step *s, const struct call *c, const struct qir_threads *threads) {
    if (threads && s->units > s->grain) {
        threads->run(threads->pool, s->run, c, s->units, s->grain);
    } else {
        s->run(c, 0, s->units, 0);
    }
}

@JOB@@RUNS@
#if @UPPER@_HOSTED
#include <time.h>

const uint64_t *@NAME@_sizes(void) {
    static const uint64_t sizes[] = {
        @SIZES@
    };
    return sizes;
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

@PROFILES@#endif
