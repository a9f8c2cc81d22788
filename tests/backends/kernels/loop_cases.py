"""Every kernel that is no contraction of constants, by a name: a random call of it."""

from __future__ import annotations

from tests.backends.kernels import move_cases, sum_cases
from tests.backends.kernels.held import Make

CASES: dict[str, Make] = {
    "add": sum_cases.add_case,
    "bilinear": sum_cases.bilinear_case,
    "copy": move_cases.copy_case,
    "fill": move_cases.fill_case,
    "frame": move_cases.frame_case,
    "gather": move_cases.gather_case,
    "lookup": move_cases.lookup_case,
    "matmul": sum_cases.matmul_case,
    "pool": sum_cases.pool_case,
    "product": sum_cases.product_case,
    "reduce": sum_cases.reduce_case,
    "requantize": sum_cases.requantize_case,
    "softmax": sum_cases.softmax_case,
    "transpose": move_cases.transpose_case,
    "wide": sum_cases.wide_case,
}
