"""How far the outputs of a shallower network are from those of the float one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import torch


class Distance(Enum):
    """Of one output of one run from the float network's."""

    JS = "js"  # Jensen-Shannon divergence of the softmax along the last axis, nats, its mean
    KL = "kl"  # Kullback-Leibler divergence of the softmax from the float network's, nats, its mean
    ANGLE = "angle"  # angle of vectors along the last axis, over pi, its mean
    NORM = "norm"  # the length of the difference over that of the float output
    NATS = "nats"  # by how much the negative log likelihood of the next token is above the float's


def js(y: Any, reference: Any) -> Any:
    """mean((KL(p || m) + KL(q || m)) / 2), p and q the distributions, m = (p + q) / 2."""
    log_p, log_q = reference.log_softmax(-1), y.log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    halves = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return halves.sum(-1).mean() / 2


def kl(y: Any, reference: Any) -> Any:
    """mean(KL(p || q)): p the distribution of the float network, q that of y."""
    log_p = reference.log_softmax(-1)
    return (log_p.exp() * (log_p - y.log_softmax(-1))).sum(-1).mean()


def nats(y: Any, following: Any) -> float:
    """mean(-log likelihood of `following`), of the first logits."""
    logs = y[..., : following.shape[-1], :].log_softmax(-1)
    return -float(logs.gather(-1, following[..., None].long()).double().mean())


def angle(y: Any, reference: Any) -> Any:
    cosines = torch.nn.functional.cosine_similarity(y, reference, dim=-1)
    return cosines.clamp(-1, 1).acos().mean() / math.pi


def norm(y: Any, reference: Any) -> Any:
    return (y - reference).norm() / reference.norm().clamp_min(1e-12)


MEASURES: dict[Distance, Callable[[Any, Any], Any]] = {
    Distance.JS: js, Distance.KL: kl, Distance.ANGLE: angle, Distance.NORM: norm,
}  # fmt: skip


def distance(
    kind: Distance, outputs: Sequence[Any], reference: Sequence[Any], following: Any
) -> float:
    """The sum over outputs; of NATS that of `following`, the tokens behind the first rows of the
    first output.
    """
    if kind is Distance.NATS:
        return nats(outputs[0], following) - nats(reference[0], following)
    measure = MEASURES[kind]
    return float(sum(measure(y, f).double() for y, f in zip(outputs, reference, strict=True)))
