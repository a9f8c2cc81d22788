"""The build attributes of ARM objects, by which a linker tells which of them fit together.

No function of an artifact takes or gives a float or an enum by value. So its objects fit firmware
of either float ABI and any size of enums, and say so.
Source: Addenda to the ABI for the Arm Architecture (IHI0045), build attributes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from qir.backends.toolchain.elf import sections

SHT_ARM_ATTRIBUTES = 0x70000003
TAG_FILE = 1
ENUM_SIZE, VFP_ARGS = 26, 28
NEUTRAL = {ENUM_SIZE: 0, VFP_ARGS: 3}  # no enum is used; compatible with both conventions
TEXTS = (4, 5, 67)  # CPU_raw_name, CPU_name, conformance
COMPATIBILITY = 32  # a number and a text


def neutral(content: bytes) -> bytes:
    """The object, fit for firmware of either float ABI; others than ARM's stay as they are."""
    patched = bytearray(content)
    for section in sections(content):
        if section.kind == SHT_ARM_ATTRIBUTES:
            for tag, at in _numbers(content, section.offset, section.offset + section.size):
                if tag in NEUTRAL:
                    patched[at] = NEUTRAL[tag]  # all values of these tags take one byte
    return bytes(patched)


def attributes(content: bytes) -> dict[int, int]:
    """The numbers of an object by tag."""
    return {
        tag: content[at]
        for section in sections(content)
        if section.kind == SHT_ARM_ATTRIBUTES
        for tag, at in _numbers(content, section.offset, section.offset + section.size)
    }


def _numbers(content: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """(tag, place of its value) of each number that holds for the whole file."""
    at = begin + 1  # the version, "A"
    while at < end:
        (size,) = struct.unpack_from("<I", content, at)
        vendor = content.index(b"\0", at + 4)
        if content[at + 4 : vendor] == b"aeabi":
            yield from _of_file(content, vendor + 1, at + size)
        at += max(size, 4)


def _of_file(content: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    while at < end:
        scope, (size,) = content[at], struct.unpack_from("<I", content, at + 1)
        place = at + 5
        while scope == TAG_FILE and place < at + size:
            tag, place = _number(content, place)
            is_text = tag in TEXTS or (tag > COMPATIBILITY and tag % 2 == 1)
            if not is_text:
                yield tag, place
                _, place = _number(content, place)
            if is_text or tag == COMPATIBILITY:
                place = content.index(b"\0", place) + 1
        at += max(size, 5)


def _number(content: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 and the place after it."""
    value = shift = 0
    while True:
        byte = content[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at
