"""What the release manager and on-call type, carried out and told in a line."""

import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from core.account import current_user, operating_system_account
from core.console import say
from core.environment import set_library_environment
from core.errors import (
    AssayError,
    ParameterError,
    RegistryError,
    ReleaseError,
    ServingError,
)
from core.project import Project, find_project
from core.settings import Settings
from flows.run.report import say_findings
from pipelines.values.evidence import Adapter
from pipelines.values.verdict import EXIT_CODES
from registry.ledger.entries import MODEL_NAME, Waived
from registry.ledger.state import LedgerState
from registry.mlflow.recorded import ModelVersion
from registry.release.brakes import (
    freeze,
    revoke,
    roll_back,
    serve_base,
    unfreeze,
    waive,
    what_served_before,
)
from registry.release.context import Order, ReleaseContext
from registry.release.judge import WAIVABLE

if TYPE_CHECKING:
    from flows.promote import Repaired
    from registry.ledger.ledger import Ledger

_SPAN = re.compile(r"([1-9][0-9]{0,3})([hd])")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_LONGEST = timedelta(days=90)


def run_promote(model: str, version: str, reason: str, *, as_json: bool) -> int:
    """Judge and release; 0 released, 3 rejected, 4 undecided."""
    set_library_environment()
    from flows.promote import Repaired, promote

    done = promote(
        _project(),
        model,
        version,
        Order(current_user(), _said(reason), operating_system_account()),
    )
    if isinstance(done, Repaired):
        return _tell_repaired(done, as_json=as_json)
    say_findings(done.verdict.findings)
    say(f"Verdict of judge: {done.verdict.verdict.upper()}.")
    if done.released is not None:
        say(
            f"{model} is version {done.version} now ({done.released.release.fingerprint}).{_way_back(model, _ledger().state())}"
        )
    if done.note:
        say(done.note)
    if as_json:
        say(json.dumps(done.model_dump(mode="json")))
    return EXIT_CODES[done.verdict.verdict]


def run_adopt(model: str, version: str, reason: str) -> None:
    """Enter a version that no run entered; it may be judged from then on, on its own evidence."""
    set_library_environment()
    from operations.adopt import adopt

    registration = adopt(
        _project(),
        model,
        version,
        Order(current_user(), _said(reason), operating_system_account()),
    )
    made = registration.made
    say(
        f"Version {made.version} of {model} is adopted by {registration.by} (entry {registration.generation}): "
        f"package {made.package_sha256[:12]}, adapter {made.adapter_sha256[:12]}. `assay promote` judges it."
    )


def _tell_repaired(done: "Repaired", *, as_json: bool) -> int:
    where = (
        f" The damaged folder lies in {done.aside}: find out who changed it."
        if done.aside
        else ""
    )
    say(
        f"The package of version {done.version} of {done.model} was damaged and has been fetched again; nothing else changed.{where}"
    )
    if as_json:
        say(json.dumps(done.model_dump(mode="json")))
    return 0


def run_rollback(model: str | None, reason: str, version: str | None) -> None:
    """Go back, and say to what."""
    model, order, context = _ordered_of(model, reason)
    _tell(model, roll_back(model, version, order, context))


def run_revoke(model: str | None, version: str, reason: str) -> None:
    """Revoke, and say what serves."""
    if not _NUMBER.fullmatch(version):
        raise ParameterError(
            f"{version!r} is no version number. `assay history` lists versions; give one such as 3."
        )
    model, order, context = _ordered_of(model, reason)
    found = _only_registered(model, version, context.ledger.state())
    adapter = None if found is None else _adapter_of(found)
    try:
        ledger_state = revoke(
            model,
            version,
            order,
            context,
            is_registered=found is not None,
            adapter_sha256=adapter,
        )
    except (ReleaseError, ServingError):
        _remember_revocation(
            context.ledger, model, version
        )  # the entry may stand, though it is not obeyed yet
        raise
    say(f"Version {version} of {model} is revoked: it never serves again.")
    _tell(model, ledger_state)
    _remember_revocation(context.ledger, model, version)


def _remember_revocation(ledger: "Ledger", model: str, version: str) -> None:
    """On the version's page and at the witness, where they answer at once; otherwise the controller does it."""
    from operations.remembered import remember_elsewhere

    with suppress(AssayError):
        ledger_state = ledger.state()
        if version in ledger_state.model(model).revoked:
            remember_elsewhere(_project(), ledger, ledger_state, model, version)


def _only_registered(
    model: str, version: str, ledger_state: LedgerState
) -> ModelVersion | None:
    """A version that MLflow knows and the ledger does not; one that neither knows is a slip. With MLflow away the ledger decides."""
    if any(
        (each.model, each.version) == (model, version)
        for each in ledger_state.judged.values()
    ):
        return None
    from registry.mlflow.home_store import open_store
    from registry.mlflow.retained import is_missing

    try:
        store = open_store(_project())
        if is_missing(store.uri):  # one that is lost is away, too
            return None
        found = store.known(model, version)
    except RegistryError:
        return None
    if found is None:
        raise ParameterError(
            f"There is no version {version} of {model}, neither in the ledger nor in MLflow. Look for a slip."
        )
    return found


def _adapter_of(version: ModelVersion) -> str | None:
    """The digest of its adapter, so that the same bytes go under every name; None where they cannot be read, which is said."""
    from registry.mlflow.home_store import open_store

    project = _project()
    try:
        if not version.package_sha256:
            raise RegistryError("it is not one that Assay registered.")
        package = open_store(project).fetch(
            version, project.home / "packages" / version.package_sha256
        )
        return Adapter.read(package / "adapter.json").sha256
    except AssayError as error:
        say(
            f"Its adapter is not known ({error}) The revocation holds for version {version.version} alone, not for its bytes elsewhere."
        )
        return None


def run_serve_base(model: str | None, reason: str) -> None:
    """Have the base answer."""
    model, order, context = _ordered_of(model, reason)
    _tell(model, serve_base(model, order, context))


def _ordered_of(model: str | None, reason: str) -> tuple[str, Order, ReleaseContext]:
    order, context = _ordered(reason)
    return model or _only_model(context.ledger.state()), order, context


def _only_model(ledger_state: LedgerState) -> str:
    """The model that is meant where none is named: a brake guesses nothing."""
    known = sorted(
        {*ledger_state.models, *(each.model for each in ledger_state.judged.values())}
    )
    if len(known) == 1:
        return known[0]
    if not known:
        raise ParameterError(
            "The ledger knows no model yet: nothing was ever judged for a release. Name one with --model."
        )
    raise ParameterError(
        f"The ledger knows {len(known)} models: {', '.join(known)}. Name the one that is meant with --model."
    )


def run_freeze(reason: str) -> None:
    """Stop releases."""
    ledger_state = freeze(*_ordered(reason))
    say(
        f"Frozen (entry {ledger_state.head.generation}): no release begins. Going back still works. End it with assay unfreeze --reason …"
    )


def run_unfreeze(reason: str) -> None:
    """Allow releases again."""
    ledger_state = unfreeze(*_ordered(reason))
    say(f"Releases may begin again (entry {ledger_state.head.generation}).")


def run_waive(model: str, rule: str, until: str, reason: str) -> None:
    """Enter a waiver, and say when it ends."""
    from registry.ledger.ledger import open_ledger

    waived, why = waiver(model, rule, until, current_user()), _said(reason)
    ledger = open_ledger(_project().home)
    last = ledger.state().at
    if not last < waived.until:
        raise ParameterError(
            f"--until {until} is before the ledger's last entry ({last:%Y-%m-%d %H:%M} UTC). Set this machine's clock right."
        )
    ledger_state = waive(
        lambda digest: waived.model_copy(update={"reason_sha256": digest}), why, ledger
    )
    say(
        f"{rule} is waived for {model} until {waived.until:%Y-%m-%d %H:%M %Z} by {waived.by} (entry {ledger_state.head.generation})."
    )


def waiver(model: str, rule: str, until: str, by: str) -> Waived:
    """A waiver that can be entered: of a rule that can be waived, for a model that can be, until a time that is soon to come."""
    if rule not in WAIVABLE:
        raise ParameterError(
            f"The rule {rule!r} cannot be waived. These can: {', '.join(sorted(WAIVABLE))}."
        )
    end, now = _time(until), datetime.now(UTC)
    if not now < end:
        raise ParameterError(
            f"--until {until} has passed. Give a time to come, or a span such as 24h."
        )
    if not end - now <= _LONGEST:
        raise ParameterError(
            f"--until {until} is more than {_LONGEST.days} days ahead. A waiver is for a while: give an earlier time, such as 7d."
        )
    if not re.fullmatch(MODEL_NAME, model):
        raise ParameterError(
            f"--model {model[:40]!r} is no name of a registered model. Give one of letters, digits, dot, dash, underscore."
        )
    return Waived(
        rule=rule,
        model=model,
        until=end,
        by=by,
        reason_sha256="0" * 64,
        account=operating_system_account(),
    )


def _time(text: str) -> datetime:
    """In UTC: a time at the end of the calendar that has none is refused here, not by whoever reads the ledger."""
    span = _SPAN.fullmatch(text)
    if span is not None:
        amount = int(span[1])
        return datetime.now(UTC) + (
            timedelta(hours=amount) if span[2] == "h" else timedelta(days=amount)
        )
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ParameterError(
            f"--until {text!r} is neither a time such as 2026-12-01T18:00+01:00 nor a span such as 24h or 7d."
        ) from None


def _said(reason: str) -> str:
    if not reason.strip():
        raise ParameterError(
            "--reason is empty. Say why in a sentence: it goes on record."
        )
    return reason.strip()[:2000]


def _ordered(reason: str) -> tuple[Order, ReleaseContext]:
    """The order and the desk, without anything that asks MLflow or Prefect."""
    from registry.ledger.ledger import open_ledger
    from serving.client import endpoint_client

    home, order = (
        _project().home,
        Order(current_user(), _said(reason), operating_system_account()),
    )
    _ledger()  # a brake makes no ledger: one that is not there is lost, or elsewhere
    return order, ReleaseContext(open_ledger(home), endpoint_client(home))


def _ledger() -> "Ledger":
    from registry.ledger.ledger import read_ledger

    return read_ledger(_project().home)


def _way_back(model: str, ledger_state: LedgerState) -> str:
    """How to undo it, where that can be done."""
    return (
        f" Back: assay rollback --model {model} --reason …"
        if what_served_before(ledger_state.model(model)) is not None
        else ""
    )


def _tell(model: str, ledger_state: LedgerState) -> None:
    here = ledger_state.model(model)
    if here.serves_base:
        say(
            f"The base answers for {model} now (entry {ledger_state.head.generation}).{_way_back(model, ledger_state)}"
        )
    elif here.current is not None:
        held = here.current.release
        say(
            f"{model} is version {held.version} now ({held.fingerprint}, entry {ledger_state.head.generation})."
        )
    else:
        say(f"Nothing of {model} serves (entry {ledger_state.head.generation}).")


def _project() -> Project:
    return find_project(Settings().home)
