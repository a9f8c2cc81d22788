"""TIR expressions as C99: values in the types C gives them, and few parentheses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qir.backends.tvm.compat import Var

PRIMARY, UNARY, MUL, ADD, SHIFT, COMPARE, BITS, LOGIC, CHOICE = range(9, 0, -1)
"""How strongly an expression holds together, the strongest first."""

BARE = frozenset({
    (MUL, MUL), (ADD, ADD), (ADD, MUL), (COMPARE, ADD), (COMPARE, MUL), (CHOICE, COMPARE),
    (LOGIC, COMPARE),
})  # fmt: skip
"""(outer, inner) that need no parentheses, neither for C nor for readers; left operands only when
both are the same."""

INFIX = {
    "Add": ("+", ADD), "Sub": ("-", ADD), "Mul": ("*", MUL), "Div": ("/", MUL), "Mod": ("%", MUL),
    "RShift": (">>", SHIFT), "BitwiseAnd": ("&", BITS), "BitwiseOr": ("|", BITS),
    "BitwiseXor": ("^", BITS), "EQ": ("==", COMPARE), "NE": ("!=", COMPARE), "LT": ("<", COMPARE),
    "LE": ("<=", COMPARE), "GT": (">", COMPARE), "GE": (">=", COMPARE), "And": ("&&", LOGIC),
    "Or": ("||", LOGIC),
}  # fmt: skip
"""TIR's truncating division and arithmetic shift are C's."""

LEAVES = frozenset({"Add", "Sub", "Mul", "Div"})
"""Operations whose result C computes wider than a narrow type."""

LETTERS = {"int8": "i8", "uint8": "u8", "int16": "i16", "uint16": "u16", "int32": "i32",
           "uint32": "u32", "int64": "i64", "uint64": "u64"}  # fmt: skip
RANKS = ("int32", "uint32", "int64", "uint64")
"""The types in which C computes, the weakest first."""


class NotC(Exception):
    """An expression or statement that has no portable C; the text says which."""


@dataclass(frozen=True)
class Text:
    """An expression in C with its precedence and its type in C."""

    text: str
    strength: int
    dtype: str

    @property
    def literal(self) -> int | None:
        return int(self.text) if self.text.lstrip("-").isdigit() else None


@dataclass(frozen=True)
class CBuffer:
    """What a buffer is in C: a pointer's or array's name and its element; or one variable."""

    name: str
    dtype: str
    is_scalar: bool = False


def dtype_of(node: Any) -> str:
    """The TIR type of an expression or buffer: int32, bool, ...; NotC for vectors and floats."""
    dtype = str(getattr(node.ty, "dtype", node.ty))
    if dtype not in LETTERS and dtype != "bool":
        raise NotC(f"a value of type {dtype}")
    return dtype


def promoted(dtype: str) -> str:
    """The type in which C computes with such a value; int has 32 bits or more."""
    return dtype if dtype in RANKS else "int32"


def common(a: str, b: str) -> str:
    return max(promoted(a), promoted(b), key=RANKS.index)


def cast(value: Text, dtype: str) -> Text:
    """(dtype)value; nothing where C does so anyway."""
    if value.dtype == dtype or (dtype == "int32" and promoted(value.dtype) == "int32"):
        return value
    inner = value.text if value.strength >= UNARY else f"({value.text})"
    return Text(f"({dtype}_t){inner}", UNARY, dtype)


def literal(value: int) -> Text:
    if value in (-(1 << 31), -(1 << 63)):
        wide = 32 if value == -(1 << 31) else 64
        return Text(f"INT{wide}_MIN", PRIMARY, f"int{wide}")
    dtype = "int32" if abs(value) < 1 << 31 else "int64" if value < 1 << 63 else "uint64"
    suffix = "u" if dtype == "uint64" else ""
    return Text(f"{value}{suffix}", PRIMARY if value >= 0 else UNARY, dtype)


@dataclass(frozen=True)
class Expressions:
    """Expressions of one function. `names`: of variables; `memory`: of buffers."""

    names: Mapping[Var, str]
    memory: Mapping[Var, CBuffer]

    def of(self, node: Any) -> Text:
        """The expression in C. Errors: NotC."""
        kind = type(node).__name__
        if kind in INFIX:
            return self._infix(node, kind)
        write = _WRITERS.get(kind)
        if write is None:
            raise NotC(f"a {kind} expression")
        return write(self, node)

    def element(self, buffer: Any, indices: Any) -> Text:
        """One element of a buffer, which may be assigned too where it is no load function."""
        memory, dtype = self.memory[buffer], dtype_of(buffer)
        if len(indices) != 1:
            raise NotC(f"{len(indices)} indices of {memory.name}")
        if memory.is_scalar:
            return Text(memory.name, PRIMARY, dtype)
        at = self.of(indices[0])
        if memory.dtype == dtype:
            return Text(f"{memory.name}[{at.text}]", PRIMARY, dtype)
        return Text(f"{LETTERS[dtype]}_at({memory.name}, {at.text})", PRIMARY, dtype)

    def _infix(self, node: Any, kind: str) -> Text:
        symbol, strength = INFIX[kind]
        a, b, dtype = self.of(node.a), self.of(node.b), dtype_of(node)
        result_type = promoted(dtype_of(node.a))
        c_type = promoted(a.dtype) if kind == "RShift" else common(a.dtype, b.dtype)
        if c_type != result_type:
            a = cast(a, result_type)
        if symbol in "+-" and b.literal is not None and b.literal < 0:
            symbol, b = "-" if symbol == "+" else "+", literal(-b.literal)
        left, right = _inside(a, strength, True), _inside(b, strength, False)
        text = Text(
            f"{left} {symbol} {right}", strength, "int32" if dtype == "bool" else result_type
        )
        return cast(text, dtype) if kind in LEAVES and dtype not in RANKS else text

    def _load(self, node: Any) -> Text:
        return self.element(node.source, node.indices)

    def _variable(self, node: Any) -> Text:
        return Text(self.names[node], PRIMARY, dtype_of(node))

    def _number(self, node: Any) -> Text:
        dtype_of(node)
        return literal(int(node.value))

    def _cast(self, node: Any) -> Text:
        return cast(self.of(node.value), dtype_of(node))

    def _shift_left(self, node: Any) -> Text:
        a, b, dtype = self.of(node.a), self.of(node.b), dtype_of(node)
        if dtype not in RANKS:
            raise NotC(f"a shift of {dtype} to the left")
        if dtype.startswith("u") or (a.literal or -1) >= 0:
            a = a if promoted(a.dtype) == dtype else cast(a, dtype)
            left, right = _inside(a, SHIFT, True), _inside(b, SHIFT, False)
            return Text(f"{left} << {right}", SHIFT, dtype)
        return _call("shl", dtype, a, b)

    def _bound(self, node: Any) -> Text:
        """min, max, and the two together as clamp."""
        name, dtype = type(node).__name__, promoted(dtype_of(node))
        if name == "Min" and type(node.a).__name__ == "Max":
            return _call("clamp", dtype, *map(self.of, (node.a.a, node.a.b, node.b)))
        return _call(name.lower(), dtype, self.of(node.a), self.of(node.b))

    def _select(self, node: Any) -> Text:
        return self._choice(node.condition, node.true_value, node.false_value)

    def _choice(self, condition: Any, yes: Any, no: Any) -> Text:
        parts = [self.of(part) for part in (condition, yes, no)]
        sides = [_inside(part, CHOICE, False) for part in parts]
        text = f"{sides[0]} ? {sides[1]} : {sides[2]}"
        return Text(text, CHOICE, common(parts[1].dtype, parts[2].dtype))

    def _call_of(self, node: Any) -> Text:
        name = str(getattr(node.op, "name", node.op))
        if name == "tirx.if_then_else":
            return self._choice(*node.args)
        if name == "tirx.reinterpret" and dtype_of(node)[-2:] == dtype_of(node.args[0])[-2:]:
            return cast(self.of(node.args[0]), dtype_of(node))
        raise NotC(f"a call of {name}")


def _call(name: str, dtype: str, *arguments: Text) -> Text:
    listed = ", ".join(argument.text for argument in arguments)
    return Text(f"{name}_{LETTERS[dtype]}({listed})", PRIMARY, dtype)


def _inside(part: Text, outer: int, is_left: bool) -> str:
    is_bare = part.strength >= UNARY or (
        (outer, part.strength) in BARE and (is_left or outer != part.strength)
    )
    return part.text if is_bare else f"({part.text})"


_WRITERS: dict[str, Callable[[Expressions, Any], Text]] = {
    "Call": Expressions._call_of,
    "Cast": Expressions._cast,
    "IntImm": Expressions._number,
    "LShift": Expressions._shift_left,
    "Max": Expressions._bound,
    "Min": Expressions._bound,
    "Select": Expressions._select,
    "TensorLoad": Expressions._load,
    "Var": Expressions._variable,
}
