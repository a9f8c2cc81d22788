/* @NAME@: the kernels in order. */
#define _POSIX_C_SOURCE 199309L
#include "@NAME@.h"

struct call {
    const void *const *inputs;
    void *const *outputs;
    unsigned char *workspace;
    const unsigned char *weights;
};

@KERNELS@

@FUNCTIONS@

struct step {
    qir_task run;
    int32_t units, grain;
};

struct order {
    const struct step *first;
    int32_t count;
};

@STEPS@

static int prepare(struct call *c, const void *const inputs[], void *const outputs[],
    void *workspace, const void *weights) {
    if (!inputs || !outputs || !workspace || !weights) return 1;
    for (int i = 0; i < @UPPER@_INPUTS; i++) {
        if (!inputs[i]) return 1;
    }
    for (int i = 0; i < @UPPER@_OUTPUTS; i++) {
        if (!outputs[i]) return 1;
    }
    const uintptr_t places = (uintptr_t)workspace | (uintptr_t)weights;
    if (places % @UPPER@_ALIGNMENT) return 2;
    c->inputs = inputs, c->outputs = outputs, c->workspace = workspace, c->weights = weights;
    return 0;
}

static void do_step(const struct step *s, const struct call *c, const struct qir_threads *threads) {
    if (threads && s->units > s->grain) {
        threads->run(threads->pool, s->run, c, s->units, s->grain);
    } else {
        s->run(c, 0, s->units, 0);
    }
}

int @NAME@_run(const void *const inputs[], void *const outputs[], void *workspace,
    const void *weights, const struct qir_threads *threads) {
    struct call c;
    const int fault = prepare(&c, inputs, outputs, workspace, weights);
    if (fault) return fault;
    const struct order order = order_of_steps();
    for (int32_t i = 0; i < order.count; i++) do_step(&order.first[i], &c, threads);
    return 0;
}

#if @UPPER@_HOSTED
#include <time.h>

const uint64_t *@NAME@_sizes(void) {
    static const uint64_t sizes[] = {
        @COUNT@, QIR_THREADS, @UPPER@_ALIGNMENT, @UPPER@_INPUT_SLACK, @UPPER@_WORKSPACE_BYTES,
        @UPPER@_WEIGHTS_BYTES, @UPPER@_STORED_BYTES, @UPPER@_STEPS, @UPPER@_INPUTS,
        @UPPER@_OUTPUTS,
        @SIZES@
    };
    return sizes;
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int @NAME@_profile(const void *const inputs[], void *const outputs[], void *workspace,
    const void *weights, const struct qir_threads *threads, uint64_t nanoseconds[@UPPER@_STEPS]) {
    struct call c;
    const int fault = prepare(&c, inputs, outputs, workspace, weights);
    if (fault) return fault;
    const struct order order = order_of_steps();
    for (int32_t i = 0; i < order.count; i++) {
        const uint64_t begin = now();
        do_step(&order.first[i], &c, threads);
        nanoseconds[i] = now() - begin;
    }
    return 0;
}
#endif
