"""Attributes and types of the text form, read by the annotation of the field they belong to."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Union, get_args, get_origin

import numpy as np

from qir.ir.data import Data
from qir.ir.fixed import Dyadic
from qir.ir.text.lexer import Lexer
from qir.ir.types import MAX_ELEMENTS, Bfp, Elem, Float, Int, Packing, Quant, Span, Tensor


class Literals(Lexer):
    """Reads attributes and types; `blobs` gives the arrays that the text names by hash."""

    def __init__(self, source: str, blobs: Mapping[str, Data]) -> None:
        self.blobs = blobs
        self.types: dict[
            Tensor, Tensor
        ] = {}  # equal types are one object, so comparing them is quick
        self.readers: dict[Any, Callable[[], Any]] = {
            bool: self.boolean,
            int: self.integer,
            float: self.real,
            str: self.string,
            Data: self.data,
            Quant: self.quant,
            Int: self.elem,
            Float: self.elem,
            Dyadic: self.dyadic,
            Tensor: self.tensor,
        }
        super().__init__(source)

    def attribute(self, hint: Any) -> Any:
        origin, args = get_origin(hint), get_args(hint)
        if hint == Elem:
            return self.elem()
        if hint == Packing:
            return self.span() if self.word == "span" else self.bfp()
        if origin in (Union, types.UnionType):
            if type(None) in args and self.accept("none"):
                return None
            return self.attribute(next(a for a in args if a is not type(None)))
        if origin is tuple:
            return self.series(lambda: self.attribute(args[0]), "[", "]")
        if isinstance(hint, type) and issubclass(hint, Enum):
            return self.member(hint)
        value = self.readers[hint]()
        if isinstance(hint, type) and not isinstance(value, hint):
            self.fail(f"found {value}", f"a {hint.__name__} is needed")
        return value

    def member(self, kind: type[Enum]) -> Enum:
        texts = [str(m.value) for m in kind]
        if self.word not in texts or self.kind == "string":
            self.fail(f"found {self.word!r}", f"one of {', '.join(texts)} is needed")
        return list(kind)[texts.index(self.advance())]

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
            array = np.array(flat, np.float64) if dtype.kind == "f" else np.array(flat, object)
            return Data(array.astype(dtype).reshape(shape))
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
            self.fail(
                f"found no array #{digest[:12]}", "the arrays saved beside the text are needed"
            )
        data = self.blobs[digest]
        if data.array.dtype != dtype or data.shape != shape or data.digest != digest:
            self.fail(f"found array {data}", f"{dtype}{list(shape)} #{digest[:12]} is needed")
        self.advance()
        self.expect(">")
        return data

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
        type_ = Tensor(self.checked_shape(m.group(1).split("x")[:-1]), self.elem())
        self.expect(">")
        return self.types.setdefault(type_, type_)

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
            q = Quant.per_tensor(storage, scale, self.integer())
        else:
            axis = self.keyed_integer("axis")
            self.expect(",")
            block = None
            if self.word == "block":
                block = self.keyed_integer("block")
                self.expect(",")
            q = Quant(
                storage, self.keyed_data("scale"), self.keyed_data("zero_point", ","), axis, block
            )
        self.expect(">")
        return q

    def bfp(self) -> Bfp:
        self.expect("bfp")
        self.expect("<")
        mantissa = self.integer()
        self.expect(",")
        exponent = self.integer()
        self.expect(",")
        block = self.keyed_integer("block")
        self.expect(",")
        elem = Bfp(mantissa, exponent, block, self.keyed_integer("axis"))
        self.expect(">")
        return elem

    def span(self) -> Span:
        self.expect("span")
        self.expect("<")
        bits = self.integer()
        self.expect(",")
        block = self.keyed_integer("block")
        self.expect(",")
        elem = Span(bits, block, self.keyed_integer("axis"))
        self.expect(">")
        return elem

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
