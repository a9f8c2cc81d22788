int @C_NAME@_run(const void *const inputs[], void *const outputs[], @STATE@void *workspace,
    const void *weights, const struct qir_threads *threads) {
    struct call c;
    const int fault = @LOCAL@prepare(&c, inputs, outputs, @GIVEN@workspace, weights);
    if (fault) return fault;
    const struct order order = order_of_steps(@WHICH@);
    for (int32_t i = 0; i < order.count;@NEXT@;
    return 0;
}
