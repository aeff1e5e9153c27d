"""Run one stage in the current folder: `python -m pipelines STAGE`.

Each stage's module holds its function, from values to a value, and `main`, which reads its files and writes its outs.
What `main` prints is kept beside the outs as `summary.txt`, so that a stage that DVC took from its cache can still say it.
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

STAGES = (
    "base_model",
    "collect",
    "split",
    "validate",
    "bias",
    "admit",
    "fine_tune",
    "prompt_baselines",
    "generate",
    "score",
    "screen",
)


def main(arguments: list[str]) -> int:
    """Run the stage and give its exit code: 0 passed, 1 error, 2 usage, 3 rejected, 4 undecided, 75 told to stop."""
    if len(arguments) != 1 or arguments[0] not in STAGES:
        sys.stderr.write(f"usage: python -m pipelines {{{','.join(STAGES)}}}\n")
        return 2
    end_with_the_run()
    _talk("started", "")
    try:
        with on_sigterm(lambda: _end_at_once(arguments[0])):
            _stop_with_the_run()
            return _run(arguments[0])
    except AssayError as error:
        return _told(error)
    except OSError as error:
        return _told(_out_of_disk(arguments[0], error))


def _run(name: str) -> int:
    stage = importlib.import_module(f"pipelines.stages.{name}")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = int(stage.main())
    out = Path("data") / name
    if out.is_dir():
        write_text(out / "summary.txt", said.getvalue())
    if "ASSAY_STAGE_TALK" not in os.environ:
        sys.stdout.write(said.getvalue())
    return code


def _told(error: AssayError) -> int:
    """Say what ended the stage, where it is heard; give the exit code."""
    is_heard = False
    with contextlib.suppress(OSError):  # the disk may be full there too
        is_heard = _talk("error", f"{type(error).__name__}\n{error}")
    if not is_heard:
        sys.stderr.write(f"{error}\n")
    return error.exit_code


def _out_of_disk(name: str, error: OSError) -> AssayError:
    """What to say of a file that cannot be written or read; anything else that the system refused is raised as it is."""
    if error.errno not in {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EIO,
    }:
        raise error
    return NotEnoughResources(
        f"Stage {name} cannot use {error.filename or 'a file'} ({os.strerror(error.errno)}). "
        "Look at the disk, then run the same command again."
    )


def _end_at_once(name: str) -> None:
    """SIGTERM in a stage that has nothing to keep. No exception: a library that catches any would make a false result of it."""
    os._exit(
        _told(
            RunStopped(
                f"Stage {name} was told to stop. What is done is kept: run the same command again."
            )
        )
    )


def _stop_with_the_run() -> None:
    """A run that is told to stop tells its stage, which may have something to keep."""
    if "ASSAY_STAGE_TALK" in os.environ:
        # Ctrl-C: while a stage goes on DVC keeps it from the run, so that the stage has to take it for both.
        signal.signal(
            signal.SIGINT, lambda _signal, _frame: signal.raise_signal(signal.SIGTERM)
        )
        follow_the_run(Path(os.environ["ASSAY_STAGE_TALK"]))


def _talk(what: str, text: str) -> bool:
    """DVC passes no exit code and no message on: a run that wants them names a folder for them."""
    folder = os.environ.get("ASSAY_STAGE_TALK")
    if folder:
        write_text(Path(folder) / what, text)
    return bool(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
