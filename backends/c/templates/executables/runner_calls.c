static const struct {
    int (*run)(const void *const inputs[], void *const outputs[], void *state, void *workspace,
        const void *weights, const struct qir_threads *threads);
    unsigned char *const *inputs, *const *outputs;
    const long *input_bytes, *output_bytes;
    int input_count, output_count;
} entries[@UPPER@_ENTRIES] = {
@ENTRIES@
};

/* `stack`: as Linux leaves it, where there is one. */
__attribute__((used, noreturn)) void qir_main(const unsigned long *stack) {
    uint32_t calls = 0, is_given = 0, number = 0;
    choose(stack);
    receive((unsigned char *)&calls, sizeof calls);
    receive((unsigned char *)&is_given, sizeof is_given);
    @NAME@_reset_state(state);
    if (is_given) receive(state, @UPPER@_STATE_BYTES);
    for (uint32_t i = 0; i < calls; i++) {
        receive((unsigned char *)&number, sizeof number);
        if (number >= @UPPER@_ENTRIES) leave(2);
        const int inputs = entries[number].input_count, outputs = entries[number].output_count;
        for (int k = 0; k < inputs; k++) {
            receive(entries[number].inputs[k], entries[number].input_bytes[k]);
        }
        if (entries[number].run((const void *const *)entries[number].inputs,
                (void *const *)entries[number].outputs, state, workspace, @NAME@_weights, 0)) {
            leave(1);
        }
        for (int k = 0; k < outputs; k++) {
            deliver(entries[number].outputs[k], entries[number].output_bytes[k]);
        }
    }
    deliver(state, @UPPER@_STATE_BYTES);
    leave(0);
    for (;;) {}
}
