"""Reads the text form back; every error names line, column, what was found and what is needed."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin

import numpy as np

import qir.ir.ops  # noqa: F401  (fills OPS)
from qir.ir.data import Data
from qir.ir.errors import ParseError, QirError
from qir.ir.fixed import Dyadic
from qir.ir.graph import STAGES, Graph
from qir.ir.op import OPS, Loc, Op, OperandKind, Value, op_fields
from qir.ir.types import Bfp, Elem, Float, Int, Quant, Tensor

TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      | (?P<value>%[\w.$-]+)
      | (?P<symbol>@[\w.$-]+)
      | (?P<hash>\#[0-9a-f]+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|inf\b|nan\b))
      | (?P<word>[A-Za-z_](?:[\w-]*\w)?)
      | (?P<punct>[(){}<>\[\]=:,])""",
    re.VERBOSE,
)
MAX_ELEMENTS = 1 << 32
T = TypeVar("T")


def parse(source: str, blobs: Mapping[str, Data] | None = None) -> Graph:
    """The one graph in `source`; `blobs` gives the arrays that the text names by hash."""
    reader = Reader(source, blobs or {})
    graph = reader.graph()
    if reader.kind != "end":
        reader.fail(f"found {reader.word!r}", "the end of the text is needed after one graph")
    return graph


class Reader:
    """A recursive-descent reader over the tokens of one text."""

    def __init__(self, source: str, blobs: Mapping[str, Data]) -> None:
        self.source, self.blobs = source, blobs
        self.at = self.end = 0
        self.kind, self.word = "", ""
        self.types: dict[Tensor, Tensor] = {}
        self.advance()

    # -- tokens

    def advance(self) -> str:
        """Step over the present token and return it."""
        old, self.at = self.word, self.end
        while self.at < len(self.source):
            m = TOKEN.match(self.source, self.at)
            if m is None:
                self.fail(f"found {self.source[self.at]!r}", "a character of the text form is needed")
            if m.lastgroup != "space":
                self.kind, self.word, self.end = str(m.lastgroup), m.group(), m.end()
                return old
            self.at = m.end()
        self.kind, self.word, self.end = "end", "end of text", self.at
        return old

    def fail(self, found: str, needed: str) -> NoReturn:
        line = self.source.count("\n", 0, self.at) + 1
        column = self.at - self.source.rfind("\n", 0, self.at)
        raise ParseError(f"text line {line} column {column}: {found}, {needed}")

    def expect(self, word: str) -> None:
        if self.word != word or self.kind == "string":
            self.fail(f"found {self.word!r}", f"{word!r} is needed")
        self.advance()

    def take(self, kind: str, what: str) -> str:
        if self.kind != kind:
            self.fail(f"found {self.word!r}", f"{what} is needed")
        return self.advance()

    def accept(self, word: str) -> bool:
        if self.word == word and self.kind != "string":
            self.advance()
            return True
        return False

    def integer(self) -> int:
        at = self.word
        try:
            n = int(self.take("number", "an integer"))
        except ValueError:
            self.fail(f"found {at!r}", "an integer is needed")
        if abs(n) >= 1 << 63:
            self.fail(f"found {at}", "an integer under 2**63 is needed")
        return n

    def string(self) -> str:
        at = self.take("string", "a quoted string")
        try:
            return str(json.loads(at))
        except ValueError:
            self.fail(f"found {at}", "a string with JSON's escapes is needed")

    def series(self, item: Callable[[], T], opening: str, closing: str) -> tuple[T, ...]:
        self.expect(opening)
        items: list[T] = []
        while self.word != closing:
            if items:
                self.expect(",")
            items.append(item())
        self.expect(closing)
        return tuple(items)

    # -- structure

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.take("symbol", "a name such as @net")[1:]
        self.expect("stage")
        self.expect("=")
        stage = self.take("word", "a stage")
        if stage not in STAGES:
            self.fail(f"found stage {stage!r}", f"one of {', '.join(STAGES)} is needed")
        scope: dict[str, Value] = {}
        inputs = self.series(lambda: self.declared(scope), "(", ")")
        self.expect("{")
        ops: list[Op] = []
        while not self.accept("return"):
            ops.append(self.op(scope))
        outputs = [self.output(scope)]
        while self.accept(","):
            outputs.append(self.output(scope))
        self.expect("}")
        values, names = zip(*outputs, strict=True)
        return Graph(name, inputs, tuple(ops), values, names, stage)

    def declared(self, scope: dict[str, Value]) -> Value:
        name = self.new_name(scope)
        self.expect(":")
        scope[name] = Value(name, self.tensor())
        return scope[name]

    def new_name(self, scope: dict[str, Value]) -> str:
        if self.word[1:] in scope:
            self.fail(f"found {self.word} defined twice", "each value is defined once")
        return self.take("value", "a value such as %x")[1:]

    def output(self, scope: dict[str, Value]) -> tuple[Value, str]:
        value = self.use(scope)
        return value, self.string() if self.accept("as") else value.name

    def use(self, scope: dict[str, Value]) -> Value:
        if self.kind == "value" and self.word[1:] not in scope:
            self.fail(f"found {self.word}", "a value defined before its use is needed")
        return scope[self.take("value", "a value such as %x")[1:]]

    def op(self, scope: dict[str, Value]) -> Op:
        names = [self.new_name(scope)]
        while self.accept(","):
            names.append(self.new_name(scope))
        self.expect("=")
        if self.kind != "word" or self.word not in OPS:
            self.fail(f"found op {self.word!r}", "a known op is needed (docs/ops.md lists them)")
        start, cls = self.at, OPS[self.advance()]
        fields = self.operands(cls, scope) | self.attributes(cls)
        self.expect(":")
        written = [self.tensor()]
        while self.accept(","):
            written.append(self.tensor())
        loc = self.loc()
        try:
            op = cls(**fields, names=tuple(names), loc=loc)
            found = [v.type for v in op.results]
        except (QirError, ValueError, TypeError, IndexError, OverflowError, ArithmeticError) as e:
            self.at = start
            reason = e.text if isinstance(e, QirError) else str(e)
            self.fail(f"found {cls.mnemonic} %{names[0]} with {reason}", "operands and attributes that fit are needed")
        if found != written:
            self.at = start
            self.fail(
                f"found type {', '.join(map(str, written))}", f"{', '.join(map(str, found))} is what the op gives"
            )
        scope.update({v.name: v for v in op.results})
        return op

    def operands(self, cls: type[Op], scope: dict[str, Value]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        self.expect("(")
        for i, f in enumerate(f for f in op_fields(cls) if f.operand):
            if i:
                self.expect(",")
            if f.operand == OperandKind.MANY:
                fields[f.name] = self.series(lambda: self.use(scope), "[", "]")
            elif f.operand == OperandKind.OPTIONAL and self.accept("_"):
                fields[f.name] = None
            else:
                fields[f.name] = self.use(scope)
        self.expect(")")
        return fields

    def attributes(self, cls: type[Op]) -> dict[str, Any]:
        wanted = [f for f in op_fields(cls) if not f.operand]
        fields: dict[str, Any] = {}
        for i, f in enumerate(wanted):
            self.expect("," if i else "{")
            self.expect(f.name)
            self.expect("=")
            fields[f.name] = self.attribute(f.annotation)
        if wanted:
            self.expect("}")
        return fields

    def loc(self) -> Loc:
        if not self.accept("loc"):
            return Loc()
        self.expect("(")
        source = self.string()
        passes: list[str] = []
        if self.accept("by"):
            while self.kind == "word":
                passes.append(self.advance())
        self.expect(")")
        return Loc(source, tuple(passes))

    # -- attributes and types

    def attribute(self, hint: Any) -> Any:
        origin, args = get_origin(hint), get_args(hint)
        if hint == Elem:
            return self.elem()
        if origin in (Union, types.UnionType):
            if type(None) in args and self.accept("none"):
                return None
            return self.attribute(next(a for a in args if a is not type(None)))
        if origin is tuple:
            return self.series(lambda: self.attribute(args[0]), "[", "]")
        if isinstance(hint, type) and issubclass(hint, Enum):
            return self.member(hint)
        readers: dict[Any, Callable[[], Any]] = {
            bool: self.boolean, int: self.integer, float: self.real, str: self.string, Data: self.data,
            Quant: self.quant, Int: self.elem, Float: self.elem, Dyadic: self.dyadic, Tensor: self.tensor,
        }  # fmt: skip
        held = readers[hint]()
        if isinstance(hint, type) and not isinstance(held, hint):
            self.fail(f"found {held}", f"a {hint.__name__} is needed")
        return held

    def member(self, kind: type[Enum]) -> Enum:
        for m in kind:
            if self.accept(str(m.value)):
                return m
        self.fail(f"found {self.word!r}", f"one of {', '.join(str(m.value) for m in kind)} is needed")

    def boolean(self) -> bool:
        if self.word not in ("true", "false"):
            self.fail(f"found {self.word!r}", "true or false is needed")
        return self.advance() == "true"

    def real(self) -> float:
        return float(self.take("number", "a number"))

    def data(self) -> Data:
        self.expect("data")
        self.expect("<")
        dtype = self.dtype()
        self.expect("[")
        shape = self.shape_to("]")
        self.expect("]")
        self.expect(",")
        count = int(np.prod(shape, dtype=object))
        if self.kind == "hash":
            return self.blob(dtype, shape)
        items: list[str] = []
        while self.kind in ("number", "word"):
            items.append(self.advance())
        if len(items) != count:
            self.fail(f"found {len(items)} elements", f"{count} are needed")
        self.expect(">")
        try:
            flat = [int(i) for i in items] if dtype.kind in "iu" else [float(i) for i in items]
            made = np.array(flat, np.float64) if dtype.kind == "f" else np.array(flat, object)
            return Data(made.astype(dtype).reshape(shape))
        except (ValueError, OverflowError) as e:
            self.fail(f"found {' '.join(items)}", f"elements of {dtype} are needed ({e})")

    def dtype(self) -> np.dtype[Any]:
        word = self.take("word", "an element type such as int8")
        if re.fullmatch(r"u?int(8|16|32|64)|float(16|32|64)|bool", word) is None:
            self.fail(f"found {word!r}", "an element type such as int8 or float32 is needed")
        return np.dtype(word)

    def blob(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Data:
        digest = self.word[1:]
        if digest not in self.blobs:
            self.fail(f"found no array #{digest[:12]}", "the arrays saved beside the text are needed")
        found = self.blobs[digest]
        if found.array.dtype != dtype or found.shape != shape or found.digest != digest:
            self.fail(f"found array {found}", f"{dtype}{list(shape)} #{digest[:12]} is needed")
        self.advance()
        self.expect(">")
        return found

    def shape_to(self, closing: str) -> tuple[int, ...]:
        """Sizes written 16x3x3 up to `closing`; the position is left on it."""
        m = re.compile(r"(\d+(?:x\d+)*)?(?=" + re.escape(closing) + ")").match(self.source, self.at)
        if m is None:
            self.fail(f"found {self.word!r}", "sizes such as 16x3x3 are needed")
        if m.group():
            self.end = m.end()
            self.advance()
        return self.checked_shape(m.group().split("x") if m.group() else [])

    def checked_shape(self, sizes: list[str]) -> tuple[int, ...]:
        shape = tuple(int(s) for s in sizes)
        if int(np.prod(shape, dtype=object)) > MAX_ELEMENTS:
            self.fail(f"found shape {list(shape)}", "at most 2**32 elements fit")
        return shape

    def tensor(self) -> Tensor:
        self.expect("tensor")
        if self.word != "<":
            self.fail(f"found {self.word!r}", "'<' is needed")
        m = re.compile(r"<\s*((?:\d+x)*)").match(self.source, self.at)
        assert m is not None
        self.end = m.end()
        self.advance()
        made = Tensor(self.checked_shape(m.group(1).split("x")[:-1]), self.elem())
        self.expect(">")
        return self.types.setdefault(made, made)

    def elem(self) -> Elem:
        if self.word == "q":
            return self.quant()
        if self.word == "bfp":
            return self.bfp()
        return self.scalar()

    def scalar(self) -> Int | Float:
        word = self.take("word", "an element type such as f32, i8 or q<...>")
        m = re.fullmatch(r"([iuf])(\d{1,2})", word)
        bits = int(m.group(2)) if m else 0
        if m is None or not (1 <= bits <= 64) or (m.group(1) == "f" and bits not in (16, 32, 64)):
            self.fail(f"found {word!r}", "an element type such as f32, i8 or q<...> is needed")
        return Float(bits) if m.group(1) == "f" else Int(bits, m.group(1) == "i")

    def quant(self) -> Quant:
        self.expect("q")
        self.expect("<")
        storage = self.scalar()
        if not isinstance(storage, Int):
            self.fail(f"found storage {storage}", "an integer such as i8 is needed")
        self.expect(",")
        if self.kind == "number":
            scale = self.real()
            self.expect(":")
            made = Quant.per_tensor(storage, scale, self.integer())
        else:
            axis = self.keyed_integer("axis")
            self.expect(",")
            block = None
            if self.word == "block":
                block = self.keyed_integer("block")
                self.expect(",")
            made = Quant(storage, self.keyed_data("scale"), self.keyed_data("zero_point", ","), axis, block)
        self.expect(">")
        return made

    def bfp(self) -> Bfp:
        self.expect("bfp")
        self.expect("<")
        mantissa = self.integer()
        self.expect(",")
        exponent = self.integer()
        self.expect(",")
        block = self.keyed_integer("block")
        self.expect(",")
        made = Bfp(mantissa, exponent, block, self.keyed_integer("axis"))
        self.expect(">")
        return made

    def keyed_integer(self, key: str) -> int:
        self.expect(key)
        self.expect("=")
        return self.integer()

    def keyed_data(self, key: str, before: str = "") -> Data:
        if before:
            self.expect(before)
        self.expect(key)
        self.expect("=")
        return self.data()

    def dyadic(self) -> Dyadic:
        self.expect("dyadic")
        self.expect("<")
        mult = self.data()
        self.expect(",")
        shift = self.data()
        self.expect(">")
        return Dyadic(mult, shift)
