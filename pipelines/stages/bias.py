"""Stage bias: how the groups of a sensitive feature differ in the data."""

from collections.abc import Mapping, Sequence

from pipelines import layout
from pipelines.gates.policy import AdmitPolicy, load_policy
from pipelines.statistics.group_rates import (
    BiasSettings,
    OutputObservation,
    favourable,
    rates_by_group,
)
from pipelines.values.dataset import (
    SPLITS,
    BiasReport,
    Row,
    ValidationReport,
    read_rows,
)
from pipelines.values.params import BiasParams, Params, load_params

VALIDATED = layout.VALIDATE
OUT = layout.BIAS
POLICY = layout.POLICY


def bias(
    splits: Mapping[str, Sequence[Row]], params: Params, policy: AdmitPolicy
) -> BiasReport:
    """Compare the declared feature's groups over all splits; without one there is nothing to compare."""
    rows = [row for name in SPLITS for row in splits[name]]
    settings = BiasSettings(
        min_group_size=policy.min_group_size,
        resamples=params.score.resamples,
        seed=params.score.seed,
    )
    feature = params.data.sensitive_feature
    if feature is None:
        return rates_by_group(
            (), "data", "not applicable", None, "completion_characters", settings
        )
    report = rates_by_group(
        _observations(rows, params.bias),
        "data",
        "declared feature",
        feature,
        "completion_characters",
        settings,
    )
    return report.model_copy(
        update={"without_value": sum(row.feature is None for row in rows)}
    )


def main() -> int:
    """Write data/bias/report.json."""
    params, policy = load_params(), load_policy(POLICY)
    validation = ValidationReport.read(VALIDATED / "report.json")
    splits = {name: read_rows(validation.splits[name].checked()) for name in SPLITS}
    report = bias(splits, params, policy.gates.admit)
    report.write(OUT / "report.json")
    print(_figure(report))
    return 0


def _observations(rows: Sequence[Row], params: BiasParams) -> list[OutputObservation]:
    marks = favourable([row.completion for row in rows], params.favourable_pattern)
    return [
        OutputObservation(
            group=row.feature,
            cluster=row.group,
            score=len(row.completion),
            favourable=mark,
        )
        for row, mark in zip(rows, marks, strict=True)
        if row.feature is not None
    ]


def _figure(report: BiasReport) -> str:
    if report.feature is None:
        return "no sensitive feature is declared: nothing to compare in the data"
    difference = report.demographic_parity_difference
    if difference is None:
        return f"{report.feature}: fewer than two groups of at least {report.min_group_size} rows, nothing can be compared{report.left_out}"
    shown = f"{difference.estimate:.3f} [{difference.low:.3f}, {difference.high:.3f}]"
    groups = len(report.groups) - len(report.insufficient)
    return f"{report.feature}: demographic parity difference {shown} over {groups} groups{report.left_out}"
