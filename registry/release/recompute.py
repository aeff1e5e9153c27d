"""A verdict once more, from what was stored: anyone who holds the folder can check it, without the models."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from core.errors import DamagedFile
from core.files import sha256_of
from core.value import Value
from pipelines.gates.comparisons import compare, differing, score_differences
from pipelines.gates.policy import Policy, load_policy
from pipelines.metrics import metric_named
from pipelines.scoring.evidence_file import Evidence, EvidenceRow, read_evidence
from pipelines.scoring.scores import with_statistics
from pipelines.stages.admit import admit
from pipelines.stages.screen import rules_of, screen
from pipelines.values.champion import ChampionInput
from pipelines.values.dataset import BiasReport, DatasetVersion, ValidationReport
from pipelines.values.evidence import OPTIONAL_COMPARATORS, Scorecard, System
from pipelines.values.training_set import read_admission
from pipelines.values.verdict import (
    Admission,
    Finalist,
    Finding,
    Rejection,
    Undecided,
    read_screen_verdict,
)
from registry.release.stored_files import file_differences
from registry.release.stored_inputs import input_differences

NEWER_RULES = frozenset({"output refusals"})
"""Rules of `screen` that ask for what older scorecards do not hold."""


class Recomputed(Value):
    """The verdict that the stored evidence gives, and each place where the stored files say something else."""

    verdict: Admission | Finalist | Rejection | Undecided
    differences: tuple[str, ...]


def is_older(scorecard: Scorecard) -> bool:
    """It was scored before contents were counted and answers to prompts with names were kept, so that some is not there."""
    return scorecard.contents is None and scorecard.named_answers is None


def older_differences(folder: Path, policy_file: Path) -> tuple[str, ...]:
    """Of a package that `is_older`: whatever of it can be recomputed and differs, or does not pass by this policy.

    Only for a version that a person answers for: what its package does not hold is not looked at.
    """
    scorecard, policy = (
        Scorecard.read(folder / "scorecard.json"),
        load_policy(policy_file),
    )
    evidence = _evidence(folder / "evidence.parquet", scorecard)
    verdict = screen(scorecard, compare(evidence, policy.gates.screen), policy)
    short = [each for each in verdict.findings if each.outcome != "passed"]
    not_looked_at = [
        each
        for each in short
        if each.outcome == "undecided" and each.rule in NEWER_RULES
    ]
    return (
        *statistics_differences(evidence),
        *score_differences(scorecard, evidence),
        *rival_differences(
            scorecard, ChampionInput.read(folder / "champion.json"), evidence
        ),
        *(
            f"by the policy that holds now: {each.text}"
            for each in short
            if each not in not_looked_at
        ),
    )


def readmit(
    folder: Path, policy_file: Path | None = None, *, older: bool = False
) -> Admission | Rejection | Undecided:
    """Judge admission again from a folder's reports: a run's evidence or a version's package.

    `older`: where a report is from before contents were counted, its groups stand for them.
    """
    return _readmitted(
        folder, load_policy(policy_file or folder / "policy.yaml"), older=older
    )


def _readmitted(
    folder: Path, policy: Policy, *, older: bool = False
) -> Admission | Rejection | Undecided:
    # The commit is lineage: `admit` judged the data without it, so its digest leaves it out.
    dataset = DatasetVersion.read(folder / "dataset.json").model_copy(
        update={"git_revision": None}
    )
    validation = ValidationReport.read(folder / "validation_report.json")
    if older and validation.contents is None:
        validation = validation.model_copy(update={"contents": validation.groups})
    return admit(
        dataset, validation, BiasReport.read(folder / "bias_report.json"), policy
    )


def recompute_admission(folder: Path, policy_file: Path | None = None) -> Recomputed:
    """Judge a run that `admit` ended and compare with `verdict.json`.

    In a version's package `verdict.json` is that of `screen`, so there is no admission to compare with.
    """
    verdict = readmit(folder, policy_file)
    if (folder / "scorecard.json").is_file():
        return Recomputed(verdict=verdict, differences=())
    stored = read_admission(folder / "verdict.json")
    found, kept = verdict.model_dump(mode="json"), stored.model_dump(mode="json")
    return Recomputed(
        verdict=verdict, differences=tuple(differing("verdict", kept, found))
    )


def recompute(folder: Path, policy_file: Path | None = None) -> Recomputed:
    """Judge `scorecard.json` and `evidence.parquet` again and compare with every file beside them, all in one folder.

    The policy is the folder's `policy.yaml` unless another is given.

    Statistics are taken from the stored texts and losses again, the bias of outputs from the stored answers, and the
    prompts are held against the held-out split. What is not there to compare with is a difference.
    """
    scorecard, policy = (
        Scorecard.read(folder / "scorecard.json"),
        load_policy(policy_file or folder / "policy.yaml"),
    )
    evidence = _evidence(folder / "evidence.parquet", scorecard)
    verdict = screen(scorecard, compare(evidence, policy.gates.screen), policy)
    stored = read_screen_verdict(folder / "verdict.json")
    return Recomputed(
        verdict=verdict,
        differences=(
            *statistics_differences(evidence),
            *score_differences(scorecard, evidence),
            *rival_differences(
                scorecard, ChampionInput.read(folder / "champion.json"), evidence
            ),
            *maker_differences(
                scorecard, ChampionInput.read(folder / "champion.json"), evidence
            ),
            *input_differences(folder, scorecard, evidence),
            *file_differences(folder, scorecard),
            # Under another policy the question is what that one says of the evidence, not whether it would have admitted.
            *(_admission_differences(folder, policy) if policy_file is None else ()),
            *rule_differences(stored.findings, rules_of(scorecard, policy)),
            *differing(
                "verdict",
                stored.model_dump(mode="json"),
                verdict.model_dump(mode="json"),
            ),
        ),
    )


def _admission_differences(folder: Path, policy: Policy) -> tuple[str, ...]:
    """Nothing is trained on data that was not admitted: each rule of `admit` that the stored reports do not keep."""
    short = [
        finding
        for finding in _readmitted(folder, policy).findings
        if finding.outcome != "passed"
    ]
    return tuple(
        f"admission: {finding.rule} is {finding.outcome}: {finding.text}"
        for finding in short
    )


def rule_differences(
    findings: tuple[Finding, ...], demanded: tuple[str, ...]
) -> tuple[str, ...]:
    """Rules that a policy demands and the findings lack, and findings of rules that it does not demand."""
    there, wanted = Counter(finding.rule for finding in findings), Counter(demanded)
    return (
        *(
            f"verdict.rules: there is no finding of {rule}, which the policy demands"
            for rule in wanted - there
        ),
        *(
            f"verdict.rules: there is a finding of {rule}, which the policy does not demand"
            for rule in there - wanted
        ),
    )


def statistics_differences(evidence: Evidence) -> tuple[str, ...]:
    """Rows whose statistics do not follow from their texts and losses, and controls that stay in their own group."""
    rows = [row for same in evidence.rows.values() for row in same]
    groups = {row.row.prompt_id: row.group for row in rows}
    unfit = (*_loss_differences(rows), *_control_differences(rows, groups))
    if unfit:
        return unfit  # there is nothing to take statistics from
    again = with_statistics(rows, [metric_named(name) for name in evidence.metrics])
    found = [row for same in again.rows.values() for row in same]
    return tuple(
        difference
        for row, other in zip(rows, found, strict=True)
        for difference in differing(
            f"evidence.{row.system}.{row.row.prompt_id}",
            row.model_dump(mode="json"),
            other.model_dump(mode="json"),
        )
    )


def _loss_differences(rows: list[EvidenceRow]) -> Iterator[str]:
    """Each reference has one loss, over its own bytes."""
    for row in rows:
        found = [
            (loss.prompt_id, loss.reference, loss.utf8_bytes) for loss in row.row.losses
        ]
        sizes = (len(reference.encode()) for reference in row.row.references)
        wanted = [
            (row.row.prompt_id, number, size) for number, size in enumerate(sizes)
        ]
        if found != wanted:
            yield f"evidence.{row.system}.{row.row.prompt_id}: its losses are not one for each reference, over that one's bytes"


def _control_differences(
    rows: list[EvidenceRow], groups: dict[str, str]
) -> Iterator[str]:
    for row in rows:
        other = row.control_prompt_id
        if other is not None and other not in groups:
            yield f"evidence.{row.row.prompt_id}: its control, {other}, is no prompt of the evidence"
        elif other is not None and groups[other] == row.group:
            yield f"evidence.{row.row.prompt_id}: its control is of its own group"


def rival_differences(
    scorecard: Scorecard, found: ChampionInput, evidence: Evidence
) -> tuple[str, ...]:
    """A champion or an anchor that is named and was not scored, or was scored or answered and is not named."""
    named: dict[System, str] = {
        system: comparator.version for system, comparator in found.comparators()
    }
    return tuple(
        f"{system}: {'scored' if is_there else 'not scored'}{where}, and champion.json names {named.get(system, 'none')}"
        for system in OPTIONAL_COMPARATORS
        for where, is_there in (
            ("", scorecard.system(system) is not None),
            (" in the evidence", system in evidence.rows),
        )
        if is_there != (system in named)
    )


def maker_differences(
    scorecard: Scorecard, found: ChampionInput, evidence: Evidence
) -> Iterator[str]:
    """Systems of which the evidence names another adapter, or another configuration, than the files beside it."""
    adapters: dict[System, str | None] = {
        "base": None,
        "few_shot": None,
        "adapter": scorecard.adapter.sha256,
    }
    adapters |= {
        system: comparator.adapter.sha256 for system, comparator in found.comparators()
    }
    for system in evidence.rows:
        maker = evidence.made_by.get(system)
        if maker is None:
            yield f"evidence.{system}: it does not name what answered"
        elif maker.adapter_sha256 != adapters.get(system):
            wanted = (adapters.get(system) or "none")[:12]
            yield f"evidence.{system}: adapter {(maker.adapter_sha256 or 'none')[:12]} answered, the files beside it name {wanted}"
        if maker not in (None, scorecard.spec.with_adapter(adapters.get(system))):
            yield f"evidence.{system}: it was made in another configuration than the scorecard names"


def _evidence(path: Path, scorecard: Scorecard) -> Evidence:
    if not path.is_file() or sha256_of(path) != scorecard.evidence.sha256:
        raise DamagedFile(
            f"{path} is not the evidence that the scorecard names. Bring back the file that was stored with it."
        )
    return read_evidence(path)
