"""THE RELEASE: from a candidate to full traffic, a plain state machine over the ledger. Read it from top to bottom.

Candidate ─begin─► pending ─(the endpoint verifies, loads beside, probes)─► switched ─(the endpoint says that it answers)─► completed.
Before the switch a release can only be aborted; after it, only be gone back from. Whoever drives may be killed between any two lines:
`carry_on` goes on from what the ledger says. Two who drive at once write to one ledger, and its generation lets only one of them win.
"""

import time
from dataclasses import dataclass

from core.errors import IllegalEntry, ReleaseError, ServingError, StaleGeneration
from pipelines.values.verdict import Candidate, Rejection, Undecided
from registry.ledger.entries import (
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
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, ModelState, RecordedRelease
from registry.release.context import Order, ReleaseContext, alarms, append
from registry.release.following import EndpointState, FollowingEndpoint


@dataclass(frozen=True)
class Subject:
    """The version that a verdict of `judge` is about."""

    model: str
    version: str
    package_sha256: str
    adapter_sha256: str | None


def record_judgement(
    ledger: Ledger, subject: Subject, verdict: Candidate | Rejection | Undecided
) -> LedgerState:
    """Enter what `judge` answered, whatever it was; its text is kept beside the ledger under its digest.

    A candidate names the entry that registered it; a verdict without one is no ground for a release.
    """
    body = Judged(
        model=subject.model,
        version=subject.version,
        package_sha256=subject.package_sha256,
        verdict=verdict.verdict,
        verdict_sha256=ledger.remember(verdict.model_dump_json()),
        policy_sha256=verdict.policy_sha256,
        waivers=verdict.waivers if isinstance(verdict, Candidate) else (),
        adapter_sha256=subject.adapter_sha256,
        registration=verdict.registration if isinstance(verdict, Candidate) else None,
    )
    return append(ledger, lambda _: body)


def release(
    candidate: Candidate, judged: int, order: Order, context: ReleaseContext
) -> RecordedRelease:
    """Put a candidate in front of users; only a `Candidate` can be. `ReleaseError` where it was aborted, with the reason."""
    context.endpoint.state()  # an endpoint out of reach is said before anything begins
    subject = Release(
        model=candidate.model,
        version=candidate.version,
        package_sha256=candidate.package_sha256,
        spec=candidate.spec,
        known_answers_share=candidate.known_answers_share,
        drawn_answers=candidate.drawn_answers,
    )
    begun = ReleaseBegun(
        release=subject,
        judged=judged,
        by=order.by,
        account=order.account,
        reason_sha256=context.ledger.remember(order.reason),
    )
    generation = append(context.ledger, lambda _: begun).head.generation
    carry_on(candidate.model, context)
    return _outcome(context.ledger, candidate.model, generation)


def carry_on(model: str, context: ReleaseContext) -> None:
    """Advance what is on its way until it is completed or aborted. Nothing on its way is nothing to do."""
    started = time.monotonic()
    looked_at: int | None = None
    while True:
        ledger_state = context.ledger.state()
        if is_at_rest(ledger_state.model(model)):
            return
        if looked_at != ledger_state.head.generation:
            started, looked_at = time.monotonic(), ledger_state.head.generation
        body = next_entry(
            ledger_state,
            model,
            _seen(context.endpoint),
            Waited(time.monotonic() - started, context),
        )
        if body is None:
            time.sleep(context.patience.between_looks)
            continue
        try:
            context.ledger.append(body, ledger_state)
        except (StaleGeneration, IllegalEntry):
            continue  # somebody else advanced or stopped it: look again


def is_at_rest(model: ModelState) -> bool:
    """Nothing is on its way, and what has full traffic was seen answering."""
    return model.pending is None and (
        model.answering is None or model.answering.is_completed
    )


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
    context: ReleaseContext

    def for_loading(self) -> bool:
        """The engine had its time."""
        return self.seconds > self.context.patience.to_load

    def for_switching(self) -> bool:
        """The route had its time."""
        return self.seconds > self.context.patience.to_switch


def next_entry(
    ledger_state: LedgerState, model: str, seen: EndpointState, waited: Waited
) -> Body | None:
    """What is to be written next, from how things stand and what the endpoint says; None is to wait."""
    here = ledger_state.model(model)
    follows = (
        seen.head == ledger_state.head
    )  # what an endpoint says of another ledger, or of an older one, counts for nothing
    if here.pending is not None:
        return _before_the_switch(here.pending, seen, waited, follows=follows)
    if here.current is not None:
        return _after_the_switch(
            model, here, here.current, seen, waited, follows=follows
        )
    return None


def _before_the_switch(
    pending: RecordedRelease, seen: EndpointState, waited: Waited, *, follows: bool
) -> Body | None:
    engine = seen.engine(pending.begun) if follows else None
    if engine is not None and engine.state == "ready":
        return ReleaseSwitched(begun=pending.begun)
    if engine is not None and engine.state == "failed":
        return _aborted(pending, engine.detail, waited.context)
    if waited.for_loading():
        return _aborted(
            pending,
            f"it was not ready after {waited.context.patience.to_load:.0f} s{alarms(seen)}",
            waited.context,
        )
    return None


def _after_the_switch(
    model: str,
    here: ModelState,
    current: RecordedRelease,
    seen: EndpointState,
    waited: Waited,
    *,
    follows: bool,
) -> Body | None:
    route = seen.routes.get(model) if follows else None
    if route is not None and (route.begun, route.serves_base) == (current.begun, False):
        return ReleaseCompleted(begun=current.begun)
    engine = seen.engine(current.begun)
    is_loading = (
        engine is not None and engine.state == "loading"
    )  # an endpoint that was started again loads it once more
    if not (waited.for_loading() if is_loading else waited.for_switching()):
        return None
    why = waited.context.ledger.remember(
        f"version {current.release.version} did not answer after the switch{alarms(seen)}"
    )
    if here.before is None:
        return BaseServed(model=model, by="controller", reason_sha256=why)
    return RolledBack(
        model=model, to=here.before.begun, by="controller", reason_sha256=why
    )


def _aborted(
    pending: RecordedRelease, why: str, context: ReleaseContext
) -> ReleaseAborted:
    return ReleaseAborted(
        begun=pending.begun, reason_sha256=context.ledger.remember(why)
    )


def _outcome(ledger: Ledger, model: str, begun: int) -> RecordedRelease:
    """The release that began there, if it is what serves; else why it is not."""
    here = ledger.state().model(model)
    if (
        here.answering is not None
        and here.answering.begun == begun
        and here.answering.is_completed
    ):
        return here.answering
    raise ReleaseError(_why_not(ledger, model, begun))


def _why_not(ledger: Ledger, model: str, begun: int) -> str:
    for entry in ledger.entries(after=begun):
        body = entry.body
        if isinstance(body, ReleaseAborted) and body.begun == begun:
            why = ledger.recall(body.reason_sha256)
            who = f" by {body.by}" if body.by else ""
            return f"The release was aborted{who}: {why}. What answered before still answers. Remove the cause and run `assay promote`."
        if (
            isinstance(body, Frozen | RolledBack | BaseServed | Revoked)
            and getattr(body, "model", model) == model
        ):
            why = ledger.recall(body.reason_sha256)
            return f"The release was stopped by {body.by} (entry {entry.generation}, {body.kind}): {why}. `assay status` says what serves."
    return f"The release that began at entry {begun} is not what serves. `assay history` says what came in between."
