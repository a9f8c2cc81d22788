@TABLES@APART void @NAME@_quantize_@I@(const float *x, void *stored) {
    @TYPE@ *y = stored;
    for (int64_t a = 0, i = 0; a < @OUTER@; a++) {
        for (int64_t c = 0; c < @CHANNELS@; c++) {
            const float scale = @SCALE@;
            const int32_t zero = @ZERO@;
            for (int64_t k = 0; k < @INNER@; k++, i++) {
#if @WIDE@
                double v = (double)(x[i] / scale);
                v = v > -1e12 ? v : -1e12;
                v = v < 1e12 ? v : 1e12;
                v = ((v + ROUND_WIDE) - ROUND_WIDE) + (double)zero;
                v = v > @LOW@.0 ? v : @LOW@.0;
                y[i] = (@TYPE@)(v < @HIGH@.0 ? v : @HIGH@.0);
#else
                const float low = (float)(@LOW@ - zero), high = (float)(@HIGH@ - zero);
                float v = x[i] / scale;
                v = v > low ? v : low;
                v = v < high ? v : high;
                y[i] = (@TYPE@)((int32_t)((v + ROUND) - ROUND) + zero);
#endif
            }
        }
    }
}
