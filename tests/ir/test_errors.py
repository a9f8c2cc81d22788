"""Errors: one line each, safe on a terminal whatever a model is called."""

from __future__ import annotations

import pickle

import pytest

from qir.ir.errors import LONGEST_LINE, SHOWN, FrontendError, QirError, listed, printable
from qir.runtime.errors import RuntimeFault

# text from outside -> how an error shows it
ESCAPED = {
    "plain": "plain",
    "größe 名": "größe 名",
    "\x1b[2J": "\\x1b[2J",
    "a\rb\x08\x00": "a\\rb\\x08\\x00",
    "\x9b31m": "\\x9b31m",  # CSI as one character
    "abc\u202edef": "abc\\u202edef",  # right to left from here on
    "a\u2028b": "a\\u2028b",
    "\udc80": "\\udc80",  # half a surrogate pair, which no terminal encoding holds
}


@pytest.mark.parametrize("kind", [QirError, RuntimeFault])
@pytest.mark.parametrize("outside", ESCAPED)
def test_control_characters_are_escaped(
    kind: type[QirError] | type[RuntimeFault], outside: str
) -> None:
    error = kind(f"node {outside}", f"rename {outside}")
    shown = ESCAPED[outside]
    assert error.text == f"node {shown}"
    assert error.hint == f"rename {shown}"
    assert str(error) == f"node {shown}\nhint: rename {shown}"
    str(error).encode()


def test_a_line_feed_in_a_name_starts_no_line() -> None:
    assert printable("x\nhint: run this") == "x\\nhint: run this"


@pytest.mark.parametrize("kind", [QirError, RuntimeFault])
def test_a_line_feed_from_outside_starts_no_line_of_an_error(
    kind: type[QirError] | type[RuntimeFault],
) -> None:
    path = "net\nhint: run this\n  fault"
    shown = path.replace("\n", "\\n")
    error = kind(f"{path}: no file", path)
    assert str(error) == f"{shown}: no file\nhint: {shown}"
    many = kind(listed(path, [path, "b"]))
    assert many.lines == (shown, f"  {shown}", "  b")


def test_an_error_may_be_put_in_its_place() -> None:
    error = QirError(listed("2 faults", ["a", "b"]), "mend them")
    placed = QirError(error.after("pass p"), error.hint)
    assert str(placed) == "pass p: 2 faults\n  a\n  b\nhint: mend them"


def test_a_very_long_line_is_cut() -> None:
    error = FrontendError("x" * 10_000_000 + "end")
    assert len(error.text) < LONGEST_LINE
    assert error.text.startswith("xxx")
    assert error.text.endswith("end")
    assert "(10000003 characters)" in error.text


def test_lines_of_a_list_stay_lines() -> None:
    error = FrontendError(listed("head", [f"fault {k}" for k in range(SHOWN + 3)]))
    lines = error.text.split("\n")
    assert lines[0] == "head"
    assert lines[1] == "  fault 0"
    assert lines[-1] == "  ... and 3 more"
    assert len(lines) == SHOWN + 2


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(FrontendError("a\x1b\n", "b")))
    assert (error.text, error.hint) == ("a\\x1b\\n", "b")
    error = pickle.loads(pickle.dumps(FrontendError(listed("a", "bc"))))
    assert error.lines == ("a", "  b", "  c")
