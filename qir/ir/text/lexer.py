"""Tokens of the text form, and the errors that name where one does not fit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NoReturn, TypeVar

from qir.ir.errors import ParseError
from qir.ir.names import NAME, WORD

TOKEN = re.compile(
    rf"""(?P<space>\s+|//[^\n]*)
      | (?P<value>%{NAME})
      | (?P<symbol>@{NAME})
      | (?P<hash>\#[0-9a-f]+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<number>[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|inf\b|nan\b))
      | (?P<word>{WORD})
      | (?P<punct>[(){{}}<>\[\]=:,])""",
    re.VERBOSE,
)
T = TypeVar("T")


class Lexer:
    """Steps through the tokens of one text: `kind` and `word` are the present one, which starts at
    `at`.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = self.end = 0
        self.kind, self.word = "", ""
        self.advance()

    def advance(self) -> str:
        """Step over the present token and return it."""
        old, self.at = self.word, self.end
        while self.at < len(self.source):
            m = TOKEN.match(self.source, self.at)
            if m is None:
                self.fail(
                    f"found {self.source[self.at]!r}", "a character of the text form is needed"
                )
            if m.lastgroup != "space":
                self.kind, self.word, self.end = str(m.lastgroup), m.group(), m.end()
                return old
            self.at = m.end()
        self.kind, self.word, self.end = "end", "end of text", self.at
        return old

    def fail(self, problem: str, requirement: str) -> NoReturn:
        line = self.source.count("\n", 0, self.at) + 1
        column = self.at - self.source.rfind("\n", 0, self.at)
        raise ParseError(f"text line {line} column {column}: {problem}, {requirement}")

    def expect(self, word: str) -> None:
        if self.word != word or self.kind == "string":
            self.fail(f"found {self.word!r}", f"{word!r} is needed")
        self.advance()

    def take(self, kind: str, expected: str) -> str:
        if self.kind != kind:
            self.fail(f"found {self.word!r}", f"{expected} is needed")
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
