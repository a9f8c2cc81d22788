
/* @ENTRY@
@VALUES@
 */
#define @MACRO@_INPUTS @INPUTS@
#define @MACRO@_OUTPUTS @OUTPUTS@
#define @MACRO@_STEPS @STEPS@
#define @MACRO@_STORED_BYTES @STORED@ /* scratch of @C_NAME@_run_float, aligned too */
int @C_NAME@_run(const void *const inputs[], void *const outputs[], void *state, void *workspace,
    const void *weights, const struct qir_threads *threads);

/* The border: reals (float) in and out, for those that stand for reals. */
int @C_NAME@_run_float(const void *const inputs[], void *const outputs[], void *stored,
    void *state, void *workspace, const void *weights, const struct qir_threads *threads);
@BORDER@
#if @UPPER@_HOSTED
/* @C_NAME@_run, and the nanoseconds that each step took. */
int @C_NAME@_profile(const void *const inputs[], void *const outputs[], void *state,
    void *workspace, const void *weights, const struct qir_threads *threads,
    uint64_t nanoseconds[@MACRO@_STEPS]);
#endif
