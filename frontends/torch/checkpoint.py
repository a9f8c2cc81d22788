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
    file = Path(path)
    if file.is_dir() and not (file / "config.json").is_file():
        raise FrontendError(f"{file}: no config.json in it, the folder of a model is needed")
    if not file.exists():
        raise FrontendError(f"{file}: no such file, a model is needed")
    try:
        from transformers import AutoModelForCausalLM

        is_file = file.suffix == GGUF and file.is_file()
        model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            file.parent if is_file else file,
            dtype=torch.float32,
            local_files_only=True,
            **({"gguf_file": file.name} if is_file else {}),
        )
    except ImportError as e:
        packages = "transformers and gguf" if file.suffix == GGUF else "transformers"
        raise FrontendError(
            f"{file}: {first_line(e)}, {packages} is needed",
            f"pip install {packages.replace(' and', '')}",
        ) from e
    except Exception as e:  # of any kind: its readers are many
        raise FrontendError(f"{file}: transformers cannot load it ({first_line(e)})") from e
    return model.eval()
