/* A small pool of threads for hosted programs: @NAME@_pool_start, @NAME@_pool_stop.
 *
 * A job is cut into pieces, which threads take in turn. The caller opens the gate, workers enter
 * one by one, the caller shuts it when no piece is left and waits for those inside: never for a
 * worker that has not begun. Idle workers spin a little, then sleep. When two callers share a pool,
 * the second runs its job alone. There is no lock that a fork could leave shut: in a forked child
 * the pool has no workers and its callers run alone.
 */
#define _POSIX_C_SOURCE 200809L
#include "@NAME@.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAUSES = 256, YIELDS = 64 };   /* of a thread that waits, before it sleeps */
enum { PIECES_PER_THREAD = 4, MOST_THREADS = 256 };
enum { WORTH_WAKING = 8 };            /* grains; a smaller job is for workers that are awake */
enum { LINE = 128 };                  /* bytes that processors move between caches at once */

/* The gate: how many workers are inside, two flags, and above them the number of the job. */
#define INSIDE UINT64_C(0x3fff)
#define OPEN UINT64_C(0x4000)    /* workers may enter */
#define AWAITED UINT64_C(0x8000) /* the caller sleeps until the last one leaves */
enum { JOB = 16 };

struct worker {
    struct pool *pool;
    int32_t number;
    pthread_t id;
};

struct pool {
    struct qir_threads threads; /* first: what callers have */
    sem_t wake, done;
    pid_t process; /* the one that has the workers */
    int workers;
    struct worker crew[MOST_THREADS];
    _Alignas(LINE) atomic_uint_fast64_t gate;
    _Alignas(LINE) atomic_int next; /* first piece that nobody has taken */
    _Alignas(LINE) atomic_int asleep;
    atomic_int stopping;
    _Alignas(LINE) atomic_flag busy;
    /* Of the job; written while the gate is shut and nobody is inside. */
    qir_task task;
    const void *context;
    int32_t units, piece;
};

/* The turn number `i` of a loop that waits: lets another thread of this core have it at last. */
static void pause_briefly(int i) {
    if (i >= PAUSES) {
        sched_yield();
        return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static void sleep_on(sem_t *semaphore) {
    while (sem_wait(semaphore)) {} /* a signal may interrupt it */
}

static void take_pieces(struct pool *p, int32_t thread) {
    for (;;) {
        const int64_t number = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        const int64_t begin = number * p->piece, end = begin + p->piece;
        if (begin >= p->units) return;
        p->task(p->context, (int32_t)begin, (int32_t)(end < p->units ? end : p->units), thread);
    }
}

static int is_new(uint64_t gate, uint64_t seen) {
    return (gate & OPEN) && gate >> JOB != seen;
}

/* Enters the job that is open; its number, or `seen` when there is no other. */
static uint64_t enter(struct pool *p, uint64_t seen) {
    uint64_t gate = atomic_load_explicit(&p->gate, memory_order_acquire);
    while (is_new(gate, seen)) {
        if (atomic_compare_exchange_weak(&p->gate, &gate, gate + 1)) return gate >> JOB;
    }
    return seen;
}

static void leave(struct pool *p) {
    const uint64_t gate = atomic_fetch_sub(&p->gate, 1) - 1;
    if (!(gate & INSIDE) && (gate & AWAITED)) sem_post(&p->done);
}

/* Sleeps until woken, unless a job came meanwhile. Who takes n of `asleep` away posts n times. */
static void doze(struct pool *p, uint64_t seen) {
    atomic_fetch_add(&p->asleep, 1);
    if (is_new(atomic_load(&p->gate), seen) || atomic_load(&p->stopping)) {
        int asleep = atomic_load(&p->asleep);
        while (asleep > 0) {
            if (atomic_compare_exchange_weak(&p->asleep, &asleep, asleep - 1)) return;
        }
    }
    sleep_on(&p->wake);
}

static void *work(void *argument) {
    const struct worker *w = argument;
    struct pool *p = w->pool;
    uint64_t seen = 0;
    for (;;) {
        uint64_t job = seen;
        for (int i = 0; i < PAUSES + YIELDS && job == seen; i++) {
            if (atomic_load_explicit(&p->stopping, memory_order_relaxed)) return NULL;
            job = enter(p, seen);
            if (job == seen) pause_briefly(i);
        }
        if (job == seen) {
            doze(p, seen);
        } else {
            seen = job;
            take_pieces(p, w->number);
            leave(p);
        }
    }
}

/* Wakes as many as have work, less those that are awake. */
static void wake(struct pool *p, int32_t pieces) {
    int asleep = atomic_load(&p->asleep);
    while (asleep > 0) {
        const int32_t wanted = pieces - 1 - (p->workers - asleep);
        const int count = wanted < asleep ? wanted : asleep;
        if (count <= 0) return;
        if (atomic_compare_exchange_weak(&p->asleep, &asleep, asleep - count)) {
            for (int i = 0; i < count; i++) sem_post(&p->wake);
            return;
        }
    }
}

static void wait_for_those_inside(struct pool *p) {
    uint64_t gate = atomic_fetch_and(&p->gate, ~OPEN);
    for (int i = 0; i < PAUSES + YIELDS && (gate & INSIDE); i++) {
        pause_briefly(i);
        gate = atomic_load_explicit(&p->gate, memory_order_acquire);
    }
    if ((gate & INSIDE) && (atomic_fetch_or(&p->gate, AWAITED) & INSIDE)) sleep_on(&p->done);
}

static void run(void *pool, qir_task task, const void *context, int32_t units, int32_t grain) {
    struct pool *p = pool;
    const int32_t parts = p->threads.count * PIECES_PER_THREAD;
    int32_t piece = units / parts + (units % parts != 0);
    if (piece < grain) piece = grain;
    if (piece >= units || atomic_flag_test_and_set(&p->busy)) {
        task(context, 0, units, 0);
        return;
    }
    p->task = task, p->context = context, p->units = units, p->piece = piece;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store(&p->gate, ((atomic_load(&p->gate) >> JOB) + 1) << JOB | OPEN);
    if (units / WORTH_WAKING >= grain) wake(p, units / piece + (units % piece != 0));
    take_pieces(p, 0);
    wait_for_those_inside(p);
    atomic_flag_clear(&p->busy);
}

void @NAME@_pool_stop(const struct qir_threads *threads) {
    if (!threads) return;
    struct pool *p = threads->pool;
    if (p->process == getpid()) { /* a forked child has none to wait for */
        atomic_store(&p->stopping, 1);
        for (int i = 0; i < p->workers; i++) sem_post(&p->wake);
        for (int i = 0; i < p->workers; i++) pthread_join(p->crew[i].id, NULL);
        sem_destroy(&p->done);
        sem_destroy(&p->wake);
    }
    free(p);
}

/* Signals are for the program's own threads. */
static int start_workers(struct pool *p) {
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before)) return 1;
    int fault = 0;
    while (!fault && p->workers < p->threads.count - 1) {
        struct worker *w = &p->crew[p->workers];
        w->pool = p, w->number = p->workers + 1;
        fault = pthread_create(&w->id, NULL, work, w);
        p->workers += !fault;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return fault;
}

const struct qir_threads *@NAME@_pool_start(int count) {
    if (count < 1 || count > MOST_THREADS) return NULL;
    struct pool *p = aligned_alloc(LINE, sizeof *p);
    if (!p) return NULL;
    memset(p, 0, sizeof *p);
    p->threads.run = run, p->threads.pool = p, p->threads.count = count;
    p->process = getpid();
    atomic_flag_clear(&p->busy);
    if (sem_init(&p->wake, 0, 0) || sem_init(&p->done, 0, 0)) {
        free(p);
        return NULL;
    }
    if (start_workers(p)) {
        @NAME@_pool_stop(&p->threads);
        return NULL;
    }
    return &p->threads;
}
