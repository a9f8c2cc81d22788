int @C_NAME@_profile(const void *const inputs[], void *const outputs[], @STATE@void *workspace,
    const void *weights, const struct qir_threads *threads, uint64_t nanoseconds[@MACRO@_STEPS]) {
    struct call c;
    const int fault = @LOCAL@prepare(&c, inputs, outputs, @GIVEN@workspace, weights);
    if (fault) return fault;
    const struct order order = order_of_steps(@WHICH@);
    for (int32_t i = 0; i < order.count; i++) {
        const uint64_t begin = now();
        do_step(&order.first[i], &c, threads);
        nanoseconds[i] = now() - begin;
    }
    return 0;
}
