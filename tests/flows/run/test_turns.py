"""Runs of one model take turns, and a person is told of it."""

from pathlib import Path
from threading import Event, Thread

import pytest

from flows.run.turns import training_turn
from tests.waiting import wait_until


def test_a_run_that_waits_for_its_turn_says_so_when_it_begins_to_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    had = Event()

    def heard(text: str) -> bool:
        said.append(capsys.readouterr().out)
        return text in "".join(said)

    def other() -> None:
        with training_turn(tmp_path, "letters"):
            had.set()

    waiting = Thread(target=other, daemon=True)
    with training_turn(tmp_path, "letters"):
        waiting.start()
        wait_until(lambda: heard("  (waiting for another run's end: it is training letters)\n"))
        assert not had.is_set()
    waiting.join()
    assert heard("  (waited for another run's end: it was training letters)\n")
