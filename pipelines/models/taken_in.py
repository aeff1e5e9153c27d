"""The record of an adapter that was taken in, with losses that are measured here.

Training leaves the same record. What only training knows, such as steps, is 0 or `unknown`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import UnsafeAdapter
from core.files import digest_of_files, digest_of_json, folder_digests
from pipelines.models.adapter_files import WEIGHTS
from pipelines.models.foreign_config import ForeignAdapter
from pipelines.models.language_model import LanguageModel, measure_completion_losses
from pipelines.models.refused_rows import name_refused
from pipelines.statistics.membership import Gain
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Row
from pipelines.values.evidence import Adapter, DevLoss
from pipelines.values.params import LoraParams

MOST_ROWS = 200
"""Rows of each split on which losses are measured: two passes over them take seconds."""
_NOT_KNOWN = "unknown"


@dataclass(frozen=True)
class Measured:
    """The losses of some rows without the adapter and with it, in nats."""

    rows: Sequence[Row]
    tokens: int
    without: Sequence[float]
    with_it: Sequence[float]

    @property
    def losses(self) -> tuple[float, float]:
        """Nats a token without the adapter, and with it."""
        without = sum(self.without)
        with_it = sum(self.with_it)
        tokens = self.tokens
        # Over tokens and not rows: a long completion weighs as much as it is long.
        loss_without = without / tokens
        loss_with_it = with_it / tokens
        return loss_without, loss_with_it

    def gains(self) -> list[Gain]:
        """What the adapter gains on each row."""
        return [
            Gain(
                group=row.group,
                nats=without - with_it,
                utf8_bytes=len(row.completion.encode()),
            )
            for row, without, with_it in zip(
                self.rows, self.without, self.with_it, strict=True
            )
        ]


def draw_rows(rows: Sequence[Row]) -> list[Row]:
    """At most `MOST_ROWS` rows: neither the data's order nor anybody's choice decides which."""

    def digest(row: Row) -> str:
        parts = [row.id, row.number]
        return digest_of_json(parts)

    by_digest = sorted(rows, key=digest)
    return by_digest[:MOST_ROWS]


def measure(language: LanguageModel, rows: Sequence[Row], batch_size: int) -> Measured:
    """Measure each row's completion with the adapter that is loaded, and without it.

    `UnusableRow` where one is too long for the model or its template refuses it.
    """
    encoded = []
    # All are encoded first: a row that is refused is found before minutes of computing.
    for row in rows:
        with name_refused(row):
            example = language.encoder.encode_example(row.messages, row.completion)
        encoded.append(example)
    with_it = measure_completion_losses(language, encoded, batch_size=batch_size)
    # The same weights in memory: a base that is loaded again would cost as much once more.
    with language.model.disable_adapter():
        without = measure_completion_losses(language, encoded, batch_size=batch_size)
    tokens = sum(len(completion) for _, completion in encoded)
    return Measured(rows, tokens, without, with_it)


def record_taken_in(
    place: tuple[Path, Path],
    foreign: ForeignAdapter,
    lora: LoraParams,
    base: BaseModelManifest,
    losses: tuple[Measured, Measured],
) -> Adapter:
    """The record of the adapter in `place`: a root, and its folder below that.

    `losses` are those of train and of dev rows. `UnsafeAdapter` where it changes nothing or a loss
    is no number.
    """
    root, folder = place
    of_train, of_dev = losses
    moved = _norm_of_b(root / folder / WEIGHTS)
    without, with_it = of_dev.losses
    _, train_loss = of_train.losses
    numbers = (moved, without, with_it, train_loss)
    if not (moved > 0 and all(math.isfinite(number) for number in numbers)):
        raise UnsafeAdapter(
            f"The adapter in {foreign.folder} moves the base by {moved:.3g} and has a dev loss "
            f"of {with_it:.3g}: it was not trained, or diverged. Give another one."
        )
    files = folder_digests(root / folder)
    return Adapter(
        folder=folder.as_posix(),
        files=files,
        sha256=digest_of_files(files),
        base_id=base.id,
        base_revision=base.revision,
        base_digest=base.digest,
        chat_template_sha256=base.chat_template_sha256,
        lora=lora,
        steps=0,
        train_loss=train_loss,
        dev_losses=(DevLoss(step=0, loss=without), DevLoss(step=0, loss=with_it)),
        best_step=0,
        moved=moved,
        resumed_from=(),
        precision=_NOT_KNOWN,
        device=_NOT_KNOWN,
        real_tokens=0,
        seconds=0.0,
        elsewhere=foreign.provenance,
    )


def _norm_of_b(weights: Path) -> float:
    """Euclidean norm over the LoRA B matrices, which start at zero."""
    from safetensors import safe_open

    # In float64: the sum of many small squares would be lost in a half's few digits.
    squares = 0.0
    with safe_open(str(weights), framework="pt") as tensors:
        # `safe_open` gives a reader, not a mapping.
        for name in tensors.keys():  # noqa: SIM118
            if ".lora_B." in name:
                squares += float(tensors.get_tensor(name).double().pow(2).sum())
    return math.sqrt(squares)
