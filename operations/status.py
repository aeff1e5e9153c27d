"""What runs, what serves and why. What cannot be reached is reported, and the rest is looked up."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import AwareDatetime

from core.environment import set_library_environment
from core.errors import AssayError, LedgerError, RegistryError
from core.home import explain_no_access
from core.notify import Notice, notices, notices_file
from core.project import Project, find_project
from core.settings import Settings
from core.system_record import ServiceRecord, read_record, record_file
from core.value import Value
from operations.admission_check import sentences_about
from operations.code_changes import CodeChange, find_code_change, find_older_files
from operations.project_files import faults_of_files
from operations.replica_status import ReplicaStatus, find_replicas
from registry.ledger.audit import find_doubts
from registry.ledger.entries import BaseServed, Entry, Head, Revoked, RolledBack
from registry.ledger.ledger import Ledger, read_ledger, was_ever_opened
from registry.ledger.rules import apply_entry, start_state
from registry.ledger.state import LedgerState, ModelState, RecordedRelease
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import CHALLENGER, VERDICT
from registry.mlflow.retained import is_missing
from registry.release.canary import describe_canary
from registry.release.following import EndpointState
from serving.client import endpoint_client
from serving.endpoint.admin_address import admin_address_file

_T = TypeVar("_T")
# Whoever looks once a day sees it in time.
ENDS_SOON = timedelta(days=1)


class ServiceStatus(Value):
    """One service of `assay up`."""

    name: str
    state: str
    is_healthy: bool
    pid: int | None
    port: int | None
    since: AwareDatetime
    restarts: int
    detail: str


class Change(Value):
    """When what answers under a model's name last changed, by whom and why."""

    at: AwareDatetime
    by: str
    why: str | None
    """None: the reason was erased."""


class ModelStatus(Value):
    """One model: what answers, where a rollback goes, what is on its way, what is under review."""

    model: str
    version: str | None
    fingerprint: str | None
    serves_base: bool
    changed: Change | None
    predecessor: str | None
    pending: str | None
    canary: str | None = None
    """Where a release stands that gets the traffic step by step, and what it waits for."""
    revoked: tuple[str, ...]
    challenger: str | None
    unregistered: tuple[str, ...] = ()
    """Versions in MLflow that the ledger does not hold; none is judged before it is adopted."""
    answers: str | None
    """The fingerprint that the endpoint answers with at this moment.

    Empty where it answers with none, None where it was not asked.
    """


class WaiverStatus(Value):
    """A rule that does not hold for a while, or did until lately."""

    model: str
    rule: str
    until: AwareDatetime
    by: str
    state: str


class Status(Value):
    """Everything at one moment."""

    at: AwareDatetime
    services: tuple[ServiceStatus, ...]
    models: tuple[ModelStatus, ...]
    waivers: tuple[WaiverStatus, ...]
    frozen: Change | None
    ledger: Head | None
    followed: Head | None
    alarms: tuple[str, ...]
    notices: tuple[Notice, ...]
    without_admission: tuple[str, ...] = ()
    """Models whose alias `release` MLflow moves unasked, and what becomes of it."""
    faulty_files: tuple[str, ...] = ()
    """Files of the project that say who may do what, and cannot be read."""
    knows_mlflow: bool = True
    """False where MLflow could not be asked, so that models may be missing."""
    older_files: str | None = None
    """That the project's files are of another Assay."""
    code: CodeChange | None = None
    """What an upgrade of Assay since the last run would repeat."""
    out_of_reach: tuple[str, ...]
    replicas: tuple[ReplicaStatus, ...] = ()
    """Endpoints that follow this ledger, where it has several."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at now."""
        silent_services = [
            f"{service.name} does not answer ({service.detail or service.state})."
            for service in self.services
            if not service.is_healthy
        ]
        ending_waivers = [
            f"The waiver of {waiver.rule} for {waiver.model} {waiver.state}."
            for waiver in self.waivers
            if waiver.state != "holds"
        ]
        return (
            *self.alarms,
            *self.out_of_reach,
            *self.faulty_files,
            *self.without_admission,
            *silent_services,
            *ending_waivers,
            *self._lag(),
        )

    def _lag(self) -> tuple[str, ...]:
        """A sentence for each endpoint that obeys an older state of the ledger."""
        if self.ledger is None:
            return ()
        laggards = [
            sentence
            for replica in self.replicas
            for sentence in replica.describe_lag(self.ledger)
        ]
        return (*self._own_lag(self.ledger), *laggards)

    def _own_lag(self, ledger: Head) -> tuple[str, ...]:
        if self.followed is None:
            return ()
        if self.followed.hash == ledger.hash:
            return ()
        generation = self.followed.generation
        return (
            f"The endpoint has followed the ledger to entry {generation}, not to its last.",
        )


def collect_current_status() -> Status:
    """Look at the home of this project; `WorkspaceError` where there is none."""
    set_library_environment()
    return collect_status(find_project(Settings().home))


def collect_status(project: Project) -> Status:
    """Look at a home; nothing is changed and nothing is made."""
    home = project.home
    out_of_reach: list[str] = []
    ledger, ledger_state = _ledger(home, out_of_reach)
    endpoint = _read_if_allowed(
        admin_address_file(home),
        "the endpoint",
        out_of_reach,
        lambda: _endpoint(home, out_of_reach),
    )
    mlflow = _models_in_mlflow(project, ledger_state, out_of_reach)
    services = _read_if_allowed(
        record_file(home),
        "the services",
        out_of_reach,
        lambda: _services(home),
    )
    last_notices = _read_if_allowed(
        notices_file(home),
        "notices",
        out_of_reach,
        lambda: notices(home, last=3),
    )
    now = datetime.now(UTC)
    endpoint_alarms = endpoint.alarms if endpoint else ()
    ledger_alarms = _doubts(home, ledger, ledger_state, endpoint)
    models = _models(ledger, ledger_state, mlflow, endpoint)
    return Status(
        at=now,
        services=services or (),
        models=models,
        without_admission=_without_admission(project, models, mlflow),
        faulty_files=faults_of_files(project),
        waivers=_waivers(ledger_state, now),
        frozen=_frozen(ledger, ledger_state),
        ledger=ledger_state.head if ledger_state else None,
        followed=endpoint.head if endpoint else None,
        alarms=(*endpoint_alarms, *ledger_alarms),
        notices=last_notices or (),
        knows_mlflow=mlflow.is_known,
        older_files=find_older_files(project.root),
        code=_code(project, out_of_reach),
        replicas=find_replicas(out_of_reach),
        # Endpoint and ledger may fail for the same reason, which is said once.
        out_of_reach=tuple(dict.fromkeys(out_of_reach)),
    )


def _without_admission(
    project: Project, models: tuple[ModelStatus, ...], mlflow: "_MlflowModels"
) -> tuple[str, ...]:
    # A server that is away was waited for once.
    if not mlflow.is_known:
        return ()
    return sentences_about(project, [each.model for each in models])


def _read_if_allowed(
    path: Path, subject: str, out_of_reach: list[str], read: Callable[[], _T]
) -> _T | None:
    """Read what this account may read; otherwise None, and the reason in `out_of_reach`."""
    # Asked before reading: an error in the middle would not name the account.
    reason = explain_no_access(path)
    if reason is None:
        return read()
    out_of_reach.append(f"Of {subject} nothing is known: {reason}.")
    return None


def _code(project: Project, out_of_reach: list[str]) -> CodeChange | None:
    try:
        return find_code_change(project.root)
    except AssayError as error:
        out_of_reach.append(f"Of the last run's code nothing is known: {error}")
        return None


def _database(home: Path) -> Path:
    """Give the file that MLflow's records are read from.

    A server is asked instead of a file, and decides itself who may read.
    """
    if os.environ.get("MLFLOW_TRACKING_URI") or Settings().mlflow_database_url:
        return Path(os.devnull)
    return home / "mlflow.db"


def _services(home: Path) -> tuple[ServiceStatus, ...]:
    record = read_record(home)
    if record is None or not record.is_running():
        return ()
    return tuple(_service(service) for service in record.services)


def _service(record: ServiceRecord) -> ServiceStatus:
    is_up = record.state in ("ready", "done")
    return ServiceStatus(
        name=record.name,
        state=record.state,
        pid=record.pid,
        port=record.port,
        since=record.since,
        restarts=record.restarts,
        detail=record.detail,
        is_healthy=is_up and record.answers(),
    )


def _ledger(
    home: Path, out_of_reach: list[str]
) -> tuple[Ledger | None, LedgerState | None]:
    try:
        ledger = read_ledger(home)
        return ledger, ledger.state()
    except LedgerError as error:
        out_of_reach.append(str(error))
        return None, None


def _doubts(
    home: Path,
    ledger: Ledger | None,
    ledger_state: LedgerState | None,
    endpoint: EndpointState | None,
) -> tuple[str, ...]:
    """Say why the ledger may be incomplete, unless the endpoint says it already."""
    if ledger is None or ledger_state is None:
        return ()
    # An alarm of the endpoint may contain a doubt word for word.
    alarms = " ".join(endpoint.alarms) if endpoint else ""
    return tuple(
        doubt
        for doubt in find_doubts(home, ledger, ledger_state)
        if doubt not in alarms
    )


def _endpoint(home: Path, out_of_reach: list[str]) -> EndpointState | None:
    try:
        return endpoint_client(home).state()
    except AssayError as error:
        out_of_reach.append(str(error))
        return None


@dataclass(frozen=True)
class _MlflowModels:
    """What MLflow knows of Assay's models."""

    challengers: dict[str, str]
    """Model to the version under review, empty where there is none."""
    versions: dict[str, tuple[str, ...]]
    """Model to every version of it, the oldest first."""
    is_known: bool = True
    """False where MLflow could not be asked."""


_NO_MODELS = _MlflowModels({}, {})
_UNKNOWN = _MlflowModels({}, {}, is_known=False)


def _models_in_mlflow(
    project: Project, ledger_state: LedgerState | None, out_of_reach: list[str]
) -> _MlflowModels:
    models = _read_if_allowed(
        _database(project.home),
        "MLflow",
        out_of_reach,
        lambda: _ask_mlflow(project, ledger_state, out_of_reach),
    )
    models = models or _UNKNOWN
    if ledger_state is None and _has_ledger(project.home):
        # Nobody knows here which versions an unreadable ledger holds, so none is called
        # unregistered.
        return _MlflowModels(models.challengers, {}, is_known=models.is_known)
    return models


def _has_ledger(home: Path) -> bool:
    is_unreadable = explain_no_access(home / "ledger.db") is not None
    return is_unreadable or was_ever_opened(home)


def _ask_mlflow(
    project: Project, ledger_state: LedgerState | None, out_of_reach: list[str]
) -> _MlflowModels:
    """Ask MLflow for its models; a database that does not exist yet is not created for this."""
    try:
        store = open_store(project)
    except RegistryError as error:
        out_of_reach.append(str(error))
        return _UNKNOWN
    # MLflow's client would create it.
    if is_missing(store.uri):
        out_of_reach.append(
            "MLflow has no runs yet: `assay run` or `assay up` makes its database."
        )
        return _NO_MODELS
    try:
        # A version without a verdict was not registered by Assay.
        versions = _versions_by_model(store.pages_with(VERDICT))
        names = {*versions, *(ledger_state.models if ledger_state else ())}
        holders = {name: store.holder(name, CHALLENGER) for name in names}
    except RegistryError as error:
        out_of_reach.append(str(error))
        return _UNKNOWN
    challengers = {
        name: "" if version is None else version.version
        for name, version in holders.items()
    }
    return _MlflowModels(challengers, versions)


def _versions_by_model(pages: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Group pages, each named `NAME VERSION`, by model."""
    numbers: dict[str, list[str]] = {}
    for page in pages:
        name, _, number = page.rpartition(" ")
        numbers.setdefault(name, []).append(number)
    versions: dict[str, tuple[str, ...]] = {}
    for name, unsorted in numbers.items():
        versions[name] = tuple(sorted(unsorted, key=int))
    return versions


def _models(
    ledger: Ledger | None,
    ledger_state: LedgerState | None,
    mlflow: _MlflowModels,
    endpoint: EndpointState | None,
) -> tuple[ModelStatus, ...]:
    names_in_ledger = ledger_state.models if ledger_state else ()
    names = sorted({*names_in_ledger, *mlflow.challengers})
    # Followed once for all models, since that reads the whole ledger.
    changes = _last_changes(ledger, ledger_state)
    return tuple(
        _model(name, ledger_state, changes.get(name), mlflow, endpoint)
        for name in names
    )


def _last_changes(
    ledger: Ledger | None, ledger_state: LedgerState | None
) -> dict[str, Change]:
    """Give, for each model, the last change of what answers under its name.

    The entries are followed once more, and the states before and after each are compared.
    """
    changes: dict[str, Change] = {}
    if ledger is None or ledger_state is None:
        return changes
    state: LedgerState | None = None
    for entry in ledger.entries():
        earlier = state
        state = start_state(entry) if earlier is None else apply_entry(earlier, entry)
        for name, model in state.models.items():
            earlier_model = earlier.model(name) if earlier else ModelState()
            if _answering(model) != _answering(earlier_model):
                changes[name] = _change(ledger, entry, model.current)
        # Another process may have added entries since the state was read.
        if entry.generation == ledger_state.head.generation:
            break
    return changes


def _answering(model: ModelState) -> tuple[int | None, bool]:
    begun = model.current.begun if model.current else None
    return begun, model.serves_base


def _change(ledger: Ledger, entry: Entry, current: RecordedRelease | None) -> Change:
    """Say who changed what answers, and why.

    The entry of a rollback or a brake says it; that of a release says it where the release began.
    """
    body = entry.body
    order = body if isinstance(body, RolledBack | BaseServed | Revoked) else current
    if order is None:
        return Change(at=entry.at, by="unknown", why=None)
    reason = _recalled_reason(ledger, order.reason_sha256)
    return Change(at=entry.at, by=order.by, why=reason)


def _recalled_reason(ledger: Ledger, digest: str) -> str | None:
    with suppress(LedgerError):
        return ledger.recall(digest)
    return None


def _frozen(ledger: Ledger | None, ledger_state: LedgerState | None) -> Change | None:
    if ledger is None or ledger_state is None or ledger_state.frozen is None:
        return None
    freeze = ledger_state.frozen
    reason = _recalled_reason(ledger, freeze.reason_sha256)
    return Change(at=freeze.at, by=freeze.by, why=reason)


def _model(
    name: str,
    ledger_state: LedgerState | None,
    changed: Change | None,
    mlflow: _MlflowModels,
    endpoint: EndpointState | None,
) -> ModelStatus:
    model = ledger_state.model(name) if ledger_state else ModelState()
    current = model.current
    version = current.release.version if current else None
    challenger = mlflow.challengers.get(name) or None
    return ModelStatus(
        model=name,
        version=version,
        fingerprint=current.release.fingerprint if current else None,
        serves_base=model.serves_base,
        changed=changed,
        predecessor=model.before.release.version if model.before else None,
        pending=model.pending.release.version if model.pending else None,
        canary=_canary(model, endpoint),
        revoked=tuple(sorted(model.revoked, key=int)),
        # What serves is no longer under review.
        challenger=None if challenger == version else challenger,
        unregistered=_unregistered(name, ledger_state, mlflow),
        answers=_answer(name, endpoint),
    )


def _canary(model: ModelState, endpoint: EndpointState | None) -> str | None:
    recorded = model.pending or model.answering
    if recorded is None:
        return None
    report = endpoint.canary(recorded.begun) if endpoint else None
    return describe_canary(model, report, datetime.now(UTC))


def _unregistered(
    name: str, ledger_state: LedgerState | None, mlflow: _MlflowModels
) -> tuple[str, ...]:
    versions = mlflow.versions.get(name, ())
    if ledger_state is None:
        return versions
    return tuple(
        version
        for version in versions
        if ledger_state.registration(name, version) is None
    )


def _answer(name: str, endpoint: EndpointState | None) -> str | None:
    """Give the fingerprint that the endpoint answers with; None where it was not asked."""
    if endpoint is None:
        return None
    route = endpoint.routes.get(name)
    return route.fingerprint if route else ""


def _waivers(
    ledger_state: LedgerState | None, now: datetime
) -> tuple[WaiverStatus, ...]:
    """Give the last waiver of each rule and model, whether it holds or has ended."""
    if ledger_state is None:
        return ()
    # Later entries replace earlier ones, so that one that was renewed is no alarm.
    last_waivers = {
        (waiver.model, waiver.rule): waiver for waiver in ledger_state.waivers
    }
    return tuple(
        WaiverStatus(
            model=waiver.model,
            rule=waiver.rule,
            until=waiver.until,
            by=waiver.by,
            state=_waiver_state(waiver.until, now),
        )
        for waiver in last_waivers.values()
    )


def _waiver_state(until: datetime, now: datetime) -> str:
    end = f"{until:%Y-%m-%d %H:%M} UTC"
    if now >= until:
        return f"ended at {end}"
    if until - now < ENDS_SOON:
        return f"ends at {end}"
    return "holds"
