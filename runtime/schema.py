"""The schema of manifests: types and bounds of entries, and their consistency."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from math import prod
from typing import Any

from .format import MANIFEST, Manifest, shown

ALIGNMENTS = (16, 32, 64, 128)
DTYPES: Mapping[str, tuple[int, int, int]] = {
    "uint8": (0, 2**8 - 1, 1),
    "int8": (-(2**7), 2**7 - 1, 1),
    "uint16": (0, 2**16 - 1, 2),
    "int16": (-(2**15), 2**15 - 1, 2),
    "int32": (-(2**31), 2**31 - 1, 4),
    "uint32": (0, 2**32 - 1, 4),
    "int64": (-(2**63), 2**63 - 1, 8),
}
"""The least and the greatest stored integer, and the bytes of one."""

MOST_BYTES = 1 << 40  # of a file, a workspace, ...: what no machine of today runs
MOST_ELEMENTS = (1 << 31) - 1  # of a tensor: kernels index by int32
MOST_AXES = 32  # NumPy 1 has no more
MOST_PORTS, MOST_STEPS, MOST_FILES, MOST_CASES = 4096, 1 << 20, 4096, 1 << 20
LONGEST_NAME = 200  # of the program: file names with it stay below 255 bytes
LONGEST_TEXT = 1 << 16

Check = Callable[[str, Any], Iterator[str]]
"""(where, value) -> what is wrong with it."""


def _text(where: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        yield f"{where}: {shown(value)}, a text is needed"
    elif not _is_unicode(value):
        yield f"{where}: {shown(value)}, a text without lone surrogates is needed"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _integer(low: int, high: int) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if type(value) is not int or not low <= value <= high:
            yield f"{where}: {shown(value)}, an integer in [{low}, {high}] is needed"

    return check


def _one_of(*values: Any) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not any(type(value) is type(v) and value == v for v in values):
            yield f"{where}: {shown(value)}, one of {', '.join(map(str, values))} is needed"

    return check


def _list(check_one: Check, most: int) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, list) or len(value) > most:
            yield f"{where}: {shown(value)}, a list of at most {most} is needed"
            return
        for i, one in enumerate(value):
            yield from check_one(f"{where}[{i}]", one)

    return check


def _object(**entries: Check) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where or 'manifest'}: {shown(value)}, an object is needed"
            return
        for key, check_one in entries.items():
            at = f"{where}.{key}" if where else key
            if key not in value:
                yield f"{at}: missing"
            else:
                yield from check_one(at, value[key])

    return check


def _or_none(check_one: Check) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if value is not None:
            yield from check_one(where, value)

    return check


def _scale(where: str, value: Any) -> Iterator[str]:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        yield f"{where}: {shown(value)}, a positive number is needed"


def _hash(where: str, value: Any) -> Iterator[str]:
    if not is_hash(value):
        yield f"{where}: {shown(value)}, 64 hexadecimal digits are needed"


def is_hash(value: Any) -> bool:
    """Whether it is a SHA-256 as format.digest writes it."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _name(where: str, value: Any) -> Iterator[str]:
    fits = isinstance(value, str) and value.isidentifier() and value.isascii()
    if not fits or len(value) > LONGEST_NAME:
        yield f"{where}: {shown(value)}, a C identifier is needed"


def is_plain(name: Any) -> bool:
    """Whether it is a file name that cannot lead out of the folder."""
    return (
        isinstance(name, str)
        and bool(name)
        and name not in (".", "..", MANIFEST)
        and not set(name) & set("/\\\0")
        and _is_unicode(name)
        and len(name.encode()) <= 255
    )


def _files(where: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict) or len(value) > MOST_FILES:
        yield f"{where}: {shown(value)}, an object of at most {MOST_FILES} is needed"
        return
    for name, entry in value.items():
        if not is_plain(name):
            yield f"{where}: {shown(name)}, a plain name is needed"
        yield from _FILE(f"{where}[{shown(name)}]", entry)


_BYTES = _integer(0, MOST_BYTES)
_COUNT = _integer(0, 2**63 - 1)
_WORDS = _list(_text, 256)
_FILE = _object(bytes=_BYTES, sha256=_hash)
_STEPS = _list(
    _object(title=_text, kernel=_text, ops=_list(_text, MOST_STEPS), macs=_COUNT, bytes=_COUNT),
    MOST_STEPS,
)
_PORTS = _list(
    _object(
        name=_text,
        dtype=_one_of(*DTYPES),
        shape=_list(_integer(1, MOST_ELEMENTS), MOST_AXES),
        low=_integer(-(2**63), 2**63 - 1),
        high=_integer(-(2**63), 2**63 - 1),
        quantization=_or_none(
            _object(
                scale=_list(_scale, MOST_ELEMENTS),
                zero_point=_list(_integer(-(2**31), 2**31 - 1), MOST_ELEMENTS),
                axis=_or_none(_integer(0, MOST_AXES - 1)),
            )
        ),
    ),
    MOST_PORTS,
)
_MANIFEST = _object(
    name=_name,
    target=_object(
        name=_text, machine=_text, system=_text, needs=_WORDS, pointer_bits=_one_of(32, 64)
    ),
    inputs=_PORTS,
    outputs=_PORTS,
    steps=_STEPS,
    variants=_list(_object(name=_text, needs=_WORDS, steps=_STEPS), 64),
    files=_files,
    library=_or_none(_text),
    runner=_or_none(_text),
    emulator=_WORDS,
    weights=_text,
    graph=_text,
    golden=_object(file=_text, cases=_integer(0, MOST_CASES)),
    workspace_bytes=_BYTES,
    weights_bytes=_BYTES,
    stored_bytes=_BYTES,
    alignment=_one_of(*ALIGNMENTS),
    input_slack=_integer(0, 1 << 20),
    memory=_object(
        **dict.fromkeys(
            ("flash_bytes", "ram_bytes", "input_bytes", "output_bytes", "text_bytes",
             "rodata_bytes", "data_bytes", "bss_bytes"),
            _COUNT,
        )
    ),
)  # fmt: skip


def faults(manifest: Manifest) -> Iterator[str]:
    """The faults of a manifest."""
    broken = False
    for fault in _MANIFEST("", manifest):
        broken = True
        yield fault
    if broken:
        return
    for kind in ("inputs", "outputs"):
        for i, port in enumerate(manifest[kind]):
            yield from _port(f"{kind}[{i}]", port)
    yield from _roles(manifest)
    names = sorted(v["name"] for v in manifest["variants"])
    for twice in sorted({a for a, b in pairwise(names) if a == b}):
        yield f"variants: {shown(twice)} stands twice, once is needed"


def _roles(manifest: Manifest) -> Iterator[str]:
    """Every file that has a part to play is there, with the size that the part asks for."""
    files, golden = manifest["files"], manifest["golden"]
    roles = {role: manifest[role] for role in ("library", "runner", "weights", "graph")}
    for role, file in {**roles, "golden.file": golden["file"]}.items():
        if file is not None and file not in files:
            yield f"{role}: {shown(file)}, one of the files is needed"
            return
    case = sum(port_bytes(port) for port in (*manifest["inputs"], *manifest["outputs"]))
    sizes = {"weights": manifest["weights_bytes"], "golden.file": golden["cases"] * case}
    for role, needed in sizes.items():
        file = golden["file"] if role == "golden.file" else manifest[role]
        if files[file]["bytes"] != needed:
            yield f"{role}: {shown(file)} of {files[file]['bytes']} bytes, {needed} are needed"


def port_bytes(port: Mapping[str, Any]) -> int:
    """Of the packed tensor."""
    return int(prod(port["shape"]) * DTYPES[port["dtype"]][2])


def _port(where: str, port: Mapping[str, Any]) -> Iterator[str]:
    low, high, _ = DTYPES[port["dtype"]]
    if prod(port["shape"]) > MOST_ELEMENTS:
        yield f"{where}.shape: {shown(port['shape'])}, at most {MOST_ELEMENTS} elements are allowed"
    if not low <= port["low"] <= port["high"] <= high:
        yield f"{where}: range [{port['low']}, {port['high']}], one in [{low}, {high}] is needed"
    if (q := port["quantization"]) is None:
        return
    axis, shape = q["axis"], port["shape"]
    if axis is not None and axis >= len(shape):
        yield f"{where}.quantization.axis: {axis}, one of {len(shape)} axes is needed"
        return
    count = 1 if axis is None else shape[axis]
    for key in ("scale", "zero_point"):
        if len(q[key]) != count:
            yield f"{where}.quantization.{key}: {len(q[key])} numbers, {count} are needed"
