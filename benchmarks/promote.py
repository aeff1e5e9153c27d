"""Releases and rollbacks under constant load: `python -m benchmarks.promote [--short]`.

A release manager wishes for a version that never served, and the controller judges and releases
it; then it is rolled back to the version before it. Clients without retries ask all the time.
Counted are requests that were not answered whole, and answers whose fingerprint the ledger did not
allow at that time.

- A wish is measured from the moment before its entry `wished`, as MLflow's admission hands it in;
  the HTTP request at MLflow's server is not part of it.
- Each wish waits until the endpoint's spare engine process is ready, for 20 s at most, as releases
  are hours apart in real life. Wishes that found none are counted.
- In the second part every ring of the controller's doorbell is dropped: its timer has to do.
- All versions have the bytes of one of two trained ones: a model of two layers, so that the release
  is measured, not the engine.

Nobody publishes such a number, so the peer is the goal itself.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.load import Load, Tally, tally
from benchmarks.site import (
    MODEL,
    RunningEndpoint,
    Site,
    first_releases,
    prepare,
    print_result,
    register_twins,
    running_controller,
    running_endpoint,
)

GOAL_WISH, GOAL_ROLLBACK = 5.0, 1.0
"""Seconds: from wish to first answer at the median, and from order to route at most."""
WAIVED = ("human_rating", "approvals")
_REQUESTS, _SECONDS = 100_000, 3_000.0
_SECONDS_FOR_A_SPARE = 20.0


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rung: int
    dropped: int
    requests: int
    seconds: float


FULL = Size(rung=100, dropped=10, requests=_REQUESTS, seconds=_SECONDS)
SHORT = Size(rung=6, dropped=3, requests=500, seconds=90.0)


@dataclass(frozen=True)
class Round:
    """One release and the way back, in seconds."""

    to_entry: float
    """From the wish to the entry with which its release began."""
    to_answer: float
    """From the wish to the first answer of its version."""
    to_route: float
    """From the order to roll back to the route."""
    had_spare: bool


@dataclass(frozen=True)
class Bench:
    """What a round needs."""

    endpoint: RunningEndpoint
    load: Load
    home: Path

    @cached_property
    def ledger(self) -> Any:
        """The home's ledger, which verifies each entry once."""
        from registry.ledger.ledger import open_ledger

        return open_ledger(self.home)

    @cached_property
    def admission(self) -> Any:
        """As MLflow's server holds it: the same object for every wish."""
        from registry.ledger.ledger import open_ledger

        return open_ledger(self.home, role="admission")

    def release_and_go_back(self, version: str, *, rings: bool) -> Round:
        """Wish for a version, wait for its first answer, and roll back."""
        had_spare = self.endpoint.wait_for_spare(_SECONDS_FOR_A_SPARE)
        to_entry, to_answer = self.release(version, rings=rings)
        done = Round(to_entry, to_answer, self._roll_back(), had_spare)
        self._say(done)
        return done

    def release(self, version: str, *, rings: bool = True) -> tuple[float, float]:
        """Wish for a version; gives the seconds to its entry and to its first answer."""
        wished = datetime.now(UTC)
        begun, fingerprint = self._wish(version, rings=rings)
        answered = self._first_answer(fingerprint, wished)
        self._wait_until_at_rest()
        return (begun - wished).total_seconds(), (answered - wished).total_seconds()

    def _wish(self, version: str, *, rings: bool) -> tuple[datetime, str]:
        """When the release began by the ledger, and its fingerprint."""
        from registry.release.context import ChangeRequest
        from registry.release.doorbell import ring
        from registry.release.wishing import Subject, WishDesk

        manager = ChangeRequest("manager", "benchmark", "mlflow:manager")
        ledger = self.admission
        desk = WishDesk(ledger, lambda: rings and ring(self.home))
        answer = desk.hand_in(Subject(MODEL, version), manager)
        if not answer.is_granted:
            raise SystemExit(f"the wish for version {version}: {answer.text}")
        state = ledger.state().model(MODEL)
        recorded = state.pending or state.current
        if recorded is None or recorded.release.version != version:
            raise SystemExit(f"version {version} is not on its way: {state}")
        [entry] = ledger.entries(recorded.begun - 1)[:1]
        return entry.at, recorded.release.fingerprint

    def _first_answer(self, fingerprint: str, wished: datetime) -> datetime:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            # Looked for in order: the first one counts.
            for answer in self.load.answers[-200:]:
                if answer.fingerprint == fingerprint and answer.got > wished:
                    return answer.got
            time.sleep(0.02)
        raise SystemExit("the released version did not answer within 60 s")

    def _wait_until_at_rest(self) -> None:
        from registry.release.release import is_at_rest

        deadline = time.monotonic() + 60
        while not is_at_rest(self.ledger.state().model(MODEL)):
            if time.monotonic() > deadline:
                raise SystemExit("a release did not come to its end within 60 s")
            time.sleep(0.05)

    def _roll_back(self) -> float:
        from registry.release.brakes import roll_back
        from registry.release.context import ChangeRequest, ReleaseContext
        from serving.client import endpoint_client

        context = ReleaseContext(self.ledger, endpoint_client(self.home))
        order = ChangeRequest("benchmark", "benchmark")
        return _timed(lambda: roll_back(MODEL, None, order, context))

    def _say(self, done: Round) -> None:
        sys.stderr.write(
            f"wish to entry {done.to_entry:.2f} s, to first answer {done.to_answer:.2f} s, "
            f"rollback {done.to_route:.3f} s, {len(self.load.answers)} requests"
            f"{'' if done.had_spare else ', no spare process'}\n"
        )


@dataclass(frozen=True)
class Measured:
    """All rounds of a run, and what became of the requests."""

    rung: tuple[Round, ...]
    dropped: tuple[Round, ...]
    by_command: float
    tally: Tally


def main(arguments: list[str]) -> int:
    """Measure, print one JSON line last, and fail where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promote")
    parser.add_argument("--short", action="store_true", help="within five minutes")
    parser.add_argument(
        "--site",
        type=Path,
        help="keep what is prepared in this folder, and use it where it is there",
    )
    options = parser.parse_args(arguments)
    size = SHORT if options.short else FULL
    with tempfile.TemporaryDirectory(prefix="assay-benchmark-") as scratch:
        site = Site((options.site or Path(scratch)).resolve())
        if not site.is_prepared:
            prepare(site)
        return measure(site, size)


def measure(site: Site, size: Size) -> int:
    """Measure on a site, whose first version is released where that was not done before."""
    from registry.ledger.enrolment import enrol
    from registry.ledger.ledger import open_ledger, read_ledger

    with ExitStack() as stack:
        endpoint = stack.enter_context(running_endpoint(site))
        if not site.is_prepared:
            first_releases(site, WAIVED)
        site.enter()
        enrol(open_ledger(site.home), "admission", "assay")
        versions = iter(register_twins(site, size.rung + size.dropped + 1))
        stack.enter_context(running_controller(site))
        load = Load(endpoint.port)
        bench = Bench(endpoint, load, site.home)
        with load.asking():
            deadline = time.monotonic() + size.seconds
            rung = _rounds(bench, versions, size.rung, deadline, rings=True)
            # Its own time: an overloaded machine must not leave the second part out.
            dropped = _rounds(bench, versions, size.dropped, None, rings=False)
            by_command = _roll_back_by_command(site, bench, next(versions))
            while len(load.answers) < size.requests and time.monotonic() < deadline:
                time.sleep(1)
        counted = tally(load.answers, read_ledger(site.home).entries())
    return print_result(_judged(Measured(rung, dropped, by_command, counted)))


def _rounds(
    bench: Bench,
    versions: Iterator[str],
    count: int,
    deadline: float | None,
    *,
    rings: bool,
) -> tuple[Round, ...]:
    rounds: list[Round] = []
    for version in versions:
        rounds.append(bench.release_and_go_back(version, rings=rings))
        is_late = deadline is not None and time.monotonic() > deadline
        if len(rounds) == count or is_late:
            break
    return tuple(rounds)


def _roll_back_by_command(site: Site, bench: Bench, version: str) -> float:
    """`assay rollback` after one more release, the start of its interpreter included."""
    bench.release(version)
    command = ("rollback", "--model", MODEL, "--reason", "benchmark")
    return _timed(lambda: site.assay(*command))


def _judged(measured: Measured) -> dict[str, Any]:
    from operations.controller import SECONDS_BETWEEN_ROUNDS

    counted = measured.tally
    rounds = (*measured.rung, *measured.dropped)
    rollbacks = [each.to_route for each in rounds]
    wishes = [each.to_answer for each in measured.rung]
    for fault in counted.faults:
        sys.stderr.write(f"lost: {fault}\n")
    slowest_rung = max(each.to_entry for each in measured.rung)
    slowest_dropped = max(each.to_entry for each in measured.dropped)
    # A ring that is lost costs one period of the timer, and no more.
    is_within_a_period = slowest_dropped <= slowest_rung + SECONDS_BETWEEN_ROUNDS
    met = (
        counted.is_clean
        and statistics.median(wishes) <= GOAL_WISH
        and max(rollbacks) <= GOAL_ROLLBACK
        and is_within_a_period
    )
    goal = (
        f"<= {GOAL_WISH:g} at the median; every rollback <= {GOAL_ROLLBACK:g}; 0 lost, "
        "0 not in the ledger; rings dropped: at most one period of the timer later"
    )
    return {
        "name": "promote",
        "value": round(statistics.median(wishes), 2),
        "unit": "s, median from wish to first answer",
        "goal": goal,
        "met": met,
        "peer": "none publishes one",
        "runs": {
            "releases": len(rounds),
            "without_a_spare_process": sum(not each.had_spare for each in rounds),
            "requests": counted.requests,
            "lost": counted.lost,
            "server_errors": counted.server_errors,
            "not_in_the_ledger": counted.foreign,
            "wish_to_first_answer_s": _quantiles(wishes),
            "wish_to_entry_s": _quantiles([each.to_entry for each in measured.rung]),
            "rollback_s": _quantiles(rollbacks),
            "rollback_by_command_s": round(measured.by_command, 2),
            "rings_dropped": {
                "releases": len(measured.dropped),
                "wish_to_first_answer_s": _quantiles(
                    [each.to_answer for each in measured.dropped]
                ),
                "wish_to_entry_s": _quantiles(
                    [each.to_entry for each in measured.dropped]
                ),
            },
        },
    }


def _quantiles(seconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile (the value that 95 % do not exceed) and maximum."""
    ordered = sorted(seconds)
    index = max(0, -(-95 * len(ordered) // 100) - 1)
    return {
        "p50": round(statistics.median(ordered), 3),
        "p95": round(ordered[index], 3),
        "max": round(ordered[-1], 3),
    }


def _timed(act: Callable[[], object]) -> float:
    started = time.monotonic()
    act()
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
