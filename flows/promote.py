"""RELEASES: what `assay promote` does, from a registered version to full traffic.

    ModelVersion ─judge─ Candidate ─ Release ─ the endpoint answers with it ─ alias `champion`

The ledger and the version's page hold every verdict of `judge`, whatever it was. The alias moves
last. The brakes do without this module: they are in `registry/release/brakes.py`.
"""

from pathlib import Path

from core.errors import RegistryError, ReleaseError
from core.locks import exclusive, release_lock, share_home
from core.project import Project
from core.value import Value
from flows.champions import move_champions
from flows.judged_version import JudgedVersion, decide
from flows.package_repair import fetch_released_package, package_fault, signer_of
from flows.release_wait import see_release_through
from flows.run.attempt import fetch_package_of
from flows.run.comparators import find_anchor_adapter
from flows.run.model_files import policy_of
from pipelines.gates.policy import load_policy
from pipelines.models.base_store import locate_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.verdict import (
    Candidate,
    Finalist,
    Rejection,
    Undecided,
    read_screen_verdict,
)
from registry.ledger.audit import PAGE_TAG
from registry.ledger.ledger import open_ledger
from registry.ledger.state import LedgerState, RecordedRelease
from registry.mlflow.home_store import open_store
from registry.mlflow.pages import check_pages
from registry.mlflow.recorded import ModelVersion
from registry.mlflow.store import Store
from registry.release.context import ChangeRequest, Patience, ReleaseContext
from registry.release.release import (
    Subject,
    begin_release,
    drive_release,
    record_judgement,
)
from registry.release.since_judged import check_serves_as_before
from serving.replicated import following_endpoint

_LONGEST_TAG = 4900
"""MLflow's limit for a tag is 5,000 characters."""


class Promotion(Value):
    """What `assay promote` came to: the verdict, and the release if there is one."""

    model: str
    version: str
    verdict: Candidate | Rejection | Undecided
    released: RecordedRelease | None
    note: str = ""


class Repaired(Value):
    """What `assay promote` came to where the version serves already and its package was damaged."""

    model: str
    version: str
    aside: Path | None
    """Where the damaged folder is now; None where there was none."""


class Begun(Value):
    """A release that has begun: whoever drives it next carries it to its end."""

    version: str
    verdict: Candidate
    generation: int
    """The entry at which it began."""


def open_release_context(home: Path, until: float | None = None) -> ReleaseContext:
    """Ledger and endpoint: all that releases and brakes need.

    `until`: when a driver gives up waiting, on the monotonic clock; None: never.
    """
    ledger = open_ledger(home)
    endpoint = following_endpoint(home)
    return ReleaseContext(ledger, endpoint, Patience(until=until))


def promote(
    project: Project,
    model: str,
    version: str,
    order: ChangeRequest,
    until: float | None = None,
) -> Promotion | Repaired:
    """Judge a version and, where it passes, release it; a rejection is a result, not a failure.

    `until`: when to give up waiting for releases, on the monotonic clock. What has begun stays as
    it is then, for the controller.
    Raises `ReleaseError` where the version serves already or cannot be released, `RegistryError`
    where MLflow does not hold it, `ServingError` without an endpoint, and `BrokenLedger` where a
    page remembers an entry that the ledger does not hold.
    """
    context = open_release_context(project.home, until)
    outcome = begin_promotion(project, model, version, order, context)
    if not isinstance(outcome, Begun):
        return outcome
    # Outside of the lock: a canary may take days, in which others release other models.
    released = see_release_through(project.home, model, outcome.generation, context)
    note = _move_champion(open_store(project), context.ledger.state())
    return Promotion(
        model=model,
        version=outcome.version,
        verdict=outcome.verdict,
        released=released,
        note=note,
    )


def begin_promotion(
    project: Project,
    model: str,
    version: str,
    order: ChangeRequest,
    context: ReleaseContext,
) -> Begun | Promotion | Repaired:
    """Judge a version and, where it passes, begin its release; the controller can carry it on.

    Errors as of `promote`.
    """
    store = open_store(project)
    candidate = store.get_version(model, version)
    # What is on its way gives way to what passed, and not to what somebody merely asked for.
    if order.wished is not None and _is_on_its_way(context, model):
        ahead = _judge_ahead(project, store, candidate, context)
        if not isinstance(ahead, Candidate):
            return Promotion(
                model=model, version=candidate.version, verdict=ahead, released=None
            )
    turn = exclusive(
        release_lock(project.home),
        wait=context.patience.seconds_left,
        busy=_other_release_error,
    )
    with share_home(project.home), turn:
        # Promoting what serves already is the way to repair its files.
        ledger_state = context.ledger.state()
        repaired = _repair_serving_package(project.home, store, candidate, ledger_state)
        if repaired is not None:
            return repaired
        package = fetch_package_of(store, candidate, project.home)
        # Without an endpoint `drive_release` would roll back a release that is under way.
        context.endpoint.state()
        # We hold the lock, so whoever drove an earlier release has ended. A canary goes on.
        drive_release(model, context, waits=False)
        check_pages(store, context.ledger, context.ledger.state())
        looked_at = context.ledger.state()
        _check_does_not_serve(looked_at, candidate)
        verdict, ledger_state = _judge(
            project,
            context,
            store,
            candidate,
            package,
        )
        # The verdict is recorded, whatever it was: that is the answer.
        if not isinstance(verdict, Candidate):
            return Promotion(
                model=model, version=candidate.version, verdict=verdict, released=None
            )
        check_serves_as_before(model, looked_at, ledger_state)
        # The weights must be on this machine before the endpoint is told to load them.
        manifest = BaseModelManifest.read(package / "base_model.json")
        locate_base_model(manifest, project.home)
        generation = begin_release(
            verdict,
            ledger_state.head.generation,
            order,
            context,
        )
        return Begun(version=candidate.version, verdict=verdict, generation=generation)


def _is_on_its_way(context: ReleaseContext, model: str) -> bool:
    model_state = context.ledger.state().model(model)
    return model_state.pending is not None


def _judge_ahead(
    project: Project, store: Store, candidate: ModelVersion, context: ReleaseContext
) -> Candidate | Rejection | Undecided:
    """Judge while another release is driven, whose driver holds the lock.

    A pass is an entry by which that driver gives way; the version is judged again after that.
    """
    with share_home(project.home):
        package = fetch_package_of(store, candidate, project.home)
        check_pages(store, context.ledger, context.ledger.state())
        verdict, _ = _judge(
            project,
            context,
            store,
            candidate,
            package,
        )
    return verdict


def _judge(
    project: Project,
    context: ReleaseContext,
    store: Store,
    candidate: ModelVersion,
    package: Path,
) -> tuple[Candidate | Rejection | Undecided, LedgerState]:
    """Judge and record; from here on nothing is read from MLflow that a person could edit."""
    judged = version_to_judge(
        project,
        context,
        store,
        candidate,
        package,
    )
    return judge_and_record(context, store, judged)


def _other_release_error() -> ReleaseError:
    return ReleaseError(
        "Another release is on its way, and the time to wait for it is over: nothing was judged. "
        "`assay status` says how it stands; then run the same command again."
    )


def version_to_judge(
    project: Project,
    context: ReleaseContext,
    store: Store,
    version: ModelVersion,
    package: Path,
) -> JudgedVersion:
    """The version with everything that `judge` looks at.

    `RegistryError` where it never passed `screen`.
    """
    ledger_state = context.ledger.state()
    model_state = ledger_state.model(version.name)
    origin = ledger_state.registration(version.name, version.version)
    finalist = read_finalist(version, package)
    anchor = find_anchor_adapter(
        store,
        version.name,
        project.home,
        model_state,
        finalist.adapter.sha256,
    )
    return JudgedVersion(
        version=version,
        finalist=finalist,
        package=package,
        policy=policy_of(project.root, version.name),
        project=project.root,
        origin=origin,
        anchor=anchor,
        recall=context.ledger.recall,
        created_at=store.find_creation(version).at,
    )


def judge_and_record(
    context: ReleaseContext, store: Store, judged: JudgedVersion
) -> tuple[Candidate | Rejection | Undecided, LedgerState]:
    """Judge the version, and record the verdict in the ledger and on the version's page.

    `ReleaseError` where policy, approvals or reviews were changed meanwhile.
    """
    version, finalist = judged.version, judged.finalist
    looked_at = context.ledger.state()
    verdict = decide(judged, looked_at)
    policy = load_policy(judged.policy)
    # It is read in several places, and each must have read the same.
    if policy.sha256 != verdict.policy_sha256:
        raise ReleaseError(
            f"{judged.policy} was changed while version {version.version} of {version.name} was "
            "judged, so that this verdict does not count. Ask again."
        )
    subject = Subject(
        version.name,
        version.version,
        version.package_sha256,
        finalist.adapter.sha256,
        policy.gates.judge.approvals,
        policy.gates.judge.waivers_by,
    )
    ledger_state = record_judgement(
        context.ledger,
        subject,
        verdict,
        looked_at,
    )
    _annotate_page(
        store,
        version,
        verdict,
        ledger_state,
    )
    return verdict, ledger_state


def _move_champion(store: Store, ledger_state: LedgerState) -> str:
    """Empty, or that MLflow was lost meanwhile: the release holds, and repeating it is refused."""
    try:
        move_champions(store, ledger_state)
    except RegistryError:
        return (
            "MLflow did not take the alias `champion`. "
            "The controller of `assay up` moves it once MLflow answers."
        )
    return ""


def _repair_serving_package(
    home: Path, store: Store, version: ModelVersion, ledger_state: LedgerState
) -> Repaired | None:
    """Fetch the package again where the version serves and its folder is not whole, else None."""
    serving = ledger_state.model(version.name).answering
    if serving is None or serving.release.version != version.version:
        return None
    signer = signer_of(ledger_state, serving.release)
    if not package_fault(home, serving.release, signer):
        return None
    aside = fetch_released_package(
        home,
        serving.release,
        store,
        signer,
    )
    return Repaired(
        model=version.name,
        version=version.version,
        aside=aside,
    )


def _check_does_not_serve(ledger_state: LedgerState, version: ModelVersion) -> None:
    serving = ledger_state.model(version.name).answering
    if serving is not None and serving.release.version == version.version:
        raise ReleaseError(
            f"Version {version.version} of {version.name} serves already. "
            "`assay status` says since when."
        )


def read_finalist(version: ModelVersion, package: Path) -> Finalist:
    """The stored verdict of `screen`; `RegistryError` where it is no pass."""
    verdict = read_screen_verdict(package / "verdict.json")
    if not isinstance(verdict, Finalist):
        raise RegistryError(
            f"Version {version.version} of {version.name} never passed `screen`. Train it again."
        )
    return verdict


def _annotate_page(
    store: Store,
    version: ModelVersion,
    verdict: Candidate | Rejection | Undecided,
    ledger_state: LedgerState,
) -> None:
    """Write verdict, reasons, and the entry that holds both on the version's page."""
    reasons = [f"{finding.outcome}: {finding.text}" for finding in verdict.findings]
    tags = {
        "assay.judge": verdict.verdict,
        "assay.judge_reasons": "\n".join(reasons)[:_LONGEST_TAG],
        PAGE_TAG: ledger_state.head.as_tag,
    }
    store.annotate(version, tags)
