"""kill -9 of anything at a random moment of a release under `assay up`.

All agree again, one version, nothing left running.
"""

import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from operations.supervise.processes import find_marked
from operations.system_mark import system_mark
from tests.support.journey import Checkout, invoke, wait_for_end
from tests.support.promoted import (
    MODEL,
    Process,
    System,
    entry_kinds,
    model_state,
    system_of,
    waived_site,
)
from tests.support.running_system import has_ended, nothing_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

VICTIMS = ("controller", "endpoint", "engine", "worker", "mlflow", "prefect", "promote")
ROUNDS: list[tuple[tuple[str, ...], int]] = [
    ((victim,), seed) for victim in VICTIMS for seed in (1, 2, 3)
]
PAIRS: list[tuple[tuple[str, ...], int]] = [
    (("controller", "promote"), 3),
    (("endpoint", "promote"), 4),
    (("engine", "controller"), 5),
    (("mlflow", "endpoint"), 6),
]
WHILE_IT_LOADS = {1, 2, 4, 5}
"""Seeds whose kills fall between the first and the last entry of a release.

The others fall anywhere.
"""
SECONDS_TO_LOAD = 5.0
"""About what lies between the first and the last entry of a release here."""
ENDS = {"release_completed", "release_aborted", "rolled_back", "base_served", "revoked"}


@dataclass(frozen=True)
class Scene:
    """A system, and how long a promotion takes that nobody disturbs."""

    system: System
    seconds: float


@pytest.fixture(scope="module")
def scene(
    recorded: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    site = waived_site(recorded, tmp_path_factory.mktemp("kills") / "assay")
    with system_of(site) as system:
        started = time.monotonic()
        done = wait_for_end(system.promote())
        assert done.code == 0, done.out + done.err
        seconds = time.monotonic() - started
        assert system.settled().current is not None
        yield Scene(system, seconds)


@pytest.mark.parametrize(
    ("victims", "seed"),
    ROUNDS + PAIRS,
    ids=lambda each: "+".join(each) if isinstance(each, tuple) else str(each),
)
def test_killed_at_a_random_moment_of_a_release_all_agree_again(
    scene: Scene, victims: tuple[str, ...], seed: int
) -> None:
    system, chance = scene.system, random.Random(f"{victims} {seed}")
    before = begin_anew(system)
    promoting = system.promote()
    span = scene.seconds
    if seed in WHILE_IT_LOADS:
        wait_until(
            lambda: (
                "release_begun" in entry_kinds(system.checkout)[before:]
                or promoting.poll() is not None
            )
        )
        span = SECONDS_TO_LOAD
    told = kill(
        system, promoting, victims, sorted(chance.uniform(0, span) for _ in victims)
    )
    done = wait_for_end(promoting)
    model = system.settled()
    written = entry_kinds(system.checkout)[before:]
    sys.stdout.write(
        f"{seed}: {told}; {written}; ended with {done.code} {done.err}; the base answers: "
        f"{model.serves_base}\n"
    )
    assert done.code in {0, 1, -9}, done.out + done.err
    assert "Traceback" not in done.err, done.err
    assert done.code != 0 or not model.serves_base
    assert written.count("release_begun") <= 1
    assert sum(kind in ENDS for kind in written) == written.count("release_begun")
    agrees(system)


def begin_anew(system: System) -> int:
    """Version 1 is there to be promoted; gives how many entries there are."""
    if not model_state(system.checkout).serves_base:
        assert (
            invoke(
                system.checkout,
                "serve-base",
                "--model",
                MODEL,
                "--reason",
                "to begin anew",
            ).code
            == 0
        )
    system.settled()
    return len(entry_kinds(system.checkout))


def kill(
    system: System, promoting: Process, victims: tuple[str, ...], moments: list[float]
) -> str:
    """Each at its moment; gives what was killed, and when."""
    started, told = time.monotonic(), []
    for name, moment in zip(victims, moments, strict=True):
        time.sleep(max(0.0, moment - (time.monotonic() - started)))
        victim = system.victim(name, promoting)
        told.append(
            f"{name} at {moment:.2f} s"
            if victim is not None
            else f"no {name} at {moment:.2f} s"
        )
        if victim is not None:
            victim.kill()
    return ", ".join(told)


def agrees(system: System) -> None:
    """What answers is what the ledger says, the ledger is whole, and there is one version."""
    model = model_state(system.checkout)
    assert model.current is not None
    release = model.current.release
    spec = release.spec.with_adapter(None) if model.serves_base else release.spec
    assert system.answer().headers["x-assay-fingerprint"] == spec.fingerprint
    audited = invoke(system.checkout, "audit", "verify")
    assert audited.code == 0, audited.out
    assert len(system.checkout.versions()) == 1


def test_after_kills_the_end_leaves_nothing_running(
    recorded: Checkout, tmp_path: Path
) -> None:
    site = waived_site(recorded, tmp_path / "assay")
    with system_of(site) as system:
        done = wait_for_end(system.promote())
        assert done.code == 0, done.out + done.err
        for pid in system.up.pids().values():
            psutil.Process(pid).kill()
        system.settled()
        pids = [each.pid for each in find_marked(system_mark(site.home))]
        assert len(pids) > 5
        assert site.assay("down").out == "Stopped.\n"
        assert nothing_left(site.home, seconds=0)
        assert all(has_ended(pid) for pid in pids)
