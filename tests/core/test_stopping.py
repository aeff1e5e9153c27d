"""Who ends a run by Ctrl-C wants what SIGTERM does.

What is done is kept, and the same command goes on.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGE = """
import signal
from pipelines.__main__ import _stop_with_the_run
from core.stopping import catch_sigterm

with catch_sigterm() as told:
    _stop_with_the_run()
    signal.raise_signal(signal.SIGINT)
    print(told.is_set())
"""


def test_ctrl_c_tells_a_runs_stage_to_stop_as_sigterm_does(tmp_path: Path) -> None:
    environment = {**os.environ, "ASSAY_STAGE_TALK": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", STAGE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
