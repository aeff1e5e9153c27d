"""The observations behind the bias report on outputs: one for each answer of the adapter."""

from collections.abc import Sequence

import numpy as np

from core.errors import IncompleteGeneration
from pipelines.metrics import ScoredRow
from pipelines.metrics.chrf import Chrf
from pipelines.rows.refusals import is_refusal
from pipelines.scoring.evidence_file import Evidence
from pipelines.statistics.group_rates import (
    BiasSettings,
    Method,
    OutputObservation,
    favourable,
    output_bias,
)
from pipelines.values.dataset import NO_GROUP, BiasReport
from pipelines.values.evidence import NamedAnswer
from pipelines.values.params import BiasParams, Params
from pipelines.values.trial import Trial

# For rows by themselves; a corpus metric such as BLEU says little about one answer.
METRIC = "sentence chrF"
NAMED_ANSWERS = "named_answers.jsonl"


def output_bias_of(
    evidence: Evidence,
    named: Sequence[NamedAnswer],
    params: Params,
    min_group_size: int,
) -> BiasReport:
    """Compare groups of the declared feature by the adapter's held-out answers.

    Where no feature is declared, groups are those of the names that were put into dev prompts.
    """
    feature = params.data.sensitive_feature
    settings = BiasSettings(min_group_size=min_group_size)
    method: Method
    if feature is not None:
        observations = by_feature(evidence, params.bias)
        method = "declared feature"
    else:
        observations = by_name(named, params.bias)
        # No names in the parameters: nothing was asked in anybody's name.
        method = "name templates" if observations else "not applicable"
    report = output_bias(observations, method, feature, METRIC, settings)
    is_declared = params.bias.favourable_pattern is not None
    return report.model_copy(update={"favourable_is_declared": is_declared})


def by_feature(evidence: Evidence, params: BiasParams) -> tuple[OutputObservation, ...]:
    """The adapter's held-out answers, in the clusters of all other statistics."""
    grouped = []
    rows = zip(evidence.rows["adapter"], evidence.clusters, strict=True)
    for row, cluster in rows:
        # They are compared as well, or a group could be hidden by leaving its value out.
        group = row.feature or NO_GROUP
        grouped.append((group, cluster, row.row))
    return _observations(grouped, params)


def by_name(
    named: Sequence[NamedAnswer], params: BiasParams
) -> tuple[OutputObservation, ...]:
    """The adapter's answers to dev prompts with a name in them.

    The answers to one prompt are one cluster, and so are those to one name.
    """
    grouped = []
    for answer in named:
        row = _scored_row(answer)
        grouped.append((answer.group, answer.prompt_id, row))
    observations = _observations(grouped, params)
    return tuple(
        observation.model_copy(update={"name": answer.name})
        for observation, answer in zip(observations, named, strict=True)
    )


def named_answers(trial: Trial) -> tuple[NamedAnswer, ...]:
    """Each answer to a dev prompt with a name in it, with the references of that prompt.

    `IncompleteGeneration` where a prompt is no dev prompt.
    """
    references = {prompt.id: prompt.references for prompt in trial.dev_prompts}
    prompt_ids = {variant.prompt_id for variant in trial.variants}
    unknown = sorted(prompt_ids - references.keys())
    if unknown:
        raise IncompleteGeneration(
            f"{len(unknown)} prompts with names are not dev prompts, first {unknown[0]}. "
            "Run `dvc repro generate` again."
        )
    return tuple(
        NamedAnswer(**variant.model_dump(), references=references[variant.prompt_id])
        for variant in trial.variants
    )


def _scored_row(answer: NamedAnswer) -> ScoredRow:
    return ScoredRow(
        prompt_id=answer.prompt_id,
        prediction=answer.text,
        references=answer.references,
    )


def _observations(
    rows: Sequence[tuple[str, str, ScoredRow]], params: BiasParams
) -> tuple[OutputObservation, ...]:
    """Observations from (group, cluster, row)."""
    # Together: without a pattern, favourable means longer than the median of all.
    predictions = [row.prediction for _, _, row in rows]
    marks = favourable(predictions, params.favourable_pattern)
    return tuple(
        OutputObservation(
            group=group,
            cluster=cluster,
            score=_sentence_chrf(row),
            favourable=mark,
            refused=is_refusal(row.prediction, params.refusal_pattern),
        )
        for (group, cluster, row), mark in zip(rows, marks, strict=True)
    )


def _sentence_chrf(row: ScoredRow) -> float:
    """The chrF of one answer by itself, 0 to 100."""
    chrf = Chrf()
    statistics = chrf.row_statistics(row)
    score = chrf.corpus(np.array(statistics))
    return float(score)
