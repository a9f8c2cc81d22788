"""The time of each op of a program on this machine, on random inputs."""

from __future__ import annotations

import numpy as np

from qir.ir.types import Array
from qir.net import Net
from qir.report.build import micros_by_op
from qir.report.model import Report
from qir.runtime import Port
from qir.runtime.signature import Signature

PROFILES = 50  # runs with a clock around each step; their median is taken


def profiled(net: Net, entry: str = "") -> tuple[Report, float]:
    """The report with the microseconds of each op, and those of steps that belong to no op; with
    entries, of one (default: the first, whose ops the report has).
    """
    session = net.session
    signature = session.signature(entry) if entry else session.signatures[0]
    inputs = inputs_within(signature)
    if session.has_entries:
        state = session.new_state()
        runs = [session.profile_call(signature, state, inputs) for _ in range(PROFILES)]
    else:
        runs = [session.profile(*inputs) for _ in range(PROFILES)]
    moves = [sum(spent for step, spent in run if not step["ops"]) for run in runs]
    report = net.report().with_times(micros_by_op(runs))
    return report, float(np.median(moves)) / 1000


def inputs_within(signature: Signature) -> list[Array]:
    """Stored integers for every input, within their limits: the same ones each time."""
    bounds = {limit.input: limit for limit in signature.limits}
    inputs = [stored(port) for port in signature.inputs]
    return [
        np.clip(x, bounds[i].low, bounds[i].high).astype(x.dtype) if i in bounds else x
        for i, x in enumerate(inputs)
    ]


def reals(port: Port) -> Array:
    """Reals over the port's whole range, or stored integers if it has no scale."""
    if port.scale is None or port.zero_point is None:
        return stored(port)
    low, high = ((x - port.zero_point[0]) * port.scale[0] for x in (port.low, port.high))
    return np.random.default_rng(0).uniform(low, high, port.shape).astype(np.float32)


def stored(port: Port) -> Array:
    """Uniform stored integers; the same ones each time."""
    drawn = np.random.default_rng(0).integers(port.low, port.high, port.shape, endpoint=True)
    return drawn.astype(port.dtype)
