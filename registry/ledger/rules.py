"""Which entry may follow which, and what it changes.

A fold over entries, the same for release, endpoint, controller and audit: one function for each
kind takes the state before an entry and gives the state after it. An entry that may not follow (a
switch without a beginning, a release of a revoked version, a second pending release of a model) is
`IllegalEntry`, whoever signed it.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from core.errors import IllegalEntry
from registry.ledger.canary import (
    canary_paused,
    canary_resumed,
    canary_skipped,
    canary_step,
    check_canary_is_over,
    first_progress,
)
from registry.ledger.confirmations import block_closed, block_opened
from registry.ledger.entries import (
    Adopted,
    ApprovalWithdrawn,
    Approved,
    BaseServed,
    BlockClosed,
    BlockOpened,
    Body,
    CanaryPaused,
    CanaryResumed,
    CanarySkipped,
    CanaryStep,
    Entry,
    Frozen,
    Head,
    HeadAccepted,
    Judged,
    KeyAdded,
    KeyRevoked,
    ModelRated,
    Opened,
    OriginSeen,
    Rated,
    Received,
    Registered,
    Release,
    ReleaseAborted,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    Rescored,
    ReviewOpened,
    Revoked,
    RolledBack,
    Unfrozen,
    VersionContents,
    Waived,
    WishClosed,
    Wished,
)
from registry.ledger.key_steps import check_signer, key_added, key_revoked
from registry.ledger.people import (
    approval_withdrawn,
    approved,
    check_answer,
    wish_closed,
    wished,
)
from registry.ledger.received import origin_seen, received
from registry.ledger.rescored import rescored
from registry.ledger.reviews import model_rated, rated, review_opened
from registry.ledger.state import (
    Freeze,
    LedgerState,
    ModelState,
    RecordedRelease,
    Registration,
    Waiver,
)
from registry.ledger.steps import illegal, pending_release, with_model


def start_state(entry: Entry) -> LedgerState:
    """The state after the entry that opens a ledger.

    `IllegalEntry` where it is another entry.
    """
    if not isinstance(entry.body, Opened) or entry.generation != 1:
        raise IllegalEntry(
            f"Entry {entry.generation} is not the opening of a ledger."
            " The ledger's beginning is cut off."
        )
    # The ledger keeps this name, so that another ledger is not taken for it.
    ledger_id = entry.body.ledger_id
    return LedgerState(
        head=Head(ledger_id=ledger_id, generation=1, hash=entry.hash),
        at=entry.at,
        keys=(entry.body.key,),
    )


def apply_entry(ledger_state: LedgerState, entry: Entry) -> LedgerState:
    """The state after one more entry; `IllegalEntry` where it may not follow.

    Hash, chain and signature are verified by `registry.ledger.chain`, not here.
    """
    body = entry.body
    # A kind without a step fails here: an entry that is skipped could hide what it forbids.
    step = _STEPS[type(body)]
    changed = step(ledger_state, entry, body)
    head = Head(
        ledger_id=ledger_state.head.ledger_id,
        generation=entry.generation,
        hash=entry.hash,
    )
    return changed.model_copy(update={"head": head, "at": entry.at})


def check_next(ledger_state: LedgerState, body: Body, at: datetime) -> None:
    """Check a body against the state before an entry of it is signed.

    `IllegalEntry` where it may not follow.
    """
    # Not validated: it has no key, hash and signature yet, and no rule looks at them.
    probe = Entry.model_construct(
        generation=ledger_state.head.generation + 1,
        at=at,
        body=body,
        previous=ledger_state.head.hash,
        key_id="",
        hash="",
        signature="",
    )
    step = _STEPS[type(body)]
    step(ledger_state, probe, body)


# Keys: who may sign.


def _opened(_: LedgerState, entry: Entry, __: Opened) -> LedgerState:
    raise illegal(entry, "a ledger is opened once")


# Registrations and verdicts: where a version came from, and what judge answered.


def _registered(
    ledger_state: LedgerState, entry: Entry, body: Registered | Adopted
) -> LedgerState:
    earlier = ledger_state.registration(body.model, body.version)
    # Another package under the same number is allowed: MLflow may restart its numbers.
    if earlier is not None and earlier.made.package_sha256 == body.package_sha256:
        raise illegal(
            entry,
            f"version {body.version} of {body.model} is registered already,"
            f" at entry {earlier.generation}",
        )
    contents = body.model_dump(include=set(VersionContents.model_fields))
    registration = Registration(
        generation=entry.generation,
        at=entry.at,
        by=body.by,
        account=body.account,
        made=VersionContents.model_validate(contents),
        is_adopted=isinstance(body, Adopted),
    )
    registrations = {**ledger_state.registrations, registration.key: registration}
    return ledger_state.model_copy(update={"registrations": registrations})


def _judged(ledger_state: LedgerState, entry: Entry, body: Judged) -> LedgerState:
    _check_waivers(ledger_state, entry, body)
    _check_registration(ledger_state, entry, body)
    check_signer(ledger_state, entry, body)
    judged = {
        **ledger_state.judged,
        entry.generation: body,
    }
    return ledger_state.model_copy(update={"judged": judged})


def _check_waivers(ledger_state: LedgerState, entry: Entry, judged: Judged) -> None:
    for generation in judged.waivers:
        waiver = _find_waiver(ledger_state, generation)
        if (
            waiver is None
            or waiver.model != judged.model
            or not entry.at < waiver.until
        ):
            raise illegal(
                entry,
                f"it leans on the waiver of entry {generation},"
                f" which does not hold for {judged.model} now",
            )


def _find_waiver(ledger_state: LedgerState, generation: int) -> Waiver | None:
    for waiver in ledger_state.waivers:
        if waiver.generation == generation:
            return waiver
    return None


def _check_registration(
    ledger_state: LedgerState, entry: Entry, judged: Judged
) -> None:
    """What is named as the version's registration is the last one of these very bytes."""
    # From before there were registrations; `_check_origin` decides whether that is enough.
    if judged.registration is None:
        return
    registration = ledger_state.registration(judged.model, judged.version)
    if registration is None or registration.generation != judged.registration:
        raise illegal(
            entry,
            f"entry {judged.registration} is not the registration of"
            f" version {judged.version} of {judged.model}",
        )
    registered = registration.made
    is_same_package = registered.package_sha256 == judged.package_sha256
    is_same_adapter = registered.adapter_sha256 == judged.adapter_sha256
    if not (is_same_package and is_same_adapter):
        raise illegal(
            entry, f"entry {judged.registration} registered other bytes than these"
        )


# Releases: begun, switched, completed or aborted.


def _release_begun(
    ledger_state: LedgerState, entry: Entry, body: ReleaseBegun
) -> LedgerState:
    # In the order in which a person wants to hear it: the verdict, then what bars it.
    judged = _passed_verdict(ledger_state, entry, body)
    _check_not_judged_again(ledger_state, entry, body.judged)
    _check_origin(ledger_state, entry, body, judged)
    _check_signature(ledger_state, entry, body, judged)
    _check_waivers(ledger_state, entry, judged)
    _check_not_barred(ledger_state, entry, body.release)
    _check_free(ledger_state, entry, body)
    name, version = body.release.model, body.release.version
    check_answer(ledger_state, entry, name, version)
    recorded = RecordedRelease(
        begun=entry.generation,
        release=body.release,
        judged=body.judged,
        by=body.by,
        reason_sha256=body.reason_sha256,
        at=entry.at,
        canary=first_progress(body.release),
        # Of older entries it is not kept: the endpoint's memory of them must stay the same.
        account=body.account if body.release.canary else None,
    )
    # A wish for another version stays open: it is judged against what serves then.
    wish = ledger_state.model(name).wish
    if wish is not None and wish.version == version:
        wish = None
    return with_model(ledger_state, name, pending=recorded, wish=wish)


def _passed_verdict(
    ledger_state: LedgerState, entry: Entry, body: ReleaseBegun
) -> Judged:
    """The verdict that the release names: it passed, and it is about these bytes."""
    release = body.release
    judged = ledger_state.judged.get(body.judged)
    if judged is None or judged.verdict != "passed":
        raise illegal(entry, f"entry {body.judged} is no passed verdict of judge")
    is_same_bytes = judged.package_sha256 == release.package_sha256
    if not (_is_of(judged, release.model, release.version) and is_same_bytes):
        raise illegal(
            entry, f"entry {body.judged} judged another version or other bytes"
        )
    return judged


def _is_of(judged: Judged, model: str, version: str) -> bool:
    is_same_model = judged.model == model
    return is_same_model and judged.version == version


def _check_not_judged_again(
    ledger_state: LedgerState, entry: Entry, generation: int
) -> None:
    """No later verdict on the same version is against it."""
    verdict = ledger_state.judged[generation]
    # The verdict that is named passed, but a later one may have looked again.
    against = [
        at
        for at, later in ledger_state.judged.items()
        if at > generation
        and later.verdict != "passed"
        and _is_of(later, verdict.model, verdict.version)
    ]
    if against:
        raise illegal(
            entry, f"entry {against[-1]} judged it again, and it did not pass"
        )


def _check_origin(
    ledger_state: LedgerState, entry: Entry, body: ReleaseBegun, judged: Judged
) -> None:
    """The verdict names a registration of these bytes, and the release serves that adapter."""
    # A ledger without any registration is from before there were any, and so are its releases.
    if not ledger_state.registrations:
        return
    if judged.registration is None:
        raise illegal(
            entry,
            f"entry {body.judged} judged a version whose registration"
            " the ledger does not hold",
        )
    _check_registration(ledger_state, entry, judged)
    if body.release.spec.adapter_sha256 != judged.adapter_sha256:
        raise illegal(
            entry,
            f"it is to be served with another adapter than entry {body.judged} judged",
        )


def _check_signature(
    ledger_state: LedgerState, entry: Entry, body: ReleaseBegun, judged: Judged
) -> None:
    """What is verified before each load is what was judged, and its key is still nobody else's."""
    if body.release.signed_by != judged.signed_by:
        raise illegal(
            entry,
            f"it names another signature of the package than entry {body.judged} judged",
        )
    check_signer(ledger_state, entry, judged)


def _check_not_barred(
    ledger_state: LedgerState, entry: Entry, release: Release
) -> None:
    """No freeze and no revocation is in the way."""
    frozen = ledger_state.frozen
    if frozen is not None:
        raise illegal(entry, f"releases are frozen since entry {frozen.generation}")
    if release.version in ledger_state.model(release.model).revoked:
        raise illegal(entry, f"version {release.version} of {release.model} is revoked")
    _check_not_revoked_in_origin(ledger_state, entry, release)
    # The same weights under another name are the same weights.
    adapter = release.spec.adapter_sha256
    if adapter in ledger_state.revoked_adapters:
        revocation = ledger_state.revoked_adapters[adapter]
        raise illegal(
            entry,
            f"its adapter was revoked under another name, at entry {revocation}",
        )


def _check_not_revoked_in_origin(
    ledger_state: LedgerState, entry: Entry, release: Release
) -> None:
    seen = ledger_state.revoked_in_origin.get(release.spec.adapter_sha256 or "")
    if seen is not None:
        raise illegal(
            entry, f"its adapter is revoked where it came from, by entry {seen}"
        )


def _check_free(ledger_state: LedgerState, entry: Entry, body: ReleaseBegun) -> None:
    """What serves is what the verdict compared with, and no other release is on its way."""
    model = ledger_state.model(body.release.model)
    # The verdict compared with something that does not serve any more.
    if model.changed_at > body.judged:
        raise illegal(
            entry,
            f"what serves was changed at entry {model.changed_at},"
            f" after the verdict of entry {body.judged}",
        )
    pending = model.pending
    if pending is not None:
        raise illegal(
            entry,
            f"version {pending.release.version} of {body.release.model}"
            f" is on its way since entry {pending.begun}",
        )


def _release_switched(
    ledger_state: LedgerState, entry: Entry, body: ReleaseSwitched
) -> LedgerState:
    switched = pending_release(ledger_state, entry, body.begun)
    check_canary_is_over(ledger_state, entry, switched)
    name, version = switched.release.model, switched.release.version
    model = ledger_state.model(name)
    # What is released again moves to the end: going back from it leads to what served
    # before it, not to itself.
    return with_model(
        ledger_state,
        name,
        served=(*_without_versions(model, {version}), switched),
        # Never shortened: the endpoint and backups keep what a rollback may need.
        once_served=(*model.once_served, switched),
        pending=None,
        serves_base=False,
        changed_at=entry.generation,
    )


def _without_versions(
    model: ModelState, versions: Collection[str]
) -> tuple[RecordedRelease, ...]:
    """What serves or served, without the releases of those versions."""
    return tuple(
        recorded
        for recorded in model.served
        if recorded.release.version not in versions
    )


def _completed_last(
    served: tuple[RecordedRelease, ...],
) -> tuple[RecordedRelease, ...]:
    """The same releases, of which the last one is completed."""
    *earlier, newest = served
    completed = newest.model_copy(update={"is_completed": True})
    return (*earlier, completed)


def _release_completed(
    ledger_state: LedgerState, entry: Entry, body: ReleaseCompleted
) -> LedgerState:
    # Only the newest release of a model can be completed: it is the one that serves.
    for name, model in ledger_state.models.items():
        current = model.current
        if current is None or current.begun != body.begun or current.is_completed:
            continue
        return with_model(ledger_state, name, served=_completed_last(model.served))
    raise illegal(
        entry,
        f"the release that began at entry {body.begun} is not what serves,"
        " or is completed already",
    )


def _release_aborted(
    ledger_state: LedgerState, entry: Entry, body: ReleaseAborted
) -> LedgerState:
    aborted = pending_release(ledger_state, entry, body.begun)
    name = aborted.release.model
    model = ledger_state.model(name)
    answering = model.answering
    serving = ""
    if answering is not None:
        serving = answering.release.version
    check_answer(
        ledger_state,
        entry,
        name,
        serving,
    )
    # One that failed leaves a later wish open. A person's order ends it, or answers it.
    wish = model.wish if body.by is None else None
    return with_model(ledger_state, name, pending=None, wish=wish)


# Brakes: back to what served, to the base, never again, not now.


def _rolled_back(
    ledger_state: LedgerState, entry: Entry, body: RolledBack
) -> LedgerState:
    model = ledger_state.model(body.model)
    target = _rollback_target(model, entry, body)
    check_answer(ledger_state, entry, body.model, target.release.version)
    return with_model(
        ledger_state,
        body.model,
        served=_completed_last(_served_up_to(model, target)),
        pending=None,
        # A wish from before a brake must not undo it.
        wish=None,
        serves_base=False,
        changed_at=entry.generation,
    )


def _rollback_target(
    model: ModelState, entry: Entry, body: RolledBack
) -> RecordedRelease:
    """The release to go back to: it served once, is not revoked, and does not serve now."""
    # A release served once at most under one beginning, so there is one or none.
    candidates = [once for once in model.once_served if once.begun == body.to]
    if not candidates:
        raise illegal(
            entry,
            f"no release of {body.model} that began at entry {body.to} ever served",
        )
    target = candidates[0]
    version = target.release.version
    if version in model.revoked:
        raise illegal(entry, f"version {version} of {body.model} is revoked")
    answering = model.answering
    # While the base answers, going back to the current release is a change.
    if answering is not None and answering.release == target.release:
        raise illegal(entry, f"version {version} of {body.model} serves already")
    return target


def _served_up_to(
    model: ModelState, target: RecordedRelease
) -> tuple[RecordedRelease, ...]:
    """What serves or served, ending with the release to go back to."""
    places = [
        place
        for place, recorded in enumerate(model.served)
        if recorded.release == target.release
    ]
    if places:
        return model.served[: places[-1] + 1]
    # The same version under another spec gives way: a version is served once.
    return (*_without_versions(model, {target.release.version}), target)


def _base_served(
    ledger_state: LedgerState, entry: Entry, body: BaseServed
) -> LedgerState:
    if not ledger_state.model(body.model).once_served:
        raise illegal(
            entry, f"nothing of {body.model} was ever released, so its base is unknown"
        )
    return with_model(
        ledger_state,
        body.model,
        pending=None,
        wish=None,
        serves_base=True,
        changed_at=entry.generation,
    )


def _revoked(ledger_state: LedgerState, entry: Entry, body: Revoked) -> LedgerState:
    if body.version in ledger_state.model(body.model).revoked:
        raise illegal(
            entry, f"version {body.version} of {body.model} is revoked already"
        )
    adapters = _adapters_of(ledger_state, body.model, body.version)
    # Of a version that the ledger does not know, the person who revokes it names the bytes.
    if body.adapter_sha256:
        adapters.add(body.adapter_sha256)
    # An adapter keeps the entry that revoked it first.
    new = adapters - ledger_state.revoked_adapters.keys()
    revoked_adapters = {
        **ledger_state.revoked_adapters,
        **dict.fromkeys(new, entry.generation),
    }
    ledger_state = ledger_state.model_copy(
        update={"revoked_adapters": revoked_adapters}
    )
    # The same bytes may have been released under other names.
    for name in sorted({*ledger_state.models, body.model}):
        versions = _versions_with(ledger_state.model(name), adapters)
        if name == body.model:
            versions |= {body.version}
        if versions:
            ledger_state = _revoke_versions(ledger_state, name, versions, entry)
    return ledger_state


def _adapters_of(ledger_state: LedgerState, model: str, version: str) -> set[str]:
    """A version's adapters as far as they are known: as judged, as released, as registered."""
    judged = {
        verdict.adapter_sha256
        for verdict in ledger_state.judged.values()
        if _is_of(verdict, model, version)
    }
    released = {
        recorded.release.spec.adapter_sha256
        for recorded in _released(ledger_state.model(model))
        if recorded.release.version == version
    }
    adapters = judged | released
    registration = ledger_state.registration(model, version)
    if registration is not None:
        adapters.add(registration.made.adapter_sha256)
    return {sha256 for sha256 in adapters if sha256 is not None}


def _versions_with(model: ModelState, adapters: set[str]) -> frozenset[str]:
    """Released versions of a model that serve one of those adapters."""
    return frozenset(
        recorded.release.version
        for recorded in _released(model)
        if recorded.release.spec.adapter_sha256 in adapters
    )


def _released(model: ModelState) -> tuple[RecordedRelease, ...]:
    """Every release that had traffic or is on its way."""
    if model.pending is None:
        return model.once_served
    return (*model.once_served, model.pending)


def _revoke_versions(
    ledger_state: LedgerState, name: str, versions: frozenset[str], entry: Entry
) -> LedgerState:
    """A model whose versions these are: none of them serves or is on its way any more."""
    model = ledger_state.model(name)
    served = _without_versions(model, versions)
    pending = model.pending
    if pending is not None and pending.release.version in versions:
        pending = None
    wish = None if model.wish and model.wish.version in versions else model.wish
    # Nothing is left to go back to, so the base answers.
    lost_all = bool(model.served) and not served
    return with_model(
        ledger_state,
        name,
        served=served,
        pending=pending,
        wish=wish,
        revoked=model.revoked | versions,
        changed_at=entry.generation,
        serves_base=model.serves_base or lost_all,
    )


def _frozen(ledger_state: LedgerState, entry: Entry, body: Frozen) -> LedgerState:
    earlier = ledger_state.frozen
    if earlier is not None:
        raise illegal(
            entry, f"releases are frozen already, since entry {earlier.generation}"
        )
    freeze = Freeze(
        generation=entry.generation,
        at=entry.at,
        by=body.by,
        reason_sha256=body.reason_sha256,
    )
    # A freeze aborts what is on its way, and leaves what serves.
    models = {
        name: model.model_copy(update={"pending": None, "wish": None})
        for name, model in ledger_state.models.items()
    }
    return ledger_state.model_copy(update={"frozen": freeze, "models": models})


def _unfrozen(ledger_state: LedgerState, entry: Entry, _: Unfrozen) -> LedgerState:
    # An entry that changes nothing would tell readers of the ledger of a freeze that was not.
    if ledger_state.frozen is None:
        raise illegal(entry, "releases are not frozen")
    changes = {"frozen": None}
    return ledger_state.model_copy(update=changes)


# Exceptions that a person answers for.


def _waived(ledger_state: LedgerState, entry: Entry, body: Waived) -> LedgerState:
    waiver = Waiver(
        generation=entry.generation,
        rule=body.rule,
        model=body.model,
        until=body.until,
        by=body.by,
        reason_sha256=body.reason_sha256,
        account=body.account,
    )
    waivers = (*ledger_state.waivers, waiver)
    return ledger_state.model_copy(update={"waivers": waivers})


def _head_accepted(
    ledger_state: LedgerState, entry: Entry, body: HeadAccepted
) -> LedgerState:
    # The entry before this one is in the ledger, so it cannot be accepted as lost.
    head = ledger_state.head
    hashes = [lost.hash for lost in body.lost]
    if head.hash in hashes:
        raise illegal(entry, f"entry {head.generation} is not lost")
    accepted = {
        **ledger_state.accepted,
        **dict.fromkeys(hashes, entry.generation),
    }
    changes = {"accepted": accepted}
    return ledger_state.model_copy(update=changes)


_STEPS: dict[type[Any], Callable[[LedgerState, Entry, Any], LedgerState]] = {
    Opened: _opened,
    KeyAdded: key_added,
    KeyRevoked: key_revoked,
    Registered: _registered,
    Adopted: _registered,
    Received: received,
    OriginSeen: origin_seen,
    Judged: _judged,
    BlockOpened: block_opened,
    BlockClosed: block_closed,
    Rescored: rescored,
    Wished: wished,
    WishClosed: wish_closed,
    Approved: approved,
    ApprovalWithdrawn: approval_withdrawn,
    ReviewOpened: review_opened,
    Rated: rated,
    ModelRated: model_rated,
    ReleaseBegun: _release_begun,
    CanaryStep: canary_step,
    CanaryPaused: canary_paused,
    CanaryResumed: canary_resumed,
    CanarySkipped: canary_skipped,
    ReleaseSwitched: _release_switched,
    ReleaseCompleted: _release_completed,
    ReleaseAborted: _release_aborted,
    RolledBack: _rolled_back,
    BaseServed: _base_served,
    Revoked: _revoked,
    Frozen: _frozen,
    Unfrozen: _unfrozen,
    Waived: _waived,
    HeadAccepted: _head_accepted,
}
