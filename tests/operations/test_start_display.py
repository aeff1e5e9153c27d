"""What `assay up` says once everything is ready."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.system_record import ServiceRecord
from operations.start_display import StartDisplay


def ready(name: str) -> ServiceRecord:
    return ServiceRecord(
        name=name,
        state="ready",
        since=datetime.now(UTC),
        pid=1,
        url=None,
        link=None,
        port=None,
        restarts=0,
        detail="",
    )


def said_of(home: Path, capsys: pytest.CaptureFixture[str], *names: str) -> str:
    StartDisplay(home).show([ready(name) for name in names])
    return capsys.readouterr().out


def test_who_has_an_mlflow_of_their_own_is_told_where_its_passwords_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of(tmp_path, capsys, "mlflow", "endpoint")
    assert str(tmp_path / "passwords.json") in said
    assert str(tmp_path / "logs") in said


def test_who_uses_the_teams_mlflow_is_told_of_no_passwords(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of(tmp_path, capsys, "prefect", "endpoint")
    assert "passwords" not in said
    assert str(tmp_path / "logs") in said
