"""Mixed precision: 18 optima known from elsewhere, brute force, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qir.ir.errors import PassError
from qir.passes.bits import assign as assign_bits
from qir.passes.bits.assign import assign, pareto
from qir.passes.bits.choice import (
    Assignment,
    Bits,
    Choice,
    LayerChoices,
    evaluate,
)
from qir.passes.bits.costs import LayerWork, bound_at, measured_layer, omega
from qir.passes.bits.groups import FREE, Rules

W4, W8 = Bits(4, 4), Bits(8, 8)

# ---- HAWQ-V3's ResNets: exhaustive search (ResNet18) and another solver (ResNet50) found these

TIES = {
    "ResNet18": [(4, 6), (9, 11), (14, 16)],
    "ResNet50": [(0, 3), (10, 13), (23, 26), (42, 45)],
}
UNIT = {"ResNet18": 2**20, "ResNet50": 1}  # of parameters: HAWQ's 2**20, there; 10**6 here
OPTIMA = {
    ("ResNet18", "size"): (-1.189414, -1.233207, -1.274273),
    ("ResNet18", "bops"): (-0.847289, -1.092024, -1.227748),
    ("ResNet18", "latency"): (-0.847289, -1.105039, -1.227748),
    ("ResNet50", "size"): (-0.831387, -0.875313, -0.894121),
    ("ResNet50", "bops"): (-0.757389, -0.849897, -0.882231),
    ("ResNet50", "latency"): (-0.768832, -0.851476, -0.883678),
}
SHARES = (0.25, 0.5, 0.75)
MOST = (*range(8), *range(9, 13), 14, 16, 17)
AT_8_BITS = {  # of ResNet18
    "size": (tuple(range(14)), (*range(15), 16), (*range(13), *range(14, 18))),
    "bops": ((0, 1, 2, 4, 6), (0, 1, 2, 4, 5, 6, 7, 9, 10, 11), MOST),
    "latency": ((0, 1, 2, 4, 6), (0, 1, 2, 3, 4, 6, 7, 9, 10, 11, 14, 16), MOST),
}


@pytest.fixture
def hawq(zoo: ModuleType) -> dict[str, dict[str, list[float]]]:
    """Traces, errors and costs as HAWQ's notebook has them."""
    file = Path(str(zoo.__file__)).parent / "data" / "hawq_ilp_inputs.json"
    if not file.is_file():
        pytest.skip(f"HAWQ's inputs are absent: no {file}")
    content: dict[str, dict[str, list[float]]] = json.loads(file.read_text())
    return content


def hawq_layers(given: Mapping[str, list[float]], unit: float) -> list[LayerChoices]:
    """4 or 8 bits of both; the loss is counted from that of 4 bits everywhere, as HAWQ does."""
    layers = []
    for k, (trace, error8, error4, p, macs, t4, t8) in enumerate(zip(*given.values(), strict=True)):
        at4 = {"size": 0.5 * p / unit, "bops": macs * 16, "latency": t4}
        at8 = {"size": p / unit, "bops": macs * 64, "latency": t8}
        gain = omega(trace, error8) - omega(trace, error4)
        layers.append(LayerChoices(f"conv{k}", (Choice(W4, 0.0, at4), Choice(W8, gain, at8))))
    return layers


def hawq_rules(net: str) -> Rules:
    return Rules(ties=[(f"conv{a}", f"conv{b}") for a, b in TIES[net]])


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("net", "resource"), OPTIMA)
def test_hawq_optima(hawq: Any, net: str, resource: str, share: float) -> None:
    layers = hawq_layers(hawq[net], UNIT[net])
    limit, k = bound_at(layers, resource, share), SHARES.index(share)
    best = assign(layers, {resource: limit}, hawq_rules(net))
    assert best.loss == pytest.approx(OPTIMA[net, resource][k], abs=1e-6)
    assert best.costs[resource] <= limit
    if net == "ResNet18":
        wide = [j for j, bits in enumerate(best.bits.values()) if bits == W8]
        assert tuple(wide) == AT_8_BITS[resource][k]


def test_hawq_with_all_limits_at_once(hawq: Any) -> None:
    """Never better than under one of them, and within each."""
    layers = hawq_layers(hawq["ResNet50"], 1)
    limits = {r: bound_at(layers, r, 0.5) for r in ("size", "bops", "latency")}
    best = assign(layers, limits, hawq_rules("ResNet50"))
    assert all(best.costs[r] <= limits[r] for r in limits)
    assert best.loss >= max(OPTIMA["ResNet50", r][1] for r in limits) - 1e-6
    assert all(best.bits[f"conv{a}"] == best.bits[f"conv{b}"] for a, b in TIES["ResNet50"])


def test_hawq_front_of_sizes(hawq: Any) -> None:
    layers = hawq_layers(hawq["ResNet18"], 2**20)
    front = pareto(layers, "size", 12, rules=hawq_rules("ResNet18"))
    assert set(front[0].bits.values()) == {W4} and set(front[-1].bits.values()) == {W8}
    assert len(front) > 6


# ---- brute force

WIDTHS = [Bits(w, a) for w in (2, 4, 8) for a in (4, 8)]
RESOURCES = ("size_bytes", "latency_us")


@st.composite
def nets(draw: st.DrawFn, numbers: st.SearchStrategy[float]) -> tuple[list[LayerChoices], Rules]:
    layers = [
        LayerChoices(
            f"l{k}",
            tuple(
                Choice(bits, draw(numbers), {r: draw(numbers) for r in RESOURCES})
                for bits in draw(
                    st.lists(st.sampled_from(WIDTHS), min_size=1, max_size=4, unique=True)
                )
            ),
        )
        for k in range(draw(st.integers(1, 5)))
    ]
    ties = st.lists(st.lists(st.sampled_from([x.name for x in layers]), max_size=3), max_size=1)
    fixed = draw(st.dictionaries(st.just("l0"), st.sampled_from(layers[0].widths)))
    return layers, Rules(draw(ties), draw(ties), fixed)


INTEGERS = st.integers(-20, 20)
TENTHS = st.integers(0, 9).map(lambda k: k / 10)  # sums that differ in their last digit only


def follows(bits: Mapping[str, Bits], rules: Rules) -> bool:
    return (
        all(len({bits[name] for name in tie}) < 2 for tie in rules.ties)
        and all(len({bits[n].activation for n in tie}) < 2 for tie in rules.activation_ties)
        and all(bits[name] == width for name, width in rules.fixed.items())
    )


def every(layers: Sequence[LayerChoices], rules: Rules) -> list[Assignment]:
    names = [layer.name for layer in layers]
    choices = itertools.product(*(layer.widths for layer in layers))
    found = (dict(zip(names, widths, strict=True)) for widths in choices)
    return [evaluate(layers, bits) for bits in found if follows(bits, rules)]


def within(all_of: Iterable[Assignment], limits: Mapping[str, float]) -> list[Assignment]:
    return [one for one in all_of if all(one.costs[r] <= limits[r] for r in limits)]


@pytest.mark.parametrize("numbers", [INTEGERS, TENTHS], ids=["integers", "tenths"])
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_assign_is_brute_force(numbers: st.SearchStrategy[float], data: st.DataObject) -> None:
    layers, rules = data.draw(nets(numbers))
    possible = every(layers, rules)
    if not possible:
        with pytest.raises(PassError, match="no bits in common"):
            assign(layers, {}, rules)
        return
    some = data.draw(st.sampled_from(possible))
    limits = {r: data.draw(st.sampled_from([some.costs[r], 0.3, 3, math.inf])) for r in RESOURCES}
    fitting = within(possible, limits)
    if not fitting:
        with pytest.raises(PassError, match="is needed"):
            assign(layers, limits, rules)
        return
    best = assign(layers, limits, rules)
    assert follows(best.bits, rules) and within([best], limits)
    least = min(one.loss for one in fitting)
    assert best.loss <= least + 1e-12  # tenths sum to numbers that differ in the last bit
    assert best == assign(layers, limits, rules)
    equal = [one for one in fitting if one.loss == best.loss]
    assert not any(
        all(one.costs[r] < best.costs[r] - 1e-9 for r in RESOURCES) for one in equal
    )  # none uses less of everything


@given(nets(INTEGERS), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_the_front_is_monotone_and_on_the_front(
    net: tuple[list[LayerChoices], Rules], points: int
) -> None:
    layers, rules = net
    possible = every(layers, rules)
    assume(possible)
    front = pareto(layers, "size_bytes", points, rules=rules)
    assert 1 <= len(front) <= points
    for one, two in itertools.pairwise(front):
        assert one.costs["size_bytes"] < two.costs["size_bytes"] and one.loss > two.loss
    for point in front:
        cost = point.costs["size_bytes"]
        assert not any(o.costs["size_bytes"] < cost and o.loss <= point.loss for o in possible)
        assert point.loss == min(o.loss for o in possible if o.costs["size_bytes"] <= cost)


def test_a_front_within_other_limits() -> None:
    net = [layer("a", {W4: 3.0, W8: 0.0}), layer("b", {W4: 2.0, W8: 0.0})]
    front = pareto(net, "size_bytes", 3, {"bops": 80})
    assert [(one.loss, one.costs["size_bytes"]) for one in front] == [(5.0, 1.0), (2.0, 1.5)]


def test_many_equal_layers_that_miss_a_limit_by_the_last_digit() -> None:
    tenth = [
        LayerChoices(f"l{k}", (Choice(W4, 1.0, {"t": 0.0}), Choice(W8, 0.0, {"t": 0.1})))
        for k in range(30)
    ]
    limit = math.nextafter(math.fsum([0.1] * 12), 0.0)
    assert assign(tenth, {"t": limit}).loss == 30 - 11


# ---- refusals


def layer(name: str, losses: Mapping[Bits, float], parameters: int = 1) -> LayerChoices:
    return measured_layer(name, losses, LayerWork(parameters, parameters, 1))


NET = [layer("a", {W4: 3.0, W8: 1.0}, 10), layer("b", {W4: 5.0, W8: 0.0}, 20)]
ODD = layer("odd", {Bits(2, 8): 0.0})


def test_one_limit_out_of_reach() -> None:
    with pytest.raises(PassError) as e:
        assign(NET, {"size_bytes": 14.5, "bops": 1e9})
    assert e.value.text == "assign-bits size_bytes: the limit is 14.5, at least 15 is needed"
    assert assign(NET, {"size_bytes": 15}).costs["size_bytes"] == 15


def test_two_limits_out_of_reach() -> None:
    with pytest.raises(PassError) as e:
        assign(NET, {"size_bytes": 1, "weight_bits": 100, "bops": 480}, FREE)
    assert e.value.text.splitlines() == [
        "assign-bits: 2 limits are out of reach",
        "  size_bytes: the limit is 1, at least 15 is needed",
        "  weight_bits: the limit is 100, at least 120 is needed",
    ]


def test_limits_that_exclude_each_other() -> None:
    either = LayerChoices(
        "a", (Choice(W4, 0, {"x": 1, "y": 5, "z": 0}), Choice(W8, 0, {"x": 6, "y": 2, "z": 0}))
    )
    with pytest.raises(PassError) as e:
        assign([either], {"z": 1, "x": 3, "y": 4})
    assert e.value.text.splitlines() == [
        "assign-bits: limits that cannot be kept together",
        "  x: the limit is 3, at least 6 is needed with the other limits",
        "  y: the limit is 4, at least 5 is needed with the other limits",
    ]


def test_limits_within_rules() -> None:
    """What can be reached is counted with what is fixed."""
    with pytest.raises(PassError, match="the limit is 24, at least 25 is needed"):
        assign(NET, {"size_bytes": 24}, Rules(fixed={"b": W8}))


@pytest.mark.parametrize(
    ("layers", "limits", "rules", "text"),
    [
        ([], {}, FREE, "layers: none given, at least one is needed"),
        ([*NET, NET[0]], {}, FREE, "layer a: given twice, names of their own are needed"),
        (NET, {"flash": 1}, FREE, "layer a: no flash of w4a4, a number is needed"),
        (NET, {"bops": math.nan}, FREE, "assign-bits bops: the limit is nan, a number is needed"),
        (NET, {}, Rules(ties=["ac"]), "tie of c: not a layer, the name of one is needed"),
        (
            NET,
            {},
            Rules(activation_ties=["bd"]),
            "tie of activations of d: not a layer, the name of one is needed",
        ),
        (NET, {}, Rules(fixed={"c": W8}), "fixed c: not a layer, the name of one is needed"),
        (
            NET,
            {},
            Rules(fixed={"a": Bits(2, 8)}),
            "fixed a: w2a8 is none of its choices, w4a4 or w8a8 is needed",
        ),
        (
            NET,
            {},
            Rules(ties=["ab"], fixed={"a": W8, "b": W4}),
            "tie of a, b: no bits in common (a has w8a8; b has w4a4), one width for all is needed",
        ),
        (
            [*NET, ODD],
            {},
            Rules(ties=[["odd", "b"]]),
            "tie of b, odd: no bits in common (b has w4a4, w8a8; odd has w2a8), "
            "one width for all is needed",
        ),
        (
            [*NET, ODD],
            {},
            Rules(activation_ties=[["odd", "b"]], fixed={"b": W4}),
            "tie of activations of b, odd: no bits in common (b has a4; odd has a8), "
            "one width for all is needed",
        ),
    ],
)
def test_what_is_refused(
    layers: list[LayerChoices], limits: dict[str, float], rules: Rules, text: str
) -> None:
    with pytest.raises(PassError) as e:
        assign(layers, limits, rules)
    assert e.value.text == text


def test_a_limit_that_too_many_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assign_bits, "CUTS", 0)
    with pytest.raises(PassError) as e:
        assign(
            [LayerChoices("a", (Choice(W4, 1, {"t": 0}), Choice(W8, 0, {"t": 1.0})))],
            {"t": 1 - 2**-53},
        )
    assert e.value.text == (
        "assign-bits t: the limit is 0.9999999999999999, which more than 0 assignments miss by "
        "their last digits; a limit a little above or below is needed"
    )


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            SimpleNamespace(status=1, message="time is up", x=None),
            "assign-bits: HiGHS stopped (time is up), an optimum is needed",
        ),
        (
            SimpleNamespace(status=0, message="", x=np.ones(4)),
            "assign-bits: HiGHS gave bits that break a rule, none broken is needed",
        ),
    ],
)
def test_an_answer_of_the_solver_that_is_none(
    monkeypatch: pytest.MonkeyPatch, answer: SimpleNamespace, text: str
) -> None:
    monkeypatch.setattr(scipy.optimize, "milp", lambda *_, **__: answer)
    with pytest.raises(PassError) as e:
        assign(NET, {})
    assert e.value.text == text


def test_no_points() -> None:
    with pytest.raises(PassError, match="pareto bops: 0 points, at least one is needed"):
        pareto(NET, "bops", 0)
