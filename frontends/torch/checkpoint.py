"""Checkpoints of causal language models on disk, as torch modules: they need transformers."""

from __future__ import annotations

from pathlib import Path

import torch

from qir.frontends.torch.export import first_line
from qir.ir.errors import FrontendError

GGUF = ".gguf"


def load_checkpoint(path: str | Path) -> torch.nn.Module:
    """The model of a Hugging Face folder, or of a .gguf file, with its weights as float32.

    Nothing is fetched, and no code of the checkpoint's is run.
    Errors: FrontendError for a path that holds none, and without the package transformers, or gguf.
    """
    where = Path(path)
    if where.is_dir() and not (where / "config.json").is_file():
        raise FrontendError(f"{where}: no config.json in it, the folder of a model is needed")
    if not where.exists():
        raise FrontendError(f"{where}: no such file, a model is needed")
    try:
        from transformers import AutoModelForCausalLM

        is_file = where.suffix == GGUF and where.is_file()
        found: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            where.parent if is_file else where,
            dtype=torch.float32,
            local_files_only=True,
            **({"gguf_file": where.name} if is_file else {}),
        )
    except ImportError as e:
        needed = "transformers and gguf" if where.suffix == GGUF else "transformers"
        raise FrontendError(
            f"{where}: {first_line(e)}, {needed} is needed",
            f"pip install {needed.replace(' and', '')}",
        ) from e
    except Exception as e:  # of any kind: its readers are many
        raise FrontendError(f"{where}: transformers cannot load it ({first_line(e)})") from e
    return found.eval()
