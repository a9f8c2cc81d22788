"""Trained networks on every machine, under its emulator: the interpreter's integers, every bit."""

from __future__ import annotations

from itertools import product
from types import ModuleType

import pytest

from tests.emulated.harness import TARGETS, assert_same_bits, need_emulator
from tests.emulated.networks import network

SMALL = ("resnet8", "dscnn")
MORE = ("vww", "autoencoder")  # of the same ops, so on one machine of each kind
KINDS = ("aarch64-dotprod", "armv7", "cortex-m4", "hexagon-v68", "riscv64")
LARGE = ("resnet20", "mobilenetv2")


def check(zoo: ModuleType, config: pytest.Config, name: str, target: str, count: int) -> None:
    need_emulator(target)
    folder = config.cache.mkdir("integer")  # type: ignore[union-attr]
    held = network(zoo, name, count, folder)
    assert_same_bits(held.graph, target, held.cases, held.wanted)


@pytest.mark.parametrize(
    ("name", "target"), [*product(SMALL, TARGETS), *product(MORE, KINDS)], ids=str
)
def test_small_networks(
    zoo: ModuleType, pytestconfig: pytest.Config, name: str, target: str
) -> None:
    check(zoo, pytestconfig, name, target, 16)


@pytest.mark.parametrize("target", ["aarch64-dotprod", "hexagon-v68"])
@pytest.mark.parametrize("name", LARGE)
def test_large_networks(
    zoo: ModuleType, pytestconfig: pytest.Config, name: str, target: str
) -> None:
    check(zoo, pytestconfig, name, target, 2)
