"""What cannot be imported is a FrontendError that says what, where, and what to use instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F

from qir.frontends.torch import import_torch
from qir.frontends.torch.table import NEAREST, RULES, ImportRule, nearest
from qir.ir.errors import FrontendError
from tests.frontends.torch.agreement import Function, agree, inputs

XS = inputs((2, 4, 6, 6))


def refusal(model: Any, xs: Any = XS) -> str:
    with pytest.raises(FrontendError) as caught:
        import_torch(model, xs)
    return str(caught.value)


def test_every_unsupported_node_is_listed_once() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.sin(x)
            y = torch.cumsum(self.conv(y), 1)
            return F.interpolate(y, scale_factor=2, mode="bicubic", antialias=True).relu()

    lines = refusal(Net()).splitlines()
    assert lines[0] == "torch Net: 3 nodes cannot be imported"
    head = "  aten.sin.default sin (torch sin test_errors.py:"
    assert lines[1].startswith(head) and lines[1].endswith(
        "): not supported, nearest is tanh or sigmoid"
    )
    assert "aten.cumsum.default cumsum (torch cumsum test_errors.py:" in lines[2]
    assert lines[2].endswith("sums up to each element, those of a mask, over tokens, are needed")
    assert lines[3].endswith("nearest is interpolate(mode='bicubic', antialias=False)")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: F.adaptive_avg_pool2d(x, 4),
         "adaptive pooling of 6x6 to 4x4, a size that divides the input's, such as 1x1, is needed"),
        (lambda x: torch.div(x, 3, rounding_mode="floor"),
         "div with rounding_mode='floor', div without one is needed"),
        (lambda x: x.int(), "a cast to torch.int32, floats throughout are needed"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[1],
         "the indices of a max pool are read, its values alone are needed"),
        (lambda x: x.max(1).indices,
         "the indices of a maximum or minimum are read, its values alone are needed"),
        (lambda x: F.threshold(x, 1, 2), "threshold 1 with value 2, one number for both is needed"),
        (lambda x: x + torch.tensor([float("inf")]),
         "a constant holds 1 NaN or infinite of 1 elements, finite ones are needed"),
        (lambda x: x * float("nan"), "the number nan, a finite one is needed"),
        (lambda x: F.dropout(x, 0.5, training=True),
         "dropout in training mode, model.eval.. before torch.export is needed"),
        (lambda x: F.batch_norm(x, None, None, training=True),
         "batch_norm by the batch's statistics"),
        (lambda x: x + torch.rand(6), "random numbers, a constant or an input is needed"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
         "attention with dropout 0.5, model.eval.. is needed"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, x > 0), "a condition on values of the"),
        (lambda x: torch.linalg.vector_norm(x, 3), "a norm of order 3, order 1, 2 or inf is"),
        (lambda x: x[torch.tensor([0]), :, torch.tensor([1])],
         "indexing axes 0 and 2 at once, axes side by side are needed"),
        (lambda x: x[x > 0], "the index depends on the inputs, a constant is needed"),
        (lambda x: torch.where(x > 0, x, x * 2), "the run, relu, clamp, maximum or minimum"),
        (lambda x: x.var(0)[0] + x[:1].var(0), "variance of 1 elements, more than the correction"),
        (lambda x: F.conv3d(x[None], torch.ones(1, 2, 3, 3, 3)), "conv2d"),
        (lambda x: torch.conv2d(x, x[:1, :, :3, :3]) + x.argmax(), "the output before argmax"),
    ],
)  # fmt: skip
def test_refused_forms(function: Callable[[torch.Tensor], torch.Tensor], match: str) -> None:
    with pytest.raises(FrontendError, match=match):
        import_torch(Function(function), XS)


def test_a_nan_weight_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))
    net[0].weight.data[0, 0, 0, 0] = float("nan")
    net[1].running_var.data[1] = float("inf")
    text = refusal(net)
    assert "0.weight holds 1 NaN or infinite of 72 elements, finite ones are needed" in text
    assert "1.running_var holds 1 NaN or infinite of 2 elements, finite ones are needed" in text


def test_a_nan_weight_is_named_where_the_weight_is_rearranged() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(4, 2, 3), nn.GroupNorm(1, 2), nn.PReLU(2))
    for parameter in net.parameters():
        parameter.data.fill_(float("nan"))
    text = refusal(net)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "2.weight"):
        assert f": {name} holds " in text or name in ("0.bias", "1.bias")  # behind the weight
    signal = nn.Sequential(nn.Conv1d(4, 2, 3))
    signal[0].weight.data.fill_(float("inf"))
    assert ": 0.weight holds 24 NaN or infinite of 24" in refusal(signal, inputs((1, 4, 6)))


def test_control_flow_on_data() -> None:
    def branch(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x

    text = refusal(Function(branch))
    first, hint = text.splitlines()
    assert first.startswith("torch.export Function: ")
    assert first.endswith("a module that it traces with these inputs is needed")
    assert hint.startswith("hint: torch.export.export(model, inputs) shows the whole reason")


def test_control_flow_by_torch_cond() -> None:
    def branch(x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y + 1, (x,))
        return made

    assert "control flow or a region of its own, one path through the model is needed" in refusal(
        Function(branch)
    )


def test_shapes_that_do_not_fit() -> None:
    assert "torch.export Conv2d: RuntimeError" in refusal(nn.Conv2d(3, 2, 3))
    program = torch.export.export(nn.Conv2d(4, 2, 3), XS)
    assert (
        refusal(program, inputs((3, 4, 6, 6)))
        == "input input: example has shape [3, 4, 6, 6], [2, 4, 6, 6] is needed"
    )
    assert "2 example inputs, 1 are needed" in refusal(program, inputs((2, 4), (2,)))
    assert "torch.export ReLU: " in refusal(nn.ReLU(), inputs((2,), (2,)))
    batch = torch.export.Dim("batch", min=1, max=9)
    free = torch.export.export(nn.Conv2d(4, 2, 3), XS, dynamic_shapes={"input": {0: batch}})
    assert "[any, 4, 6, 6] is needed" in refusal(free, inputs((3, 4, 6, 5)))
    free._example_inputs = None
    assert "dimension 0 is free, an example input is needed to fix it" in refusal(free, None)


def test_example_inputs_of_other_kinds() -> None:
    relu = nn.ReLU()
    text = refusal(relu, None)
    assert text.startswith("import_torch ReLU: no example inputs, one tensor for each input")
    assert "hint: import_torch(model, (torch.zeros(1, 3, 224, 224),))" in text
    assert "example input 0: float, a torch.Tensor is needed" in refusal(relu, ([1.0],))
    assert "example input 0: array of <U1, a torch.Tensor" in refusal(relu, (np.array("x"),))
    assert "example inputs: int, a sequence of tensors is needed" in refusal(relu, 3)
    text = refusal(relu, (torch.arange(3, dtype=torch.int16),))
    assert "example input 0: torch.int16, a float type, int32, int64 or bool is needed" in text
    assert "hint: x.float(); integers enter a program by quantization, or as indices" in text
    assert "x is i32, floats are needed" in refusal(relu, (torch.arange(3),))
    assert "example input 0: complex (torch.complex64), real numbers" in refusal(
        relu, (torch.ones(2, dtype=torch.complex64),)
    )
    assert "example input 0: sparse (torch.sparse_coo), a dense tensor is needed" in refusal(
        relu, (torch.eye(3).to_sparse(),)
    )
    assert "on the meta device, a tensor with data is needed" in refusal(
        relu, (torch.ones(2, device="meta"),)
    )
    assert "a quantized tensor (torch.qint8)" in refusal(
        relu, (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),)
    )


def test_parameters_of_other_kinds() -> None:
    net = nn.Linear(2, 2)
    net.register_buffer("spectrum", torch.ones(2, dtype=torch.complex64))
    net.register_buffer("mask", torch.eye(2).to_sparse())
    text = refusal(net, inputs((1, 2)))
    assert text.splitlines()[0] == "torch model: tensors that have no counterpart"
    assert "spectrum: complex (torch.complex64), real numbers are needed" in text
    assert "mask: sparse (torch.sparse_coo), a dense tensor is needed (tensor.to_dense())" in text


def test_models_of_other_kinds() -> None:
    needed = "nn.Module, ExportedProgram or torch.fx.GraphModule is needed"
    assert refusal([1]) == f"import_torch: model is list, {needed}"
    assert refusal(nn.ReLU) == f"import_torch: model is type, {needed}"
    assert refusal(None) == f"import_torch: model is NoneType, {needed}"
    assert "torch.export " in refusal(torch.jit.script(nn.ReLU()), XS)


def test_programs_of_integer_inputs() -> None:
    program = torch.export.export(nn.ReLU(), (torch.ones(2, dtype=torch.int16),))
    assert "input input: torch.int16, a float type, int32, int64 or bool" in refusal(program, None)


def test_outputs_of_none_and_of_numbers() -> None:
    assert "outputs: None alone, a tensor is needed" in refusal(Function(lambda x: None))
    assert "output 1: 3, a tensor is needed" in refusal(Function(lambda x: (x + 1, 3)))


def test_files_that_are_no_programs(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"none")
    assert "a program that torch.export.save wrote is needed" in refusal(tmp_path / "a.pt2", None)
    assert "a program that torch.export.save wrote is needed" in refusal(tmp_path / "b.pt2", None)


def test_state_that_changes() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            return x + self.seen

    before = (net := Counter()).seen.clone()
    text = refusal(net)
    assert torch.equal(net.seen, before)
    assert "torch.export Counter: it changes seen, a program without state is needed" in text
    assert "hint: " in text


def test_a_program_exported_in_training_mode() -> None:
    program = torch.export.export(nn.Sequential(nn.Dropout(0.5), nn.ReLU()).train(), XS)
    assert "dropout in training mode" in refusal(program, None)


def test_outputs_that_are_no_tensors() -> None:
    class Size(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return x + 1, 7, None

    assert "output 1: 7, a tensor is needed" in refusal(Size())


def test_a_traced_module_without_inputs() -> None:
    traced = symbolic_trace(nn.Sequential(nn.Conv2d(4, 2, 3), nn.ReLU()))
    assert "no example inputs, one tensor for each input is needed" in refusal(traced, None)


def test_a_form_that_its_rule_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "aten.relu.default", ImportRule(lambda site: None, True))
    text = refusal(nn.ReLU())
    assert "aten.relu.default relu (torch relu" in text and ": TypeError " in text
    assert text.endswith("a form that its rule takes is needed")


def test_nearest() -> None:
    assert nearest("aten.conv3d.default") == NEAREST["aten.conv3d"]
    assert nearest("aten.hardswish_backward.default") == "hardswish"
    assert nearest("aten.frobnicate.default") == nearest("mylib.unheard.default")
    assert nearest("mylib.unheard.default") == "a composition of the ops in docs/reference/ops.md"


def test_an_unused_bad_parameter_is_no_matter() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.tensor(float("nan")))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    agree(Net(), XS)
