"""The metrics, one file each. To add one, write its file and name it in `METRICS`.

metric.py     row ─ row_statistics ─► sums over rows ─ corpus ─► score
answers       chrf, bleu (sacre.py: their counts out of sacreBLEU), exact_match, command_validity
tasks         label_accuracy, label_f1 (labels.py); json_valid, json_schema_valid,
              json_field_f1, tool_call (json_answers.py); squad_exact_match, rouge_l
references    inapplicable: where a metric says nothing (bleu_references.py: the rule of BLEU)
settings      needless: what was set where the defaults apply, which loosens a margin
losses        perplexity_per_token, bits_per_byte
meaning       semantic_similarity, by the vectors of sentence_model.py
costs         tokens_per_answer, adapter_bytes: no quality, for what is equal and cheaper
tests         unit_tests: code in answers, run in the boxes of `pipelines.sandbox`
own           own.py: metrics of the project, from files (own_file.py) that another process runs
              (own_child.py: own_numbers.py, own_scorer.py); own_formula.py: scores that are no mean
cross-check   evaluate_modules: BLEU and chrF once more, through `evaluate`
"""

import difflib
from pathlib import Path

from core.errors import ParameterError
from pipelines.metrics.adapter_bytes import AdapterBytes
from pipelines.metrics.bits_per_byte import BitsPerByte
from pipelines.metrics.bleu import Bleu
from pipelines.metrics.chrf import Chrf
from pipelines.metrics.command_validity import CommandValidity
from pipelines.metrics.exact_match import ExactMatch
from pipelines.metrics.json_field_f1 import JsonFieldF1
from pipelines.metrics.json_schema_valid import JsonSchemaValid
from pipelines.metrics.json_valid import JsonValid
from pipelines.metrics.label_accuracy import LabelAccuracy
from pipelines.metrics.label_f1 import LabelF1
from pipelines.metrics.metric import FloatArray, Metric, References, ScoredRow
from pipelines.metrics.own import OwnMetric, describe_file
from pipelines.metrics.own_file import MetricFile, has_metric_file, read_metric_file
from pipelines.metrics.perplexity_per_token import PerplexityPerToken
from pipelines.metrics.rouge_l import RougeL
from pipelines.metrics.semantic_similarity import SemanticSimilarity
from pipelines.metrics.squad_exact_match import SquadExactMatch
from pipelines.metrics.tokens_per_answer import TokensPerAnswer
from pipelines.metrics.tool_call import ToolCall
from pipelines.metrics.unit_tests import UnitTests
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.own_metric import BUILT_IN, is_own_name

__all__ = [
    "ALL_METRICS",
    "METRICS",
    "FloatArray",
    "Metric",
    "OwnMetric",
    "References",
    "ScoredRow",
    "described_metric",
    "metric_named",
    "own_metric_file",
]

# A plain tuple: nothing registers itself by being imported.
METRICS: tuple[Metric, ...] = (
    Chrf(),
    Bleu(),
    ExactMatch(),
    CommandValidity(),
    PerplexityPerToken(),
    BitsPerByte(),
    LabelAccuracy(),
    LabelF1(),
    JsonValid(),
    JsonFieldF1(),
    JsonSchemaValid(),
    ToolCall(),
    SquadExactMatch(),
    RougeL(),
)
ALL_METRICS: tuple[Metric, ...] = (
    *METRICS,
    SemanticSimilarity(),
    AdapterBytes(),
    TokensPerAnswer(),
    UnitTests(),
)
"""Also those that need more: a sentence model, what an answer cost, tests of the rows."""
STANDARD = MetricSettings()


def metric_named(name: str, settings: MetricSettings = STANDARD) -> Metric:
    """The metric of that name under the settings of a run, or under its own defaults.

    `ParameterError` for an unknown one, with the nearest name, and where the settings ask for what
    is not installed.
    """
    # The only metrics with settings.
    if name == Bleu.name:
        return Bleu(settings.bleu)
    if name == JsonSchemaValid.name:
        return JsonSchemaValid(settings.json_schema)
    for metric in ALL_METRICS:
        if metric.name == name:
            return metric
    raise _unknown(name)


def described_metric(
    name: str, settings: MetricSettings, project: Path, references: References = ()
) -> Metric:
    """A built-in metric, or one of the project's own after its file was run without any row.

    It knows its facts, and whether it applies to the references; it counts no rows.
    `ParameterError` where there is neither, and where the file is no metric.
    """
    if name in BUILT_IN:
        return metric_named(name, settings)
    file = own_metric_file(name, project)
    return OwnMetric(describe_file(file, references))


def own_metric_file(name: str, project: Path) -> MetricFile:
    """The file of a metric that is not built in.

    `ParameterError` where the project has none, with the nearest name, or where it cannot be used.
    """
    if not has_metric_file(name, project):
        raise _unknown(name)
    return read_metric_file(name, project)


def _unknown(name: str) -> ParameterError:
    near = difflib.get_close_matches(name, BUILT_IN, n=1, cutoff=0.4)
    names = ", ".join(BUILT_IN)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {names}."
    # Not for a path, which could never be one.
    if is_own_name(name):
        own_file = f"metrics/{name}.py"
        hint += f" Your own would be {own_file}."
    return ParameterError(f"There is no metric {name}. {hint}")
