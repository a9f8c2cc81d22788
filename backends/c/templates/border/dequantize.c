@TABLES@APART void @NAME@_dequantize_@I@(const void *stored, float *y) {
    const @TYPE@ *x = stored;
    for (int64_t a = 0, i = 0; a < @OUTER@; a++) {
        for (int64_t c = 0; c < @CHANNELS@; c++) {
            const float scale = @SCALE@;
            const int32_t zero = @ZERO@;
            for (int64_t k = 0; k < @INNER@; k++, i++) {
#if @WIDE@
                y[i] = (float)((int64_t)x[i] - zero) * scale;
#else
                y[i] = (float)(x[i] - zero) * scale;
#endif
            }
        }
    }
}
