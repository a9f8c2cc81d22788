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
