"""Writes docs/reference/ops.md from the op classes: python docs/reference/generate_ops.py."""

from __future__ import annotations

import inspect
import sys
import textwrap
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from qir.ir import ops
from qir.ir.op import Op, OperandKind, OpField, op_fields
from qir.ir.types import Elem

PAGE = Path(__file__).with_name("ops.md")

HEAD = """\
# Ops

Every op of the language, by family: its text form, its meaning, and the file that defines it. This
page is generated from the classes by `python docs/reference/generate_ops.py`; a test compares them.

An op on "reals" works on floats, in the stages up to `simulated`; an op on "integers" works on
stored integers, exactly, in the `integer` stage. [text.md](text.md) explains the notation,
[add_an_op.md](../add_an_op.md) the steps to add an op.
"""


def page() -> str:
    """The whole page."""
    families: dict[str, list[type[Op]]] = {}
    for name in ops.__all__:
        cls = getattr(ops, name)
        if isinstance(cls, type) and issubclass(cls, Op) and cls.mnemonic:
            families.setdefault(cls.__module__, []).append(cls)
    parts = [HEAD, "\n".join(contents(made) for made in sorted_families(families)) + "\n"]
    for module, classes in sorted_families(families):
        parts.append(f"## {title(module)}\n\n{inspect.getdoc(sys.modules[module])}\n")
        parts.extend(section(cls) for cls in in_order(classes))
    return "\n".join(parts)


def sorted_families(families: dict[str, list[type[Op]]]) -> list[tuple[str, list[type[Op]]]]:
    return sorted(families.items())


def in_order(classes: list[type[Op]]) -> list[type[Op]]:
    """As they stand in their file."""
    return sorted(classes, key=lambda cls: inspect.getsourcelines(cls)[1])


def contents(family: tuple[str, list[type[Op]]]) -> str:
    module, classes = family
    named = ", ".join(f"[{c.mnemonic}](#{c.mnemonic})" for c in in_order(classes))
    return f"- {title(module)}: {named}"


def title(module: str) -> str:
    return module.rsplit(".", 1)[-1].replace("_", " ").capitalize()


def section(cls: type[Op]) -> str:
    """One op: how it is written, its docstring, its attributes."""
    works_on = [
        word for word, has in (("reals", cls.has_floats()), ("integers", cls.has_integers())) if has
    ]
    file = f"{cls.__module__.replace('.', '/')}.py"
    written = textwrap.indent(f"%y = {signature(cls)} : TYPE", "    ")
    meaning = textwrap.indent(inspect.getdoc(cls) or "", "    ")
    where = f"`{cls.__name__}` in `{file}`, on {' and '.join(works_on)}."
    return f"### {cls.mnemonic}\n\n{written}\n\n{meaning}\n\n{where}\n"


def signature(cls: type[Op]) -> str:
    """The op as the text form writes it, attributes by their types."""
    own = op_fields(cls)
    operands = ", ".join(operand(f) for f in own if f.operand)
    attributes = ", ".join(f"{f.name} = {kind(f.annotation)}" for f in own if not f.operand)
    return f"{cls.mnemonic}({operands})" + (f" {{{attributes}}}" if attributes else "")


def operand(field: OpField) -> str:
    match field.operand:
        case OperandKind.MANY:
            return f"[%{field.name}, ...]"
        case OperandKind.OPTIONAL:
            return f"%{field.name} or _"
        case _:
            return f"%{field.name}"


def kind(hint: Any) -> str:
    """The type of an attribute in words; of an enum its members."""
    if hint == Elem:
        return "ELEM"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(str(m.value) for m in hint)
    args = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return " | ".join("none" if a is NoneType else kind(a) for a in args)
    if get_origin(hint) is tuple:
        counted = args[:-1] if args[-1] is Ellipsis else args
        return f"[{', '.join(kind(a) for a in counted)}{', ...' if args[-1] is Ellipsis else ''}]"
    return str(hint.__name__).upper() if hint.__module__.startswith("qir") else str(hint.__name__)


if __name__ == "__main__":
    PAGE.write_text(page())
