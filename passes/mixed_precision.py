"""Mixed precision of a graph: the request, the choices of each layer, the best assignment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import networkx as nx

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.op import Op
from qir.ir.ops import Add, Concat, Sub
from qir.ir.ops.kinds import Layer, Selection
from qir.ir.ops.unary import Clamp
from qir.passes.bits.assign import assign, pareto
from qir.passes.bits.choice import Assignment, Bits, LayerChoices
from qir.passes.bits.costs import (
    BOPS,
    LATENCY,
    SIZE,
    LayerWork,
    average_limits,
    bound_at,
    measured_layer,
)
from qir.passes.bits.groups import Rules
from qir.passes.infra.layers import layers_of, weights_of
from qir.passes.sensitivity.measure import Effort

OwnLoss = Callable[[Any, Any], Any]
Losses = Mapping[str, Mapping[Bits, float]]
FRONT = 12  # points of the front that is drawn


@dataclass(frozen=True)
class MixedPrecision:
    """A request for the bits of least loss, layer by layer, within all limits.

    size, bops, latency:   a limit at this share (0 to 1) of the way from the cheapest choices of
                           all layers to the most expensive, as in HAWQ-V3
    size_bytes:            bytes of all weights; latency_us: of the whole program, as measured
    weight_bits,
    activation_bits:       averages over all weights, and over all elements that layers read
    choices:               the bits a layer may have: Bits, or texts such as w4a8, w4g32a8
    ends:                  the bits of the first and last layers, None to choose them too
    ties:                  layers whose sums or concatenations meet have the same bits
    measure:               what a choice loses: "hessian" (HAWQ-V3's omega), or another of
                           qir.passes.sensitivity

    loss:                  of the user's: (outputs, indices of the samples) -> a mean over these; by
                           default how far the outputs are from the float network's own
    effort:                samples and draws of the measures

    Errors: PassError for a share outside [0, 1], no limit, or fewer than two choices.
    Source: HAWQ-V3, arXiv:2011.10680; MixDQ, arXiv:2405.17873, for averages.
    """

    size: float | None = None
    bops: float | None = None
    latency: float | None = None
    size_bytes: float | None = None
    latency_us: float | None = None
    weight_bits: float | None = None
    activation_bits: float | None = None
    choices: Sequence[Bits | str] = ("w4a8", "w8a8")
    ends: Bits | str | None = "w8a8"
    ties: bool = True
    measure: str = "hessian"
    loss: OwnLoss | None = None
    effort: Effort | None = None

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in (*SHARES, *AMOUNTS)}
        requests = {name: limit for name, limit in limits.items() if limit is not None}
        if not requests:
            raise PassError(
                f"mixed precision: no limit is given, one of {', '.join(limits)} is needed"
            )
        for name, limit in requests.items():
            is_number = isinstance(limit, Real) and not isinstance(limit, bool)
            if not is_number:
                raise PassError(f"mixed precision: {name} is {limit!r}, a number is needed")
            if name in SHARES and not 0 <= limit <= 1:
                raise PassError(
                    f"mixed precision: {name} is {limit}, a share from 0 to 1 is needed",
                    hint="size_bytes and latency_us are amounts",
                )
            if not math.isfinite(limit) or limit < 0:
                raise PassError(f"mixed precision: {name} is {limit}, 0 or more is needed")
        if not isinstance(self.choices, Sequence) or isinstance(self.choices, str):
            raise PassError(
                f"mixed precision: choices are {self.choices!r}, a sequence of bits is needed"
            )
        if self.ends is not None:
            _bits(self.ends)
        if len(set(self.widths)) < 2:
            raise PassError(
                f"mixed precision: choices are {', '.join(map(str, self.widths)) or 'none'}, two or"
                " more are needed"
            )

    @property
    def widths(self) -> tuple[Bits, ...]:
        return tuple(_bits(choice) for choice in self.choices)

    @property
    def needs_latency(self) -> bool:
        return self.latency is not None or self.latency_us is not None

    def __str__(self) -> str:
        names = (*SHARES, *AMOUNTS)
        return ", ".join(
            f"{name}={getattr(self, name):g}" for name in names if getattr(self, name) is not None
        )


SHARES = {"size": SIZE, "bops": BOPS, "latency": LATENCY}
AMOUNTS = ("size_bytes", "latency_us", "weight_bits", "activation_bits")


def _bits(bits: object) -> Bits:
    """Errors: PassError or ParseError for what names no bits."""
    if isinstance(bits, Bits):
        return bits
    if isinstance(bits, str):
        return Bits.parse(bits)
    raise PassError(f"mixed precision: bits {bits!r} given, Bits or a text like w4a8 is needed")


@dataclass(frozen=True)
class BitPlan:
    """The best assignment and its problem: layers with losses and costs, limits and rules."""

    layers: tuple[LayerChoices, ...]
    limits: Mapping[str, float]
    rules: Rules
    best: Assignment
    front: tuple[Assignment, ...] = ()
    swept: str = SIZE


def layer_ops(graph: Graph) -> tuple[Layer, ...]:
    """The layers that have weights, in order; a layer is named by its result."""
    return tuple(op for op in layers_of(graph) if weights_of(graph, op) is not None)


def layer_works(graph: Graph) -> dict[str, LayerWork]:
    """How much each layer holds and does."""
    return {
        op.names[0]: LayerWork(
            parameters=op.w.type.size,
            macs=op.result.type.size * (op.w.type.size // op.w.type.shape[0]),
            activations=op.x.type.size,
        )
        for op in layer_ops(graph)
    }


def graph_rules(graph: Graph, request: MixedPrecision) -> Rules:
    """Ties of layers that meet, of layers that read one value, and the bits of the ends."""
    layers = layer_ops(graph)
    ends = {} if request.ends is None else dict.fromkeys(_ends(graph), _bits(request.ends))
    readers: dict[str, list[str]] = {}
    for op in layers:
        readers.setdefault(op.x.name, []).append(op.names[0])
    shared = [names for names in readers.values() if len(names) > 1]
    free = [[n for n in names if n not in ends] for names in shared]
    meeting = [[n for n in names if n not in ends] for names in _meeting(graph)]
    return Rules(
        ties=[names for names in meeting if len(names) > 1] if request.ties else (),
        activation_ties=[names for names in free if len(names) > 1],
        fixed=ends,
    )


def _ends(graph: Graph) -> list[str]:
    """Layers without a layer before them, or without one behind them."""
    names = {op.names[0] for op in layer_ops(graph)}
    flow: nx.DiGraph[str] = nx.DiGraph()
    for op in graph.ops:
        flow.add_edges_from((v.name, name) for v in op.operands for name in op.names)
    first = [n for n in names if not names & nx.ancestors(flow, n)]
    last = [n for n in names if not names & nx.descendants(flow, n)]
    return sorted({*first, *last})


def _meeting(graph: Graph) -> list[list[str]]:
    """The layers whose results, clamped or moved at most, meet at each sum or concatenation."""
    meetings = []
    for op in graph.ops:
        if isinstance(op, (Add, Sub, Concat)):
            makers = [_layer_behind(graph, v.name) for v in op.operands]
            meetings.append([name for name in makers if name is not None])
    return meetings


def _layer_behind(graph: Graph, name: str) -> str | None:
    maker: Op | None = graph.producers.get(name)
    while isinstance(maker, (Clamp, Selection)) and not isinstance(maker, Concat):
        maker = graph.producers.get(maker.operands[0].name)
    is_layer = isinstance(maker, Layer) and weights_of(graph, maker) is not None
    return maker.names[0] if maker is not None and is_layer else None


def plan_bits(
    graph: Graph,
    request: MixedPrecision,
    losses: Losses,
    latencies: Losses | None = None,
    rest_us: float = 0.0,
) -> BitPlan:
    """The best bits of a graph's layers within a request, and the Pareto front.

    losses:    of each layer, for each of its choices (the ends' own included)
    latencies: microseconds in the same way; rest_us are those of all that is no layer

    Errors: PassError as of assign.
    """
    works, rules = layer_works(graph), graph_rules(graph, request)
    layers = tuple(
        measured_layer(
            name,
            {bits: losses[name][bits] for bits in choices_of(name, request, rules)},
            works[name],
            None if latencies is None else latencies[name],
        )
        for name in works
    )
    limits = {
        resource: bound_at(layers, resource, share)
        for option, resource in SHARES.items()
        if (share := getattr(request, option)) is not None
    }
    limits |= average_limits(works.values(), request.weight_bits, request.activation_bits)
    for resource, amount in ((SIZE, request.size_bytes), (LATENCY, request.latency_us)):
        if amount is not None:
            less = amount - rest_us if resource == LATENCY else amount
            limits[resource] = min(less, limits.get(resource, math.inf))
    best = assign(layers, limits, rules)
    swept = next(iter(limits))
    return BitPlan(layers, limits, rules, best, pareto(layers, swept, FRONT, rules=rules), swept)


def choices_of(name: str, request: MixedPrecision, rules: Rules) -> tuple[Bits, ...]:
    """The bits that a layer may have."""
    return (rules.fixed[name],) if name in rules.fixed else request.widths
