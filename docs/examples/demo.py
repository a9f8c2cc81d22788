"""Train a small CNN on real images, compile it to integers, and compare it with the float model.

    python docs/examples/demo.py        # or: make demo

The images are scikit-learn's handwritten digits (1,797 of them). Everything is written to
artifacts/demo/. Takes about a minute on two cores; needs the packages of the extra `test`.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import qir
from qir.ir.interpret import interpret, quantize_inputs
from qir.measure.profiling import profiled
from qir.measure.timing import Timing, measure
from qir.net import Net

OUT = Path(__file__).resolve().parents[2] / "artifacts" / "demo"
EPOCHS, BATCH = 12, 96
ROUNDS, SECONDS = 8, 0.15  # the engines take turns, so that a busy moment hits them all
console = Console(highlight=False)


class Residual(nn.Module):
    """x + f(x), f two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


def convolution(i: int, o: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), nn.ReLU())


def network() -> nn.Sequential:
    """Residual blocks, depthwise convolutions with stride, global pooling, a linear layer."""
    return nn.Sequential(
        convolution(1, 16),
        Residual(16),
        convolution(16, 16, stride=2, groups=16),
        convolution(16, 32, kernel=1),
        Residual(32),
        convolution(32, 32, stride=2, groups=32),
        convolution(32, 64, kernel=1),
        convolution(64, 64, groups=64),
        convolution(64, 128, kernel=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(train x, test x, train y, test y); images (N, 1, 16, 16), each of 8x8 pixels doubled."""
    x, y = load_digits(return_X_y=True)
    images = (x.reshape(-1, 1, 8, 8) / 16).astype(np.float32).repeat(2, 2).repeat(2, 3)
    parts = train_test_split(images, y, test_size=0.25, random_state=0, stratify=y)
    return tuple(parts)


def train(x: np.ndarray, y: np.ndarray) -> nn.Module:
    """The network after EPOCHS over images that are shifted by up to two pixels at random."""
    torch.manual_seed(0)
    model, images, labels = network(), torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(x)).split(BATCH):
            shift = torch.randint(-2, 3, (2,)).tolist()
            loss = nn.functional.cross_entropy(
                model(images[part].roll(shift, (2, 3))), labels[part], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def onnx_files(model: nn.Module, samples: np.ndarray) -> tuple[Path, Path]:
    """The same model for ONNX Runtime: float, and int8 by its own quantizer (static QDQ)."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter({"x": s[None]} for s in samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    floats, ready, integers = (OUT / f"digits{end}.onnx" for end in ("", "_ready", "_int8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.from_numpy(samples[:1])
        torch.onnx.export(model, (example,), str(floats), input_names=["x"], dynamo=False)
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer advises on every call
    quant_pre_process(str(floats), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready), str(integers), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    ready.unlink()
    return floats, integers


def onnx_runtime(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def correct(call: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray) -> int:
    """How many images get their own label, one at a time."""
    return sum(
        int(np.argmax(call(image[None]))) == label for image, label in zip(x, y, strict=True)
    )


def timed(calls: dict[str, Callable[[np.ndarray], Any]], x: np.ndarray) -> dict[str, Timing]:
    """Each engine's time for one image; they take turns."""
    found: dict[str, Timing] = {}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            once = measure(lambda call=call: call(x), SECONDS)
            found[name] = found[name].merged(once) if name in found else once
    return found


def same_bits(net: Net, x: np.ndarray) -> int:
    """How many images give the same integers in the artifact and in the exact interpreter."""
    graph, same = net.stages["integer"], 0
    for image in x:
        stored = quantize_inputs(graph, [image[None]])
        same += np.array_equal(net.run_integer(*stored), interpret(graph, stored)[0])
    return same


def show(net: Net, files: tuple[Path, Path], x: np.ndarray, y: np.ndarray, floats: int) -> None:
    """One table: accuracy, latency and size of each engine."""
    calls = {
        "ONNX Runtime, float": onnx_runtime(files[0]),
        "ONNX Runtime, int8": onnx_runtime(files[1]),
        "qir, integers only": net,
    }
    sizes = net.report().sizes
    size = [*(f.stat().st_size for f in files), sizes.code + sizes.weights]
    right = [correct(call, x, y) for call in calls.values()]
    times = timed(calls, x[:1])
    table = Table(title=f"{len(x)} test images, batch 1, one thread, engines in turn")
    for head in ("", "correct", "accuracy", "least", "median", "size*"):
        table.add_column(head, justify="left" if not head else "right", no_wrap=True)
    table.add_row("PyTorch, float", *accuracy(floats, len(x)), "", "", "")
    for name, count, n_bytes in zip(calls, right, size, strict=True):
        time_ = times[name]
        table.add_row(
            name, *accuracy(count, len(x)), f"{time_.least:.1f} µs", f"{time_.median:.1f} µs",
            f"{n_bytes / 1024:.1f} KiB", style="bold" if name.startswith("qir") else "",
        )  # fmt: skip
    console.print(table)
    console.print("* the ONNX file; for qir its library, which needs no other, and its weights")


def accuracy(right: int, of: int) -> tuple[str, str]:
    return f"{right} of {of}", f"{100 * right / of:.2f} %"


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # so small a network gains nothing from more
    train_x, test_x, train_y, test_y = digits()
    start = time.perf_counter()
    model = train(train_x, train_y)
    weights = sum(p.numel() for p in model.parameters())
    console.print(
        f"trained {weights:,} parameters on {len(train_x):,} images"
        f" in {time.perf_counter() - start:.1f} s"
    )
    with torch.no_grad():
        floats = correct(lambda x: model(torch.from_numpy(x)).numpy(), test_x, test_y)

    start = time.perf_counter()
    net = qir.compile(model, calibration=train_x[:256], target="cpu", bits=8, name="digits")
    console.print(f"compiled it for this CPU in {time.perf_counter() - start:.1f} s\n")
    artifact = net.save(OUT / "digits.qir")

    show(net, onnx_files(model, train_x[:256]), test_x, test_y, floats)
    report, _ = profiled(net)
    page = OUT / "digits.html"
    page.write_text(report.html(), encoding="utf-8")
    same = same_bits(net, test_x)
    console.print()
    for what, text in (
        ("integer only", f"{report.proofs.integer_only}; {report.proofs.kernels}"),
        ("no overflow", f"{report.proofs.overflow_claims} intermediates stay within their bits"),
        ("same bits", f"machine code and interpreter agree on {same} of {len(test_x)} images"),
        ("artifact", str(artifact)),
        ("report", f"{page} (open it in a browser)"),
    ):
        console.print(f"[bold]{what:13}[/]", text, soft_wrap=True)


if __name__ == "__main__":
    main()
