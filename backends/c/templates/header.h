/* @NAME@: an integer-only program for @TARGET@, made by qir @VERSION@. */
#ifndef @UPPER@_H
#define @UPPER@_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define @UPPER@_INPUTS @INPUTS@
#define @UPPER@_OUTPUTS @OUTPUTS@
#define @UPPER@_STEPS @STEPS@
#ifndef @UPPER@_HOSTED
#define @UPPER@_HOSTED @HOSTED@ /* there is an operating system: threads and a clock */
#endif

/* Bytes. Workspace and weights lie at multiples of ALIGNMENT. INPUT_SLACK bytes after each input
 * may be read; they may hold anything. STORED_BYTES: scratch of @NAME@_run_float. */
#define @UPPER@_ALIGNMENT @ALIGNMENT@
#define @UPPER@_INPUT_SLACK @SLACK@
#define @UPPER@_WORKSPACE_BYTES @WORKSPACE@
#define @UPPER@_WEIGHTS_BYTES @WEIGHTS@
#define @UPPER@_STORED_BYTES @STORED@

#ifndef QIR_THREADS
#define QIR_THREADS 2 /* the version of what follows */
typedef void (*qir_task)(const void *context, int32_t begin, int32_t end, int32_t thread);

/* A parallel-for: does task(context, b, e, t) for pieces [b, e) that make up [0, units), on any
 * threads, and returns when all are done. `t` is from 0 to count - 1, and no two pieces of a job
 * have the same one at the same time. Pieces under `grain` units are not worth a thread. */
struct qir_threads {
    void (*run)(void *pool, qir_task task, const void *context, int32_t units, int32_t grain);
    void *pool;
    int32_t count;
};
#elif QIR_THREADS != 2
#error "qir_threads of another version: all programs are to be compiled by one qir"
#endif

/* Stored integers in, stored integers out. Allocates nothing; several threads may call it, each
 * with its own workspace. `threads` may be null.
@VALUES@
 * Gives 0, and without having computed anything 1 when a pointer is null, 2 when workspace or
 * weights are not aligned. */
int @NAME@_run(const void *const inputs[], void *const outputs[], void *workspace,
    const void *weights, const struct qir_threads *threads);

/* The border: reals (float) in and out, for those that stand for reals. `stored` is scratch of
 * STORED_BYTES, aligned like the workspace. Gives what @NAME@_run gives, 2 for `stored` too. */
int @NAME@_run_float(const void *const inputs[], void *const outputs[], void *stored,
    void *workspace, const void *weights, const struct qir_threads *threads);
@BORDER@@VARIANTS@
#if @UPPER@_HOSTED
/* @NAME@_run, and the nanoseconds that each step took. */
int @NAME@_profile(const void *const inputs[], void *const outputs[], void *workspace,
    const void *weights, const struct qir_threads *threads, uint64_t nanoseconds[@UPPER@_STEPS]);

/* The numbers above as they were compiled, for loaders to compare: how many follow, qir_threads'
 * version, alignment, slack, bytes of workspace, weights and stored, steps, inputs, outputs, then
 * the bytes of each input and of each output. */
const uint64_t *@NAME@_sizes(void);

/* `count` threads, the caller's included; null when they cannot be had. Any program may use them,
 * from several threads at once: one job at a time is shared, others run alone. A forked child may
 * go on with its parent's, and runs alone. Stop them when no call is left that uses them. */
const struct qir_threads *@NAME@_pool_start(int count);
void @NAME@_pool_stop(const struct qir_threads *threads);
#endif

#ifdef __cplusplus
}
#endif

#endif
