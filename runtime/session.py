"""Runs an artifact: floats or stored integers in and out, from any number of threads at once."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .address import address
from .errors import ArtifactError, DataError, MachineError
from .format import shown
from .library import Function, Library
from .load import Loaded
from .machine import cpu_flags
from .memory import aligned
from .port import REAL, Array
from .program import Program
from .threads import Threads

POINTER = ctypes.c_void_p


class _Box:
    """The memory of one call: workspace, scratch, and arrays at fixed addresses.

    `float_arguments`, `integer_arguments`: of the C functions, up to the threads.
    """

    def __init__(self, session: Session) -> None:
        """Errors: MemoryError."""
        m, align = session.manifest, session.manifest["alignment"]
        slack = m["input_slack"]
        self.workspace = aligned(max(m["workspace_bytes"], 1), align)
        self.stored = aligned(max(m["stored_bytes"], 1), align)
        buffers = [aligned(p.size_bytes + slack, align) for p in session.inputs]
        self.inputs = [
            b[: p.size_bytes].view(p.dtype).reshape(p.shape)
            for b, p in zip(buffers, session.inputs, strict=True)
        ]
        self.reals = [np.zeros(p.shape, p.real_dtype) for p in session.outputs]
        self.outputs = [np.zeros(p.shape, p.dtype) for p in session.outputs]
        addresses = [b.ctypes.data for b in buffers]
        self.input_pointers, self.call_pointers = _pointers(addresses), _pointers(addresses)
        self.real_pointers = _pointers([y.ctypes.data for y in self.reals])
        self.output_pointers = _pointers([y.ctypes.data for y in self.outputs])
        memory = (self.workspace.ctypes.data, session.weights.ctypes.data)
        self.float_arguments = (
            _at(self.call_pointers), _at(self.real_pointers), self.stored.ctypes.data, *memory
        )  # fmt: skip
        self.integer_arguments = (_at(self.input_pointers), _at(self.output_pointers), *memory)


def _pointers(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(addresses))(*addresses)


def _at(array: ctypes.Array[ctypes.c_void_p]) -> int:
    return ctypes.addressof(array)


class Session(Program):
    """A loaded artifact, ready to run.

    Several threads may call it at once; each uses memory of its own. A pool of `threads` shares the
    work of one call at a time, and sessions of a process with equal `threads` share the pool. In a
    forked child, calls run on the caller's thread alone. `variant`: the machine whose code runs, of
    an artifact for several (default: the best one here).
    """

    def __init__(self, loaded: Loaded, threads: int = 1, variant: str | None = None) -> None:
        """Errors: ArtifactError when this machine cannot run it, memory is short, or its code is
        for another manifest; DataError for a number of threads below 1 or an unknown variant.
        """
        super().__init__(loaded)
        if type(threads) is not int or threads < 1:
            raise DataError(
                f"artifact {loaded.name}: {shown(threads)} threads, at least 1 is needed"
            )
        self._library = Library(loaded)
        self._run = self._library.function("run", [POINTER] * 5)
        self._profile = self._library.function("profile", [POINTER] * 6)
        self._run_float = self._library.function("run_float", [POINTER] * 6)
        self._library.check_sizes(self.manifest)
        if variant is not None:
            self._use(variant)
        self.weights = np.frombuffer(loaded.files[self.manifest["weights"]], np.uint8)
        self._boxes = deque([self._new_box()])
        self._shapes = tuple((i, p.shape, p.scale is not None) for i, p in enumerate(self.inputs))
        self._single = len(self.outputs) == 1
        # Last: nothing after it can fail.
        self._threads = None if threads == 1 else Threads(self._library, threads)

    @property
    def variant(self) -> str | None:
        if not self.variants:
            return None
        number = self._library.function("variant", [])()
        if not 0 <= number < len(self.variants):
            raise ArtifactError(
                f"artifact {self.loaded.name}: its code runs variant {number}, one of"
                f" {len(self.variants)} is needed"
            )
        return self.variants[number]

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
        box = self._take_box()
        try:
            copies = []  # converted ones stay alive until the call is over
            for (i, shape, is_real), x in zip(self._shapes, reals, strict=True):
                if not (is_real and type(x) is np.ndarray and x.shape == shape and x.dtype is REAL):
                    x = self._converted(i, x, box)
                    copies.append(x)
                elif not (x.flags.c_contiguous and x.flags.aligned):
                    x = np.require(x, requirements=["C", "A"])
                    copies.append(x)
                box.call_pointers[i] = address(x)
            self._call(self._run_float, box.float_arguments)
            if self._single:
                return box.reals[0].copy()
            return tuple(r.copy() for r in box.reals)
        finally:
            self._boxes.append(box)

    def run_integer(self, *stored: npt.ArrayLike) -> tuple[Array, ...]:
        return self._with_integers(stored, lambda box: self._call(self._run, box.integer_arguments))

    def run_many(self, cases: Sequence[Sequence[npt.ArrayLike]]) -> list[tuple[Array, ...]]:
        return [self.run_integer(*case) for case in cases]

    def profile(self, *stored: npt.ArrayLike) -> list[tuple[dict[str, Any], int]]:
        every = (self.manifest["steps"], *(v["steps"] for v in self.manifest["variants"]))
        times = (ctypes.c_uint64 * max(1, *map(len, every)))()
        self._with_integers(
            stored,
            lambda box: self._call(self._profile, box.integer_arguments, ctypes.addressof(times)),
        )
        return list(zip(self.steps, times, strict=False))

    def _with_integers(
        self, stored: Sequence[npt.ArrayLike], call: Callable[[_Box], None]
    ) -> tuple[Array, ...]:
        arrays = self._stored(stored)
        box = self._take_box()
        try:
            for buffer, x in zip(box.inputs, arrays, strict=True):
                np.copyto(buffer, x, casting="unsafe")  # the range was checked
            call(box)
            return tuple(y.copy() for y in box.outputs)
        finally:
            self._boxes.append(box)

    def _converted(self, i: int, x: npt.ArrayLike, box: _Box) -> Array:
        """Input `i` as contiguous float32; plain integers go where slack follows them."""
        port = self.inputs[i]
        if port.scale is not None:
            return port.real(x)
        np.copyto(box.inputs[i], port.stored(x), casting="unsafe")
        return box.inputs[i]

    def _take_box(self) -> _Box:
        """One that no call has."""
        try:
            return self._boxes.pop()
        except IndexError:
            return self._new_box()

    def _new_box(self) -> _Box:
        try:
            return _Box(self)
        except MemoryError as e:
            m = self.manifest
            raise ArtifactError(
                f"artifact {self.loaded.name}: out of memory,"
                f" {m['workspace_bytes'] + m['stored_bytes']} bytes of workspace are needed"
            ) from e

    def _call(self, function: Function, arguments: tuple[int, ...], *more: int) -> None:
        """A C function, with the threads where there are some."""
        if self._threads is None:
            status = function(*arguments, None, *more)
        else:
            with self._threads as pool:
                status = function(*arguments, None if pool is None else pool.address, *more)
        if status:
            raise ArtifactError(
                f"artifact {self.loaded.name}: its code gave status {status}, 0 is needed"
            )

    def close(self) -> None:
        """End the threads once the calls that use them are over; later calls run on the caller's
        thread.
        """
        if self._threads is not None:
            self._threads.close()
