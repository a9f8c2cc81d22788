"""Reads ELF files: defined and needed symbols, and sizes in memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from qir.ir.errors import LowerError

SYMTAB, NOBITS, DYNSYM = 2, 8, 11
WRITE, ALLOC, EXECUTE = 1, 2, 4
GLOBAL, WEAK = 1, 2


@dataclass(frozen=True)
class Symbol:
    """One global or weak symbol."""

    name: str
    is_defined: bool
    is_weak: bool


@dataclass(frozen=True)
class Sections:
    """Bytes that a file takes when it is loaded: code, constants, variables, variables of zero."""

    text: int
    rodata: int
    data: int
    bss: int


@dataclass(frozen=True)
class Section:
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    entry: int


def symbols(content: bytes) -> tuple[Symbol, ...]:
    """The global symbols: of the dynamic table where there is one, else of the full one.

    Errors: LowerError when the bytes are no ELF file.
    """
    wide, order = _form(content)
    try:
        every = list(_sections(content, wide, order))
        tables = {s.kind: s for s in every if s.kind in (SYMTAB, DYNSYM)}
        table = tables.get(DYNSYM) or tables.get(SYMTAB)
        return (
            () if table is None else tuple(_symbols(content, wide, order, table, every[table.link]))
        )
    except (struct.error, IndexError, ValueError) as e:
        raise _cut_off(e) from e


def sections(content: bytes) -> tuple[Section, ...]:
    """Every section. Errors: LowerError when the bytes are no ELF file."""
    try:
        return tuple(_sections(content, *_form(content)))
    except struct.error as e:
        raise _cut_off(e) from e


def loaded_sizes(content: bytes) -> Sections:
    """The sizes of all sections that are loaded, by kind; alignment between them not counted.

    Errors: LowerError when the bytes are no ELF file.
    """
    sizes = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    for section in sections(content):
        if section.flags & ALLOC:
            sizes[_kind(section)] += section.size
    return Sections(**sizes)


def _kind(section: Section) -> str:
    if section.kind == NOBITS:
        return "bss"
    if section.flags & WRITE:
        return "data"
    return "text" if section.flags & EXECUTE else "rodata"


def undefined(*contents: bytes) -> tuple[str, ...]:
    """Names that must come from elsewhere, sorted; weak ones may stay absent and are left out."""
    every = [s for content in contents for s in symbols(content)]
    defined = {s.name for s in every if s.is_defined}
    return tuple(sorted({s.name for s in every if not s.is_weak} - defined))


def _form(content: bytes) -> tuple[bool, str]:
    """Whether the file is of 64 bits, and its byte order."""
    if content[:4] != b"\x7fELF" or content[4] not in (1, 2) or content[5] not in (1, 2):
        raise LowerError(f"object: starts with {content[:6]!r}, an ELF file is needed")
    return content[4] == 2, "<" if content[5] == 1 else ">"


def _cut_off(e: Exception) -> LowerError:
    return LowerError(f"object: its tables are cut off ({e}), a whole ELF file is needed")


def _sections(content: bytes, wide: bool, order: str) -> Iterator[Section]:
    if wide:
        (start,) = struct.unpack_from(order + "Q", content, 0x28)
        size, count = struct.unpack_from(order + "HH", content, 0x3A)
    else:
        (start,) = struct.unpack_from(order + "I", content, 0x20)
        size, count = struct.unpack_from(order + "HH", content, 0x2E)
    form = order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII")
    for i in range(count):
        f = struct.unpack_from(form, content, start + i * size)
        yield Section(kind=f[1], flags=f[2], offset=f[4], size=f[5], link=f[6], entry=f[9])


def _symbols(
    content: bytes, wide: bool, order: str, table: Section, strings: Section
) -> Iterator[Symbol]:
    for at in range(table.offset, table.offset + table.size, table.entry):
        if wide:
            name, info, _, section, _, _ = struct.unpack_from(order + "IBBHQQ", content, at)
        else:
            name, _, _, info, _, section = struct.unpack_from(order + "IIIBBH", content, at)
        if info >> 4 in (GLOBAL, WEAK) and name:
            start = strings.offset + name
            text = content[start : content.index(b"\0", start)].decode()
            yield Symbol(text, section != 0, info >> 4 == WEAK)
