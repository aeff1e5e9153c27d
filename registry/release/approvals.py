"""Approvals: who may give one, and the entries that give it and take it back.

The same for the command line and for MLflow's pages, which sign with different keys.
"""

from dataclasses import dataclass

from core.account import Signed, group_by_person
from core.errors import ReleaseError
from registry.ledger.entries import ApprovalWithdrawn, Approved, Body
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, RecordedApproval, Registration
from registry.release.context import ChangeRequest, append, attribute
from registry.release.people import People


@dataclass(frozen=True)
class Target:
    """The version that somebody approves, in its registered model."""

    model: str
    version: str
    package_sha256: str | None = None
    """What a page says of its bytes; None: nobody looked at one."""

    @property
    def place(self) -> str:
        """What a message calls it."""
        return f"version {self.version} of {self.model}"


def approve(
    target: Target, request: ChangeRequest, people: People, ledger: Ledger
) -> LedgerState:
    """Enter an approval of the bytes that the ledger holds for that version.

    Nothing is entered where the same person's approval of these bytes stands. `ReleaseError` where
    the ledger does not know the version, for its author, and without the role approver.
    """
    ledger_state = ledger.state()
    registration = check_may_approve(target, request, people, ledger_state)
    # A client that lost the answer asks twice.
    if _stands(target, request, ledger_state):
        return ledger_state
    attribution = attribute(request, ledger)

    def make_entry(_: LedgerState) -> Body:
        return Approved(
            model=target.model,
            version=target.version,
            package_sha256=registration.made.package_sha256,
            **attribution,
        )

    return append(ledger, make_entry)


def withdraw(target: Target, request: ChangeRequest, ledger: Ledger) -> LedgerState:
    """Take back every approval of that version that the same person gave.

    It asks for no role: a doubt counts from whoever approved. `ReleaseError` where there is none.
    """
    # Before the reason is kept: a refused order leaves no text behind.
    check_has_approved(target, request, ledger.state())
    attribution = attribute(request, ledger)

    def make_entry(ledger_state: LedgerState) -> Body:
        check_has_approved(target, request, ledger_state)
        return ApprovalWithdrawn(
            model=target.model,
            version=target.version,
            **attribution,
        )

    return append(ledger, make_entry)


def check_may_approve(
    target: Target, request: ChangeRequest, people: People, ledger_state: LedgerState
) -> Registration:
    """How the version came into the ledger; `ReleaseError` where that person may not approve it."""
    registration = ledger_state.registration(target.model, target.version)
    if registration is None:
        raise ReleaseError(
            f"The ledger does not know {target.place}, so there is nothing to approve. "
            "`assay adopt` enters a version that no run entered."
        )
    made = registration.made.package_sha256
    # MLflow's numbers begin again at 1 where it was lost.
    if target.package_sha256 not in {None, made}:
        raise ReleaseError(
            f"The page of {target.place} is about other bytes than entry "
            f"{registration.generation} of the ledger: find out who changed MLflow's record."
        )
    account = request.account or ""
    if not people.has_role(request.by, account, "approver"):
        raise ReleaseError(
            f"{request.by} ({account}) does not have the role approver: "
            f"{_ask_an_approver(people)}."
        )
    if registration.account is None:
        raise ReleaseError(
            f"The account that trained {target.place} is not on record, "
            "so nobody can be told from its author: train it again."
        )
    author = people.signed(registration.by, registration.account)
    approver = people.signed(request.by, account)
    # By every name and account that people.yaml lists for either of them.
    if _is_one_person(author, approver):
        raise ReleaseError(
            f"{request.by} ({account}) is the same person as {registration.by}, who trained "
            f"{target.place}, and nobody approves their own: {_ask_an_approver(people)}."
        )
    return registration


def check_has_approved(
    target: Target, request: ChangeRequest, ledger_state: LedgerState
) -> None:
    """`ReleaseError` where that person's approval of the version does not stand."""
    for approval in approvals_of(target, ledger_state):
        if _is_by(approval, request):
            return
    raise ReleaseError(
        f"{request.by} has not approved {target.place} in this way: "
        "an approval is taken back with the account that gave it."
    )


def approvals_of(
    target: Target, ledger_state: LedgerState
) -> tuple[RecordedApproval, ...]:
    """Every approval of that version that was not withdrawn, of whatever bytes."""
    return tuple(
        approval
        for approval in ledger_state.approvals
        if approval.model == target.model
        if approval.version == target.version
    )


def describe_approvals(target: Target, ledger_state: LedgerState) -> str:
    """Who approved the bytes of now, when, and in which entry, as a page says it."""
    sentences = [
        f"{approval.by} ({approval.account}) "
        f"on {approval.at:%Y-%m-%d %H:%M} UTC, entry {approval.generation}"
        for approval in approvals_of(target, ledger_state)
        if _is_current(approval, target, ledger_state)
    ]
    approvals = "; ".join(sentences)
    return approvals or "nobody's approval stands"


def _stands(target: Target, request: ChangeRequest, ledger_state: LedgerState) -> bool:
    for approval in approvals_of(target, ledger_state):
        is_own = _is_by(approval, request)
        if is_own and _is_current(approval, target, ledger_state):
            return True
    return False


def _is_current(
    approval: RecordedApproval, target: Target, ledger_state: LedgerState
) -> bool:
    """Whether it is of the registered bytes, and not from before they were registered again."""
    registration = ledger_state.registration(target.model, target.version)
    if registration is None:
        return False
    is_same_package = approval.package_sha256 == registration.made.package_sha256
    # A number that MLflow gave out again bears the approvals of the older version.
    return is_same_package and approval.generation > registration.generation


def _is_by(approval: RecordedApproval, request: ChangeRequest) -> bool:
    # Without an account on record the name alone stands for the person.
    given = Signed(
        approval.by,
        approval.account or approval.by,
    )
    asked = Signed(
        request.by,
        request.account or request.by,
    )
    return _is_one_person(given, asked)


def _is_one_person(one: Signed, other: Signed) -> bool:
    persons = group_by_person((one, other))
    return len(persons) == 1


def _ask_an_approver(people: People) -> str:
    approvers = people.list_with_role("approver")
    if not approvers:
        return "people.yaml gives it to nobody yet, so add somebody there"
    names = ", ".join(approvers)
    return f"ask one who has it ({names})"
