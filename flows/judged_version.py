"""The version that `judge` is asked about, and everything besides its evidence that it looks at.

Author and time come from the ledger, never from MLflow, which many people can edit.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from core.files import sha256_of
from flows.judged_bases import base_differences
from flows.judged_confirmation import confirmed_of
from flows.judged_people import (
    approvals_of,
    last_verdict,
    origin_approvals_of,
    persons_of,
    waivers_of,
)
from pipelines.gates.policy import load_policy
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.verdict import Candidate, Finalist, Rejection, Undecided
from registry.ledger.state import LedgerState, RecordedRelease, Registration
from registry.mlflow.recorded import ModelVersion
from registry.release.calibration import Records
from registry.release.judge import judge
from registry.release.judging.circumstances import (
    Approval,
    Circumstances,
    HumanRating,
    Origin,
    Readmission,
)
from registry.release.known_answers import drawable_prompts, known_answer_differences
from registry.release.model_rating import model_rating
from registry.release.people import People, read_people
from registry.release.rated_by_model import RatedByModel
from registry.release.rating import RatedVersion, Recall, human_rating
from registry.release.recompute import (
    is_older,
    older_differences,
    readmit,
    recompute,
    rescreen,
)
from registry.release.signer import FoundSignature, find_signature


@dataclass(frozen=True)
class JudgedVersion:
    """The version, its package on this machine, and the policy that holds now."""

    version: ModelVersion
    finalist: Finalist
    package: Path
    policy: Path
    project: Path
    """The root, whose own metrics count the evidence again."""
    origin: Registration | None
    anchor: Adapter | None
    """The anchor's adapter as it is now; None: there is none."""
    recall: Recall
    """What is kept beside the ledger: plans and ratings of reviews."""
    created_at: datetime
    """When MLflow says that it was registered: asked only where no run entered the version."""

    @cached_property
    def is_older(self) -> bool:
        """A person adopted it, and its package lacks some of what `judge` looks at today."""
        is_adopted = self.origin is not None and self.origin.is_adopted
        if not is_adopted:
            return False
        return is_older(Scorecard.read(self.package / "scorecard.json"))


def decide(
    judged: JudgedVersion, ledger_state: LedgerState
) -> Candidate | Rejection | Undecided:
    """What `judge` says of the version; nothing is written anywhere."""
    # First, so that who records the verdict sees where it was changed meanwhile.
    policy = load_policy(judged.policy)
    circumstances = circumstances_of(judged, ledger_state)
    return judge(judged.finalist, circumstances, policy)


def circumstances_of(judged: JudgedVersion, ledger_state: LedgerState) -> Circumstances:
    """Everything besides the finalist that `judge` looks at.

    `ParameterError` where `people.yaml` cannot be read: nobody would be known.
    """
    version, origin = judged.version, judged.origin
    people = read_people(judged.project)
    author = "unknown" if origin is None else origin.by
    author_account = None if origin is None else origin.account
    adapter = judged.finalist.adapter.sha256
    model = ledger_state.model(version.name)
    comparators = ChampionInput.read(judged.package / "champion.json")
    compared, anchor = comparators.champion, comparators.anchor
    serving = model.comparator
    found = _signature(judged, ledger_state)
    by_people, by_model = _ratings(judged, ledger_state, people)
    last = last_verdict(ledger_state, version.name)
    # By number or by bytes: a copy under another name is revoked, too.
    is_revoked = version.version in model.revoked
    is_revoked_there = adapter in ledger_state.revoked_in_origin
    return Circumstances(
        model=version.name,
        version=version.version,
        package_sha256=version.package_sha256,
        registered_at=_registered_at(origin, judged.created_at),
        now=max(datetime.now(UTC), ledger_state.at),
        author=author,
        author_account=author_account,
        author_persons=persons_of(people, author, author_account),
        origin=None if origin is None else _origin(origin),
        admitted=_admit_again(judged),
        drawable=len(drawable_prompts(judged.package)),
        compared_with=_compared_with(compared, origin, serving),
        compared_adapter=None if compared is None else compared.adapter.sha256,
        champion=None if serving is None else serving.release.version,
        champion_adapter=None
        if serving is None
        else serving.release.spec.adapter_sha256,
        compared_anchor=None if anchor is None else anchor.adapter.sha256,
        anchor=None if judged.anchor is None else judged.anchor.sha256,
        last_policy=None if last is None else last.policy_sha256,
        last_approvals=0 if last is None else last.approvals_asked or 0,
        last_waivers_by=None if last is None else last.waivers_by,
        revoked=is_revoked
        or is_revoked_there
        or adapter in ledger_state.revoked_adapters,
        frozen=ledger_state.frozen is not None,
        waivers=waivers_of(ledger_state, version.name, people),
        approvals=_approvals(judged, ledger_state, people),
        human_rating=by_people,
        rated_by_model=by_model,
        recomputed_differences=(
            *_differences(judged),
            *base_differences(judged.package, model, judged.anchor),
        ),
        confirmed=confirmed_of(judged.version, judged.package, ledger_state, origin),
        is_made_by_a_run=_is_made_by_a_run(adapter, ledger_state),
        is_older=judged.is_older,
        signature=found.signature,
        signature_fault=found.fault,
    )


def _approvals(
    judged: JudgedVersion, ledger_state: LedgerState, people: People
) -> tuple[Approval, ...]:
    """Those of this ledger; those of the one that it came from where the policy counts them."""
    own = approvals_of(
        ledger_state,
        judged.version,
        people,
    )
    policy = load_policy(judged.policy)
    limits = policy.gates.judge
    # Who may approve there is not decided here.
    if judged.origin is None or not limits.origin_approvals:
        return own
    others = origin_approvals_of(judged.origin, people)
    return (*own, *others)


def _ratings(
    judged: JudgedVersion, ledger_state: LedgerState, people: People
) -> tuple[HumanRating | None, RatedByModel | None]:
    """What people found, and what a model did in their place; each None where it was not asked."""
    # Without its entry in the ledger no review of it was opened.
    if judged.origin is None:
        return None, None
    rated = RatedVersion(
        origin=judged.origin,
        package=judged.package,
        people=people,
        policy=load_policy(judged.policy),
    )
    by_people = human_rating(rated, ledger_state, judged.recall)
    by_model = model_rating(rated, Records(ledger_state, judged.recall))
    return by_people, by_model


def _compared_with(
    compared: Champion | None,
    origin: Registration | None,
    serving: RecordedRelease | None,
) -> str | None:
    """The champion's version in the evidence, by the number that it has here."""
    if compared is None:
        return None
    is_received = origin is not None and origin.received is not None
    # Another installation numbers its versions by itself: the adapter says which one it is.
    if is_received and serving is not None:
        release = serving.release
        is_same_adapter = release.spec.adapter_sha256 == compared.adapter.sha256
        if is_same_adapter:
            return release.version
    return compared.version


def _is_made_by_a_run(adapter_sha256: str, ledger_state: LedgerState) -> bool:
    """Whether a run entered this adapter: to copy its version and adopt the copy spares nothing."""
    return any(
        not registration.is_adopted
        for registration in ledger_state.registrations.values()
        if registration.made.adapter_sha256 == adapter_sha256
    )


def _signature(judged: JudgedVersion, ledger_state: LedgerState) -> FoundSignature:
    """The package's signature, by the keys that counted when the ledger was told of the version."""
    origin = judged.origin
    # A version that no entry knows would be entered by the next one at the earliest.
    next_entry = ledger_state.head.generation + 1
    registered = next_entry if origin is None else origin.generation
    return find_signature(judged.package, ledger_state, registered)


def _differences(judged: JudgedVersion) -> tuple[str, ...]:
    """Where stored verdict and known answers do not follow from the evidence.

    Where the policy of now is another than the package's, also each rule of it that fails.
    """
    package, policy = judged.package, judged.policy
    # As many tokens as were generated when the answers were scored.
    most_tokens = judged.finalist.spec.default_max_tokens
    # The known answers are what the endpoint must repeat before it takes requests.
    answers = known_answer_differences(package, most_tokens)
    if judged.is_older:
        return (*older_differences(package, policy, judged.project), *answers)
    stored = (*recompute(package, project=judged.project).differences, *answers)
    if sha256_of(policy) == sha256_of(package / "policy.yaml"):
        return stored
    failed = [
        f"by the policy that holds now: {finding.text}"
        for finding in rescreen(package, policy).findings
        if finding.outcome != "passed"
    ]
    return (*stored, *failed)


def _admit_again(judged: JudgedVersion) -> Readmission:
    """What `admit` says of the package's data under the policy that holds now."""
    # Named in the finding where the policy has changed since.
    former_policy = load_policy(judged.package / "policy.yaml")
    verdict = readmit(judged.package, judged.policy, older=judged.is_older)
    failed = [each for each in verdict.findings if each.outcome != "passed"]
    return Readmission(
        verdict=verdict.verdict,
        reasons=tuple(finding.text for finding in failed),
        policy_sha256=former_policy.sha256,
        policy_name=former_policy.gates.name,
    )


def _registered_at(origin: Registration | None, created_at: datetime) -> datetime:
    """The entry's time: of a received version the first one, of an adopted one the older of both.

    Neither moving nor adoption makes evidence fresh.
    """
    if origin is None:
        return created_at
    if origin.received is not None:
        return origin.received.made_at
    return min(origin.at, created_at) if origin.is_adopted else origin.at


def _origin(registration: Registration) -> Origin:
    received = registration.received
    return Origin(
        generation=registration.generation,
        package_sha256=registration.made.package_sha256,
        adapter_sha256=registration.made.adapter_sha256,
        is_adopted=registration.is_adopted,
        by=registration.by,
        received_from=None if received is None else received.origin.name,
    )
