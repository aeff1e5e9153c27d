"""Row statistics out of sacreBLEU, so that BLEU and chrF are its own to the last digit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.metrics.metric import ScoredRow

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacreMetric


def segment_statistics(metric: "SacreMetric", row: ScoredRow) -> tuple[float, ...]:
    """The statistics that sacreBLEU would sum for this row.

    sacreBLEU has no public name for them; its version is pinned, and every scoring run compares the sums with `evaluate`.
    """
    (statistics,) = metric._extract_corpus_statistics(  # noqa: SLF001
        [row.prediction], [[reference] for reference in row.references]
    )
    return tuple(float(count) for count in statistics)


def sacre_signature(metric: "SacreMetric", rows: Sequence[ScoredRow]) -> str:
    """SacreBLEU's own record of how it was computed; `nrefs:var` where rows have different numbers of references."""
    counts = {len(row.references) for row in rows}
    metric.num_refs = counts.pop() if len(counts) == 1 else -1
    return str(metric.get_signature())


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """References by row turned into sacreBLEU's streams; a row with fewer has None in the later ones."""
    most = max(len(row) for row in references)
    # sacreBLEU takes None where a row has no such reference, though its types say str.
    return [
        [row[stream] if stream < len(row) else None for row in references]  # type: ignore[misc]
        for stream in range(most)
    ]
