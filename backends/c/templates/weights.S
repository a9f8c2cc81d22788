/* The weights of @NAME@ as read-only data: on bare metal they stay in flash. */
    .section .rodata.@NAME@_weights, "a"
    .balign 128
    .globl @NAME@_weights
@NAME@_weights:
    .incbin "weights.bin"

    .section .note.GNU-stack, "", %progbits
