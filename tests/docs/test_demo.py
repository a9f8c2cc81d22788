"""The demo runs from end to end, here with one epoch."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.tree import ROOT


def test_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "docs" / "examples" / "demo.py")
    assert spec is not None and spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    for name, value in (("OUT", tmp_path), ("EPOCHS", 1), ("ROUNDS", 1), ("SECONDS", 0.01)):
        monkeypatch.setattr(demo, name, value)
    with demo.console.capture() as actual:
        demo.main()
    text = actual.get()
    right = [int(n) for n in re.findall(r"(\d+) of 450 │", text)]
    assert len(right) == 4 and all(abs(n - right[0]) <= 9 for n in right)  # 2 % of 450
    assert "agree on 450 of 450 images" in text and "no float among them" in text
    assert (tmp_path / "digits.qir" / "manifest.json").exists()
    assert "Not profiled" not in (tmp_path / "digits.html").read_text()
