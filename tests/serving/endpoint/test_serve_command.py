"""`assay serve` in a terminal."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.support.endpoint_system import ROOT, Home
from tests.support.waiting import SECONDS_AT_MOST


@pytest.mark.ci
def test_assay_serve_says_where_it_answers_and_ends_at_ctrl_c(home: Home) -> None:
    command = [sys.executable, "-m", "cli", "serve", "--port", "0"]
    environment = {**os.environ, "ASSAY_HOME": str(home.path)}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert re.fullmatch(
            r"Ready: nothing is released yet .* at http://127\.0\.0\.1:\d+/v1\n", ready
        ), ready
        assert home.client.state().head is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS_AT_MOST)
    assert process.returncode == 0
    assert "Traceback" not in errors
