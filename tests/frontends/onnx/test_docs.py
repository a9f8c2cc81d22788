"""The page about this importer lists its operators."""

from __future__ import annotations

import re
from pathlib import Path

from qir.frontends.onnx.table import DEFAULT, MICROSOFT

PAGE = Path(__file__).resolve().parents[3] / "docs" / "import_onnx.md"


def listed(after: str) -> set[str]:
    paragraph = PAGE.read_text().partition(f"{after}:\n")[2].partition("\n\n")[0]
    return set(re.findall(r"`(\w+)`", paragraph))


def test_every_operator_is_listed() -> None:
    assert listed("Of ONNX's own domain") == {*DEFAULT, "Constant", "If"}
    assert listed("Of com.microsoft") == set(MICROSOFT)
