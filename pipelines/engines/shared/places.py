"""Places for adapters in the linear layers of a base, and which of them a forward uses.

A row takes the ranks of its own adapter, by choice and not by a product: an infinity of another
adapter times zero would be no number.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipelines.engines.shared.stack import Layer, Matrices, Stack


@dataclass(frozen=True)
class Aim:
    """What a forward uses: some ranks of a stack, and which row takes which of them."""

    matrices: Mapping[str, Matrices]
    # None: all of them.
    ranks: slice | None
    # Of shape (rows, 1 or tokens, ranks); None where all rows take all of them.
    keep: torch.Tensor | None


class Places:
    """The layers of a base that adapters may change."""

    def __init__(self, model: Any, names: Iterable[str]) -> None:
        """Put places into a model. Names are those of its modules."""
        self._aim: Aim | None = None
        self._device = str(model.device)
        layers = {}
        for name in sorted(names):
            inner = model.get_submodule(name)
            model.set_submodule(name, _Place(inner, name, self))
            layers[name] = _sizes(inner)
        self._stack = Stack.empty(layers, self._device)

    @property
    def stack(self) -> Stack:
        """What the next forward uses; exchanged as a whole, between two of them."""
        return self._stack

    @stack.setter
    def stack(self, stack: Stack) -> None:
        self._stack = stack
        # So that the memory of the one before can be given back.
        self._aim = None

    def aim(self, adapters: Sequence[int | None]) -> None:
        """Have the next forward compute each row by its adapter; None is the base alone.

        `ValueError` where an adapter is not there.
        """
        stack = self.stack
        spans = []
        for adapter in adapters:
            span = None if adapter is None else stack.span_of(adapter)
            spans.append(span)
        used = [span for span in spans if span is not None]
        if not used:
            self._aim = None
            return
        start = min(span.start for span in used)
        stop = max(span.stop for span in used)
        keep = None
        if len(set(adapters)) > 1:
            keep = self._keep(spans, start, stop)
        self._aim = Aim(stack.matrices, slice(start, stop), keep)

    def record(self, matrices: Mapping[str, Matrices], keep: torch.Tensor) -> None:
        """Have the next forward use these, which a graph has as its inputs."""
        self._aim = Aim(matrices, None, keep)

    def chosen(self, name: str) -> tuple[Matrices, torch.Tensor | None] | None:
        """What the present forward adds to a layer; None: nothing."""
        aim = self._aim
        if aim is None:
            return None
        whole = aim.matrices[name]
        if aim.ranks is None:
            return whole, aim.keep
        part = Matrices(whole.down[aim.ranks], whole.up[aim.ranks])
        return part, aim.keep

    def _keep(
        self, spans: Sequence[range | None], start: int, stop: int
    ) -> torch.Tensor:
        size = len(spans), 1, stop - start
        keep = torch.zeros(size, dtype=torch.bool)
        for row, span in enumerate(spans):
            if span is not None:
                keep[row, :, span.start - start : span.stop - start] = True
        return keep.to(self._device)


class _Place(torch.nn.Module):
    """A linear layer, and what adapters add to it."""

    def __init__(self, inner: Any, name: str, places: Places) -> None:
        super().__init__()
        self.inner = inner
        self._name = name
        self._places = places

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's own output, and for each row what its adapter adds."""
        result: torch.Tensor = self.inner(x)
        chosen = self._places.chosen(self._name)
        if chosen is None:
            return result
        matrices, keep = chosen
        # As peft does: in the precision of the adapter.
        own = torch.nn.functional.linear(x.to(matrices.down.dtype), matrices.down)
        if keep is not None:
            own = _keep_own(own, keep)
        return (result + own @ matrices.up).to(result.dtype)


def _keep_own(added: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """What is added to each row, without the ranks of other rows' adapters."""
    by_row = added
    if added.ndim == 2:
        # Some layers see all tokens of the batch in a line, those of a row side by side.
        # Sizes by `shape`: a recorded graph has other ones in each forward.
        by_row = added.reshape(keep.shape[0], -1, keep.shape[2])
    if by_row.ndim != keep.ndim or len(by_row) != len(keep):
        raise ValueError("a layer mixes the rows of a batch")
    return torch.where(keep, by_row, 0.0).reshape(added.shape)


def _sizes(inner: Any) -> Layer:
    """Of a linear layer, or of transformers' own kind that keeps its matrix turned."""
    if isinstance(inner, torch.nn.Linear):
        return Layer(inner.in_features, inner.out_features)
    inputs, outputs = inner.weight.shape
    return Layer(inputs, outputs)
