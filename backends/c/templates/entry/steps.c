static const struct step steps[@UPPER@_STEPS] = {
@TABLE@
};

/* Volatile, so that every step stays a call: steps use the same memory in turn, as elements of
 * different types, and compilers that merged them could mix these up. */
static struct order order_of_steps(void) {
    const struct step *const volatile first = steps;
    const struct order order = {first, @UPPER@_STEPS};
    return order;
}
