"""Judge a registered version exactly as `assay promote` would, and release nothing."""

from dataclasses import dataclass
from pathlib import Path

from core.locks import exclusive, release_lock, share_home
from core.project import Project
from flows.judged_version import JudgedVersion, decide
from flows.promote import (
    judge_and_record,
    open_release_context,
    read_finalist,
    version_to_judge,
)
from flows.run.attempt import fetch_package_of
from pipelines.values.verdict import Candidate, Finalist, Rejection, Undecided
from registry.ledger.ledger import read_ledger
from registry.ledger.state import LedgerState
from registry.mlflow.home_store import open_store
from registry.mlflow.pages import check_pages
from registry.mlflow.recorded import ModelVersion
from registry.mlflow.store import Store
from registry.release.context import ReleaseContext
from serving.replicated import following_endpoint


@dataclass(frozen=True)
class Judgement:
    """What `judge` says of a version now, and what it looked at."""

    version: ModelVersion
    finalist: Finalist
    package: Path
    """The version's files on this machine, every byte checked."""
    verdict: Candidate | Rejection | Undecided
    ledger_state: LedgerState
    """The ledger that it was judged by; with the verdict in it where that was recorded."""
    is_recorded: bool


def judge_version(
    project: Project, model: str, version: str, *, record: bool = False
) -> Judgement:
    """Judge a version; with `record` the verdict goes on record as that of a promotion does.

    It needs neither the endpoint nor its weights. `RegistryError` where MLflow does not hold the
    version or it never passed `screen`, `LedgerError` where there is no ledger, `BrokenLedger`
    where a page remembers an entry that the ledger does not hold.
    """
    store = open_store(project)
    # Read alone: a question to the gate must not open a ledger where there is none.
    ledger = read_ledger(project.home)
    context = ReleaseContext(ledger, following_endpoint(project.home))
    registered = store.get_version(model, version)
    # The package must not be cleared away while it is read.
    with share_home(project.home):
        package = fetch_package_of(store, registered, project.home)
        check_pages(store, ledger, ledger.state())
        judged = version_to_judge(
            project,
            context,
            store,
            registered,
            package,
        )
        if record:
            return _judge_on_record(project, store, judged)
        ledger_state = ledger.state()
        verdict = decide(judged, ledger_state)
    return _judgement(
        judged,
        verdict,
        ledger_state,
    )


def judgement_of(
    project: Project,
    model: str,
    version: str,
    verdict: Candidate | Rejection | Undecided,
) -> Judgement:
    """A judgement that a promotion has recorded already, with what it looked at."""
    store = open_store(project)
    registered = store.get_version(model, version)
    ledger = read_ledger(project.home)
    with share_home(project.home):
        package = fetch_package_of(store, registered, project.home)
    return Judgement(
        version=registered,
        finalist=read_finalist(registered, package),
        package=package,
        verdict=verdict,
        ledger_state=ledger.state(),
        is_recorded=True,
    )


def _judge_on_record(
    project: Project, store: Store, judged: JudgedVersion
) -> Judgement:
    """Write the verdict to the ledger and to the version's page."""
    home = project.home
    context = open_release_context(home)
    lock = release_lock(home)
    # A release on its way was begun on an earlier verdict: this one comes after it.
    with exclusive(lock):
        verdict, ledger_state = judge_and_record(
            context,
            store,
            judged,
        )
    return _judgement(
        judged,
        verdict,
        ledger_state,
        is_recorded=True,
    )


def _judgement(
    judged: JudgedVersion,
    verdict: Candidate | Rejection | Undecided,
    ledger_state: LedgerState,
    *,
    is_recorded: bool = False,
) -> Judgement:
    return Judgement(
        version=judged.version,
        finalist=judged.finalist,
        package=judged.package,
        verdict=verdict,
        ledger_state=ledger_state,
        is_recorded=is_recorded,
    )
