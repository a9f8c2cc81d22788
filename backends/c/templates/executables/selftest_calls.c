/* Makes the golden calls of @NAME@, one after the other from a new state, and compares every byte
 * of their outputs.
 *
 * Build: cc -O1 @NAME@_test.c lib@NAME@.a -lpthread -o @NAME@_test
 * Run:   ./@NAME@_test [folder of weights.bin and golden.bin, by default this one]
 * Exit:  0 when every byte is equal, 1 when one is not, 2 when the files cannot be used.
 */
#define _POSIX_C_SOURCE 200112L
#include "@NAME@.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of each input and output, and of an element of it. */
@PORTS@

static const struct entry {
    const char *name;
    int (*run)(const void *const inputs[], void *const outputs[], void *state, void *workspace,
        const void *weights, const struct qir_threads *threads);
    const long (*ports)[2];
    int inputs, outputs;
} entries[@UPPER@_ENTRIES] = {
@ENTRIES@
};

/* The entry of each call. */
static const int calls[] = {@CALLS@};
enum { CALLS = @COUNT@, MOST_PORTS = @MOST@ };

@TOOLS@
static long total_of(const struct entry *e) {
    long total = 0;
    for (int i = 0; i < e->inputs + e->outputs; i++) total += e->ports[i][0];
    return total;
}

/* One call, whose golden bytes begin at `golden`; the number of wrong ones, or -1. */
static long check(int call, unsigned char *golden, void *state, void *workspace,
    const unsigned char *weights, long *checked) {
    const struct entry *e = &entries[calls[call]];
    void *places[MOST_PORTS];
    long wrong = 0;
    for (int i = 0; i < e->inputs + e->outputs; i++) places[i] = room(e->ports[i][0]);
    for (int i = 0; i < e->inputs; golden += e->ports[i++][0]) {
        memcpy(places[i], golden, (size_t)e->ports[i][0]);
        turn(places[i], e->ports[i][0], e->ports[i][1]);
    }
    const int status = e->run((const void *const *)places, places + e->inputs, state, workspace,
        weights, NULL);
    if (status) {
        fprintf(stderr, "call %d: @NAME@_%s_run gave %d, 0 is needed\n", call, e->name, status);
        return -1;
    }
    for (int i = e->inputs; i < e->inputs + e->outputs; golden += e->ports[i++][0]) {
        turn(places[i], e->ports[i][0], e->ports[i][1]);
        wrong += compare(call, i - e->inputs, places[i], golden, e->ports[i][0]);
        *checked += e->ports[i][0];
    }
    for (int i = 0; i < e->inputs + e->outputs; i++) free(places[i]);
    return wrong;
}

int main(int count, char **arguments) {
    const char *folder = count > 1 ? arguments[1] : ".";
    long total = 0, wrong = 0, at = 0, checked = 0;
    for (int c = 0; c < CALLS; c++) total += total_of(&entries[calls[c]]);
    unsigned char *weights = load(folder, "weights.bin", @UPPER@_WEIGHTS_BYTES);
    unsigned char *golden = load(folder, "golden.bin", total);
    unsigned char *workspace = room(@UPPER@_WORKSPACE_BYTES), *state = room(@UPPER@_STATE_BYTES);
    @NAME@_reset_state(state);
    for (int c = 0; c < CALLS; c++) {
        const long bad = check(c, golden + at, state, workspace, weights, &checked);
        if (bad < 0) return 2;
        at += total_of(&entries[calls[c]]), wrong += bad;
    }
    printf("@NAME@: %d calls, %ld bytes of output, %ld wrong\n", (int)CALLS, checked, wrong);
    return wrong != 0;
}
