"""The artifact's manifest: how it is sealed, and read back.

An artifact is a folder of files. `manifest.json` says what each is, with its size and SHA-256, and
carries the SHA-256 of itself (of its canonical form without that entry): damage to any byte that
means something is found. Who writes the manifest writes its hash too: only a reader that knows the
hash from elsewhere is safe from a forged artifact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

ABI, ENTRIES_ABI = 2, 3
"""Of a program's functions, and of those of an artifact with entries and a state; a runtime loads
artifacts of its own numbers only.
"""

FORMAT = "qir artifact"
MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 32 << 20

EMULATORS: Sequence[tuple[str, ...]] = (
    ("qemu-aarch64", "-cpu", "max"),
    ("qemu-arm", "-cpu", "max"),
    ("qemu-hexagon", "-cpu", "v67"),
    ("qemu-riscv64", "-cpu", "rv64,v=true,vext_spec=v1.0"),
    ("qemu-system-arm", "-M", "mps3-an547", "-display", "none", "-monitor", "none",
     "-serial", "none", "-semihosting-config", "enable=on,target=native", "-kernel"),
)  # fmt: skip
"""The commands that a runtime starts because a manifest asks for one; no other is started."""

SIZES = ("version", "alignment", "input_slack", "workspace_bytes", "weights_bytes", "stored_bytes",
         "steps", "inputs", "outputs")  # fmt: skip
"""What NAME_sizes of an artifact's library holds after its own length; bytes of ports follow."""

SHARED_SIZES = (*SIZES[:5], "state_bytes", "entries")
ENTRY_SIZES = SIZES[5:]
"""The same with entries: first what they share, then this of each and bytes of its ports."""

Manifest = dict[str, Any]
Content = bytes | memoryview


def digest(content: Content) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def canonical(manifest: Mapping[str, Any]) -> bytes:
    """What is hashed: sorted keys, no spaces, without the hash itself."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """The bytes of manifest.json."""
    entries = {**manifest, "sha256": digest(canonical(manifest))}
    return (json.dumps(entries, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def parsed(content: Content) -> Manifest:
    """A manifest as parsed JSON, not validated.

    Errors: ValueError for what is no JSON object of finite numbers and distinct keys.
    """
    if len(content) > MOST_MANIFEST_BYTES:
        raise ValueError(f"{len(content)} bytes, at most {MOST_MANIFEST_BYTES} are allowed")
    try:
        manifest = json.loads(
            bytes(content).decode(), parse_constant=_refuse_number, object_pairs_hook=_distinct
        )
    except UnicodeDecodeError as e:
        raise ValueError(f"no JSON ({e.reason} at byte {e.start})") from e
    except json.JSONDecodeError as e:
        raise ValueError(f"no JSON ({e})") from e
    except RecursionError as e:
        raise ValueError("no JSON of ours (nested too deep)") from e
    if not isinstance(manifest, dict):
        raise ValueError(f"JSON of a {type(manifest).__name__}, an object is needed")
    return manifest


def unsealed(content: Content) -> Manifest:
    """The manifest in these bytes. Errors: ValueError that says what is wrong."""
    manifest = parsed(content)
    if manifest.get("format") != FORMAT:
        raise ValueError(f"format is {show(manifest.get('format'))}, {FORMAT!r} is needed")
    abi = manifest.get("abi")
    if type(abi) is not int or abi not in (ABI, ENTRIES_ABI):
        raise ValueError(
            f"ABI version is {show(abi)}, {ABI} or {ENTRIES_ABI} is needed: compile the model again"
        )
    check_seal(manifest)
    return manifest


def check_seal(manifest: Manifest) -> None:
    """Errors: ValueError for a manifest that was changed since it was sealed."""
    try:
        actual = digest(canonical(manifest))
    except RecursionError as e:
        raise ValueError("no JSON of ours (nested too deep)") from e
    if manifest.get("sha256") != actual:
        raise ValueError(
            f"its hash is {actual[:12]}, {show(manifest.get('sha256'))} is written in it:"
            " it was changed"
        )


def _refuse_number(number: str) -> None:
    raise ValueError(f"number {number}, finite ones are needed")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f"key {show(key)} stands twice in one object, once is needed")
        entries[key] = value
    return entries


def show(value: Any) -> str:
    """A value as one short line without control characters."""
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
