"""RISC-V processors with vectors."""

from __future__ import annotations

from qir.backends.targets.toolchains import HOST, gnu, zig
from qir.ir.target import Target

RV64GCV = Target(
    name="riscv64",
    triple="riscv64-linux-gnu",
    cpu="generic-rv64",
    features=("m", "a", "f", "d", "c", "v", "zvl128b"),
    needs=(),
    machine="riscv64",
    system="linux",
    toolchains=(
        *HOST,
        zig("riscv64-linux-gnu.2.27", "-mcpu=generic_rv64+m+a+f+d+c"),
        gnu("riscv64-linux-gnu", "gcc-riscv64-linux-gnu"),
    ),
    aliases=("riscv", "rv64gcv"),
    about="64-bit RISC-V under Linux with vectors of 128 bits and more (RV64GCV)",
    # A loop over vectors of unknown length begins with a remainder of its count by that length,
    # which is a division: loops are vectorized by the 128 bits that there are at least.
    options=(("mabi", "lp64d"), ("cl-opt", ("-scalable-vectorization:int=0",))),
    emulator=("qemu-riscv64", "-cpu", "rv64,v=true,vext_spec=v1.0"),
)
