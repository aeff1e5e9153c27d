"""Perplexity per token: how surprised a model is by the references."""

from collections.abc import Sequence

import numpy as np

from core.files import digest_of_json
from pipelines.metrics.metric import FloatArray, References, ScoredRow


class PerplexityPerToken:
    """exp(total nats / total tokens) over every reference completion; lower is better.

    The end-of-turn token is included.

    Source: Jelinek, Mercer, Bahl and Baker 1977, with natural logarithms. Long references weigh
    more. Each system is scored under the prompt that it answers. Comparable only between models
    with the same tokenizer, so the signature holds a digest of the token counts: where it differs,
    bits per byte judges instead.
    """

    name = "perplexity_per_token"
    unit = "perplexity"
    higher_is_better = False
    # Perplexity has no upper end. A released model is far under this number.
    scale = 100.0
    worst: float | None = None
    compares_answers = False
    stand_in: str | None = "bits_per_byte"

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Nats and tokens of the row's references."""
        nats = sum(loss.nats for loss in row.losses)
        tokens = float(sum(loss.tokens for loss in row.losses))
        return nats, tokens

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Exponential of the mean loss.

        Too large a loss gives infinity, which no comparison accepts.
        """
        nats = sums[..., 0]
        tokens = sums[..., 1]
        with np.errstate(over="ignore"):
            return np.exp(nats / tokens)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What was counted, and a digest of the token counts."""
        counts = sorted(
            (row.prompt_id, loss.reference, loss.tokens)
            for row in rows
            for loss in row.losses
        )
        # Another tokenizer counts other tokens, so its scores are told apart here.
        digest = digest_of_json(counts)[:8]
        return f"over:completion tokens|template:as served|tokens:{digest}"

    def inapplicable(self, references: References) -> str | None:
        """Everywhere."""
        return None
