"""Canaries of real engine processes: `python -m benchmarks.canary [--short]`.

A model of two layers serves, and clients ask all the time. Candidates are

- as good: the same weights in another package. One that is aborted, or rolled back after its
  switch, is a false alarm.
- worse in one way each: gibberish, empty answers, three times as slow, half of the answers errors,
  one megabyte lost with each answer (`benchmarks/faulty_engine.py`). All have to be aborted; the
  share of requests that they answered until then is their exposure. A request that they fail is
  answered by what serves.

Candidate and baseline are processes of their own, and a driver looks every 0.1 s. The steps are
short, so that a hundred fit into an hour: what a step needs to show is the same. The statistics
alone, over hundreds of simulated canaries, are `tests/registry/test_canary_signals.py`. Nobody
publishes such numbers, so the peer is the goal itself.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import faulty_engine
from benchmarks.load import Load
from benchmarks.site import print_result
from pipelines.values.canary import CanaryLimits, CanaryPlan
from tests.support.endpoint_system import MODEL, Home, endpoint, home_with

PLAN = CanaryPlan(
    weights=(25, 50),
    window_s=2,
    least_requests=20,
    max_pause_s=30,
    max_step_s=120,
    bake_s=2,
    copied_percent=100,
    limits=CanaryLimits(memory_mb=64),
)
# Half of the requests each: what has to be shown is shown twice as soon.
AS_GOOD = PLAN.model_copy(update={"weights": (50,)})
FAULTS = ("gibberish", "empties", "slow", "errors", "leak")
SERVING, TWIN = "1", "2"
VERSIONS = {"twin": TWIN} | {fault: str(3 + at) for at, fault in enumerate(FAULTS)}
"""Of the candidates, by what they are."""


@dataclass(frozen=True)
class Outcome:
    """What became of one canary."""

    candidate: str
    is_released: bool
    reason: str
    """Why it was aborted or rolled back; empty where it was not."""
    seconds: float
    to_first_answer: float | None
    """Seconds from the entry with which it began; None where it answered nobody."""
    requests: int
    exposed: int
    lost: int

    @property
    def exposure(self) -> float:
        """Percent of the requests, from its beginning to its end, that it answered."""
        return 100 * self.exposed / max(1, self.requests)


@dataclass(frozen=True)
class Bench:
    """A home whose version 1 serves, and clients that ask."""

    home: Home
    load: Load

    def try_out(self, candidate: str) -> Outcome:
        """Begin a release with a canary, and drive it to its end."""
        from registry.ledger.entries import Release
        from registry.ledger.ledger import open_ledger
        from registry.release.context import ReleaseContext
        from registry.release.release import drive_release
        from tests.support.ledgers import begin_release

        version = VERSIONS[candidate]
        ledger = open_ledger(self.home.path)
        first = len(self.load.answers)
        release = Release(
            model=MODEL,
            version=version,
            package_sha256=self.home.digests[version],
            spec=self.home.specs[version],
            known_answers_share=0.5,
            canary=AS_GOOD if candidate == "twin" else PLAN,
        )
        begun = begin_release(ledger, release)
        [entry] = ledger.entries(begun - 1)[:1]
        started = time.monotonic()
        drive_release(MODEL, ReleaseContext(ledger, self.home.client))
        # A twin has the same number each time: the one before may still have had requests.
        answers = [each for each in self.load.answers[first:] if each.sent >= entry.at]
        own = [each for each in answers if each.release == version or each.fault]
        firsts = [each.got for each in answers if each.release == version]
        outcome = Outcome(
            candidate=candidate,
            is_released=_serves(ledger.state().model(MODEL), version),
            reason=_reason(ledger, begun),
            seconds=time.monotonic() - started,
            to_first_answer=(firsts[0] - entry.at).total_seconds() if firsts else None,
            requests=len(answers),
            exposed=len(own),
            lost=sum(bool(each.fault) for each in answers),
        )
        _say(outcome)
        return outcome

    def go_back(self) -> None:
        """Have version 1 serve again."""
        from registry.ledger.ledger import open_ledger
        from registry.release.brakes import roll_back
        from registry.release.context import ChangeRequest, ReleaseContext

        context = ReleaseContext(open_ledger(self.home.path), self.home.client)
        roll_back(MODEL, None, ChangeRequest("benchmark", "benchmark"), context)


def main(arguments: list[str]) -> int:
    """Measure, print one JSON line last, and fail where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canary")
    parser.add_argument("--short", action="store_true", help="within five minutes")
    is_short = parser.parse_args(arguments).short
    count, seconds = (3, 150.0) if is_short else (100, 5_400.0)
    with tempfile.TemporaryDirectory(prefix="assay-benchmark-") as scratch:
        home, environment = _prepare(Path(scratch))
        with _environment(environment), endpoint(home) as running:
            home.release(SERVING)
            port = int(running.url.rpartition(":")[2])
            # Requests that a seeded fault spoils.
            load = Load(port, question=f"{faulty_engine.MARK} 12 a")
            with load.asking():
                worse, as_good = _try_all(Bench(home, load), count, seconds)
    return print_result(_judged(worse, as_good))


def _try_all(
    bench: Bench, count: int, seconds: float
) -> tuple[list[Outcome], list[Outcome]]:
    worse: list[Outcome] = []
    as_good: list[Outcome] = []
    for fault in FAULTS:
        worse.append(bench.try_out(fault))
        if worse[-1].is_released:
            bench.go_back()
    # Its own time: a busy machine must not leave this part out.
    deadline = time.monotonic() + seconds
    while len(as_good) < count and time.monotonic() < deadline:
        as_good.append(bench.try_out("twin"))
        if as_good[-1].is_released:
            bench.go_back()
    return worse, as_good


def _prepare(scratch: Path) -> tuple[Home, dict[str, str]]:
    """A home with all candidates, and the environment in which engines have their faults."""
    from registry.release.known_answers import read_known_answers, write_known_answers
    from tests.support.tiny import make_tiny_base, make_tiny_package, tiny_manifest

    base = make_tiny_base(scratch / "tiny")
    package = scratch / "package"
    make_tiny_package(base, tiny_manifest(base, scratch / "made"), package)
    home = home_with(scratch / "home", {SERVING: package}, base)
    specs, digests = dict(home.specs), dict(home.digests)
    orders = itertools.permutations(range(4))
    # The first one is the package as it is.
    next(orders)

    def reordered(order: tuple[int, ...]) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / "known_answers.jsonl"
            answers = read_known_answers(path)
            write_known_answers(path, tuple(answers[place] for place in order))

        return change

    # Other bytes with the same weights: only the order of the known answers differs.
    for version in VERSIONS.values():
        changed = home.with_changed(SERVING, reordered(next(orders)))
        specs[version] = home.specs[SERVING]
        digests[version] = changed.digests[SERVING]
    home = Home(home.path, specs, digests)
    faults = {str(home.package(VERSIONS[fault])): fault for fault in FAULTS}
    named = scratch / "faults.json"
    named.write_text(json.dumps(faults))
    hooks = scratch / "hooks"
    hooks.mkdir()
    shutil.copyfile(faulty_engine.__file__, hooks / "sitecustomize.py")
    return home, {
        "PYTHONPATH": str(hooks),
        faulty_engine.VARIABLE: str(named),
        "ASSAY_SPARE_ENGINES": "1",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def _environment(own: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(own)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serves(model: Any, version: str) -> bool:
    answering = model.answering
    return answering is not None and answering.release.version == version


def _reason(ledger: Any, begun: int) -> str:
    for entry in ledger.entries(begun):
        if entry.body.kind in {"release_aborted", "rolled_back"}:
            return str(ledger.recall(entry.body.reason_sha256) or "")
    return ""


def _say(outcome: Outcome) -> None:
    end = "released" if outcome.is_released else f"aborted: {outcome.reason[:150]}"
    sys.stderr.write(
        f"{outcome.candidate}: {end}; {outcome.seconds:.1f} s, {outcome.exposed} of "
        f"{outcome.requests} requests ({outcome.exposure:.1f} %), {outcome.lost} lost\n"
    )


def _judged(worse: list[Outcome], as_good: list[Outcome]) -> dict[str, Any]:
    false_alarms = [each for each in as_good if not each.is_released]
    missed = [each for each in worse if each.is_released]
    lost = sum(each.lost for each in as_good)
    firsts = [
        each.to_first_answer
        for each in (*worse, *as_good)
        if each.to_first_answer is not None
    ]
    # A level of 5 % for each canary: more than one in twenty would not be noise.
    most = max(1, len(as_good) // 20)
    met = (
        not missed
        and len(as_good) > 0
        and len(false_alarms) <= most
        and lost == 0
        and len(worse) == len(FAULTS)
    )
    return {
        "name": "canary",
        "value": len(false_alarms),
        "unit": f"false alarms of {len(as_good)} candidates that are as good",
        "goal": f"<= {most}; every worse candidate aborted; 0 requests lost to one as good",
        "met": met,
        "peer": "none publishes one",
        "runs": {
            "as_good": len(as_good),
            "false_alarms": [each.reason[:200] for each in false_alarms],
            "seconds_p50": round(statistics.median(each.seconds for each in as_good), 1)
            if as_good
            else None,
            "begun_to_first_answer_p50_s": round(statistics.median(firsts), 2)
            if firsts
            else None,
            "lost": lost,
            "worse": {
                each.candidate: {
                    "aborted": not each.is_released,
                    "exposed_requests": each.exposed,
                    "exposed_percent": round(each.exposure, 1),
                    "seconds": round(each.seconds, 1),
                }
                for each in worse
            },
        },
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
