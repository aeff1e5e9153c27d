"""One DVC stage, once: the only file that imports dvc."""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from core import errors
from core.console import say
from core.errors import PipelineError, WorkspaceError
from core.files import md5_of
from core.git import no_repository_named
from core.value import Value
from flows.run.stop_signal import stage_first
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.stage_key import stage_key

GATES = ("admit", "screen")
_SECONDS_TO_FILL = 60
_KILLED = ("exited with -9", "exited with 137")
"""How DVC ends its sentence on a stage that SIGKILL ended, without a shell and with one."""


class StageRun(Value):
    """What became of a stage in a run."""

    stage: str
    seconds: float
    cached: bool
    waited: bool
    summary: str


def reproduce(workspace: Workspace, stage: str) -> StageRun:
    """Run a stage, or take its outs from the cache.

    A second run of the same work waits for the first and reuses what it made. A gate that did not pass is no error here: its
    verdict is in its outs. DVC answers 255 whatever a stage's exit code was, so the stage's own words come through a file.
    """
    started = time.monotonic()
    with _lease(workspace, stage) as waited:
        cached = _reproduce(workspace, stage)
    return StageRun(
        stage=stage,
        seconds=time.monotonic() - started,
        cached=cached,
        waited=waited,
        summary=_summary(workspace.root / "data" / stage),
    )


def version_inputs(workspace: Workspace) -> None:
    """Put own rows under DVC, so that the run's record names them by digest and the cache keeps them."""
    raw = sorted(
        path
        for path in (workspace.root / layout.RAW).iterdir()
        if path.suffix in {".jsonl", ".csv", ".parquet"}
    )
    if not raw:
        return
    from dvc.exceptions import DvcException

    try:
        with _repository(workspace) as repo:
            repo.add([str(path) for path in raw])
    except DvcException as error:
        raise WorkspaceError(
            f"DVC cannot keep {raw[0].name} ({_first_line(error)}). Look at the disk and run again."
        ) from error


def _reproduce(workspace: Workspace, stage: str) -> bool:
    """True where nothing had to run."""
    _drop_empty(workspace.project.home / "cache/runs")
    with (
        tempfile.TemporaryDirectory() as scratch,
        _environment(workspace, Path(scratch)),
        stage_first(Path(scratch)),
    ):
        _run_stage(workspace, stage, Path(scratch))
        return not (Path(scratch) / "started").is_file()


def _drop_empty(memory: Path) -> None:
    """DVC stumbles over an empty folder in its memory of runs, as a kill or a full disk leaves it. A young one is about to be filled."""
    for folder in memory.glob("*/*"):
        with suppress(OSError):  # it is not empty, or another run was first
            if time.time() - folder.stat().st_mtime > _SECONDS_TO_FILL:
                folder.rmdir()


def _run_stage(workspace: Workspace, stage: str, talk: Path) -> None:
    from dvc.exceptions import DvcException, ReproductionError

    try:
        with _repository(workspace) as repo:
            repo.reproduce(targets=[stage], single_item=True)
    except ReproductionError as error:
        if (talk / "error").is_file():
            raise _mended(
                _as_raised((talk / "error").read_text(encoding="utf-8")),
                workspace.project.home / "cache",
            ) from error
        if (
            stage not in GATES
            or not (workspace.root / "data" / stage / "verdict.json").is_file()
        ):
            raise _without_a_word(
                stage, _first_line(error.__cause__ or error)
            ) from error
    except DvcException as error:
        raise PipelineError(
            f"DVC cannot run stage {stage} ({_first_line(error)}). Mend dvc.yaml or its inputs."
        ) from error


def _mended(error: errors.AssayError, cache: Path) -> errors.AssayError:
    """Where a stage found damaged bytes, take what rotted out of the cache: DVC trusts it, and the next run would be given the same."""
    if not isinstance(error, errors.DamagedFile):
        return error
    rotten = [
        path
        for path in (cache / "files/md5").glob("??/*")
        if md5_of(path) != path.parent.name + path.name.removesuffix(".dir")
    ]
    for path in rotten:
        path.unlink()
    how = (
        f" {len(rotten)} damaged files were taken out of the cache: the same command makes them anew."
        if rotten
        else ""
    )
    return errors.DamagedFile(f"{error}{how}")


def _without_a_word(stage: str, why: str) -> PipelineError:
    if why.endswith(_KILLED):
        return PipelineError(
            f"Stage {stage} was killed, as a machine does that has no memory left. Nothing that was done is lost: "
            "free some memory and run the same command again, or lower train.batch_size."
        )
    return PipelineError(
        f"Stage {stage} ended without a word ({why}). Its output, if any, stands above; run it again."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def _repository(workspace: Workspace) -> Iterator[Any]:
    """The workspace as DVC sees it."""
    from dvc.repo import Repo

    # Importing dvc turns its log on; what it has to say comes back as an exception.
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    # DVC resolves outs against the current folder, whatever root it is given.
    with (
        no_repository_named(),
        chdir(workspace.root),
        Repo(str(workspace.root)) as repo,
    ):
        yield repo


@contextmanager
def _lease(workspace: Workspace, stage: str) -> Iterator[bool]:
    """Hold the stage's work; the kernel gives it back when the holder dies. Yields whether another run had it first."""
    path = (
        workspace.project.home
        / "leases"
        / f"{stage}-{stage_key(stage, workspace.root)}.lock"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    lease = FileLock(path)
    try:
        lease.acquire(timeout=0)
        waited = False
    except Timeout:
        say(f"  {stage:<17} waiting for another run that does the same work")
        lease.acquire()
        waited = True
    try:
        yield waited
    finally:
        lease.release()


@contextmanager
def _environment(workspace: Workspace, talk: Path) -> Iterator[None]:
    """What a stage process finds: this interpreter first, where Assay keeps its things, and whose death ends it."""
    ours = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "ASSAY_HOME": str(workspace.project.home),
        "ASSAY_STAGE_TALK": str(talk),
        "ASSAY_RUN_PID": str(os.getpid()),
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, setting in before.items():
            if setting is None:
                del os.environ[name]
            else:
                os.environ[name] = setting


def _as_raised(said: str) -> errors.AssayError:
    """The stage's own error, of its own class, so that a retry can tell a lost connection from a bad row."""
    name, _, text = said.partition("\n")
    kind = getattr(errors, name, errors.PipelineError)
    raised: errors.AssayError = kind(text)
    return raised


def _summary(folder: Path) -> str:
    path = folder / "summary.txt"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
