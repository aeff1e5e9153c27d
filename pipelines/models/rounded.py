"""Weights of linear layers as int8 numbers: whole ones, times a scale of each output channel.

    float32 ──▶ -127 … 127, times the channel's scale ──▶ float32 that int8 holds without loss

What computes with them computes in float32: the rounded weights are other weights, and nothing
else. So whoever scores them and whoever serves them have the same numbers, in whatever form.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import UnusableBaseModel

if TYPE_CHECKING:
    import torch

_LARGEST = 127
# A float32 has 24 bits that count. A scale of 16 and a number of 7 multiply without rounding.
_DROPPED_BITS = 8
# A head of a large vocabulary is never in memory a second time.
_CHANNELS_AT_ONCE = 4096
# Below it a channel is as good as zero, and its scale would lose bits.
_SMALLEST = 1e-30


@dataclass(frozen=True)
class Int8:
    """Numbers of shape (channels, inputs), and scales of shape (channels, 1)."""

    numbers: "torch.Tensor"
    scales: "torch.Tensor"

    def multiplied(self) -> "torch.Tensor":
        """The weights in float32, exactly."""
        return self.numbers.float() * self.scales


def round_linear_layers(model: Any) -> None:
    """Round the weights of each linear layer in place, the head's and tied embeddings' too.

    `UnusableBaseModel` where a weight is no number, which no rounding keeps.
    """
    import torch

    with torch.no_grad():
        for name, weight in _linear_weights(model):
            if not bool(weight.isfinite().all()):
                raise UnusableBaseModel(
                    f"{name} holds weights that are no numbers, and int8 has none for them. "
                    "Look at the base's files."
                )
            for part in _some_channels(weight):
                part.copy_(to_int8(part).multiplied())


def to_int8(weights: "torch.Tensor") -> Int8:
    """The nearest int8 weights of some of shape (channels, inputs)."""
    import torch

    largest = weights.abs().amax(dim=1, keepdim=True)
    # A channel of zeros has any scale: it must not divide by zero.
    largest = torch.where(largest < _SMALLEST, float(_LARGEST), largest)
    scales = _drop_bits(largest / _LARGEST)
    numbers = (weights / scales).round().clamp(-_LARGEST, _LARGEST)
    return Int8(numbers.to(torch.int8), scales)


def find_int8(weights: "torch.Tensor") -> Int8 | None:
    """The int8 form of weights, where it holds every one of them without loss; else None."""
    import torch

    parts = []
    for part in _some_channels(weights):
        found = to_int8(part)
        if not torch.equal(found.multiplied(), part):
            return None
        parts.append(found)
    numbers = torch.cat([part.numbers for part in parts])
    scales = torch.cat([part.scales for part in parts])
    return Int8(numbers, scales)


def _some_channels(weights: "torch.Tensor") -> Iterator["torch.Tensor"]:
    """Views of the weights, one after the other."""
    for begin in range(0, len(weights), _CHANNELS_AT_ONCE):
        yield weights[begin : begin + _CHANNELS_AT_ONCE]


def _linear_weights(model: Any) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Name and weights of each linear layer, of shape (channels, inputs); a view of its own."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    for name, module in model.named_modules():
        if isinstance(module, Linear):
            yield name, module.weight
        # GPT-2 keeps its matrices turned.
        elif isinstance(module, Conv1D):
            yield name, module.weight.T


def _drop_bits(scales: "torch.Tensor") -> "torch.Tensor":
    """Scales to the nearest that end in zeros."""
    import torch

    half = 1 << (_DROPPED_BITS - 1)
    bits = scales.view(torch.int32) + half
    kept = bits >> _DROPPED_BITS << _DROPPED_BITS
    return kept.view(torch.float32)
