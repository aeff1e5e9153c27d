"""`assay status`, for a terminal or a program."""

import json
from collections.abc import Sequence

from core.console import say
from core.environment import set_library_environment
from core.project import find_project
from core.settings import Settings
from operations.status import Change, ModelStatus, ServiceStatus, Status, look


def run_status(*, as_json: bool) -> None:
    """Look, and say it."""
    set_library_environment()
    found = look(find_project(Settings().home))
    if as_json:
        say(json.dumps({**found.model_dump(mode="json"), "warnings": found.warnings}))
        return
    for line in lines(found):
        say(line)


def lines(status: Status) -> list[str]:
    """The status for a terminal."""
    is_ours = not any(
        each.startswith("The ledger is not yours") for each in status.out_of_reach
    )
    none = "no ledger" if is_ours else "the ledger of another account"
    head = (
        none
        if status.ledger is None
        else f"ledger at entry {status.ledger.generation} ({status.ledger.hash[:12]})"
    )
    is_closed = any(each.startswith("Of the services") for each in status.out_of_reach)
    nothing = "  not known" if is_closed else "  nothing of `assay up` runs"
    services = [_service_line(each) for each in status.services] or [nothing]
    frozen = (
        []
        if status.frozen is None
        else [f"FROZEN since {_when(status.frozen)}: no release begins"]
    )
    models = [line for each in status.models for line in _model_lines(each)] or [
        "  nothing was registered yet"
    ]
    waivers = [
        f"  {each.rule} is waived for {each.model} until {each.until:%Y-%m-%d %H:%M} UTC by {each.by}"
        for each in status.waivers
    ]
    told = [
        f"  {each.at:%Y-%m-%d %H:%M} {each.title}: {each.text}"
        for each in status.notices
    ]
    return [
        *_section("Services", services),
        *_section(f"Models ({head})", models),
        *frozen,
        *(_section("Waivers", waivers) if waivers else ()),
        *(_section("Last notices", told) if told else ()),
        *(f"! {warning}" for warning in status.warnings),
    ]


def _section(title: str, body: Sequence[str]) -> list[str]:
    return [title, *body]


def _service_line(service: ServiceStatus) -> str:
    mark = "✓" if service.is_healthy else "✗"
    where = f"port {service.port}" if service.port else ""
    number = f"process {service.pid}" if service.pid else ""
    again = f"{service.restarts} restarts" if service.restarts else ""
    facts = ", ".join(
        filter(
            None,
            (
                service.state,
                where,
                number,
                f"since {service.since:%Y-%m-%d %H:%M:%S} UTC",
                again,
            ),
        )
    )
    return f"  {mark} {service.name:<11} {facts}"


def _model_lines(model: ModelStatus) -> list[str]:
    release = (
        ""
        if model.version is None
        else f"version {model.version} ({model.fingerprint})"
    )
    base = f"its base alone, over {release}" if release else "its base alone"
    what = base if model.serves_base else release or "nothing is released"
    since = "" if model.changed is None else f" since {_when(model.changed)}"
    more = {
        "the endpoint answers": "nothing under this name"
        if model.answers == ""
        else model.answers,
        "back goes to": model.predecessor,
        "on its way": model.pending,
        "under review": None if model.challenger in model.revoked else model.challenger,
        "revoked": ", ".join(model.revoked),
        "not in the ledger (`assay adopt` answers for one)": ", ".join(
            model.unregistered
        ),
    }
    return [
        f"  {model.model}: {what}{since}",
        *(f"    {name}: {text}" for name, text in more.items() if text),
    ]


def _when(change: Change) -> str:
    return f"{change.at:%Y-%m-%d %H:%M:%S} UTC by {change.by}: {change.why or 'reason erased'}"
