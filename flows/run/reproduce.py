"""Run one DVC stage once: the only file that imports dvc.

DVC passes on neither a stage's exit code nor its error. A stage therefore writes both into a folder
that the run names to it, the channel.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

from core import errors
from core.console import say
from core.errors import PipelineError, WorkspaceError, first_line
from core.files import md5_of
from core.git import hide_repository
from core.locks import stage_lock, take_turn
from core.value import Value
from flows.run.stop_signal import stage_stops_first
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.rows.places import STEMS, find_candidates
from pipelines.stage_key import stage_key

GATES = ("admit", "screen")
_SECONDS_TO_FILL = 60
_KILLED = ("exited with -9", "exited with 137")
"""How DVC ends its sentence on a stage that SIGKILL ended, without a shell and with one."""


class StageRun(Value):
    """How one stage went in a run."""

    stage: str
    seconds: float
    cached: bool
    waited: bool
    summary: str


def reproduce(workspace: Workspace, stage: str) -> StageRun:
    """Run a stage, or take its outs from the cache.

    A second run of the same work waits for the first and reuses its outs. A gate that did not
    pass is no error here, since its verdict is in its outs. Raises the stage's own error, and
    `PipelineError` where the stage left none.
    """
    started = time.monotonic()
    with _stage_turn(workspace, stage) as waited:
        cached = _reproduce(workspace, stage)
    return StageRun(
        stage=stage,
        seconds=time.monotonic() - started,
        cached=cached,
        waited=waited,
        summary=_read_summary(workspace.root / layout.DATA / stage),
    )


def version_inputs(workspace: Workspace) -> None:
    """Put own rows under DVC: the run's record then names them by digest, and the cache keeps them.

    `WorkspaceError` where DVC cannot keep them.
    """
    raw = workspace.root / layout.RAW
    rows = [path for stem in STEMS for path in find_candidates(raw, stem)]
    if not rows:
        return
    from dvc.exceptions import DvcException

    try:
        with _repository(workspace) as repo:
            repo.add([str(path) for path in rows])
    except DvcException as error:
        raise WorkspaceError(
            f"DVC cannot keep {rows[0].name} ({first_line(error)}). "
            "Look at the disk and run again."
        ) from error


def _reproduce(workspace: Workspace, stage: str) -> bool:
    """Run the stage where it has to run; True where the cache had its outs."""
    _remove_empty_entries(workspace.home / "cache/runs")
    with tempfile.TemporaryDirectory() as scratch:
        channel = Path(scratch)
        with _stage_environment(workspace, channel), stage_stops_first(channel):
            _run_stage(workspace, stage, channel)
            return not (channel / "started").is_file()


def _remove_empty_entries(run_cache: Path) -> None:
    """Remove empty folders from DVC's cache of runs: a kill leaves them, and DVC fails on one."""
    for folder in run_cache.glob("*/*"):
        # It is not empty, or another run removed it first.
        with suppress(OSError):
            # A young one is about to be filled by another run.
            if time.time() - folder.stat().st_mtime > _SECONDS_TO_FILL:
                folder.rmdir()


def _run_stage(workspace: Workspace, stage: str, channel: Path) -> None:
    from dvc.exceptions import DvcException, ReproductionError

    try:
        with _repository(workspace) as repo:
            repo.reproduce(targets=[stage], single_item=True)
    except ReproductionError as error:
        # The stage wrote its own error: it says more than DVC's.
        if (channel / "error").is_file():
            text = (channel / "error").read_text(encoding="utf-8")
            stage_error = _parse_error(text)
            raise _with_clean_cache(stage_error, workspace.home / "cache") from error
        # A gate that refuses exits with an error code, and its verdict is its out.
        verdict = workspace.root / layout.DATA / stage / "verdict.json"
        if stage not in GATES or not verdict.is_file():
            reason = first_line(error.__cause__ or error)
            raise _unexplained_error(stage, reason) from error
    except DvcException as error:
        raise PipelineError(
            f"DVC cannot run stage {stage} ({first_line(error)}). Fix dvc.yaml or its inputs."
        ) from error


def _with_clean_cache(error: errors.AssayError, cache: Path) -> errors.AssayError:
    """Where a stage found damaged bytes, remove damaged files from the cache.

    DVC trusts its cache, so that the next run would be given the same bytes again.
    """
    if not isinstance(error, errors.DamagedFile):
        return error
    damaged = []
    for path in (cache / "files/md5").glob("??/*"):
        name = path.parent.name + path.name.removesuffix(".dir")
        if md5_of(path) != name:
            damaged.append(path)
    for path in damaged:
        path.unlink()
    if not damaged:
        return error
    return errors.DamagedFile(
        f"{error} {len(damaged)} damaged files were removed from the cache: "
        "the same command makes them again."
    )


def _unexplained_error(stage: str, reason: str) -> PipelineError:
    if reason.endswith(_KILLED):
        return PipelineError(
            f"Stage {stage} was killed, as a machine does that has no memory left. Nothing that "
            "was done is lost: free some memory and run the same command again, or lower "
            "train.batch_size."
        )
    return PipelineError(
        f"Stage {stage} ended without a message ({reason}). Its output, if any, is printed "
        "above; run it again."
    )


@contextmanager
def _repository(workspace: Workspace) -> Iterator[Any]:
    """The workspace as DVC sees it."""
    from dvc.repo import Repo

    # Importing dvc turns its log on; what it has to say comes back as an exception.
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    # DVC resolves outs against the current folder, whatever root it is given.
    root = workspace.root
    with hide_repository(), chdir(root), Repo(str(root)) as repo:
        yield repo


@contextmanager
def _stage_turn(workspace: Workspace, stage: str) -> Iterator[bool]:
    """Hold the lock of the stage's work; yields whether another run held it first."""
    path = stage_lock(workspace.home, stage, stage_key(stage, workspace.root))

    def notice() -> None:
        say(f"  {stage:<17} waiting for another run that does the same work")

    with take_turn(path, notice) as waited:
        yield waited


@contextmanager
def _stage_environment(workspace: Workspace, channel: Path) -> Iterator[None]:
    """Within, stages find this interpreter, the home, the channel, and whose end ends them."""
    folder = Path(sys.executable).parent
    # The stage must run in this environment, whatever `assay` the PATH has.
    own = {
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "ASSAY_HOME": str(workspace.home),
        "ASSAY_STAGE_TALK": str(channel),
        "ASSAY_RUN_PID": str(os.getpid()),
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, setting in before.items():
            if setting is None:
                del os.environ[name]
            else:
                os.environ[name] = setting


def _parse_error(text: str) -> errors.AssayError:
    """The stage's own error, of its own class: a retry helps after a lost connection alone."""
    name, _, message = text.partition("\n")
    kind = getattr(errors, name, errors.PipelineError)
    error: errors.AssayError = kind(message)
    return error


def _read_summary(folder: Path) -> str:
    path = folder / "summary.txt"
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    return text.strip()
