@TABLES@

/* Volatile, so that every step stays a call: steps use the same memory in turn, as elements of
 * different types, and compilers that merged them could mix these up. */
static struct order order_of_steps(int entry) {
    static const struct order orders[] = {@ORDERS@};
    const struct step *const volatile first = orders[entry].first;
    const struct order order = {first, orders[entry].count};
    return order;
}
