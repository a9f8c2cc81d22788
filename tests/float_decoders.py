"""Float graphs of decoders in the canonical form: of a zoo's weights, or of random ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Add, Attention, Constant, Linear, Mul, RmsNorm, Rope, Silu, Take
from qir.ir.types import I32, Array, Tensor


@dataclass(frozen=True)
class Decoder:
    """The weights of a LLaMA: `layers` map q, k, v, o, gate, up, down, norm1, norm2 to arrays; a
    `head` that is the embedding itself is tied to it.
    """

    name: str
    heads: int
    kv_heads: int
    embedding: Array
    norm: Array
    head: Array
    layers: Sequence[Mapping[str, Array]] = field(default_factory=list)
    epsilon: float = 1e-5
    theta: float = 1e4

    @property
    def size(self) -> int:
        """Channels of a head."""
        return self.embedding.shape[1] // self.heads


def random_decoder(
    heads: int = 4, kv_heads: int = 2, size: int = 8, layers: int = 2, tokens: int = 40,
    is_tied: bool = True, seed: int = 0,
) -> Decoder:  # fmt: skip
    """Weights of the sizes that training leaves, with channels of unlike sizes in the stream."""
    rng = np.random.default_rng(seed)
    width, hidden = heads * size, 3 * heads * size
    shapes = {
        "q": (width, width), "k": (kv_heads * size, width), "v": (kv_heads * size, width),
        "o": (width, width), "gate": (hidden, width), "up": (hidden, width),
        "down": (width, hidden),
    }  # fmt: skip

    def drawn(shape: tuple[int, ...]) -> Array:
        return (rng.standard_normal(shape) / math.sqrt(shape[-1])).astype(np.float32)

    def gains() -> Array:
        return rng.uniform(0.5, 1.5, width).astype(np.float32)

    items = [
        {name: drawn(shape) for name, shape in shapes.items()}
        | {"norm1": gains(), "norm2": gains()}
        for _ in range(layers)
    ]
    embedding = rng.standard_normal((tokens, width)).astype(np.float32)
    embedding[:, 0] *= 4
    head = embedding if is_tied else drawn((tokens, width)) * 3
    return Decoder("decoder", heads, kv_heads, embedding, gains(), head, items)


def rotations(decoder: Decoder, count: int) -> tuple[Array, Array]:
    """(cos, sin) of the first `count` positions: (count, size / 2)."""
    size = decoder.size
    angles = np.outer(np.arange(count), decoder.theta ** (-np.arange(0, size, 2) / size))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def float_graph(decoder: Decoder, batch: int, count: int) -> Graph:
    """The logits of `batch` rows of `count` tokens, as a canonical graph."""
    b = Builder(decoder.name, "canonical")
    tokens = b.input("tokens", Tensor((batch, count), I32))
    constants: dict[int, Value] = {}

    def constant(array: Array, name: str) -> Value:
        if id(array) not in constants:
            constants[id(array)] = b.add(Constant.of(np.asarray(array, np.float32)), name)
        return constants[id(array)]

    cos, sin = (constant(t, n) for t, n in zip(rotations(decoder, count), "cs", strict=True))
    x = b.add(Take(constant(decoder.embedding, "embedding"), tokens), "x")
    for i, layer in enumerate(decoder.layers):

        def linear(
            y: Value, name: str, at: str = f"layer{i}", w: Mapping[str, Array] = layer
        ) -> Value:
            return b.add(Linear(y, constant(w[name], f"{at}_{name}_w"), None), f"{at}_{name}")

        normed = b.add(RmsNorm(x, constant(layer["norm1"], f"gain{i}"), decoder.epsilon))
        q, k, v = (linear(normed, name) for name in "qkv")
        q, k = (b.add(Rope(y, cos, sin, decoder.size, False)) for y in (q, k))
        scale = 1 / math.sqrt(decoder.size)
        heads = Attention(
            q, k, v, None, None, None, decoder.heads, decoder.kv_heads, scale, True, 0
        )
        x = b.add(Add(x, linear(b.add(heads), "o")), f"middle{i}")
        normed = b.add(RmsNorm(x, constant(layer["norm2"], f"gain{i}_mlp"), decoder.epsilon))
        gated = b.add(Mul(b.add(Silu(linear(normed, "gate"))), linear(normed, "up")))
        x = b.add(Add(x, linear(gated, "down")), f"end{i}")
    normed = b.add(RmsNorm(x, constant(decoder.norm, "gain"), decoder.epsilon))
    logits = b.add(Linear(normed, constant(decoder.head, "head"), None), "logits")
    return b.finish([logits])


def nats(logits: Array, tokens: Array) -> float:
    """The mean negative log likelihood of each token given those before it."""
    wide = logits[:, :-1].astype(np.float64)
    wide = wide - wide.max(-1, keepdims=True)
    logs = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return float(-np.take_along_axis(logs, tokens[:, 1:, None].astype(np.int64), -1).mean())
