"""Who may import whom, and which packages ship (docs/decisions/0001-layout.md)."""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

from tests.tree import FOLDERS, ROOT, modules, pyproject

# package -> what of qir it may import besides itself; the longest matching name counts.
LAYERS = {
    "qir": ("qir",),
    "qir.ir": (),
    "qir.frontends": ("qir.ir",),
    "qir.frontends.torch": ("qir.ir",),
    "qir.frontends.onnx": ("qir.ir",),
    "qir.passes": ("qir.ir",),
    "qir.backends": ("qir.ir", "qir.runtime.format"),
    "qir.runtime": (),
}

# The floors inside qir.ir, lowest first; a module imports its own floor and those below.
# What is not named here is on the top floor.
FLOORS = (
    ("errors", "data", "names", "axes", "attributes"),
    ("types", "fixed", "bounds", "rows"),
    ("op",),
    ("text.printer",),
    ("graph", "ops"),
)

# The floors inside qir.backends, lowest first: machines and kernels as data, the program, what
# compiles it, what is written around it, the artifact. Here everything has its floor.
BACKEND_FLOORS = (
    ("targets", "kernels"),
    ("lowering",),
    ("toolchain",),
    ("c", "tvm", "proofs"),
    ("artifact",),
)

# Heavy third parties -> the only modules that may import them; a trailing * matches any ending.
HOMES = {
    "tvm": ("qir.backends.tvm",),
    "tvm_ffi": ("qir.backends.tvm",),
    "onnx": ("qir.frontends.onnx",),
    "torch": (
        "qir.frontends.torch",
        "qir.ir.torch_executor",
        "qir.passes.calibrate*",
        "qir.passes.quantize.correction_walk",  # runs the float graph beside the simulated one
        "qir.passes.sensitivity.sqnr",  # the same beside the integer one
        "qir.passes.transform.outliers.consumers",  # rounds what reads a value, to judge by
        "qir.passes.infra.tasks",  # one thread for each task
        # passes that train or differentiate:
        "qir.passes.rounding*",
        "qir.passes.sensitivity*",
        "qir.passes.transform.depth*",  # runs the float graph without some of its parts
    ),
}

DISTRIBUTIONS = {
    "tvm": "apache-tvm",
    "tvm_ffi": "apache-tvm-ffi",
}  # import name -> name, where they differ
SOURCE = modules()


def imports(module: str, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The modules that a module imports, anywhere in it, with lines."""
    is_package = SOURCE.get(module, Path()).name == "__init__.py"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -(node.level - is_package) or None]
                base = ".".join([*parents, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in SOURCE else base), node.lineno


def inside(module: str, package: str) -> bool:
    if package.endswith("*"):
        return module.startswith(package[:-1])
    return module == package or module.startswith(f"{package}.")


def home(module: str) -> str:
    """The entry of LAYERS that a module belongs to; none for those of others."""
    return max((name for name in LAYERS if inside(module, name)), key=len, default="")


def floor(module: str) -> int:
    """The floor of a module of qir.ir."""
    own = [i for i, names in enumerate(FLOORS) for n in names if inside(module, f"qir.ir.{n}")]
    return min(own, default=len(FLOORS))


def backend_floor(module: str) -> int:
    """The floor of a module of qir.backends; the package itself, its public names, is the roof."""
    part = module.removeprefix("qir.backends").removeprefix(".").split(".")[0]
    floors = [i for i, names in enumerate(BACKEND_FLOORS) if part in names]
    assert floors or not part, f"{module} has no floor in qir.backends"
    return floors[0] if floors else len(BACKEND_FLOORS)


def declared() -> set[str]:
    """The distributions that pyproject.toml names, extras included."""
    project = pyproject()["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in lines}


def fault(module: str, target: str) -> str | None:
    """Why `module` must not import `target`; None if it may."""
    top = target.split(".")[0]
    if top == "qir":
        mine = home(module)
        if not any(inside(target, allowed) for allowed in (mine, *LAYERS[mine])):
            return f"{mine} may import {', '.join((mine, *LAYERS[mine]))}, not {target}"
        if mine == "qir.ir" and floor(target) > floor(module):
            return f"{target} is on a higher floor of qir.ir"
        if mine == "qir.backends" == home(target) and backend_floor(target) > backend_floor(module):
            return f"{target} is on a higher floor of qir.backends"
        return None
    if top in sys.stdlib_module_names:
        return None
    if inside(module, "qir.runtime"):
        return None if top == "numpy" else f"qir.runtime may import NumPy only, not {top}"
    if top in HOMES and not any(inside(module, place) for place in HOMES[top]):
        return f"{top} may be imported in {', '.join(HOMES[top])} only"
    if DISTRIBUTIONS.get(top, top) not in declared():
        return f"{top} is not among the dependencies in pyproject.toml"
    return None


class DropTypeChecking(ast.NodeTransformer):
    """Imports for type checkers only run never, so they close no cycle."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return node.orelse
        return self.generic_visit(node)


def faults(module: str, tree: ast.AST) -> list[str]:
    """Imports that the table forbids; between floors, those for type checkers alone are free."""
    runs = set(imports(module, DropTypeChecking().visit(copy.deepcopy(tree))))
    found = (
        (line, fault(module, target))
        for target, line in imports(module, tree)
        if (target, line) in runs or home(module) != home(target)
    )
    return [f"{module}:{line}: {why}" for line, why in found if why]


def test_every_import_follows_the_table() -> None:
    messages = [
        why for name, file in SOURCE.items() for why in faults(name, ast.parse(file.read_text()))
    ]
    assert not messages, "\n".join(messages)


@pytest.mark.parametrize(
    ("module", "line", "why"),
    [
        (
            "qir.ir.graph",
            "from qir.passes import manager",
            "qir.ir may import qir.ir, not qir.passes",
        ),
        ("qir.ir.graph", "import qir.driver", "qir.ir may import qir.ir, not qir.driver"),
        ("qir.ir.types", "from . import graph", "qir.ir.graph is on a higher floor of qir.ir"),
        (
            "qir.ir.ops.conv",
            "from ..verify import x",
            "qir.ir.verify is on a higher floor of qir.ir",
        ),
        (
            "qir.passes.a",
            "from qir.backends import b",
            "qir.passes may import qir.passes, qir.ir, not qir.backends",
        ),
        ("qir.passes.a", "import qir", "qir.passes may import qir.passes, qir.ir, not qir"),
        ("qir.passes.a", "def f():\n    import torch", "torch may be imported in "),
        ("qir.backends.c.a", "from qir.runtime.load import b", "qir.backends may import"),
        (
            "qir.backends.lowering.a",
            "from qir.backends.toolchain.compile import b",
            "qir.backends.toolchain.compile is on a higher floor of qir.backends",
        ),
        (
            "qir.backends.kernels.a",
            "from qir.backends.lowering import b",
            "qir.backends.lowering is on a higher floor of qir.backends",
        ),
        (
            "qir.backends.c.a",
            "from qir.backends import build",
            "qir.backends is on a higher floor of qir.backends",
        ),
        (
            "qir.backends.kernels.a",
            "import tvm.tir",
            "tvm may be imported in qir.backends.tvm only",
        ),
        ("qir.frontends.torch.a", "import onnx", "onnx may be imported in qir.frontends.onnx only"),
        (
            "qir.frontends.onnx.a",
            "from qir.frontends.torch import b",
            "qir.frontends.onnx may import",
        ),
        (
            "qir.runtime.load",
            "import qir.ir.errors",
            "qir.runtime may import qir.runtime, not qir.ir.errors",
        ),
        ("qir.runtime.load", "import scipy.stats", "qir.runtime may import NumPy only, not scipy"),
        ("qir.passes.a", "import pandas", "pandas is not among the dependencies in pyproject.toml"),
    ],
)
def test_a_planted_import_is_refused(module: str, line: str, why: str) -> None:
    assert any(why in text for text in faults(module, ast.parse(line)))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("qir.driver", "from qir.backends import lower"),
        ("qir.backends.artifact.artifact", "from qir.runtime.format import x"),
        ("qir.backends.tvm.compat", "import tvm"),
        ("qir.passes.calibrate.ranges", "import torch"),
        ("qir.passes.calibrate_entropy", "import torch, scipy"),
        ("qir.ir.ops.conv", "from qir.ir.op import Op"),
    ],
)
def test_what_the_table_allows_passes(module: str, line: str) -> None:
    assert not faults(module, ast.parse(line))


def runs(module: str, target: str) -> Iterator[str]:
    """What importing `target` runs: itself, and each package around it but not around us."""
    yield target
    while (target := target.rpartition(".")[0]) and not inside(module, target):
        yield target


def cycles(graph: nx.DiGraph) -> list[list[str]]:
    cyclic_parts = [
        sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1
    ]
    return cyclic_parts + [[name] for name in nx.nodes_with_selfloops(graph)]


def test_no_import_cycles() -> None:
    """Inside functions too: an import that hides there to dodge a cycle is a cycle."""
    graph = nx.DiGraph()
    for name, file in SOURCE.items():
        tree = DropTypeChecking().visit(ast.parse(file.read_text()))
        for target, _ in imports(name, tree):
            if target in SOURCE:
                graph.add_edges_from((name, needed) for needed in runs(name, target))
    assert not cycles(graph)


def test_no_cycles_among_types() -> None:
    """For type checkers too: two modules that know each other's types are one module."""
    graph = nx.DiGraph()
    for name, file in SOURCE.items():
        targets = (target for target, _ in imports(name, ast.parse(file.read_text())))
        graph.add_edges_from((name, target) for target in targets if target in SOURCE)
    graph.remove_edge("qir.ir.text.printer", "qir.ir.graph")  # str(graph) is the printer's text
    assert graph.number_of_edges() > len(SOURCE)
    assert not cycles(graph)


def test_packages_on_disk_are_the_packages_that_ship() -> None:
    listed = pyproject()["tool"]["setuptools"]["packages"]
    on_disk = {name for name, file in SOURCE.items() if file.name == "__init__.py"}
    for name, file in SOURCE.items():
        assert (file.parent / "__init__.py").exists(), (
            f"{name} lies in a folder with no __init__.py"
        )
    assert sorted(listed) == sorted(on_disk)
    mapped = pyproject()["tool"]["setuptools"]["package-dir"]
    assert {name: ROOT / folder for name, folder in mapped.items()} == FOLDERS


def test_data_files_ship() -> None:
    """Each file beside the source is one that package-data names."""
    patterns = pyproject()["tool"]["setuptools"]["package-data"]["*"]
    suffixes = {Path(pattern).suffix for pattern in patterns}
    left_out = [
        file
        for folder in FOLDERS.values()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
        if file.suffix not in {".py", *suffixes} and file.name != "py.typed"
    ]
    assert not left_out


def test_import_qir_loads_nothing_heavy() -> None:
    script = "import qir, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "onnx", "onnxruntime", "tvm", "tvm_ffi", "scipy", "matplotlib"}
    assert not heavy & set(loaded.stdout.split())


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import qir

    with pytest.raises(AttributeError, match="module 'qir' has no attribute 'compil'"):
        _ = qir.compil  # type: ignore[attr-defined]
    assert issubclass(qir.VerifyError, qir.QirError)
    assert {"compile", "load", "QirError"} <= set(dir(qir))
