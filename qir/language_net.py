"""LanguageNet: a compiled language model, which reads prompts and writes tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qir.ir.errors import DataError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.net import Net, translated
from qir.report.model import Report
from qir.runtime import Program
from qir.runtime.format import show

DECODE, PREFILL, LOGITS, SKIP = "decode", "prefill", "logits", "skip"
"""The entries: of a token; of a chunk, with the logits of one of its tokens; with those of all; of
a token that leaves out layers.
"""

Reader = Callable[[Array, "Sequence"], Array]

FEW = 16  # a chunk with fewer tokens than its length over this is read token by token


@dataclass
class Sequence:
    """What a language model has read so far: `memory`, the bytes of its caches, of `length` tokens.

    A model changes it as it reads; `copy` keeps one to go on from twice.
    """

    memory: Array
    length: int = 0

    def copy(self) -> Sequence:
        aligned = np.zeros(len(self.memory) + 128, np.uint8)
        start = -aligned.ctypes.data % 128
        memory = aligned[start : start + len(self.memory)]
        memory[:] = self.memory
        return replace(self, memory=memory)


def is_language(program: Program) -> bool:
    """Whether an artifact has the entries of a language model: ids (1, N), a start, and in prefill
    which token is the last come in, logits (1, N, V) or (1, 1, V) go out.
    """
    shapes_of = {s.name: [p.shape for p in (*s.inputs, *s.outputs)] for s in program.signatures}
    if set(shapes_of) - {SKIP} != {DECODE, PREFILL, LOGITS}:
        return False
    chunk, vocabulary = shapes_of[LOGITS][0], shapes_of[LOGITS][-1][2:]
    one = [(1, 1), (), (1, 1, *vocabulary)]
    expected = {
        PREFILL: [chunk, (), (), (1, 1, *vocabulary)],
        LOGITS: [chunk, (), (*chunk, *vocabulary)],
    }
    are_limited = all(len(s.limits) == len(s.inputs) for s in program.signatures)
    fit = all(shapes == expected.get(name, one) for name, shapes in shapes_of.items())
    return fit and len(chunk) == 2 and len(vocabulary) == 1 and are_limited


class LanguageNet(Net):
    """An integer-only language model. Keys and values of tokens that were read are kept in a cache
    of `max_tokens`, so that each token is computed once.

    A prompt is read in chunks of `chunk` tokens, then token by token. Every method may be called
    from several threads at once, with different sequences.
    """

    def __init__(
        self,
        session: Program,
        stages: Mapping[str, Graph],
        report: Report,
        entries: Mapping[str, Graph] | None = None,
    ) -> None:
        super().__init__(session, stages, report, entries)
        decode, prefill = session.signature(DECODE), session.signature(PREFILL)
        ids, start = decode.limits
        self.vocabulary = ids.high + 1
        self.max_tokens = start.high + 1
        self.chunk: int = prefill.inputs[0].shape[1]
        self._dtypes = [port.dtype for port in decode.inputs]

    def new_sequence(self) -> Sequence:
        """An empty one, to be read into."""
        with translated():
            return Sequence(self.session.new_state())

    def prefill(self, ids: npt.ArrayLike, sequence: Sequence) -> Array:
        """Read tokens, one after the other; the logits (V,) of what follows the last.

        Errors: DataError for no token, what is no id, or more tokens than there is room for; the
        sequence is as it was.
        """
        tokens = self._checked(ids, sequence)
        *_, logits = self._logits_of(tokens, sequence, self._last)
        return np.asarray(logits[-1])

    def decode(self, id: int, sequence: Sequence) -> Array:
        """Read one token; the logits (V,) of what follows. Of a model that leaves out layers for
        single tokens (DecodeSkip), without these; prefill reads a token with all of them.

        Errors: DataError, as of prefill.
        """
        tokens = self._checked([id], sequence)
        entry = SKIP if SKIP in self.session.entries else DECODE
        return np.asarray(self._call(entry, tokens[None], 1, sequence)[-1])

    def logits(self, ids: npt.ArrayLike) -> Array:
        """(N, V): what follows each of N tokens, which are read into an empty sequence.

        Errors: DataError, as of prefill.
        """
        sequence = self.new_sequence()
        tokens = self._checked(ids, sequence)
        return np.concatenate(list(self._logits_of(tokens, sequence, self._every)))

    def generate(
        self,
        ids: npt.ArrayLike,
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        top_k: int = 0,
        seed: int = 0,
        stop: Collection[int] = (),
        sequence: Sequence | None = None,
    ) -> Iterator[int]:
        """The tokens that follow a prompt, one by one as they are computed.

        temperature: 0 takes the likeliest; above, tokens are drawn, as likely as the logits over it
                     say, of the `top_k` likeliest (0: of all), with the generator of `seed`.
        stop:        tokens that end it; they are not given.
        sequence:    what was read before, to which the prompt and the tokens given are added (but
                     the last one, which nothing has followed yet).
        Errors: DataError for arguments out of range, or more tokens than there is room for.
        """
        _check_sampling(max_new_tokens, temperature, top_k)
        state = self.new_sequence() if sequence is None else sequence
        tokens = self._checked(ids, state, max(max_new_tokens - 1, 0))
        ends = frozenset(stop)
        draw = Sampler(temperature, top_k, np.random.default_rng(seed))
        return self._generated(tokens, max_new_tokens, draw, ends, state)

    def _generated(
        self, tokens: Array, count: int, draw: Sampler, ends: frozenset[int], sequence: Sequence
    ) -> Iterator[int]:
        token = 0
        for i in range(count):
            logits = self.decode(token, sequence) if i else self.prefill(tokens, sequence)
            token = draw(logits)
            if token in ends:
                return
            yield token

    def _checked(self, ids: npt.ArrayLike, sequence: Sequence, more: int = 0) -> Array:
        """The tokens, if there is room for them and `more`. Errors: DataError."""
        a = np.asarray(ids.detach().cpu() if hasattr(ids, "detach") else ids)
        if not isinstance(sequence, Sequence):
            raise DataError(
                f"net {self.name}: sequence is a {type(sequence).__name__}, a Sequence is needed",
                "new_sequence() gives an empty one",
            )
        if a.size == 0:
            raise DataError(f"net {self.name}: 0 tokens, at least 1 is needed")
        if a.dtype.kind not in "iu" or a.ndim > 2 or (a.ndim == 2 and len(a) != 1):
            raise DataError(
                f"net {self.name}: {a.dtype}{list(a.shape)} given, integer ids of one sequence are"
                " needed",
                "a tokenizer gives ids; several prompts take one call each",
            )
        if int(a.min()) < 0 or int(a.max()) >= self.vocabulary:
            raise DataError(
                f"net {self.name}: ids reach [{a.min()}, {a.max()}], [0, {self.vocabulary - 1}] is"
                " needed",
                "the tokenizer is to be the model's own",
            )
        length = sequence.length + a.size + more
        if length > self.max_tokens:
            raise DataError(
                f"net {self.name}: {length} tokens in all, at most {self.max_tokens} have room",
                "compile_lm(..., max_tokens=...) makes room for more",
            )
        return a.reshape(-1).astype(self._dtypes[0])

    def _logits_of(self, ids: Array, sequence: Sequence, chunk: Reader) -> Iterator[Array]:
        """The logits of the tokens, in parts: of a chunk those that its reader gives."""
        at, rest = 0, len(ids)
        while rest:
            count = min(rest, self.chunk)
            has_room = sequence.length + self.chunk <= self.max_tokens
            if has_room and count * FEW > self.chunk and count > 1:
                yield chunk(ids[at : at + count], sequence)
            else:
                count = 1
                yield self._one(ids[at : at + 1], sequence)
            at, rest = at + count, rest - count

    def _last(self, ids: Array, sequence: Sequence) -> Array:
        """(1, V): of the last token of a chunk."""
        last = np.array(len(ids) - 1, self._dtypes[1])
        return self._call(PREFILL, self._padded(ids), len(ids), sequence, last)

    def _every(self, ids: Array, sequence: Sequence) -> Array:
        """(n, V): of every token of a chunk."""
        return self._call(LOGITS, self._padded(ids), len(ids), sequence)[: len(ids)]

    def _one(self, ids: Array, sequence: Sequence) -> Array:
        return self._call(DECODE, ids[None], 1, sequence)

    def _padded(self, ids: Array) -> Array:
        """A whole chunk. Rows behind those of `ids` are written, and never seen: the next tokens
        take their place.
        """
        padded = np.zeros((1, self.chunk), self._dtypes[0])
        padded[0, : len(ids)] = ids
        return padded

    def _call(self, entry: str, ids: Array, count: int, sequence: Sequence, *more: Array) -> Array:
        start = np.array(sequence.length, self._dtypes[1])
        with translated():
            logits = self.session.entries[entry](sequence.memory, ids, start, *more)
        sequence.length += count
        return np.asarray(logits[0])


@dataclass(frozen=True)
class Sampler:
    """Takes the likeliest token, or draws one."""

    temperature: float
    top_k: int
    rng: np.random.Generator

    def __call__(self, logits: Array) -> int:
        if self.temperature == 0:
            return int(logits.argmax())
        order = np.argsort(-logits, kind="stable")[: self.top_k or len(logits)]
        scaled = logits[order].astype(np.float64) / self.temperature
        weights = np.exp(scaled - scaled.max())
        return int(self.rng.choice(order, p=weights / weights.sum()))


def _check_sampling(max_new_tokens: int, temperature: float, top_k: int) -> None:
    """Errors: DataError for a number out of range."""
    counts = {"max_new_tokens": max_new_tokens, "top_k": top_k}
    for name, value in counts.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
            raise DataError(f"{name}: {show(value)}, an integer from 0 is needed")
    if not isinstance(temperature, (int, float)) or not 0 <= temperature < float("inf"):
        raise DataError(f"temperature: {show(temperature)}, a number from 0 is needed")
