static int32_t min_i32(int32_t a, int32_t b) { return a < b ? a : b; }

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

static int32_t max_i32(int32_t a, int32_t b) { return a > b ? a : b; }

static int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

static int32_t clamp_i32(int32_t v, int32_t low, int32_t high) {
    return v < low ? low : v > high ? high : v;
}

static int64_t clamp_i64(int64_t v, int64_t low, int64_t high) {
    return v < low ? low : v > high ? high : v;
}

/* v * 2**by; a negative v too. */
static int32_t shl_i32(int32_t v, int32_t by) { return (int32_t)((uint32_t)v << by); }

/* v * 2**by; a negative v too. */
static int64_t shl_i64(int64_t v, int64_t by) { return (int64_t)((uint64_t)v << by); }

static int8_t i8_at(const void *block, int32_t index) { return ((const int8_t *)block)[index]; }

static uint8_t u8_at(const void *block, int32_t index) {
    return ((const uint8_t *)block)[index];
}

/* Element `index` of the constants: little endian, wherever they lie and on every machine. */
static int16_t i16_at(const void *block, int32_t index) {
    const uint8_t *b = (const uint8_t *)block + 2 * index;
    return (int16_t)(b[0] | b[1] << 8);
}

static int32_t i32_at(const void *block, int32_t index) {
    const uint8_t *b = (const uint8_t *)block + 4 * index;
    return (int32_t)(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
}

static int64_t i64_at(const void *block, int32_t index) {
    const uint8_t *b = (const uint8_t *)block + 8 * index;
    const uint64_t low = b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 | (uint64_t)b[3] << 24;
    return (int64_t)(low | (uint64_t)b[4] << 32 | (uint64_t)b[5] << 40 | (uint64_t)b[6] << 48
        | (uint64_t)b[7] << 56);
}
