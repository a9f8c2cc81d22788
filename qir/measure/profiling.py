"""The time of each op of a program on this machine, on random inputs."""

from __future__ import annotations

import numpy as np

from qir.ir.states import limits
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
    inputs = inputs_within(net, signature)
    if session.has_entries:
        state = session.new_state()
        runs = [session.profile_call(signature, state, inputs) for _ in range(PROFILES)]
    else:
        runs = [session.profile(*inputs) for _ in range(PROFILES)]
    moves = [sum(nanoseconds for step, nanoseconds in run if not step["ops"]) for run in runs]
    report = net.report().with_times(micros_by_op(runs))
    return report, float(np.median(moves)) / 1000


def inputs_within(net: Net, signature: Signature) -> list[Array]:
    """Stored integers for every input, within their limits: the same ones each time."""
    bounds = {limit.input: (limit.low, limit.high) for limit in signature.limits}
    if not net.session.has_entries:  # then the graph alone says what the limits are
        graphs = (g for g in net.stages.values() if g.stage == "integer")
        bounds = {x.index: (x.low, x.high) for graph in graphs for x in limits(graph)}
    inputs = [stored(port) for port in signature.inputs]
    return [
        np.clip(x, *bounds[i]).astype(x.dtype) if i in bounds else x for i, x in enumerate(inputs)
    ]


def reals_within(net: Net) -> list[Array]:
    """Reals over the whole range of every input of a net without entries, or stored integers
    within its limits where it has no scale.
    """
    within = inputs_within(net, net.session.signatures[0])
    return [_reals(port, x) for port, x in zip(net.session.inputs, within, strict=True)]


def _reals(port: Port, within: Array) -> Array:
    if port.scale is None or port.zero_point is None:
        return within
    low, high = ((x - port.zero_point[0]) * port.scale[0] for x in (port.low, port.high))
    return np.random.default_rng(0).uniform(low, high, port.shape).astype(np.float32)


def stored(port: Port) -> Array:
    """Uniform stored integers; the same ones each time."""
    integers = np.random.default_rng(0).integers(port.low, port.high, port.shape, endpoint=True)
    return integers.astype(port.dtype)
