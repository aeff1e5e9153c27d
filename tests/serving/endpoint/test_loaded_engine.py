"""A process that another one has taken the place of: it completes what it has begun, and ends."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from serving.endpoint.engine_process import AdoptedEngine
from serving.endpoint.engine_record import EngineContents, EngineRecord, started_at
from serving.endpoint.loaded_engine import LoadedEngine
from serving.endpoint.verify import VerifiedRelease
from tests.support.ledgers import MODEL, SPEC
from tests.support.processes import start_known

if TYPE_CHECKING:
    import subprocess

# It is known for an engine by its words, and answers no check.
IDLE = "import time; time.sleep(600)"


@contextmanager
def idle_process() -> Iterator["subprocess.Popen[bytes]"]:
    words = [sys.executable, "-S", "-c", IDLE, "serving", "--owned"]
    with start_known(words) as process:
        yield process
        process.kill()


def loaded_in(process: "subprocess.Popen[bytes]") -> LoadedEngine:
    contents = EngineContents(
        model=MODEL, package_sha256="1" * 64, spec=SPEC, with_adapter=True
    )
    record = EngineRecord(
        pid=process.pid,
        started=started_at(process.pid),
        # Nobody listens there.
        port=1,
        token="token",
        loaded=contents,
    )
    verified = cast("VerifiedRelease", None)
    return LoadedEngine(AdoptedEngine(record), verified, SPEC)


@pytest.mark.ci
def test_it_runs_for_as_long_as_its_last_answer_takes_and_ends_with_that(
    tmp_path: Path,
) -> None:
    async def retire(process: "subprocess.Popen[bytes]") -> None:
        loaded = loaded_in(process)
        with loaded.requests.count():
            retiring = asyncio.create_task(loaded.retire(tmp_path, 600))
            await asyncio.sleep(0.3)
            assert process.poll() is None
        await retiring
        assert process.wait() != 0

    with idle_process() as process:
        asyncio.run(retire(process))


@pytest.mark.ci
def test_one_that_hangs_is_ended_whatever_it_has_begun(tmp_path: Path) -> None:
    async def retire(process: "subprocess.Popen[bytes]") -> None:
        loaded = loaded_in(process)
        with loaded.requests.count():
            await loaded.retire(tmp_path, 0.01)
        assert process.wait() != 0

    with idle_process() as process:
        asyncio.run(retire(process))
