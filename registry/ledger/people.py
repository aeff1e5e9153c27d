"""What people ask for: wishes of release managers, and approvals.

Steps of `registry.ledger.rules`, and which key may sign them.
"""

from collections.abc import Mapping

from core.account import Signed, group_by_person
from registry.ledger.entries import (
    ApprovalWithdrawn,
    Approved,
    Entry,
    ReleaseAborted,
    ReleaseBegun,
    Role,
    RolledBack,
    WishClosed,
    Wished,
)
from registry.ledger.state import (
    LedgerState,
    RecordedApproval,
    RecordedReview,
    RecordedWish,
    RecordedWithdrawal,
    registration_key,
)
from registry.ledger.steps import illegal, with_model

_ADMISSION: frozenset[Role] = frozenset({"controller", "admission"})
SIGNERS: Mapping[str, frozenset[Role]] = {
    "wished": _ADMISSION,
    "wish_closed": _ADMISSION,
    "approved": _ADMISSION,
    "approval_withdrawn": _ADMISSION,
}
"""The roles of the keys that may sign a kind of entry; every other kind is the controller's."""
_CONTROLLER: frozenset[Role] = frozenset({"controller"})


def signers_of(kind: str) -> frozenset[Role]:
    """The roles of the keys that may sign an entry of that kind."""
    return SIGNERS.get(kind, _CONTROLLER)


def wished(ledger_state: LedgerState, entry: Entry, body: Wished) -> LedgerState:
    """Open a wish; an earlier one that is still open gives way."""
    frozen = ledger_state.frozen
    if frozen is not None:
        raise illegal(entry, f"releases are frozen since entry {frozen.generation}")
    model = ledger_state.model(body.model)
    if body.version in model.revoked:
        raise illegal(entry, f"version {body.version} of {body.model} is revoked")
    wish = RecordedWish(
        generation=entry.generation,
        version=body.version,
        package_sha256=body.package_sha256,
        by=body.by,
        account=body.account,
        reason_sha256=body.reason_sha256,
        at=entry.at,
        key_id=entry.key_id,
    )
    return with_model(ledger_state, body.model, wish=wish)


def wish_closed(
    ledger_state: LedgerState, entry: Entry, body: WishClosed
) -> LedgerState:
    """Close the open wish that the entry names."""
    for name, model in ledger_state.models.items():
        wish = model.wish
        if wish is None:
            continue
        if wish.generation == body.wished:
            return with_model(ledger_state, name, wish=None)
    raise illegal(entry, f"the wish of entry {body.wished} is not open")


def check_answer(
    ledger_state: LedgerState, entry: Entry, model: str, version: str
) -> None:
    """`IllegalEntry` where the entry answers a wish that is not open, or for another version."""
    body = entry.body
    if not isinstance(body, ReleaseBegun | RolledBack | ReleaseAborted):
        return
    # A command that was typed answers no wish.
    if body.wished is None:
        return
    wish = ledger_state.model(model).wish
    is_open = wish is not None and wish.generation == body.wished
    if wish is None or not is_open or wish.version != version:
        raise illegal(
            entry, f"entry {body.wished} is no open wish for version {version}"
        )


def approved(ledger_state: LedgerState, entry: Entry, body: Approved) -> LedgerState:
    """Count an approval of these very bytes."""
    registration = ledger_state.registration(body.model, body.version)
    if registration is None:
        raise illegal(
            entry, f"the ledger does not know version {body.version} of {body.model}"
        )
    # MLflow's numbers begin again where it was lost: an approval is of bytes.
    if registration.made.package_sha256 != body.package_sha256:
        raise illegal(
            entry, f"entry {registration.generation} registered other bytes than these"
        )
    approval = RecordedApproval(
        generation=entry.generation,
        model=body.model,
        version=body.version,
        package_sha256=body.package_sha256,
        by=body.by,
        account=body.account,
        at=entry.at,
        key_id=entry.key_id,
    )
    approvals = (*ledger_state.approvals, approval)
    return ledger_state.model_copy(update={"approvals": approvals})


def without_words_of(ledger_state: LedgerState, key_id: str) -> LedgerState:
    """The state without what a stolen key signed.

    Wishes, approvals, reviews, a release on its way.
    """
    approvals = tuple(
        approval for approval in ledger_state.approvals if approval.key_id != key_id
    )
    reviews = tuple(
        _without_model_ratings(review, key_id)
        for review in ledger_state.reviews
        if key_id not in review.key_ids
    )
    models = {}
    for name, model in ledger_state.models.items():
        wish, pending = model.wish, model.pending
        if wish is not None and wish.key_id == key_id:
            wish = None
        # Nothing that it signed is released any more, also what is on its way.
        if pending is not None and pending.release.signed_by == key_id:
            pending = None
        models[name] = model.model_copy(update={"wish": wish, "pending": pending})
    return ledger_state.model_copy(
        update={"approvals": approvals, "reviews": reviews, "models": models}
    )


def _without_model_ratings(review: RecordedReview, key_id: str) -> RecordedReview:
    ratings = review.model_ratings
    kept = [given for given in ratings if given.key_id != key_id]
    changes = {"model_ratings": tuple(kept)}
    return review.model_copy(update=changes)


def approval_withdrawn(
    ledger_state: LedgerState, entry: Entry, body: ApprovalWithdrawn
) -> LedgerState:
    """Drop what the same person approved of that version, and remember that it was dropped."""
    kept = []
    for approval in ledger_state.approvals:
        is_of_version = approval.version == body.version
        is_of_model = approval.model == body.model
        if not (is_of_model and is_of_version and _is_same_person(approval, body)):
            kept.append(approval)
    # An entry that changes nothing would look like a doubt that counted.
    if len(kept) == len(ledger_state.approvals):
        raise illegal(
            entry,
            f"{body.by} has not approved version {body.version} of {body.model}",
        )
    withdrawal = RecordedWithdrawal(generation=entry.generation, by=body.by)
    key = registration_key(body.model, body.version)
    withdrawals = {**ledger_state.withdrawals, key: withdrawal}
    changes = {"approvals": tuple(kept), "withdrawals": withdrawals}
    return ledger_state.model_copy(update=changes)


def _is_same_person(approval: RecordedApproval, body: ApprovalWithdrawn) -> bool:
    approving = _signed(approval)
    withdrawing = _signed(body)
    # By person and not by name: one may act in the terminal and on MLflow's page.
    both = (approving, withdrawing)
    persons = group_by_person(both)
    return len(persons) == 1


def _signed(each: RecordedApproval | ApprovalWithdrawn) -> Signed:
    # An account that is not on record is its own: nobody shares it.
    account = each.account or f"unknown of {each.by}"
    return Signed(each.by, account)
