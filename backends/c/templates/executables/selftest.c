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

@TOOLS@
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
