"""What a batch needs of a model: forwards over rows, and slots for their keys and values.

`slot_model` and `slots` are those of transformers, `openvino.paged` those of OpenVINO.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    import torch

    from serving.engines.slots import PromptPlace


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
        """Have room for so many slots of so many positions; whether that made new buffers."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a slot to another one."""

    def clear(self, slot: int) -> None:
        """Overwrite all that a slot holds with zeros."""

    def shrink(self) -> bool:
        """Give memory back where a long row made the buffers grow; what they held is lost."""


SlotsT = TypeVar("SlotsT", bound=RowSlots)
_SlotsT_contra = TypeVar("_SlotsT_contra", bound=RowSlots, contravariant=True)


class RowModel(Protocol[_SlotsT_contra]):
    """Forwards of one model over slots of its kind."""

    def read_prompt(
        self,
        slots: _SlotsT_contra,
        place: "PromptPlace",
        tokens: Sequence[int],
        keep: int,
    ) -> "torch.Tensor":
        """Compute a part of a prompt; logits of its last `keep` tokens in float32."""

    def step(
        self, slots: _SlotsT_contra, tokens: Sequence[int], lengths: Sequence[int]
    ) -> "torch.Tensor":
        """Compute one token behind each of the first rows; logits in float32."""


class Switch(Protocol):
    """The adapter of a model, which each forward uses or not."""

    def turn(self, *, on: bool) -> None:
        """Have the next forward use the adapter, or the base alone."""


@dataclass(frozen=True)
class Rows(Generic[SlotsT]):
    """What computes rows: a model, empty slots for it, and the switch of its adapter."""

    model: RowModel[SlotsT]
    slots: SlotsT
    switch: Switch
