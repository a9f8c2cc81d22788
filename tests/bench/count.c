/* A plugin of QEMU that counts how often each instruction runs: file=...,low=HEX,high=HEX,out=FILE.
 *
 * Counted are the translated blocks, each of which runs as a whole; at the end every instruction
 * (of Hexagon: every packet) from address low up to high gets the sum of its blocks' counts.
 * The part of qemu-plugin.h that is used is declared here: Debian does not package that header.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
extern void qemu_plugin_register_vcpu_tb_trans_cb(
    uint64_t id, void (*)(uint64_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *, void (*)(unsigned, void *), int flags, void *);
extern void qemu_plugin_register_atexit_cb(uint64_t id, void (*)(uint64_t, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = VERSION;

struct block {
    struct block *next;
    uint64_t runs;
    size_t size;
    uint64_t addresses[];
};

static struct block *blocks;
static uint64_t low, high;
static const char *out;

static void ran(unsigned cpu, void *block) {
    (void)cpu;
    ((struct block *)block)->runs++;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb) {
    const size_t size = qemu_plugin_tb_n_insns(tb);
    struct block *b = calloc(1, sizeof *b + size * sizeof *b->addresses);
    (void)id;
    if (!b) abort();
    for (size_t i = 0; i < size; i++) {
        b->addresses[i] = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, i));
    }
    b->size = size, b->next = blocks, blocks = b;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, ran, 0, b);
}

static void finished(uint64_t id, void *data) {
    uint64_t *counts = calloc(high - low, sizeof *counts);
    FILE *file = fopen(out, "w");
    (void)id, (void)data;
    if (!counts || !file) abort();
    for (const struct block *b = blocks; b; b = b->next) {
        for (size_t i = 0; i < b->size; i++) {
            const uint64_t at = b->addresses[i];
            if (at >= low && at < high) counts[at - low] += b->runs;
        }
    }
    for (uint64_t i = 0; i < high - low; i++) {
        if (counts[i]) fprintf(file, "%" PRIx64 " %" PRIu64 "\n", low + i, counts[i]);
    }
    fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(
    uint64_t id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "low=", 4)) low = strtoull(argv[i] + 4, 0, 16);
        if (!strncmp(argv[i], "high=", 5)) high = strtoull(argv[i] + 5, 0, 16);
        if (!strncmp(argv[i], "out=", 4)) out = argv[i] + 4;
    }
    if (!out || high <= low) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, 0);
    return 0;
}
