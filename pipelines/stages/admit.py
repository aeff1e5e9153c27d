"""Stage `admit`, the gate before training: whether this data may be trained on.

In: the dataset's version, the reports of `validate` and `bias`, and the policy.
Out: `data/admit/verdict.json` and, on a pass alone, `training_set/` with copies of train and dev,
which is all that later stages receive: never the held-out split.
Rejects data that did not pass validation, repeats held-out prompts, is too little, has no known
licence, or differs too much by group. Undecided where groups are too small to compare.

Each rule answers with both numbers, and asks whether it passed: a NaN does not.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from core.files import write_atomically
from core.value import FileDigest
from pipelines import layout
from pipelines.gates.admit_policy import AdmitPolicy, Limits, load_admit_limits
from pipelines.gates.baselines_policy import read_asked_baselines
from pipelines.gates.bias_check import (
    Gap,
    describe_favourable,
    describe_gap,
    find_contradictions,
    find_groups_compared_too_small,
    find_uncompared_groups,
    judge_gap,
)
from pipelines.values.dataset import (
    SPLITS,
    BiasReport,
    DatasetVersion,
    Interval,
    TrainingSet,
    ValidationReport,
)
from pipelines.values.verdict import (
    EXIT_CODES,
    Admission,
    Finding,
    Rejection,
    Undecided,
)

# Without held_out: later stages cannot learn from what they do not receive.
TRAINING_SPLITS = ("train", "dev")
_PARITY_RULE = "demographic_parity_difference"


def admit(
    dataset: DatasetVersion,
    validation: ValidationReport,
    bias: BiasReport,
    policy: Limits,
) -> Admission | Rejection | Undecided:
    """Judge the data by every rule.

    An admission's training set names the copies of train and dev that later stages receive.
    """
    findings = tuple(_list_findings(dataset, validation, bias, policy.admit))
    outcomes = {finding.outcome for finding in findings}
    # Equal, and not `all`: no finding at all is no pass.
    if outcomes == {"passed"}:
        return Admission(
            findings=findings,
            policy_sha256=policy.sha256,
            dataset_digest=dataset.content_sha256(),
            training_set=_describe_training_set(validation),
        )
    # What is wrong stays wrong with more rows; what is undecided may not.
    if "rejected" in outcomes:
        return Rejection(
            gate="admit",
            findings=findings,
            policy_sha256=policy.sha256,
        )
    return Undecided(gate="admit", findings=findings, policy_sha256=policy.sha256)


def main() -> int:
    """Write data/admit: verdict.json and, on a pass, training_set/; give the exit code."""
    validation = ValidationReport.read(layout.VALIDATION_REPORT)
    dataset = DatasetVersion.read(layout.DATASET)
    bias = BiasReport.read(layout.BIAS_REPORT)
    verdict = admit(dataset, validation, bias, load_admit_limits(layout.POLICY))
    # A training set of an earlier pass must not outlast a rejection.
    shutil.rmtree(layout.TRAINING_SET, ignore_errors=True)
    if isinstance(verdict, Admission):
        for name in TRAINING_SPLITS:
            _copy_split(name, validation.splits[name])
        verdict.training_set.write(layout.TRAINING_SET / "training_set.json")
    # For the stage that answers: it must not depend on every margin of the policy.
    read_asked_baselines(layout.POLICY).write(layout.ASKED_BASELINES)
    # Written last: a passing verdict means that the files it names are there.
    verdict.write(layout.ADMIT_VERDICT)
    for line in _list_reasons(verdict):
        print(line)
    return EXIT_CODES[verdict.verdict]


def _list_findings(
    dataset: DatasetVersion,
    validation: ValidationReport,
    bias: BiasReport,
    policy: AdmitPolicy,
) -> Iterator[Finding]:
    yield _check_validation(validation)
    yield _check_quarantine(dataset, validation, policy)
    yield _check_overlap(dataset, policy)
    yield _check_licence(dataset, policy)
    for name in SPLITS:
        yield _check_rows(name, dataset, validation, policy)
        yield _check_groups(name, validation, policy)
    yield _check_bias(bias, policy)


def _check_validation(validation: ValidationReport) -> Finding:
    failed = [
        _name_expectation(result.name, result.column)
        for result in validation.expectations
        if not result.passed
    ]
    total = len(validation.expectations)
    unnamed = [name for name in SPLITS if name not in validation.splits]
    # A report without expectations, or without a split, has not validated the data.
    has_passed = validation.passed and total > 0 and not unnamed
    fact = "validation passed" if has_passed else "validation did not pass"
    text = f"{fact}: {total - len(failed)} of {total} expectations hold for every row"
    if failed:
        text += f"; not: {', '.join(dict.fromkeys(failed))}"
    if unnamed:
        text += f"; the report names no file for {', '.join(unnamed)}"
    return _make_finding("validation", has_passed, text)


def _check_quarantine(
    dataset: DatasetVersion, validation: ValidationReport, policy: AdmitPolicy
) -> Finding:
    rule = "quarantine_share"
    limit = policy.max_quarantine_share
    # A share of nothing must not pass as 0.
    if not dataset.source_rows > 0:
        text = f"there are 0 rows to take a quarantine share of (limit {limit:.3g})"
        return _make_finding(rule, False, text)
    set_aside = sum(validation.quarantined.values())
    share = set_aside / dataset.source_rows
    text = (
        f"{set_aside:,} of {dataset.source_rows:,} rows are in quarantine, "
        f"a share of {share:.3g} against a limit of {limit:.3g}"
    )
    for reason, count in validation.quarantined.items():
        text += f"; {count:,} for {reason}"
    return _make_finding(rule, 0 <= share <= limit, text)


def _check_overlap(dataset: DatasetVersion, policy: AdmitPolicy) -> Finding:
    limit = policy.max_overlap
    prompts = dataset.overlap.get("prompts")
    rows = dataset.overlap.get("rows")
    # A count that is missing is not a count of 0.
    if prompts is None or rows is None:
        text = f"the overlap between splits was not counted (limit {limit})"
        return _make_finding("overlap", False, text)
    text = (
        f"{_format_count(prompts, 'held-out prompt')} found in train or dev, "
        f"in {_format_count(rows, 'row')}; at most {limit} may be"
    )
    return _make_finding("overlap", 0 <= prompts <= limit, text)


def _check_licence(dataset: DatasetVersion, policy: AdmitPolicy) -> Finding:
    is_known = bool(dataset.licence and dataset.licence.strip())
    if is_known:
        text = f"the data's licence is {dataset.licence}"
    else:
        text = "the data's licence is not known: name it with `--set data.licence=…`"
    return _make_finding("licence", is_known or not policy.licence_required, text)


def _check_rows(
    name: str,
    dataset: DatasetVersion,
    validation: ValidationReport,
    policy: AdmitPolicy,
) -> Finding:
    finding = _check_count(
        f"min_rows.{name}",
        name,
        "row",
        validation.rows.get(name),
        policy.min_rows.get(name),
    )
    if finding.outcome == "passed" or not dataset.duplicates > 0:
        return finding
    # Whoever counted the file's lines expects more rows: say where they went.
    distinct = sum(dataset.rows.values())
    read = _format_count(distinct + dataset.duplicates, "row")
    counted = _format_count(distinct, "row")
    explanation = f"{read} with {distinct:,} distinct ones are {counted}"
    return finding.model_copy(update={"text": f"{finding.text}; {explanation}"})


def _check_groups(
    name: str, validation: ValidationReport, policy: AdmitPolicy
) -> Finding:
    """Check the groups of a split, and its distinct contents by the same minimum.

    Groups count as often as they hold something of their own: copies under other group names
    are one content.
    """
    rule = f"min_groups.{name}"
    minimum = policy.min_groups.get(name)
    # Reports from before contents were counted have none, and do not pass.
    contents_of_splits = validation.contents or {}
    contents = contents_of_splits.get(name)
    by_groups = _check_count(rule, name, "group", validation.groups.get(name), minimum)
    if by_groups.outcome != "passed":
        return by_groups
    by_contents = _check_count(rule, name, "distinct content", contents, minimum)
    if by_contents.outcome != "passed":
        return by_contents
    text = f"{by_groups.text}; {by_contents.text}"
    return by_groups.model_copy(update={"text": text})


def _check_count(
    rule: str, name: str, noun: str, number: int | None, minimum: int | None
) -> Finding:
    """Check that a split, `name`, has at least `minimum` of something; unknown is not enough."""
    if number is None or minimum is None:
        lacking = "the validation report" if number is None else "the policy"
        text = f"{lacking} names no number of {noun}s for {name}"
        return _make_finding(rule, False, text)
    count = _format_count(number, noun)
    needed = f"{minimum:,} are needed"
    if number >= minimum:
        return _make_finding(rule, True, f"{name} has {count}; {needed}")
    text = f"too few {noun}s: {name} has {count}, {needed}"
    return _make_finding(rule, False, text)


def _check_bias(bias: BiasReport, policy: AdmitPolicy) -> Finding:
    if bias.subject != "data":
        text = f"the bias report is about {bias.subject}, not about data"
        return _make_finding(_PARITY_RULE, False, text)
    # Numbers that do not follow from the report's own groups were edited.
    faults = find_contradictions(bias)
    if faults:
        text = f"the bias report contradicts itself: {faults[0]}"
        return _make_finding(_PARITY_RULE, False, text)
    if bias.feature is not None:
        return _check_parity(bias, bias.demographic_parity_difference, policy)
    if bias.groups:
        text = "the bias report compares groups of no feature"
        return _make_finding(_PARITY_RULE, False, text)
    text = "no sensitive feature is declared: nothing was compared in the data"
    return _make_finding(_PARITY_RULE, True, text)


def _check_parity(
    bias: BiasReport, difference: Interval | None, policy: AdmitPolicy
) -> Finding:
    limit = policy.max_demographic_parity_difference
    not_compared = f"{_describe_insufficient(bias)}{bias.left_out}"
    # Too few rows to compare are no sign of fairness.
    if difference is None:
        text = (
            f"{bias.feature} cannot be compared: "
            f"fewer than two groups have {bias.min_group_size} rows{not_compared}"
        )
        return Finding(rule=_PARITY_RULE, outcome="undecided", text=text)
    gap = Gap(bias, describe_favourable(bias), "rate", limit)
    outcome = judge_gap(gap, difference)
    text = f"{describe_gap(gap, difference)}{not_compared}"
    too_small = (
        *find_groups_compared_too_small(bias, policy),
        *find_uncompared_groups(bias, policy),
    )
    # A gap over the limit rejects, whatever the groups that were not compared would show.
    if outcome == "rejected" or not too_small:
        return Finding(rule=_PARITY_RULE, outcome=outcome, text=text)
    text = (
        f"{text}; not compared as the policy asks: {', '.join(too_small)}: "
        "bring more rows of them, or name them in the policy's small_groups"
    )
    return Finding(rule=_PARITY_RULE, outcome="undecided", text=text)


def _describe_insufficient(bias: BiasReport) -> str:
    if not bias.insufficient:
        return ""
    groups = ", ".join(bias.insufficient)
    return (
        f"; insufficient, which is not fair: {groups} "
        f"(fewer than {bias.min_group_size} rows)"
    )


def _make_finding(rule: str, passed: bool, text: str) -> Finding:
    if passed:
        return Finding(rule=rule, outcome="passed", text=text)
    return Finding(rule=rule, outcome="rejected", text=text)


def _name_expectation(name: str, column: str | None) -> str:
    # An expectation about the table as a whole has no column.
    if not column:
        return name
    return f"{name}({column})"


def _format_count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}s"


def _describe_training_set(validation: ValidationReport) -> TrainingSet:
    return TrainingSet(
        train=_locate_copy(validation.splits["train"]),
        dev=_locate_copy(validation.splits["dev"]),
        rows={name: validation.rows[name] for name in TRAINING_SPLITS},
    )


def _locate_copy(split: FileDigest) -> FileDigest:
    """Return where the copy of a split will be; the bytes stay the same."""
    name = Path(split.path).name
    copy = layout.TRAINING_SET / name
    return FileDigest(path=copy.as_posix(), sha256=split.sha256)


def _copy_split(name: str, split: FileDigest) -> None:
    # Hashed first: what is copied is what was validated.
    source = split.checked()
    target = layout.TRAINING_SET / f"{name}.jsonl"

    def copy(temporary: Path) -> None:
        shutil.copyfile(source, temporary)

    write_atomically(target, copy)


def _list_reasons(verdict: Admission | Rejection | Undecided) -> list[str]:
    """Lines for people: the rows of an admission, or every rule that was not passed."""
    if isinstance(verdict, Admission):
        rows = verdict.training_set.rows
        return [
            f"admitted: {rows['train']:,} rows to train, {rows['dev']:,} rows to choose"
        ]
    return [
        f"{finding.outcome}: {finding.text}"
        for finding in verdict.findings
        if finding.outcome != "passed"
    ]
