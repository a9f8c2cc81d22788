/* What the pool promises, one case for each argument; `right`, or what is wrong and exit 1. */
#define _GNU_SOURCE
#include "net.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("line %d: %s\n", __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void do_units(const struct qir_threads *t, qir_task task, const void *context, int32_t units, int32_t grain) {
    t->run(t->pool, task, context, units, grain);
}

/* -- each unit once, and no thread number twice at a time */

enum { UNITS = 5000 };
struct marks {
    atomic_int unit[UNITS];
    atomic_int thread[256];
    int32_t count;
};

static void mark(const void *context, int32_t begin, int32_t end, int32_t thread) {
    struct marks *m = (struct marks *)(uintptr_t)context;
    CHECK(0 <= thread && thread < m->count && 0 <= begin && begin < end && end <= UNITS);
    CHECK(atomic_fetch_add(&m->thread[thread], 1) == 0);
    for (int32_t i = begin; i < end; i++) atomic_fetch_add(&m->unit[i], 1);
    atomic_fetch_sub(&m->thread[thread], 1);
}

static void mark_units(const struct qir_threads *t, int32_t units, int32_t grain) {
    struct marks *m = calloc(1, sizeof *m);
    m->count = t->count;
    do_units(t, mark, m, units, grain);
    for (int i = 0; i < UNITS; i++) CHECK(m->unit[i] == (i < units));
    free(m);
}

static void every_unit_is_done_once(void) {
    for (int count = 1; count <= 5; count++) {
        const struct qir_threads *t = net_pool_start(count);
        CHECK(t && t->count == count);
        for (int i = 0; i < 300; i++) mark_units(t, 1 + i * 37 % UNITS, 1 + i % 7);
        mark_units(t, 1, 1);
        mark_units(t, UNITS, UNITS);
        net_pool_stop(t);
    }
}

/* -- a second thread really does a piece: each waits until two are inside */

static void meet(const void *context, int32_t begin, int32_t end, int32_t thread) {
    atomic_int *inside = (atomic_int *)(uintptr_t)context;
    (void)begin, (void)end, (void)thread;
    const double start = now(CLOCK_MONOTONIC);
    atomic_fetch_add(inside, 1);
    while (atomic_load(inside) < 2) {
        CHECK(now(CLOCK_MONOTONIC) < start + 60);
        sched_yield();
    }
}

static void a_second_thread_does_a_piece(void) {
    const struct qir_threads *t = net_pool_start(2);
    for (int i = 0; i < 20; i++) {
        atomic_int inside = 0;
        do_units(t, meet, &inside, 64, 1);
        if (i % 5 == 4) usleep(20000); /* the worker is asleep then */
    }
    net_pool_stop(t);
}

/* -- ranges near 2**31 units */

struct range {
    _Atomic int64_t sum, least, most;
};

static void add_range(const void *context, int32_t begin, int32_t end, int32_t thread) {
    struct range *r = (struct range *)(uintptr_t)context;
    (void)thread;
    CHECK(0 <= begin && begin < end);
    atomic_fetch_add(&r->sum, (int64_t)end - begin);
}

static void units_near_the_largest_integer(void) {
    const struct qir_threads *t = net_pool_start(4);
    const int32_t units[] = {INT32_MAX, INT32_MAX - 1, 1 << 30}, grains[] = {1, INT32_MAX / 3, INT32_MAX - 2};
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++) {
            struct range r = {0, 0, 0};
            do_units(t, add_range, &r, units[i], grains[k]);
            CHECK(r.sum == units[i]);
        }
    }
    net_pool_stop(t);
}

/* -- several callers, each with right results */

static const struct qir_threads *shared;

static void *call_often(void *unused) {
    for (int i = 0; i < 2000; i++) mark_units(shared, 100 + i % 400, 1);
    return unused;
}

static void callers_share_a_pool(void) {
    shared = net_pool_start(3);
    pthread_t ids[4];
    for (int i = 0; i < 4; i++) pthread_create(&ids[i], NULL, call_often, NULL);
    for (int i = 0; i < 4; i++) pthread_join(ids[i], NULL);
    net_pool_stop(shared);
}

/* -- fork: in a child, at any moment, calls end; the parent's pool is as it was */

static void *call_until_told(void *told) {
    while (!atomic_load((atomic_int *)told)) mark_units(shared, 200, 1);
    return NULL;
}

static void fork_children(int children) {
    for (int i = 0; i < children; i++) {
        const pid_t child = fork();
        if (!child) {
            alarm(60);
            for (int k = 0; k < 20; k++) mark_units(shared, 500, 1);
            net_pool_stop(shared);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        mark_units(shared, 500, 1);
    }
}

static void forked_children_run_alone(void) {
    shared = net_pool_start(3);
    fork_children(50);
    usleep(20000);
    fork_children(5);
    net_pool_stop(shared);
}

static void forks_during_calls(void) {
    shared = net_pool_start(3);
    atomic_int told = 0;
    pthread_t ids[2];
    for (int i = 0; i < 2; i++) pthread_create(&ids[i], NULL, call_until_told, &told);
    fork_children(100);
    atomic_store(&told, 1);
    for (int i = 0; i < 2; i++) pthread_join(ids[i], NULL);
    net_pool_stop(shared);
}

/* -- idle workers sleep */

static void idle_workers_sleep(void) {
    const struct qir_threads *t = net_pool_start(4);
    mark_units(t, UNITS, 1);
    usleep(200000);
    const double before = now(CLOCK_PROCESS_CPUTIME_ID);
    usleep(1000000);
    const double used = now(CLOCK_PROCESS_CPUTIME_ID) - before;
    CHECK(used < 0.02);
    net_pool_stop(t);
}

/* -- more threads than cores: nobody waits for a worker that has not begun */

static void little(const void *context, int32_t begin, int32_t end, int32_t thread) {
    (void)context, (void)thread;
    for (volatile int i = 0; i < (end - begin) * 100; i++) {}
}

static double least_of(const struct qir_threads *t, int runs) {
    double best = 1e9;
    for (int i = 0; i < runs; i++) {
        const double begin = now(CLOCK_MONOTONIC);
        if (t) do_units(t, little, NULL, 1000, 10);
        else little(NULL, 0, 1000, 0);
        const double spent = now(CLOCK_MONOTONIC) - begin;
        if (spent < best) best = spent;
    }
    return best;
}

static double mean_of(const struct qir_threads *t, int runs) {
    const double begin = now(CLOCK_MONOTONIC);
    for (int i = 0; i < runs; i++) {
        if (t) do_units(t, little, NULL, 1000, 10);
        else little(NULL, 0, 1000, 0);
    }
    return (now(CLOCK_MONOTONIC) - begin) / runs;
}

static void many_threads_on_one_core(void) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK(!sched_setaffinity(0, sizeof one, &one));
    const struct qir_threads *t = net_pool_start(8);
    const double alone = least_of(NULL, 200), least = least_of(t, 2000);
    const double mean = mean_of(NULL, 2000), mean_pool = mean_of(t, 2000);
    fprintf(stderr, "us: alone %.1f, mean %.1f; 8 threads on one core %.1f, mean %.1f\n",
        alone * 1e6, mean * 1e6, least * 1e6, mean_pool * 1e6);
    CHECK(least < 3 * alone + 50e-6);
    net_pool_stop(t);
}

/* -- starting and stopping, and what cannot be had */

static void pools_come_and_go(void) {
    CHECK(!net_pool_start(0) && !net_pool_start(-1) && !net_pool_start(257));
    net_pool_stop(NULL);
    for (int i = 0; i < 10000; i++) {
        const struct qir_threads *t = net_pool_start(1 + i % 3);
        CHECK(t);
        if (i % 100 == 0) mark_units(t, 300, 1);
        net_pool_stop(t);
    }
    const struct qir_threads *most = net_pool_start(256);
    CHECK(most);
    mark_units(most, UNITS, 1);
    net_pool_stop(most);
}

static void threads_that_cannot_be_had(void) {
    const struct rlimit little_memory = {300 << 20, 300 << 20};
    CHECK(!setrlimit(RLIMIT_AS, &little_memory));
    for (int i = 0; i < 20; i++) CHECK(!net_pool_start(256));
    const struct qir_threads *t = net_pool_start(2);
    CHECK(t);
    mark_units(t, 300, 1);
    net_pool_stop(t);
}

/* -- signals come to the threads of the program */

static pthread_t main_thread;
static atomic_int elsewhere, handled;

static void handle(int number) {
    (void)number;
    atomic_fetch_add(&handled, 1);
    if (!pthread_equal(pthread_self(), main_thread)) atomic_store(&elsewhere, 1);
}

static void signals_leave_workers_alone(void) {
    main_thread = pthread_self();
    signal(SIGUSR1, handle);
    const struct qir_threads *t = net_pool_start(4);
    for (int i = 0; i < 200; i++) {
        kill(getpid(), SIGUSR1);
        mark_units(t, 1000, 1);
    }
    CHECK(handled > 0 && !elsewhere);
    net_pool_stop(t);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"every_unit_is_done_once", every_unit_is_done_once},
    {"a_second_thread_does_a_piece", a_second_thread_does_a_piece},
    {"units_near_the_largest_integer", units_near_the_largest_integer},
    {"callers_share_a_pool", callers_share_a_pool},
    {"forked_children_run_alone", forked_children_run_alone},
    {"forks_during_calls", forks_during_calls},
    {"idle_workers_sleep", idle_workers_sleep},
    {"many_threads_on_one_core", many_threads_on_one_core},
    {"pools_come_and_go", pools_come_and_go},
    {"threads_that_cannot_be_had", threads_that_cannot_be_had},
    {"signals_leave_workers_alone", signals_leave_workers_alone},
};

int main(int count, char **arguments) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (count > 1 && !strcmp(arguments[1], cases[i].name)) {
            cases[i].run();
            puts("right");
            return 0;
        }
        if (count == 1) puts(cases[i].name);
    }
    return count > 1;
}
