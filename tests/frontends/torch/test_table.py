"""The table against torch's own schemas."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed

import qir.frontends.torch.importer  # noqa: F401  (fills the table)
from qir.frontends.torch.table import NEAREST, RULES


def overload(name: str) -> torch._ops.OpOverload:
    space, packet, kind = name.split(".")
    found: torch._ops.OpOverload = getattr(getattr(getattr(torch.ops, space), packet), kind)
    return found


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_takes_what_its_schema_gives(name: str) -> None:
    """Every operator exists; its rule binds all its arguments, and those without defaults."""
    schema = overload(name)._schema
    ordered = [a for a in schema.arguments if not a.kwarg_only]
    keywords = {a.name: 0 for a in schema.arguments if a.kwarg_only}
    signature = inspect.signature(RULES[name].apply)
    signature.bind(0, *ordered, **keywords)
    items = [a for a in ordered if not a.has_default_value()]
    required = {a.name: 0 for a in schema.arguments if a.kwarg_only and not a.has_default_value()}
    signature.bind(0, *items, **required)


def test_hints_are_about_what_has_no_rule() -> None:
    ruled = {name.rsplit(".", 1)[0] for name in RULES}
    assert not ruled & set(NEAREST)
