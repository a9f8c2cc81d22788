"""Program: the lowered stage.

Kernel calls in order, buffers with offsets, packed constants; prints as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from qir.backends.kernels.kernel import Code
from qir.backends.kernels.view import View
from qir.ir.op import Loc, Value
from qir.ir.states import Limit
from qir.ir.target import Target

INPUT, OUTPUT, WEIGHTS, WORKSPACE, STATE = "input", "output", "weights", "workspace", "state"


@dataclass(frozen=True)
class Address:
    """`offset` bytes into the workspace, the weights, the state, or input or output `index`."""

    space: str
    offset: int
    index: int = 0

    def __str__(self) -> str:
        number = f" {self.index}" if self.space in (INPUT, OUTPUT) else ""
        return f"{self.space}{number}+{self.offset}"


@dataclass(frozen=True)
class Argument:
    """One pointer of a kernel: its name, its target, and the tensor there, as it lies."""

    name: str
    address: Address
    about: str = ""
    view: View | None = None


@dataclass(frozen=True)
class Step:
    """One kernel call.

    `symbol` names its code; `ops` are the graph's ops it computes, by first result;
    `constants_bytes`: of the kernel's weights, tables and multipliers, as packed, what it reads.
    `job`: the number that it shares with adjacent steps which may run at the same time. `branch`:
    of one that several machines could share, the numbers of the fork and of the branch.
    """

    symbol: str
    title: str
    arguments: tuple[Argument, ...]
    units: int
    ops: tuple[str, ...]
    loc: Loc
    macs: int = 0
    bytes_moved: int = 0
    constants_bytes: int = 0
    job: int = 0
    branch: tuple[int, int] | None = None


@dataclass(frozen=True)
class Buffer:
    """`size_bytes` of the workspace from `offset`, in use from step `first` to step `last`."""

    name: str
    about: str
    size_bytes: int
    offset: int
    first: int
    last: int


@dataclass(frozen=True)
class StateBuffer:
    """A buffer that is kept from call to call, at `offset` in the caller's state; before the first
    call every element is `initial`.
    """

    value: Value
    offset: int
    initial: int


@dataclass(frozen=True)
class LoweredProgram:
    """The program of an artifact. `codes`: the code of each symbol; equal codes share one.

    `inputs` and `outputs` are the caller's; what the integers of inputs must be is in `limits`.
    `workspace_bound` is the most bytes alive at once: no plan can do with less. `variant`: the
    machine it is for, where the artifact has programs for several. `entry`: its name, where the
    artifact has entries; these share `states` of `state_bytes`.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...]
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    codes: Mapping[str, Code]
    weights: bytes
    workspace_bytes: int
    workspace_bound: int
    variant: Target | None = None
    entry: str = ""
    states: tuple[StateBuffer, ...] = ()
    state_bytes: int = 0
    limits: tuple[Limit, ...] = ()

    @property
    def c_name(self) -> str:
        """What the C names of its functions start with."""
        return f"{self.name}_{self.entry}" if self.entry else self.name

    @property
    def jobs(self) -> tuple[int, ...]:
        """How many steps each job has."""
        return tuple(Counter(step.job for step in self.steps).values())

    @property
    def has_jobs(self) -> bool:
        """Whether steps may run at the same time."""
        return len(self.jobs) < len(self.steps)

    @property
    def macs(self) -> int:
        return sum(step.macs for step in self.steps)

    @property
    def text(self) -> str:
        """Readable, one line for each buffer and step."""
        variant = f" variant={self.variant}" if self.variant else ""
        entry = f" entry={self.entry}" if self.entry else ""
        lines = [f"program @{self.name}{entry}{variant} stage=lowered {{"]
        lines += [f"  input {i} {v}: {v.type}" for i, v in enumerate(self.inputs)]
        outputs = enumerate(zip(self.outputs, self.output_names, strict=True))
        lines += [f"  output {i} {v} as {name}: {v.type}" for i, (v, name) in outputs]
        lines += [f"  state {s.value}: {s.value.type} at {s.offset}" for s in self.states]
        lines.append(f"  weights {len(self.weights)} bytes")
        lines.append(
            f"  workspace {self.workspace_bytes} bytes, at least {self.workspace_bound} needed"
        )
        for b in self.buffers:
            lines.append(
                f"  buffer {b.name}: {b.about}, {b.size_bytes} bytes at {b.offset},"
                f" steps {b.first}-{b.last}"
            )
        has_jobs = self.has_jobs
        for i, step in enumerate(self.steps):
            arguments = ", ".join(f"{a.name}={a.address}" for a in step.arguments)
            units = f"units={step.units}" + (f" job={step.job}" if has_jobs else "")
            lines.append(f"  {i}: {step.symbol}({arguments}) {units}  // {step.title}")
        return "\n".join([*lines, "}", ""])


def size_bytes(value: Value) -> int:
    """Bytes of a packed tensor of this type."""
    return prod(value.type.shape) * value.type.elem.carrier.itemsize
