/* @NAME@: the border between reals and stored integers. Needs IEEE floats, and no -ffast-math. */
#include "@NAME@.h"

/* Added and taken away again, these round to an integer, ties to even: |v| < 2**22 and 2**51. */
#define ROUND 12582912.0f
#define ROUND_WIDE 6755399441055744.0

/* Stays a call: hundreds of loops merged into one function take compilers minutes. */
#ifdef __GNUC__
#define APART __attribute__((noinline))
#else
#define APART
#endif

@FUNCTIONS@
int @NAME@_run_float(const void *const inputs[], void *const outputs[], void *stored,
    void *workspace, const void *weights, const struct qir_threads *threads) {
    if (!inputs || !outputs || !stored || !workspace || !weights) return 1;
    for (int i = 0; i < @UPPER@_INPUTS; i++) {
        if (!inputs[i]) return 1;
    }
    for (int i = 0; i < @UPPER@_OUTPUTS; i++) {
        if (!outputs[i]) return 1;
    }
    const uintptr_t places = (uintptr_t)stored | (uintptr_t)workspace | (uintptr_t)weights;
    if (places % @UPPER@_ALIGNMENT) return 2;
    unsigned char *const s = stored;
    (void)s;
    const void *const whole_inputs[] = {@WHOLE_INPUTS@};
    void *const whole_outputs[] = {@WHOLE_OUTPUTS@};
@BEFORE@    const int fault = @NAME@_run(whole_inputs, whole_outputs, workspace, weights, threads);
    if (fault) return fault;
@AFTER@    return 0;
}
