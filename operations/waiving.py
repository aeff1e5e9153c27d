"""`assay waive`: a rule of the gate `judge` does not hold for a model until a time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.account import Signed, group_by_person
from core.errors import ParameterError, ReleaseError
from core.project import Project
from operations.identity import Identity, verified_identity
from operations.orders import check_reason, current_project
from registry.ledger.entries import MODEL_NAME, Waived
from registry.ledger.state import LedgerState
from registry.release.brakes import waive
from registry.release.judging.waivers import NOT_BY_ONE_PERSON, WAIVABLE
from registry.release.people import People, read_people

# `24h` or `7d`.
_SPAN = re.compile(r"([1-9][0-9]{0,3})([hd])")
# A waiver is for a while; a rule that never holds belongs into the policy.
_LONGEST = timedelta(days=90)
_OF_PEOPLE = frozenset({"human_rating", "approvals"})
_NO_DIGEST = "0" * 64
"""Of a waiver whose reason is not in the ledger yet."""


@dataclass(frozen=True)
class EnteredWaiver:
    """A waiver and the ledger entry that holds it."""

    waiver: Waived
    generation: int


def enter_waiver(model: str, rule: str, until: str, reason: str) -> EnteredWaiver:
    """Enter a waiver of whoever acts into the ledger.

    `until` is a time (2026-12-01T18:00+01:00) or a span (24h, 7d). `ParameterError` where the
    rule, the time, the model's name or the reason does not fit.
    """
    identity = verified_identity(current_project())
    return enter_waiver_of(identity, model, rule, until, reason)


def enter_waiver_of(
    identity: Identity, model: str, rule: str, until: str, reason: str
) -> EnteredWaiver:
    """Enter a waiver of that identity; errors as of `enter_waiver`."""
    from registry.ledger.ledger import open_ledger

    waiver = draft_waiver(model, rule, until, identity)
    recorded_reason = check_reason(reason)
    ledger = open_ledger(current_project().home)
    last_entry = ledger.state().at
    # A clock that is behind would enter a waiver that had ended before it began.
    if not last_entry < waiver.until:
        raise ParameterError(
            f"--until {until} is before the ledger's last entry ({last_entry:%Y-%m-%d %H:%M} UTC). "
            "Set this machine's clock right."
        )
    # The reason is kept beside the ledger, which holds its digest alone.
    ledger_state = waive(
        lambda digest: waiver.model_copy(update={"reason_sha256": digest}),
        recorded_reason,
        ledger,
    )
    return EnteredWaiver(waiver, ledger_state.head.generation)


def check_waivers(model: str, rules: Sequence[str], until: str) -> None:
    """`ParameterError` where one of the waivers could not be entered.

    `ReleaseError` where it would count for nothing, as far as that is known before a version is
    judged.
    """
    from registry.ledger.ledger import open_ledger

    project = current_project()
    identity = verified_identity(project)
    for rule in rules:
        draft_waiver(
            model,
            rule,
            until,
            identity,
        )
    # All of them first: a run of hours must not end at a waiver that never could count.
    people = read_people(project.root)
    ledger_state = open_ledger(project.home).state()
    _check_role(project, model, identity, people)
    _check_is_not_the_author(model, identity, people, ledger_state)
    _check_leaves_one(model, rules, identity, ledger_state)


def _check_role(
    project: Project, model: str, identity: Identity, people: People
) -> None:
    """`ReleaseError` where the model's policy lets nobody of that role waive."""
    # With the metrics that a policy names, which take a while to import.
    from flows.run.model_files import policy_of
    from pipelines.gates.policy import load_policy

    policy = load_policy(policy_of(project.root, model))
    allowed = policy.gates.judge.waivers_by
    for role in allowed:
        if people.has_role(identity.by, identity.account, role):
            return
    roles = " or ".join(allowed) or "nobody"
    raise ReleaseError(
        f"The policy of {model} lets {roles} waive, which {identity.by} ({identity.account}) "
        "is not by people.yaml. Ask somebody who is."
    )


def _check_is_not_the_author(
    model: str, identity: Identity, people: People, ledger_state: LedgerState
) -> None:
    """`ReleaseError` where that person trained every version of the model that is known."""
    acting = people.signed(identity.by, identity.account)
    registrations = [
        registration
        for registration in ledger_state.registrations.values()
        if registration.made.model == model
    ]
    for registration in registrations:
        author = people.signed(
            registration.by,
            registration.account or registration.by,
        )
        # Of somebody else's version the waiver counts.
        if len(group_by_person((author, acting))) > 1:
            return
    if registrations:
        raise ReleaseError(
            f"{identity.by} ({identity.account}) trained every version of {model}, and nobody "
            "waives a rule for their own. Ask somebody else who may, from another account."
        )


def _check_leaves_one(
    model: str, rules: Sequence[str], identity: Identity, ledger_state: LedgerState
) -> None:
    """`ReleaseError` where one person would have waived all that people and keys give."""
    acting = Signed(identity.by, identity.account)
    now = datetime.now(UTC)
    own, others = set(rules), set()
    for waiver in ledger_state.waivers:
        is_open = waiver.model == model and now < waiver.until
        if not is_open or waiver.rule not in NOT_BY_ONE_PERSON:
            continue
        given = Signed(waiver.by, waiver.account or waiver.by)
        if len(group_by_person((acting, given))) == 1:
            own.add(waiver.rule)
        else:
            others.add(waiver.rule)
    # Ratings and approvals are what no machine gives: of the others one may not be missing at all.
    if own >= _OF_PEOPLE and not others:
        names = ", ".join(sorted(_OF_PEOPLE))
        raise ReleaseError(
            f"{identity.by} alone would have waived {names}, and no release counts that. "
            "Leave one of them to another person."
        )


def draft_waiver(model: str, rule: str, until: str, identity: Identity) -> Waived:
    """Make a waiver that can be entered, still without the digest of its reason.

    `ParameterError` where the rule cannot be waived, where the time has passed or is more than 90
    days ahead, or where no registered model can have that name.
    """
    if rule not in WAIVABLE:
        raise ParameterError(
            f"The rule {rule!r} cannot be waived. These can: {', '.join(sorted(WAIVABLE))}."
        )
    end = _parse_until(until)
    _check_end(end, until)
    # A waiver for a name that no model can have would look valid and hold for nothing.
    if not re.fullmatch(MODEL_NAME, model):
        raise ParameterError(
            f"--model {model[:40]!r} is no name of a registered model. "
            "Give one of letters, digits, dot, dash, underscore."
        )
    return Waived(
        rule=rule,
        model=model,
        until=end,
        by=identity.by,
        reason_sha256=_NO_DIGEST,
        account=identity.account,
    )


def _check_end(end: datetime, until: str) -> None:
    now = datetime.now(UTC)
    # Asked as what must hold, so that nothing incomparable passes.
    if not now < end:
        raise ParameterError(
            f"--until {until} has passed. Give a time to come, or a span such as 24h."
        )
    if not end - now <= _LONGEST:
        raise ParameterError(
            f"--until {until} is more than {_LONGEST.days} days ahead. "
            "A waiver is for a while: give an earlier time, such as 7d."
        )


def _parse_until(text: str) -> datetime:
    """Read a time or a span, in UTC.

    A time at the end of the calendar has no form in UTC. It is refused here, and not by whoever
    reads the ledger.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        amount = int(span[1])
        is_hours = span[2] == "h"
        duration = timedelta(hours=amount) if is_hours else timedelta(days=amount)
        return datetime.now(UTC) + duration
    try:
        # A time without a zone is one of this machine's clock.
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ParameterError(
            f"--until {text!r} is neither a time such as 2026-12-01T18:00+01:00 "
            "nor a span such as 24h or 7d."
        ) from None
