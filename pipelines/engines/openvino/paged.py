"""Keys and values of many rows in blocks, and forwards of a compiled model over them.

    slot 0   block 0 │ block 1       a block is what paged attention reads at once: 32 positions
    slot 1   block 2 │ block 3

A slot has its blocks side by side, and for itself: adapter and base never share one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipelines.engines.openvino.graph import KEYS, VALUES
from pipelines.engines.row_model import Part
from pipelines.engines.slots import sizes_for

Buffers = dict[str, np.ndarray]
"""Keys or values of all slots by the name of their input, each as `BlockShape.zeros` makes it."""
LetGo = Callable[[Buffers], None]


@dataclass(frozen=True)
class BlockShape:
    """One input for keys or values: its name, and the shape of one of its blocks."""

    name: str
    heads: int
    positions: int
    size: int

    @property
    def bytes(self) -> int:
        """For one position, in float32."""
        return self.heads * self.size * 4

    def zeros(self, slots: int, blocks: int) -> np.ndarray:
        """A buffer of shape (slots, blocks, heads, positions, size)."""
        shape = slots, blocks, self.heads, self.positions, self.size
        return np.zeros(shape, dtype=np.float32)


class PagedSlots:
    """The cache of a compiled model for many rows, which grows as they do."""

    def __init__(
        self, shapes: Sequence[BlockShape], let_go: LetGo | None = None
    ) -> None:
        """`let_go` has the model that computes with buffers forget them."""
        self._shapes = shapes
        self._let_go = let_go
        self.count = 0
        self.positions = 0
        # By the name of the input; other objects after each change of size.
        self.buffers: Buffers = {}

    @property
    def block(self) -> int:
        """Positions in a block."""
        return self._shapes[0].positions

    @property
    def blocks(self) -> int:
        """Blocks of a slot."""
        return self.positions // self.block

    def like(self) -> "PagedSlots":
        """Another one for the same model, with nothing in it."""
        return PagedSlots(self._shapes, self._let_go)

    def bytes_for(self, slots: int, positions: int) -> int:
        """Memory that `reserve` takes for that."""
        count, length = sizes_for(slots, positions)
        bytes_per_token = sum(shape.bytes for shape in self._shapes)
        return count * length * bytes_per_token

    def reserve(self, slots: int, positions: int) -> bool:
        """Have room for so many slots of so many positions; whether that made new buffers.

        What fits into them is kept.
        """
        enough = slots <= self.count and positions <= self.positions
        if enough:
            return False
        count, length = sizes_for(slots, positions)
        blocks = length // self.block
        made = {}
        for shape in self._shapes:
            buffer = shape.zeros(count, blocks)
            old = self.buffers.get(shape.name)
            if old is not None:
                kept = old[:count, :blocks]
                buffer[: len(kept), : kept.shape[1]] = kept
            made[shape.name] = buffer
        self.buffers = made
        self.count, self.positions = count, length
        return True

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a slot to another one, in whole blocks."""
        blocks = blocks_for(length, self.block)
        for buffer in self.buffers.values():
            buffer[target, :blocks] = buffer[source, :blocks]

    def clear(self, slot: int) -> None:
        """Overwrite all that a slot holds with zeros."""
        for buffer in self.buffers.values():
            buffer[slot] = 0

    def shrink(self) -> bool:
        """Give memory back where a long row made the buffers grow; what they held is lost."""
        fewest = sizes_for(1, 1)[1]
        if self.positions <= fewest:
            return False
        if self._let_go is not None:
            self._let_go(self.buffers)
        self.buffers = {}
        self.count = self.positions = 0
        return True


class PagedModel:
    """Forwards of a compiled model, with its adapter or without."""

    mixes_lengths = True

    def __init__(self, compiled: Any, *, has_adapter: bool) -> None:
        self._request = compiled.create_infer_request()
        self._names = {port.get_any_name() for port in compiled.inputs}
        self._has_adapter = has_adapter
        self._share = _share(on=has_adapter)
        self._bound: Buffers | None = None
        # They share memory with the buffers, which are alive for as long as they are.
        self._tensors: list[Any] = []
        self._held: dict[str, Any] = {}

    def turn(self, *, on: bool) -> None:
        """Have the next forward use the adapter, or the base alone."""
        if self._has_adapter:
            self._share = _share(on=on)

    def compute(
        self,
        slots: PagedSlots,
        parts: Sequence[Part],
        meanwhile: Callable[[], None],
        more: Buffers | None = None,
    ) -> Sequence[torch.Tensor]:
        """Compute parts of rows in one forward, prompts beside single tokens.

        `more` is what other inputs of the graph are in this forward.
        """
        self._bind(slots)
        inputs = _describe(slots, [part for part in parts if part.tokens])
        inputs["share"] = self._share
        inputs.update(more or {})
        known = {name: inputs[name] for name in inputs if name in self._names}
        # Not copied, and therefore kept until it has computed.
        self._request.start_async(known, share_inputs=True)
        try:
            meanwhile()
        finally:
            self._request.wait()
        logits = self._request.get_tensor("logits").data[:, 0]
        counts = [part.keep if part.tokens else 0 for part in parts]
        return torch.split(torch.from_numpy(logits), counts)

    def hold(self, inputs: Buffers) -> None:
        """Compute with these inputs from now on, in place of those that had their names."""
        held = {name: _tensor(array) for name, array in inputs.items()}
        for name, tensor in held.items():
            self._request.set_tensor(name, tensor)
        self._held = held

    def let_go(self, buffers: Buffers) -> None:
        """Hold these buffers no longer, so that their memory can be given back."""
        if self._bound is not buffers:
            return
        # In their place it holds slots without a block.
        for name, buffer in buffers.items():
            nothing = buffer[:, :0].copy()
            self._set(name, nothing)
        del self._tensors[: len(buffers)]
        self._bound = None

    def _bind(self, slots: PagedSlots) -> None:
        """Have the model read and write these buffers."""
        if self._bound is slots.buffers:
            return
        self._tensors = []
        for name, buffer in slots.buffers.items():
            self._set(name, buffer)
        self._bound = slots.buffers

    def _set(self, name: str, buffer: np.ndarray) -> None:
        flat = buffer.reshape(-1, *buffer.shape[2:])
        tensor = _tensor(flat)
        self._request.set_tensor(name, tensor)
        self._tensors.append(tensor)


def open_paged(compiled: Any, *, has_adapter: bool) -> tuple[PagedModel, PagedSlots]:
    """A compiled model, and slots for it with nothing in them."""
    shapes = []
    for port in compiled.inputs:
        name = port.get_any_name()
        if name.startswith((KEYS, VALUES)):
            _, heads, positions, size = port.get_partial_shape()
            shapes.append(
                BlockShape(
                    name,
                    heads.get_length(),
                    positions.get_length(),
                    size.get_length(),
                )
            )
    model = PagedModel(compiled, has_adapter=has_adapter)
    return model, PagedSlots(shapes, model.let_go)


def blocks_for(length: int, block: int) -> int:
    """How many blocks so many positions take."""
    return -(-length // block)


def _tensor(array: np.ndarray) -> Any:
    """A tensor in the memory of an array, which has to live as long."""
    import openvino

    return openvino.Tensor(array, shared_memory=True)


def _share(*, on: bool) -> np.ndarray:
    return np.array([1.0 if on else 0.0], dtype=np.float32)


def _describe(slots: PagedSlots, parts: Sequence[Part]) -> dict[str, np.ndarray]:
    """The tokens of a forward and where they stand, as paged attention wants to be told."""
    tokens: list[int] = []
    positions: list[int] = []
    wanted: list[int] = []
    begins = [0]
    blocks: list[int] = []
    block_begins = [0]
    for part in parts:
        tokens += part.tokens
        positions += range(part.start, part.end)
        end = len(tokens)
        wanted += range(end - part.keep, end)
        begins.append(end)
        first = part.slot * slots.blocks
        count = blocks_for(part.end, slots.block)
        blocks += range(first, first + count)
        block_begins.append(len(blocks))
    starts = [part.start for part in parts]
    longest = max(part.end for part in parts)
    return {
        "input_ids": np.array(tokens, dtype=np.int64),
        "position_ids": np.array(positions, dtype=np.int64),
        "wanted": np.array(wanted, dtype=np.int64),
        "past_lens": np.array(starts, dtype=np.int32),
        "subsequence_begins": np.array(begins, dtype=np.int32),
        "block_indices": np.array(blocks, dtype=np.int32),
        "block_indices_begins": np.array(block_begins, dtype=np.int32),
        "max_context_len": np.array(longest, dtype=np.int32),
    }
