/* A job: steps of which none touches what another one writes. Their work is counted in ticks, those
 * of a step behind those of the steps before it; a tick is a part of its units. */
enum { GRAIN = @GRAIN@ }; /* ticks that are worth a thread */

struct job {
    const struct call *call;
    const struct step *first;
    int32_t count;
};

static int32_t unit_at(const struct step *s, int32_t tick) {
    return tick < s->ticks ? (int32_t)(tick * s->pace >> 32) : s->units;
}

static void do_ticks(const void *context, int32_t begin, int32_t end, int32_t thread) {
    const struct job *job = context;
    for (int32_t i = 0; i < job->count && end > 0; i++) {
        const struct step *s = &job->first[i];
        const int32_t first = begin > 0 ? unit_at(s, begin) : 0, last = unit_at(s, end);
        if (first < last) s->run(job->call, first, last, thread);
        begin -= s->ticks, end -= s->ticks;
    }
}

/* The steps of a job, whose number it gives. */
static int32_t do_job(const struct step *first, const struct call *c,
    const struct qir_threads *threads) {
    const struct job job = {c, first, first->together};
    int32_t ticks = 0;
    for (int32_t i = 0; i < job.count; i++) ticks += first[i].ticks;
    if (job.count == 1) {
        do_step(first, c, threads);
    } else if (threads && ticks > GRAIN) {
        threads->run(threads->pool, do_ticks, &job, ticks, GRAIN);
    } else {
        do_ticks(&job, 0, ticks, 0);
    }
    return job.count;
}

