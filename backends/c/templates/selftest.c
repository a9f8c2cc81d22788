/* Runs @NAME@ on its golden inputs and compares every byte of its outputs.
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

static const long input_bytes[] = {@INPUT_BYTES@};
static const long output_bytes[] = {@OUTPUT_BYTES@};
static const long input_items[] = {@INPUT_ITEMS@}; /* bytes of an element */
static const long output_items[] = {@OUTPUT_ITEMS@};
static const long cases = @CASES@;

static void *room(long bytes) {
    void *p = NULL;
    if (posix_memalign(&p, @UPPER@_ALIGNMENT, (size_t)bytes + @UPPER@_INPUT_SLACK)) {
        fprintf(stderr, "%ld bytes of memory are needed\n", bytes);
        exit(2);
    }
    return p;
}

static unsigned char *load(const char *folder, const char *file, long bytes) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "rb");
    unsigned char *p = room(bytes);
    if (!f || fread(p, 1, (size_t)bytes, f) != (size_t)bytes || fgetc(f) != EOF) {
        fprintf(stderr, "%s: %ld bytes are needed\n", path, bytes);
        exit(2);
    }
    fclose(f);
    return p;
}

static long compare(long which, int output, const unsigned char *got, const unsigned char *want, long bytes) {
    long wrong = 0;
    for (long i = 0; i < bytes; i++) {
        if (got[i] != want[i] && wrong++ < 5) {
            printf("case %ld, output %d, byte %ld: %d, %d is needed\n", which, output, i, got[i], want[i]);
        }
    }
    return wrong;
}

/* golden.bin is little endian: turns the bytes of each element on machines that are not. */
static void turn(unsigned char *p, long bytes, long item) {
    const int one = 1;
    if (*(const unsigned char *)&one) return;
    for (long at = 0; at < bytes; at += item) {
        for (long i = 0; i < item / 2; i++) {
            const unsigned char kept = p[at + i];
            p[at + i] = p[at + item - 1 - i], p[at + item - 1 - i] = kept;
        }
    }
}

int main(int count, char **arguments) {
    const char *folder = count > 1 ? arguments[1] : ".";
    long total = 0, wrong = 0, at = 0, checked = 0;
    for (int i = 0; i < @UPPER@_INPUTS; i++) total += input_bytes[i];
    for (int i = 0; i < @UPPER@_OUTPUTS; i++) total += output_bytes[i];
    unsigned char *weights = load(folder, "weights.bin", @UPPER@_WEIGHTS_BYTES);
    unsigned char *golden = load(folder, "golden.bin", total * cases);
    unsigned char *workspace = room(@UPPER@_WORKSPACE_BYTES);
    void *inputs[@UPPER@_INPUTS], *outputs[@UPPER@_OUTPUTS];
    for (int i = 0; i < @UPPER@_INPUTS; i++) inputs[i] = room(input_bytes[i]);
    for (int i = 0; i < @UPPER@_OUTPUTS; i++) outputs[i] = room(output_bytes[i]);
    for (long c = 0; c < cases; c++) {
        for (int i = 0; i < @UPPER@_INPUTS; at += input_bytes[i++]) {
            memcpy(inputs[i], golden + at, (size_t)input_bytes[i]);
            turn(inputs[i], input_bytes[i], input_items[i]);
        }
        const int status = @NAME@_run((const void *const *)inputs, outputs, workspace, weights, NULL);
        if (status) {
            fprintf(stderr, "@NAME@_run gave %d, 0 is needed\n", status);
            return 2;
        }
        for (int i = 0; i < @UPPER@_OUTPUTS; at += output_bytes[i++]) {
            turn(outputs[i], output_bytes[i], output_items[i]);
            wrong += compare(c, i, outputs[i], golden + at, output_bytes[i]);
            checked += output_bytes[i];
        }
    }
    printf("@NAME@: %ld cases, %ld bytes of output, %ld wrong\n", cases, checked, wrong);
    return wrong != 0;
}
