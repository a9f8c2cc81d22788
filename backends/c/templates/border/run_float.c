@FUNCTIONS@
int @C_NAME@_run_float(const void *const inputs[], void *const outputs[], void *stored,
    @STATE@void *workspace, const void *weights, const struct qir_threads *threads) {
    if (!inputs || !outputs || !stored || @IS_NULL@!workspace || !weights) return 1;
    for (int i = 0; i < @MACRO@_INPUTS; i++) {
        if (!inputs[i]) return 1;
    }
    for (int i = 0; i < @MACRO@_OUTPUTS; i++) {
        if (!outputs[i]) return 1;
    }
    const uintptr_t places = (uintptr_t)stored | @PLACE@(uintptr_t)workspace | (uintptr_t)weights;
    if (places % @UPPER@_ALIGNMENT) return 2;
    unsigned char *const s = stored;
    (void)s;
    const void *const whole_inputs[] = {@WHOLE_INPUTS@};
    void *const whole_outputs[] = {@WHOLE_OUTPUTS@};
@BEFORE@    const int fault = @C_NAME@_run(whole_inputs, whole_outputs, @GIVEN@workspace, weights, threads);
    if (fault) return fault;
@AFTER@    return 0;
}
