"""ARM processors: AArch64 and ARMv7 under Linux, Cortex-M without an operating system."""

from __future__ import annotations

from dataclasses import replace

from qir.backends.targets.toolchains import HOST, gnu, zig
from qir.ir.target import Target

LINUX_NAMES = {"neon": "asimd", "dotprod": "asimddp", "i8mm": "i8mm"}
"""LLVM's name of each feature of AArch64 -> the name in /proc/cpuinfo."""


def aarch64(name: str, features: tuple[str, ...], about: str, *aliases: str) -> Target:
    """A 64-bit ARM Linux machine with NEON and these LLVM features."""
    every = ("neon", *features)
    return Target(
        name=name,
        triple="aarch64-linux-gnu",
        cpu="generic",
        features=every,
        needs=tuple(LINUX_NAMES[f] for f in every),
        machine="aarch64",
        system="linux",
        toolchains=(
            *HOST,
            zig("aarch64-linux-gnu.2.17"),
            gnu("aarch64-linux-gnu", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
        ),
        aliases=aliases,
        about=about,
        emulator=("qemu-aarch64", "-cpu", "max"),
    )


def cortex_m(name: str, triple: str, about: str) -> Target:
    """A Cortex-M with DSP instructions: an object, a static library and a header."""
    return Target(
        name=name,
        triple=triple,
        cpu=name,
        features=("dsp",),
        needs=(),
        machine=name,
        system="none",
        toolchains=(
            zig("thumb-freestanding-eabihf", f"-mcpu={name.replace('-', '_')}"),
            gnu(
                "arm-none-eabi", "gcc-arm-none-eabi", f"-mcpu={name}", "-mthumb", "-mfloat-abi=hard"
            ),
        ),
        pointer_bits=32,
        c_flags=("-fno-pic",),  # the table of steps is then constant: in flash, not in RAM
        is_hosted=False,
        alignment=16,
        about=about,
        options=(("mfloat-abi", "hard"),),
        emulator=("qemu-arm", "-cpu", "max"),
    )


BASELINE = aarch64("aarch64", (), "any 64-bit ARM machine under Linux", "arm64")
DOTPROD = aarch64(
    "aarch64-dotprod", ("dotprod",), "64-bit ARM with sdot (Cortex-A55, A76 and newer)"
)
I8MM = aarch64(
    "aarch64-i8mm", ("dotprod", "i8mm"), "64-bit ARM with smmla (Neoverse V1, Cortex-A510, newer)"
)
ANY = replace(
    BASELINE,
    name="arm",
    aliases=(),
    about="any 64-bit ARM under Linux; code for sdot and smmla too, chosen when it runs",
    variants=(BASELINE, DOTPROD, I8MM),
)
ARMV7 = Target(
    name="armv7",
    triple="armv7a-linux-gnueabihf",
    cpu="generic",
    features=("neon",),
    needs=("neon",),
    machine="armv7l",
    system="linux",
    toolchains=(
        *HOST,
        zig("arm-linux-gnueabihf.2.17", "-mcpu=generic+v7a+neon"),
        gnu("arm-linux-gnueabihf", "gcc-arm-linux-gnueabihf", "-march=armv7-a+simd"),
    ),
    pointer_bits=32,
    about="32-bit ARM with NEON under Linux",
    options=(("mfloat-abi", "hard"),),
    emulator=("qemu-arm", "-cpu", "max"),
)
CORTEX_M4 = cortex_m("cortex-m4", "thumbv7em-none-eabihf", "Cortex-M4 with smlad, bare metal")
CORTEX_M7 = cortex_m("cortex-m7", "thumbv7em-none-eabihf", "Cortex-M7 with smlad, bare metal")
CORTEX_M33 = cortex_m(
    "cortex-m33", "thumbv8m.main-none-eabihf", "Cortex-M33 with DSP instructions, bare metal"
)
CORTEX_M55 = replace(
    cortex_m("cortex-m55", "thumbv8.1m.main-none-eabihf", "Cortex-M55 with MVE, bare metal"),
    features=("dsp", "mve"),
    emulator=(
        "qemu-system-arm", "-M", "mps3-an547", "-display", "none", "-monitor", "none",
        "-serial", "none", "-semihosting-config", "enable=on,target=native", "-kernel",
    ),
    board="mps3_an547",
)  # fmt: skip
