void @NAME@_reset_state(void *state) {
    unsigned char *const bytes = state;
    for (uint64_t i = 0; i < @UPPER@_STATE_BYTES; i++) bytes[i] = 0;
@FILLS@}
