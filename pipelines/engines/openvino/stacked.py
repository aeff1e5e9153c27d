"""A compiled model whose adapters are inputs: another stack of them compiles nothing.

keep                 which ranks a token takes: its row's own adapter's
down.<layer>         the matrices of all adapters side by side, as `shared.stack` has them
up.<layer>
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from pipelines.engines.openvino.paged import Buffers, PagedModel, PagedSlots
from pipelines.engines.openvino.trace import AdapterInput
from pipelines.engines.row_model import Part
from pipelines.engines.shared.places import Places
from pipelines.engines.shared.stack import Matrices, Stack

_KEEP, _DOWN, _UP = "keep", "down.", "up."
# Of the example that is recorded; like no other size of it.
_ROWS, _TOKENS, _RANKS = 2, 3, 7


class StackInputs:
    """Has a model with places take what they hold from the graph's inputs."""

    def __init__(self, places: Places) -> None:
        self._places = places
        keep = torch.ones(_ROWS, _TOKENS, _RANKS, dtype=torch.bool)
        inputs = [AdapterInput(_KEEP, keep, (-1, -1, -1))]
        for name, layer in places.stack.layers.items():
            down = torch.zeros(_RANKS, layer.inputs)
            up = torch.zeros(_RANKS, layer.outputs)
            inputs += [
                AdapterInput(f"{_DOWN}{name}", down, (-1, layer.inputs)),
                AdapterInput(f"{_UP}{name}", up, (-1, layer.outputs)),
            ]
        self.inputs: Sequence[AdapterInput] = inputs

    def use(self, tensors: Sequence[torch.Tensor]) -> None:
        """Have the next forward of the model compute with these."""
        keep, *pairs = tensors
        matrices = {}
        names = self._places.stack.layers
        for name, down, up in zip(names, pairs[::2], pairs[1::2], strict=True):
            matrices[name] = Matrices(down, up)
        self._places.record(matrices, keep)

    def restore(self) -> None:
        """Have the model compute the base alone."""
        self._places.aim([None])


class StackedModel:
    """Forwards of a compiled model, each row by its own adapter or by the base alone."""

    mixes_lengths = True

    def __init__(self, paged: PagedModel, stack: Stack) -> None:
        self._paged = paged
        self.stack = stack

    @property
    def stack(self) -> Stack:
        """What the next forward uses."""
        return self._stack

    @stack.setter
    def stack(self, stack: Stack) -> None:
        inputs: Buffers = {}
        for name, matrices in stack.matrices.items():
            inputs[f"{_DOWN}{name}"] = matrices.down.numpy()
            inputs[f"{_UP}{name}"] = matrices.up.numpy()
        self._paged.hold(inputs)
        self._stack = stack

    def compute(
        self, slots: PagedSlots, parts: Sequence[Part], meanwhile: Callable[[], None]
    ) -> Sequence[torch.Tensor]:
        """Compute parts of rows in one forward, prompts beside single tokens."""
        keep = self._keep(parts)
        return self._paged.compute(slots, parts, meanwhile, {_KEEP: keep})

    def _keep(self, parts: Sequence[Part]) -> np.ndarray:
        """Which ranks each token takes, of shape (tokens, 1, ranks)."""
        count = sum(len(part.tokens) for part in parts)
        keep = np.zeros((count, 1, self._stack.ranks), dtype=np.bool_)
        start = 0
        for part in parts:
            end = start + len(part.tokens)
            if part.adapter is not None:
                span = self._stack.span_of(part.adapter)
                keep[start:end, :, span.start : span.stop] = True
            start = end
        return keep
