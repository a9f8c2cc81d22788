"""The plots of mixed precision on a page: bits and sensitivity of each layer, and the front."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from qir.report.chosen_bits import ChosenBits, LayerBits

WIDTH, HEIGHT = 1100.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 56.0, 22.0, 36.0
BAR = 0.7  # of a layer's place
LEVELS = (2, 4, 6, 8)  # lines at these bits


def bits_plot(assignment: ChosenBits) -> str:
    """A bar for the weights' bits of each layer, in order; dots for the loss that the narrowest
    choice brings, on a scale of powers of ten."""
    count = max(len(assignment.layers), 1)
    step = (WIDTH - LEFT - RIGHT) / count
    losses = [max((m.value for m in layer.losses), default=0.0) for layer in assignment.layers]
    scale = _Log(losses)
    marks = (
        _layer(layer, LEFT + i * step, step, scale.y(loss), loss)
        for i, (layer, loss) in enumerate(zip(assignment.layers, losses, strict=True))
    )
    return _svg("Bits and sensitivity of each layer", [*_levels(), *scale.ticks(), *marks])


class _Log:
    """Heights of positive numbers, a line for each power of ten."""

    def __init__(self, numbers: Sequence[float]) -> None:
        powers = [math.log10(n) for n in numbers if n > 0] or [0.0]
        self.low, self.high = math.floor(min(powers)), math.ceil(max(powers) + 1e-9)
        self.high = max(self.high, self.low + 1)

    def y(self, number: float) -> float:
        power = math.log10(number) if number > 0 else self.low
        share = (min(max(power, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def ticks(self) -> Iterator[str]:
        every = max(1, (self.high - self.low) // 6)
        for power in range(self.low, self.high + 1, every):
            y = self.y(10.0**power)
            yield f'<text class="tick" x="{WIDTH - RIGHT + 8}" y="{y + 4:.1f}">1e{power}</text>'
        yield f'<text class="tick right" x="{WIDTH - 4}" y="{TOP - 9}">loss</text>'


def _levels() -> Iterator[str]:
    for bits in LEVELS:
        y = _height(bits)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick right" x="{LEFT - 7}" y="{y + 4:.1f}">{bits}</text>'
    yield f'<text class="tick" x="4" y="{TOP - 9}">bits of the weights</text>'


def _height(bits: float) -> float:
    return HEIGHT - BOTTOM - bits / LEVELS[-1] * (HEIGHT - TOP - BOTTOM)


def _layer(layer: LayerBits, x: float, step: float, dot: float, loss: float) -> str:
    y = _height(min(layer.weight_bits, LEVELS[-1]))
    tip = f"{layer.layer}\n{layer.bits}, {layer.parameters:,} weights, loss {loss:.3g} at most"
    width = step * BAR
    return (
        f'<g class="layer"><title>{escape(tip)}</title>'
        f'<rect x="{x + (step - width) / 2:.1f}" y="{y:.1f}" width="{width:.1f}"'
        f' height="{HEIGHT - BOTTOM - y:.1f}"/>'
        f'<circle cx="{x + step / 2:.1f}" cy="{dot:.1f}" r="3.5"/></g>'
    )


def front_plot(assignment: ChosenBits) -> str:
    """The loss of the best assignments against what they use of the swept resource; the chosen one
    is marked."""
    usage = {m.of: m.value for m in assignment.used}.get(assignment.swept)
    points = [(p.cost, p.loss) for p in assignment.front]
    current = [] if usage is None else [(usage, assignment.loss)]
    costs = [cost for cost, _ in points + current] or [0.0]
    low, high = min(costs), max(costs)
    scale = _Log([loss for _, loss in points + current])

    def place(cost: float, loss: float) -> tuple[float, float]:
        share = (cost - low) / (high - low) if high > low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT), scale.y(loss)

    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in points))
    parts = [*scale.ticks(), f'<polyline class="front" points="{path}"/>']
    parts += [_point(*place(*p), p, assignment.swept, "front") for p in points]
    parts += [_point(*place(*p), p, assignment.swept, "own") for p in current]
    for cost, anchor in ((low, ""), (high, " right")):
        x = place(cost, 1.0)[0]
        text = f"{cost:,.0f} {assignment.swept}"
        parts.append(f'<text class="tick{anchor}" x="{x:.1f}" y="{HEIGHT - 12}">{text}</text>')
    return _svg("The front of loss and cost", parts)


def _point(x: float, y: float, at: tuple[float, float], swept: str, style: str) -> str:
    tip = f"{swept} {at[0]:,.0f}, loss {at[1]:.4g}"
    return (
        f'<g class="{style}"><title>{escape(tip)}</title>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6 if style == "own" else 4}"/></g>'
    )


def _svg(label: str, parts: Sequence[str]) -> str:
    return (
        f'<div class="wide"><svg class="plot" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img"'
        f' aria-label="{label}">{"".join(parts)}</svg></div>'
    )
