"""Loading: whatever byte of an artifact changes, it is refused or means the same."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qir import runtime
from qir.runtime import ArtifactError, format
from tests.small_graphs import artifact
from tests.tree import FOLDERS

REGIONS = 97  # bytes that are flipped in each file, one at a time


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return dict(artifact().files)


def flipped(content: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


def test_every_region_of_every_file_is_guarded(files: dict[str, bytes]) -> None:
    rng = np.random.default_rng(0)
    for name in set(files) - {format.MANIFEST}:
        size = len(files[name])
        for i in range(min(REGIONS, size)):
            at = min(size - 1, int((i + rng.random()) * size / REGIONS))
            changed = {**files, name: flipped(files[name], at, int(rng.integers(8)))}
            with pytest.raises(ArtifactError, match=f"files are damaged\n  {name}: hash "):
                runtime.from_files(changed)


def test_a_changed_manifest_is_refused_or_means_the_same(files: dict[str, bytes]) -> None:
    content, refused = files[format.MANIFEST], 0
    whole = runtime.from_files(files).manifest
    for at in range(0, len(content), 3):
        changed = flipped(content, at, at % 8)
        try:
            assert runtime.from_files({**files, format.MANIFEST: changed}).manifest == whole
        except ArtifactError:
            refused += 1
    assert refused > len(content) / 3 * 0.6  # the rest is white space


def test_cut_off_files_are_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    for name in files:
        for kept in (0, 1, len(files[name]) // 2, len(files[name]) - 1):
            cut = {**files, name: files[name][:kept]}
            if name == format.MANIFEST and kept == len(files[name]) - 1:
                continue  # the last line's end
            with pytest.raises(ArtifactError):
                runtime.from_files(cut)


def test_a_longer_file_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(ArtifactError, match=r"weights.bin: \d+ bytes or more, \d+ are needed"):
        runtime.from_files({**files, "weights.bin": files["weights.bin"] + b"\0"})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "JSON of a list, an object is needed"),
        (b"{}", "format is None, 'qir artifact' is needed"),
        (b'{"format": "qir artifact", "abi": 2}', "ABI version is 2, 1 is needed"),
        (b'{"format": "qir artifact", "abi": 1}', "its hash is .*: it was changed"),
        (b'{"format": NaN}', "number NaN, finite ones are needed"),
    ],
)
def test_a_manifest_that_is_none_is_refused(
    files: dict[str, bytes], content: bytes, why: str
) -> None:
    with pytest.raises(ArtifactError, match=f"artifact: manifest.json is unusable: {why}"):
        runtime.from_files({**files, format.MANIFEST: content})


def resealed(files: dict[str, bytes], change: dict[str, Any]) -> dict[str, bytes]:
    """The artifact with entries of its manifest replaced, and sealed again."""
    manifest = json.loads(files[format.MANIFEST])
    return {**files, format.MANIFEST: format.sealed({**manifest, **change})}


TENSOR = {"name": "x", "dtype": "int8", "shape": [1], "low": 0, "high": 1, "quantization": None}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"library": "other.so"}, "library is 'other.so', one of the files is needed"),
        ({"alignment": 24}, "alignment is 24, one of"),
        ({"workspace_bytes": -1}, "workspace_bytes is -1, at least 0 is needed"),
        ({"workspace_bytes": "many"}, "manifest: workspace_bytes is a str"),
        ({"workspace_bytes": True}, "manifest: workspace_bytes is a bool"),
        ({"name": "../x"}, "name is '../x', a C identifier is needed"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": ""}}}, "a plain name is needed"),
        ({"inputs": [{**TENSOR, "dtype": "float32"}]}, "input 0: dtype is 'float32', one of uint8"),
        ({"outputs": [{**TENSOR, "shape": [0]}]}, r"output 0: shape is \[0\], positive integers"),
        ({"inputs": [{}]}, "input 0: no name"),
        ({"inputs": [3]}, "input 0 is a int, an object is needed"),
        ({"steps": [{}]}, "step 0: no title"),
        ({"variants": {}}, "manifest: variants is a dict"),
        ({"variants": [{"name": "a", "needs": []}]}, "variant 0: no steps"),
        ({"variants": [{"name": "a", "needs": [], "steps": [{}]}]}, "variant 0, step 0: no title"),
        ({"target": {}}, "target: no machine"),
        ({"memory": {}}, "memory: no flash_bytes"),
        ({"golden": None}, "manifest: golden is a NoneType"),
    ],
)
def test_a_manifest_that_describes_no_artifact_is_refused(
    files: dict[str, bytes], change: dict[str, Any], why: str
) -> None:
    with pytest.raises(
        ArtifactError, match=f"artifact: manifest.json describes no artifact(.|\n)*{why}"
    ):
        runtime.from_files(resealed(files, change))


def test_a_missing_file_is_named(files: dict[str, bytes], tmp_path: Path) -> None:
    less = {name: content for name, content in files.items() if name != "weights.bin"}
    with pytest.raises(ArtifactError, match=r"artifact: files are missing\n  weights.bin"):
        runtime.from_files(less)
    with pytest.raises(ArtifactError, match=r"artifact: no manifest.json among 1 files"):
        runtime.from_files({"a": b""})
    saved = artifact().save(tmp_path / "small.qir")
    (saved / "weights.bin").unlink()
    with pytest.raises(
        ArtifactError, match=r"weights.bin: cannot be read \(No such file or directory\)"
    ):
        runtime.load(saved)
    with pytest.raises(
        ArtifactError, match=r"nowhere.manifest.json: cannot be read \(No such file"
    ):
        runtime.load(tmp_path / "nowhere")


def test_what_the_cpu_lacks_is_named(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = {
        **json.loads(files[format.MANIFEST])["target"],
        "needs": ["sse2", "amx_int8", "avx512_vnni"],
    }
    loaded = runtime.from_files(resealed(files, {"target": target}))
    monkeypatch.setattr(sys.modules["qir.runtime.load"], "cpu_flags", lambda: frozenset({"sse2"}))
    with pytest.raises(ArtifactError) as e:
        runtime.Session(loaded)
    assert str(e.value).splitlines() == [
        "artifact small: made for CPUs with amx_int8, avx512_vnni, which this one lacks",
        "hint: compile for target cpu on this machine, or for one that needs less than cpu",
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"machine": "aarch64"}, "made for aarch64 on linux, this is "),
        ({"system": "plan9"}, "made for .* on plan9, this is "),
        ({"pointer_bits": 32}, "made for 32-bit pointers, this process has 64"),
    ],
)
def test_another_machine_is_named(
    files: dict[str, bytes], change: dict[str, Any], why: str
) -> None:
    target = {**json.loads(files[format.MANIFEST])["target"], **change}
    with pytest.raises(ArtifactError, match=f"artifact small: {why}"):
        runtime.Session(runtime.from_files(resealed(files, {"target": target})))


def relisted(files: dict[str, bytes], name: str, content: bytes) -> dict[str, bytes]:
    """The artifact with another file, its hash made right: only the loader can tell."""
    listed = json.loads(files[format.MANIFEST])["files"]
    listed[name] = {"bytes": len(content), "sha256": format.digest(content)}
    return {**resealed(files, {"files": listed}), name: content}


def test_a_library_that_is_none_is_an_error_not_a_crash(files: dict[str, bytes]) -> None:
    changed = relisted(files, "libsmall.so", b"no library")
    with pytest.raises(ArtifactError, match="artifact small: its library cannot be loaded"):
        runtime.Session(runtime.from_files(changed))


def test_a_library_without_the_entry_is_an_error(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int other(void) { return 0; }\n")
    subprocess.run(["cc", "-shared", "-o", "a.so", "a.c"], cwd=tmp_path, check=True)
    changed = relisted(files, "libsmall.so", (tmp_path / "a.so").read_bytes())
    with pytest.raises(ArtifactError, match="artifact small: its library has no small_run"):
        runtime.Session(runtime.from_files(changed))


def test_libraries_are_closed_with_their_sessions(files: dict[str, bytes]) -> None:
    loaded = runtime.from_files(files)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        assert runtime.Session(loaded).selftest() == 2
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    assert Path("/proc/self/maps").read_text().count("libsmall.so") <= 6


ALONE = """
import sys
sys.path[:0] = [sys.argv[1]]
import qir.runtime
session = qir.runtime.load(sys.argv[2])
assert session.selftest() == 2
foreign = {name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(sorted(m for m in foreign if not m.startswith("_") and m != "__main__"))
print(sorted(m for m in sys.modules if m.startswith("qir.")))
"""


@pytest.mark.parametrize("inside", ["qir/runtime", "runtime"])
def test_the_runtime_stands_alone(tmp_path: Path, inside: str) -> None:
    """Its folder and NumPy are all it needs, in any package."""
    saved = artifact().save(tmp_path / "small.qir")
    home = tmp_path / "home"
    shutil.copytree(
        FOLDERS["qir.runtime"], home / inside, ignore=shutil.ignore_patterns("__pycache__")
    )
    numpy = Path(np.__file__).parent
    (home / "numpy").symlink_to(numpy)
    for libraries in numpy.parent.glob("numpy.libs"):
        (home / "numpy.libs").symlink_to(libraries)
    script = ALONE.replace("qir.runtime", inside.replace("/", "."))
    command = [sys.executable, "-I", "-S", "-c", script, str(home), str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    top = inside.split("/")[0]
    assert done.stdout.splitlines()[0] == str(sorted({"numpy", top}))
