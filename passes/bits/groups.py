"""Constraints on bits, and the groups of layers that must share them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from qir.ir.errors import PassError
from qir.passes.bits.choice import Bits, Choice, LayerChoices, by_name, none_of


@dataclass(frozen=True)
class Rules:
    """Constraints on bits: which must be equal, and which are fixed.

    ties: layers that have the same bits, such as both branches into a residual sum.
    activation_ties: layers whose activations have the same bits, as they read the same value.
    fixed: layers with given bits, such as the first and the last.
    """

    ties: Sequence[Collection[str]] = ()
    activation_ties: Sequence[Collection[str]] = ()
    fixed: Mapping[str, Bits] = field(default_factory=dict, hash=False)


FREE = Rules()


@dataclass(frozen=True)
class Group:
    """Layers with the same bits; a choice's loss and costs are those of all of them together."""

    members: tuple[str, ...]
    choices: tuple[Choice, ...]

    def __str__(self) -> str:
        return ", ".join(self.members)


def grouped(layers: Sequence[LayerChoices], rules: Rules) -> tuple[Group, ...]:
    """The layers as groups that may be chosen one by one, in the order of their first layers.

    Errors: PassError if a rule names a layer that is not there, gives a layer bits it cannot have,
    or if layers that are tied have no bits in common.
    """
    by_layer = by_name(layers)
    for rule, names in _rule_names(rules):
        for name in names:
            if name not in by_layer:
                raise PassError(f"{rule} {name}: not a layer, the name of one is needed")
    for name, bits in rules.fixed.items():
        if bits not in by_layer[name].widths:
            raise PassError(f"fixed {name}: {none_of(bits, by_layer[name])}")
    return tuple(
        _group([by_layer[name] for name in part], rules) for part in _parts(by_layer, rules.ties)
    )


def _rule_names(rules: Rules) -> Iterator[tuple[str, Collection[str]]]:
    yield from (("tie of", names) for names in rules.ties)
    yield from (("tie of activations of", names) for names in rules.activation_ties)
    yield "fixed", rules.fixed.keys()


def _parts(names: Collection[str], ties: Sequence[Collection[str]]) -> list[list[str]]:
    """The names, those together that ties connect, all in their order."""
    graph = nx.Graph()
    graph.add_nodes_from(names)
    for tie in ties:
        nx.add_path(graph, tie)
    place = {name: k for k, name in enumerate(names)}
    parts = [sorted(part, key=place.__getitem__) for part in nx.connected_components(graph)]
    return sorted(parts, key=lambda part: place[part[0]])


def _group(layers: Sequence[LayerChoices], rules: Rules) -> Group:
    """Layers as one: the bits that all may have, their losses and costs summed."""
    widths_of = {
        layer.name: [rules.fixed[layer.name]] if layer.name in rules.fixed else layer.widths
        for layer in layers
    }
    common = [bits for bits in layers[0].widths if all(bits in w for w in widths_of.values())]
    if not common:
        raise PassError(
            _conflict(
                "tie of",
                {name: [str(bits) for bits in widths] for name, widths in widths_of.items()},
            )
        )
    return Group(
        tuple(layer.name for layer in layers),
        tuple(_together([layer.choice(bits) for layer in layers]) for bits in common),
    )


def _conflict(rule: str, widths_of: Mapping[str, Sequence[str]]) -> str:
    each = "; ".join(f"{name} has {', '.join(widths)}" for name, widths in widths_of.items())
    return f"{rule} {', '.join(widths_of)}: no bits in common ({each}), one width for all is needed"


def _together(choices: Sequence[Choice]) -> Choice:
    if len(choices) == 1:
        return choices[0]
    shared = [name for name in choices[0].costs if all(name in one.costs for one in choices)]
    costs = {name: math.fsum(one.costs[name] for one in choices) for name in shared}
    return Choice(choices[0].bits, math.fsum(one.loss for one in choices), costs)


def same_activations(groups: Sequence[Group], rules: Rules) -> list[list[int]]:
    """The groups, by index, whose activation bits must be equal; single ones are omitted.

    Errors: PassError if they have no activation width in common.
    """
    owner = {name: k for k, group in enumerate(groups) for name in group.members}
    ties = [[str(owner[name]) for name in tie] for tie in rules.activation_ties]
    parts = [list(map(int, p)) for p in _parts([str(k) for k in range(len(groups))], ties)]
    tied = [part for part in parts if len(part) > 1]
    for part in tied:
        widths = {str(groups[k]): activation_widths(groups[k]) for k in part}
        if not set.intersection(*map(set, widths.values())):
            raise PassError(
                _conflict(
                    "tie of activations of",
                    {name: [f"a{width}" for width in w] for name, w in widths.items()},
                )
            )
    return tied


def activation_widths(group: Group) -> list[int]:
    """The activation widths of a group's choices, each once, ascending."""
    return sorted({choice.bits.activation for choice in group.choices})
