"""docs/add_a_pass.md, word for word, for a pass in qir's own tree: one file, its cases, and its
place in the pipelines.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.copies import apply, copied, place, run
from tests.tree import ROOT

PAGE = (ROOT / "docs" / "add_a_pass.md").read_text()
HOME = "passes/canonicalize/drop_double_negation.py"

SCRIPT = """
from qir.ir.text.parser import parse
from qir.passes import pipelines
from qir.passes.infra.manager import Manager

graph = parse(open("net.qir").read())
after = Manager(check=True).run(graph, pipelines.CANONICALIZE)
print([op.mnemonic for op in after.ops])
"""


def test_a_pass_takes_its_file_and_a_line_in_the_pipelines(tmp_path: Path) -> None:
    copy = copied(tmp_path)
    (rule,) = re.findall(r"^## 1\. The rule\n\n```python\n(.*?)^```", PAGE, re.M | re.S)
    (cases,) = re.findall(r"^## 3\. The cases\n\n```\n(.*?)^```", PAGE, re.M | re.S)
    home = place(copy, HOME)
    home.write_text(
        rule.replace("Miss\n", "Miss, register\n", 1).replace("@dataclass", "@register\n@dataclass")
    )
    files = [HOME, "tests/cases/passes/drop-double-negation.qir", *apply(copy, PAGE)]
    print(f"{len(files)} files: {', '.join(files)}")
    (copy / "cases.qir").write_text(cases)
    checked = run(copy, "-m", "qir", "cases", "cases.qir")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout == "2 cases pass\n"
    (copy / "use.py").write_text(SCRIPT)
    (copy / "net.qir").write_text(re.sub(r"^//.*\n", "", cases.split("// ----")[0], flags=re.M))
    done = run(copy, "use.py")
    assert (done.returncode, done.stdout) == (0, "['relu']\n"), done.stderr
    assert len(files) == 3
