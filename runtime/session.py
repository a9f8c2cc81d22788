"""Runs an artifact: floats or stored integers in and out, from any number of threads at once."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .address import address
from .errors import ArtifactError, DataError, MachineError
from .load import Library, Loaded, cpu_flags
from .port import REAL, Array
from .program import Program

POINTER = ctypes.c_void_p


def aligned(size: int, alignment: int) -> Array:
    """`size` bytes of zeros at a multiple of `alignment`."""
    raw = np.zeros(size + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


class _Box:
    """What one call at a time needs: workspace, scratch, and arrays at fixed addresses."""

    def __init__(self, session: Session) -> None:
        m, align = session.manifest, session.manifest["alignment"]
        slack = m["input_slack"]
        self.workspace = aligned(max(m["workspace_bytes"], 1), align)
        self.stored = aligned(max(m["stored_bytes"], 1), align)
        self.held = [aligned(p.size_bytes + slack, align) for p in session.inputs]
        self.inputs = [
            h[: p.size_bytes].view(p.dtype).reshape(p.shape)
            for h, p in zip(self.held, session.inputs, strict=True)
        ]
        self.reals = [np.zeros(p.shape, p.real_dtype) for p in session.outputs]
        self.outputs = [np.zeros(p.shape, p.dtype) for p in session.outputs]
        self.input_addresses = [h.ctypes.data for h in self.held]
        self.input_pointers = _pointers(self.input_addresses)
        self.given = _pointers(self.input_addresses)
        self.real_pointers = _pointers([y.ctypes.data for y in self.reals])
        self.output_pointers = _pointers([y.ctypes.data for y in self.outputs])
        tail = (self.workspace.ctypes.data, session.weights.ctypes.data, session.threads)
        self.float_arguments = (
            _at(self.given),
            _at(self.real_pointers),
            self.stored.ctypes.data,
            *tail,
        )
        self.integer_arguments = (_at(self.input_pointers), _at(self.output_pointers), *tail)


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(addresses))(*addresses)


def _at(array: ctypes.Array[ctypes.c_void_p]) -> int:
    return ctypes.addressof(array)


class Session(Program):
    """A loaded artifact, ready to run.

    Calls may come from several threads: each uses a box of its own. `threads` more than 1 starts
    the artifact's own pool, which splits the work of one call at a time. `variant`: of an artifact
    for several machines, the one whose code runs; by default the best that this machine can run.
    """

    def __init__(self, loaded: Loaded, threads: int = 1, variant: str | None = None) -> None:
        super().__init__(loaded)
        self._library = Library(loaded)
        if variant is not None:
            self._use(variant)
        self._run = self._library.function("run", [POINTER] * 5)
        self._profile = self._library.function("profile", [POINTER] * 6)
        self._run_float = self._library.function("run_float", [POINTER] * 6)
        content = loaded.files[self.manifest["weights"]]
        self.weights = aligned(max(len(content), 1), self.manifest["alignment"])
        self.weights[: len(content)] = np.frombuffer(content, np.uint8)
        self.weights.setflags(write=False)
        self.threads: int | None = None
        if threads != 1:
            self.threads = self._start_pool(threads)
        self._boxes: deque[_Box] = deque([_Box(self)])
        self._shapes = tuple((i, p.shape, p.scale is not None) for i, p in enumerate(self.inputs))
        self._single = len(self.outputs) == 1

    @property
    def variant(self) -> str | None:
        if not self.variants:
            return None
        return self.variants[self._library.function("variant", [])()]

    def _use(self, variant: str) -> None:
        number = self._number(variant)
        if not self._library.function("use_variant", [ctypes.c_int])(number):
            return
        have = cpu_flags()
        missing = [n for n in self.manifest["variants"][number]["needs"] if n not in have]
        raise MachineError(
            f"artifact {self.loaded.name}: variant {variant} is for CPUs with"
            f" {', '.join(missing) or 'more'}, which this one lacks",
            "without a variant the best one that this machine can run is taken",
        )

    def __call__(self, *reals: npt.ArrayLike) -> Any:
        if len(reals) != len(self.inputs):
            self._count(reals)
        try:
            box = self._boxes.pop()
        except IndexError:
            box = _Box(self)
        kept = []  # converted copies stay alive until the call is over
        for (i, shape, is_real), x in zip(self._shapes, reals, strict=True):
            if not (is_real and type(x) is np.ndarray and x.shape == shape and x.dtype is REAL):
                x = self._converted(i, x, box)
                kept.append(x)
            elif not (x.flags.c_contiguous and x.flags.aligned):
                x = np.require(x, requirements=["C", "A"])
                kept.append(x)
            box.given[i] = address(x)
        self._check(self._run_float(*box.float_arguments))
        if self._single:
            y: Any = box.reals[0].copy()
        else:
            y = tuple(r.copy() for r in box.reals)
        self._boxes.append(box)
        return y

    def run_integer(self, *stored: npt.ArrayLike) -> tuple[Array, ...]:
        return self._with_integers(stored, lambda box: self._run(*box.integer_arguments))

    def run_many(self, cases: Sequence[Sequence[npt.ArrayLike]]) -> list[tuple[Array, ...]]:
        return [self.run_integer(*case) for case in cases]

    def profile(self, *stored: npt.ArrayLike) -> list[tuple[dict[str, Any], int]]:
        steps = self.steps
        times = (ctypes.c_uint64 * max(len(steps), 1))()
        address = ctypes.addressof(times)
        self._with_integers(stored, lambda box: self._profile(*box.integer_arguments, address))
        return list(zip(steps, times, strict=False))

    def _with_integers(self, stored: Sequence[npt.ArrayLike], call: Any) -> tuple[Array, ...]:
        arrays = self._stored(stored)
        try:
            box = self._boxes.pop()
        except IndexError:
            box = _Box(self)
        for held, x in zip(box.inputs, arrays, strict=True):
            np.copyto(held, x, casting="unsafe")  # the range was checked
        self._check(call(box))
        y = tuple(o.copy() for o in box.outputs)
        self._boxes.append(box)
        return y

    def _converted(self, i: int, x: npt.ArrayLike, box: _Box) -> Array:
        """Input `i` as contiguous float32; plain integers go where slack follows them."""
        port = self.inputs[i]
        if port.scale is not None:
            return port.real(x)
        np.copyto(box.inputs[i], port.stored(x), casting="unsafe")
        return box.inputs[i]

    def _check(self, status: int) -> None:
        if status:
            raise ArtifactError(
                f"artifact {self.loaded.name}: its code gave status {status}, 0 is needed"
            )

    def _start_pool(self, threads: int) -> int:
        if threads < 1:
            raise DataError(f"artifact {self.loaded.name}: {threads} threads, at least 1 is needed")
        start = self._library.function("pool_start", [ctypes.c_int], POINTER)
        pool = start(threads)
        if not pool:
            raise ArtifactError(f"artifact {self.loaded.name}: {threads} threads cannot be started")
        return int(pool)

    def close(self) -> None:
        """Stop the pool; calls after this run on the caller's thread alone."""
        if self.threads is not None:
            stop = self._library.function("pool_stop", [POINTER], None)
            pool, self.threads = self.threads, None
            self._boxes.clear()
            stop(pool)

    def __del__(self) -> None:
        if getattr(self, "threads", None) is not None:
            self.close()
