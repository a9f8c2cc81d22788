"""Options of passes: one grammar, typed by the fields, the same in text and in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qir.ir.errors import PassError, QirError
from qir.passes.canonicalize.fold_constants import FoldConstants
from qir.passes.infra.manager import KEEPS_BITS, PASSES, Claim, Pass, parsed
from qir.passes.infra.options import described, option
from qir.passes.quantize.rescue_groups import RescueGroups
from qir.passes.transform.equalize_channels import EqualizeChannels


class Mode(Enum):
    FAST, SLOW = "fast", "slow"


@dataclass(frozen=True)
class Odd(Pass):
    """An option of every type that text can write, and data."""

    name: ClassVar[str] = "odd"
    whole: int = option(1, 0, 9)
    real: float = 0.5
    is_on: bool = False
    word: str = "fast"
    mode: Mode = Mode.FAST
    one: Literal["a", "b"] = "a"
    maybe: int | None = None
    many: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    table: Mapping[str, int] = field(default_factory=dict)
    data: Mapping[str, Claim] = field(default_factory=dict)


@dataclass(frozen=True)
class Needy(Pass):
    name: ClassVar[str] = "needy"
    data: Mapping[str, Claim]


@dataclass(frozen=True)
class Strict(Pass):
    name: ClassVar[str] = "strict"
    rounds: int


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (Odd, Needy, Strict):
        monkeypatch.setitem(PASSES, cls.name, cls)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("fold-constants", (FoldConstants(),)),
        ("fold-constants()", (FoldConstants(),)),
        (" odd ( whole = 3 ,\n real=1e-3) , fold-constants", (Odd(3, 1e-3), FoldConstants())),
        ("odd,odd(whole=2)", (Odd(), Odd(2))),
        ("odd(real=2, is_on=true, word=a-b, mode=slow)", (Odd(1, 2.0, True, "a-b", Mode.SLOW),)),
        ('odd(word="a, b(c=1)", one=b, maybe=none)', (Odd(word="a, b(c=1)", one="b"),)),
        ("odd(maybe=-3, many=[1, 2], words=[a, \"b c\"])",
         (Odd(maybe=-3, many=(1, 2), words=("a", "b c")),)),
        ("odd(real=inf, many=[])", (Odd(real=inf),)),
        ('odd(table={a: 1, "b c": -2})', (Odd(table={"a": 1, "b c": -2}),)),
        ("odd(table={})", (Odd(),)),
        ("rescue-groups(group=32, reference=none)", (RescueGroups(group=32),)),
        ("strict(rounds=2) // twice", (Strict(2),)),
    ],
)  # fmt: skip
def test_what_is_read(text: str, passes: tuple[Pass, ...]) -> None:
    assert parsed(text) == passes


DATA = "collections.abc.Mapping[str, qir.passes.infra.manager.Claim]"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("odd(whole=big)", "pass odd: option whole: found 'big', int is needed"),
        ("odd(whole=1.5)", "pass odd: option whole: found '1.5', int is needed"),
        ("odd(whole=true)", "pass odd: option whole: found 'true', int is needed"),
        ("odd(whole=none)", "pass odd: option whole: found 'none', int is needed"),
        ("odd(whole=[1])", "pass odd: option whole: found '[', int is needed"),
        ("odd(whole=)", "pass odd: option whole: found ')', int is needed"),
        ("odd(whole=10)", "pass odd: option whole: found 10, 0 to 9 is needed"),
        (f"odd(whole={1 << 63})", f"pass odd: option whole: found {1 << 63}, an integer under 2**"),
        ("odd(real=x)", "pass odd: option real: found 'x', float is needed"),
        ("odd(real=nan)", "pass odd: option real: found nan, float is needed"),
        ("odd(is_on=1)", "pass odd: option is_on: found '1', bool is needed"),
        ("odd(word=3)", "pass odd: option word: found '3', str is needed"),
        ("odd(mode=medium)", "pass odd: option mode: found 'medium', one of fast, slow is needed"),
        ("odd(one=c)", "pass odd: option one: found 'c', one of a, b is needed"),
        ("odd(maybe=x)", "pass odd: option maybe: found 'x', int or none is needed"),
        ("odd(many=3)", "pass odd: option many: found '3', tuple[int, ...] is needed"),
        ("odd(many=[a])", "pass odd: option many: found 'a', int is needed"),
        ("odd(many=[1, 2)", "pass odd: option many: found ')', ',' is needed"),
        ("odd(depth=3)", "pass odd: option depth: not known, one of whole, real, is_on, word, "),
        ("fold-constants(n=3)", "pass fold-constants: option n: not known, one of none is needed"),
        ("odd(whole=1, whole=2)", "pass odd: option whole: found twice, once is needed"),
        ("odd(whole=1 real=2)", "pass odd: found 'real', ',' or ')' is needed"),
        ("odd(whole=1,)", "pass odd: found ')', the name of an option is needed"),
        ("odd(3)", "pass odd: found '3', the name of an option is needed"),
        ("odd(whole)", "pass odd: option whole: found ')', '=' is needed"),
        ("odd(whole=1", "pass odd: found 'end of text', ',' or ')' is needed"),
        ("odd(data=3)", f"pass odd: option data: found '3', data ({DATA}) is needed, which text "),
        ("odd(data={})", "pass odd: option data: found '{', data ("),
        ("odd(table=[1])", "pass odd: option table: found '[', collections.abc.Mapping[str, int] "),
        ("odd(table={a: x})", "pass odd: option table: found 'x', int is needed"),
        ("odd(table={a 1})", "pass odd: option table: found '1', ':' is needed"),
        ("odd(table={1: 1})", "pass odd: option table: found '1', a name is needed"),
        ("needy", f"pass needy: option data: missing, {DATA} is needed"),
        ("strict", "pass strict: option rounds: missing, int is needed"),
        ("odd(whole=inner(x=1))", "pass odd: option whole: found 'inner', int is needed"),
        ("quantize-graph(ranges=3)", "pass quantize-graph: option ranges: found '3', data (Ranges"),
        ("rescue-groups(group=31)", "pass rescue-groups: option group: found 31, 32 to 128 is n"),
        ("nope", "pass 'nope': not known, one of "),
        ("", "passes '': found 'end of text', passes as in a, b(option=3) are needed"),
        ("odd,", "passes '': found 'end of text', passes as in a, b(option=3) are needed"),
        ("odd odd", "passes 'odd': found 'odd', passes as in a, b(option=3) are needed"),
        (";", "passes ';': found ';', a character of the text form is needed"),
        ("odd(word=\x1b)", "pass odd: option word: found '\\x1b', a character of the text form"),
    ],
)
def test_what_is_refused(text: str, error: str) -> None:
    with pytest.raises(PassError) as caught:
        parsed(text)
    assert caught.value.text.startswith(error)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"whole": "3"}, 'pass odd: option whole: found "3", int is needed'),
        ({"whole": True}, "pass odd: option whole: found true, int is needed"),
        ({"whole": -1}, "pass odd: option whole: found -1, 0 to 9 is needed"),
        ({"real": float("nan")}, "pass odd: option real: found nan, float is needed"),
        ({"mode": "slow"}, 'pass odd: option mode: found "slow", one of fast, slow is needed'),
        ({"one": "c"}, 'pass odd: option one: found "c", one of a, b is needed'),
        ({"many": [1]}, "pass odd: option many: found [1], tuple[int, ...] is needed"),
    ],
)
def test_python_is_held_against_the_same_types(options: dict[str, Any], error: str) -> None:
    with pytest.raises(PassError) as caught:
        Odd(**options)
    assert caught.value.text == error


ODDS = st.builds(
    Odd, st.integers(0, 9), st.floats(allow_nan=False), st.booleans(), st.text(max_size=5),
    st.sampled_from(Mode), st.sampled_from(["a", "b"]), st.none() | st.integers(-(2**62), 2**62),
    st.lists(st.integers(-9, 9), max_size=3).map(tuple),
    st.lists(st.text(max_size=3), max_size=3).map(tuple),
)  # fmt: skip


@given(st.lists(ODDS, min_size=1, max_size=3))
def test_a_pass_prints_as_it_is_read(passes: list[Odd]) -> None:
    assert parsed(", ".join(map(str, passes))) == tuple(passes)


@given(st.text(alphabet='odw(),=[]"none1.5\\ \n', max_size=30))
def test_any_text_is_passes_or_an_error_of_ours(text: str) -> None:
    try:
        assert parsed(text)
    except QirError as e:
        assert e.text


def test_a_mapping_of_arrays() -> None:
    (one,) = parsed("equalize-channels(reach={a: [4.0, 0.25]})")
    assert isinstance(one, EqualizeChannels)
    assert one.reach["a"].tolist() == [4.0, 0.25]
    assert str(one) == 'equalize-channels(reach={"a": [4.0, 0.25]})'


def test_what_is_printed() -> None:
    assert str(Odd()) == "odd"
    assert str(Odd(3, word="x", many=(1,))) == 'odd(whole=3, word="x", many=[1])'
    assert str(Odd(table={"a": 1})) == 'odd(table={"a": 1})'
    assert str(Odd(data={"a": KEEPS_BITS})) == "odd(data=...)"
    assert described(RescueGroups).startswith("reference: Graph or none = none, weight_bits: ")
    assert described(Strict) == "rounds: int"
