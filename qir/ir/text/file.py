"""Graphs as files: the text, and beside it the large constants by hash; written whole or not at
all.
"""

from __future__ import annotations

import io
import os
import secrets
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from qir.ir.data import Data
from qir.ir.errors import ArtifactError, ParseError
from qir.ir.graph import Graph
from qir.ir.text.parser import parse
from qir.ir.text.printer import blobs, text


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the new one, whatever happens meanwhile.

    A link is followed; a device or a pipe is written to. The umask holds.
    Errors: ArtifactError when the system refuses.
    """
    try:
        place = Path(os.path.realpath(path))
        if place.exists() and not place.is_file():
            place.write_bytes(content)
        else:
            _replace(place, content)
    except (OSError, ValueError) as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or e
        raise ArtifactError(
            f"{path}: cannot be written ({reason}), a folder with room and permission is needed"
        ) from e


def _replace(path: Path, content: bytes) -> None:
    """Write beside it, then rename; on an error nothing stays there."""
    temporary = path.with_name(f".qir-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def packed(*graphs: Graph) -> bytes:
    """The constants over 16 elements as an npz, by SHA-256; equal graphs give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        every = {digest: data for graph in graphs for digest, data in blobs(graph).items()}
        for digest, data in sorted(every.items()):
            one = io.BytesIO()
            np.save(one, data.array)
            z.writestr(zipfile.ZipInfo(f"{digest}.npy", (1980, 1, 1, 0, 0, 0)), one.getvalue())
    return out.getvalue()


def unpacked(content: bytes, where: str) -> dict[str, Data]:
    """The arrays that `packed` wrote; every hash is checked.

    Errors: ArtifactError for damage.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as z:
            if sum(entry.file_size for entry in z.infolist()) > len(content):
                raise ValueError("it is compressed, or larger than it is")
        with np.load(io.BytesIO(content), allow_pickle=False) as z:
            arrays = {name: Data(z[name]) for name in z.files}
    except Exception as e:  # zip and npy readers raise many kinds on damage
        raise ArtifactError(f"{where}: damaged ({e}), the file as it was written is needed") from e
    for name, data in arrays.items():
        if data.digest != name:
            raise ArtifactError(
                f"{where}: array {name[:12]} has hash {data.digest[:12]}, the file is damaged"
            )
    return arrays


def save_graph(graph: Graph, path: str | Path) -> None:
    """Write `path` (text) and `path`.npz (constants over 16 elements, by SHA-256)."""
    path = Path(path)
    write_whole(path.with_name(path.name + ".npz"), packed(graph))
    write_whole(path, text(graph).encode())


def load_graph(path: str | Path) -> Graph:
    """Read a graph that save_graph wrote; the hash of every constant is checked."""
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ParseError(f"{path}: cannot be read ({e}), a text file is needed") from e
    blobs_path = path.with_name(path.name + ".npz")
    return parse(
        source, unpacked(blobs_path.read_bytes(), str(blobs_path)) if blobs_path.exists() else {}
    )
