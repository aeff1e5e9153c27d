"""THE RELEASE: from a candidate to full traffic, a plain state machine over the ledger. Read it from top to bottom.

Candidate ─begin─► pending ─(the endpoint verifies, loads beside, probes)─► switched ─(the endpoint says that it answers)─► completed.
Before the switch a release can only be aborted; after it, only be gone back from. Whoever drives may be killed between any two lines:
`carry_on` goes on from what the ledger says. Two who drive at once write to one ledger, and its generation lets only one of them win.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pipelines.errors import IllegalEntry, ReleaseError, ServingError, StaleGeneration
from pipelines.verdict import Candidate, Rejection, Undecided
from registry.entries import (
    BaseServed,
    Body,
    Frozen,
    Judged,
    Release,
    ReleaseAborted,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    Revoked,
    RolledBack,
    Unfrozen,
    Waived,
)
from registry.following import EndpointState, FollowingEndpoint
from registry.ledger import Ledger
from registry.standing import Held, ModelStanding, Standing

ATTEMPTS = 20
"""Writers who come first each time before an order is given up."""


@dataclass(frozen=True)
class Order:
    """Who wants it, and why."""

    by: str
    reason: str


@dataclass(frozen=True)
class Patience:
    """Seconds on a monotonic clock: one that is set back or forward changes nothing."""

    to_load: float = 300.0
    to_switch: float = 30.0
    to_brake: float = 2.0
    between_looks: float = 0.1


@dataclass(frozen=True)
class Desk:
    """What a release is carried out with."""

    ledger: Ledger
    endpoint: FollowingEndpoint
    patience: Patience = Patience()


@dataclass(frozen=True)
class Subject:
    """The version that a verdict of `judge` is about."""

    model: str
    version: str
    package_sha256: str


def record_judgement(ledger: Ledger, subject: Subject, verdict: Candidate | Rejection | Undecided) -> Standing:
    """Enter what `judge` answered, whatever it was; its text is kept beside the ledger under its digest."""
    body = Judged(
        model=subject.model,
        version=subject.version,
        package_sha256=subject.package_sha256,
        verdict=verdict.verdict,
        verdict_sha256=ledger.remember(verdict.model_dump_json()),
        policy_sha256=verdict.policy_sha256,
        waivers=verdict.waivers if isinstance(verdict, Candidate) else (),
    )
    return _append(ledger, lambda _: body)


def release(candidate: Candidate, judged: int, order: Order, desk: Desk) -> Held:
    """Put a candidate in front of users; only a `Candidate` can be. `ReleaseError` where it was aborted, with the reason."""
    desk.endpoint.state()  # an endpoint out of reach is said before anything begins
    subject = Release(
        model=candidate.model,
        version=candidate.version,
        package_sha256=candidate.package_sha256,
        spec=candidate.spec,
        known_answers_share=candidate.known_answers_share,
    )
    begun = ReleaseBegun(release=subject, judged=judged, by=order.by, reason_sha256=desk.ledger.remember(order.reason))
    generation = _append(desk.ledger, lambda _: begun).head.generation
    carry_on(candidate.model, desk)
    return _outcome(desk.ledger, candidate.model, generation)


def carry_on(model: str, desk: Desk) -> None:
    """Advance what is on its way until it is completed or aborted. Nothing on its way is nothing to do."""
    started = time.monotonic()
    looked_at: int | None = None
    while True:
        standing = desk.ledger.standing()
        if is_at_rest(standing.model(model)):
            return
        if looked_at != standing.head.generation:
            started, looked_at = time.monotonic(), standing.head.generation
        body = next_entry(standing, model, _seen(desk.endpoint), Waited(time.monotonic() - started, desk))
        if body is None:
            time.sleep(desk.patience.between_looks)
            continue
        try:
            desk.ledger.append(body, standing)
        except (StaleGeneration, IllegalEntry):
            continue  # somebody else advanced or stopped it: look again


def is_at_rest(model: ModelStanding) -> bool:
    """Nothing is on its way, and what has full traffic was seen answering."""
    return model.pending is None and (model.answering is None or model.answering.is_completed)


def _seen(endpoint: FollowingEndpoint) -> EndpointState:
    """What the endpoint says; one that is away says nothing, and has the usual time to come back."""
    try:
        return endpoint.ring()
    except ServingError as error:
        return EndpointState(head=None, alarms=(str(error),))


@dataclass(frozen=True)
class Waited:
    """How long nothing has moved, and how long that may be."""

    seconds: float
    desk: Desk

    def for_loading(self) -> bool:
        """The engine had its time."""
        return self.seconds > self.desk.patience.to_load

    def for_switching(self) -> bool:
        """The route had its time."""
        return self.seconds > self.desk.patience.to_switch


def next_entry(standing: Standing, model: str, seen: EndpointState, waited: Waited) -> Body | None:
    """What is to be written next, from how things stand and what the endpoint says; None is to wait."""
    here = standing.model(model)
    follows = seen.head == standing.head  # what an endpoint says of another ledger, or of an older one, counts for nothing
    if here.pending is not None:
        return _before_the_switch(here.pending, seen, waited, follows=follows)
    if here.current is not None:
        return _after_the_switch(model, here, here.current, seen, waited, follows=follows)
    return None


def _before_the_switch(pending: Held, seen: EndpointState, waited: Waited, *, follows: bool) -> Body | None:
    engine = seen.engine(pending.begun) if follows else None
    if engine is not None and engine.state == "ready":
        return ReleaseSwitched(begun=pending.begun)
    if engine is not None and engine.state == "failed":
        return _aborted(pending, engine.detail, waited.desk)
    if waited.for_loading():
        return _aborted(pending, f"it was not ready after {waited.desk.patience.to_load:.0f} s{_alarms(seen)}", waited.desk)
    return None


def _after_the_switch(model: str, here: ModelStanding, current: Held, seen: EndpointState, waited: Waited, *, follows: bool) -> Body | None:
    route = seen.routes.get(model) if follows else None
    if route is not None and (route.begun, route.serves_base) == (current.begun, False):
        return ReleaseCompleted(begun=current.begun)
    engine = seen.engine(current.begun)
    is_loading = engine is not None and engine.state == "loading"  # an endpoint that was started again loads it once more
    if not (waited.for_loading() if is_loading else waited.for_switching()):
        return None
    why = waited.desk.ledger.remember(f"version {current.release.version} did not answer after the switch{_alarms(seen)}")
    if here.before is None:
        return BaseServed(model=model, by="controller", reason_sha256=why)
    return RolledBack(model=model, to=here.before.begun, by="controller", reason_sha256=why)


def roll_back(model: str, version: str | None, order: Order, desk: Desk) -> Standing:
    """Give full traffic back to what served before, or to a version that once served. Needs neither MLflow nor Prefect.

    While a release is on its way, going back is to abort it: what serves goes on.
    """
    why = desk.ledger.remember(order.reason)

    def body(standing: Standing) -> Body:
        here = standing.model(model)
        serving = None if here.answering is None else here.answering.release.version
        if here.pending is not None and version in {None, serving}:
            return ReleaseAborted(begun=here.pending.begun, reason_sha256=why)
        return RolledBack(model=model, to=_way_back(standing, model, version), by=order.by, reason_sha256=why)

    return _brake(desk, model, body)


def serve_base(model: str, order: Order, desk: Desk) -> Standing:
    """Have the base answer under the model's name."""
    why = desk.ledger.remember(order.reason)

    def body(standing: Standing) -> Body:
        if not standing.model(model).once_served:
            raise ReleaseError(
                f"Nothing of {model} was ever released, so there is no base to serve. `assay preview --base` shows the base's answers."
            )
        return BaseServed(model=model, by=order.by, reason_sha256=why)

    return _brake(desk, model, body)


def revoke(model: str, version: str, order: Order, desk: Desk) -> Standing:
    """A version never serves again; where it serves now, what served before it takes over, or the base."""
    why = desk.ledger.remember(order.reason)

    def body(standing: Standing) -> Body:
        known = {*standing.models, *(each.model for each in standing.judged.values())}
        if model not in known:
            raise ReleaseError(f"The ledger knows no model {model}, only {', '.join(sorted(known)) or 'none'}. Give its name with --model.")
        return Revoked(model=model, version=version, by=order.by, reason_sha256=why)

    return _brake(desk, model, body)


def freeze(order: Order, desk: Desk) -> Standing:
    """No release begins, and what is on its way is aborted: the ledger itself refuses, whatever the endpoint does."""
    why = desk.ledger.remember(order.reason)
    return _told(desk, _append(desk.ledger, lambda _: Frozen(by=order.by, reason_sha256=why)))


def unfreeze(order: Order, desk: Desk) -> Standing:
    """Releases may begin again."""
    why = desk.ledger.remember(order.reason)
    return _told(desk, _append(desk.ledger, lambda _: Unfrozen(by=order.by, reason_sha256=why)))


def _told(desk: Desk, standing: Standing) -> Standing:
    """Ring, where there is somebody to hear it."""
    with suppress(ServingError):
        desk.endpoint.ring()
    return standing


def waive(waived: Callable[[str], Waived], reason: str, ledger: Ledger) -> Standing:
    """Enter a waiver; `waived` makes it from the digest of its reason."""
    digest = ledger.remember(reason)
    return _append(ledger, lambda _: waived(digest))


def _brake(desk: Desk, model: str, body: Callable[[Standing], Body]) -> Standing:
    """One entry and a ring; then what answers is looked at, so that nobody is told of a rollback that has not come about.

    With the endpoint out of reach, or with what is wanted not loaded, the entry stands and is obeyed as soon as it can be.
    """
    standing = _append(desk.ledger, body)
    entered = f"It is in the ledger (entry {standing.head.generation}) and will be obeyed, but not yet"
    end = time.monotonic() + desk.patience.to_brake
    try:
        while not _is_obeyed(standing, model, seen := desk.endpoint.ring()):
            if time.monotonic() > end:
                raise ReleaseError(f"{entered}: {_still(standing, model, seen)}. `assay status` shows when it does.")
            time.sleep(desk.patience.between_looks)
    except ServingError as error:
        raise ServingError(f"{entered}: {error}") from error
    return standing


def _is_obeyed(standing: Standing, model: str, seen: EndpointState) -> bool:
    """The endpoint has come this far or further, and what the ledger says answers."""
    head = seen.head
    if head is None or head.ledger_id != standing.head.ledger_id or head.generation < standing.head.generation:
        return False
    if head != standing.head:
        return head.generation > standing.head.generation
    here = standing.model(model)
    route = seen.routes.get(model)
    if here.serves_base:
        return route is not None and route.serves_base
    wanted = None if here.current is None else here.current.release.fingerprint
    return (None if route is None or route.serves_base else route.fingerprint) == wanted


def _still(standing: Standing, model: str, seen: EndpointState) -> str:
    if seen.head is None or seen.head.generation < standing.head.generation:
        return f"the endpoint has not followed to there{_alarms(seen)}"
    route = seen.routes.get(model)
    return f"{'nothing' if route is None else route.fingerprint} answers under {model} still{_alarms(seen)}"


def _append(ledger: Ledger, body: Callable[[Standing], Body]) -> Standing:
    for _ in range(ATTEMPTS):
        standing = ledger.standing()
        try:
            return ledger.append(body(standing), standing)
        except StaleGeneration:
            continue
    raise StaleGeneration(f"Others wrote to the ledger first, {ATTEMPTS} times in a row. Run the same command again.")


def _way_back(standing: Standing, model: str, version: str | None) -> int:
    here = standing.model(model)
    if version is not None:
        fitting = [held for held in here.once_served if held.release.version == version]
        if not fitting:
            raise ReleaseError(f"Version {version} of {model} never served. `assay history` lists what did; `assay promote` releases one.")
        return fitting[-1].begun
    before = here.current if here.serves_base else here.before
    if not here.once_served:
        raise ReleaseError(f"Nothing of {model} was ever released: there is nothing to go back to. `assay promote` releases a version.")
    if before is None:
        raise ReleaseError(f"Nothing of {model} served before what serves now. `assay serve-base` has the base answer.")
    return before.begun


def _aborted(pending: Held, why: str, desk: Desk) -> ReleaseAborted:
    return ReleaseAborted(begun=pending.begun, reason_sha256=desk.ledger.remember(why))


def _alarms(seen: EndpointState) -> str:
    return f" ({'; '.join(seen.alarms)})" if seen.alarms else ""


def _outcome(ledger: Ledger, model: str, begun: int) -> Held:
    """The release that began there, if it is what serves; else why it is not."""
    here = ledger.standing().model(model)
    if here.answering is not None and here.answering.begun == begun and here.answering.is_completed:
        return here.answering
    raise ReleaseError(_why_not(ledger, model, begun))


def _why_not(ledger: Ledger, model: str, begun: int) -> str:
    for entry in ledger.entries(after=begun):
        body = entry.body
        if isinstance(body, ReleaseAborted) and body.begun == begun:
            why = ledger.recall(body.reason_sha256)
            return f"The release was aborted: {why}. What served before goes on; mend it and promote again."
        if isinstance(body, Frozen | RolledBack | BaseServed | Revoked) and getattr(body, "model", model) == model:
            why = ledger.recall(body.reason_sha256)
            return f"The release was stopped by {body.by} (entry {entry.generation}, {body.kind}): {why}. `assay status` says what serves."
    return f"The release that began at entry {begun} is not what serves. `assay history` says what came in between."
