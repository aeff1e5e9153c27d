"""Adapter bytes: what a system needs on disk and in memory beside its base model."""

from collections.abc import Sequence

from core.errors import IncompleteEvidence
from pipelines.metrics.metric import FloatArray, References, ScoredRow


class AdapterBytes:
    """Bytes of the files of the adapter that answered; lower is better, and a bare base has none.

    A cost, and no quality. It is the same in every row: a difference between two adapters is exact.
    """

    name = "adapter_bytes"
    unit = "bytes"
    higher_is_better = False
    # It has no upper end; adapters of large models are about so big.
    scale = 1e9
    worst: float | None = None
    compares_answers = False
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """The adapter's bytes, and one row; `IncompleteEvidence` where nobody measured them."""
        # Not 0, which would be a saving of everything.
        if row.adapter_bytes is None:
            raise IncompleteEvidence(
                f"Nobody measured the adapter that answered {row.prompt_id}. "
                "Run the stages that answer again."
            )
        return float(row.adapter_bytes), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """The mean over rows, which is that of each row."""
        total = sums[..., 0]
        rows = sums[..., 1]
        return total / rows

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """What is measured."""
        del rows
        return "bytes:files of the adapter"

    def inapplicable(self, references: References) -> str | None:
        """Everywhere."""
        del references
        return None
