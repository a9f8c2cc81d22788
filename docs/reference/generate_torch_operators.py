"""Writes docs/reference/torch_operators.md: python docs/reference/generate_torch_operators.py."""

from __future__ import annotations

import inspect
from pathlib import Path

from qir.frontends.torch.importer import FAMILIES
from qir.frontends.torch.table import NEAREST, RULES

PAGE = Path(__file__).with_name("torch_operators.md")

HEAD = """\
# PyTorch operators

The operators that `import_torch` imports ([import_torch.md](../import_torch.md)), by family; their
rules are in `frontends/torch/ops/`. This page is generated from the table of rules by
`python docs/reference/generate_torch_operators.py`; a test compares them. Any other operator is
decomposed to core ATen first; operators still unknown after that are reported, all in one error.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for module in sorted(FAMILIES, key=lambda m: m.__name__):
        home = module.__name__.rsplit(".", 1)[-1]
        own = {
            name.rsplit(".", 1)[0].removeprefix("aten.")
            for name, rule in RULES.items()
            if rule.apply.__module__ == module.__name__
        }
        if not own:  # builders that rules share
            continue
        named = ", ".join(f"`{name}`" for name in sorted(own, key=lambda n: (n.lstrip("_"), n)))
        parts.append(
            f"## {home.capitalize()}\n\n{inspect.getdoc(module)} (`{home}.py`)\n\n{named}\n"
        )
    hints = (f"| `{name.removeprefix('aten.')}` | {use} |" for name, use in sorted(NEAREST.items()))
    table = "\n".join(["| operator | use |", "|---|---|", *hints])
    parts.append(f"## Not there, and what to use instead\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
