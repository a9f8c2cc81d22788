"""The C of one entry: what it checks before the first step, and its functions."""

from __future__ import annotations

from collections.abc import Iterator

from qir.backends.c.template import fill
from qir.backends.lowering.program import LoweredProgram, StateBuffer

TYPES = {
    "uint8": "uint8_t",
    "int8": "int8_t",
    "uint16": "uint16_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "uint32": "uint32_t",
    "int64": "int64_t",
}
"""The C type of each carrier."""


def local(program: LoweredProgram) -> str:
    """The prefix of an entry's static names; empty for a single program."""
    return f"{program.entry}_" if program.entry else ""


def parameters(program: LoweredProgram) -> dict[str, str]:
    """How the state comes in and is checked; nothing of it for a single program."""
    has_state = bool(program.state_bytes)
    return {
        "C_NAME": program.c_name,
        "MACRO": program.c_name.upper(),
        "STATE": "void *state, " if program.entry else "",
        "IS_NULL": "!state || " if has_state else "",
        "PLACE": "(uintptr_t)state | " if has_state else "",
        "GIVEN": "state, " if program.entry else "",
    }


def prepare(program: LoweredProgram) -> str:
    """The function that checks the arguments of a call."""
    slots = parameters(program)
    return fill(
        "entry/prepare.c",
        LOCAL=local(program),
        UPPER=program.name.upper(),
        LIMITS="".join(_limits(program)),
        KEEP="    c->state = state;\n" if program.entry else "",
        **{key: slots[key] for key in ("MACRO", "STATE", "IS_NULL", "PLACE")},
    )


def _limits(program: LoweredProgram) -> Iterator[str]:
    for limit in program.limits:
        value = program.inputs[limit.index]
        kind, count = TYPES[str(value.type.elem.carrier)], value.type.size
        wide = "int64_t" if kind in ("uint32_t", "int64_t") else "int32_t"
        yield (
            f"    for (int32_t i = 0; i < {count}; i++) {{\n"
            f"        const {wide} v = ((const {kind} *)inputs[{limit.index}])[i];\n"
            f"        if (v < {limit.low} || v > {limit.high}) return 3;\n    }}\n"
        )


STEP, JOB = (
    " i++) do_step(&order.first[i], &c, threads)",
    ") i += do_job(&order.first[i], &c, threads)",
)
"""What NAME_run does again and again."""


def run(program: LoweredProgram, number: int, has_jobs: bool) -> str:
    """NAME_run, or NAME_ENTRY_run."""
    next_ = JOB if has_jobs else STEP
    return _call("entry/run.c", program, number, ("C_NAME", "STATE", "GIVEN"), NEXT=next_)


def profile(program: LoweredProgram, number: int) -> str:
    """NAME_profile, or NAME_ENTRY_profile."""
    return _call("entry/profile.c", program, number, ("C_NAME", "MACRO", "STATE", "GIVEN"))


def _call(
    template: str, program: LoweredProgram, number: int, keys: tuple[str, ...], **more: str
) -> str:
    slots = parameters(program)
    return fill(
        template,
        LOCAL=local(program),
        WHICH=number if program.entry else "",
        **{key: slots[key] for key in keys},
        **more,
    )


def reset(program: LoweredProgram) -> str:
    """NAME_reset_state."""
    if not program.state_bytes:
        return f"void {program.name}_reset_state(void *state) {{\n    (void)state;\n}}\n\n"
    fills = "".join(_fill(state) for state in program.states if state.initial)
    filled = fill("entry/reset_state.c", NAME=program.name, UPPER=program.name.upper(), FILLS=fills)
    return filled + "\n"


def _fill(state: StateBuffer) -> str:
    kind, count = TYPES[str(state.value.type.elem.carrier)], state.value.type.size
    return (
        f"    for (int32_t i = 0; i < {count}; i++) {{\n"
        f"        (({kind} *)(void *)(bytes + {state.offset}))[i] = {state.initial};\n    }}\n"
    )
