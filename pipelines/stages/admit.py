"""Gate `admit`: whether data may be trained on. Each rule answers with both numbers; only a rule that held is passed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from core.files import write_whole
from core.value import FileDigest
from pipelines import layout
from pipelines.gates.bias_check import compared_too_small, contradictions, passed_over
from pipelines.gates.policy import AdmitPolicy, Policy, load_policy
from pipelines.values.dataset import (
    SPLITS,
    BiasReport,
    DatasetVersion,
    Interval,
    TrainingSet,
    ValidationReport,
)
from pipelines.values.verdict import Admission, Finding, Rejection, Undecided

SPLIT = layout.SPLIT
VALIDATED = layout.VALIDATE
BIAS = layout.BIAS
OUT = layout.ADMIT
TRAINING_SET = OUT / "training_set"
POLICY = layout.POLICY
TRAINED_ON = ("train", "dev")
EXIT_CODES = {"passed": 0, "rejected": 3, "undecided": 4}


def admit(
    dataset: DatasetVersion,
    validation: ValidationReport,
    bias: BiasReport,
    policy: Policy,
) -> Admission | Rejection | Undecided:
    """Weigh every rule; its training set names the copies of train and dev that later stages receive, never the held-out split."""
    findings = tuple(_findings(dataset, validation, bias, policy.gates.admit))
    outcomes = {finding.outcome for finding in findings}
    if outcomes == {"passed"}:
        rows = TrainingSet(
            train=_copy_of(validation.splits["train"]),
            dev=_copy_of(validation.splits["dev"]),
            rows={name: validation.rows[name] for name in TRAINED_ON},
        )
        digest = dataset.content_sha256()
        return Admission(
            findings=findings,
            policy_sha256=policy.sha256,
            dataset_digest=digest,
            training_set=rows,
        )
    if "rejected" in outcomes:
        return Rejection(gate="admit", findings=findings, policy_sha256=policy.sha256)
    return Undecided(gate="admit", findings=findings, policy_sha256=policy.sha256)


def main() -> int:
    """Write data/admit: verdict.json and, on a pass, training_set/."""
    validation = ValidationReport.read(VALIDATED / "report.json")
    dataset = DatasetVersion.read(SPLIT / "dataset.json")
    verdict = admit(
        dataset, validation, BiasReport.read(BIAS / "report.json"), load_policy(POLICY)
    )
    shutil.rmtree(TRAINING_SET, ignore_errors=True)
    if isinstance(verdict, Admission):
        for name in TRAINED_ON:
            _hand_over(name, validation.splits[name])
        verdict.training_set.write(TRAINING_SET / "training_set.json")
    # Written last: a passing verdict means that the files it names are there.
    verdict.write(OUT / "verdict.json")
    for line in _told(verdict):
        print(line)
    return EXIT_CODES[verdict.verdict]


def _findings(
    dataset: DatasetVersion,
    validation: ValidationReport,
    bias: BiasReport,
    policy: AdmitPolicy,
) -> Iterator[Finding]:
    yield _validation(validation)
    yield _quarantine(dataset, validation, policy)
    yield _overlap(dataset, policy)
    yield _licence(dataset, policy)
    for name in SPLITS:
        yield _enough_rows(name, dataset, validation, policy)
        yield _enough_groups(name, validation, policy)
    yield _bias(bias, policy)


def _validation(validation: ValidationReport) -> Finding:
    failed = [
        _expectation(result.name, result.column)
        for result in validation.expectations
        if not result.passed
    ]
    held = len(validation.expectations) - len(failed)
    unnamed = [name for name in SPLITS if name not in validation.splits]
    passed = validation.passed and bool(validation.expectations) and not unnamed
    beside = f"; not: {', '.join(dict.fromkeys(failed))}" if failed else ""
    beside += f"; the report names no file for {', '.join(unnamed)}" if unnamed else ""
    fact = "validation passed" if passed else "validation did not pass"
    return _finding(
        "validation",
        passed,
        f"{fact}: {held} of {len(validation.expectations)} expectations hold for every row{beside}",
    )


def _quarantine(
    dataset: DatasetVersion, validation: ValidationReport, policy: AdmitPolicy
) -> Finding:
    aside = sum(validation.quarantined.values())
    limit = policy.max_quarantine_share
    if not dataset.source_rows > 0:
        return _finding(
            "quarantine_share",
            False,
            f"there are 0 rows to take a quarantine share of (limit {limit:.3g})",
        )
    share = aside / dataset.source_rows
    reasons = "".join(
        f"; {count:,} for {reason}" for reason, count in validation.quarantined.items()
    )
    text = f"{aside:,} of {dataset.source_rows:,} rows are in quarantine, a share of {share:.3g} against a limit of {limit:.3g}{reasons}"
    return _finding("quarantine_share", 0 <= share <= limit, text)


def _overlap(dataset: DatasetVersion, policy: AdmitPolicy) -> Finding:
    prompts, rows = dataset.overlap.get("prompts"), dataset.overlap.get("rows")
    if prompts is None or rows is None:
        return _finding(
            "overlap",
            False,
            f"the overlap between splits was not counted (limit {policy.max_overlap})",
        )
    text = f"{_count(prompts, 'held-out prompt')} found in train or dev, in {_count(rows, 'row')}; at most {policy.max_overlap} may be"
    return _finding("overlap", 0 <= prompts <= policy.max_overlap, text)


def _licence(dataset: DatasetVersion, policy: AdmitPolicy) -> Finding:
    known = bool(dataset.licence and dataset.licence.strip())
    text = (
        f"the data's licence is {dataset.licence}"
        if known
        else "the data's licence is not known: name it with `--set data.licence=…`"
    )
    return _finding("licence", known or not policy.licence_required, text)


def _enough_rows(
    name: str,
    dataset: DatasetVersion,
    validation: ValidationReport,
    policy: AdmitPolicy,
) -> Finding:
    finding = _enough(
        f"min_rows.{name}",
        name,
        "row",
        validation.rows.get(name),
        policy.min_rows.get(name),
    )
    if finding.outcome == "passed" or not dataset.duplicates > 0:
        return finding
    distinct = sum(dataset.rows.values())
    sentence = f"{_count(distinct + dataset.duplicates, 'row')} with {distinct:,} distinct ones are {_count(distinct, 'row')}"
    return finding.model_copy(update={"text": f"{finding.text}; {sentence}"})


def _enough_groups(
    name: str, validation: ValidationReport, policy: AdmitPolicy
) -> Finding:
    """Groups count as often as they hold something of their own: copies under other group names are one content."""
    rule, groups, contents = (
        f"min_groups.{name}",
        validation.groups.get(name),
        (validation.contents or {}).get(name),
    )
    finding = _enough(rule, name, "group", groups, policy.min_groups.get(name))
    if finding.outcome != "passed":
        return finding
    beside = _enough(
        rule, name, "distinct content", contents, policy.min_groups.get(name)
    )
    return (
        beside
        if beside.outcome != "passed"
        else finding.model_copy(update={"text": f"{finding.text}; {beside.text}"})
    )


def _enough(
    rule: str, name: str, what: str, there: int | None, needed: int | None
) -> Finding:
    if there is None or needed is None:
        lacking = "the validation report" if there is None else "the policy"
        return _finding(rule, False, f"{lacking} names no number of {what}s for {name}")
    passed = there >= needed
    words = f"{name} has {_count(there, what)}"
    return _finding(
        rule,
        passed,
        f"{words}; {needed:,} are needed"
        if passed
        else f"too few {what}s: {words}, {needed:,} are needed",
    )


def _bias(bias: BiasReport, policy: AdmitPolicy) -> Finding:
    rule = "demographic_parity_difference"
    if bias.subject != "data":
        return _finding(
            rule, False, f"the bias report is about {bias.subject}, not about data"
        )
    wrong = contradictions(bias)
    if wrong:
        return _finding(rule, False, f"the bias report contradicts itself: {wrong[0]}")
    if bias.feature is None:
        text = "no sensitive feature is declared: nothing was compared in the data"
        return _finding(
            rule,
            not bias.groups,
            text
            if not bias.groups
            else "the bias report compares groups of no feature",
        )
    return _parity(bias, bias.demographic_parity_difference, policy)


def _parity(
    bias: BiasReport, difference: Interval | None, policy: AdmitPolicy
) -> Finding:
    rule, limit = (
        "demographic_parity_difference",
        policy.max_demographic_parity_difference,
    )
    if difference is None:
        text = f"{bias.feature} cannot be compared: fewer than two groups have {bias.min_group_size} rows{_not_compared(bias)}"
        return Finding(rule=rule, outcome="undecided", text=text)
    found = f"{difference.estimate:.3f} [{difference.low:.3f}, {difference.high:.3f}]"
    text = f"demographic parity difference by {bias.feature} is {found} against a limit of {limit:.3g}{_not_compared(bias)}"
    small = (*compared_too_small(bias, policy), *passed_over(bias, policy))
    if not difference.estimate <= limit or not small:
        return _finding(rule, difference.estimate <= limit, text)
    step = "bring more rows of them, or name them in the policy's small_groups"
    return Finding(
        rule=rule,
        outcome="undecided",
        text=f"{text}; not compared as the policy asks: {', '.join(small)}: {step}",
    )


def _not_compared(bias: BiasReport) -> str:
    return f"{_insufficient(bias)}{bias.left_out}"


def _insufficient(bias: BiasReport) -> str:
    if not bias.insufficient:
        return ""
    return f"; insufficient, which is not fair: {', '.join(bias.insufficient)} (fewer than {bias.min_group_size} rows)"


def _finding(rule: str, passed: bool, text: str) -> Finding:
    outcome: Literal["passed", "rejected"] = "passed" if passed else "rejected"
    return Finding(rule=rule, outcome=outcome, text=text)


def _expectation(name: str, column: str | None) -> str:
    return f"{name}({column})" if column else name


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _copy_of(split: FileDigest) -> FileDigest:
    return FileDigest(
        path=(TRAINING_SET / Path(split.path).name).as_posix(), sha256=split.sha256
    )


def _hand_over(name: str, split: FileDigest) -> None:
    source = split.checked()
    write_whole(
        TRAINING_SET / f"{name}.jsonl", lambda temporary: _copy(source, temporary)
    )


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _told(verdict: Admission | Rejection | Undecided) -> list[str]:
    if isinstance(verdict, Admission):
        rows = verdict.training_set.rows
        return [
            f"admitted: {rows['train']:,} rows to train, {rows['dev']:,} rows to choose"
        ]
    missed = [finding for finding in verdict.findings if finding.outcome != "passed"]
    return [f"{finding.outcome}: {finding.text}" for finding in missed]
