"""Target: a machine as data. A new machine is a new value of this class, and no new code."""

from __future__ import annotations

from dataclasses import dataclass

PYTHON = "{python}"  # in a command: the interpreter that runs


@dataclass(frozen=True)
class Toolchain:
    """One way to compile and link C: the compiler's command, the archiver's, what to install.

    `flags` follow the compiler's name in every call. A command may start with PYTHON.
    """

    name: str
    compiler: tuple[str, ...]
    archiver: tuple[str, ...]
    install: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A machine that qir compiles for.

    `triple`, `cpu`, `features` are LLVM's names. `needs` are the features a machine must report to
    run the code, by the names its system uses for them (on Linux those in /proc/cpuinfo). `machine`
    and `system` are what platform.machine() and sys.platform say there. `is_hosted`: there is an
    operating system with a C library and shared libraries. `c_flags` let the C compiler use what
    `features` let LLVM use.
    """

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    needs: tuple[str, ...]
    machine: str
    system: str
    vector_bits: int
    toolchains: tuple[Toolchain, ...]
    aliases: tuple[str, ...] = ()
    pointer_bits: int = 64
    c_flags: tuple[str, ...] = ()
    is_hosted: bool = True
    about: str = ""

    @property
    def vector_bytes(self) -> int:
        return self.vector_bits // 8

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    def __str__(self) -> str:
        return self.name
