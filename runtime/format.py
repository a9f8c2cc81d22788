"""The artifact's manifest: what it holds, how it is sealed, and what can be wrong with one.

An artifact is a folder of files. `manifest.json` says what each is, with its size and SHA-256, and
carries the SHA-256 of itself (of its canonical form without that entry): any changed byte that
means something is found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

ABI = 1
"""Of the entry points; a runtime loads artifacts of its own number only."""

FORMAT = "qir artifact"
MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 64 << 20
ALIGNMENTS = (16, 32, 64, 128)

DTYPES = ("uint8", "int8", "uint16", "int16", "int32")

Manifest = dict[str, Any]


def digest(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def canonical(manifest: Mapping[str, Any]) -> bytes:
    """What is hashed: sorted keys, no spaces, without the hash itself."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """The bytes of manifest.json."""
    whole = {**manifest, "sha256": digest(canonical(manifest))}
    return (json.dumps(whole, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def unsealed(content: bytes) -> Manifest:
    """The manifest in these bytes. Errors: ValueError that says what is wrong."""
    if len(content) > MOST_MANIFEST_BYTES:
        raise ValueError(f"{len(content)} bytes, at most {MOST_MANIFEST_BYTES} are needed")
    try:
        manifest = json.loads(content.decode(), parse_constant=_refuse)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise ValueError(f"no JSON ({e})") from e
    if not isinstance(manifest, dict):
        raise ValueError(f"JSON of a {type(manifest).__name__}, an object is needed")
    if manifest.get("format") != FORMAT:
        raise ValueError(f"format is {manifest.get('format')!r}, {FORMAT!r} is needed")
    if manifest.get("abi") != ABI:
        raise ValueError(f"ABI version is {manifest.get('abi')!r}, {ABI} is needed")
    found = digest(canonical(manifest))
    if manifest.get("sha256") != found:
        raise ValueError(
            f"its hash is {found[:12]}, {str(manifest.get('sha256'))[:12]} is written in it:"
            " it was changed"
        )
    return manifest


def _refuse(number: str) -> None:
    raise ValueError(f"number {number}, finite ones are needed")


SCHEMA: Mapping[str, type | tuple[type, ...]] = {
    "format": str,
    "abi": int,
    "sha256": str,
    "name": str,
    "target": dict,
    "inputs": list,
    "outputs": list,
    "steps": list,
    "variants": list,
    "files": dict,
    "library": (str, type(None)),
    "runner": (str, type(None)),
    "emulator": list,
    "weights": str,
    "graph": str,
    "golden": dict,
    "workspace_bytes": int,
    "weights_bytes": int,
    "stored_bytes": int,
    "alignment": int,
    "input_slack": int,
    "memory": dict,
    "versions": dict,
    "proofs": dict,
}
"""Entries that every manifest has."""

TARGET: Mapping[str, type] = {
    "name": str,
    "machine": str,
    "system": str,
    "needs": list,
    "pointer_bits": int,
}
MEMORY: Mapping[str, type] = dict.fromkeys(
    ("flash_bytes", "ram_bytes", "input_bytes", "output_bytes", "text_bytes", "rodata_bytes",
     "data_bytes", "bss_bytes"),
    int,
)  # fmt: skip
TENSOR: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "dtype": str,
    "shape": list,
    "low": int,
    "high": int,
    "quantization": (dict, type(None)),
}
QUANTIZATION: Mapping[str, type | tuple[type, ...]] = {
    "scale": list,
    "zero_point": list,
    "axis": (int, type(None)),
}
STEP: Mapping[str, type] = {"title": str, "kernel": str, "ops": list, "macs": int, "bytes": int}
VARIANT: Mapping[str, type] = {"name": str, "needs": list, "steps": list}
FILE: Mapping[str, type] = {"bytes": int, "sha256": str}
SIZES = ("workspace_bytes", "weights_bytes", "stored_bytes", "alignment", "input_slack")


def faults(manifest: Manifest) -> Iterator[str]:
    """What is wrong with a manifest as the description of an artifact."""
    broken = list(_entries("manifest", manifest, SCHEMA))
    yield from broken
    if broken:
        return
    yield from _entries("target", manifest["target"], TARGET)
    yield from _entries("memory", manifest["memory"], MEMORY)
    for kind in ("inputs", "outputs"):
        for i, tensor in enumerate(manifest[kind]):
            yield from _tensor(f"{kind[:-1]} {i}", tensor)
    for i, step in enumerate(manifest["steps"]):
        yield from _entries(f"step {i}", step, STEP)
    for i, variant in enumerate(manifest["variants"]):
        yield from _variant(f"variant {i}", variant)
    for name, file in manifest["files"].items():
        if not is_plain(name):
            yield f"file {name!r}: a plain name is needed"
        yield from _entries(f"file {name}", file, FILE)
    for role in ("library", "runner", "weights", "graph"):
        if manifest[role] is not None and manifest[role] not in manifest["files"]:
            yield f"{role} is {manifest[role]!r}, one of the files is needed"
    for size in SIZES:
        if manifest[size] < 0:
            yield f"{size} is {manifest[size]}, at least 0 is needed"
    if manifest["alignment"] not in ALIGNMENTS:
        yield f"alignment is {manifest['alignment']}, one of {ALIGNMENTS} is needed"
    if not manifest["name"].isidentifier() or not manifest["name"].isascii():
        yield f"name is {manifest['name']!r}, a C identifier is needed"


def _variant(where: str, variant: Any) -> Iterator[str]:
    broken = list(_entries(where, variant, VARIANT))
    yield from broken
    for i, step in enumerate([] if broken else variant["steps"]):
        yield from _entries(f"{where}, step {i}", step, STEP)


def is_plain(name: str) -> bool:
    """A file name that cannot lead out of the folder."""
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\\0")


def _entries(where: str, held: Any, schema: Mapping[str, type | tuple[type, ...]]) -> Iterator[str]:
    if not isinstance(held, dict):
        yield f"{where} is a {type(held).__name__}, an object is needed"
        return
    for key, kind in schema.items():
        if key not in held:
            yield f"{where}: no {key}"
        elif not isinstance(held[key], kind) or (isinstance(held[key], bool) and kind is not bool):
            yield f"{where}: {key} is a {type(held[key]).__name__}"


def _tensor(where: str, tensor: Any) -> Iterator[str]:
    broken = list(_entries(where, tensor, TENSOR))
    yield from broken
    if broken:
        return
    if tensor["dtype"] not in DTYPES:
        yield f"{where}: dtype is {tensor['dtype']!r}, one of {', '.join(DTYPES)} is needed"
    if not all(isinstance(s, int) and s > 0 for s in tensor["shape"]):
        yield f"{where}: shape is {tensor['shape']}, positive integers are needed"
    if tensor["quantization"] is not None:
        yield from _entries(f"{where}: quantization", tensor["quantization"], QUANTIZATION)
