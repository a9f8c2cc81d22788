"""The case files' own checks: each law is broken once, on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from qir.ir.errors import ParseError, PassError, QirError
from qir.ir.op import Op, Value
from qir.ir.ops import Neg, Relu
from qir.passes.case_file import check, read_cases, update
from qir.passes.infra import manager
from qir.passes.infra.manager import KEEPS_BITS, Claim, Miss, register
from qir.passes.infra.rewriter import RewritePass, Site

GRAPH = """graph @net stage=imported (%x: tensor<2xf32>) {
  %y = relu(%x) : tensor<2xf32>
  return %y
}
"""
STAYS = f"{GRAPH}// ---- stays"
CLIP = GRAPH.replace("relu(%x)", "clip(%x) {low = 0.0, high = inf}")


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that says it keeps every bit and turns relu into neg."""
    monkeypatch.setattr(manager, "PASSES", dict(manager.PASSES))

    class Liar(RewritePass):
        name: ClassVar[str] = "liar"
        claim: ClassVar[Claim] = KEEPS_BITS

        def rewrite(self, op: Op, at: Site) -> Value | Miss:
            return at.replace(Neg(op.x)) if isinstance(op, Relu) else Miss("no relu")

    register(Liar)


def case(folder: Path, text: str) -> None:
    file = folder / "one.qir"
    file.write_text(text)
    for one in read_cases(file):
        check(one)


@pytest.mark.parametrize(
    "text",
    [
        f"// pass: recognize-clip\n// keeps: every bit\n{CLIP}// ---- becomes\n{GRAPH}",
        f"// pass: recognize-clip\n{GRAPH}// ---- stays, because: does not come from a clip",
        f"// pass: recognize-clip\n// ==== a\n{STAYS}\n// ==== b\n{STAYS}",
        f"{GRAPH.replace('relu', 'rely')}// ---- error: found op 'rely'",
    ],
)
def test_what_holds_passes(tmp_path: Path, text: str) -> None:
    case(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"// pass: recognize-clip\n{CLIP}// ---- becomes\n{CLIP}", "became\ngraph @net"),
        (f"// pass: recognize-clip\n{CLIP}// ---- stays", "to stay is expected"),
        (f"// pass: recognize-clip\n{GRAPH}// ---- stays, because: a whim", "'a whim' is expected"),
        (f"{GRAPH}// ---- error: a fault", "no error, 'a fault' is expected"),
        (f"{GRAPH.replace('relu', 'rely')}// ---- error: a fault", "'a fault' is expected"),
        (
            f"// pass: recognize-clip\n// keeps: nothing\n{GRAPH}// ---- stays",
            "the passes claim Keeps: every bit, nothing is written",
        ),
    ],
)
def test_what_does_not_hold_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PassError) as caught:
        case(tmp_path, text)
    assert said in str(caught.value)


@pytest.mark.usefixtures("liar")
def test_a_broken_claim_is_found(tmp_path: Path) -> None:
    text = f"// pass: liar\n{GRAPH}// ---- becomes\n{GRAPH.replace('relu', 'neg')}"
    with pytest.raises(
        PassError, match=r"outputs differ by .* on random \(0\) inputs, 0 is claimed"
    ):
        case(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"// ==== a\n{GRAPH}", "one.qir 'a': no verdict, '// ---- becomes' or its like is needed"),
        (
            f"// pass: recognize-clip fold-pad\n{GRAPH}// ---- stays",
            "one.qir: passes 'fold-pad': found 'fold-pad', passes as in a, b(option=3) are needed",
        ),
        (
            f"// pass: recognize-clip(deep = 3)\n{GRAPH}// ---- stays",
            "one.qir: pass recognize-clip: option deep: not known, one of none is needed",
        ),
    ],
)
def test_a_file_that_is_no_case_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(QirError) as caught:
        case(tmp_path, text)
    assert said in str(caught.value)


def test_an_unknown_pass(tmp_path: Path) -> None:
    with pytest.raises(QirError, match=r"pass 'no-such': not known, one of .*fold-pad.* is needed"):
        case(tmp_path, f"// pass: no-such\n{GRAPH}// ---- stays")


def test_update_writes_what_passes_give(tmp_path: Path) -> None:
    """Only what stands after "becomes" changes; twice is once."""
    file = tmp_path / "one.qir"
    head = "// a comment\n// pass: recognize-clip\n// ==== first\n"
    file.write_text(
        f"{head}{CLIP}// ---- becomes\nnonsense\n// ==== second\n{GRAPH}// ---- stays\n"
    )
    update(file)
    once = file.read_text()
    assert once == f"{head}{CLIP}// ---- becomes\n{GRAPH}// ==== second\n{GRAPH}// ---- stays\n"
    update(file)
    assert file.read_text() == once


CORRECTED = (Path(__file__).parents[1] / "cases/passes/correct-bias.qir").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"// ==== a\n{STAYS}\n// ==== a\n{STAYS}", "2 cases are named 'a', a name for each is ne"),
        (f"// ==== \n{STAYS}", "a case without a name, '// ==== NAME' is needed"),
        (f"// sample: many\n{STAYS}", "sample is 'many', as in '32 of seed 0' is needed"),
        (f"// reference: after\n{STAYS}", "reference is 'after', 'before' is needed"),
    ],
)
def test_lines_that_do_not_fit(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ParseError, match=f"one.qir: {said}"):
        case(tmp_path, text)


def test_update_refuses_cases_of_one_name(tmp_path: Path) -> None:
    file = tmp_path / "one.qir"
    before = f"// pass: recognize-clip\n// ==== a\n{CLIP}// ---- becomes\n// ==== a\n{STAYS}"
    file.write_text(before)
    with pytest.raises(ParseError, match="2 cases are named 'a'"):
        update(file)
    assert file.read_text() == before


def test_reals_of_a_sample_are_held_within_a_tolerance(tmp_path: Path) -> None:
    """One digit far behind the point may differ, one before it may not, and no integer."""
    case(tmp_path, CORRECTED)
    assert "0.5775711" in CORRECTED
    case(tmp_path, CORRECTED.replace("0.5775711", "0.57757114"))
    for old, new in (("0.5775711", "0.5776711"), ("3 1 0 1 -1", "3 1 0 2 -1")):
        with pytest.raises(PassError, match="expected is"):
            case(tmp_path, CORRECTED.replace(old, new))


def test_a_sample_needs_floats(tmp_path: Path) -> None:
    text = GRAPH.replace("tensor<2xf32>", "tensor<f32>")
    with pytest.raises(ParseError, match=r"sample of %x: tensor<f32>, floats with an axis of samp"):
        case(tmp_path, f"// pass: equalize-channels\n// sample: 4 of seed 0\n{text}// ---- stays")
