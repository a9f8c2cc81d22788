"""Links objects and C sources: one object, a static and a shared library."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qir.backends.toolchain import elf, interpreter
from qir.backends.toolchain.arm_attributes import neutral
from qir.ir.errors import LowerError, listed
from qir.ir.target import PYTHON, Target, Toolchain

FLAGS = ("-std=c11", "-O3", "-fPIC", "-ffp-contract=off", "-fno-math-errno",
         "-fno-trapping-math", "-fno-ident", "-ffunction-sections", "-fdata-sections",
         "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-stack-protector",
         "-U_FORTIFY_SOURCE", "-frandom-seed=qir")  # fmt: skip
"""Of every C file: nothing of the machine that compiles gets into the object."""

WARNINGS: tuple[str, ...] = ()
"""What the compiler warns of: nothing, since the next one knows more; the tests ask for all."""

LIBC = re.compile(
    r"mem(set|cpy|move|cmp)|calloc|malloc|aligned_alloc|free|abort|clock_gettime|rintf?|lrintf?"
    r"|getpid|sched_yield|sysconf|sem_\w+|sigfillset|pthread_\w+|(__)?getauxval|__cxa_finalize"
    r"|__gmon_start__|_ITM_\w+|__stack_chk_fail|__memcpy_chk"
    r"|__aeabi_\w+|__hexagon_\w+"
)
"""What a library may ask of its surroundings: libc, and the helpers of ARM's and Hexagon's ABI."""

RUNNER_FLAGS = ("-std=gnu11", "-O2", "-ffreestanding", "-fno-builtin", "-fno-stack-protector",
                "-fomit-frame-pointer", "-fno-ident", "-frandom-seed=qir")  # fmt: skip

RELOCATABLE = ("-r", "-nostdlib", "-Wl,--build-id=none", "-Wl,--gc-sections")
"""Of the core in one object: what no export needs is left out, such as TVM's own float helpers."""

OTHER_OBJECTS = ("darwin", "win32", "cygwin")
"""Systems whose object files are no ELF files."""

SECONDS = 300  # a compiler that takes longer hangs


@dataclass(frozen=True)
class Linked:
    """The result of linking: the bytes of each file, and the compiler's version.

    `library`: none where there is no operating system. `runner`: an executable for emulators.
    """

    object: bytes
    archive: bytes
    library: bytes | None
    runner: bytes | None
    compiler: str
    undefined: tuple[str, ...]


def toolchain(target: Target) -> Toolchain:
    """The first toolchain of the target that this machine has; $CC goes first.

    Errors: LowerError that says what to install, or that what it would make cannot be linked.
    """
    if target.system in OTHER_OBJECTS:
        raise LowerError(
            f"target {target}: objects of {target.system} cannot be linked, those of Linux or of"
            " bare metal are needed",
            "compile for a machine by name, as arm or x86",
        )
    candidates = candidates_of(target)
    natives = [t for t in candidates[:1] if t.is_native]
    if natives and (command := os.environ.get("CC")):
        candidates.insert(
            0, replace(natives[0], name=f"$CC = {command}", compiler=tuple(shlex.split(command)))
        )
    for candidate in candidates:
        if is_there(candidate.compiler):
            return candidate
    attempts = [f"{c.name}: not found; {c.install}" for c in candidates]
    raise LowerError(
        listed(f"target {target}: no C compiler found, one of these is needed", attempts)
    )


def candidates_of(target: Target) -> list[Toolchain]:
    """The toolchains of the target; those of this machine only where it is of the same kind."""
    here = platform.machine(), 8 * struct.calcsize("P")
    is_here = (target.machine, target.pointer_bits) == here
    return [t for t in target.toolchains if is_here or not t.is_native]


def is_there(command: Sequence[str]) -> bool:
    """Whether this machine has the command."""
    if command[0] == PYTHON:
        return interpreter.has_module(command[2])
    return shutil.which(command[0]) is not None


def _run(command: Sequence[str], folder: Path, task: str) -> str:
    """Run in `folder`, with nothing of the caller's language or place in the output."""
    arguments = [sys.executable if part == PYTHON else part for part in command]
    if os.sep in arguments[0]:
        arguments[0] = os.path.abspath(arguments[0])  # noqa: PTH100 (a link to a compiler stays one)
    variables = interpreter.environment() if command[0] == PYTHON else dict(os.environ)
    environment = {**variables, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0", "ZERO_AR_DATE": "1"}
    try:
        process = _finished(arguments, folder, environment)
    except subprocess.TimeoutExpired as e:
        raise LowerError(f"{task}: {arguments[0]} ran over {SECONDS} s, an end is needed") from e
    except OSError as e:
        raise LowerError(
            f"{task}: {arguments[0]} cannot run ({e.strerror}), a working compiler is needed"
        ) from e
    if process.returncode != 0:
        messages = [line for line in process.stderr.splitlines() if line.strip()]
        raise LowerError(
            listed(
                f"{task}: {arguments[0]} ended with {process.returncode}, 0 is needed",
                messages or ["(silent)"],
            )
        )
    return process.stdout


def _finished(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """The process at its end. Whatever ends the wait for it ends those that it started, too."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True,
                          errors="replace", start_new_session=True) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def version(tools: Toolchain, folder: Path) -> str:
    """The compiler's first line about itself; it runs in `folder`."""
    text = _run((*tools.compiler, "--version"), folder, "compiler version")
    return text.splitlines()[0].strip() if text.strip() else tools.name


def link(
    target: Target,
    name: str,
    sources: Mapping[str, str],
    objects: Mapping[str, bytes],
    exports: Sequence[str],
    runner: Mapping[str, bytes],
) -> Linked:
    """Compile the .c among `sources` (headers lie beside them), and link them with `objects`.

    NAME.c and the objects become one object, the core; in the archive the other files stay apart,
    so that a program takes only those it calls.
    The same input and compiler give the same bytes. Only `exports` are visible in the shared
    library. `runner`: the further files of a static executable; empty where none is wanted.
    Errors: LowerError without a compiler, with its words when it refuses, or when the library needs
    more than libc.
    """
    tools = toolchain(target)
    with tempfile.TemporaryDirectory(prefix="qir-") as temporary:
        folder = Path(temporary)
        for file, content in objects.items():
            (folder / file).write_bytes(content)
        for file, source in sources.items():
            (folder / file).write_text(source)
        compiled = [
            _compile(tools, target, folder, name, file) for file in sources if file.endswith(".c")
        ]
        core, rest = f"{name}.c.o", [file for file in compiled if file != f"{name}.c.o"]
        core_object, archive = f"{name}.o", f"lib{name}.a"
        cc = (*tools.compiler, *tools.flags)
        others = [s for c in _contents(folder, rest) for s in elf.symbols(c)]
        elsewhere = {s.name for s in others if s.is_defined}
        roots = [f"-Wl,-u,{symbol}" for symbol in exports if symbol not in elsewhere]
        _run(
            (*cc, *RELOCATABLE, *roots, "-o", core_object, core, *objects),
            folder,
            f"link {core_object}",
        )
        if not target.is_hosted:  # firmware is of any ABI
            for file in (core_object, *rest):
                (folder / file).write_bytes(neutral((folder / file).read_bytes()))
        _run((*tools.archiver, "rcsD", archive, core_object, *rest), folder, f"archive {archive}")
        inputs = (core_object, *rest)
        library = _shared(cc, folder, name, inputs, exports) if target.is_hosted else None
        foreign = elf.undefined(*([library] if library else _contents(folder, inputs)))
        if missing := [s for s in foreign if not LIBC.fullmatch(s.split("@")[0])]:
            raise LowerError(
                listed(f"library {name}: needs symbols that libc does not have", missing)
            )
        contents = _contents(folder, (core_object, archive))
        executable = _static(cc, folder, archive, runner) if runner else None
        return Linked(
            contents[0], contents[1], library, executable, version(tools, folder), foreign
        )


def _static(cc: Sequence[str], folder: Path, archive: str, runner: Mapping[str, bytes]) -> bytes:
    """An executable of the runner's files and the archive that needs no library at all."""
    for file, content in runner.items():
        (folder / file).write_bytes(content)
    objects = []
    for file in (f for f in runner if f.endswith((".c", ".S"))):
        objects.append(f"{file}.o")
        _run((*cc, *RUNNER_FLAGS, "-c", file, "-o", objects[-1]), folder, f"compile {file}")
    flags = ("-static", "-nostdlib", "-Wl,--build-id=none", "-Wl,-e,_start", "-Wl,--gc-sections",
             "-s")  # fmt: skip
    maps = [f"-Wl,-T,{file}" for file in runner if file.endswith(".ld")]
    _run((*cc, *flags, *maps, "-o", "runner", *objects, archive), folder, "link runner")
    return (folder / "runner").read_bytes()


def _compile(tools: Toolchain, target: Target, folder: Path, name: str, file: str) -> str:
    out = f"{Path(file).stem}.c.o"
    hosted = f"-D{name.upper()}_HOSTED={int(target.is_hosted)}"
    command = (
        *tools.compiler, *tools.flags, *FLAGS, *WARNINGS, *target.c_flags,
        hosted, "-c", file, "-o", out,
    )  # fmt: skip
    _run(command, folder, f"compile {file}")
    return out


def _contents(folder: Path, files: Iterable[str]) -> list[bytes]:
    return [(folder / file).read_bytes() for file in files]


def _shared(
    cc: Sequence[str], folder: Path, name: str, inputs: Iterable[str], exports: Iterable[str]
) -> bytes:
    visible = "".join(f" {symbol};" for symbol in sorted(exports))
    (folder / "exports").write_text(f"{{ global:{visible} local: *; }};\n")
    file = f"lib{name}.so"
    flags = ("-shared", "-pthread", "-Wl,--build-id=none", "-Wl,--version-script=exports",
             "-Wl,-z,noexecstack",
             "-Wl,-z,relro,-z,now", f"-Wl,-soname,{file}", "-s")  # fmt: skip
    _run((*cc, *flags, "-o", file, *inputs), folder, f"link {file}")
    return (folder / file).read_bytes()
