"""Who approved and who waived, as `judge` looks at it: the ledger and the `people.yaml` of now.

What `people.yaml` says is asked when a version is judged, so that who lost a role since counts no
more.
"""

from typing import get_args

from core.account import mlflow_user_of
from core.roles import PersonRole
from registry.ledger.entries import Judged
from registry.ledger.state import LedgerState, Registration
from registry.mlflow.recorded import ModelVersion
from registry.release.judging.circumstances import Approval, WaivedRule
from registry.release.people import People


def last_verdict(ledger_state: LedgerState, model: str) -> Judged | None:
    """The verdict by which the model's last release began, revoked or not."""
    released = ledger_state.model(model).once_served
    if not released:
        return None
    # Of the last release and not of what serves: going back changes no policy.
    return ledger_state.judged[released[-1].judged]


def waivers_of(
    ledger_state: LedgerState, model: str, people: People
) -> tuple[WaivedRule, ...]:
    """Every waiver of the model, with what `people.yaml` says now of who gave it."""
    waivers = [each for each in ledger_state.waivers if each.model == model]
    return tuple(
        WaivedRule(
            generation=waiver.generation,
            rule=waiver.rule,
            until=waiver.until,
            by=waiver.by,
            account=waiver.account,
            roles=_roles(people, waiver.by, waiver.account),
            persons=persons_of(people, waiver.by, waiver.account),
        )
        for waiver in waivers
    )


def approvals_of(
    ledger_state: LedgerState, version: ModelVersion, people: People
) -> tuple[Approval, ...]:
    """The approvals of these very bytes, with what `people.yaml` says now of who gave them."""
    return tuple(
        Approval(
            by=approval.by,
            account=approval.account,
            at=approval.at,
            roles=_roles(people, approval.by, approval.account),
            persons=persons_of(people, approval.by, approval.account),
        )
        for approval in ledger_state.approvals
        # Of somebody without an account on record nobody knows who it is.
        if approval.account is not None
        and (approval.model, approval.version) == (version.name, version.version)
        and approval.package_sha256 == version.package_sha256
    )


def origin_approvals_of(
    registration: Registration, people: People
) -> tuple[Approval, ...]:
    """Approvals of the installation that a version came from, by users whom this one knows.

    A user of MLflow's has the roles that `people.yaml` gives here to the same name. Accounts of an
    operating system are those of another machine, so that nobody has a role by one.
    """
    received = registration.received
    # What was made here has its approvals in this ledger.
    if received is None:
        return ()
    return tuple(
        Approval(
            by=given.by,
            account=given.account,
            at=given.at,
            roles=_roles(people, given.by, given.account),
            persons=persons_of(people, given.by, given.account),
            given_in=received.origin.name,
        )
        for given in received.approvals
        if given.account is not None
        and mlflow_user_of(given.by, given.account) is not None
    )


def _roles(people: People, by: str, account: str | None) -> tuple[PersonRole, ...]:
    return tuple(
        role for role in get_args(PersonRole) if people.has_role(by, account, role)
    )


def persons_of(people: People, by: str, account: str | None) -> tuple[str, ...]:
    """Everybody whom `people.yaml` lists with that account, in order."""
    persons = people.persons_of(by, account)
    # In order, so that the same circumstances are equal values.
    in_order = sorted(persons)
    return tuple(in_order)
