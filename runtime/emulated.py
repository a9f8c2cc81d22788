"""Runs an artifact for another machine: its own executable, under an emulator of that machine."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .border import dequantized, quantized
from .errors import ArtifactError, listed
from .format import EMULATORS, Content, show
from .load import Loaded
from .machine import word
from .port import Array
from .program import Calls, Program
from .signature import Signature
from .state import check_state

SECONDS = 900.0  # of one process; an emulator is some fifty times slower than its machine
STATUS = {
    1: "the program refuses its arguments",
    2: "its input ended early",
    3: "its output was cut off",
    5: "the emulated machine cannot run this variant",
}
"""What the exit statuses of a runner mean."""


class Emulated(Program):
    """An artifact's runner under its emulator: the public face of a session, some 20 ms a call.

    One process runs all cases of a `run_many`; the border is NumPy's, of the same bits.
    """

    def __init__(
        self,
        loaded: Loaded,
        seconds: float = SECONDS,
        variant: str | None = None,
        emulator: Sequence[str] | None = None,
    ) -> None:
        """`emulator`: the caller's own command; by default the manifest's, if it is a known one.

        Errors: ArtifactError when the artifact holds no runner, or its emulator is not known or not
        installed.
        """
        super().__init__(loaded)
        self.seconds, runner = seconds, self.manifest["runner"]
        target = word(self.manifest["target"]["name"])
        command = self._known_emulator() if emulator is None else emulator
        if runner is None or not command:
            raise ArtifactError(
                f"artifact {loaded.name}: made for {target} without a runner, one is needed to"
                " emulate"
            )
        if shutil.which(command[0]) is None:
            raise ArtifactError(
                f"artifact {loaded.name}: {command[0]} is not installed, it is needed to emulate"
                f" {target}",
                f"apt-get install {package(command[0])}",
            )
        self._command = [*command, str(self._write_runner(loaded.files[runner]))]
        self._variant = variant
        self._chosen = [] if variant is None else [str(self._number(variant))]

    def _known_emulator(self) -> tuple[str, ...]:
        """The manifest's. Errors: ArtifactError for a command that the runtime does not know."""
        command = tuple(self.manifest["emulator"])
        if command and command not in EMULATORS:
            raise ArtifactError(
                f"artifact {self.loaded.name}: its emulator is {show(' '.join(command))}, one that"
                " the runtime knows is needed",
                "runtime.Emulated(loaded, emulator=[...]) runs a command of your own",
            )
        return command

    @property
    def variant(self) -> str | None:
        if self.variants and self._variant is None:
            number = int.from_bytes(self._ask(b"", ["which"]), "little", signed=True)
            if not 0 <= number < len(self.variants):
                raise self._fault(f"chose variant {number}, one of {len(self.variants)} is needed")
            self._variant = self.variants[number]
        return self._variant

    def __call__(self, *reals: npt.ArrayLike) -> Any:
        signature = self.only
        (stored,) = self._run([_border(signature, reals)])
        return _reals(signature, stored)

    def run_many(self, cases: Sequence[Sequence[npt.ArrayLike]]) -> list[tuple[Array, ...]]:
        return self._run([self.only.stored(case) for case in cases])

    def call(self, signature: Signature, state: Array, reals: Sequence[npt.ArrayLike]) -> Any:
        stored = _border(signature, reals)
        return _reals(signature, self.run_calls(state, [(signature.name, stored)])[0])

    def run_calls(self, state: Array, calls: Calls) -> list[tuple[Array, ...]]:
        """By one process, which gets the state and gives it back."""
        check_state(self.manifest, state)
        signatures = [self.signature(name) for name, _ in calls]
        parts = [struct.pack("<II", len(calls), 1), state.tobytes()]
        for signature, (_, inputs) in zip(signatures, calls, strict=True):
            parts += [struct.pack("<I", signature.number), _encode(signature, inputs)]
        sizes = sum(port.size_bytes for s in signatures for port in s.outputs)
        content = self._answer(b"".join(parts), sizes + len(state))
        state[...] = np.frombuffer(content[sizes:], np.uint8)
        return _decode(content, signatures)

    def profile(self, *stored: npt.ArrayLike) -> list[tuple[dict[str, Any], int]]:
        raise ArtifactError(
            f"artifact {self.loaded.name}: emulated, a machine of its own is needed to time it"
        )

    def profile_call(
        self, signature: Signature, state: Array, stored: Sequence[npt.ArrayLike]
    ) -> list[tuple[dict[str, Any], int]]:
        return self.profile(*stored)

    def _run(self, cases: Sequence[Sequence[Array]]) -> list[tuple[Array, ...]]:
        signature = self.only
        parts = [struct.pack("<I", len(cases)), *(_encode(signature, case) for case in cases)]
        size = len(cases) * sum(port.size_bytes for port in signature.outputs)
        return _decode(self._answer(b"".join(parts), size), [signature] * len(cases))

    def _answer(self, content: bytes, size: int) -> bytes:
        """What the runner writes, `size` bytes."""
        output = self._ask(content, self._chosen)
        if len(output) != size:
            raise self._fault(f"gave {len(output)} bytes, {size} are needed")
        return output

    def _ask(self, content: bytes, arguments: Sequence[str]) -> bytes:
        command = [*self._command, *arguments]
        try:
            process = subprocess.run(
                command, input=content, capture_output=True, timeout=self.seconds
            )
        except subprocess.TimeoutExpired as e:
            raise self._fault(f"ran over {self.seconds:g} s, an end is needed") from e
        except OSError as e:
            raise self._fault(f"cannot be started ({e.strerror}), a working one is needed") from e
        if process.returncode:
            raise self._fault(
                f"ended with {_status(process.returncode)}, status 0 is needed",
                process.stderr.decode(errors="replace").strip().splitlines()[-5:],
            )
        return process.stdout

    def _fault(self, problem: str, messages: Sequence[str] = ()) -> ArtifactError:
        return ArtifactError(
            listed(
                f"artifact {self.loaded.name}: its runner under {self._command[0]} {problem}",
                messages,
            )
        )

    def _write_runner(self, runner: Content) -> Path:
        """The runner as a file that lives as long as this object, and is this process's to remove.

        Errors: ArtifactError when it cannot be written.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix="qir-"))
            self._remove = weakref.finalize(self, _remove, folder, os.getpid())
            file = folder / "runner"
            file.write_bytes(runner)
            file.chmod(0o700)
        except OSError as e:
            raise self._cannot_write(e) from e
        return file

    def _cannot_write(self, e: OSError) -> ArtifactError:
        return ArtifactError(
            f"artifact {self.loaded.name}: its runner cannot be written to a temporary file"
            f" ({e.strerror}), room and permission are needed"
        )

    def close(self) -> None:
        self._remove()


def _remove(folder: Path, process: int) -> None:
    """By the process that made it; a forked child leaves it to its parent."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def package(emulator: str) -> str:
    """The Debian package that holds an emulator: of programs, or of whole machines."""
    return emulator if emulator.startswith("qemu-system-") else "qemu-user"


def _border(signature: Signature, reals: Sequence[npt.ArrayLike]) -> list[Array]:
    """The stored integers of reals. Errors: DataError."""
    signature.check_count(reals)
    return [
        port.stored(x) if port.scale is None else quantized(port, port.real(x))
        for port, x in zip(signature.inputs, reals, strict=True)
    ]


def _reals(signature: Signature, stored: Sequence[Array]) -> Any:
    y = tuple(dequantized(port, q) for port, q in zip(signature.outputs, stored, strict=True))
    return y[0] if len(y) == 1 else y


def _encode(signature: Signature, inputs: Sequence[npt.ArrayLike]) -> bytes:
    """The stored inputs of a call, as a runner reads them. Errors: DataError."""
    arrays = signature.stored(inputs)
    pairs = zip(signature.inputs, arrays, strict=True)
    return b"".join(port.encode(x) for port, x in pairs)


def _decode(content: bytes, signatures: Sequence[Signature]) -> list[tuple[Array, ...]]:
    """The stored outputs of calls, as a runner wrote them."""
    at, results = 0, []
    for signature in signatures:
        outputs = []
        for port in signature.outputs:
            outputs.append(port.decode(content, at))
            at += port.size_bytes
        results.append(tuple(outputs))
    return results


def _status(code: int) -> str:
    if code >= 0:
        meaning = STATUS.get(code)
        return f"status {code}" + (f" ({meaning})" if meaning else "")
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
