"""Which entry may follow which, and what it changes: a fold, the same for release, endpoint, controller and audit.

Every entry is checked against what stood before it. One that does not follow (a switch without a beginning, a release of a revoked
version, a second pending release of a model) is `IllegalEntry`, whoever signed it.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from core.errors import IllegalEntry
from registry.ledger.entries import (
    Adopted,
    BaseServed,
    Body,
    Entry,
    Frozen,
    Head,
    HeadAccepted,
    Judged,
    KeyAdded,
    KeyRevoked,
    Made,
    Opened,
    Registered,
    ReleaseAborted,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    Revoked,
    RolledBack,
    Unfrozen,
    Waived,
)
from registry.ledger.state import (
    Freeze,
    LedgerState,
    ModelState,
    RecordedRelease,
    Registration,
    Waiver,
)


def first(entry: Entry) -> LedgerState:
    """The standing after the entry that opens a ledger."""
    if not isinstance(entry.body, Opened) or entry.generation != 1:
        raise IllegalEntry(
            f"Entry {entry.generation} is not the opening of a ledger. The ledger's beginning is cut off."
        )
    return LedgerState(
        head=Head(ledger_id=entry.body.ledger_id, generation=1, hash=entry.hash),
        at=entry.at,
        keys=(entry.body.key,),
    )


def after(ledger_state: LedgerState, entry: Entry) -> LedgerState:
    """The standing after one more entry. Hash, chain and signature are `registry.ledger.chain`'s business, not looked at here."""
    step = _STEPS[type(entry.body)]
    head = Head(
        ledger_id=ledger_state.head.ledger_id,
        generation=entry.generation,
        hash=entry.hash,
    )
    return step(ledger_state, entry, entry.body).model_copy(
        update={"head": head, "at": entry.at}
    )


def check_next(ledger_state: LedgerState, body: Body, at: datetime) -> None:
    """`IllegalEntry` where the body does not follow from how things stand: asked before an entry is signed."""
    probe = Entry.model_construct(
        generation=ledger_state.head.generation + 1,
        at=at,
        body=body,
        previous=ledger_state.head.hash,
        key_id="",
        hash="",
        signature="",
    )
    _STEPS[type(body)](ledger_state, probe, body)


def _illegal(entry: Entry, fact: str) -> IllegalEntry:
    return IllegalEntry(
        f"Entry {entry.generation} ({entry.body.kind}) does not follow: {fact}. `assay status` says how things stand."
    )


def _changed(ledger_state: LedgerState, model: str, **changes: Any) -> LedgerState:
    models = {
        **ledger_state.models,
        model: ledger_state.model(model).model_copy(update=changes),
    }
    return ledger_state.model_copy(update={"models": models})


def _opened(_: LedgerState, entry: Entry, __: Opened) -> LedgerState:
    raise _illegal(entry, "a ledger is opened once")


def _key_added(ledger_state: LedgerState, entry: Entry, body: KeyAdded) -> LedgerState:
    if ledger_state.key(body.key.key_id) is not None:
        raise _illegal(entry, f"key {body.key.key_id[:12]} is there already")
    return ledger_state.model_copy(update={"keys": (*ledger_state.keys, body.key)})


def _key_revoked(
    ledger_state: LedgerState, entry: Entry, body: KeyRevoked
) -> LedgerState:
    left = tuple(key for key in ledger_state.keys if key.key_id != body.key_id)
    if left == ledger_state.keys:
        raise _illegal(entry, f"there is no key {body.key_id[:12]}")
    if not any(key.role == "controller" for key in left):
        raise _illegal(
            entry, "the last key of the controller cannot go before another one came"
        )
    return ledger_state.model_copy(update={"keys": left})


def _check_waivers(ledger_state: LedgerState, entry: Entry, judged: Judged) -> None:
    for generation in judged.waivers:
        waiver = next(
            (each for each in ledger_state.waivers if each.generation == generation),
            None,
        )
        if (
            waiver is None
            or waiver.model != judged.model
            or not entry.at < waiver.until
        ):
            raise _illegal(
                entry,
                f"it leans on the waiver of entry {generation}, which does not hold for {judged.model} now",
            )


def _registered(
    ledger_state: LedgerState, entry: Entry, body: Registered | Adopted
) -> LedgerState:
    known = ledger_state.registration(body.model, body.version)
    if known is not None and known.made.package_sha256 == body.package_sha256:
        raise _illegal(
            entry,
            f"version {body.version} of {body.model} is registered already, at entry {known.generation}",
        )
    made = Made.model_validate(body.model_dump(include=set(Made.model_fields)))
    registration = Registration(
        generation=entry.generation,
        at=entry.at,
        by=body.by,
        account=body.account,
        made=made,
        is_adopted=isinstance(body, Adopted),
    )
    registrations = {**ledger_state.registrations, registration.key: registration}
    return ledger_state.model_copy(update={"registrations": registrations})


def _check_registration(
    ledger_state: LedgerState, entry: Entry, judged: Judged
) -> None:
    """What is named as the version's registration is the last one of these very bytes."""
    if judged.registration is None:
        return
    known = ledger_state.registration(judged.model, judged.version)
    if known is None or known.generation != judged.registration:
        raise _illegal(
            entry,
            f"entry {judged.registration} is not the registration of version {judged.version} of {judged.model}",
        )
    made = known.made
    if (made.package_sha256, made.adapter_sha256) != (
        judged.package_sha256,
        judged.adapter_sha256,
    ):
        raise _illegal(
            entry, f"entry {judged.registration} registered other bytes than these"
        )


def _judged(ledger_state: LedgerState, entry: Entry, body: Judged) -> LedgerState:
    _check_waivers(ledger_state, entry, body)
    _check_registration(ledger_state, entry, body)
    return ledger_state.model_copy(
        update={"judged": {**ledger_state.judged, entry.generation: body}}
    )


def _is_same(one: Judged, other: Judged) -> bool:
    return (one.model, one.version) == (other.model, other.version)


def _check_origin(
    ledger_state: LedgerState, entry: Entry, body: ReleaseBegun, judged: Judged
) -> None:
    """The verdict stands on a registration of these bytes, and the release serves the registered adapter."""
    # A ledger without any registration is from before there were any, and so are its releases.
    if not ledger_state.registrations:
        return
    if judged.registration is None:
        raise _illegal(
            entry,
            f"entry {body.judged} judged a version whose registration the ledger does not hold",
        )
    _check_registration(ledger_state, entry, judged)
    if body.release.spec.adapter_sha256 != judged.adapter_sha256:
        raise _illegal(
            entry,
            f"it is to be served with another adapter than entry {body.judged} judged",
        )


def _release_begun(
    ledger_state: LedgerState, entry: Entry, body: ReleaseBegun
) -> LedgerState:
    release, model = body.release, ledger_state.model(body.release.model)
    judged = ledger_state.judged.get(body.judged)
    if judged is None or judged.verdict != "passed":
        raise _illegal(entry, f"entry {body.judged} is no passed verdict of judge")
    if (judged.model, judged.version, judged.package_sha256) != (
        release.model,
        release.version,
        release.package_sha256,
    ):
        raise _illegal(
            entry, f"entry {body.judged} judged another version or other bytes"
        )
    later = [
        at
        for at, each in ledger_state.judged.items()
        if at > body.judged and each.verdict != "passed" and _is_same(each, judged)
    ]
    if later:
        raise _illegal(entry, f"entry {later[-1]} judged it again, and it did not pass")
    _check_origin(ledger_state, entry, body, judged)
    _check_waivers(ledger_state, entry, judged)
    if ledger_state.frozen is not None:
        raise _illegal(
            entry, f"releases are frozen since entry {ledger_state.frozen.generation}"
        )
    if release.version in model.revoked:
        raise _illegal(
            entry, f"version {release.version} of {release.model} is revoked"
        )
    if release.spec.adapter_sha256 in ledger_state.revoked_adapters:
        raise _illegal(
            entry,
            f"its adapter was revoked under another name, at entry {ledger_state.revoked_adapters[release.spec.adapter_sha256]}",
        )
    if model.changed_at > body.judged:
        raise _illegal(
            entry,
            f"what serves was changed at entry {model.changed_at}, after the verdict of entry {body.judged}",
        )
    if model.pending is not None:
        raise _illegal(
            entry,
            f"version {model.pending.release.version} of {release.model} is on its way since entry {model.pending.begun}",
        )
    held = RecordedRelease(
        begun=entry.generation,
        release=release,
        judged=body.judged,
        by=body.by,
        reason_sha256=body.reason_sha256,
        at=entry.at,
    )
    return _changed(ledger_state, release.model, pending=held)


def _pending(ledger_state: LedgerState, entry: Entry, begun: int) -> RecordedRelease:
    found = next(
        (
            each.pending
            for each in ledger_state.models.values()
            if each.pending is not None and each.pending.begun == begun
        ),
        None,
    )
    if found is None:
        raise _illegal(entry, f"no release that began at entry {begun} is on its way")
    return found


def _release_switched(
    ledger_state: LedgerState, entry: Entry, body: ReleaseSwitched
) -> LedgerState:
    held = _pending(ledger_state, entry, body.begun)
    name = held.release.model
    model = ledger_state.model(name)
    # What is released again moves to the end: going back from it leads to what served before it, not to itself.
    kept = tuple(
        each for each in model.served if each.release.version != held.release.version
    )
    changes = {
        "served": (*kept, held),
        "once_served": (*model.once_served, held),
        "pending": None,
        "serves_base": False,
    }
    return _changed(ledger_state, name, changed_at=entry.generation, **changes)


def _release_completed(
    ledger_state: LedgerState, entry: Entry, body: ReleaseCompleted
) -> LedgerState:
    for name, model in ledger_state.models.items():
        held = model.current
        if held is not None and held.begun == body.begun and not held.is_completed:
            done = held.model_copy(update={"is_completed": True})
            return _changed(ledger_state, name, served=(*model.served[:-1], done))
    raise _illegal(
        entry,
        f"the release that began at entry {body.begun} is not what serves, or is completed already",
    )


def _release_aborted(
    ledger_state: LedgerState, entry: Entry, body: ReleaseAborted
) -> LedgerState:
    return _changed(
        ledger_state,
        _pending(ledger_state, entry, body.begun).release.model,
        pending=None,
    )


def _rolled_back(
    ledger_state: LedgerState, entry: Entry, body: RolledBack
) -> LedgerState:
    model = ledger_state.model(body.model)
    target = next((each for each in model.once_served if each.begun == body.to), None)
    if target is None:
        raise _illegal(
            entry,
            f"no release of {body.model} that began at entry {body.to} ever served",
        )
    if target.release.version in model.revoked:
        raise _illegal(
            entry, f"version {target.release.version} of {body.model} is revoked"
        )
    if (
        model.current is not None
        and model.current.release == target.release
        and not model.serves_base
    ):
        raise _illegal(
            entry, f"version {target.release.version} of {body.model} serves already"
        )
    places = [
        place
        for place, each in enumerate(model.served)
        if each.release == target.release
    ]
    # The same version under another spec gives way: a version is served once.
    others = tuple(
        each for each in model.served if each.release.version != target.release.version
    )
    served = model.served[: places[-1] + 1] if places else (*others, target)
    done = served[-1].model_copy(update={"is_completed": True})
    changes = {"served": (*served[:-1], done), "pending": None, "serves_base": False}
    return _changed(ledger_state, body.model, changed_at=entry.generation, **changes)


def _base_served(
    ledger_state: LedgerState, entry: Entry, body: BaseServed
) -> LedgerState:
    if not ledger_state.model(body.model).once_served:
        raise _illegal(
            entry, f"nothing of {body.model} was ever released, so its base is unknown"
        )
    return _changed(
        ledger_state,
        body.model,
        pending=None,
        serves_base=True,
        changed_at=entry.generation,
    )


def _revoked(ledger_state: LedgerState, entry: Entry, body: Revoked) -> LedgerState:
    if body.version in ledger_state.model(body.model).revoked:
        raise _illegal(
            entry, f"version {body.version} of {body.model} is revoked already"
        )
    adapters = _adapters_of(ledger_state, body.model, body.version) | (
        {body.adapter_sha256} if body.adapter_sha256 else set()
    )
    known = {
        **ledger_state.revoked_adapters,
        **dict.fromkeys(
            adapters - ledger_state.revoked_adapters.keys(), entry.generation
        ),
    }
    ledger_state = ledger_state.model_copy(update={"revoked_adapters": known})
    # The same bytes may have been released under other names.
    for name in sorted({*ledger_state.models, body.model}):
        versions = {
            each.release.version
            for each in _released(ledger_state.model(name))
            if each.release.spec.adapter_sha256 in adapters
        }
        versions |= {body.version} if name == body.model else set()
        ledger_state = (
            _without(ledger_state, name, frozenset(versions), entry)
            if versions
            else ledger_state
        )
    return ledger_state


def _adapters_of(ledger_state: LedgerState, model: str, version: str) -> set[str]:
    """What is known of a version's bytes: as it was judged, and as it was released."""
    judged = {
        each.adapter_sha256
        for each in ledger_state.judged.values()
        if (each.model, each.version) == (model, version)
    }
    released = {
        each.release.spec.adapter_sha256
        for each in _released(ledger_state.model(model))
        if each.release.version == version
    }
    known = ledger_state.registration(model, version)
    registered = set() if known is None else {known.made.adapter_sha256}
    return {sha256 for sha256 in judged | released | registered if sha256 is not None}


def _released(model: ModelState) -> tuple[RecordedRelease, ...]:
    return (*model.once_served, *(() if model.pending is None else (model.pending,)))


def _without(
    ledger_state: LedgerState, name: str, versions: frozenset[str], entry: Entry
) -> LedgerState:
    """A model whose versions these are: none of them serves or is on its way any more."""
    model = ledger_state.model(name)
    served = tuple(
        each for each in model.served if each.release.version not in versions
    )
    pending = (
        model.pending
        if model.pending is None or model.pending.release.version not in versions
        else None
    )
    return _changed(
        ledger_state,
        name,
        served=served,
        pending=pending,
        revoked=model.revoked | versions,
        changed_at=entry.generation,
        serves_base=model.serves_base or (bool(model.served) and not served),
    )


def _frozen(ledger_state: LedgerState, entry: Entry, body: Frozen) -> LedgerState:
    if ledger_state.frozen is not None:
        raise _illegal(
            entry,
            f"releases are frozen already, since entry {ledger_state.frozen.generation}",
        )
    freeze = Freeze(
        generation=entry.generation,
        at=entry.at,
        by=body.by,
        reason_sha256=body.reason_sha256,
    )
    models = {
        name: model.model_copy(update={"pending": None})
        for name, model in ledger_state.models.items()
    }
    return ledger_state.model_copy(update={"frozen": freeze, "models": models})


def _unfrozen(ledger_state: LedgerState, entry: Entry, _: Unfrozen) -> LedgerState:
    if ledger_state.frozen is None:
        raise _illegal(entry, "releases are not frozen")
    return ledger_state.model_copy(update={"frozen": None})


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
    return ledger_state.model_copy(update={"waivers": (*ledger_state.waivers, waiver)})


def _head_accepted(
    ledger_state: LedgerState, entry: Entry, body: HeadAccepted
) -> LedgerState:
    if any(lost.hash == ledger_state.head.hash for lost in body.lost):
        raise _illegal(entry, f"entry {ledger_state.head.generation} is not lost")
    lost = {each.hash: entry.generation for each in body.lost}
    return ledger_state.model_copy(
        update={"accepted": {**ledger_state.accepted, **lost}}
    )


_STEPS: dict[type[Any], Callable[[LedgerState, Entry, Any], LedgerState]] = {
    Opened: _opened,
    KeyAdded: _key_added,
    KeyRevoked: _key_revoked,
    Registered: _registered,
    Adopted: _registered,
    Judged: _judged,
    ReleaseBegun: _release_begun,
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
