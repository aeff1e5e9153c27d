"""Stage `bias`: how the groups of a sensitive feature differ in the data.

In: the validated splits, and the parameter `data.sensitive_feature`.
Out: `data/bias/report.json` with selection rates and completion lengths by group; without a
declared feature it says that nothing was compared.
Refuses nothing: `admit` judges the report.
"""

from collections.abc import Mapping, Sequence

from pipelines import layout
from pipelines.gates.admit_policy import AdmitPolicy, load_admit_limits
from pipelines.rows.near_groups import find_near_groups
from pipelines.statistics.group_rates import (
    BiasSettings,
    OutputObservation,
    favourable,
    rates_by_group,
)
from pipelines.values.dataset import (
    BiasReport,
    Row,
    ValidationReport,
    read_rows,
)
from pipelines.values.params import BiasParams, Params, load_params

_METRIC = "completion_characters"


def bias(
    splits: Mapping[str, Sequence[Row]], params: Params, policy: AdmitPolicy
) -> BiasReport:
    """Compare the declared feature's groups over all splits; without one nothing is compared."""
    rows = [row for part in splits.values() for row in part]
    settings = BiasSettings(min_group_size=policy.min_group_size)
    feature = params.data.sensitive_feature
    # A report all the same: `admit` wants to see that nothing was declared.
    if feature is None:
        return rates_by_group((), "data", "not applicable", None, _METRIC, settings)
    observations = _observe(rows, params.bias)
    report = rates_by_group(
        observations, "data", "declared feature", feature, _METRIC, settings
    )
    # Rows without a value are in no group: the report says how many it does not speak for.
    without_value = sum(row.feature is None for row in rows)
    is_declared = params.bias.favourable_pattern is not None
    return report.model_copy(
        update={
            "without_value": without_value,
            "favourable_is_declared": is_declared,
        }
    )


def main() -> int:
    """Write data/bias/report.json."""
    params = load_params()
    policy = load_admit_limits(layout.POLICY)
    validation = ValidationReport.read(layout.VALIDATION_REPORT)
    # The reserve's rows count, too: groups are compared by what the data holds, not by answers.
    splits = {
        name: read_rows(digest.checked()) for name, digest in validation.splits.items()
    }
    report = bias(splits, params, policy.admit)
    report.write(layout.BIAS_REPORT)
    print(_summarise(report))
    return 0


def _observe(rows: Sequence[Row], params: BiasParams) -> list[OutputObservation]:
    completions = [row.completion for row in rows]
    # Over all rows: without a pattern, favourable means longer than the median.
    marks = favourable(completions, params.favourable_pattern)
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


def _summarise(report: BiasReport) -> str:
    """One line for people: the difference with its interval, or why there is none."""
    if report.feature is None:
        return "no sensitive feature is declared: nothing to compare in the data"
    # Said again where they are compared: nothing merges them.
    near = find_near_groups(group.group for group in report.groups)
    remarks = [f"; probably one group: {', '.join(names)}" for names in near]
    difference = _summarise_difference(report)
    return f"{difference}{''.join(remarks)}"


def _summarise_difference(report: BiasReport) -> str:
    difference = report.demographic_parity_difference
    if difference is None:
        return (
            f"{report.feature}: fewer than two groups of at least "
            f"{report.min_group_size} rows, nothing can be compared{report.left_out}"
        )
    interval = (
        f"{difference.estimate:.3f} [{difference.low:.3f}, {difference.high:.3f}]"
    )
    groups = len(report.groups) - len(report.insufficient)
    return (
        f"{report.feature}: demographic parity difference {interval} "
        f"over {groups} groups{report.left_out}"
    )
