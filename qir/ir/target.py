"""Target: a machine as data. A new machine is a new value of this class, and no new code."""

from __future__ import annotations

from dataclasses import dataclass

PYTHON = "{python}"  # in a command: the interpreter that runs


@dataclass(frozen=True)
class Toolchain:
    """One way to compile and link C: the compiler's command, the archiver's, what to install.

    `flags` follow the compiler's name in every call. A command may start with PYTHON. `is_native`:
    it makes code for the machine it runs on, so that $CC may stand in for it.
    """

    name: str
    compiler: tuple[str, ...]
    archiver: tuple[str, ...]
    install: str
    flags: tuple[str, ...] = ()
    is_native: bool = False


@dataclass(frozen=True)
class Target:
    """A machine that qir compiles for.

    `triple`, `cpu`, `features` are LLVM's names. `needs` are the features a machine must report to
    run the code, by the names its system uses for them (on Linux those in /proc/cpuinfo). `machine`
    and `system` are what platform.machine() and sys.platform say there. `is_hosted`: there is an
    operating system with a C library and shared libraries. `c_flags` are the C compiler's alone,
    such as those that let it use `features`; `options` are further ones of LLVM's, such as the
    float ABI. `generator`: what turns kernels into code, "llvm" or "c". `emulator`: the command
    that runs a static executable of this machine on another one; empty where there is none.
    `board`: the bare board that it emulates, whose memory map the executable is linked for; empty
    with a system.
    `alignment`: bytes, of the workspace, of every buffer in it, and of the weights.
    `variants`: narrower machines whose code goes into one program side by side, the one that needs
    least first; when it runs, the last that the machine can run is taken.
    """

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    needs: tuple[str, ...]
    machine: str
    system: str
    toolchains: tuple[Toolchain, ...]
    aliases: tuple[str, ...] = ()
    pointer_bits: int = 64
    c_flags: tuple[str, ...] = ()
    is_hosted: bool = True
    about: str = ""
    generator: str = "llvm"
    options: tuple[tuple[str, str | tuple[str, ...]], ...] = ()
    emulator: tuple[str, ...] = ()
    board: str = ""
    alignment: int = 64
    variants: tuple[Target, ...] = ()

    @property
    def architecture(self) -> str:
        """The first part of the triple without its version: x86_64, aarch64, arm, thumb, ..."""
        name = self.triple.split("-")[0]
        return next((a for a in ("arm", "thumb", "riscv64") if name.startswith(a)), name)

    @property
    def traits(self) -> frozenset[str]:
        """The traits that the choice of kernels depends on: features and architecture."""
        return frozenset((*self.features, self.architecture))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    def __str__(self) -> str:
        return self.name
