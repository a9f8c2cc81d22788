"""The machines qir compiles for, as data, and the way to find one by name."""

from qir.backends.targets.registry import TARGETS, find

__all__ = ["TARGETS", "find"]
