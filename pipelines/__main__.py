"""Run one stage in the current folder: `assay stage STAGE`, as dvc.yaml does.

Each stage's module holds its function, from values to a value, and `main`, which reads its files
and writes its outs. What `main` prints is kept beside the outs as `summary.txt`, so that it can
still be shown for a stage that DVC took from its cache.

A run that starts a stage through DVC names a folder in ASSAY_STAGE_TALK. The stage writes there
that it `started`, and its `error`; the run writes there that it has to `stop`.
"""

import contextlib
import errno
import importlib
import io
import os
import signal
import sys
from pathlib import Path

from core.errors import AssayError, NotEnoughResources, RunStopped
from core.files import write_text
from core.lifetime import end_with_the_run
from core.stopping import follow_the_run, on_sigterm
from pipelines.stage_code import check_stage_code, write_stage_codes

STAGES = (
    "collect",
    "split",
    "validate",
    "bias",
    "admit",
    "base_model",
    "fine_tune",
    "prompt_baselines",
    "generate",
    "score",
    "screen",
    "confirm",
)
CODE = "code"
"""Comes before them in dvc.yaml, and writes down which code each of them runs."""
_TALK = "ASSAY_STAGE_TALK"
_DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EIO,
}


def main(arguments: list[str]) -> int:
    """Run the stage and give its exit code.

    0 passed, 1 error, 2 usage, 3 rejected, 4 undecided, 75 told to stop.
    """
    known = (CODE, *STAGES)
    if len(arguments) != 1 or arguments[0] not in known:
        sys.stderr.write(f"usage: assay stage {{{','.join(known)}}}\n")
        return 2
    name = arguments[0]
    end_with_the_run()
    _tell_run("started", "")
    try:
        with on_sigterm(lambda: _end_at_once(name)):
            _stop_with_the_run()
            return _write_codes() if name == CODE else _run_stage(name)
    except AssayError as error:
        return _report_error(error)
    except OSError as error:
        return _report_error(_explain_disk_error(name, error))


def _write_codes() -> int:
    write_stage_codes(Path())
    return 0


def _run_stage(name: str) -> int:
    # Of an installation that is edited: what runs now is recorded as what the run began with.
    check_stage_code(name)
    stage = importlib.import_module(f"pipelines.stages.{name}")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = int(stage.main())
    # Some modules are imported while it works: after an upgrade they would be of two Assays.
    check_stage_code(name)
    summary = output.getvalue()
    out = Path("data") / name
    # A stage that writes no folder of its own has no summary either.
    if out.is_dir():
        write_text(out / "summary.txt", summary)
    # The run reads the file instead: printed twice, the line would be shown twice.
    if _TALK not in os.environ:
        sys.stdout.write(summary)
    return code


def _report_error(error: AssayError) -> int:
    """Report what ended the stage, to the run or on stderr; give the exit code."""
    is_delivered = False
    # The disk of that folder may be full, too.
    with contextlib.suppress(OSError):
        is_delivered = _tell_run("error", f"{type(error).__name__}\n{error}")
    if not is_delivered:
        sys.stderr.write(f"{error}\n")
    return error.exit_code


def _explain_disk_error(name: str, error: OSError) -> AssayError:
    """Explain a file that cannot be written or read.

    Anything else that the system refused is raised as it is.
    """
    if error.errno not in _DISK_ERRORS:
        raise error
    file = error.filename or "a file"
    return NotEnoughResources(
        f"Stage {name} cannot use {file} ({os.strerror(error.errno)}). "
        "Look at the disk, then run the same command again."
    )


def _end_at_once(name: str) -> None:
    """End a stage that has nothing to keep, at SIGTERM.

    No exception is raised: a library that catches any would make a false result of it.
    """
    stopped = RunStopped(
        f"Stage {name} was told to stop. "
        "What is done is kept: run the same command again."
    )
    os._exit(_report_error(stopped))


def _stop_with_the_run() -> None:
    """Pass on a run's request to stop: its stage may have something to keep."""
    folder = os.environ.get(_TALK)
    if folder is None:
        return
    # Ctrl-C: while a stage works, DVC keeps it from the run, so that the stage has to take
    # it for both.
    signal.signal(
        signal.SIGINT, lambda _signal, _frame: signal.raise_signal(signal.SIGTERM)
    )
    follow_the_run(Path(folder))


def _tell_run(topic: str, text: str) -> bool:
    """Write a file for the run; False where no run asks for it.

    DVC passes no exit code and no message on: a run that wants them names a folder for them.
    """
    folder = os.environ.get(_TALK)
    if not folder:
        return False
    write_text(Path(folder) / topic, text)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
