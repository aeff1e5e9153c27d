"""A restored home answers as the old one did, with the old one gone."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.project import Project
from operations.backup.create import BackupSource, back_up
from operations.backup.restore import restore
from tests.operations.keeping.conftest import MODEL, Kept
from tests.support.endpoint_system import Home, Running, endpoint

pytestmark = pytest.mark.ci


def answer(running: Running) -> tuple[str, Any]:
    """The fingerprint and the words of an answer."""
    reply = running.ask(MODEL)
    assert reply.status_code == 200, reply.text
    words = reply.json()["choices"][0]["message"]["content"]
    return reply.headers["x-assay-fingerprint"], words


def test_a_restored_home_answers_with_the_same_fingerprint_and_the_same_words(
    kept: Kept, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    with endpoint(Home(kept.home)) as running:
        before = answer(running)
        back_up(
            BackupSource(kept.project, kept.store, with_base_models=True),
            tmp_path / "backup",
        )
    shutil.rmtree(kept.project.root)
    there = elsewhere()
    restore(tmp_path / "backup", there)
    (there.home / "mlflow.db").unlink()  # what is served needs no MLflow
    with endpoint(Home(there.home)) as running:
        assert answer(running) == before
