"""A log whose disk is full, and has room again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import SECONDS_AT_MOST

SAYS = """
import resource, sys
from core.log import say

_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
say("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, most))
for number in range(1000):
    say(f"line {number} for which there is no room")
    say("ready", sys.stdout)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
say("after")
say("ready", sys.stdout)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["with a buffer", "without"])
def test_a_full_disk_under_the_log_stops_nothing_and_is_written_to_again_once_there_is_room(
    tmp_path: Path, unbuffered: str
) -> None:
    with (tmp_path / "log").open("w") as log, (tmp_path / "out").open("w") as out:
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        ended = subprocess.run(
            [sys.executable, "-c", SAYS],
            stdout=out,
            stderr=log,
            env=environment,
            timeout=SECONDS_AT_MOST,
            check=False,
        )
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1].endswith("after")
    assert (tmp_path / "out").read_text().endswith("ready\n")
    assert ended.returncode == 0
