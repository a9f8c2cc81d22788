"""The machine code itself: integer-only for every target, and any float or division is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qir.backends import build, find
from qir.backends.c.dispatch import symbol as linked_name
from qir.backends.proofs import disassembly
from qir.backends.proofs.disassembly import Instruction, hexagon_name
from qir.backends.proofs.instructions import OF_KERNELS, SETS
from qir.backends.proofs.machine_code import Findings, InstructionKind, check, kind_of, main, prove
from qir.backends.targets import TARGETS
from qir.backends.toolchain.link import link
from qir.ir.errors import LowerError, VerifyError
from tests.backends.stateful_graphs import entries
from tests.emulated import harness
from tests.random_graphs import batch
from tests.small_graphs import artifact

NAMES = [make().name for make in TARGETS]
GRAPHS = range(4)  # random ones side by side in one program
PROVEN = ("cpu", "x86-64", *harness.TARGETS)
"""Machines whose random graphs tests.run_random_graphs builds, proves and runs."""

pytestmark = pytest.mark.skipif(
    not any(
        shutil.which(f"llvm-objdump-{release}")
        for release in range(disassembly.OLDEST, disassembly.NEWEST)
    ),
    reason="llvm-objdump: not found; apt-get install llvm-22",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_integers_only_and_its_kernels_use_their_dots(name: str) -> None:
    made = artifact(name)
    found = prove(made.manifest, made.files[f"{made.name}.o"], made.target)
    assert found.instructions > 500
    # Neither the border nor TVM's helpers for 16-bit floats: only other entries of the same code.
    others = ("sizes", "profile", "variant", "use_variant")
    assert set(found.unreached) <= {f"{made.name}_{name}" for name in others}
    held = {body.symbol: body.dots for body in found.bodies}
    for symbol, code in made.program.codes.items():
        if wanted := OF_KERNELS.get(getattr(code, "dot", "")):
            assert held[linked_name(made.program, symbol)].get(wanted, 0) > 0, (symbol, wanted)


@pytest.mark.full
@pytest.mark.parametrize("name", [n for n in NAMES if n not in PROVEN])
def test_random_graphs_are_integers_only(name: str) -> None:
    """Of machines that no other test builds random graphs for."""
    made = build(batch(GRAPHS, family="sequences"), name)
    prove(made.manifest, made.files[f"{made.name}.o"], made.target)


@pytest.mark.parametrize("name", ["x86", "aarch64", "cortex-m4"])
def test_every_entry_is_integers_only(name: str) -> None:
    made = build(entries(), name, "net")
    found = prove(made.manifest, made.files["net.o"], made.target)
    others = ("sizes", "decode_profile", "prefill_profile", "variant", "use_variant", "reset_state")
    assert set(found.unreached) <= {f"net_{other}" for other in others}
    assert any("prefill" in body.symbol for body in found.bodies)


def planted(name: str, code: str, *exports: str) -> Findings:
    """The findings on `a_run`, compiled and linked as the entries of artifacts are."""
    target = find(name)
    linked = link(target, "a", {"a.c": code}, {}, ["a_run", *exports], {})
    return check(linked.object, target, ["a_run"])


FLOATS = """
float a_helper(float x, float y);
__attribute__((noinline)) float a_helper(float x, float y) { return x * y + 0.5f; }
float a_unused(float x);
float a_unused(float x) { return x + 1.0f; }
int a_run(int x);
int a_run(int x) { return (int)a_helper((float)x, 1.5f); }
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_float_that_a_core_reaches_is_found(name: str) -> None:
    found = planted(name, FLOATS, "a_unused")
    at_fault = {f.symbol for f in found.faults}
    assert at_fault == {"a_run", "a_helper"} or at_fault == {"a_run"}  # inlined after all
    assert {f.kind for f in found.faults} <= {InstructionKind.FLOAT, InstructionKind.UNKNOWN}
    assert "a_unused" in found.unreached


TABLE = """
static int one(int x) { return (int)((float)x * 1.5f); }
static int two(int x) { return (int)((float)x + 2.5f); }
static int (*const table[])(int) = {one, two};
int a_run(int x);
int a_run(int x) { return table[x & 1](x); }
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_float_behind_a_table_of_functions_is_found(name: str) -> None:
    assert {"one", "two"} <= {f.symbol for f in planted(name, TABLE).faults}


def test_a_division_is_found() -> None:
    code = "int a_run(int x, int y);\nint a_run(int x, int y) { return x / y; }\n"
    faults = planted("aarch64", code).faults
    assert [(f.symbol, f.what.split()[0], f.kind) for f in faults] == [
        ("a_run", "`sdiv", InstructionKind.DIVISION)
    ]


def test_a_planted_float_is_told_with_symbol_and_instruction() -> None:
    code = "int a_run(float *x);\nint a_run(float *x) { x[0] *= x[1]; return 0; }\n"
    target = find("aarch64")
    content = link(target, "a", {"a.c": code}, {}, ["a_run"], {}).object
    why = (
        r"machine code of a: 1 faults in integer-only code, none is allowed\n"
        r"  a_run: `fmul s0, s0, s1` at 0x\w+ computes with floats$"
    )
    with pytest.raises(VerifyError, match=why):
        prove({"name": "a", "steps": []}, content, target)


def test_a_call_to_a_library_is_found() -> None:
    code = "long long a_run(long long x);\nlong long a_run(long long x) { return x / 1234567; }\n"
    faults = planted("cortex-m4", code).faults
    assert [str(f) for f in faults] == [
        "a_run: `__aeabi_ldivmod` outside the object is not known to compute with integers only"
    ]


def test_a_symbol_that_is_missing_is_named() -> None:
    made = artifact("x86-64")
    with pytest.raises(VerifyError, match="functions that the object lacks\n  nowhere"):
        check(made.files["small.o"], made.target, ["small_run", "nowhere"])


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(LowerError, match=r"machine code: .*llvm-objdump.* ended with 1"):
        check(b"nothing", find("x86-64"), ["a_run"])


KINDS = """
x86_64 INTEGER vpmaxsd pminsd vpdpbusd cltd vpternlogd addl movzbl cmovnsl setae rep vpmovusqb
x86_64 INTEGER vphminposuw phaddw
x86_64 CARRIER movaps vmovups xorps vpermilps vbroadcastss vblendvpd vextractf128 movmskps
x86_64 FLOAT addss vfmadd231ps vcvttps2dq cvtsi2ss fldt vcomiss vcmpltps vdpbf16ps vrcp14ps vaddph
x86_64 DIVISION idivl divq
x86_64 UNKNOWN <unknown> aesenc
aarch64 INTEGER add b.eq sdot usmmla sqrdmulh bfxil ldpsw ushll2 uqxtn2 cinc st4 bfi
aarch64 CARRIER fmov fcsel
aarch64 FLOAT fadd fmla scvtf fcvtzs bfdot bfcvt fcvtl2 frintm bfmmla fcmp
aarch64 DIVISION udiv
aarch64 UNKNOWN <unknown> svc aese
thumb INTEGER addlt.w smlad smlalbb ittt mov.w vmladava.s8 vmov.i32 strbne movs bhi vrev64.32
thumb CARRIER vldr vpush vmov vmov.f32
thumb FLOAT vadd.f32 vcvt.s32.f32 vmla.f16 vcmp.f64 vfma.f32
thumb DIVISION sdivne
thumb UNKNOWN <unknown> mcr
riscv64 INTEGER addiw fence vwmaccsu.vv vsetvli vle8.v vnclip.wi vrgatherei16.vv sext.w vmv8r.v
riscv64 CARRIER flw fmv.x.w vfmv.f.s
riscv64 FLOAT fadd.s vfmacc.vv fcvt.w.s vfcvt.x.f.v fsgnj.d fmadd.s vfwcvt.f.x.v
riscv64 DIVISION divw vdivu.vx
riscv64 UNKNOWN <unknown> wfi
"""


@pytest.mark.parametrize("line", KINDS.strip().splitlines())
def test_what_an_instruction_does(line: str) -> None:
    architecture, kind, *names = line.split()
    found = {n: kind_of(Instruction(0, n, n, 0), SETS[architecture]).name for n in names}
    assert found == dict.fromkeys(names, kind)


HEXAGON = {
    "v1.w += vrmpy(v2.ub,v3.b)": InstructionKind.INTEGER,
    "if (!p0.new) jumpr:nt r31": InstructionKind.INTEGER,
    "r3:2 = combine(r0,r1)": InstructionKind.INTEGER,
    "memb(r2+#0x17) = r4.new": InstructionKind.INTEGER,
    "r1 = sfmpy(r2,r3)": InstructionKind.FLOAT,
    "r1 = convert_w2sf(r2)": InstructionKind.FLOAT,
    "r1:0 = dfadd(r3:2,r5:4)": InstructionKind.FLOAT,
    "v0.qf32 = vmpy(v1.sf,v2.sf)": InstructionKind.FLOAT,
    "v0.sf = v1.qf32": InstructionKind.FLOAT,
    "p0 = sfcmp.gt(r0,r1)": InstructionKind.FLOAT,
    "q0 = vcmp.eq(v3.b,v2.b)": InstructionKind.INTEGER,
    "q0 = vcmp.gt(v3.sf,v2.sf)": InstructionKind.FLOAT,
    "<unknown>": InstructionKind.UNKNOWN,
}


@pytest.mark.parametrize("text", HEXAGON)
def test_what_an_instruction_of_hexagon_does(text: str) -> None:
    instruction = Instruction(0, hexagon_name(text), text, 0)
    assert kind_of(instruction, SETS["hexagon"]) is HEXAGON[text]


def test_without_a_disassembler_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LowerError) as e:
        disassembly.tool.__wrapped__()
    assert str(e.value).splitlines() == [
        "machine code: no disassembler found, llvm-objdump 16 or newer is needed",
        "hint: apt-get install llvm-22, or llvm-19",
    ]


def test_a_saved_artifact_is_proven_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = artifact("x86-64").save(tmp_path / "small.qir")
    assert main([str(folder)]) == 0
    assert "all of them on integers" in capsys.readouterr().out
    assert main([]) == 2
    assert main([str(tmp_path / "nowhere.qir")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_it_is_a_program() -> None:
    command = [sys.executable, "-m", "qir.backends.proofs.machine_code"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "FOLDER.qir" in done.stderr
