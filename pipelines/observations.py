"""What the bias report on outputs looks at: one observation for each of the adapter's answers that belongs to a group."""

from collections.abc import Sequence

import numpy as np

from pipelines.bias import BiasSettings, OutputObservation, favourable, output_bias
from pipelines.dataset import BiasReport
from pipelines.errors import IncompleteGeneration
from pipelines.evidence import Variant
from pipelines.evidence_file import Evidence
from pipelines.metrics import ScoredRow
from pipelines.metrics.chrf import Chrf
from pipelines.params import Params
from pipelines.trial import Trial

NO_GROUP = "(not given)"
METRIC = "sentence chrF"


def output_bias_of(trial: Trial, evidence: Evidence, params: Params, min_group_size: int) -> BiasReport:
    """Held-out answers by declared feature; where the data has none, answers to dev prompts by the name put into them."""
    feature = params.data.sensitive_feature
    settings = BiasSettings(min_group_size=min_group_size, resamples=params.score.resamples, seed=params.score.seed)
    if feature is not None:
        return output_bias(by_feature(evidence, params.bias.favourable_pattern), "declared feature", feature, METRIC, settings)
    observations = by_name(trial, params.bias.favourable_pattern)
    return output_bias(observations, "name templates" if observations else "not applicable", None, METRIC, settings)


def by_feature(evidence: Evidence, pattern: str | None) -> tuple[OutputObservation, ...]:
    """The adapter's held-out answers, clustered as everywhere else by group."""
    rows = evidence.rows["adapter"]
    return _observations([(row.feature or NO_GROUP, row.group, row.row) for row in rows], pattern)


def by_name(trial: Trial, pattern: str | None) -> tuple[OutputObservation, ...]:
    """The adapter's answers to dev prompts with a name in them; the answers to one prompt are one cluster."""
    references = {prompt.id: prompt.references for prompt in trial.dev_prompts}
    unknown = sorted({variant.prompt_id for variant in trial.variants} - references.keys())
    if unknown:
        raise IncompleteGeneration(
            f"{len(unknown)} prompts with names are not dev prompts, first {unknown[0]}. Run `dvc repro generate` again."
        )
    return _observations([(variant.group, variant.prompt_id, _scored(variant, references)) for variant in trial.variants], pattern)


def _scored(variant: Variant, references: dict[str, tuple[str, ...]]) -> ScoredRow:
    return ScoredRow(prompt_id=variant.prompt_id, prediction=variant.text, references=references[variant.prompt_id])


def _observations(rows: Sequence[tuple[str, str, ScoredRow]], pattern: str | None) -> tuple[OutputObservation, ...]:
    """Observations from (group, cluster, row)."""
    chrf = Chrf()
    marks = favourable([row.prediction for _, _, row in rows], pattern)
    return tuple(
        OutputObservation(group=group, cluster=cluster, score=float(chrf.corpus(np.array(chrf.row_statistics(row)))), favourable=mark)
        for (group, cluster, row), mark in zip(rows, marks, strict=True)
    )
