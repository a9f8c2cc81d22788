"""The ways to choose stored weights, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.infra.tasks import Store, Tell, quiet
from qir.passes.quantize.rescue_groups import RescueGroups
from qir.passes.rounding.adaquant import AdaQuant, AdaQuantBlocks
from qir.passes.rounding.adaround import AdaRound, AdaRoundBlocks
from qir.passes.rounding.base import RoundWeights
from qir.passes.rounding.column_methods import Gpfq, Gptq, QuantEase

Method = RoundWeights | RescueGroups
METHODS: dict[str, tuple[Method, ...]] = {
    "adaround": (AdaRound(),),
    "adaquant": (AdaQuant(),),
    "gptq": (Gptq(),),
    "gpfq": (Gpfq(),),
    "quantease": (QuantEase(),),
    "adaround-blocks": (AdaRound(), AdaRoundBlocks()),
    "adaquant-blocks": (AdaQuant(), AdaQuantBlocks()),
    "rescue-groups": (RescueGroups(),),
}


Rounding = str | Method | Sequence[str | Method]
"""Some of METHODS, one after the other as in "rescue-groups,adaround", or such passes."""


def rounding_passes(
    method: Rounding,
    reference: Graph,
    sample: tuple[Array, ...],
    executor: Executor | None = None,
    store: Store | None = None,
    tell: Tell = quiet,
) -> Sequence[Method]:
    """The passes that choose the weights of a simulated graph, as pipelines.quantize takes them.

    method: "adaround", or any other of METHODS, or passes without data.
    Errors: PassError for anything else.
    """
    return [one.on(reference, sample, executor, store, tell) for one in method_of(method)]


def method_of(method: Rounding) -> tuple[Method, ...]:
    """The passes of a method, without data yet.

    Errors: PassError for a name that is not in METHODS, or a pass that does not choose weights.
    """
    parts: Sequence[Any] = method if isinstance(method, (list, tuple)) else (method,)
    return tuple(one for part in parts for one in _passes_of(part))


def _passes_of(part: Any) -> Iterator[Method]:
    requirement = f"one of {', '.join(METHODS)} is needed"
    if isinstance(part, Method):
        yield part
    elif isinstance(part, str):
        for name in part.split(","):
            if name.strip() not in METHODS:
                raise PassError(f"rounding {name!r}: not known, {requirement}")
            yield from METHODS[name.strip()]
    else:
        raise PassError(f"rounding: {part!r} given, {requirement}, or such passes")
