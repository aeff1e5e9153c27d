"""THE RELEASE: from a candidate to full traffic, a state machine over the ledger.

```
Candidate ─begin─► pending ─► canary steps ─► switched ─► completed
                      │             │             └─► rolled back, or the base serves
                      └─────────────┴─► aborted
```

pending: the endpoint verifies the package, loads it beside what serves, and probes it.
canary steps: where its policy has any, `registry.release.canary` says what comes next.
switched: the route leads to it; completed once the endpoint reports that it answers, and its
signals were no worse for as long as the policy asks.

Before the switch a release can only be aborted; after it, only be rolled back. Its driver may be
killed between any two lines: `drive_release` continues from what the ledger says. Where two
processes drive at once, both write to one ledger, and its generation lets only one of them win.
"""

import time
from dataclasses import dataclass

from core.errors import IllegalEntry, ReleaseError, ServingError, StaleGeneration
from core.roles import PersonRole
from pipelines.values.verdict import Candidate, Rejection, Undecided
from registry.ledger.entries import (
    BaseServed,
    Body,
    Frozen,
    Judged,
    Release,
    ReleaseAborted,
    ReleaseBegun,
    Revoked,
    RolledBack,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import (
    LedgerState,
    ModelState,
    RecordedRelease,
    RecordedWish,
)
from registry.release.canary import Watch, next_of_bake, next_of_canary
from registry.release.canary_series import note_look
from registry.release.context import (
    ChangeRequest,
    ReleaseContext,
    append,
    attribute,
    describe_alarms,
)
from registry.release.following import ALL, EndpointState, FollowingEndpoint
from registry.release.granting import stops
from registry.release.since_judged import check_nothing_was_said, find_withdrawal
from registry.release.wishing import is_of

Brake = Frozen | RolledBack | BaseServed | Revoked
_DRIVER = "controller"
"""Who enters what no person asked for."""


@dataclass(frozen=True)
class Subject:
    """The version that a verdict of `judge` is about."""

    model: str
    version: str
    package_sha256: str
    adapter_sha256: str | None
    approvals_asked: int | None = None
    """By the policy that it was judged by."""
    waivers_by: tuple[PersonRole, ...] | None = None
    """By that policy, too."""


def record_judgement(
    ledger: Ledger,
    subject: Subject,
    verdict: Candidate | Rejection | Undecided,
    looked_at: LedgerState | None = None,
) -> LedgerState:
    """Enter what `judge` answered, whatever it was, and keep its text under its digest.

    A candidate names the entry that registered it; without one the ledger permits no release.
    `ReleaseError` where somebody took an approval back, or reviewed it, since the state that
    `judge` looked at.
    """
    # Only a candidate has a registration and waivers to release it by.
    candidate = verdict if isinstance(verdict, Candidate) else None
    body = Judged(
        model=subject.model,
        version=subject.version,
        package_sha256=subject.package_sha256,
        verdict=verdict.verdict,
        verdict_sha256=ledger.remember(verdict.model_dump_json()),
        policy_sha256=verdict.policy_sha256,
        waivers=() if candidate is None else candidate.waivers,
        adapter_sha256=subject.adapter_sha256,
        registration=None if candidate is None else candidate.registration,
        signed_by=None if candidate is None else candidate.signed_by,
        approvals_asked=subject.approvals_asked,
        waivers_by=subject.waivers_by,
    )

    def make_entry(ledger_state: LedgerState) -> Body:
        since = (looked_at or ledger_state).head.generation
        check_nothing_was_said(ledger, body, since)
        return body

    return append(ledger, make_entry)


def release(
    candidate: Candidate, judged: int, request: ChangeRequest, context: ReleaseContext
) -> RecordedRelease:
    """Put a candidate in front of users; only a `Candidate` can be.

    `judged` is the generation of the entry that holds its verdict.
    `ReleaseError` with the reason where the release was aborted; `ServingError` where the
    endpoint is unreachable, before anything begins.
    """
    begun = begin_release(
        candidate,
        judged,
        request,
        context,
    )
    drive_release(candidate.model, context)
    return find_outcome(context.ledger, candidate.model, begun)


def begin_release(
    candidate: Candidate, judged: int, request: ChangeRequest, context: ReleaseContext
) -> int:
    """Begin what `release` does, for whoever drives it; gives the generation of the entry.

    `ReleaseError` where somebody took an approval back, or reviewed it, since it was judged.
    """
    # Asked first: an unreachable endpoint must be an error before an entry says "begun".
    context.endpoint.state()
    subject = Release(
        model=candidate.model,
        version=candidate.version,
        package_sha256=candidate.package_sha256,
        spec=candidate.spec,
        known_answers_share=candidate.known_answers_share,
        drawn_answers=candidate.drawn_answers,
        signed_by=candidate.signed_by,
        canary=candidate.canary,
        replica_quorum=candidate.replica_quorum,
    )
    attribution = attribute(request, context.ledger)
    body = ReleaseBegun(
        release=subject, judged=judged, wished=request.wished, **attribution
    )

    def make_entry(_: LedgerState) -> Body:
        # The base was checked since then, byte by byte.
        check_nothing_was_said(context.ledger, subject, judged)
        return body

    ledger_state = append(context.ledger, make_entry)
    return ledger_state.head.generation


def drive_release(model: str, context: ReleaseContext, *, waits: bool = True) -> None:
    """Drive a release in progress until it is completed or aborted; return where there is none.

    Without `waits`, return also where a canary only needs time or traffic: it may take days.
    `ReleaseError` where the context's patience ends first: the release stays as it is.
    """
    stalled_since = time.monotonic()
    last_generation: int | None = None
    while True:
        ledger_state = context.ledger.state()
        if is_at_rest(ledger_state.model(model)):
            return
        # Every entry is progress, whoever wrote it: the time limits begin again.
        if last_generation != ledger_state.head.generation:
            stalled_since = time.monotonic()
            last_generation = ledger_state.head.generation
        if context.patience.seconds_left == 0:
            raise ReleaseError(
                f"A release of {model} is on its way, and the time to wait for it is over. "
                "The controller of `assay up` carries it to its end; "
                "`assay status` says how it stands."
            )
        quorum = _quorum_of(ledger_state.model(model))
        endpoint_state = _look_at(context.endpoint, quorum)
        is_watched = is_under_watch(ledger_state, model, endpoint_state)
        # A canary has time limits of its own, by the clock of the endpoint that counts.
        if is_watched:
            stalled_since = time.monotonic()
        stall = Stall(time.monotonic() - stalled_since, context)
        # Before the next entry, so that the counts that decided are among them.
        if is_watched:
            _note(context, ledger_state.model(model), endpoint_state)
        body = next_entry(ledger_state, model, endpoint_state, stall)
        if body is None and is_watched and not waits:
            return
        if body is None:
            time.sleep(context.patience.between_looks)
            continue
        try:
            context.ledger.append(body, ledger_state)
        except (StaleGeneration, IllegalEntry):
            # Somebody else advanced or stopped the release: look again.
            continue


def _note(
    context: ReleaseContext, model_state: ModelState, endpoint_state: EndpointState
) -> None:
    note_look(
        context.ledger.home,
        model_state,
        endpoint_state,
        context.now(),
    )


def is_at_rest(model_state: ModelState) -> bool:
    """Whether no release is in progress, and what has full traffic was seen answering."""
    if model_state.pending is not None:
        return False
    # A switched release that was not seen answering may still have to be undone.
    answering = model_state.answering
    return answering is None or answering.is_completed


def is_under_watch(
    ledger_state: LedgerState, model: str, endpoint_state: EndpointState
) -> bool:
    """Whether the endpoint counts a canary step, or the time after the switch, as it runs now."""
    # An endpoint that is behind counts for a step that is over.
    if endpoint_state.head != ledger_state.head:
        return False
    model_state = ledger_state.model(model)
    recorded = model_state.pending or model_state.answering
    if recorded is None:
        return False
    engine = endpoint_state.engine(recorded.begun)
    report = endpoint_state.canary(recorded.begun)
    if engine is None or engine.state != "ready" or report is None:
        return False
    return report.baseline_phase != "loading"


def _quorum_of(model_state: ModelState) -> int:
    """Of how many endpoints the release on its way has to be true, by the policy that let it in."""
    recorded = model_state.pending or model_state.answering
    return ALL if recorded is None else recorded.release.replica_quorum


def _look_at(endpoint: FollowingEndpoint, quorum: int) -> EndpointState:
    """The endpoint's state; an unreachable one reports nothing, and the usual limits apply."""
    try:
        return endpoint.ring(quorum)
    except ServingError as error:
        # Without a head it counts as not following, so that only the time limits act.
        return EndpointState(head=None, alarms=(str(error),))


@dataclass(frozen=True)
class Stall:
    """For how many seconds nothing has moved, and how long that may be."""

    seconds: float
    context: ReleaseContext

    @property
    def exceeds_loading(self) -> bool:
        """Whether an engine had its time to load."""
        limit = self.context.patience.to_load
        return self.seconds > limit

    @property
    def exceeds_switching(self) -> bool:
        """Whether a route had its time to switch."""
        limit = self.context.patience.to_switch
        return self.seconds > limit


def next_entry(
    ledger_state: LedgerState, model: str, endpoint_state: EndpointState, stall: Stall
) -> Body | None:
    """The entry that comes next by ledger and endpoint; None is to wait."""
    model_state = ledger_state.model(model)
    # What an endpoint reports of another ledger, or of an older entry, counts for nothing.
    follows = endpoint_state.head == ledger_state.head
    if model_state.pending is not None:
        pending = model_state.pending
        withdrawal = find_withdrawal(ledger_state, pending.release, pending.judged)
        if withdrawal:
            return _abort(pending, withdrawal, stall.context)
        wish = stops(ledger_state, model, model_state.pending)
        if wish is not None:
            return _give_way(model_state, model_state.pending, wish, stall.context)
        return _before_the_switch(
            model_state, model_state.pending, endpoint_state, stall, follows=follows
        )
    if model_state.current is not None:
        return _after_the_switch(
            model_state, model_state.current, endpoint_state, stall, follows=follows
        )
    return None


def _give_way(
    model_state: ModelState,
    pending: RecordedRelease,
    wish: RecordedWish,
    context: ReleaseContext,
) -> ReleaseAborted:
    """Stop for a later wish: two versions are never on their way at once."""
    answering = model_state.answering
    version, package = wish.version, wish.package_sha256
    # Where it is for what answers, stopping is all that was wished for.
    if answering is not None and is_of(answering, version, package):
        return ReleaseAborted(
            begun=pending.begun,
            reason_sha256=wish.reason_sha256,
            by=wish.by,
            account=wish.account,
            wished=wish.generation,
        )
    place = f"version {version} (entry {wish.generation})"
    reason = f"{wish.by} wished for {place}"
    return _abort(pending, reason, context)


def _before_the_switch(
    model_state: ModelState,
    pending: RecordedRelease,
    endpoint_state: EndpointState,
    stall: Stall,
    *,
    follows: bool,
) -> Body | None:
    # One that does not follow may know another release under this generation.
    engine = endpoint_state.engine(pending.begun) if follows else None
    if engine is not None and engine.state == "ready":
        report = endpoint_state.canary(pending.begun)
        body = next_of_canary(
            model_state,
            pending,
            report,
            Watch(stall.context.ledger, stall.context.now()),
        )
        if body is not None:
            return body
    if engine is not None and engine.state == "failed":
        return _abort(pending, engine.detail, stall.context)
    if stall.exceeds_loading:
        limit = stall.context.patience.to_load
        alarms = describe_alarms(endpoint_state)
        reason = f"it was not ready after {limit:.0f} s{alarms}"
        return _abort(pending, reason, stall.context)
    return None


def _after_the_switch(
    model_state: ModelState,
    current: RecordedRelease,
    endpoint_state: EndpointState,
    stall: Stall,
    *,
    follows: bool,
) -> Body | None:
    # Completed once it is seen to answer: the entry of a switch alone proves nothing.
    route = endpoint_state.routes.get(current.release.model) if follows else None
    if route is not None and route.begun == current.begun and not route.serves_base:
        report = endpoint_state.canary(current.begun)
        watch = Watch(stall.context.ledger, stall.context.now())
        body = next_of_bake(model_state, current, report, watch)
        if body is not None or report is not None:
            return body
    engine = endpoint_state.engine(current.begun)
    # An endpoint that was restarted loads the release once more: that takes as long as loading.
    is_loading = engine is not None and engine.state == "loading"
    # It answered before it began to bake: an endpoint that is away is being started again.
    is_away = endpoint_state.head is None and current.release.canary is not None
    takes_long = is_loading or is_away
    is_overdue = stall.exceeds_loading if takes_long else stall.exceeds_switching
    if not is_overdue:
        return None
    return _undo_switch(model_state, current, endpoint_state, stall.context.ledger)


def _undo_switch(
    model_state: ModelState,
    current: RecordedRelease,
    endpoint_state: EndpointState,
    ledger: Ledger,
) -> RolledBack | BaseServed:
    """Go back to what served before, or have the base answer where nothing did."""
    version, model = current.release.version, current.release.model
    alarms = describe_alarms(endpoint_state)
    reason = f"version {version} did not answer after the switch{alarms}"
    reason_sha256 = ledger.remember(reason)
    # The base is the last resort, never an empty route: users get an answer.
    if model_state.before is None:
        return BaseServed(model=model, by=_DRIVER, reason_sha256=reason_sha256)
    return RolledBack(
        model=model,
        to=model_state.before.begun,
        by=_DRIVER,
        reason_sha256=reason_sha256,
    )


def _abort(
    pending: RecordedRelease, reason: str, context: ReleaseContext
) -> ReleaseAborted:
    reason_sha256 = context.ledger.remember(reason)
    return ReleaseAborted(begun=pending.begun, reason_sha256=reason_sha256)


def find_outcome(ledger: Ledger, model: str, begun: int) -> RecordedRelease:
    """The release that began at that generation if it serves; `ReleaseError` says why not."""
    # Another release or a brake may have come in between.
    model_state = ledger.state().model(model)
    answering = model_state.answering
    if answering is None or answering.begun != begun or not answering.is_completed:
        raise ReleaseError(_explain_failure(ledger, model, begun))
    return answering


def _explain_failure(ledger: Ledger, model: str, begun: int) -> str:
    # The first entry that ended it is the cause; later ones follow from it.
    for entry in ledger.entries(after=begun):
        body = entry.body
        if isinstance(body, ReleaseAborted) and body.begun == begun:
            reason = ledger.recall(body.reason_sha256)
            person = f" by {body.by}" if body.by else ""
            return (
                f"The release was aborted{person}: {reason}. What answered before still answers. "
                "Remove the cause and run `assay promote`."
            )
        brake = _brake_on(model, body)
        if brake is not None:
            reason = ledger.recall(brake.reason_sha256)
            place = f"entry {entry.generation}, {brake.kind}"
            return (
                f"The release was stopped by {brake.by} ({place}): {reason}. "
                "`assay status` says what serves."
            )
    return (
        f"The release that began at entry {begun} is not what serves. "
        "`assay history` says what came in between."
    )


def _brake_on(model: str, body: Body) -> Brake | None:
    """The entry's body if it stops releases of the model; None if it does not."""
    if not isinstance(body, Brake):
        return None
    # A freeze names no model: it stops the releases of all.
    stopped_model = getattr(body, "model", model)
    return body if stopped_model == model else None
