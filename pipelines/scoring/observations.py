"""What the bias report on outputs looks at: one observation for each of the adapter's answers that belongs to a group."""

from collections.abc import Sequence

import numpy as np

from core.errors import IncompleteGeneration
from pipelines.metrics import ScoredRow
from pipelines.metrics.chrf import Chrf
from pipelines.rows.refusals import refuses
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

METRIC = "sentence chrF"
NAMED_ANSWERS = "named_answers.jsonl"


def output_bias_of(
    evidence: Evidence,
    named: Sequence[NamedAnswer],
    params: Params,
    min_group_size: int,
) -> BiasReport:
    """Held-out answers by declared feature; where the data has none, answers to dev prompts by the name put into them."""
    feature = params.data.sensitive_feature
    settings = BiasSettings(
        min_group_size=min_group_size,
        resamples=params.score.resamples,
        seed=params.score.seed,
    )
    observations = (
        by_name(named, params.bias)
        if feature is None
        else by_feature(evidence, params.bias)
    )
    by_names: Method = "name templates" if observations else "not applicable"
    report = output_bias(
        observations,
        by_names if feature is None else "declared feature",
        feature,
        METRIC,
        settings,
    )
    return report.model_copy(
        update={"favourable_is_declared": params.bias.favourable_pattern is not None}
    )


def by_feature(evidence: Evidence, params: BiasParams) -> tuple[OutputObservation, ...]:
    """The adapter's held-out answers, clustered as everywhere else."""
    rows = zip(evidence.rows["adapter"], evidence.clusters, strict=True)
    return _observations(
        [(row.feature or NO_GROUP, cluster, row.row) for row, cluster in rows], params
    )


def by_name(
    named: Sequence[NamedAnswer], params: BiasParams
) -> tuple[OutputObservation, ...]:
    """The adapter's answers to dev prompts with a name in them; the answers to one prompt are one cluster."""
    return _observations(
        [(answer.group, answer.prompt_id, _scored(answer)) for answer in named], params
    )


def named_answers(trial: Trial) -> tuple[NamedAnswer, ...]:
    """Each answer to a dev prompt with a name in it, beside the references of that prompt."""
    references = {prompt.id: prompt.references for prompt in trial.dev_prompts}
    unknown = sorted(
        {variant.prompt_id for variant in trial.variants} - references.keys()
    )
    if unknown:
        raise IncompleteGeneration(
            f"{len(unknown)} prompts with names are not dev prompts, first {unknown[0]}. Run `dvc repro generate` again."
        )
    return tuple(
        NamedAnswer(**variant.model_dump(), references=references[variant.prompt_id])
        for variant in trial.variants
    )


def _scored(answer: NamedAnswer) -> ScoredRow:
    return ScoredRow(
        prompt_id=answer.prompt_id, prediction=answer.text, references=answer.references
    )


def _observations(
    rows: Sequence[tuple[str, str, ScoredRow]], params: BiasParams
) -> tuple[OutputObservation, ...]:
    """Observations from (group, cluster, row)."""
    chrf = Chrf()
    marks = favourable(
        [row.prediction for _, _, row in rows], params.favourable_pattern
    )
    return tuple(
        OutputObservation(
            group=group,
            cluster=cluster,
            score=float(chrf.corpus(np.array(chrf.row_statistics(row)))),
            favourable=mark,
            refused=refuses(row.prediction, params.refusal_pattern),
        )
        for (group, cluster, row), mark in zip(rows, marks, strict=True)
    )
