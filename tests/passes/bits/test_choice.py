"""Choices of bits: what they cost, and the file that says them."""

from __future__ import annotations

import math
import pickle
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qir.ir.errors import ParseError, PassError, QirError
from qir.passes.bits.assign import assign
from qir.passes.bits.choice import (
    Bits,
    Choice,
    LayerChoices,
    bits_text,
    evaluate,
    load_bits,
    parse_bits,
    save_bits,
)
from qir.passes.bits.costs import LayerWork, average_limits, bound_at, measured_layer
from qir.passes.bits.groups import Rules

W4, W8 = Bits(4, 4), Bits(8, 8)


def layer(name: str, losses: Mapping[Bits, float], parameters: int = 1) -> LayerChoices:
    return measured_layer(name, losses, LayerWork(parameters, parameters, 1))


NET = [layer("a", {W4: 3.0, W8: 1.0}, 10), layer("b", {W4: 5.0, W8: 0.0}, 20)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Bits(0, 8), "bits w0a8: not a pair of widths, 1 to 32 each are needed"),
        (
            lambda: LayerChoices("a\n", ()),
            r"layer 'a\n': not a name, printable characters are needed",
        ),
        (lambda: LayerChoices("a", ()), "layer a: no choice of bits, at least one is needed"),
        (
            lambda: LayerChoices("a", (Choice(W4, 0), Choice(W4, 1))),
            "layer a: w4a4 is given twice, once is needed",
        ),
        (
            lambda: LayerChoices("a", (Choice(W4, math.nan),)),
            "layer a: loss of w4a4 is nan, a finite number is needed",
        ),
        (
            lambda: LayerChoices("a", (Choice(W4, 0, {"bops": math.inf}),)),
            "layer a: bops of w4a4 is inf, a finite number is needed",
        ),
        (
            lambda: measured_layer("a", {W4: 1.0}, LayerWork(1, 1, 1), {W8: 2.0}),
            "layer a: no latency for w4a4, one for each is needed",
        ),
    ],
)
def test_what_is_no_layer(make: Any, text: str) -> None:
    with pytest.raises(PassError) as e:
        make()
    assert e.value.text == text


def test_evaluate_lists_all_faults() -> None:
    with pytest.raises(PassError) as e:
        evaluate(NET, {"b": Bits(2, 2), "c": W8})
    assert e.value.text.splitlines() == [
        "bits: 3 faults, one choice for each layer is needed",
        "  a: no bits given",
        "  c: not a layer",
        "  b: w2a2 is none of its choices, w4a4 or w8a8 is needed",
    ]


# ---- costs


def test_costs_by_hand() -> None:
    one = measured_layer("a", {Bits(4, 8): 1.0}, LayerWork(1000, 5000, 64), {Bits(4, 8): 7.5})
    assert one.choices[0].costs == {
        "size_bytes": 500,
        "bops": 160_000,
        "weight_bits": 4000,
        "activation_bits": 512,
        "latency_us": 7.5,
    }
    assert pickle.loads(pickle.dumps(one)) == one and hash(one)  # goes to other processes


def test_average_limits_are_averages() -> None:
    works = [LayerWork(30, 1, 7), LayerWork(10, 1, 1)]
    assert average_limits(works, 4.5, 8) == {"weight_bits": 180, "activation_bits": 64}
    net = [measured_layer(n, {W4: 9.0, W8: 0.0}, w) for n, w in zip("ab", works, strict=True)]
    best = assign(net, average_limits(works, 5))
    assert best.bits == {"a": W4, "b": W8}  # 3/4 of 4 bits and 1/4 of 8
    assert set(assign(net, average_limits(works, 4)).bits.values()) == {W4}


@pytest.mark.parametrize(("share", "bits"), [(0, W4), (1, W8)])
def test_bounds_at_the_ends_can_be_reached(share: float, bits: Bits) -> None:
    net = [layer(f"l{k}", {W4: 1.0, W8: 0.0}, 10 + k) for k in range(5)]
    best = assign(net, {"size_bytes": bound_at(net, "size_bytes", share)})
    assert set(best.bits.values()) == {bits}


# ---- the file

NAMES = st.text(min_size=1, max_size=12).filter(str.isprintable)


@given(st.dictionaries(NAMES, st.builds(Bits, st.integers(1, 32), st.integers(1, 32)), min_size=1))
def test_text_round_trips_and_is_toml(bits: dict[str, Bits]) -> None:
    net = [LayerChoices(name, (Choice(width, 0.0),)) for name, width in bits.items()]
    text = bits_text(bits)
    assert parse_bits(text, net, "text") == bits
    assert tomllib.loads(text) == {name: str(width) for name, width in bits.items()}


def test_files_round_trip_whole(tmp_path: Path) -> None:
    best = assign(NET, {"size_bytes": 25})
    save_bits(best.bits, tmp_path / "bits.toml")
    assert [f.name for f in tmp_path.iterdir()] == ["bits.toml"]
    assert load_bits(tmp_path / "bits.toml", NET) == best.bits == {"a": W4, "b": W8}
    with pytest.raises(QirError, match="cannot be written"):
        save_bits(best.bits, tmp_path / "absent" / "bits.toml")


def test_a_text_by_hand_may_name_some_layers() -> None:
    text = '\n  # by hand\r\n"b"= "w8a8" # the last\r\n'
    fixed = parse_bits(text, NET, "text")
    assert fixed == {"b": W8}
    assert assign(NET, {"size_bytes": 25}, Rules(fixed=fixed)).bits == {"a": W4, "b": W8}


def test_every_fault_of_a_text_is_listed() -> None:
    text = "\n".join(
        [
            'a = "w8a8"',
            'c = "w8a8"',
            "b = 8",
            'a = "w4a4"',
            'b = "w2a2"',
            'b = "8"',
            '"\\x" = "w4a4"',
        ]
    )
    with pytest.raises(ParseError) as e:
        parse_bits(text, NET, "bits.toml")
    assert e.value.text.splitlines() == [
        "bits.toml: 6 faults, none is needed",
        "  line 2: layer c: not in the network, one of its layers is needed",
        '  line 3: b = 8: not an assignment, layer = "w4a8" is needed',
        "  line 4: layer a: given twice, one line is needed",
        "  line 5: layer b: w2a2 is none of its choices, w4a4 or w8a8 is needed",
        '  line 6: bits "8": not a pair of widths, a text like w4a8 is needed',
        '  line 7: "\\x" = "w4a4": not an assignment, layer = "w4a8" is needed',
    ]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        ParseError, match=r"absent.toml: cannot be read \(.*\), a text file is need"
    ):
        load_bits(tmp_path / "absent.toml", NET)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ParseError, match="binary: cannot be read"):
        load_bits(tmp_path / "binary", NET)
