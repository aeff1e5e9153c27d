"""A model's forward over rows in slots, and whether it can be trusted with this model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from pipelines.engines.row_model import Part, RowModel, SlotsT
from pipelines.engines.slots import HeadShape, PromptPlace, Slots, StepPlace
from pipelines.models.batching import Batching
from pipelines.models.language_model import LanguageModel

# Share of the largest logit by which two ways to compute may differ: a wrong mask or position
# makes tens of percent.
_MOST_DIFFERENT = {torch.float32: 1e-3, torch.bfloat16: 0.1}
# A prime: the tokens of a row are far from each other.
_STEP = 7919


Aim = Callable[[Sequence[int | None]], None]


class SlotModel:
    """Forwards of one model over the slots of a batch."""

    mixes_lengths = False

    def __init__(
        self, model: Any, device: str, dtype: torch.dtype, aim: Aim | None = None
    ) -> None:
        """`aim` is told the adapter of each row before each forward."""
        self._model = model
        self._device = device
        self._dtype = dtype
        self._aim = aim or _aim_at_nothing

    def compute(
        self, slots: Slots, parts: Sequence[Part], meanwhile: Callable[[], None]
    ) -> Sequence[torch.Tensor]:
        """Compute parts of the first rows: all single tokens at once, then each prompt by itself.

        Parts of several lengths would need padding.
        """
        meanwhile()
        logits = {}
        single = [part.slot for part in parts if len(part.tokens) == 1]
        if single:
            # Rows that stand between them take part. What those write is overwritten when their
            # own tokens are computed.
            rows = parts[: single[-1] + 1]
            together = self._step(slots, rows)
            for slot in single:
                logits[slot] = together[slot : slot + 1]
        for part in parts:
            if len(part.tokens) > 1:
                logits[part.slot] = self._read_prompt(slots, part)
        nothing = torch.empty(0)
        return [logits.get(part.slot, nothing) for part in parts]

    def _read_prompt(self, slots: Slots, part: Part) -> torch.Tensor:
        positions = torch.arange(part.start, part.end, device=self._device)
        seen = torch.arange(part.end, device=self._device)
        is_seen = seen[None, :] <= positions[:, None]
        slots.aim(PromptPlace(part.slot, part.start, part.end))
        self._aim([part.adapter])
        logits = self._forward(
            slots,
            torch.tensor([list(part.tokens)], device=self._device),
            positions[None],
            is_seen[None, None],
            part.keep,
        )
        return logits[0, -part.keep :].float()

    def _step(self, slots: Slots, parts: Sequence[Part]) -> torch.Tensor:
        """Logits of one token of each row, of shape (rows, vocabulary)."""
        tokens = [part.tokens[0] if part.tokens else 0 for part in parts]
        lengths = [part.start for part in parts]
        positions = torch.tensor(lengths, device=self._device)
        rows = torch.arange(len(tokens), device=self._device)
        width = max(lengths) + 1
        seen = torch.arange(width, device=self._device)
        is_seen = seen[None, :] <= positions[:, None]
        slots.aim(StepPlace(rows, positions, width))
        self._aim([part.adapter for part in parts])
        logits = self._forward(
            slots,
            torch.tensor(tokens, device=self._device)[:, None],
            positions[:, None],
            is_seen[:, None, None],
            1,
        )
        return logits[:, -1].float()

    def _forward(
        self,
        slots: Slots,
        ids: torch.Tensor,
        positions: torch.Tensor,
        is_seen: torch.Tensor,
        keep: int,
    ) -> torch.Tensor:
        # Added to the scores of attention, which every implementation of it does with a mask of
        # four dimensions.
        hidden = torch.finfo(self._dtype).min
        mask = torch.zeros_like(is_seen, dtype=self._dtype)
        mask = mask.masked_fill(~is_seen, hidden)
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=slots.cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: torch.Tensor = output.logits
        return logits


def open_slots(
    language: LanguageModel, aim: Aim | None = None
) -> tuple[SlotModel, Slots] | None:
    """What answers many rows at once; None where this model's rows cannot share a forward.

    Two rows are computed in slots and by themselves: only a model that gives the same logits both
    ways is trusted.
    """
    if language.batching is not Batching.SHARED_PREFIX:
        return None
    dtype = getattr(torch, language.arithmetic)
    model = SlotModel(language.model, language.device, dtype, aim)
    trial = Trial.of(language, short=5, long=11)
    with torch.inference_mode():
        expected, shapes = trial.compute_alone(language)
        slots = Slots(shapes)
        try:
            together = trial.compute_together(model, slots)
        # A model that takes no mask of four dimensions, or no cache but its own.
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
            return None
    if are_alike(together, expected, dtype):
        return model, slots
    return None


@dataclass(frozen=True)
class Trial:
    """Two rows that are computed in two ways. The short one is what the long one begins with."""

    row: Sequence[int]
    short: int

    @classmethod
    def of(cls, language: LanguageModel, *, short: int, long: int) -> Self:
        """Rows of so many tokens, from all over the vocabulary."""
        embeddings = language.model.get_input_embeddings()
        size = len(embeddings.weight)
        row = []
        for place in range(long):
            number = _STEP * place
            row.append(number % size)
        return cls(row, short)

    def compute_alone(
        self, language: LanguageModel
    ) -> tuple[torch.Tensor, list[tuple[HeadShape, HeadShape]]]:
        """Logits behind the short and the long row by the plain forward.

        With the shapes of each layer's keys and values.
        """
        output = language.model(
            input_ids=torch.tensor([list(self.row)], device=language.device),
            use_cache=True,
        )
        ends = [self.short - 1, len(self.row) - 1]
        logits = output.logits[0, ends]
        cache = output.past_key_values
        shapes = [
            (HeadShape.of(layer.keys), HeadShape.of(layer.values))
            for layer in cache.layers
        ]
        return logits.float(), shapes

    def logits_alone(self, language: LanguageModel) -> torch.Tensor:
        """The same logits, of models that keep something else than keys and values, too."""
        output = language.model(
            input_ids=torch.tensor([list(self.row)], device=language.device),
            use_cache=False,
        )
        logits: torch.Tensor = output.logits[0, [self.short - 1, len(self.row) - 1]]
        return logits.float()

    def compute_together(
        self,
        model: RowModel[SlotsT],
        slots: SlotsT,
        adapters: tuple[int | None, int | None] = (None, None),
    ) -> torch.Tensor:
        """The same logits: the long row's prompt in two parts, both last tokens in one step.

        The second part is computed beside the short row's prompt. `adapters` are those of the
        short and of the long row.
        """
        long = len(self.row)
        slots.reserve(2, long)
        short_end, long_end = self.short - 1, long - 1
        places = [
            ((0, 0), (0, 2)),
            ((0, short_end), (2, long_end)),
            ((short_end, short_end + 1), (long_end, long)),
        ]
        for spans in places:
            parts = []
            for slot, (start, end) in enumerate(spans):
                part = Part(slot, start, self.row[start:end], adapter=adapters[slot])
                parts.append(part)
            logits = model.compute(slots, parts, do_nothing)
        return torch.cat(list(logits))


def _aim_at_nothing(_: Sequence[int | None]) -> None:
    """For a model whose rows all have the same adapter, or none."""


def do_nothing() -> None:
    """What is to be done meanwhile where nobody waits for anything."""


def are_alike(one: torch.Tensor, other: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether logits differ by rounding alone; a NaN differs."""
    largest = float(other.abs().max())
    difference = float((one - other).abs().max())
    return difference <= _MOST_DIFFERENT[dtype] * largest
