"""A restored home answers as the old one did, with the old one gone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.project import Project
from core.ready import parse_ready
from operations.backup.create import BackupSource, back_up
from operations.backup.restore import restore
from tests.operations.keeping.conftest import MODEL, Kept
from tests.support.journey import ROOT
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.ci

QUESTION = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "How do I list files?"}],
    "max_tokens": 8,
}


@contextmanager
def endpoint(home: Path) -> Iterator[str]:
    """The endpoint over a home, once it says that it is ready; ended by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.endpoint", "--home", str(home), "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ASSAY_RUN_PID": str(os.getpid())},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        url = parse_ready(process.stdout.readline())
        assert url
        yield url.removesuffix("/v1")
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS_AT_MOST)


def answer(url: str) -> tuple[str, Any]:
    """The fingerprint and the words of an answer."""
    reply = httpx.post(
        f"{url}/v1/chat/completions",
        json=QUESTION,
        timeout=SECONDS_AT_MOST,
        trust_env=False,
    )
    assert reply.status_code == 200, reply.text
    return reply.headers["x-assay-fingerprint"], reply.json()["choices"][0]["message"][
        "content"
    ]


def test_a_restored_home_answers_with_the_same_fingerprint_and_the_same_words(
    kept: Kept, elsewhere: Callable[[], Project], tmp_path: Path
) -> None:
    with endpoint(kept.home) as url:
        before = answer(url)
        back_up(
            BackupSource(kept.project, kept.store, with_base_models=True),
            tmp_path / "backup",
        )
    shutil.rmtree(kept.project.root)
    there = elsewhere()
    restore(tmp_path / "backup", there)
    (there.home / "mlflow.db").unlink()  # what is served needs no MLflow
    with endpoint(there.home) as url:
        assert answer(url) == before
