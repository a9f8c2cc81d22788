"""The node cases of onnx's own backend tests: what passes, and why the others are refused."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest

from qir.ir.errors import FrontendError
from tests.frontends.onnx.node_cases import node_cases, op_of, run

INTEGERS = "floats are needed"
EXOTIC = "elements of type (float8|float4|string|uint32|uint64)"
EMPTY = r"sizes of at least 1|one element or more|1 to \d+ elements are needed"

# Names of cases that are refused by design -> what the error says, and the reason.
REFUSED: tuple[tuple[str, str, str], ...] = (
    (r"attention_.*(past|nonpad|padded_kv|ext_cache)", r"\(input \d\) is given, none is needed",
     "caches as operands"),
    (r"attention_", r"softcap [\d.]+, 0 is needed|is used, only the first can be",
     "scores within a bound, scores as results"),
    (r"test_equal(_u?int\d+|_bcast)?$", f"a constant is needed|one is needed|{EXOTIC}",
     "comparisons of values of the run"),
    (r"not_\dd$", "opset 1, 7 to", "models before opset 7"),
    (r"_3d(_|$)", "rank 3 or 4 is needed", "windows over three axes"),
    (r"(empty_set|zero_size|_zero$|shape_zero|out_of_bounds|greater_than_end|allowzero_reordered)",
     EMPTY, "tensors without elements"),
    (r"castlike", EMPTY, "the case's `like` has no elements"),
    (r"(float8|float4|e4m3|e5m2|e8m0)", f"{EXOTIC}|a cast to float|float8", "8- and 4-bit floats"),
    (r"cast_.*_to_U?INT\d", "a cast to a float type is needed", "casts to integers inside a model"),
    (r"clip_.*int8", "bounds of stored integers computed", "bounds of stored integers as inputs"),
    (r"_u?int(8|16|32|64)(_|$)", f"{INTEGERS}|{EXOTIC}", "arithmetic on integers"),
    (r"_(is)?nan(_float16)?$", "IsNaN behind a Softmax", "checks of values of the run"),
    (r"test_where_", "the condition .* a constant is needed", "conditions of values of the run"),
    (r"_bool_inputs$", INTEGERS, "arithmetic on booleans"),
    (r"_string", EXOTIC, "texts"),
    (r"training", "training_mode = (1|true), (0|false) is needed", "training"),
    (r"with_argmax", "is used, only the first can be", "indices of the greatest elements"),
    (r"identity_(sequence|opt)", "no shape in the file|a tensor is needed", "sequences, optionals"),
    (r"mod_float_edge_cases", "NaN or infinite", "constants that are not finite"),
)  # fmt: skip
# Cases whose numbers are meant to differ.
OTHER = {
    "test_dynamicquantizelinear": "y = x, scale 1: its rounding is left out",
    "test_dynamicquantizelinear_max_adjusted": "y = x, scale 1: its rounding is left out",
    "test_dynamicquantizelinear_min_adjusted": "y = x, scale 1: its rounding is left out",
}
OTHER |= {
    f"test_attention_{name}_causal_bf16": "the reference rounds each step to bfloat16"
    for name in ("3d", "4d", "4d_attn_mask")
}
# The operators that the project promises; how many of their cases must pass (of how many).
PROMISED = """
    Add AveragePool BatchNormalization Clip Concat Conv ConvInteger ConvTranspose DepthToSpace
    DequantizeLinear Div DynamicQuantizeLinear Elu Expand Flatten Gather Gelu Gemm
    GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish LeakyRelu LpPool MatMul MatMulInteger
    MaxPool Mul PRelu Pad QLinearConv QLinearMatMul QuantizeLinear ReduceMax ReduceMean ReduceSum
    Relu Reshape Resize Sigmoid Slice Softmax SpaceToDepth Split Squeeze Sub Swish Tanh Transpose
    Unsqueeze Upsample
"""


def refusal(name: str) -> tuple[str, str] | None:
    """(what the error says, why) for a case that is refused by design."""
    return next(
        ((text, why) for pattern, text, why in REFUSED if re.search(pattern, name, re.I)), None
    )


@cache
def outcome(name: str) -> FrontendError | None:
    """None for a case that gives the reference's numbers, the error for one that is refused."""
    try:
        run(node_cases()[name])
    except FrontendError as e:
        return e
    return None


@pytest.mark.parametrize("op", sorted({op_of(c) for c in node_cases().values()}))
def test_node_cases(op: str) -> None:
    """Each case gives the reference's numbers, or is refused for a reason of the table."""
    for name, case in node_cases().items():
        if op_of(case) != op or name in OTHER:
            continue
        if (error := outcome(name)) is not None:
            faults = refusal(name)
            assert faults is not None, f"{name}: {error}"
            assert re.search(faults[0], str(error)), f"{name}: {error}"


def test_how_many_of_how_many() -> None:
    """Of the promised operators 306 of 369, of all 760 of 1090, by the onnx of constraints.txt."""
    total = Counter(op_of(c) for c in node_cases().values())
    passed = Counter(
        op_of(c) for name, c in node_cases().items() if name not in OTHER and outcome(name) is None
    )
    reasons = Counter(
        faults[1] for name in node_cases() if (faults := refusal(name)) and name not in OTHER
    )
    promised = PROMISED.split()
    assert set(promised) <= set(total)
    done, known = (sum(c[op] for op in promised) for c in (passed, total))
    print(f"promised operators: {done} of {known}; all: {passed.total()} of {total.total()}")
    print(*(f"{count:4} {why}" for why, count in reasons.most_common()), sep="\n")
    assert done >= 300 and passed.total() >= 750
