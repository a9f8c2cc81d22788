"""Recurrent layers over a fixed number of steps, unrolled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from qir.frontends.torch.context import ImportContext, Operand
from qir.frontends.torch.ops.indexing import cut
from qir.frontends.torch.ops.linear import linear
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Op, Value
from qir.ir.ops import Add, Concat, Mul, Relu, Sigmoid, Sub, Tanh

MAX_STEPS = 512  # of all layers and directions: each step is about ten ops

State = tuple[Value | None, ...]  # (N, H) each; None: zeros
# One step: projected input (N, gates * H), weights, state -> new state, the output first.
Cell = Callable[[ImportContext, Value, "CellWeights", State], State]


class CellWeights:
    """The parameters of one layer in one direction, as torch orders them."""

    def __init__(self, parameters: Sequence[Operand], has_biases: bool, is_projected: bool) -> None:
        self.of_input, self.of_state = parameters[:2]
        self.input_bias: Operand | None = parameters[2] if has_biases else None
        self.state_bias: Operand | None = parameters[3] if has_biases else None
        self.projection = parameters[-1] if is_projected else None

    def from_state(self, ctx: ImportContext, h: Value | None, has_bias: bool) -> Value | None:
        """W_state h, plus its bias when asked for; None for nothing."""
        bias = self.state_bias if has_bias else None
        if h is None:
            return None if bias is None else ctx.value(bias)
        return linear(ctx, h, self.of_state, bias)

    def merged_bias(self) -> Operand | None:
        """Both biases as one, for cells that add them."""
        if self.input_bias is None or self.state_bias is None:
            return None
        if isinstance(self.input_bias, torch.Tensor) and isinstance(self.state_bias, torch.Tensor):
            return self.input_bias + self.state_bias
        raise Unsupported("biases that depend on the inputs", "constants are needed")


def plus(ctx: ImportContext, a: Value, b: Value | None) -> Value:
    return a if b is None else ctx.add(Add(a, b))


def gates(x: Value, count: int, ctx: ImportContext) -> Iterator[Value]:
    """x (N, count * H) as `count` parts (N, H)."""
    width = x.type.shape[-1] // count
    return (cut(ctx, x, 1, k * width, (k + 1) * width) for k in range(count))


def lstm_cell(ctx: ImportContext, x: Value, weights: CellWeights, state: State) -> State:
    """c' = f * c + i * g, h' = o * tanh(c'); i, f, o sigmoids and g a tanh of W x + W h + b."""
    h, c = state
    i, f, g, o = gates(plus(ctx, x, weights.from_state(ctx, h, has_bias=False)), 4, ctx)
    new = ctx.add(Mul(ctx.add(Sigmoid(i)), ctx.add(Tanh(g))))
    if c is not None:
        new = ctx.add(Add(ctx.add(Mul(ctx.add(Sigmoid(f)), c)), new))
    out = ctx.add(Mul(ctx.add(Sigmoid(o)), ctx.add(Tanh(new))))
    if weights.projection is not None:
        out = linear(ctx, out, weights.projection)
    return out, new


def gru_cell(ctx: ImportContext, x: Value, weights: CellWeights, state: State) -> State:
    """h' = n + z * (h - n), n = tanh(x_n + r * (W h + b)_n); r and z sigmoids of W x + W h + b."""
    (h,) = state
    from_state = weights.from_state(ctx, h, has_bias=True)
    r, z, n = gates(x, 3, ctx)
    if from_state is not None:
        if from_state.type.rank == 1:
            from_state = ctx.reshape(from_state, 1, *from_state.type.shape)
        hr, hz, hn = gates(from_state, 3, ctx)
        r, z = plus(ctx, r, hr), plus(ctx, z, hz)
        n = plus(ctx, n, ctx.add(Mul(ctx.add(Sigmoid(r)), hn)))
    new, update = ctx.add(Tanh(n)), ctx.add(Sigmoid(z))
    if h is None:
        return (ctx.add(Sub(new, ctx.add(Mul(update, new)))),)
    return (ctx.add(Add(new, ctx.add(Mul(update, ctx.add(Sub(h, new)))))),)


def rnn_cell(activation: Callable[[Value], Op]) -> Cell:
    """h' = activation(W x + W h + b)."""

    def cell(ctx: ImportContext, x: Value, weights: CellWeights, state: State) -> State:
        h = weights.from_state(ctx, state[0], has_bias=False)
        return (ctx.add(activation(plus(ctx, x, h))),)

    return cell


@imports("aten.lstm.input")
def lstm(
    ctx: ImportContext, x: Operand, hx: Sequence[Operand], params: Sequence[Operand],
    has_biases: bool, layers: int, dropout: float, train: bool, bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:  # fmt: skip
    """(outputs, last h, last c); h is a projection of the cell's output where proj_size is set."""
    check(dropout, train)
    per_direction = len(params) // (layers * (1 + bidirectional))
    is_projected = per_direction in (3, 5)
    split = [
        CellWeights(params[k : k + per_direction], has_biases, is_projected)
        for k in range(0, len(params), per_direction)
    ]
    return unrolled(ctx, x, hx, split, lstm_cell, bidirectional, batch_first, merges=True)


@imports("aten.gru.input")
def gru(
    ctx: ImportContext, x: Operand, hx: Operand, params: Sequence[Operand], has_biases: bool,
    layers: int, dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Value, ...]:  # fmt: skip
    """(outputs, last h)."""
    check(dropout, train)
    split = simple(params, has_biases)
    return unrolled(ctx, x, [hx], split, gru_cell, bidirectional, batch_first, merges=False)


def rnn(name: str, activation: Callable[[Value], Op]) -> None:
    """Declare the rule of nn.RNN with one activation: (outputs, last h)."""

    @imports(name)
    def rule(
        ctx: ImportContext, x: Operand, hx: Operand, params: Sequence[Operand], has_biases: bool,
        layers: int, dropout: float, train: bool, bidirectional: bool, batch_first: bool,
    ) -> tuple[Value, ...]:  # fmt: skip
        check(dropout, train)
        split, cell = simple(params, has_biases), rnn_cell(activation)
        return unrolled(ctx, x, [hx], split, cell, bidirectional, batch_first, merges=True)


rnn("aten.rnn_tanh.input", Tanh)
rnn("aten.rnn_relu.input", Relu)


def simple(params: Sequence[Operand], has_biases: bool) -> list[CellWeights]:
    each = 4 if has_biases else 2
    return [
        CellWeights(params[k : k + each], has_biases, is_projected=False)
        for k in range(0, len(params), each)
    ]


def check(dropout: float, train: bool) -> None:
    if train and dropout:
        raise Unsupported("a recurrent layer in training mode", "model.eval() is needed")


def unrolled(
    ctx: ImportContext, x: Operand, hx: Sequence[Operand], weights: Sequence[CellWeights],
    cell: Cell, bidirectional: bool, batch_first: bool, *, merges: bool,
) -> tuple[Value, ...]:  # fmt: skip
    """The outputs of the last layer over all steps, and each last state (layers, N, H).

    The inputs of all steps are projected at once; `merges`: with both biases.
    """
    y = ctx.value(x)
    y = y if batch_first else ctx.transpose(y, 1, 0, 2)
    steps = y.type.shape[1]
    if steps * len(weights) > MAX_STEPS:
        raise Unsupported(
            f"a recurrent layer of {steps} steps in {len(weights)} layers and directions",
            f"at most {MAX_STEPS} in all are needed",
        )
    directions = 1 + bidirectional
    last: list[State] = []
    for first in range(0, len(weights), directions):
        sides = []
        for side in range(directions):
            cell_weights = weights[first + side]
            start = tuple(initial(ctx, h, first + side) for h in hx)
            bias = cell_weights.merged_bias() if merges else cell_weights.input_bias
            projected = linear(ctx, y, cell_weights.of_input, bias)
            order = range(steps - 1, -1, -1) if side else range(steps)
            outputs, state = scanned(ctx, projected, cell_weights, cell, start, order)
            sides.append(outputs)
            last.append(state)
        y = sides[0] if len(sides) == 1 else ctx.add(Concat(tuple(sides), 2))
    y = y if batch_first else ctx.transpose(y, 1, 0, 2)
    return y, *(stacked(ctx, [s[k] for s in last], 0) for k in range(len(hx)))


def scanned(
    ctx: ImportContext, projected: Value, weights: CellWeights, cell: Cell, state: State,
    order: Sequence[int],
) -> tuple[Value, State]:  # fmt: skip
    """The outputs (N, T, H) of one layer in one direction, and its last state."""
    outputs: dict[int, Value | None] = {}
    n, _, width = projected.type.shape
    for step in order:
        row = ctx.reshape(cut(ctx, projected, 1, step, step + 1), n, width)
        state = cell(ctx, row, weights, state)
        outputs[step] = state[0]
    return stacked(ctx, [outputs[k] for k in sorted(outputs)], 1), state


def initial(ctx: ImportContext, h: Operand, index: int) -> Value | None:
    """The first state (N, H) of one layer in one direction; None where it is zeros."""
    if isinstance(h, torch.Tensor):
        return ctx.value(h[index]) if h[index].any() else None
    states = ctx.value(h)
    return ctx.reshape(cut(ctx, states, 0, index, index + 1), *states.type.shape[1:])


def stacked(ctx: ImportContext, parts: Sequence[Value | None], axis: int) -> Value:
    """Parts (N, H) along a new axis."""
    rows = []
    for part in parts:
        assert part is not None, "a step gives every state"
        shape = part.type.shape
        rows.append(ctx.reshape(part, *shape[:axis], 1, *shape[axis:]))
    return rows[0] if len(rows) == 1 else ctx.add(Concat(tuple(rows), axis))
