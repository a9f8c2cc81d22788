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

@THREADS@
/* Stored integers in, stored integers out. Allocates nothing; several threads may call it, each
 * with its own workspace. `threads` may be null.
@VALUES@
 * Gives 0, and without having computed anything 1 when a pointer is null, 2 when workspace or
 * weights are not aligned@RANGE@. */
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

@POOL@#endif

#ifdef __cplusplus
}
#endif

#endif
