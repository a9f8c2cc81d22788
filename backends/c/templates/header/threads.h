#ifndef QIR_THREADS
#define QIR_THREADS 2 /* the version of what follows */
typedef void (*qir_task)(const void *context, int32_t begin, int32_t end, int32_t thread);

/* A parallel-for: does task(context, b, e, t) for pieces [b, e) that make up [0, units), on any
 * threads, and returns when all are done. `t` is from 0 to count - 1, and no two pieces of a job
 * have the same one at the same time. Pieces under `grain` units are not worth a thread. */
struct qir_threads {
    void (*run)(void *pool, qir_task task, const void *context, int32_t units, int32_t grain);
    void *pool;
    int32_t count;
};
#elif QIR_THREADS != 2
#error "qir_threads of another version: all programs are to be compiled by one qir"
#endif
