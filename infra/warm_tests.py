"""Run pytest many times and import its libraries once: `python infra/warm_tests.py`.

It runs where the tests are. Each line of its input is a JSON object with `arguments`, those of
pytest, and `seconds`, how long they may take. Each line of its output is one with `code`, pytest's
exit code, null where they took longer, and `imported`, how many modules the next run finds there.

Each run is a fork of this process, so that none sees what another did. What a run that passed has
imported from libraries is imported here afterwards, and the next run finds it there. The
repository's own modules never are: every run imports them anew.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

_LIBRARIES = {
    Path(sysconfig.get_path(kind))
    for kind in ("stdlib", "platstdlib", "purelib", "platlib")
}
"""Folders of Python and of the packages that are installed."""


def main() -> None:
    """Answer each line of the input until it ends."""
    sys.path[0] = str(Path.cwd())
    _set_environment()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    for line in sys.stdin:
        asked = json.loads(line)
        code, imported = run(asked["arguments"], asked["seconds"])
        answer = json.dumps({"code": code, "imported": imported})
        answers.write(f"{answer}\n")
        answers.flush()


def run(arguments: list[str], seconds: float) -> tuple[int | None, int]:
    """Give pytest's exit code, and how many modules were imported here for the next run.

    The code is negative where a signal ended pytest, None where it took longer.
    """
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as imported:
        child = os.fork()
        if child == 0:
            _be_pytest(arguments, Path(imported.name))
        code = _wait(child, seconds)
        names = imported.read().split() if code == 0 else []
    return code, _import_again(names)


def _set_environment() -> None:
    """Set what libraries read when they are imported, as the tests set it."""
    from core.environment import set_library_environment
    from tests.support.environment import isolate

    isolate(os.environ)
    set_library_environment()
    for name, module in list(sys.modules.items()):
        if not _is_of_library(name, module):
            del sys.modules[name]


def _be_pytest(arguments: list[str], imported: Path) -> None:
    # A group of its own: whatever the tests start ends with them.
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    code = 1
    try:
        import pytest

        # Modules that are there before pytest cannot be rewritten, which warns.
        code = int(pytest.main([*arguments, "--assert=plain"]))
        imported.write_text("\n".join(_libraries()), encoding="utf-8")
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> int | None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _libraries() -> Iterator[str]:
    """Names of the libraries' modules in the order in which they were imported."""
    for name, module in list(sys.modules.items()):
        if _is_of_library(name, module):
            yield name


def _is_of_library(name: str, module: ModuleType | None) -> bool:
    if name == "__main__":
        return True
    file = getattr(module, "__file__", None)
    # Without a file it is a part of Python.
    if file is None:
        return getattr(module, "__path__", None) is None
    return any(Path(file).is_relative_to(folder) for folder in _LIBRARIES)


def _import_again(names: list[str]) -> int:
    before = len(sys.modules)
    for name in names:
        if name in sys.modules:
            continue
        # Some are made while a library runs, and cannot be imported by name.
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    # A fork holds the locks of threads that it does not have.
    if threading.active_count() > 1:
        sys.exit("warm_tests: a library started a thread when it was imported.")
    return len(sys.modules) - before


if __name__ == "__main__":
    main()
