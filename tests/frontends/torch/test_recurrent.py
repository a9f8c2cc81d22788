"""nn.LSTM, nn.GRU and nn.RNN over a fixed number of steps, unrolled, against torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qir.frontends.torch import import_torch
from qir.frontends.torch.ops import recurrent
from qir.ir.errors import FrontendError
from tests.frontends.torch.agreement import agree, inputs, mnemonics

KINDS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch-first": {"batch_first": True},
    "no-bias": {"bias": False},
    "both-ways": {"bidirectional": True},
    "layers": {"num_layers": 2, "dropout": 0.5},
    "all": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}


def layer(kind: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    make, own = KINDS[kind]
    return make(5, 7, **own, **settings).eval()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_layers(kind: str, form: str) -> None:
    agree(layer(kind, **FORMS[form]), inputs((4, 3, 5)))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_projected_lstm(bidirectional: bool) -> None:
    settings = {"proj_size": 2, "num_layers": 2, "bidirectional": bidirectional}
    agree(layer("lstm", **settings), inputs((4, 3, 5)))
    agree(layer("lstm", bias=False, **settings), inputs((4, 3, 5)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_without_batch(kind: str) -> None:
    agree(layer(kind), inputs((4, 5)))


class Started(nn.Module):
    """A layer whose first state is an input."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, *states: Tensor) -> Any:
        return self.inner(x, states if len(states) > 1 else states[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_state_from_outside(kind: str) -> None:
    states = ((2, 3, 7),) * (2 if kind == "lstm" else 1)
    agree(Started(layer(kind, bidirectional=True)), inputs((4, 3, 5), *states))


class Last(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0][:, -1]


def test_the_inputs_are_projected_at_once() -> None:
    graph = agree(Last(layer("lstm", batch_first=True)), inputs((2, 6, 5)))
    assert mnemonics(graph).count("linear") == 1 + 5  # the first state is zeros: no product


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(cell: type[nn.Module]) -> None:
    torch.manual_seed(0)
    agree(cell(5, 7).eval(), inputs((3, 5)))  # type: ignore[call-arg]


def test_too_many_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "MAX_STEPS", 8)
    with pytest.raises(FrontendError) as e:
        import_torch(layer("gru", num_layers=2), inputs((5, 1, 5)))
    assert (
        "a recurrent layer of 5 steps in 2 layers and directions, at most 8 in all are needed"
    ) in str(e.value)


def test_packed_sequences_are_refused() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layer("lstm")

        def forward(self, x: Tensor) -> Tensor:
            lengths = torch.tensor([4, 2])
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths)
            return self.inner(packed)[0].data

    with pytest.raises(FrontendError):
        import_torch(Packed(), inputs((4, 2, 5)))
