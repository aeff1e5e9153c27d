"""The metrics, one file each. To add one, write its file and name it in `METRICS`.

metric.py     row ─ row_statistics ─► sums over rows ─ corpus ─► score
answers       chrf, bleu (sacre.py: their counts out of sacreBLEU), exact_match, command_validity
references    inapplicable: where a metric says nothing (bleu_references.py: the rule of BLEU)
settings      needless: what was set where the defaults apply, which loosens a margin
losses        perplexity_per_token, bits_per_byte
cross-check   evaluate_modules: BLEU and chrF once more, through `evaluate`
"""

import difflib

from core.errors import ParameterError
from pipelines.metrics.bits_per_byte import BitsPerByte
from pipelines.metrics.bleu import Bleu
from pipelines.metrics.chrf import Chrf
from pipelines.metrics.command_validity import CommandValidity
from pipelines.metrics.exact_match import ExactMatch
from pipelines.metrics.metric import FloatArray, Metric, References, ScoredRow
from pipelines.metrics.perplexity_per_token import PerplexityPerToken
from pipelines.values.metric_settings import MetricSettings

__all__ = [
    "METRICS",
    "FloatArray",
    "Metric",
    "References",
    "ScoredRow",
    "metric_named",
]

# A plain tuple: nothing registers itself by being imported.
METRICS: tuple[Metric, ...] = (
    Chrf(),
    Bleu(),
    ExactMatch(),
    CommandValidity(),
    PerplexityPerToken(),
    BitsPerByte(),
)
STANDARD = MetricSettings()


def metric_named(name: str, settings: MetricSettings = STANDARD) -> Metric:
    """The metric of that name under the settings of a run, or under its own defaults.

    `ParameterError` for an unknown one, with the nearest name, and where the settings ask for what
    is not installed.
    """
    # The only metric with settings.
    if name == Bleu.name:
        return Bleu(settings.bleu)
    for metric in METRICS:
        if metric.name == name:
            return metric
    names = [metric.name for metric in METRICS]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names)}."
    raise ParameterError(f"There is no metric {name}. {hint}")
