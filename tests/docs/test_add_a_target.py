"""docs/howto/add_a_target.md shows what is in the files, and every target has all that it lists."""

from __future__ import annotations

import re

import pytest

from qir.backends.kernels.dots import DOTS, PLAIN, usable
from qir.backends.proofs.instructions import OF_KERNELS, SETS
from qir.backends.targets import TARGETS
from qir.ir.target import Target
from tests.emulated.harness import TARGETS as EMULATED
from tests.tree import ROOT

PAGE = (ROOT / "docs" / "howto" / "add_a_target.md").read_text()
BLOCKS = re.findall(r"```py\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
TESTED_APART = ("cortex-m55", "hexagon-v69", "hexagon-v73")  # the first in test_m55.py
FOREIGN = [t for t in (make() for make in TARGETS) if t.emulator and not t.variants]


@pytest.mark.parametrize(("file", "shown"), BLOCKS)
def test_the_page_shows_the_files(file: str, shown: str) -> None:
    assert shown in (ROOT / file).read_text()


def test_the_page_has_examples() -> None:
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("target", FOREIGN, ids=str)
def test_a_target_has_a_dot_a_list_of_instructions_and_tests(target: Target) -> None:
    assert usable(target.traits)[0] is not PLAIN
    assert target.architecture in SETS
    assert target.name in (*EMULATED, *TESTED_APART)


def test_every_dot_is_spelled_in_tir_and_looked_for_in_machine_code() -> None:
    from qir.backends.tvm.dots import DOTS as SPELLED

    assert {*DOTS} - {PLAIN.name} == {*SPELLED} == {*OF_KERNELS}
