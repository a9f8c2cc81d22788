/* `stack`: as Linux leaves it, where there is one. */
__attribute__((used, noreturn)) void qir_main(const unsigned long *stack) {
    static const long input_bytes[] = {@INPUT_BYTES@}, output_bytes[] = {@OUTPUT_BYTES@};
    static unsigned char *const inputs[] = {@INPUTS@}, *const outputs[] = {@OUTPUTS@};
    uint32_t cases = 0;
    choose(stack);
    receive((unsigned char *)&cases, sizeof cases);
    for (uint32_t i = 0; i < cases; i++) {
        for (int k = 0; k < @UPPER@_INPUTS; k++) receive(inputs[k], input_bytes[k]);
        if (@NAME@_run((const void *const *)inputs, (void *const *)outputs, workspace,
                @NAME@_weights, 0)) leave(1);
        for (int k = 0; k < @UPPER@_OUTPUTS; k++) deliver(outputs[k], output_bytes[k]);
    }
    leave(0);
    for (;;) {}
}
