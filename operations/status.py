"""How everything stands: what runs, what serves and why. Whatever is out of reach is said, and the rest is found."""

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
from core.home import closed_to_us
from core.notify import Notice, notices, notices_file
from core.project import Project, find_project
from core.settings import Settings
from core.system_record import ServiceRecord, read_record, record_file
from core.value import Value
from registry.ledger.audit import doubts
from registry.ledger.entries import BaseServed, Entry, Head, Revoked, RolledBack
from registry.ledger.ledger import Ledger, ever_was, read_ledger
from registry.ledger.rules import after, first
from registry.ledger.state import LedgerState, ModelState, RecordedRelease
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import CHALLENGER, VERDICT
from registry.mlflow.retained import is_missing
from registry.release.following import EndpointState
from serving.client import endpoint_client
from serving.endpoint.admin_address import admin_address_file

_T = TypeVar("_T")
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
    revoked: tuple[str, ...]
    challenger: str | None
    unregistered: tuple[str, ...] = ()
    """Versions in MLflow that the ledger does not hold: none of them is judged before somebody adopts it."""
    answers: str | None
    """The fingerprint that the endpoint answers with at this moment; empty where it answers with none, None where it was not asked."""


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
    out_of_reach: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at now."""
        behind = f"The endpoint has followed the ledger to entry {self.followed.generation if self.followed else 0}, not to its last."
        return (
            *self.alarms,
            *self.out_of_reach,
            *(
                f"{each.name} does not answer ({each.detail or each.state})."
                for each in self.services
                if not each.is_healthy
            ),
            *(
                f"The waiver of {each.rule} for {each.model} {each.state}."
                for each in self.waivers
                if each.state != "holds"
            ),
            *(
                (behind,)
                if self.followed is not None
                and self.ledger is not None
                and self.followed.hash != self.ledger.hash
                else ()
            ),
        )


def look_at_current_home() -> Status:
    """Look at the home of this checkout; `WorkspaceError` where there is no checkout."""
    set_library_environment()
    return look(find_project(Settings().home))


def look(project: Project) -> Status:
    """How everything stands; nothing is changed and nothing made."""
    out_of_reach: list[str] = []
    ledger, ledger_state = _ledger(project.home, out_of_reach)
    seen = _readable(
        admin_address_file(project.home),
        "the endpoint",
        out_of_reach,
        lambda: _endpoint(project.home, out_of_reach),
    )
    known = _readable(
        _database(project.home),
        "MLflow",
        out_of_reach,
        lambda: _in_mlflow(project, ledger_state, out_of_reach),
    )
    known = known or _InMlflow({}, {})
    if ledger_state is None and (
        closed_to_us(project.home / "ledger.db") is not None or ever_was(project.home)
    ):
        # What a ledger that cannot be read holds, nobody knows here.
        known = _InMlflow(known.challengers, {})
    services = _readable(
        record_file(project.home),
        "the services",
        out_of_reach,
        lambda: _services(project.home),
    )
    told = _readable(
        notices_file(project.home),
        "notices",
        out_of_reach,
        lambda: notices(project.home, last=3),
    )
    now = datetime.now(UTC)
    names = sorted({*(ledger_state.models if ledger_state else ()), *known.challengers})
    changes = _last_changes(ledger, ledger_state)
    return Status(
        at=now,
        services=services or (),
        models=tuple(
            _model(name, ledger_state, changes.get(name), known, seen) for name in names
        ),
        waivers=_waivers(ledger_state, now),
        frozen=_frozen(ledger, ledger_state),
        ledger=ledger_state.head if ledger_state else None,
        followed=seen.head if seen else None,
        alarms=(
            *(seen.alarms if seen else ()),
            *_doubts(project.home, ledger, ledger_state, seen),
        ),
        notices=told or (),
        out_of_reach=tuple(dict.fromkeys(out_of_reach)),
    )


def _readable(
    path: Path, what: str, out_of_reach: list[str], look: Callable[[], _T]
) -> _T | None:
    """What a look gives, where this account may read what it needs; None with the reason where it may not."""
    closed = closed_to_us(path)
    if closed is None:
        return look()
    out_of_reach.append(f"Of {what} nothing is known: {closed}.")
    return None


def _database(home: Path) -> Path:
    """What MLflow's records are read from. Elsewhere it is asked, and says itself who may."""
    return (
        Path(os.devnull)
        if os.environ.get("MLFLOW_TRACKING_URI")
        else home / "mlflow.db"
    )


def _services(home: Path) -> tuple[ServiceStatus, ...]:
    record = read_record(home)
    return (
        ()
        if record is None or not record.is_running()
        else tuple(_service(each) for each in record.services)
    )


def _service(record: ServiceRecord) -> ServiceStatus:
    shown = record.model_dump(
        include={"name", "state", "pid", "port", "since", "restarts", "detail"}
    )
    return ServiceStatus(
        **shown, is_healthy=record.state in ("ready", "done") and record.answers()
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
    seen: EndpointState | None,
) -> tuple[str, ...]:
    """Why the ledger may not be whole, where no endpoint says it already."""
    if ledger is None or ledger_state is None:
        return ()
    said = " ".join(seen.alarms) if seen else ""
    return tuple(
        each for each in doubts(home, ledger, ledger_state) if each not in said
    )


def _endpoint(home: Path, out_of_reach: list[str]) -> EndpointState | None:
    try:
        return endpoint_client(home).state()
    except AssayError as error:
        out_of_reach.append(str(error))
        return None


@dataclass(frozen=True)
class _InMlflow:
    """What MLflow knows of Assay's models."""

    challengers: dict[str, str]
    """Model to the version under review, empty where there is none."""
    versions: dict[str, tuple[str, ...]]
    """Model to every version of it, the oldest first."""


def _in_mlflow(
    project: Project, ledger_state: LedgerState | None, out_of_reach: list[str]
) -> _InMlflow:
    """A database that is not there yet is not made for this."""
    nothing = _InMlflow({}, {})
    try:
        store = open_store(project)
    except RegistryError as error:
        out_of_reach.append(str(error))
        return nothing
    if is_missing(store.uri):
        out_of_reach.append(
            "MLflow has no runs yet: `assay run` or `assay up` makes its database."
        )
        return nothing
    try:
        versions = _by_model(store.pages_with(VERDICT))
        names = {*versions, *(ledger_state.models if ledger_state else ())}
        found = {name: store.holder(name, CHALLENGER) for name in names}
    except RegistryError as error:
        out_of_reach.append(str(error))
        return nothing
    return _InMlflow(
        {
            name: "" if version is None else version.version
            for name, version in found.items()
        },
        versions,
    )


def _by_model(pages: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """From `NAME VERSION` each."""
    found: dict[str, list[str]] = {}
    for page in pages:
        name, _, number = page.rpartition(" ")
        found.setdefault(name, []).append(number)
    return {name: tuple(sorted(numbers, key=int)) for name, numbers in found.items()}


def _last_changes(
    ledger: Ledger | None, ledger_state: LedgerState | None
) -> dict[str, Change]:
    """For each model the entry that made answer what answers now: the entries are folded once more, and compared."""
    found: dict[str, Change] = {}
    if ledger is None or ledger_state is None:
        return found
    stood: LedgerState | None = None
    for entry in ledger.entries():
        before, stood = stood, first(entry) if stood is None else after(stood, entry)
        for name, model in stood.models.items():
            if _answering(model) != _answering(
                before.model(name) if before else ModelState()
            ):
                found[name] = _change(ledger, entry, model.current)
        if entry.generation == ledger_state.head.generation:
            break
    return found


def _answering(model: ModelState) -> tuple[int | None, bool]:
    return (model.current.begun if model.current else None, model.serves_base)


def _change(ledger: Ledger, entry: Entry, current: RecordedRelease | None) -> Change:
    """A rollback and a brake say by themselves who and why; a switch says it in the entry that it began with."""
    order = (
        entry.body
        if isinstance(entry.body, RolledBack | BaseServed | Revoked)
        else current
    )
    if order is None:
        return Change(at=entry.at, by="unknown", why=None)
    return Change(at=entry.at, by=order.by, why=_recalled(ledger, order.reason_sha256))


def _recalled(ledger: Ledger, digest: str) -> str | None:
    with suppress(LedgerError):
        return ledger.recall(digest)
    return None


def _frozen(ledger: Ledger | None, ledger_state: LedgerState | None) -> Change | None:
    if ledger is None or ledger_state is None or ledger_state.frozen is None:
        return None
    freeze = ledger_state.frozen
    return Change(
        at=freeze.at, by=freeze.by, why=_recalled(ledger, freeze.reason_sha256)
    )


def _model(
    name: str,
    ledger_state: LedgerState | None,
    changed: Change | None,
    known: _InMlflow,
    seen: EndpointState | None,
) -> ModelStatus:
    challenger = known.challengers.get(name)
    versions = known.versions.get(name, ())
    model = ledger_state.model(name) if ledger_state else ModelState()
    current, route = model.current, seen.routes.get(name) if seen else None
    unrouted = None if seen is None else ""
    return ModelStatus(
        model=name,
        version=current.release.version if current else None,
        fingerprint=current.release.fingerprint if current else None,
        serves_base=model.serves_base,
        changed=changed,
        predecessor=model.before.release.version if model.before else None,
        pending=model.pending.release.version if model.pending else None,
        revoked=tuple(sorted(model.revoked, key=int)),
        challenger=None
        if current is not None and current.release.version == challenger
        else challenger or None,
        unregistered=tuple(
            each
            for each in versions
            if ledger_state is None or ledger_state.registration(name, each) is None
        ),
        answers=route.fingerprint if route else unrouted,
    )


def _waivers(
    ledger_state: LedgerState | None, now: datetime
) -> tuple[WaiverStatus, ...]:
    """The ones that hold, and the latest of each rule where it does not hold any more."""
    latest = {
        (each.model, each.rule): each
        for each in (ledger_state.waivers if ledger_state else ())
    }
    return tuple(
        WaiverStatus(
            model=each.model,
            rule=each.rule,
            until=each.until,
            by=each.by,
            state=_state(each.until, now),
        )
        for each in latest.values()
    )


def _state(until: datetime, now: datetime) -> str:
    if now >= until:
        return f"ended at {until:%Y-%m-%d %H:%M} UTC"
    return f"ends at {until:%Y-%m-%d %H:%M} UTC" if until - now < ENDS_SOON else "holds"
