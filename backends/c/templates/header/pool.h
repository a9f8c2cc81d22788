/* `count` threads, the caller's included; null when they cannot be had. Any program may use them,
 * from several threads at once: one job at a time is shared, others run alone. A forked child may
 * go on with its parent's, and runs alone. Stop them when no call is left that uses them. */
const struct qir_threads *@NAME@_pool_start(int count);
void @NAME@_pool_stop(const struct qir_threads *threads);
