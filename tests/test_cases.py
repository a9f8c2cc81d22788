"""Every .qir case: text in, passes, text out, and the numbers (passes/case_file.py says which
laws).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qir.passes.case_file import Case, check, read_cases, update

FOLDER = Path(__file__).parent / "cases"
FILES = sorted(FOLDER.rglob("*.qir"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        if metafunc.config.getoption("--update-golden"):
            for file in FILES:
                update(file)
        cases = [case for file in FILES for case in read_cases(file)]
        names = [f"{c.file.relative_to(FOLDER).with_suffix('')}: {c.name}" for c in cases]
        metafunc.parametrize("case", cases, ids=names)


def test_case(case: Case) -> None:
    check(case)


def test_there_are_cases() -> None:
    assert FILES
