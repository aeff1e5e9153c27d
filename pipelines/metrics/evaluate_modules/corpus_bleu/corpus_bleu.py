"""Corpus BLEU as an `evaluate` module: any number of references a row."""

import datasets
import evaluate
from sacrebleu.metrics.bleu import BLEU

from pipelines.metrics.sacre import reference_streams


class CorpusBleu(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """sacreBLEU's corpus score, 0 to 100, with its signature."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = datasets.Features(
            {"predictions": text, "references": datasets.Sequence(text)}
        )
        return evaluate.MetricInfo(
            description=__doc__, citation="Post 2018", features=features
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        *,
        tokenize: str = "13a",
        effective_order: bool = False,
    ) -> dict[str, float | str]:
        metric = BLEU(force=True, tokenize=tokenize, effective_order=effective_order)
        streams = reference_streams(references)
        result = metric.corpus_score(predictions, streams)
        return {
            "score": result.score,
            "signature": str(metric.get_signature()),
        }
