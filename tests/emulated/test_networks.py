"""Trained networks on every machine, under its emulator: the interpreter's integers, every bit."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.emulated.harness import MACHINES, assert_same_bits, need_emulator
from tests.emulated.networks import network

MORE = [pytest.param(name, marks=pytest.mark.full) for name in ("vww", "autoencoder")]
SMALL = ("resnet8", "dscnn", *MORE)
LARGE = [
    ("resnet20", "aarch64-dotprod"),
    ("resnet20", "hexagon-v68"),
    pytest.param("mobilenetv2", "aarch64-dotprod", marks=pytest.mark.full),
    pytest.param("mobilenetv2", "hexagon-v68", marks=pytest.mark.full),
]


def check(zoo: ModuleType, config: pytest.Config, name: str, target: str, count: int) -> None:
    need_emulator(target)
    folder = config.cache.mkdir("integer")  # type: ignore[union-attr]
    held = network(zoo, name, count, folder)
    assert_same_bits(held.graph, target, held.cases, held.wanted)


@pytest.mark.parametrize("target", MACHINES)
@pytest.mark.parametrize("name", SMALL)
def test_small_networks(
    zoo: ModuleType, pytestconfig: pytest.Config, name: str, target: str
) -> None:
    check(zoo, pytestconfig, name, target, 16)


@pytest.mark.parametrize(("name", "target"), LARGE)
def test_large_networks(
    zoo: ModuleType, pytestconfig: pytest.Config, name: str, target: str
) -> None:
    check(zoo, pytestconfig, name, target, 2)
