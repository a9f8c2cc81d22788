"""Generated pages of the reference equal what their generators write now."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

import qir
from qir.ir import ops
from qir.ir.op import OPS
from qir.passes.infra.manager import PASSES
from tests.tree import ROOT

REFERENCE = ROOT / "docs" / "reference"
GENERATORS = sorted(file.name for file in REFERENCE.glob("generate_*.py"))


def generator(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), REFERENCE / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", GENERATORS)
def test_a_page_is_up_to_date(name: str) -> None:
    module = generator(name)
    assert module.PAGE.read_text() == module.page(), f"run python docs/reference/{name}"


def test_there_are_five_generated_pages() -> None:
    pages = {generator(name).PAGE.name for name in GENERATORS}
    assert pages == {"api.md", "cli.md", "ops.md", "passes.md", "torch_operators.md"}


def test_every_op_is_on_its_page() -> None:
    page = (REFERENCE / "ops.md").read_text()
    own = [name for name, cls in OPS.items() if cls.__module__.startswith(ops.__name__)]
    assert own and all(f"\n### {name}\n" in page for name in own)


def test_every_pass_is_on_its_page() -> None:
    page = (REFERENCE / "passes.md").read_text()
    own = [name for name, cls in PASSES.items() if cls.__module__.startswith("qir.passes.")]
    assert len(own) > 20 and all(f"\n### {name}\n" in page for name in own)


def test_every_command_and_public_name_is_on_its_page() -> None:
    cli, api = ((REFERENCE / f"{name}.md").read_text() for name in ("cli", "api"))
    for name in ("compile", "run", "bench", "report", "opt", "cases", "targets", "passes"):
        assert f"\n## qir {name}\n" in cli
    for name in qir.__all__:
        assert f"qir.{name}" in api or name.startswith("_")
