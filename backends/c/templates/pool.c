/* A small pool of threads for hosted programs: @NAME@_pool_start, @NAME@_pool_stop.
 *
 * Workers spin a little for the next job and then sleep. A job is cut into pieces that threads take in turn.
 * When two callers share a pool, the second runs its job alone.
 */
#include "@NAME@.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 4000, PIECES_PER_THREAD = 4, MOST_THREADS = 256 };

struct pool {
    struct qir_threads threads; /* first: what callers hold */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    atomic_flag busy;
    atomic_uint job;      /* number of the current job; workers wait for it to change */
    atomic_int next;      /* first unit that nobody has taken */
    atomic_int working;   /* workers that have not finished the current job */
    atomic_int stopping;
    qir_task task;
    const void *context;
    int32_t units, piece;
    int workers;
    pthread_t ids[MOST_THREADS];
};

static void take_pieces(struct pool *p) {
    for (;;) {
        const int32_t begin = atomic_fetch_add_explicit(&p->next, p->piece, memory_order_relaxed);
        if (begin >= p->units) return;
        const int32_t left = p->units - begin;
        p->task(p->context, begin, begin + (left < p->piece ? left : p->piece));
    }
}

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static unsigned wait_for_job(struct pool *p, unsigned seen) {
    unsigned job;
    for (int i = 0; i < SPINS; i++) {
        job = atomic_load_explicit(&p->job, memory_order_acquire);
        if (job != seen) return job;
        pause_briefly();
    }
    pthread_mutex_lock(&p->mutex);
    while ((job = atomic_load_explicit(&p->job, memory_order_acquire)) == seen) {
        pthread_cond_wait(&p->wake, &p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    return job;
}

static void *work(void *argument) {
    struct pool *p = argument;
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_job(p, seen);
        if (atomic_load(&p->stopping)) return NULL;
        take_pieces(p);
        atomic_fetch_sub_explicit(&p->working, 1, memory_order_release);
    }
}

static void announce(struct pool *p) {
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add_explicit(&p->job, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

static void run(void *pool, qir_task task, const void *context, int32_t units, int32_t grain) {
    struct pool *p = pool;
    const int32_t parts = (p->workers + 1) * PIECES_PER_THREAD;
    int32_t piece = units / parts + (units % parts != 0);
    if (piece < grain) piece = grain;
    if (piece >= units || atomic_flag_test_and_set(&p->busy)) {
        task(context, 0, units);
        return;
    }
    p->task = task, p->context = context, p->units = units, p->piece = piece;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->working, p->workers, memory_order_relaxed);
    announce(p);
    take_pieces(p);
    while (atomic_load_explicit(&p->working, memory_order_acquire)) pause_briefly();
    atomic_flag_clear(&p->busy);
}

void @NAME@_pool_stop(const struct qir_threads *threads) {
    if (!threads) return;
    struct pool *p = threads->pool;
    atomic_store(&p->stopping, 1);
    announce(p);
    for (int i = 0; i < p->workers; i++) pthread_join(p->ids[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

const struct qir_threads *@NAME@_pool_start(int count) {
    if (count < 1 || count > MOST_THREADS) return NULL;
    struct pool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->threads.run = run;
    p->threads.pool = p;
    atomic_flag_clear(&p->busy);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    while (p->workers < count - 1) {
        if (pthread_create(&p->ids[p->workers], NULL, work, p)) {
            @NAME@_pool_stop(&p->threads);
            return NULL;
        }
        p->workers++;
    }
    return &p->threads;
}
