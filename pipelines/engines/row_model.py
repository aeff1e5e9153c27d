"""What a batch needs of a model: forwards over rows, and slots for their keys and values.

`slot_model` and `slots` are those of transformers, `openvino.paged` those of OpenVINO.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    import torch


class RowSlots(Protocol):
    """The keys and values of many rows, each in a slot of its own."""

    count: int
    """Slots that there is room for."""
    positions: int
    """Positions of each."""

    def like(self) -> Self:
        """Another one for the same model, with nothing in it."""

    def bytes_for(self, slots: int, positions: int) -> int:
        """Memory that `reserve` takes for that."""

    def reserve(self, slots: int, positions: int) -> bool:
        """Have room for so many slots of so many positions; whether that made new buffers.

        Where memory runs out, so many of those positions as there was room for are as they were.
        """

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a slot to another one."""

    def clear(self, slot: int) -> None:
        """Overwrite all that a slot holds with zeros."""

    def shrink(self) -> bool:
        """Give memory back where a long row made the buffers grow; what they held is lost."""


@dataclass(frozen=True)
class Part:
    """What a forward computes of one row: these tokens, in a slot, from a position on."""

    slot: int
    start: int
    # None where the row waits: its slot is not to be changed before `start`.
    tokens: Sequence[int]
    # Of so many of its last tokens the logits are wanted.
    keep: int = 1
    # Number of the adapter that computes it, where rows of several share a forward.
    adapter: int | None = None

    @property
    def end(self) -> int:
        """The position behind its last token."""
        return self.start + len(self.tokens)


SlotsT = TypeVar("SlotsT", bound=RowSlots)
_SlotsT_contra = TypeVar("_SlotsT_contra", bound=RowSlots, contravariant=True)


class RowModel(Protocol[_SlotsT_contra]):
    """Forwards of one model over slots of its kind."""

    mixes_lengths: bool
    """Whether one pass over the weights computes parts of any lengths."""

    def compute(
        self,
        slots: _SlotsT_contra,
        parts: Sequence[Part],
        meanwhile: Callable[[], None],
    ) -> Sequence["torch.Tensor"]:
        """Compute parts of the first rows, one of each row in the order of their slots.

        For each part the logits of its last `keep` tokens in float32, of shape (keep, vocabulary).
        The next forward may overwrite them. `meanwhile` is called once, before or while it
        computes.
        """


class Switch(Protocol):
    """The adapter of a model, which each forward uses or not."""

    def turn(self, *, on: bool) -> None:
        """Have the next forward use the adapter, or the base alone."""


@dataclass(frozen=True)
class Rows(Generic[SlotsT]):
    """What computes rows: a model, empty slots for it, and the switch of its adapter.

    Without a switch each row says by which adapter it is computed.
    """

    model: RowModel[SlotsT]
    slots: SlotsT
    switch: Switch | None
