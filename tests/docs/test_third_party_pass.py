"""A pass in a package of its own, as docs/add_a_pass.md has it: installed, listed, run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "third_party_pass"
CASES = EXAMPLE / "cases" / "drop_double_negation.qir"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package was installed into by pip, without a network."""
    copy = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "package")
    home = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(home), str(copy)], check=True, capture_output=True)
    return home


def qir(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(installed), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    command = [sys.executable, "-m", "qir", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_it_is_listed_with_its_package(installed: Path) -> None:
    listing = qir(installed, "passes")
    assert listing.returncode == 0, listing.stderr
    assert "drop-double-negation" in listing.stdout


def test_its_cases_pass(installed: Path) -> None:
    run = qir(installed, "cases", str(CASES))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 cases" in run.stdout


def test_a_case_that_expects_too_much_fails(installed: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.qir"
    wrong.write_text(CASES.read_text().replace("%y = relu(%x)", "%y = neg(%x)"))
    run = qir(installed, "cases", str(wrong))
    assert run.returncode == 1
    assert "wrong.qir" in run.stderr


def test_it_runs_on_a_graph(installed: Path, tmp_path: Path) -> None:
    graph = tmp_path / "twice.qir"
    text = re.sub(r"^//.*\n", "", CASES.read_text().split("// ----")[0], flags=re.MULTILINE)
    graph.write_text(text)
    run = qir(installed, "opt", str(graph), "--passes", "drop-double-negation", "--check")
    assert run.returncode == 0, run.stderr
    assert "neg" not in run.stdout
    assert "relu" in run.stdout


def test_without_the_package_the_pass_is_unknown(tmp_path: Path) -> None:
    run = qir(tmp_path, "cases", str(CASES))
    assert run.returncode == 1
    assert "drop-double-negation" in run.stderr


def test_the_page_shows_the_package_as_it_is() -> None:
    page = (ROOT / "docs" / "add_a_pass.md").read_text()
    source = (EXAMPLE / "qir_double_negation.py").read_text()
    assert source[source.index("@dataclass") :].strip() in page
    assert CASES.read_text().strip() in page
