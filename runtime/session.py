"""Runs an artifact: floats or stored integers in and out, from any number of threads at once."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .address import address
from .box import Arrays, Box
from .errors import ArtifactError, DataError, MachineError
from .format import show
from .library import Function, Library
from .load import Loaded
from .machine import cpu_flags
from .port import REAL, Array
from .program import Calls, Program
from .signature import Signature
from .state import check_state
from .threads import Threads

POINTER = ctypes.c_void_p
OUT_OF_RANGE = 3  # a status of C functions


@dataclass(frozen=True)
class _Functions:
    """The C functions of an entry, and what its inputs are like."""

    run: Function
    run_float: Function
    profile: Function
    shapes: tuple[tuple[int, tuple[int, ...], bool], ...]

    @staticmethod
    def of(library: Library, signature: Signature) -> _Functions:
        """Errors: ArtifactError when the library has none of that name."""
        at, more = signature.function, int(bool(signature.name))
        return _Functions(
            library.function(f"{at}run", [POINTER] * (5 + more)),
            library.function(f"{at}run_float", [POINTER] * (6 + more)),
            library.function(f"{at}profile", [POINTER] * (6 + more)),
            tuple((i, p.shape, p.scale is not None) for i, p in enumerate(signature.inputs)),
        )


class Session(Program):
    """A loaded artifact, ready to run.

    Several threads may call it at once; each uses memory of its own, and a state of its own where
    there are states. A pool of `threads` shares the work of one call at a time, and sessions of a
    process with equal `threads` share the pool. In a forked child, calls run on the caller's thread
    alone. `variant`: the machine whose code runs, of an artifact for several (default: the best one
    here).
    """

    def __init__(self, loaded: Loaded, threads: int = 1, variant: str | None = None) -> None:
        """Errors: ArtifactError when this machine cannot run it, memory is short, or its code is
        for another manifest; DataError for a number of threads below 1 or an unknown variant.
        """
        super().__init__(loaded)
        if type(threads) is not int or threads < 1:
            raise DataError(
                f"artifact {loaded.name}: {show(threads)} threads, at least 1 is needed"
            )
        self._library = Library(loaded)
        self._functions = [_Functions.of(self._library, s) for s in self.signatures]
        self._library.check_sizes(self.manifest)
        if variant is not None:
            self._use(variant)
        self.weights = np.frombuffer(loaded.files[self.manifest["weights"]], np.uint8)
        self._boxes = deque([self._new_box()])
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
        flags = cpu_flags()
        missing = [n for n in self.manifest["variants"][number]["needs"] if n not in flags]
        raise MachineError(
            f"artifact {self.loaded.name}: variant {variant} is for CPUs with"
            f" {', '.join(missing) or 'more'}, which this one lacks",
            "without a variant the best one that this machine can run is taken",
        )

    def __call__(self, *reals: npt.ArrayLike) -> Any:
        return self._with_reals(self.only, (), reals)

    def run_integer(self, *stored: npt.ArrayLike) -> tuple[Array, ...]:
        return self._with_integers(self.only, (), self._functions[0].run, stored)

    def run_many(self, cases: Sequence[Sequence[npt.ArrayLike]]) -> list[tuple[Array, ...]]:
        return [self.run_integer(*case) for case in cases]

    def profile(self, *stored: npt.ArrayLike) -> list[tuple[dict[str, Any], int]]:
        return self._profiled(self.only, (), stored)

    def call(self, signature: Signature, state: Array, reals: Sequence[npt.ArrayLike]) -> Any:
        return self._with_reals(signature, self._state(state), reals)

    def run_calls(self, state: Array, calls: Calls) -> list[tuple[Array, ...]]:
        place = self._state(state)
        signatures = [self.signature(name) for name, _ in calls]
        return [
            self._with_integers(s, place, self._functions[s.number].run, stored)
            for s, (_, stored) in zip(signatures, calls, strict=True)
        ]

    def profile_call(
        self, signature: Signature, state: Array, stored: Sequence[npt.ArrayLike]
    ) -> list[tuple[dict[str, Any], int]]:
        return self._profiled(signature, self._state(state), stored)

    def _state(self, state: Array) -> tuple[int]:
        return (check_state(self.manifest, state).ctypes.data,)

    def _profiled(
        self, signature: Signature, state: tuple[int, ...], stored: Sequence[npt.ArrayLike]
    ) -> list[tuple[dict[str, Any], int]]:
        times = (ctypes.c_uint64 * max(1, self.most_steps(signature)))()
        function = self._functions[signature.number].profile
        self._with_integers(signature, state, function, stored, ctypes.addressof(times))
        return list(zip(self.steps_of(signature), times, strict=False))

    def _with_reals(
        self, signature: Signature, state: tuple[int, ...], reals: Sequence[npt.ArrayLike]
    ) -> Any:
        signature.check_count(reals)
        functions = self._functions[signature.number]
        box = self._take_box()
        try:
            arrays = box.arrays[signature.number]
            copies = []  # converted ones stay alive until the call is over
            for (i, shape, is_real), x in zip(functions.shapes, reals, strict=True):
                if not (is_real and type(x) is np.ndarray and x.shape == shape and x.dtype is REAL):
                    x = _converted(signature, i, x, arrays)
                    copies.append(x)
                elif not (x.flags.c_contiguous and x.flags.aligned):
                    x = np.require(x, requirements=["C", "A"])
                    copies.append(x)
                arrays.call_pointers[i] = address(x)
            self._call(functions.run_float, (*arrays.float_head, *state, *box.memory))
            if len(arrays.reals) == 1:
                return arrays.reals[0].copy()
            return tuple(r.copy() for r in arrays.reals)
        finally:
            self._boxes.append(box)

    def _with_integers(
        self,
        signature: Signature,
        state: tuple[int, ...],
        function: Function,
        stored: Sequence[npt.ArrayLike],
        *more: int,
    ) -> tuple[Array, ...]:
        integers = signature.stored(stored)
        box = self._take_box()
        try:
            arrays = box.arrays[signature.number]
            for buffer, x in zip(arrays.inputs, integers, strict=True):
                np.copyto(buffer, x, casting="unsafe")  # the range was checked
            self._call(function, (*arrays.head, *state, *box.memory), *more)
            return tuple(y.copy() for y in arrays.outputs)
        finally:
            self._boxes.append(box)

    def _take_box(self) -> Box:
        """One that no call has."""
        try:
            return self._boxes.pop()
        except IndexError:
            return self._new_box()

    def _new_box(self) -> Box:
        try:
            return Box(self.manifest, self.signatures, self.weights)
        except MemoryError as e:
            size = self.manifest["workspace_bytes"] + max(s.stored_bytes for s in self.signatures)
            raise ArtifactError(
                f"artifact {self.loaded.name}: out of memory, {size} bytes of workspace are needed"
            ) from e

    def _call(self, function: Function, arguments: tuple[int, ...], *more: int) -> None:
        """A C function, with the threads where there are some."""
        if self._threads is None:
            status = function(*arguments, None, *more)
        else:
            with self._threads as pool:
                status = function(*arguments, None if pool is None else pool.address, *more)
        if status == OUT_OF_RANGE:
            name = self.loaded.name
            raise DataError(
                f"artifact {name}: an input is out of its range, indexes within tables are needed",
                f"{name}.h says the range of each input",
            )
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


def _converted(signature: Signature, i: int, x: npt.ArrayLike, arrays: Arrays) -> Array:
    """Input `i` as contiguous float32; plain integers go where slack follows them.

    Errors: DataError.
    """
    port = signature.inputs[i]
    if port.scale is not None:
        return port.real(x)
    stored = port.stored(x)
    signature.check_limits(stored, i)
    np.copyto(arrays.inputs[i], stored, casting="unsafe")
    return arrays.inputs[i]
