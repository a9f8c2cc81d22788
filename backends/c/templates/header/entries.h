/* @NAME@: integer-only programs for @TARGET@, made by qir @VERSION@. They share weights@SHARED@. */
#ifndef @UPPER@_H
#define @UPPER@_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef @UPPER@_HOSTED
#define @UPPER@_HOSTED @HOSTED@ /* there is an operating system: threads and a clock */
#endif

/* Bytes. Workspace, weights and state lie at multiples of ALIGNMENT. INPUT_SLACK bytes after each
 * input may be read; they may hold anything. */
#define @UPPER@_ALIGNMENT @ALIGNMENT@
#define @UPPER@_INPUT_SLACK @SLACK@
#define @UPPER@_WORKSPACE_BYTES @WORKSPACE@
#define @UPPER@_WEIGHTS_BYTES @WEIGHTS@
#define @UPPER@_STATE_BYTES @STATE@
#define @UPPER@_ENTRIES @ENTRIES@

@THREADS@
/* The state is what calls keep for later ones, in memory of the caller's: STATE_BYTES, which may
 * be copied to save them, and copied back. It has no pointers in it. This is how it starts:
@STATES@
 */
void @NAME@_reset_state(void *state);

/* Every entry: stored integers in, stored integers out. Allocates nothing; several threads may call
 * any of them, each with its own workspace and state. `threads` may be null. Gives 0, and without
 * having computed anything 1 when a pointer is null (the state may be, where it has no bytes), 2
 * when workspace, weights or state are not aligned, 3 when an input is out of the range below.
 * After any of these the state is as it was. */
@FUNCTIONS@@VARIANTS@
#if @UPPER@_HOSTED
/* The numbers above as they were compiled, for loaders to compare: how many follow, qir_threads'
 * version, alignment, slack, bytes of workspace, weights and state, entries; then for each entry
 * bytes of stored, steps, inputs, outputs, and the bytes of each input and of each output. */
const uint64_t *@NAME@_sizes(void);

@POOL@#endif

#ifdef __cplusplus
}
#endif

#endif
