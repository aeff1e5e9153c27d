"""What is logged by whoever: without the secrets of this process's settings."""

import logging
import os
import subprocess
import sys

import pytest

from core.logs import keep_secrets_out_of_logs

PLANTED = "s3cr3t-Pa55"


@pytest.fixture
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    before = logging.getLogRecordFactory()
    monkeypatch.setenv("ASSAY_LEDGER_URL", f"postgresql://kim:{PLANTED}@host/db")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logging, "_logRecordFactory", before)
    keep_secrets_out_of_logs()


@pytest.mark.usefixtures("_kept")
def test_a_librarys_message_and_its_traceback_are_logged_without_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = ConnectionError(f"postgresql://kim:{PLANTED}@host/db does not answer")
    logging.getLogger("a.library").error(
        "trying %s with %r", f"http://kim:{PLANTED}@host", PLANTED, exc_info=error
    )
    assert "trying http://host with '<not shown>'" in caplog.text
    assert "ConnectionError: postgresql://host/db does not answer" in caplog.text
    assert PLANTED not in caplog.text


@pytest.mark.usefixtures("_kept")
def test_other_messages_stay_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("a.library").warning(
        "%s of %d, at http://host:1/#/runs/1", "one", 2
    )
    assert "one of 2, at http://host:1/#/runs/1" in caplog.text


def test_a_traceback_that_nobody_catches_is_told_without_them() -> None:
    program = (
        "import os; from core.environment import set_library_environment; "
        "set_library_environment(); raise RuntimeError('at ' + os.environ['ASSAY_LEDGER_URL'])"
    )
    environment = {
        **os.environ,
        "ASSAY_LEDGER_URL": f"postgresql://kim:{PLANTED}@host/db",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.rstrip().endswith("RuntimeError: at postgresql://host/db")
    assert PLANTED not in done.stdout + done.stderr
