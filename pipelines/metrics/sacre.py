"""Row statistics out of sacreBLEU, so that BLEU and chrF are its own to the last digit."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.metrics.metric import ScoredRow

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as SacreMetric

# Rows are counted in threads, and MeCab's tagger must not be used by two of them.
_TURN = threading.Lock()


def segment_statistics(metric: "SacreMetric", row: ScoredRow) -> tuple[float, ...]:
    """The statistics that sacreBLEU would sum for this row.

    sacreBLEU has no public name for them; its version is pinned, and every scoring run compares the
    sums with `evaluate`.
    """
    # A corpus of one row: one prediction, and a stream of one for each reference.
    predictions = [row.prediction]
    streams = [[reference] for reference in row.references]
    with _TURN:
        (statistics,) = metric._extract_corpus_statistics(predictions, streams)  # noqa: SLF001
    return tuple(float(count) for count in statistics)


def sacre_signature(metric: "SacreMetric", rows: Sequence[ScoredRow]) -> str:
    """SacreBLEU's own record of how it was computed.

    It holds `nrefs:var` where rows have different numbers of references.
    """
    counts = {len(row.references) for row in rows}
    is_same_for_all = len(counts) == 1
    metric.num_refs = counts.pop() if is_same_for_all else -1
    signature = metric.get_signature()
    return str(signature)


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """References by row as sacreBLEU's streams; None where a row has no more references."""
    most = max(len(row) for row in references)
    # sacreBLEU takes None where a row has no such reference, though its types say str.
    return [
        [row[stream] if stream < len(row) else None for row in references]  # type: ignore[misc]
        for stream in range(most)
    ]
