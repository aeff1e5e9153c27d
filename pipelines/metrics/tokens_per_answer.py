"""Tokens per answer: what an answer costs to make, its prompt included."""

from collections.abc import Sequence

from core.errors import IncompleteEvidence
from pipelines.metrics.metric import FloatArray, References, ScoredRow


class TokensPerAnswer:
    """Mean number of tokens that are read and written for one answer; lower is better.

    A cost, and no quality: the shortest answer is an empty one. It counts what stands before a
    prompt, such as examples or a released prompt.
    """

    name = "tokens_per_answer"
    unit = "tokens"
    higher_is_better = False
    # It has no upper end; most conversations are shorter.
    scale = 1000.0
    worst: float | None = None
    compares_answers = False
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """The row's tokens, and one row; `IncompleteEvidence` where nobody counted them."""
        if row.tokens is None:
            raise IncompleteEvidence(
                f"Nobody counted the tokens of the answer to {row.prompt_id}. "
                "Run the stages that answer again."
            )
        return float(row.tokens), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Tokens over rows."""
        tokens = sums[..., 0]
        rows = sums[..., 1]
        return tokens / rows

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What counts; across bases `pipelines.scoring.signatures` names the base, too."""
        del rows
        return "tokens:prompt and answer|end of turn:not counted"

    def inapplicable(self, references: References) -> str | None:
        """Everywhere."""
        del references
        return None
