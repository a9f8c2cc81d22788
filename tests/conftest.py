"""Markers, and the fixtures that many tests share."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType

import pluggy
import pytest

from tests import skips

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite what cases expect to what passes give"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "zoo: needs the zoo of trained models ($QIR_ZOO)")
    config.addinivalue_line("markers", "full: the same on more machines; make test-all runs it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "zoo" in getattr(item, "fixturenames", ()):
            item.add_marker("zoo")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """In CI a skip is a fault of the set-up, unless skips.py says what cannot be had."""
    outcome = yield
    report = outcome.get_result()
    if skips.IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if skips.exception(reason) is None:
            report.outcome, report.longrepr = "failed", f"CI has to have what is missing: {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    for line in skips.counted(r.longrepr[2] for r in skipped if isinstance(r.longrepr, tuple)):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def warnings_are_errors() -> Iterator[None]:
    """Of the C that qir writes: here alone, since a user's compiler may know more of them."""
    from qir.backends.toolchain import link

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link, "WARNINGS", ("-Wall", "-Wextra", "-Werror"))
        yield


@pytest.fixture(scope="session")
def zoo() -> ModuleType:
    """zoo.py of the model zoo: the folder $QIR_ZOO, or ../shared/zoo beside the checkout."""
    path = os.environ.get("QIR_ZOO")
    file = (Path(path) if path else ROOT.parent / "shared" / "zoo") / "zoo.py"
    if not file.is_file():
        if path:
            pytest.fail(f"QIR_ZOO is {path}, which holds no zoo.py")
        pytest.skip(f"the model zoo is absent: no {file} (set QIR_ZOO to its folder)")
    spec = importlib.util.spec_from_file_location("zoo", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules["zoo"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
