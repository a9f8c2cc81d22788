"""Runs an artifact for another machine: its own executable, under an emulator of that machine."""

from __future__ import annotations

import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from .border import dequantized, quantized
from .errors import ArtifactError, listed
from .load import Loaded
from .port import Array, Port
from .program import Program

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
        self, loaded: Loaded, seconds: float = SECONDS, variant: str | None = None
    ) -> None:
        """Errors: ArtifactError when the artifact holds no runner, or its emulator is missing."""
        super().__init__(loaded)
        self.seconds, runner = seconds, self.manifest["runner"]
        target, emulator = self.manifest["target"]["name"], self.manifest["emulator"]
        if runner is None or not emulator:
            raise ArtifactError(
                f"artifact {loaded.name}: made for {target} without a runner, one is needed to"
                " emulate"
            )
        if shutil.which(emulator[0]) is None:
            raise ArtifactError(
                f"artifact {loaded.name}: {emulator[0]} is not installed, it is needed to emulate"
                f" {target}",
                f"apt-get install {package(emulator[0])}",
            )
        self._home = tempfile.TemporaryDirectory(prefix="qir-")  # lives as long as this object
        file = Path(self._home.name) / "runner"
        file.write_bytes(loaded.files[runner])
        file.chmod(0o700)
        self._command = [*emulator, str(file)]
        self._variant = variant
        self._chosen = [] if variant is None else [str(self._number(variant))]

    @property
    def variant(self) -> str | None:
        if self.variants and self._variant is None:
            (number,) = struct.unpack("<i", self._ask(b"", ["which"]))
            self._variant = self.variants[number]
        return self._variant

    def __call__(self, *reals: npt.ArrayLike) -> Any:
        self._count(reals)
        pairs = zip(self.inputs, reals, strict=True)
        (found,) = self._run([[_border(port, x) for port, x in pairs]])
        y = tuple(dequantized(port, q) for port, q in zip(self.outputs, found, strict=True))
        return y[0] if len(y) == 1 else y

    def run_many(self, cases: Sequence[Sequence[npt.ArrayLike]]) -> list[tuple[Array, ...]]:
        return self._run([self._stored(case) for case in cases])

    def profile(self, *stored: npt.ArrayLike) -> list[tuple[dict[str, Any], int]]:
        raise ArtifactError(
            f"artifact {self.loaded.name}: emulated, a machine of its own is needed to time it"
        )

    def _run(self, cases: Sequence[Sequence[Array]]) -> list[tuple[Array, ...]]:
        parts = [struct.pack("<I", len(cases))]
        parts += [port.written(x) for case in cases for port, x in
                  zip(self.inputs, case, strict=True)]  # fmt: skip
        content, at, found = self._ask(b"".join(parts), self._chosen), 0, []
        needed = len(cases) * sum(port.size_bytes for port in self.outputs)
        if len(content) != needed:
            raise self._fault(f"gave {len(content)} bytes, {needed} are needed")
        for _ in cases:
            outputs = []
            for port in self.outputs:
                outputs.append(port.read(content, at))
                at += port.size_bytes
            found.append(tuple(outputs))
        return found

    def _ask(self, given: bytes, arguments: Sequence[str]) -> bytes:
        command = [*self._command, *arguments]
        try:
            done = subprocess.run(command, input=given, capture_output=True, timeout=self.seconds)
        except subprocess.TimeoutExpired as e:
            raise self._fault(f"ran over {self.seconds:g} s, an end is needed") from e
        except OSError as e:
            raise self._fault(f"cannot be started ({e.strerror}), a working one is needed") from e
        if done.returncode:
            raise self._fault(
                f"ended with {_status(done.returncode)}, status 0 is needed",
                done.stderr.decode(errors="replace").strip().splitlines()[-5:],
            )
        return done.stdout

    def _fault(self, what: str, said: Sequence[str] = ()) -> ArtifactError:
        return ArtifactError(
            listed(f"artifact {self.loaded.name}: its runner under {self._command[0]} {what}", said)
        )

    def close(self) -> None:
        self._home.cleanup()


def package(emulator: str) -> str:
    """The Debian package that holds an emulator: of programs, or of whole machines."""
    return emulator if emulator.startswith("qemu-system-") else "qemu-user"


def _border(port: Port, x: npt.ArrayLike) -> Array:
    return port.stored(x) if port.scale is None else quantized(port, port.real(x))


def _status(code: int) -> str:
    if code >= 0:
        meaning = STATUS.get(code)
        return f"status {code}" + (f" ({meaning})" if meaning else "")
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
