"""A lowered TIR function as a C99 function that people can read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import tvm_ffi

from qir.backends.tvm.c_expression import CBuffer, Expressions, NotC, Text, dtype_of
from qir.backends.tvm.compat import PrimFunc, Var

WIDTH = 100
SHARED = ("residual", "y")
CONSTANT = re.compile(r"\s*const \w+ (\w+) = ")
WORD = re.compile(r"\w+")


def c_function(function: PrimFunc, symbol: str) -> str:
    """`static void symbol(typed pointers..., int32_t begin, int32_t end)`, ended by a newline.

    It may call the functions of backends/c/templates/portable.c.
    Errors: NotC for what has no portable C: vectors, floats, intrinsics.
    """
    return _Function(function).text(symbol)


class _Function:
    """One function as it is written, line by line."""

    def __init__(self, function: PrimFunc) -> None:
        self._function = function
        self._taken: set[str] = set()
        self._names: dict[Var, str] = {}
        self._memory: dict[Var, CBuffer] = {}
        self._expressions = Expressions(self._names, self._memory)
        self._lines: list[str] = []
        self._depth = 1

    def text(self, symbol: str) -> str:
        parameters = [self._parameter(p) for p in self._function.params]
        self._statement(self._function.body)
        body = _drop_unused(self._lines)
        words = set(WORD.findall("\n".join(body)))
        unused = [f"    (void){p.name};" for p in self._function.params if p.name not in words]
        head = f"static void {symbol}({', '.join(parameters)}) {{"
        return "\n".join(
            part for line in (head, *unused, *body, "}", "") for part in _wrapped(line)
        )

    def _parameter(self, parameter: Var) -> str:
        name = self._name_of(parameter)
        element = getattr(parameter.ty, "element_type", None)
        if element is None:
            return f"{dtype_of(parameter)}_t {name}"
        dtype = str(element.dtype)
        self._memory[parameter] = CBuffer(name, dtype)
        const = "" if parameter in _stored(self._function) else "const "
        # A sum may be written over its residual; all other pointers never meet.
        meets = name in SHARED and any(p.name == "residual" for p in self._function.params)
        return f"{const}{dtype}_t *{'' if meets else 'restrict '}{name}"

    def _name_of(self, var: Var) -> str:
        """A name of its own for each variable, the one it has in TIR where that is free."""
        name, count = re.sub(r"\W", "_", var.name), 1
        while name in self._taken:
            count += 1
            name = f"{re.sub(r'[^A-Za-z0-9_]', '_', var.name)}_{count}"
        self._taken.add(name)
        self._names[var] = name
        return name

    def _write(self, line: str) -> None:
        self._lines.append("    " * self._depth + line)

    def _statement(self, node: Any) -> None:
        kind = type(node).__name__
        write = getattr(self, f"_{kind.lower()}", None)
        if write is None:
            raise NotC(f"a {kind} statement")
        write(node)

    def _seqstmt(self, node: Any) -> None:
        for statement in node.seq:
            self._statement(statement)

    def _block(self, head: str, body: Any) -> None:
        self._write(f"{head} {{")
        self._depth += 1
        self._statement(body)
        self._depth -= 1
        self._write("}")

    def _for(self, node: Any) -> None:
        begin, end = self._expressions.of(node.min), self._end(node)
        i = self._name_of(node.loop_var)
        dtype = dtype_of(node.loop_var)
        self._block(f"for ({dtype}_t {i} = {begin.text}; {i} < {end.text}; {i}++)", node.body)

    def _end(self, node: Any) -> Text:
        """Where a loop ends; written plainly where the extent is `end - begin`."""
        extent = node.extent
        if type(extent).__name__ == "Sub" and bool(extent.b == node.min):
            return self._expressions.of(extent.a)
        return self._expressions.of(node.min + extent)

    def _ifthenelse(self, node: Any) -> None:
        if node.else_case is not None:
            raise NotC("an else")
        self._block(f"if ({self._expressions.of(node.condition).text})", node.then_case)

    def _bind(self, node: Any) -> None:
        value = self._expressions.of(node.value)
        self._write(f"const {dtype_of(node.var)}_t {self._name_of(node.var)} = {value.text};")

    def _declbuffer(self, node: Any) -> None:
        """A view of memory: another element type, or another name."""
        source = node.data if type(node.data).__name__ == "Var" else node.data.args[0]
        self._memory[node.buffer] = self._memory[source]

    def _allocbuffer(self, node: Any) -> None:
        name, dtype = self._name_of(node.buffer), dtype_of(node.buffer)
        count = int(node.buffer.shape[0])
        self._memory[node.buffer] = CBuffer(name, dtype, count == 1)
        self._write(f"{dtype}_t {name};" if count == 1 else f"{dtype}_t {name}[{count}];")

    def _bufferstore(self, node: Any) -> None:
        if self._memory[node.buffer].dtype != dtype_of(node.buffer):
            raise NotC("a store into memory of another type")
        target = self._expressions.element(node.buffer, node.indices).text
        value = self._expressions.of(node.value).text
        declared = f"{dtype_of(node.buffer)}_t {target};"
        if self._lines and self._lines[-1].strip() == declared:
            self._lines.pop()
            self._write(f"{dtype_of(node.buffer)}_t {target} = {value};")
        elif type(node.value).__name__ == "Add" and (
            self._expressions.of(node.value.a).text == target and value.startswith(f"{target} + ")
        ):
            self._write(f"{target} += {value.removeprefix(f'{target} + ')};")
        else:
            self._write(f"{target} = {value};")


def _stored(function: PrimFunc) -> set[Var]:
    """The parameters that are written to."""
    base: dict[Var, Var] = {p: p for p in function.params}
    buffers: set[Var] = set()

    def visit(node: Any) -> None:
        kind = type(node).__name__
        if kind == "DeclBuffer":
            source = node.data if type(node.data).__name__ == "Var" else node.data.args[0]
            base[node.buffer] = base.get(source, source)
        elif kind == "BufferStore":
            buffers.add(node.buffer)

    tvm_ffi.structural_walk([function.body], visit)
    return {base.get(buffer, buffer) for buffer in buffers}


def _drop_unused(lines: Sequence[str]) -> list[str]:
    """The lines without constants that nobody reads."""
    remaining = list(lines)
    while True:
        counts: dict[str, int] = {}
        for word in WORD.findall("\n".join(remaining)):
            counts[word] = counts.get(word, 0) + 1
        fewer = [
            line for line in remaining if not (m := CONSTANT.match(line)) or counts[m.group(1)] > 1
        ]
        if len(fewer) == len(remaining):
            return remaining
        remaining = fewer


def _wrapped(line: str) -> Iterator[str]:
    """A long line as several, cut where the fewest parentheses are open; the further ones indented
    by eight more."""
    further = line[: len(line) - len(line.lstrip())] + " " * 8
    before = "," if line.startswith("static ") else ""
    while len(line) > WIDTH:
        spaces = [
            i for i in range(len(further) + 1, WIDTH) if line[i] == " " and before in line[i - 1]
        ]
        if not spaces:
            break
        at = min(reversed(spaces), key=lambda i: line.count("(", 0, i) - line.count(")", 0, i))
        yield line[:at]
        line = further + line[at + 1 :]
    yield line
