"""Bits per byte: the loss in a unit that survives a change of tokenizer."""

import math
from collections.abc import Sequence

from pipelines.metrics.metric import FloatArray, References, ScoredRow


class BitsPerByte:
    """Total nats / ln 2 / total UTF-8 bytes over every reference completion; lower is better.

    Source: Gao et al. 2020, "The Pile", section 3.1. The end-of-turn token's loss counts, but it
    adds no bytes, since no text has it.
    """

    name = "bits_per_byte"
    unit = "bits per UTF-8 byte"
    higher_is_better = False
    scale = 8.0  # a guess among 256 bytes takes 8 bits
    worst: float | None = None
    compares_answers = False
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Bits and bytes of the row's references."""
        nats_of_references = [loss.nats for loss in row.losses]
        nats = sum(nats_of_references)
        bits = nats / math.log(2)
        utf8_bytes = float(_utf8_bytes(row))
        return bits, utf8_bytes

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Bits over bytes."""
        bits = sums[..., 0]
        utf8_bytes = sums[..., 1]
        return bits / utf8_bytes

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What was counted: the bytes are those of the references, whatever the model."""
        total = sum(_utf8_bytes(row) for row in rows)
        return f"over:completion bytes|bytes:{total}"

    def inapplicable(self, references: References) -> str | None:
        """Everywhere."""
        return None


def _utf8_bytes(row: ScoredRow) -> int:
    return sum(loss.utf8_bytes for loss in row.losses)
