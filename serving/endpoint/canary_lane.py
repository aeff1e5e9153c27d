"""How requests are shared out while a release is watched."""

from dataclasses import replace

from serving.endpoint.canary_watch import CanaryWatch
from serving.endpoint.lanes import Branch, Copies, Lane, Target


def watched_lane(lane: Lane, watch: CanaryWatch) -> Lane:
    """The lane of what serves, with the candidate and its baseline beside it."""
    # Before the first step nobody asks the candidate.
    if watch.watched.step is None:
        return lane
    if watch.watched.stage == "bake":
        rated = _rated_lane(lane, watch)
        return _baking_lane(rated, watch)
    if watch.watched.weight == 0:
        return _copying_lane(lane, watch)
    return _sharing_lane(
        lane,
        watch,
    )


def _sharing_lane(lane: Lane, watch: CanaryWatch) -> Lane:
    """Candidate and baseline have the same share, and what serves the rest."""
    candidate = _candidate(watch)
    if candidate is None:
        return lane
    serving = lane.branches[0]
    weight = float(watch.watched.weight)
    # It never answers more than its share, even where nothing else does.
    shared = [Branch(candidate, weight, stands_in=False)]
    baseline = _baseline(lane, watch)
    if baseline is not None:
        shared.append(Branch(baseline, weight, stands_in=False))
    elif not watch.sides.is_beside:
        # What serves is compared with itself in the rest of the requests.
        counted = replace(
            serving.target,
            tally=watch.baseline,
            rated_side=watch.rated_side("baseline"),
        )
        serving = replace(serving, target=counted)
    salt = str(watch.watched.recorded.begun)
    return replace(
        lane,
        branches=(serving, *shared),
        salt=salt,
    )


def _copying_lane(lane: Lane, watch: CanaryWatch) -> Lane:
    """What serves answers everybody, and both sides answer copies."""
    candidate = _candidate(watch)
    if candidate is None:
        return lane
    targets = [candidate]
    baseline = _baseline(lane, watch)
    if baseline is not None:
        targets.append(baseline)
    copies = Copies(
        share=float(watch.watched.plan.copied_percent),
        targets=tuple(targets),
        tally=None if watch.sides.is_beside else watch.baseline,
    )
    return replace(lane, copies=copies)


def _baking_lane(lane: Lane, watch: CanaryWatch) -> Lane:
    """The new release answers everybody, and the one before it copies of some requests."""
    before = watch.sides.baseline
    # Something stands in for the new release: its answers would be counted as another's.
    is_answering = lane.first_ready == lane.branches[0].target
    if before is None or not is_answering:
        return lane
    copies = Copies(
        share=float(watch.watched.plan.copied_percent),
        targets=(
            Target(
                before,
                tally=watch.baseline,
            ),
        ),
        tally=watch.candidate,
    )
    return replace(lane, copies=copies)


def _rated_lane(lane: Lane, watch: CanaryWatch) -> Lane:
    """The same lane, with ratings of the new release counted: of all answers, copied or not."""
    main, *others = lane.branches
    rated = replace(
        main.target,
        rated_side=watch.rated_side("candidate"),
    )
    rated_main = replace(main, target=rated)
    return replace(lane, branches=(rated_main, *others))


def _candidate(watch: CanaryWatch) -> Target | None:
    engine = watch.sides.candidate
    if engine is None:
        return None
    return Target(
        engine,
        tally=watch.candidate,
        rated_side=watch.rated_side("candidate"),
        is_on_trial=True,
    )


def _baseline(lane: Lane, watch: CanaryWatch) -> Target | None:
    """The process that was started to compare with; None where what serves is compared with."""
    engine = watch.sides.baseline
    if engine is None or not watch.sides.is_beside:
        return None
    serves_base = lane.branches[0].target.serves_base
    return Target(
        engine,
        serves_base=serves_base,
        tally=watch.baseline,
        rated_side=watch.rated_side("baseline"),
        is_on_trial=True,
    )
