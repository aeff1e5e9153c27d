"""Run one stage in the current folder: `python -m pipelines STAGE`.

Each stage's module holds its function, from values to a value, and `main`, which reads its files and writes its outs.
What `main` prints is kept beside the outs as `summary.txt`, so that a stage that DVC took from its cache can still say it.
"""

import contextlib
import importlib
import io
import os
import sys
import threading
import time
from pathlib import Path

from pipelines.errors import AssayError
from pipelines.files import write_text

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
    """Run the stage and give its exit code: 0 passed, 1 error, 2 usage, 3 rejected, 4 undecided."""
    if len(arguments) != 1 or arguments[0] not in STAGES:
        sys.stderr.write(f"usage: python -m pipelines {{{','.join(STAGES)}}}\n")
        return 2
    end_with_the_run()
    _talk("started", "")
    try:
        return _run(arguments[0])
    except AssayError as error:
        if not _talk("error", f"{type(error).__name__}\n{error}"):
            sys.stderr.write(f"{error}\n")
        return 1


def _run(name: str) -> int:
    stage = importlib.import_module(f"pipelines.{name}")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = int(stage.main())
    out = Path("data") / name
    if out.is_dir():
        write_text(out / "summary.txt", said.getvalue())
    if "ASSAY_STAGE_TALK" not in os.environ:
        sys.stdout.write(said.getvalue())
    return code


def _talk(what: str, text: str) -> bool:
    """DVC passes no exit code and no message on: a run that wants them names a folder for them."""
    folder = os.environ.get("ASSAY_STAGE_TALK")
    if folder:
        write_text(Path(folder) / what, text)
    return bool(folder)


def end_with_the_run() -> None:
    """Stop when the run that started this process is gone, so that a killed run leaves no training and no endpoint behind."""
    owner = os.environ.get("ASSAY_RUN_PID")
    if owner:
        threading.Thread(target=watch, args=(int(owner),), daemon=True).start()


def watch(owner: int) -> None:
    """End this process when the process `owner` is gone."""
    import psutil

    try:
        process = psutil.Process(owner)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
    except psutil.NoSuchProcess:
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
