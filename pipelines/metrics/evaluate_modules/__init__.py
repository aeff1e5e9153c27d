"""BLEU and chrF once more, through `evaluate`.

Its modules are here, since `evaluate.load("bleu")` would need the network.

Each folder here is a module that `evaluate.load` takes by path. Nothing outside this package
imports `evaluate`.
"""

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pipelines.values.metric_settings import MetricSettings

MODULES = {"bleu": "corpus_bleu", "chrf": "corpus_chrf"}


def evaluate_score(
    metric: str,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    settings: MetricSettings,
) -> float:
    """The corpus score, 0 to 100, of a metric that `MODULES` names, under a run's settings."""
    import evaluate

    # evaluate copies each module to an importable folder, by default one in the user's home.
    evaluate.config.HF_MODULES_CACHE = Path(_run_folder().name) / "modules"
    folder = str(Path(__file__).parent / MODULES[metric])
    module = evaluate.load(
        folder, module_type="metric", cache_dir=_run_folder().name, keep_in_memory=True
    )
    options = settings.model_dump().get(metric, {})
    result = module.compute(
        predictions=list(predictions),
        references=[list(row) for row in references],
        **options,
    )
    return float(result["score"])


@cache
def _run_folder() -> tempfile.TemporaryDirectory[str]:
    """One folder for the life of the process, since modules imported from it stay imported."""
    return tempfile.TemporaryDirectory(prefix="assay-evaluate-")
