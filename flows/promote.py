"""RELEASES: what `assay promote` does, from a registered version to full traffic. The brakes are in `registry/release/brakes.py` alone.

ModelVersion ─judge─► Candidate ─► Release ─► the endpoint answers with it ─► alias `champion`, moved last.
Every answer of `judge` is in the ledger and on the version's page, whatever it was.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from core.errors import RegistryError, ReleaseError
from core.files import sha256_of
from core.locks import in_use
from core.project import Project
from core.value import Value
from flows.packages import fetch_package, package_fault
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.stages.base_model import locate
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import ChampionInput
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import (
    Candidate,
    Finalist,
    Rejection,
    Undecided,
    read_screen_verdict,
)
from registry.ledger.audit import PAGE_TAG
from registry.ledger.entries import Release
from registry.ledger.ledger import open_ledger
from registry.ledger.state import LedgerState, ModelState, RecordedRelease, Registration
from registry.mlflow.home_store import open_store
from registry.mlflow.pages import check_pages
from registry.mlflow.recorded import CHALLENGER, CHAMPION, ModelVersion
from registry.mlflow.store import Store
from registry.release.context import Order, ReleaseContext
from registry.release.judge import (
    AdmittedAgain,
    Circumstances,
    Origin,
    WaiverGiven,
    judge,
)
from registry.release.known_answers import drawable_prompts, known_answer_differences
from registry.release.recompute import is_older, older_differences, readmit, recompute
from registry.release.release import Subject, carry_on, record_judgement, release
from serving.client import endpoint_client

POLICIES = layout.POLICIES


class Promotion(Value):
    """What `assay promote` came to: the verdict, and the release if there is one."""

    model: str
    version: str
    verdict: Candidate | Rejection | Undecided
    released: RecordedRelease | None
    note: str = ""


def release_turn(home: Path) -> FileLock:
    """One release at a time. The kernel's lock goes with the process that holds it, so that the controller takes over from a dead one."""
    lock = home / "leases" / "release.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)


def open_release_context(home: Path) -> ReleaseContext:
    """Ledger and endpoint: all that releases and brakes need."""
    return ReleaseContext(open_ledger(home), endpoint_client(home))


class Repaired(Value):
    """What `assay promote` came to where the version serves already, and its package was damaged: it was fetched again."""

    model: str
    version: str
    aside: Path | None
    """Where the damaged folder lies now; None where there was none."""


def promote(
    project: Project, model: str, version: str, order: Order
) -> Promotion | Repaired:
    """Judge a version and, where it passes, release it; a rejection is a result, not a failure."""
    store, context = open_store(project), open_release_context(project.home)
    found = store.get_version(model, version)
    with in_use(project.home), release_turn(project.home):
        if (repaired := _repaired(project.home, store, found)) is not None:
            return repaired
        package = store.fetch(found, project.home / "packages" / found.package_sha256)
        context.endpoint.state()  # with nothing to answer, an earlier release that was left on its way would be rolled back
        carry_on(
            model, context
        )  # whoever drove an earlier release is gone: the lock is ours
        check_pages(store, context.ledger, context.ledger.state())
        _check_is_new(context.ledger.state(), found)
        finalist = _finalist(found, package)
        policy = policy_file(project.root, model)
        origin = context.ledger.state().registration(model, found.version)
        judging = Judging(
            found, finalist, package, policy, origin, store.made(found).at
        )
        case = _circumstances(judging, context.ledger.state())
        verdict = judge(finalist, case, load_policy(policy))
        subject = Subject(
            model, found.version, found.package_sha256, finalist.adapter.sha256
        )
        ledger_state = record_judgement(context.ledger, subject, verdict)
        _tell(store, found, verdict, ledger_state)
        if not isinstance(verdict, Candidate):
            return Promotion(
                model=model, version=found.version, verdict=verdict, released=None
            )
        locate(BaseModelManifest.read(package / "base_model.json"), project.home)
        held = release(verdict, ledger_state.head.generation, order, context)
    note = _champion_follows(store, context.ledger.state())
    return Promotion(
        model=model, version=found.version, verdict=verdict, released=held, note=note
    )


def _champion_follows(store: Store, ledger_state: LedgerState) -> str:
    """Empty, or that MLflow was lost in the middle: the release stands all the same, and the same command again would be refused."""
    try:
        move_champions(store, ledger_state)
    except RegistryError:
        return "MLflow did not take the alias `champion`. The controller of `assay up` moves it once MLflow answers."
    return ""


def _repaired(home: Path, store: Store, version: ModelVersion) -> Repaired | None:
    """None unless the version serves already and its package is not whole on this machine."""
    serving = open_ledger(home).state().model(version.name).answering
    if (
        serving is None
        or serving.release.version != version.version
        or not package_fault(home, serving.release)
    ):
        return None
    return Repaired(
        model=version.name,
        version=version.version,
        aside=fetch_package(home, serving.release, store),
    )


def _check_is_new(ledger_state: LedgerState, version: ModelVersion) -> None:
    here = ledger_state.model(version.name)
    if here.answering is not None and here.answering.release.version == version.version:
        raise ReleaseError(
            f"Version {version.version} of {version.name} serves already. `assay status` says since when."
        )


def policy_file(root: Path, model: str) -> Path:
    """The policy that holds for a model now: its own where there is one, else the default."""
    own = root / POLICIES / f"{model}.yaml"
    return own if own.is_file() else root / POLICIES / "default.yaml"


def _finalist(version: ModelVersion, package: Path) -> Finalist:
    verdict = read_screen_verdict(package / "verdict.json")
    if not isinstance(verdict, Finalist):
        raise RegistryError(
            f"Version {version.version} of {version.name} never passed `screen`. Train it again."
        )
    return verdict


def _differences(of: "Judging") -> tuple[str, ...]:
    """Where the stored verdict and the known answers do not follow from the evidence, and what fails by the policy of now."""
    answers = known_answer_differences(of.package, of.finalist.spec.default_max_tokens)
    if of.is_older:
        return (*older_differences(of.package, of.policy), *answers)
    stored = (*recompute(of.package).differences, *answers)
    if sha256_of(of.policy) == sha256_of(of.package / "policy.yaml"):
        return stored
    again = recompute(of.package, of.policy).verdict
    short = [finding.text for finding in again.findings if finding.outcome != "passed"]
    return (*stored, *(f"by the policy that holds now: {text}" for text in short))


def _admitted(of: "Judging") -> AdmittedAgain:
    """What `admit` says of the package's data by the policy that holds now."""
    then = load_policy(of.package / "policy.yaml")
    verdict = readmit(of.package, of.policy, older=of.is_older)
    return AdmittedAgain(
        verdict=verdict.verdict,
        reasons=tuple(
            finding.text for finding in verdict.findings if finding.outcome != "passed"
        ),
        policy_sha256=then.sha256,
        policy_name=then.gates.name,
    )


@dataclass(frozen=True)
class Judging:
    """The version that is judged, its package, and the policy that holds now."""

    version: ModelVersion
    finalist: Finalist
    package: Path
    policy: Path
    origin: Registration | None
    created_at: datetime
    """When MLflow says that it came to be: asked only where no run entered the version."""

    @property
    def is_older(self) -> bool:
        """Somebody answers for it, and its package is from before all was kept that `judge` looks at."""
        adopted = self.origin is not None and self.origin.is_adopted
        return adopted and is_older(Scorecard.read(self.package / "scorecard.json"))


def _circumstances(of: Judging, ledger_state: LedgerState) -> Circumstances:
    """Everything besides the finalist that `judge` looks at. Author and time come from the ledger, never from MLflow."""
    version, adapter = of.version, of.finalist.adapter.sha256
    here = ledger_state.model(version.name)
    compared = ChampionInput.read(of.package / "champion.json").champion
    last, origin = here.comparator, of.origin
    return Circumstances(
        model=version.name,
        version=version.version,
        package_sha256=version.package_sha256,
        registered_at=_registered_at(origin, of.created_at),
        now=max(datetime.now(UTC), ledger_state.at),
        author="unknown" if origin is None else origin.by,
        author_account=None if origin is None else origin.account,
        origin=None if origin is None else _origin(origin),
        admitted=_admitted(of),
        drawable=len(drawable_prompts(of.package)),
        compared_with=None if compared is None else compared.version,
        compared_adapter=None if compared is None else compared.adapter.sha256,
        champion=None if last is None else last.release.version,
        champion_adapter=None if last is None else last.release.spec.adapter_sha256,
        revoked=version.version in here.revoked
        or adapter in ledger_state.revoked_adapters,
        frozen=ledger_state.frozen is not None,
        waivers=_waivers(ledger_state, version.name),
        recomputed_differences=_differences(of),
        is_older=of.is_older,
    )


def _registered_at(origin: Registration | None, created_at: datetime) -> datetime:
    """The entry's time. What somebody adopts does not become fresh by that: there the older of both counts."""
    if origin is None:
        return created_at
    return min(origin.at, created_at) if origin.is_adopted else origin.at


def _origin(registration: Registration) -> Origin:
    return Origin(
        generation=registration.generation,
        package_sha256=registration.made.package_sha256,
        adapter_sha256=registration.made.adapter_sha256,
        is_adopted=registration.is_adopted,
        by=registration.by,
    )


def _waivers(ledger_state: LedgerState, model: str) -> tuple[WaiverGiven, ...]:
    return tuple(
        WaiverGiven(
            generation=each.generation,
            rule=each.rule,
            until=each.until,
            by=each.by,
            account=each.account,
        )
        for each in ledger_state.waivers
        if each.model == model
    )


def _tell(
    store: Store,
    version: ModelVersion,
    verdict: Candidate | Rejection | Undecided,
    ledger_state: LedgerState,
) -> None:
    """On the version's page: the verdict of `judge`, its reasons, and the entry that holds it."""
    reasons = "\n".join(
        f"{finding.outcome}: {finding.text}" for finding in verdict.findings
    )
    store.annotate(
        version,
        {
            "assay.judge": verdict.verdict,
            "assay.judge_reasons": reasons[:4900],
            PAGE_TAG: ledger_state.head.as_tag,
        },
    )


def move_champions(store: Store, ledger_state: LedgerState) -> tuple[str, ...]:
    """Make the alias `champion` what the ledger says, for each model; gives a sentence for each that was moved or could not be.

    Only full traffic that was seen counts. Where the base answers there is no champion: a batch job must not load what was taken away.
    A model that Assay registered and never released has none either, whoever gave it one. Models of others are nobody's business here.
    """
    holders = store.holders(CHAMPION)
    others = (
        name
        for name, number in holders.items()
        if name not in ledger_state.models and _is_ours(store, name, number)
    )
    names = sorted({*ledger_state.models, *others})
    return tuple(
        sentence
        for name in names
        for sentence in _champion_moved(
            store, name, ledger_state.model(name), holders.get(name)
        )
    )


def _is_ours(store: Store, name: str, number: str) -> bool:
    found = store.known(name, number)
    return found is not None and bool(found.package_sha256)


def drop_revoked_challengers(
    store: Store, ledger_state: LedgerState
) -> tuple[str, ...]:
    """A revoked version is under nobody's review; gives a sentence for each that lost the alias `challenger`."""
    told = []
    for name, model in ledger_state.models.items():
        held = store.holder(name, CHALLENGER) if model.revoked else None
        if held is not None and held.version in model.revoked:
            store.move_alias(name, CHALLENGER, None)
            told.append(
                f"challenger of {name}: {held.version} → none, since it is revoked"
            )
    return tuple(told)


def _champion_moved(
    store: Store, name: str, model: ModelState, there: str | None
) -> tuple[str, ...]:
    current = model.answering
    if current is not None and not current.is_completed:
        return ()
    try:
        why = "" if current is None else _unproven(store, current.release)
        wanted = None if current is None or why else current.release.version
        if there != wanted:
            store.move_alias(name, CHAMPION, wanted)
    except RegistryError as error:
        return (f"champion of {name} is not what the ledger says: {error}",)
    if why:
        return (f"{name} has no champion: {why}",)
    return (
        ()
        if there == wanted
        else (f"champion of {name}: {there or 'none'} → {wanted or 'none'}",)
    )


def _unproven(store: Store, release: Release) -> str:
    """Why what MLflow has under a release's number is not what was released; empty where it is. Numbers begin again at 1."""
    found = store.known(release.model, release.version)
    what = f"version {release.version}, which the ledger says is released,"
    next_step = (
        "It goes on serving from this machine's copy, but nothing can be compared with it any more. Find out who changed MLflow, and "
        "restore MLflow from a backup; or revoke that version before a new one is trained and promoted; "
        "or train under another name."
    )
    if found is None:
        return f"{what} is not in MLflow any more. {next_step}"
    if found.package_sha256 != release.package_sha256:
        return f"{what} is another package in MLflow now (SHA-256 {found.package_sha256[:12] or 'unknown'}). {next_step}"
    return ""
