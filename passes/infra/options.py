"""Options of passes: fields of a dataclass, typed by their annotations, written name(option=value).

One grammar for `qir opt --passes`, the `// pass:` lines of case files, and what Python prints:

    PASSES  = PASS , ...
    PASS    = NAME [ ( OPTION = VALUE , ... ) ]
    VALUE   = none | true | false | NUMBER | WORD | "STRING" | [ VALUE , ... ]
            | { NAME : VALUE , ... }
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, field, fields
from enum import Enum
from inspect import get_annotations
from math import inf
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import numpy as np

from qir.ir.attributes import fits, hint_text
from qir.ir.errors import ParseError, PassError
from qir.ir.text.lexer import Lexer
from qir.ir.types import Array

T = TypeVar("T")
NONE = type(None)
SCALARS = (bool, int, float, str, NONE)
SHOWN = 16  # entries of a mapping, elements of an array: more are written as ...
NEEDED = "passes as in a, b(option=3) are needed"


def option(default: Any, low: float = -inf, high: float = inf) -> Any:
    """A field of a pass with a number that must lie in low .. high."""
    return field(default=default, metadata={"limits": (low, high)})


def read_passes(source: str, find: Callable[[str], type[T]]) -> tuple[T, ...]:
    """The passes that a text lists; `find` returns their classes.

    Errors: PassError that names the pass, the option, what was found and what is needed.
    """
    return PassReader(source).passes(find)


def check_options(instance: Any, name: str) -> None:
    """Check the options of a pass built in Python against their types."""
    for f, hint in options_of(type(instance)).values():
        value = getattr(instance, f.name)
        if not is_text(hint):
            continue
        if not is_option(value, hint):
            raise PassError(option_error(name, f.name, f"found {value_text(value)}", hint))
        low, high = f.metadata.get("limits", (-inf, inf))
        if value is not None and (low, high) != (-inf, inf) and not low <= value <= high:
            limits = f"{low:g} to {high:g}" if high < inf else f"{low:g} or more"
            raise PassError(
                f"pass {name}: option {f.name}: found {value_text(value)}, {limits} is needed"
            )


def pass_text(instance: Any, name: str) -> str:
    """A pass as text, without the options that have their defaults; data as ... ."""
    options = (o for o in options_of(type(instance)).values() if o[0].compare)
    texts = [
        f"{f.name}={value_text(getattr(instance, f.name)) if is_text(hint) else '...'}"
        for f, hint in options
        if not is_default(f, instance)
    ]
    return f"{name}({', '.join(texts)})" if texts else name


def described(cls: type[Any]) -> str:
    """The options of a pass with their types and defaults, for lists of passes."""
    return ", ".join(
        f"{f.name}: {hint_name(hint)}"
        + (f" = {value_text(f.default)}" if is_shown(f, hint) else "")
        for f, hint in options_of(cls).values()
    )


def is_shown(f: Field[Any], hint: Any) -> bool:
    """Whether text can write the default of an option."""
    return f.default is None or (f.default is not MISSING and is_text(hint))


_OPTIONS: dict[type[Any], dict[str, tuple[Field[Any], Any]]] = {}


def options_of(cls: type[Any]) -> dict[str, tuple[Field[Any], Any]]:
    """The fields of a pass and their annotations, by name; Any for one that cannot be evaluated."""
    if cls not in _OPTIONS:
        _OPTIONS[cls] = {f.name: (f, hint_of(cls, f.name)) for f in fields(cls)}
    return _OPTIONS[cls]


def hint_of(cls: type[Any], name: str) -> Any:
    home = next(c for c in cls.__mro__ if name in get_annotations(c))
    hint = get_annotations(home)[name]
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, vars(sys.modules[home.__module__]))
    except Exception:  # of names that exist for type checkers alone, or in a function
        return Any


def is_text(hint: Any) -> bool:
    """Whether text can write every value of a type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return all(is_text(a) for a in args)
    if origin is tuple:
        return is_text(args[0]) and args[1:] == (Ellipsis,)
    if origin is Mapping:
        return args[0] is str and (is_text(args[1]) or is_array(args[1]))
    return hint in SCALARS or origin is Literal or is_enum(hint)


def is_array(hint: Any) -> bool:
    """Whether a type is that of arrays; as values of a mapping, those of one axis are lists."""
    return get_origin(hint) is np.ndarray


def is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def is_option(value: Any, hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in args
    if origin in (Union, types.UnionType):
        return any(is_option(value, a) for a in args)
    if origin is Mapping:
        return isinstance(value, Mapping)
    return bool(fits(value, hint)) and value == value  # no NaN


def is_default(f: Field[Any], instance: Any) -> bool:
    value = getattr(instance, f.name)
    if f.default is not MISSING:
        same_kind = isinstance(value, (*SCALARS, Enum, tuple)) and type(value) is type(f.default)
        return value is f.default or (same_kind and value == f.default)
    return f.default_factory is not MISSING and not value


def value_text(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case str():
            return json.dumps(value)
        case int() | float():
            return repr(value)
        case tuple() if all(isinstance(h, (*SCALARS, Enum)) for h in value):
            return f"[{', '.join(value_text(h) for h in value)}]"
        case Mapping() if len(value) <= SHOWN:
            return f"{{{', '.join(f'{json.dumps(k)}: {value_text(v)}' for k, v in value.items())}}}"
        case np.ndarray() if value.ndim == 1 and value.size <= SHOWN:
            return str(value.tolist())
        case Mapping() | np.ndarray():
            return "..."
    return repr(value)


def hint_name(hint: Any) -> str:
    """A type as errors and lists name it."""
    if hint is Any:
        return "data"
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if is_enum(hint):
        return f"one of {', '.join(str(m.value) for m in hint)}"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join("none" if a is NONE else hint_name(a) for a in get_args(hint))
    return hint_text(hint).replace(hint_text(Array), "array")


def option_error(name: str, option: str, problem: str, hint: Any) -> str:
    return f"pass {name}: option {option}: {problem}, {hint_name(hint)} is needed"


class PassReader(Lexer):
    """Reads passes; tokens are those of the text form of graphs."""

    def __init__(self, source: str) -> None:
        self.option = ""  # the pass and option that is being read
        try:
            super().__init__(source)
        except ParseError as e:
            raise PassError(f"passes {source!r}: {e.text.partition(': ')[2]}", hint=NEEDED) from e

    def fail(self, problem: str, requirement: str) -> NoReturn:
        where = f"pass {self.option}" if self.option else f"passes {self.source[self.at :]!r}"
        raise PassError(f"{where}: {problem}, {requirement}")

    def passes(self, find: Callable[[str], type[T]]) -> tuple[T, ...]:
        passes: list[T] = []
        while True:
            self.option = ""
            if self.kind != "word":
                self.fail(f"found {self.word!r}", NEEDED)
            name = self.advance()
            passes.append(self.read_pass(name, find(name)))
            self.option = ""
            if self.kind == "end":
                return tuple(passes)
            if not self.accept(","):
                self.fail(f"found {self.word!r}", NEEDED)

    def read_pass(self, name: str, cls: type[T]) -> T:
        """The pass with its options."""
        options = options_of(cls)
        values: dict[str, Any] = {}
        if self.accept("("):
            while not self.accept(")"):
                self.option = name
                if values and not self.accept(","):
                    self.fail(f"found {self.word!r}", "',' or ')' is needed")
                option = self.take("word", "the name of an option")
                if option not in options:
                    has = ", ".join(options) or "none"
                    raise PassError(
                        f"pass {name}: option {option}: not known, one of {has} is needed"
                    )
                if option in values:
                    raise PassError(f"pass {name}: option {option}: found twice, once is needed")
                self.option = f"{name}: option {option}"
                self.expect("=")
                values[option] = self.value(options[option][1])
        missing = [n for n, (f, _) in options.items() if n not in values and is_required(f)]
        if missing:
            raise PassError(option_error(name, missing[0], "missing", options[missing[0]][1]))
        return cls(**values)

    def value(self, hint: Any) -> Any:
        """A value of a type; of several, the first that fits what is written."""
        if not is_text(hint) and not (self.word == "none" and is_option(None, hint)):
            self.fail(
                f"found {self.word!r}",
                f"data ({hint_name(hint)}) is needed, which text cannot hold: make the pass in"
                " Python, as in qir.compile(passes=[...])",
            )
        for kind in filter(is_text, alternatives(hint)):
            fits, value = self.of_kind(kind)
            if fits:
                return value
        return self.fail(f"found {self.word!r}", f"{hint_name(hint)} is needed")

    def of_kind(self, hint: Any) -> tuple[bool, Any]:
        """(whether the present token is a value of a type without alternatives, the value)."""
        is_word = self.kind == "word"
        if get_origin(hint) is tuple:
            if self.word != "[" or self.kind != "punct":
                return False, None
            return True, self.series(lambda: self.value(get_args(hint)[0]), "[", "]")
        if get_origin(hint) is Mapping:
            if self.word != "{":
                return False, None
            return True, dict(self.series(lambda: self.entry(get_args(hint)[1]), "{", "}"))
        if hint is NONE:
            return (True, self.keyword(None)) if is_word and self.word == "none" else (False, None)
        if hint is bool:
            is_bool = is_word and self.word in ("true", "false")
            return (True, self.keyword(self.word == "true")) if is_bool else (False, None)
        if hint is int:
            is_int = self.kind == "number" and self.word.lstrip("+-").isdecimal()
            return (True, self.integer()) if is_int else (False, None)
        if hint is float:
            return (True, float(self.advance())) if self.kind == "number" else (False, None)
        if hint is str:
            if self.kind == "string":
                return True, self.string()
            return (True, self.advance()) if is_word else (False, None)
        members: Iterable[Any] = get_args(hint) or hint
        for member in members:
            text = str(member.value if isinstance(member, Enum) else member)
            if self.word in (text, json.dumps(text)):
                return True, self.keyword(member)
        return False, None

    def entry(self, hint: Any) -> tuple[str, Any]:
        """One key and value of a mapping."""
        key = self.string() if self.kind == "string" else self.take("word", "a name")
        self.expect(":")
        if is_array(hint):
            return key, np.array(self.value(tuple[float, ...]))
        return key, self.value(hint)

    def keyword(self, value: T) -> T:
        self.advance()
        return value


def alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def is_required(f: Field[Any]) -> bool:
    return f.init and f.default is MISSING and f.default_factory is MISSING
