static int @LOCAL@prepare(struct call *c, const void *const inputs[], void *const outputs[],
    @STATE@void *workspace, const void *weights) {
    if (!inputs || !outputs || @IS_NULL@!workspace || !weights) return 1;
    for (int i = 0; i < @MACRO@_INPUTS; i++) {
        if (!inputs[i]) return 1;
    }
    for (int i = 0; i < @MACRO@_OUTPUTS; i++) {
        if (!outputs[i]) return 1;
    }
    const uintptr_t places = @PLACE@(uintptr_t)workspace | (uintptr_t)weights;
    if (places % @UPPER@_ALIGNMENT) return 2;
@LIMITS@    c->inputs = inputs, c->outputs = outputs, c->workspace = workspace, c->weights = weights;
@KEEP@    return 0;
}
