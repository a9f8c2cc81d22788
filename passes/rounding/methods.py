"""The ways to round weights, by name."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.rounding.adaquant import AdaQuant
from qir.passes.rounding.adaquant_blocks import AdaQuantBlocks
from qir.passes.rounding.adaround import AdaRound
from qir.passes.rounding.adaround_blocks import AdaRoundBlocks
from qir.passes.rounding.gpfq import Gpfq
from qir.passes.rounding.gptq import Gptq
from qir.passes.rounding.round_weights import RoundWeights
from qir.passes.work import Store, Tell, quiet

METHODS: dict[str, tuple[RoundWeights, ...]] = {
    "adaround": (AdaRound(),),
    "adaquant": (AdaQuant(),),
    "gptq": (Gptq(),),
    "gpfq": (Gpfq(),),
    "adaround-blocks": (AdaRound(), AdaRoundBlocks()),
    "adaquant-blocks": (AdaQuant(), AdaQuantBlocks()),
}


def rounding_passes(
    method: str,
    reference: Graph,
    sample: tuple[Array, ...],
    executor: Executor | None = None,
    store: Store | None = None,
    tell: Tell = quiet,
) -> Sequence[RoundWeights]:
    """The passes that round the weights of a simulated graph, as pipelines.quantize takes them.

    method: "adaround", or any other of METHODS.
    Errors: PassError for a name that is none of them.
    """
    return [one.on(reference, sample, executor, store, tell) for one in method_of(method)]


def method_of(name: str) -> tuple[RoundWeights, ...]:
    """The passes of a method, without data yet.

    Errors: PassError for a name that is none of METHODS.
    """
    if name not in METHODS:
        raise PassError(f"rounding {name!r}: not known, one of {', '.join(METHODS)} is needed")
    return METHODS[name]
