"""Pages that are made from the code say what it says now."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from qir.ir import ops
from qir.ir.op import OPS
from tests.tree import ROOT

DOCS = ROOT / "docs"
MADE = {"ops.md": "generate_ops.py", "torch_operators.md": "generate_torch_operators.py"}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), DOCS / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", MADE)
def test_a_page_is_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text() == script(MADE[page]).page(), f"run python docs/{MADE[page]}"


def test_every_op_is_on_its_page() -> None:
    page = (DOCS / "ops.md").read_text()
    own = [name for name, cls in OPS.items() if cls.__module__.startswith(ops.__name__)]
    assert own and all(f"\n### {name}\n" in page for name in own)
