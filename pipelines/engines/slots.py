"""Keys and values of many rows at once, each in a slot of its own that begins at position 0.

                  position  0   1   2   3   4   5
    slot 0, row of 3        k   k   k   ·   ·   ·
    slot 1, row of 5        k   k   k   k   k   ·

A row is never moved while it grows, and no padding stands in it. What is to the right of a row is
hidden from it by a mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers.cache_utils import Cache, DynamicLayer

# Positions that a buffer has at first. It doubles where a row needs more.
_FEWEST_POSITIONS = 256


class _Place(Protocol):
    """Which rows a forward computes, and up to which position it sees."""

    def write(self, buffer: torch.Tensor, states: torch.Tensor) -> None:
        """Put a forward's new states into the buffer."""
        ...

    def read(self, buffer: torch.Tensor) -> torch.Tensor:
        """The states that the forward sees, without a copy."""
        ...


@dataclass(frozen=True)
class PromptPlace:
    """Some of a prompt's positions in one slot: from `start` up to `end`."""

    slot: int
    start: int
    end: int

    def write(self, buffer: torch.Tensor, states: torch.Tensor) -> None:
        """Put states of shape (1, heads, end - start, size) there."""
        row = buffer[self.slot]
        part = row[:, self.start : self.end]
        part[:] = states[0]

    def read(self, buffer: torch.Tensor) -> torch.Tensor:
        """The slot up to `end`, of shape (1, heads, end, size)."""
        after = self.slot + 1
        row = buffer[self.slot : after]
        return row[:, :, : self.end]


@dataclass(frozen=True)
class StepPlace:
    """One position in each of the first slots."""

    slots: torch.Tensor
    positions: torch.Tensor
    width: int

    def write(self, buffer: torch.Tensor, states: torch.Tensor) -> None:
        """Put states of shape (rows, heads, 1, size) there."""
        new = states[:, :, 0]
        buffer[self.slots, :, self.positions] = new

    def read(self, buffer: torch.Tensor) -> torch.Tensor:
        """The first slots up to the longest row, of shape (rows, heads, width, size)."""
        rows = len(self.slots)
        return buffer[:rows, :, : self.width]


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's buffers; transformers' attention calls `update` in each forward."""

    def __init__(self, key_shape: "HeadShape", value_shape: "HeadShape") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.place: _Place | None = None
        self._shapes = key_shape, value_shape
        self.buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new states to the place of this forward, and give what it sees."""
        if self.place is None:
            raise ValueError("No place was set for this forward.")
        keys, values = self.buffers
        self.place.write(keys, key_states)
        self.place.write(values, value_states)
        return self.place.read(keys), self.place.read(values)

    def resize(self, slots: int, positions: int) -> None:
        """Make new buffers that begin with what the old ones hold."""
        # Zeros, never what memory held: a masked NaN would still be one.
        made = []
        for shape in self._shapes:
            buffer = shape.zeros(slots, positions)
            made.append(buffer)
        pairs = zip(self.buffers, made, strict=False)
        for old, new in pairs:
            count = min(len(old), slots)
            length = min(old.shape[2], positions)
            kept = old[:count, :, :length]
            new[:count, :, :length] = kept
        self.buffers = made

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first positions of a slot to another one."""
        for buffer in self.buffers:
            row, other = buffer[source], buffer[target]
            beginning = row[:, :length]
            other[:, :length] = beginning

    def clear(self, slot: int) -> None:
        """Overwrite a slot with zeros."""
        for buffer in self.buffers:
            row = buffer[slot]
            row.zero_()


@dataclass(frozen=True)
class HeadShape:
    """What one layer keeps for one token."""

    heads: int
    size: int
    like: torch.Tensor

    @classmethod
    def of(cls, states: torch.Tensor) -> "HeadShape":
        """Of states of shape (rows, heads, tokens, size)."""
        _, heads, _, size = states.shape
        like = states.new_empty(0)
        return cls(heads, size, like)

    @property
    def bytes(self) -> int:
        """For one token."""
        numbers = self.heads * self.size
        each = self.like.element_size()
        return numbers * each

    def zeros(self, slots: int, positions: int) -> torch.Tensor:
        """A buffer of shape (slots, heads, positions, size)."""
        return self.like.new_zeros(
            slots,
            self.heads,
            positions,
            self.size,
        )


class Slots:
    """The cache of a model for many rows, which grows as they do."""

    def __init__(self, shapes: Sequence[tuple[HeadShape, HeadShape]]) -> None:
        self.layers = [SlotLayer(keys, values) for keys, values in shapes]
        self._shapes = shapes
        self.count = 0
        self.positions = 0
        self.cache = Cache(layers=list(self.layers))

    def like(self) -> "Slots":
        """Another one for the same model, with nothing in it."""
        return Slots(self._shapes)

    @property
    def bytes_per_token(self) -> int:
        """What one position of one slot takes in all layers."""
        total = 0
        for keys, values in self._shapes:
            total += keys.bytes
            total += values.bytes
        return total

    def aim(self, place: _Place) -> None:
        """Say where the next forward writes and what it sees."""
        for layer in self.layers:
            layer.place = place

    def bytes_for(self, slots: int, positions: int) -> int:
        """Memory that `reserve` takes for that."""
        count, length = sizes_for(slots, positions)
        tokens = count * length
        return tokens * self.bytes_per_token

    def reserve(self, slots: int, positions: int) -> bool:
        """Have room for so many slots of so many positions; whether that made new buffers.

        Those are no larger than asked for now, whatever was needed before. What fits into them is
        kept.
        """
        enough = slots <= self.count and positions <= self.positions
        if enough:
            return False
        count, length = sizes_for(slots, positions)
        # What every layer has where memory runs out between two of them.
        self.count = min(self.count, count)
        self.positions = min(self.positions, length)
        for layer in self.layers:
            layer.resize(count, length)
        self.count, self.positions = count, length
        return True

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a slot to another one."""
        for layer in self.layers:
            layer.copy(source, target, length)

    def clear(self, slot: int) -> None:
        """Overwrite all that a slot holds with zeros."""
        for layer in self.layers:
            layer.clear(slot)

    def shrink(self) -> bool:
        """Give memory back where a long row made the buffers grow; what they held is lost."""
        if self.positions <= _FEWEST_POSITIONS:
            return False
        for layer in self.layers:
            layer.buffers = []
        self.count = self.positions = 0
        return True


def sizes_for(slots: int, positions: int) -> tuple[int, int]:
    """What is allocated for that: doubled from the fewest, so that growth copies seldom."""
    count = _double(1, slots)
    length = _double(_FEWEST_POSITIONS, positions)
    return count, length


def _double(size: int, needed: int) -> int:
    while size < needed:
        size *= 2
    return size
