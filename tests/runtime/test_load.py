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
from qir.runtime import ArtifactError, format, machine
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
    built = runtime.from_files(files).manifest
    for at in range(0, len(content), 3):
        changed = flipped(content, at, at % 8)
        try:
            assert runtime.from_files({**files, format.MANIFEST: changed}).manifest == built
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
    with pytest.raises(ArtifactError, match=r"weights.bin: \d+ bytes, \d+ are needed"):
        runtime.from_files({**files, "weights.bin": files["weights.bin"] + b"\0"})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "JSON of a list, an object is needed"),
        (b"{}", "format is None, 'qir artifact' is needed"),
        (b'{"format": "qir artifact", "abi": 1}', "ABI version is 1, 2 or 3 is needed: comp"),
        (b'{"format": "qir artifact", "abi": 2}', "its hash is .*: it was changed"),
        (b'{"format": 1, "format": 2}', "key 'format' stands twice in one object, once is needed"),
        (b'{"format": "qir artifact", "abi": 2, "a": 1e999}', "Out of range float values"),
        (b'{"format": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
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
VARIANT: dict[str, Any] = {"name": "a", "needs": [], "steps": []}


def scaled(scale: list[float], zero_point: list[Any], axis: int | None) -> dict[str, Any]:
    return {**TENSOR, "quantization": {"scale": scale, "zero_point": zero_point, "axis": axis}}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"library": "other.so"}, "library: 'other.so', one of the files is needed"),
        ({"alignment": 24}, "alignment: 24, one of 16, 32, 64, 128 is needed"),
        ({"workspace_bytes": -1}, r"workspace_bytes: -1, an integer in \[0, 1099511627776\]"),
        ({"workspace_bytes": 1 << 45}, "workspace_bytes: 35184372088832, an integer in"),
        ({"workspace_bytes": "many"}, "workspace_bytes: 'many', an integer in"),
        ({"workspace_bytes": True}, "workspace_bytes: True, an integer in"),
        ({"name": "../x"}, "name: '../x', a C identifier is needed"),
        ({"name": "x" * 201}, "name: 'xxxxxxxxxx.*, a C identifier is needed"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": ""}}}, "files: .*, a plain name"),
        ({"files": {"a": {"bytes": 1, "sha256": "0"}}}, "sha256: '0', 64 hexadecimal digits"),
        ({"files": {"manifest.json": {"bytes": 1, "sha256": "0" * 64}}}, "a plain name is needed"),
        ({"inputs": [{**TENSOR, "dtype": "float32"}]}, r"inputs\[0\].dtype: 'float32', one of"),
        ({"outputs": [{**TENSOR, "shape": [0]}]}, r"outputs\[0\].shape\[0\]: 0, an integer"),
        ({"outputs": [{**TENSOR, "shape": [2**16, 2**16]}]}, "at most 2147483647 elements"),
        ({"outputs": [{**TENSOR, "shape": [1] * 33}]}, "a list of 33, a list of at most 32"),
        ({"inputs": [{**TENSOR, "low": -129}]}, r"range \[-129, 1\], one in \[-128, 127\]"),
        ({"inputs": [{**TENSOR, "low": 2}]}, r"range \[2, 1\], one in \[-128, 127\] is needed"),
        ({"inputs": [{**TENSOR, "name": "\ud800"}]}, "a text without lone surrogates is needed"),
        ({"inputs": [scaled([], [], None)]}, "quantization.scale: 0 numbers, 1 are needed"),
        ({"inputs": [scaled([1.0], [0, 0], 0)]}, "quantization.zero_point: 2 numbers, 1 are"),
        ({"inputs": [scaled([1.0], [0], 1)]}, "quantization.axis: 1, one of 1 axes is needed"),
        ({"inputs": [scaled([0.0], [0], None)]}, r"scale\[0\]: 0.0, a positive number is needed"),
        ({"inputs": [scaled([1.0], [0.5], None)]}, r"zero_point\[0\]: 0.5, an integer in"),
        ({"inputs": [{}]}, r"inputs\[0\].name: missing"),
        ({"inputs": [3]}, r"inputs\[0\]: 3, an object is needed"),
        ({"steps": [{}]}, r"steps\[0\].title: missing"),
        ({"variants": {}}, "variants: a dict of 0, a list of at most 64 is needed"),
        ({"variants": [{"name": "a", "needs": []}]}, r"variants\[0\].steps: missing"),
        ({"variants": [VARIANT, VARIANT]}, "variants: 'a' stands twice, once is needed"),
        ({"target": {}}, "target.machine: missing"),
        ({"memory": {}}, "memory.flash_bytes: missing"),
        ({"golden": None}, "golden: None, an object is needed"),
        ({"golden": {"file": "golden.bin", "cases": 3}}, "golden.file: 'golden.bin' of .* bytes, "),
        ({"golden": {"file": "no", "cases": 3}}, "golden.file: 'no', one of the files is needed"),
        ({"weights_bytes": 7}, "weights: 'weights.bin' of .* bytes, 7 are needed"),
        ({"emulator": ["a"] * 257}, "emulator: a list of 257, a list of at most 256 is needed"),
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
        ArtifactError, match=r"nowhere: cannot be read \(No such file or directory\)"
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
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"sse2"}))
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
