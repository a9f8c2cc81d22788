"""Integer graphs become artifacts: lower, compile, link, describe."""

from qir.backends.artifact.artifact import Artifact, build
from qir.backends.lowering.lower import lower
from qir.backends.targets import find

__all__ = ["Artifact", "build", "find", "lower"]
