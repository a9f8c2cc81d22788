"""Bits, the choices of each layer with their costs, and files of bits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qir.ir.errors import ParseError, PassError, listed
from qir.ir.text.file import write_whole

WIDEST = 32
BLOCK_FLOATING = {"bfp4": 4, "bfp6": 6, "bfp8": 8}  # mantissa bits; exponents for each 32 weights
SIZE = "[1-9][0-9]{0,3}"  # of a group, of a block
FORM = re.compile(rf"w([1-9][0-9]?)(?:([gb])({SIZE}))?a([1-9][0-9]?)(?:b({SIZE}))?")
HEAD = "# layer = w<bits of the weights>a<bits of the activations>; may be edited and passed back"


@dataclass(frozen=True, order=True)
class Bits:
    """The width of a layer's weights and of the activations it reads; written w4a8.

    group: input channels that share a scale, 0 for all of an output channel; written w4g32a8.
    floating: these scales are powers of two, weights are block floating point; written w4b32a8.
    block: input channels whose activations share an exponent under the scale of a row, 0 for all;
           written w8a8b32.
    """

    weight: int
    activation: int
    group: int = 0
    floating: bool = False
    block: int = 0

    def __post_init__(self) -> None:
        are_widths = 1 <= self.weight <= WIDEST and 1 <= self.activation <= WIDEST
        if not are_widths or min(self.group, self.block) < 0:
            raise PassError(f"bits {self}: not a pair of widths, 1 to {WIDEST} each are needed")
        if self.floating and not self.group:
            raise PassError(f"bits {self}: floating without blocks, a group of 1 or more is needed")

    def __str__(self) -> str:
        group = f"{'b' if self.floating else 'g'}{self.group}" if self.group else ""
        block = f"b{self.block}" if self.block else ""
        return f"w{self.weight}{group}a{self.activation}{block}"

    @classmethod
    def parse(cls, text: str) -> Bits:
        """The bits that a text like w4a8 names; bfp4 is w4b32a8.

        Errors: ParseError if it is none.
        """
        if text in BLOCK_FLOATING:
            return cls(BLOCK_FLOATING[text], 8, 32, floating=True)
        match = FORM.fullmatch(text)
        if match is None or max(int(match[1]), int(match[4])) > WIDEST:
            raise ParseError(f'bits "{text}": not a pair of widths, a text like w4a8 is needed')
        group, block = int(match[3] or 0), int(match[5] or 0)
        return cls(int(match[1]), int(match[4]), group, match[2] == "b", block)


@dataclass(frozen=True)
class Choice:
    """One way to store a layer: its loss, and its cost in each resource.

    Losses of different layers must be additive: only their sum is ever looked at.
    """

    bits: Bits
    loss: float
    costs: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LayerChoices:
    """A layer and the bits it may have."""

    name: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise PassError(f"layer {self.name!r}: not a name, printable characters are needed")
        if not self.choices:
            raise PassError(f"layer {self.name}: no choice of bits, at least one is needed")
        widths = [choice.bits for choice in self.choices]
        for choice in self.choices:
            if widths.count(choice.bits) > 1:
                raise PassError(f"layer {self.name}: {choice.bits} is given twice, once is needed")
            for quantity, value in (("loss", choice.loss), *choice.costs.items()):
                if not math.isfinite(value):
                    raise PassError(
                        f"layer {self.name}: {quantity} of {choice.bits} is {value}, "
                        f"a finite number is needed"
                    )

    @property
    def widths(self) -> tuple[Bits, ...]:
        return tuple(choice.bits for choice in self.choices)

    def choice(self, bits: Bits) -> Choice:
        """The choice with these bits.

        Errors: PassError if there is none.
        """
        for choice in self.choices:
            if choice.bits == bits:
                return choice
        raise PassError(f"layer {self.name}: {none_of(bits, self)}")


@dataclass(frozen=True)
class Assignment:
    """The bits of every layer, the sum of their losses, and of each resource that all of them use.

    Sums are rounded once (math.fsum), so they do not depend on the order of the layers.
    """

    bits: Mapping[str, Bits]
    loss: float
    costs: Mapping[str, float]


def none_of(bits: Bits, layer: LayerChoices) -> str:
    return f"{bits} is none of its choices, {' or '.join(map(str, layer.widths))} is needed"


def by_name(layers: Iterable[LayerChoices]) -> dict[str, LayerChoices]:
    """The layers by their names.

    Errors: PassError if there is none, or if two have one name.
    """
    by_layer: dict[str, LayerChoices] = {}
    for layer in layers:
        if layer.name in by_layer:
            raise PassError(f"layer {layer.name}: given twice, names of their own are needed")
        by_layer[layer.name] = layer
    if not by_layer:
        raise PassError("layers: none given, at least one is needed")
    return by_layer


def evaluate(layers: Sequence[LayerChoices], bits: Mapping[str, Bits]) -> Assignment:
    """The loss and the costs of any assignment of bits.

    Errors: PassError for a layer without bits, bits without a layer, and bits a layer cannot have.
    """
    choices = by_name(layers)
    faults = [f"{name}: no bits given" for name in choices if name not in bits]
    faults += [f"{name}: not a layer" for name in bits if name not in choices]
    faults += [
        f"{name}: {none_of(width, choices[name])}"
        for name, width in bits.items()
        if name in choices and width not in choices[name].widths
    ]
    if faults:
        raise PassError(
            listed(f"bits: {len(faults)} faults, one choice for each layer is needed", faults)
        )
    picks = [layer.choice(bits[name]) for name, layer in choices.items()]
    shared = [name for name in picks[0].costs if all(name in one.costs for one in picks)]
    return Assignment(
        {name: bits[name] for name in choices},
        math.fsum(one.loss for one in picks),
        {name: math.fsum(one.costs[name] for one in picks) for name in shared},
    )


def bits_text(bits: Mapping[str, Bits]) -> str:
    """One line a layer, `name = "w4a8"`, the names quoted where TOML asks for it."""
    lines = [f'{_key(name)} = "{width}"' for name, width in bits.items()]
    return "\n".join([HEAD, *lines]) + "\n"


def _key(name: str) -> str:
    bare = re.fullmatch(r"[A-Za-z0-9_-]+", name)
    return name if bare else json.dumps(name, ensure_ascii=False)


LINE = re.compile(
    r"""\s* (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<bare>[^\s"=\#]+) )
        \s* = \s* "(?P<bits>[^"]*)" \s* (?:\#.*)?""",
    re.VERBOSE,
)


def parse_bits(text: str, layers: Iterable[LayerChoices] | None, where: str) -> dict[str, Bits]:
    """The bits that a text names: of all layers or of some, which may then be the fixed ones.
    Without `layers` any names and bits will do.

    Errors: ParseError that lists each line that is no assignment, names no layer or one that was
    named before, or names bits that are none of the layer's choices.
    """
    by_layer = None if layers is None else by_name(layers)
    bits_of, faults = dict[str, Bits](), list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, bits = _parse_line(line, by_layer)
            if name in bits_of:
                raise ParseError(f"layer {name}: given twice, one line is needed")
            bits_of[name] = bits
        except ParseError as e:
            faults.append(f"line {number}: {e.text}")
    if faults:
        raise ParseError(listed(f"{where}: {len(faults)} faults, none is needed", faults))
    return bits_of


def _parse_line(line: str, by_layer: Mapping[str, LayerChoices] | None) -> tuple[str, Bits]:
    parts = LINE.fullmatch(line)
    try:
        name = parts and (parts["bare"] or json.loads(f'"{parts["quoted"]}"'))
    except json.JSONDecodeError:
        name = None
    if parts is None or name is None:
        raise ParseError(f'{line.strip()[:60]}: not an assignment, layer = "w4a8" is needed')
    if by_layer is not None and name not in by_layer:
        raise ParseError(f"layer {name}: not in the network, one of its layers is needed")
    bits = Bits.parse(parts["bits"])
    if by_layer is not None and bits not in by_layer[name].widths:
        raise ParseError(f"layer {name}: {none_of(bits, by_layer[name])}")
    return name, bits


def save_bits(bits: Mapping[str, Bits], path: str | Path) -> None:
    """Write the bits of each layer as editable text, completely or not at all."""
    write_whole(Path(path), bits_text(bits).encode())


def load_bits(path: str | Path, layers: Iterable[LayerChoices] | None = None) -> dict[str, Bits]:
    """Read a file of bits, written by save_bits or edited by hand.

    Errors: ParseError as in parse_bits, or if the file is not there or not text.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ParseError(f"{path}: cannot be read ({e}), a text file is needed") from e
    return parse_bits(text, layers, str(path))
