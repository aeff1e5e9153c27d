"""Judge a verdict again from what was stored.

Anyone who has the folder can check it, without the models.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFile
from core.files import sha256_of
from core.value import Value
from pipelines.gates.comparisons import list_differences, score_differences
from pipelines.gates.confirmation import RULE as CONFIRMATION
from pipelines.gates.confirmation import YEAR_RULE, confirm
from pipelines.gates.policy import Policy, load_policy
from pipelines.metrics import Metric
from pipelines.scoring.evidence_file import (
    Evidence,
    EvidenceRow,
    Statistics,
    read_evidence,
)
from pipelines.scoring.scores import with_statistics
from pipelines.stages.admit import admit
from pipelines.stages.screen import list_rules, screen_evidence
from pipelines.values.champion import ChampionInput
from pipelines.values.dataset import BiasReport, DatasetVersion, ValidationReport
from pipelines.values.evidence import RELEASED, Scorecard, System
from pipelines.values.training_set import read_admission
from pipelines.values.verdict import (
    STATISTICS,
    Admission,
    Finalist,
    Finding,
    Rejection,
    Undecided,
    read_screen_verdict,
)
from registry.release.confirmed import FOLDER as CONFIRMATION_FOLDER
from registry.release.confirmed import (
    RETRIEVED,
    StoredConfirmation,
    confirm_again,
    confirmation_differences,
    read_confirmation,
)
from registry.release.makers import expected_makers
from registry.release.own_metrics import copy_differences, find_metrics
from registry.release.prompted import prefix_differences, retrieved_differences
from registry.release.stored_files import file_differences, size_differences
from registry.release.stored_inputs import input_differences, prompt_differences

NEWER_RULES = frozenset({"output refusals"})
"""Rules of `screen` that ask for what older scorecards do not hold."""


class Recomputation(Value):
    """The verdict that the stored evidence gives, and where the stored files differ from it."""

    verdict: Admission | Finalist | Rejection | Undecided
    differences: tuple[str, ...]


@dataclass(frozen=True)
class _Screening:
    """What `screen` says of a folder's evidence under one policy."""

    scorecard: Scorecard
    evidence: Evidence
    policy: Policy
    verdict: Finalist | Rejection | Undecided
    confirmation: StoredConfirmation | None


def is_older(scorecard: Scorecard) -> bool:
    """Whether it was made before contents were counted and named answers were kept."""
    # Both came with one version of Assay: where only one is missing, something was removed.
    has_contents = scorecard.contents is not None
    has_named_answers = scorecard.named_answers is not None
    return not has_contents and not has_named_answers


def recompute(
    folder: Path, policy_file: Path | None = None, project: Path | None = None
) -> Recomputation:
    """Judge a folder's scorecard and evidence again, and compare with every file beside them.

    The policy is the folder's `policy.yaml` unless another is given. Statistics are computed
    again from the stored texts and losses, the bias of outputs from the stored answers, and the
    prompts are compared with the held-out split. What is missing is a difference, and so is an
    own metric whose file `project` does not have: a file in the folder is never run.
    `DamagedFile` where a file cannot be read, or the evidence is not the scorecard's.
    """
    screening = _screen_again(folder, policy_file or folder / "policy.yaml")
    scorecard, evidence = screening.scorecard, screening.evidence
    # Every comparison is made, whatever the earlier ones found: a person reads the whole list.
    stored = read_screen_verdict(folder / "verdict.json")
    # Every bound would differ: one sentence says why, and what to do.
    if stored.statistics != STATISTICS:
        sentence = _describe_other_statistics(stored.statistics)
        return Recomputation(verdict=screening.verdict, differences=(sentence,))
    differences = [*_evidence_differences(folder, screening, project)]
    champion = ChampionInput.read(folder / "champion.json")
    differences += maker_differences(scorecard, champion, evidence)
    differences += input_differences(folder, scorecard, evidence)
    differences += prefix_differences(folder, scorecard, evidence)
    differences += file_differences(folder, scorecard)
    differences += size_differences(folder, evidence)
    # Another policy is asked about the evidence, not whether it would have admitted the data.
    if policy_file is None:
        differences += _admission_differences(folder, screening.policy)
    differences += _confirmation_differences(folder, screening, project)
    demanded = list_rules(scorecard, screening.policy)
    verdict = screening.verdict
    # From before verdicts named that error: nothing was judged by it, and nothing is now.
    if not _names_error(stored):
        demanded = tuple(rule for rule in demanded if rule != YEAR_RULE)
        verdict = _without_error(verdict)
    if _names_confirmation(screening.verdict):
        demanded = (*demanded, CONFIRMATION)
    differences += rule_differences(stored.findings, demanded)
    differences += list_differences(
        "verdict",
        stored.model_dump(mode="json"),
        verdict.model_dump(mode="json"),
    )
    return Recomputation(verdict=screening.verdict, differences=tuple(differences))


def _names_error(verdict: Finalist | Rejection | Undecided) -> bool:
    return any(finding.rule == YEAR_RULE for finding in verdict.findings)


def _without_error(
    verdict: Finalist | Rejection | Undecided,
) -> Finalist | Rejection | Undecided:
    findings = [each for each in verdict.findings if each.rule != YEAR_RULE]
    return verdict.model_copy(update={"findings": tuple(findings)})


def _describe_other_statistics(version: int | None) -> str:
    named = (
        "statistics without a number" if version is None else f"statistics {version}"
    )
    return (
        f"verdict: `screen` judged by {named}, and statistics {STATISTICS} hold now, "
        "whose bounds are others. Have it scored and judged again with `assay run`"
    )


def rescreen(folder: Path, policy_file: Path) -> Finalist | Rejection | Undecided:
    """Judge a folder's evidence by another policy, without comparing it with the other files.

    For a folder that `recompute` has compared. `DamagedFile` where the scorecard or the evidence
    cannot be read.
    """
    return _screen_again(folder, policy_file).verdict


def older_differences(
    folder: Path, policy_file: Path, project: Path | None = None
) -> tuple[str, ...]:
    """What can be recomputed of a package that `is_older` and differs, or does not pass.

    Only for a version that a person answers for: what its package does not hold is not examined.
    `DamagedFile` where a file cannot be read.
    """
    screening = _screen_again(folder, policy_file)
    differences = _evidence_differences(folder, screening, project)
    # What such a package cannot hold, it cannot fail by.
    failures = tuple(
        f"by the policy that holds now: {finding.text}"
        for finding in screening.verdict.findings
        if finding.outcome != "passed" and not _asks_for_newer_data(finding)
    )
    return (*differences, *failures)


def _asks_for_newer_data(finding: Finding) -> bool:
    is_newer_rule = finding.rule in NEWER_RULES
    return is_newer_rule and finding.outcome == "undecided"


def _screen_again(folder: Path, policy_file: Path) -> _Screening:
    scorecard = Scorecard.read(folder / "scorecard.json")
    policy = load_policy(policy_file)
    evidence = _read_evidence(folder / "evidence.parquet", scorecard)
    verdict = screen_evidence(scorecard, evidence, policy)
    confirmation = read_confirmation(folder)
    # Only what passed was confirmed: nothing else opens a block.
    if confirmation is not None and isinstance(verdict, Finalist):
        again = confirm_again(confirmation, policy.gates.screen)
        verdict = confirm(verdict, again)
    return _Screening(scorecard, evidence, policy, verdict, confirmation)


def _read_evidence(path: Path, scorecard: Scorecard) -> Evidence:
    # The digest comes first: nothing is computed from other bytes.
    if not path.is_file() or sha256_of(path) != scorecard.evidence.sha256:
        raise DamagedFile(
            f"{path} is not the evidence that the scorecard names. "
            "Bring back the file that was stored with it."
        )
    return read_evidence(path)


def _evidence_differences(
    folder: Path, screening: _Screening, project: Path | None
) -> tuple[str, ...]:
    """Where statistics, scores and comparators do not follow from each other."""
    scorecard, evidence = screening.scorecard, screening.evidence
    differences = [
        *statistics_differences(evidence, project),
        *copy_differences(folder, evidence),
        *score_differences(scorecard, evidence),
    ]
    champion = ChampionInput.read(folder / "champion.json")
    differences += rival_differences(scorecard, champion, evidence)
    return tuple(differences)


def _names_confirmation(verdict: Finalist | Rejection | Undecided) -> bool:
    return any(finding.rule == CONFIRMATION for finding in verdict.findings)


def _confirmation_differences(
    folder: Path, screening: _Screening, project: Path | None
) -> Iterator[str]:
    """Where the opened block's evidence does not follow from itself, or is about other things."""
    stored = screening.confirmation
    if stored is None:
        return
    yield from confirmation_differences(
        folder,
        stored,
        screening.scorecard,
        screening.policy.gates.screen,
        screening.verdict.comparisons,
    )
    # A reason why no block was opened rests on no evidence.
    if stored.opened is None:
        return
    evidence = stored.opened.evidence
    yield from statistics_differences(evidence, project)
    yield from prompt_differences(stored.opened.rows, evidence)
    if "retrieval" in evidence.rows:
        retrieved = f"{CONFIRMATION_FOLDER}/{RETRIEVED}"
        yield from retrieved_differences(folder, evidence, retrieved)
    if evidence.settings != screening.evidence.settings:
        yield "confirmation: it was counted under other settings than the rest"
    if evidence.sampled_as != screening.evidence.sampled_as:
        yield "confirmation: its answers were drawn otherwise than the rest"


# Admission.


def readmit(
    folder: Path, policy_file: Path | None = None, *, older: bool = False
) -> Admission | Rejection | Undecided:
    """Judge admission again from a folder's reports: a run's evidence or a version's package.

    `older`: where a report is from before contents were counted, its groups replace them.
    """
    policy = load_policy(policy_file or folder / "policy.yaml")
    return _admit_again(folder, policy, older=older)


def recompute_admission(folder: Path, policy_file: Path | None = None) -> Recomputation:
    """Judge a run that `admit` ended, and compare with `verdict.json`.

    In a version's package `verdict.json` is that of `screen`: there is nothing to compare with.
    """
    verdict = readmit(folder, policy_file)
    if (folder / "scorecard.json").is_file():
        return Recomputation(verdict=verdict, differences=())
    stored = read_admission(folder / "verdict.json")
    differences = list_differences(
        "verdict",
        stored.model_dump(mode="json"),
        verdict.model_dump(mode="json"),
    )
    return Recomputation(verdict=verdict, differences=tuple(differences))


def _admit_again(
    folder: Path, policy: Policy, *, older: bool = False
) -> Admission | Rejection | Undecided:
    # The commit is lineage: `admit` judged the data without it, so its digest leaves it out.
    dataset = DatasetVersion.read(folder / "dataset.json").model_copy(
        update={"git_revision": None}
    )
    validation = ValidationReport.read(folder / "validation_report.json")
    if older and validation.contents is None:
        validation = validation.model_copy(update={"contents": validation.groups})
    bias = BiasReport.read(folder / "bias_report.json")
    return admit(dataset, validation, bias, policy)


def _admission_differences(folder: Path, policy: Policy) -> tuple[str, ...]:
    """A sentence for each rule of `admit` that the stored reports do not pass.

    Nothing is trained on data that was not admitted.
    """
    findings = _admit_again(folder, policy).findings
    return tuple(
        f"admission: {finding.rule} is {finding.outcome}: {finding.text}"
        for finding in findings
        if finding.outcome != "passed"
    )


# Single comparisons.


def rule_differences(
    findings: tuple[Finding, ...], demanded: tuple[str, ...]
) -> tuple[str, ...]:
    """Rules that a policy demands and the findings lack, and the other way round."""
    # Counted, since a rule may be demanded more than once, for each guardrail.
    present = Counter(finding.rule for finding in findings)
    expected = Counter(demanded)
    missing = (
        f"verdict.rules: there is no finding of {rule}, which the policy demands"
        for rule in expected - present
    )
    surplus = (
        f"verdict.rules: there is a finding of {rule}, which the policy does not demand"
        for rule in present - expected
    )
    return (*missing, *surplus)


def statistics_differences(
    evidence: Evidence, project: Path | None = None
) -> tuple[str, ...]:
    """Rows whose statistics do not follow from their texts and losses.

    Where losses or controls do not fit their rows, those are the differences. The rows of an own
    metric are counted again by the project's file, where that is the one that counted.
    """
    rows = _rows_of(evidence)
    groups = {row.row.prompt_id: row.group for row in rows}
    unfit = (*_loss_differences(rows), *_control_differences(rows, groups))
    # Without fitting losses and controls there is nothing to compute statistics from.
    if unfit:
        return unfit
    at_hand = find_metrics(evidence, rows, project)
    # Those are named already; everything else of a row is compared.
    names = {metric.name for metric in at_hand.metrics}
    uncounted = set(evidence.metrics) - names
    stored = [_without(row, uncounted) for row in rows]
    return (*at_hand.differences, *_row_differences(stored, at_hand.metrics))


def _row_differences(
    rows: list[EvidenceRow], metrics: tuple[Metric, ...]
) -> Iterator[str]:
    recomputed = _rows_of(with_statistics(rows, metrics))
    for row, recomputed_row in zip(rows, recomputed, strict=True):
        yield from list_differences(
            f"evidence.{row.system}.{row.row.prompt_id}",
            row.model_dump(mode="json"),
            recomputed_row.model_dump(mode="json"),
        )


def _without(row: EvidenceRow, names: set[str]) -> EvidenceRow:
    """The row without the statistics of these metrics."""
    statistics = _leave_out(row.statistics, names)
    control = _leave_out(row.control, names)
    sample_scores = _leave_out(row.sample_scores, names)
    return row.model_copy(
        update={
            "statistics": statistics,
            "control": control,
            "sample_scores": sample_scores,
        }
    )


def _leave_out(statistics: Statistics, names: set[str]) -> Statistics:
    return {name: numbers for name, numbers in statistics.items() if name not in names}


def _rows_of(evidence: Evidence) -> list[EvidenceRow]:
    rows: list[EvidenceRow] = []
    for system_rows in evidence.rows.values():
        rows += system_rows
    return rows


def _loss_differences(rows: list[EvidenceRow]) -> Iterator[str]:
    """Whether each reference has one loss, over its own bytes."""
    for row in rows:
        prompt = row.row
        # In bytes: a loss over another text would falsify bits per byte.
        stored = [
            (loss.prompt_id, loss.reference, loss.utf8_bytes) for loss in prompt.losses
        ]
        expected = [
            (prompt.prompt_id, number, len(reference.encode()))
            for number, reference in enumerate(prompt.references)
        ]
        if stored != expected:
            yield (
                f"evidence.{row.system}.{prompt.prompt_id}: its losses are not one "
                "for each reference, over that one's bytes"
            )


def _control_differences(
    rows: list[EvidenceRow], groups: dict[str, str]
) -> Iterator[str]:
    """Whether each control is a prompt of the evidence, of another group than its own."""
    for row in rows:
        control = row.control_prompt_id
        if control is None:
            continue
        name = f"evidence.{row.row.prompt_id}"
        if control not in groups:
            yield f"{name}: its control, {control}, is no prompt of the evidence"
        elif groups[control] == row.group:
            yield f"{name}: its control is of its own group"


def rival_differences(
    scorecard: Scorecard, champion: ChampionInput, evidence: Evidence
) -> tuple[str, ...]:
    """Whether exactly the champion and the anchor of `champion.json` were scored and answered."""
    versions: dict[System, str] = {
        system: comparator.version for system, comparator in champion.comparators()
    }
    differences = []
    for system in RELEASED:
        # In both places: a scorecard can be complete while rows are missing in the evidence.
        presence = {
            "": scorecard.system(system) is not None,
            " in the evidence": system in evidence.rows,
        }
        for place, is_present in presence.items():
            if is_present == (system in versions):
                continue
            fact = "scored" if is_present else "not scored"
            version = versions.get(system, "none")
            differences.append(
                f"{system}: {fact}{place}, and champion.json names {version}"
            )
    return tuple(differences)


def maker_differences(
    scorecard: Scorecard, champion: ChampionInput, evidence: Evidence
) -> Iterator[str]:
    """Systems whose adapter or configuration in the evidence is not that of the files beside it."""
    expected_by_system = expected_makers(scorecard, champion)
    for system in evidence.rows:
        maker = evidence.made_by.get(system)
        if maker is None:
            yield f"evidence.{system}: it does not name what answered"
            continue
        # A champion that champion.json does not name has no adapter that could have answered.
        expected = expected_by_system.get(system, scorecard.spec.with_adapter(None))
        if maker.adapter_sha256 != expected.adapter_sha256:
            yield (
                f"evidence.{system}: adapter {_shorten(maker.adapter_sha256)} answered, "
                f"the files beside it name {_shorten(expected.adapter_sha256)}"
            )
        # As a whole: base, engine, precision and length are part of what was scored.
        if maker != expected:
            yield (
                f"evidence.{system}: it was made in another configuration "
                "than the scorecard names"
            )


def _shorten(digest: str | None) -> str:
    return (digest or "none")[:12]
