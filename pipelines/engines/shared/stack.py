"""The matrices of all adapters of a process, side by side along their ranks.

    ranks        0 … 7    8 … 23       24 … 31
    A of a layer adapter 1  adapter 2  nobody's, zeros

An adapter has the same ranks in every layer, also in those that it leaves as they are: zeros there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch

# Ranks that an adapter takes are a multiple of it: registers of a processor hold as many, and
# shapes change less often.
_AT_ONCE = 8


@dataclass(frozen=True)
class Matrices:
    """What an adapter adds to a layer: `x @ down.T @ up`, in the adapter's own precision."""

    # Of shape (rank, inputs).
    down: torch.Tensor
    # Of shape (rank, outputs), with the scale in it.
    up: torch.Tensor

    def up_to(self, ranks: int) -> "Matrices":
        """Those of the first ranks."""
        return Matrices(self.down[:ranks], self.up[:ranks])

    def clear(self, span: range) -> None:
        """Overwrite some ranks with zeros, as far as they are there."""
        self.down[span.start : span.stop] = 0
        self.up[span.start : span.stop] = 0

    def put(self, other: "Matrices", start: int) -> None:
        """Copy those of fewer ranks to the ranks from `start` on."""
        end = start + len(other.down)
        self.down[start:end] = other.down
        self.up[start:end] = other.up


Adapter = Mapping[str, Matrices]
"""By the name of the layer in the base."""


@dataclass(frozen=True)
class Layer:
    """Sizes of a layer that adapters may change."""

    inputs: int
    outputs: int


@dataclass(frozen=True)
class Stack:
    """All adapters at one time. Another one is made where something comes or goes."""

    layers: Mapping[str, Layer]
    device: str
    # The ranks of each adapter.
    spans: Mapping[int, range] = field(default_factory=dict)
    matrices: Mapping[str, Matrices] = field(default_factory=dict)

    @classmethod
    def empty(cls, layers: Mapping[str, Layer], device: str) -> Self:
        """One without an adapter."""
        made = cls(layers, device)
        return replace(made, matrices=made.zeros())

    @property
    def ranks(self) -> int:
        """How many ranks there are, nobody's among them; also those of no adapter."""
        ends = [span.stop for span in self.spans.values()]
        return max(ends, default=_AT_ONCE)

    def span_of(self, number: int) -> range:
        """The ranks of an adapter; `ValueError` where it is not there."""
        span = self.spans.get(number)
        if span is None:
            raise ValueError(f"adapter {number} is not there")
        return span

    def with_adapter(self, number: int, adapter: Adapter) -> Self:
        """The same and one more, whose ranks are nobody's so far."""
        ranks = [len(matrices.down) for matrices in adapter.values()]
        span = self._free_span(_round_up(max(ranks)))
        made = self._with_spans({**self.spans, number: span})
        for name, matrices in adapter.items():
            made.matrices[name].put(matrices, span.start)
        return made

    def without(self, number: int) -> Self:
        """The same without one of them. The others keep their ranks."""
        spans = {key: span for key, span in self.spans.items() if key != number}
        made = self._with_spans(spans)
        span = self.spans[number]
        for matrices in made.matrices.values():
            matrices.clear(span)
        return made

    def zeros(self) -> dict[str, Matrices]:
        """Matrices of all its ranks, by the layer's name, with nothing in them."""
        ranks = self.ranks
        matrices = {}
        for name, layer in self.layers.items():
            down = torch.zeros(ranks, layer.inputs, device=self.device)
            up = torch.zeros(ranks, layer.outputs, device=self.device)
            matrices[name] = Matrices(down, up)
        return matrices

    def _free_span(self, size: int) -> range:
        """The first ranks in a row that are nobody's."""
        start = 0
        for span in sorted(self.spans.values(), key=lambda span: span.start):
            if span.start - start >= size:
                break
            start = span.stop
        return range(start, start + size)

    def _with_spans(self, spans: Mapping[int, range]) -> Self:
        """Copies of the matrices, with as many ranks as these adapters need."""
        made = replace(self, spans=spans)
        made = replace(made, matrices=made.zeros())
        for name, matrices in self.matrices.items():
            made.matrices[name].put(matrices.up_to(made.ranks), 0)
        return made


def _round_up(rank: int) -> int:
    blocks = -(-rank // _AT_ONCE)
    return blocks * _AT_ONCE
