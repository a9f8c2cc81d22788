"""The ways to treat outliers, by name, and the passes of each."""

from __future__ import annotations

from enum import Enum

from qir.ir.types import Array
from qir.passes.infra.manager import Pass
from qir.passes.transform.outliers.choose_outliers import ChooseOutliers
from qir.passes.transform.outliers.os_plus import OutlierSuppression
from qir.passes.transform.outliers.rotate_residual import RotateResidual
from qir.passes.transform.outliers.smooth_quant import SmoothQuant


class Outliers(Enum):
    """What becomes of channels that reach far beyond the others."""

    AUTO = "auto"  # of what is below, what helps, class by class
    OSPLUS = "osplus"
    SMOOTHQUANT = "smoothquant"
    ROTATE = "rotate"


def outlier_passes(
    how: Outliers | None,
    sample: tuple[Array, ...],
    weight_bits: int = 8,
    is_static: bool = False,
    row_bits: int = 8,
) -> tuple[Pass, ...]:
    """The passes of a way; the rest: how linear ops are quantized after them."""
    match how:
        case Outliers.AUTO:
            return (ChooseOutliers(sample, weight_bits, is_static, row_bits),)
        case Outliers.OSPLUS:
            return (OutlierSuppression(sample, weight_bits, is_static, row_bits),)
        case Outliers.SMOOTHQUANT:
            return (SmoothQuant(sample),)
        case Outliers.ROTATE:
            return (RotateResidual(),)
    return ()
