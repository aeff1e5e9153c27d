"""`assay status` for a terminal: the services, the models, and what a person should look at."""

from operations.replica_status import ReplicaStatus
from operations.status import Change, ModelStatus, ServiceStatus, Status, WaiverStatus

_MINUTE = "%Y-%m-%d %H:%M"


def status_lines(status: Status) -> list[str]:
    """Give the status in lines, warnings last."""
    services = _service_lines(status)
    ledger = _describe_ledger(status)
    models = _model_section(status)
    lines = [
        "Services",
        *services,
        f"Models ({ledger})",
        *models,
    ]
    if status.replicas:
        lines += ["Replicas", *map(_replica_line, status.replicas)]
    # Above the waivers, in capitals: nothing else stops every release.
    if status.frozen is not None:
        lines.append(f"FROZEN since {_describe(status.frozen)}: no release begins")
    if status.waivers:
        lines += ["Waivers", *(_waiver_line(waiver) for waiver in status.waivers)]
    if status.code is not None and status.code.stages:
        lines += ["Code", f"  {status.code.text}"]
    if status.older_files is not None:
        lines += ["Files", f"  {status.older_files}"]
    if status.notices:
        lines.append("Last notices")
    for notice in status.notices:
        lines.append(f"  {notice.at:{_MINUTE}} {notice.title}: {notice.text}")
    return lines + [f"! {warning}" for warning in status.warnings]


def _service_lines(status: Status) -> list[str]:
    if status.services:
        return [_service_line(service) for service in status.services]
    is_unreadable = _any_starts_with(status.out_of_reach, "Of the services")
    return ["  not known" if is_unreadable else "  nothing of `assay up` runs"]


def _describe_ledger(status: Status) -> str:
    if status.ledger is not None:
        head = status.ledger
        return f"ledger at entry {head.generation} ({head.hash[:12]})"
    if _any_starts_with(status.out_of_reach, "The ledger is not yours"):
        return "the ledger of another account"
    return "no ledger"


def _any_starts_with(sentences: tuple[str, ...], beginning: str) -> bool:
    return any(sentence.startswith(beginning) for sentence in sentences)


def _model_section(status: Status) -> list[str]:
    lines: list[str] = []
    for model in status.models:
        lines += _model_lines(model)
    if lines:
        return lines
    # "Nothing" would be a guess where nobody could look.
    if not status.knows_mlflow:
        return ["  not known, since MLflow cannot be asked"]
    return ["  nothing was registered yet"]


def _waiver_line(waiver: WaiverStatus) -> str:
    rule = waiver.rule
    model = waiver.model
    # As the ledger has it: a local time would differ between two readers.
    until = f"{waiver.until:{_MINUTE}} UTC"
    who = waiver.by
    return f"  {rule} is waived for {model} until {until} by {who}"


def _service_line(service: ServiceStatus) -> str:
    mark = "✓" if service.is_healthy else "✗"
    facts = [service.state]
    if service.port:
        facts.append(f"port {service.port}")
    if service.pid:
        facts.append(f"process {service.pid}")
    facts.append(f"since {service.since:%Y-%m-%d %H:%M:%S} UTC")
    if service.restarts:
        facts.append(f"{service.restarts} restarts")
    return f"  {mark} {service.name:<11} {', '.join(facts)}"


def _replica_line(replica: ReplicaStatus) -> str:
    mark = "✗" if replica.lost else "✓"
    answers = [f"{name} {answer}" for name, answer in sorted(replica.answers.items())]
    facts = (
        f"entry {replica.generation}",
        " and ".join(answers) or "answers nothing",
        f"reported {replica.seconds_ago:.0f} s ago",
    )
    return f"  {mark} {replica.name} at {replica.serves_at}: {', '.join(facts)}"


def _model_lines(model: ModelStatus) -> list[str]:
    since = ""
    if model.changed is not None:
        since = f" since {_describe(model.changed)}"
    answers = _describe_answers(model)
    lines = [f"  {model.model}: {answers}{since}"]
    details = _details(model).items()
    lines += [f"    {name}: {text}" for name, text in details if text]
    return lines


def _describe_answers(model: ModelStatus) -> str:
    """Say what the ledger lets answer under the model's name."""
    release = ""
    if model.version is not None:
        release = f"version {model.version} ({model.fingerprint})"
    if not model.serves_base:
        return release or "nothing is released"
    return f"its base alone, over {release}" if release else "its base alone"


def _details(model: ModelStatus) -> dict[str, str | None]:
    """Give the facts below a model by their names; one without a text is not shown."""
    # Empty is an answer, too; None was never asked.
    answers = "nothing under this name" if model.answers == "" else model.answers
    is_challenger_revoked = model.challenger in model.revoked
    unregistered = ", ".join(model.unregistered)
    return {
        "the endpoint answers": answers,
        "back goes to": model.predecessor,
        "on its way": model.pending,
        "canary": model.canary,
        "under review": None if is_challenger_revoked else model.challenger,
        "revoked": ", ".join(model.revoked),
        "not in the ledger (`assay adopt` answers for one)": unregistered,
    }


def _describe(change: Change) -> str:
    at = f"{change.at:%Y-%m-%d %H:%M:%S} UTC"
    reason = change.why or "reason erased"
    return f"{at} by {change.by}: {reason}"
