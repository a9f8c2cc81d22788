"""The memory of one call: workspace, scratch, and arrays at fixed addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from .format import Manifest
from .memory import aligned
from .port import Array
from .signature import Signature


class Arrays:
    """Inputs and outputs of one entry, with room for what kernels read after them.

    `head`, `float_head`: the first arguments of its C functions, for integers and for floats.
    """

    def __init__(self, signature: Signature, slack: int, align: int, stored: Array) -> None:
        """Errors: MemoryError."""
        inputs, outputs = signature.inputs, signature.outputs
        buffers = [aligned(p.size_bytes + slack, align) for p in inputs]
        self.inputs = [
            b[: p.size_bytes].view(p.dtype).reshape(p.shape)
            for b, p in zip(buffers, inputs, strict=True)
        ]
        self.reals = [np.zeros(p.shape, p.real_dtype) for p in outputs]
        self.outputs = [np.zeros(p.shape, p.dtype) for p in outputs]
        addresses = [b.ctypes.data for b in buffers]
        self.input_pointers, self.call_pointers = _pointers(addresses), _pointers(addresses)
        self.real_pointers = _pointers([y.ctypes.data for y in self.reals])
        self.output_pointers = _pointers([y.ctypes.data for y in self.outputs])
        self.head = (_at(self.input_pointers), _at(self.output_pointers))
        self.float_head = (_at(self.call_pointers), _at(self.real_pointers), stored.ctypes.data)


class Box:
    """The memory of one call, of any entry. `memory`: the arguments of every C function after the
    state: workspace and weights.
    """

    def __init__(self, manifest: Manifest, signatures: Sequence[Signature], weights: Array) -> None:
        """Errors: MemoryError."""
        align = manifest["alignment"]
        self.workspace = aligned(max(manifest["workspace_bytes"], 1), align)
        self.stored = aligned(max(1, *(s.stored_bytes for s in signatures)), align)
        self.memory = (self.workspace.ctypes.data, weights.ctypes.data)
        self.arrays = [Arrays(s, manifest["input_slack"], align, self.stored) for s in signatures]


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(addresses))(*addresses)


def _at(array: ctypes.Array[ctypes.c_void_p]) -> int:
    return ctypes.addressof(array)
