"""PyTorch modules and exported programs become imported graphs."""

from qir.frontends.torch.checkpoint import load_checkpoint
from qir.frontends.torch.importer import import_torch

__all__ = ["import_torch", "load_checkpoint"]
