"""Counts the messages of a serialized model before protobuf allocates them.

An empty message takes two bytes in the file and up to 200 in memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx

from qir.ir.errors import FrontendError

MAX_MESSAGES = 2_000_000  # 0.4 GiB at most
SMALL = 4 << 20  # bytes of a file that need no count: 2 million empty messages are as large


def check_messages(data: bytes, file: str) -> None:
    """Errors: FrontendError when `data` holds over MAX_MESSAGES messages; damage passes."""
    if len(data) > SMALL and _count_messages(data) > MAX_MESSAGES:
        raise FrontendError(
            f"{file}: over {MAX_MESSAGES} nodes, attributes and tensors, fewer are needed"
        )


def _count_messages(data: bytes) -> int:
    """Messages within `data`, up to a few over MAX_MESSAGES.

    Source: protobuf's encoding: a key is field number * 8 + kind of value, both as varints.
    """
    count, stack = 0, [(onnx.ModelProto.DESCRIPTOR, 0, len(data))]
    while stack and count <= MAX_MESSAGES:
        message, at, end = stack.pop()
        fields = _messages(message)
        while at < end and count <= MAX_MESSAGES:
            key, at = _varint(data, at, end)
            match key & 7:
                case 0:
                    _, at = _varint(data, at, end)
                case 1:
                    at += 8
                case 5:
                    at += 4
                case 2:
                    size, at = _varint(data, at, end)
                    inner = fields.get(key >> 3)
                    if inner is not None:
                        count += 1
                        if size and at + size <= end:
                            stack.append((inner, at, at + size))
                    at += size
                case _:
                    break
    return count


@cache
def _messages(message: Any) -> dict[int, Any]:
    """Number of each field of `message` that is a message itself -> that message."""
    return {f.number: f.message_type for f in message.fields if f.message_type is not None}


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and the place after it."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, at
