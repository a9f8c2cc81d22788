"""docs/ops.md says what the op classes say."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from qir.ir import ops
from qir.ir.op import OPS
from tests.tree import ROOT

PAGE = ROOT / "docs" / "ops.md"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_ops", ROOT / "docs" / "generate_ops.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(generator: ModuleType) -> None:
    assert PAGE.read_text() == generator.page(), "run python docs/generate_ops.py"


def test_every_op_is_on_the_page() -> None:
    page = PAGE.read_text()
    own = [name for name, cls in OPS.items() if cls.__module__.startswith(ops.__name__)]
    assert own and all(f"\n### {name}\n" in page for name in own)
