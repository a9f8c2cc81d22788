"""The ways to round weights, by name."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.infra.tasks import Store, Tell, quiet
from qir.passes.rounding.adaquant import AdaQuant, AdaQuantBlocks
from qir.passes.rounding.adaround import AdaRound, AdaRoundBlocks
from qir.passes.rounding.base import RoundWeights
from qir.passes.rounding.column_methods import Gpfq, Gptq, QuantEase

METHODS: dict[str, tuple[RoundWeights, ...]] = {
    "adaround": (AdaRound(),),
    "adaquant": (AdaQuant(),),
    "gptq": (Gptq(),),
    "gpfq": (Gpfq(),),
    "quantease": (QuantEase(),),
    "adaround-blocks": (AdaRound(), AdaRoundBlocks()),
    "adaquant-blocks": (AdaQuant(), AdaQuantBlocks()),
}


Rounding = str | RoundWeights | Sequence[RoundWeights]
"""One of METHODS, or passes one after the other."""


def rounding_passes(
    method: Rounding,
    reference: Graph,
    sample: tuple[Array, ...],
    executor: Executor | None = None,
    store: Store | None = None,
    tell: Tell = quiet,
) -> Sequence[RoundWeights]:
    """The passes that round the weights of a simulated graph, as pipelines.quantize takes them.

    method: "adaround", or any other of METHODS, or passes without data.
    Errors: PassError for anything else.
    """
    return [one.on(reference, sample, executor, store, tell) for one in method_of(method)]


def method_of(given: Rounding) -> tuple[RoundWeights, ...]:
    """The passes of a method, without data yet.

    Errors: PassError for a name that is not in METHODS, or a pass that does not round weights.
    """
    needed = f"one of {', '.join(METHODS)} is needed"
    if isinstance(given, str):
        if given not in METHODS:
            raise PassError(f"rounding {given!r}: not known, {needed}")
        return METHODS[given]
    passes = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for one in passes:
        if not isinstance(one, RoundWeights):
            raise PassError(f"rounding: {one!r} given, {needed}, or such passes")
    return passes
