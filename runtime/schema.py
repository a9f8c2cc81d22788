"""The schema of manifests: types and bounds of entries, and their consistency."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

from .format import ENTRIES_ABI, MANIFEST, Manifest, show

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
MOST_ENTRIES, MOST_VARIANTS = 64, 64
LONGEST_NAME = 200  # of the program: file names with it stay below 255 bytes
LONGEST_TEXT = 1 << 16

Check = Callable[[str, Any], Iterator[str]]
"""(where, value) -> what is wrong with it."""


def _text(where: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        yield f"{where}: {show(value)}, a text is needed"
    elif not _is_unicode(value):
        yield f"{where}: {show(value)}, a text without lone surrogates is needed"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _integer(low: int, high: int) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if type(value) is not int or not low <= value <= high:
            yield f"{where}: {show(value)}, an integer in [{low}, {high}] is needed"

    return check


def _one_of(*values: Any) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not any(type(value) is type(v) and value == v for v in values):
            yield f"{where}: {show(value)}, one of {', '.join(map(str, values))} is needed"

    return check


def _list(check_one: Check, most: int) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, list) or len(value) > most:
            yield f"{where}: {show(value)}, a list of at most {most} is needed"
            return
        for i, one in enumerate(value):
            yield from check_one(f"{where}[{i}]", one)

    return check


def _object(**entries: Check) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where or 'manifest'}: {show(value)}, an object is needed"
            return
        for key, check_one in entries.items():
            at = f"{where}.{key}" if where else key
            if key not in value:
                yield f"{at}: missing"
            else:
                yield from check_one(at, value[key])

    return check


def _only(**entries: Check) -> Check:
    """An object of these entries and no other."""
    inner = _object(**entries)

    def check(where: str, value: Any) -> Iterator[str]:
        yield from inner(where, value)
        if isinstance(value, dict) and (more := sorted(set(value) - set(entries))):
            yield f"{where}: {show(more[0])} in it, only {', '.join(entries)} are needed"

    return check


def _or_none(check_one: Check) -> Check:
    def check(where: str, value: Any) -> Iterator[str]:
        if value is not None:
            yield from check_one(where, value)

    return check


def _scale(where: str, value: Any) -> Iterator[str]:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        yield f"{where}: {show(value)}, a positive number is needed"


def _hash(where: str, value: Any) -> Iterator[str]:
    if not is_hash(value):
        yield f"{where}: {show(value)}, 64 hexadecimal digits are needed"


def is_hash(value: Any) -> bool:
    """Whether it is a SHA-256 as format.digest writes it."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _name(where: str, value: Any) -> Iterator[str]:
    fits = isinstance(value, str) and value.isidentifier() and value.isascii()
    if not fits or len(value) > LONGEST_NAME:
        yield f"{where}: {show(value)}, a C identifier is needed"


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
        yield f"{where}: {show(value)}, an object of at most {MOST_FILES} is needed"
        return
    for name, entry in value.items():
        if not is_plain(name):
            yield f"{where}: {show(name)}, a plain name is needed"
        yield from _FILE(f"{where}[{show(name)}]", entry)


_BYTES = _integer(0, MOST_BYTES)
_COUNT = _integer(0, 2**63 - 1)
_WORDS = _list(_text, 256)
_FILE = _object(bytes=_BYTES, sha256=_hash)
_STEPS = _list(
    _object(title=_text, kernel=_text, ops=_list(_text, MOST_STEPS), macs=_COUNT, bytes=_COUNT),
    MOST_STEPS,
)
_INT64 = _integer(-(2**63), 2**63 - 1)
_INT32 = _integer(-(2**31), 2**31 - 1)
_PORT: dict[str, Check] = {
    "name": _text,
    "dtype": _one_of(*DTYPES),
    "shape": _list(_integer(1, MOST_ELEMENTS), MOST_AXES),
    "low": _INT64,
    "high": _INT64,
    "quantization": _or_none(
        _object(
            scale=_list(_scale, MOST_ELEMENTS),
            zero_point=_list(_INT32, MOST_ELEMENTS),
            axis=_or_none(_integer(0, MOST_AXES - 1)),
        )
    ),
}
_PORTS = _list(_object(**_PORT), MOST_PORTS)
_COMMON: dict[str, Check] = {
    "name": _name,
    "target": _object(
        name=_text, machine=_text, system=_text, needs=_WORDS, pointer_bits=_one_of(32, 64)
    ),
    "files": _files,
    "library": _or_none(_text),
    "runner": _or_none(_text),
    "emulator": _WORDS,
    "weights": _text,
    "workspace_bytes": _BYTES,
    "weights_bytes": _BYTES,
    "alignment": _one_of(*ALIGNMENTS),
    "input_slack": _integer(0, 1 << 20),
    "memory": _object(
        **dict.fromkeys(
            ("flash_bytes", "ram_bytes", "input_bytes", "output_bytes", "text_bytes",
             "rodata_bytes", "data_bytes", "bss_bytes"),
            _COUNT,
        )
    ),
}  # fmt: skip
_PROGRAM: dict[str, Check] = {
    "inputs": _PORTS,
    "outputs": _PORTS,
    "steps": _STEPS,
    "stored_bytes": _BYTES,
    "graph": _text,
}
_OF_ONE = _object(
    **_COMMON,
    **_PROGRAM,
    variants=_list(_object(name=_text, needs=_WORDS, steps=_STEPS), MOST_VARIANTS),
    golden=_object(file=_text, cases=_integer(0, MOST_CASES)),
)
_INPUT = _integer(0, MOST_PORTS - 1)
_ENTRY = _object(
    **_PROGRAM,
    name=_name,
    limits=_list(_only(input=_INPUT, low=_INT32, high=_INT32), MOST_PORTS),
    variants=_list(_object(name=_text, steps=_STEPS), MOST_VARIANTS),
)
_WITH_ENTRIES = _object(
    **_COMMON,
    entries=_list(_ENTRY, MOST_ENTRIES),
    states=_list(_object(**_PORT, offset=_BYTES, initial=_INT32), MOST_PORTS),
    state_bytes=_BYTES,
    constants=_text,
    variants=_list(_object(name=_text, needs=_WORDS), MOST_VARIANTS),
    golden=_object(file=_text, calls=_list(_text, MOST_CASES)),
)


def faults(manifest: Manifest) -> Iterator[str]:
    """The faults of a manifest."""
    has_entries = manifest["abi"] == ENTRIES_ABI
    is_broken = False
    for fault in (_WITH_ENTRIES if has_entries else _OF_ONE)("", manifest):
        is_broken = True
        yield fault
    if is_broken:
        return
    if has_entries:
        yield from _entries(manifest)
        yield from _states(manifest)
    else:
        yield from _ports("", manifest)
    yield from _roles(manifest)
    yield from _distinct("variants", [v["name"] for v in manifest["variants"]])


def _distinct(where: str, names: Sequence[str]) -> Iterator[str]:
    ordered = sorted(names)
    for name in sorted({a for a, b in pairwise(ordered) if a == b}):
        yield f"{where}: {show(name)} stands twice, once is needed"


def _entries(manifest: Manifest) -> Iterator[str]:
    """Each is what it says, for the variants that there are, and golden calls are of one."""
    entries = manifest["entries"]
    if not entries:
        yield "entries: a list of 0, one or more are needed"
    yield from _distinct("entries", [entry["name"] for entry in entries])
    variants = [v["name"] for v in manifest["variants"]]
    for i, entry in enumerate(entries):
        where = f"entries[{i}]"
        yield from _ports(f"{where}.", entry)
        if [v["name"] for v in entry["variants"]] != variants:
            yield f"{where}.variants: others than the artifact's, the same are needed"
        for k, limit in enumerate(entry["limits"]):
            if limit["input"] >= len(entry["inputs"]) or limit["low"] > limit["high"]:
                yield f"{where}.limits[{k}]: a range of no input, one of an input is needed"
    names = {entry["name"] for entry in entries}
    for i, name in enumerate(manifest["golden"]["calls"]):
        if name not in names:
            yield f"golden.calls[{i}]: {show(name)}, the name of an entry is needed"


def _states(manifest: Manifest) -> Iterator[str]:
    """Each is inside the state, aligned, and apart from the others."""
    end, alignment = 0, manifest["alignment"]
    yield from _distinct("states", [state["name"] for state in manifest["states"]])
    for i, state in enumerate(manifest["states"]):
        where, at = f"states[{i}]", state["offset"]
        yield from _port(where, state)
        if at < end or at % alignment or at + port_bytes(state) > manifest["state_bytes"]:
            yield (
                f"{where}.offset: {at}, a multiple of {alignment} from {end} on is needed, so that"
                f" all ends within {manifest['state_bytes']} bytes"
            )
        if not state["low"] <= state["initial"] <= state["high"]:
            yield f"{where}.initial: {state['initial']}, one in its range is needed"
        end = max(end, at + port_bytes(state))


def _ports(where: str, interface: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("inputs", "outputs"):
        for i, port in enumerate(interface[kind]):
            yield from _port(f"{where}{kind}[{i}]", port)


def _roles(manifest: Manifest) -> Iterator[str]:
    """Every file that has a part to play is there, with the size that the part asks for."""
    files, golden = manifest["files"], manifest["golden"]
    roles = {role: manifest[role] for role in ("library", "runner", "weights")}
    if manifest["abi"] == ENTRIES_ABI:
        cases = {entry["name"]: entry for entry in manifest["entries"]}
        calls = [cases[name] for name in golden["calls"] if name in cases]
        roles |= {f"graph of {name}": entry["graph"] for name, entry in cases.items()}
        roles["constants"] = manifest["constants"]
    else:
        calls = [manifest] * golden["cases"]
        roles["graph"] = manifest["graph"]
    for role, file in {**roles, "golden.file": golden["file"]}.items():
        if file is not None and file not in files:
            yield f"{role}: {show(file)}, one of the files is needed"
            return
    sizes = {
        "weights": (manifest["weights"], manifest["weights_bytes"]),
        "golden.file": (golden["file"], sum(map(_case_bytes, calls))),
    }
    for role, (file, size) in sizes.items():
        if files[file]["bytes"] != size:
            yield f"{role}: {show(file)} of {files[file]['bytes']} bytes, {size} are needed"


def _case_bytes(interface: Mapping[str, Any]) -> int:
    """Of the inputs and outputs of one call."""
    return sum(port_bytes(port) for port in (*interface["inputs"], *interface["outputs"]))


def port_bytes(port: Mapping[str, Any]) -> int:
    """Of the packed tensor."""
    return int(prod(port["shape"]) * DTYPES[port["dtype"]][2])


def _port(where: str, port: Mapping[str, Any]) -> Iterator[str]:
    low, high, _ = DTYPES[port["dtype"]]
    if prod(port["shape"]) > MOST_ELEMENTS:
        yield f"{where}.shape: {show(port['shape'])}, at most {MOST_ELEMENTS} elements are allowed"
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
