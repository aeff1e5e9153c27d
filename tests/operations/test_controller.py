"""The controller's rounds: what a duty does, says or fails in ends none of the others."""

import os
import subprocess
import sys

import pytest

from core.errors import ServingError
from operations.controller import attempt
from tests.support.journey import ROOT
from tests.support.waiting import SECONDS_AT_MOST


def speaks() -> tuple[str, ...]:
    return ("A release was carried to its end.",)


def is_away() -> tuple[str, ...]:
    raise ServingError("No endpoint runs.")


def breaks() -> tuple[str, ...]:
    raise KeyError("something new")


def test_a_log_whose_disk_is_full_ends_no_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with os.fdopen(os.open("/dev/full", os.O_WRONLY), "w") as log:
        monkeypatch.setattr("sys.stdout", log)
        for duty in (speaks, is_away, breaks):
            attempt(duty)
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), log.fileno()
        )  # it is closed with what it still holds


def test_what_a_duty_did_and_why_it_failed_are_lines_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for duty in (speaks, is_away, breaks):
        attempt(duty)
    assert capsys.readouterr().out.splitlines() == [
        "A release was carried to its end.",
        "is_away: No endpoint runs.",
        "breaks failed: KeyError: 'something new'",
    ]


_BEGIN = """
import sys, threading
from operations.controller import Bell, Rounds, begin_slow_rounds

class Seen(Rounds):
    def begin(self, list_duties):
        print(all(name in sys.modules for name in ("mlflow", "model_signing")))

assert "mlflow" not in sys.modules
begin_slow_rounds(Seen(threading.Event(), Bell(), 1.0), None)
"""


def test_no_two_threads_import_mlflow_at_once() -> None:
    """Each would find half of it, and the controller would be broken until it is started again."""
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_AT_MOST,
        check=True,
    )
    assert done.stdout.split() == ["True", "True", "True"]
