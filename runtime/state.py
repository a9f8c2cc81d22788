"""The state of an artifact with entries: bytes that the caller owns."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ArtifactError, DataError
from .format import Content, Manifest, show
from .memory import aligned
from .port import Array, Port


def new_state(manifest: Manifest, saved: Content | Array | None = None) -> Array:
    """An aligned array of the state's bytes, as it is before the first call, or as it was saved.

    Errors: DataError for saved bytes that are no state of this artifact's; ArtifactError when
    memory is short.
    """
    size, name = manifest["state_bytes"], manifest["name"]
    try:
        state = aligned(max(size, 1), manifest["alignment"])[:size]
    except MemoryError as e:
        raise ArtifactError(
            f"artifact {name}: out of memory, {size} bytes of state are needed"
        ) from e
    if saved is None:
        for entry in manifest["states"]:
            _part(state, entry)[...] = entry["initial"]
        return state
    content = np.frombuffer(saved, np.uint8) if not isinstance(saved, np.ndarray) else saved
    if content.dtype != np.uint8 or content.shape != state.shape:
        raise DataError(
            f"artifact {name}: saved state of {content.dtype}{list(content.shape)}, uint8[{size}]"
            " is needed"
        )
    state[...] = content
    for entry in manifest["states"]:
        part = _part(state, entry)
        if part.size and not entry["low"] <= part.min() <= part.max() <= entry["high"]:
            raise DataError(
                f"artifact {name}: state {show(entry['name'])} reaches [{part.min()},"
                f" {part.max()}], [{entry['low']}, {entry['high']}] is needed",
                "a state is for the artifact that it was saved from",
            )
    return state


def _part(state: Array, entry: dict[str, Any]) -> Array:
    """One buffer of the state, as a tensor of its type."""
    port, at = Port.of(entry), entry["offset"]
    return state[at : at + port.size_bytes].view(port.dtype).reshape(port.shape)


def check_state(manifest: Manifest, state: Any) -> Array:
    """The state of a call. Errors: DataError for what is no state of this artifact's."""
    size, name = manifest["state_bytes"], manifest["name"]
    if not isinstance(state, np.ndarray) or state.dtype != np.uint8 or state.shape != (size,):
        description = (
            f"{state.dtype}{list(state.shape)}"
            if isinstance(state, np.ndarray)
            else f"a {type(state).__name__}"
        )
        raise DataError(
            f"artifact {name}: the state is {description}, uint8[{size}] is needed",
            "new_state() gives one, new_state(saved) one from saved bytes",
        )
    is_placed = state.ctypes.data % manifest["alignment"] == 0 or not size
    if not (state.flags.c_contiguous and state.flags.writeable and is_placed):
        raise DataError(
            f"artifact {name}: the state is not writable memory at a multiple of"
            f" {manifest['alignment']} bytes, such memory is needed",
            "new_state(saved) gives it",
        )
    return state
