"""A spare engine process: it has imported everything, and waits to be told what to load.

    python -m serving --spare --owned ─▶ imports ─▶ WARM ─▶ a line on stdin ─▶ BEGINS ─▶ loads

Until that line it holds no token and knows of no package. It ends at once with the endpoint that
started it.
"""

import ctypes
import importlib
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from core.errors import ServingError
from core.files import sha256_of
from core.log import say
from core.value import Value
from serving.garbage import without_search
from serving.owner import Ownership

FLAG = "--spare"
WARM = "Spare: everything is imported."
"""What it says on stdout once it can be told what to load."""
BEGINS = "Spare: begins to load."
"""What it says on stdout once it was told."""

# What a process imports until its engine answers: what takes long, and what that does not import.
# No family of base models is named that another one would have to wait for: they share their code.
_MODULES = (
    "uvicorn",
    "serving.app",
    "serving.listen",
    "pipelines.engines.transformers",
    "pipelines.engines.runners",
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "peft",
)
_STDIN = 0
_LONGEST_LINE = 1_048_576
# Of prctl(2): the signal with which the kernel ends this process when its parent ends.
_PR_SET_PDEATHSIG = 1
_NO_SIGNAL = 0


class Instructions(Value):
    """What an endpoint tells its spare process, in one line on its stdin."""

    # Of `python -m serving`, as a process that is started for this would get them.
    arguments: tuple[str, ...]
    ownership: Ownership


class _FileFacts(NamedTuple):
    """What changes where a file of code is written or exchanged."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class _FileState(NamedTuple):
    """A file of code, as it was imported."""

    facts: _FileFacts
    sha256: str

    def holds_of(self, path: Path) -> bool:
        """Whether the file still holds the same bytes; they are read only where its facts differ.

        An installer that links files (uv) changes `changed_ns` of every environment's files
        whenever it makes or deletes one of them.
        """
        try:
            return _facts_of(path) == self.facts or sha256_of(path) == self.sha256
        except OSError:
            return False


def wait_for_instructions() -> Instructions:
    """Import everything, then wait until the endpoint says what to load.

    `ServingError` where that is no instruction, or where code that this process has imported was
    changed meanwhile: another process would load with the new code.
    """
    _end_with_parent(signal.SIGKILL)
    # From the beginning: the endpoint may end while this process still imports.
    lines: queue.Queue[bytes] = queue.Queue()
    reading = threading.Thread(
        target=_read_line,
        args=(lines,),
        daemon=True,
    )
    reading.start()
    with without_search():
        for name in _MODULES:
            importlib.import_module(name)
    imported = _files_of_code()
    say(WARM, sys.stdout)
    line = lines.get()
    _check_code(imported)
    instructions = _parse(line)
    # An engine outlives its endpoint, for as long as its owner's grace says.
    _end_with_parent(_NO_SIGNAL)
    say(BEGINS, sys.stdout)
    return instructions


def _read_line(lines: "queue.Queue[bytes]") -> None:
    """Hand on the first line of stdin; end the process where stdin ends before."""
    line = b""
    # Without Python's buffer, whose lock would be held while this thread waits.
    while not line.endswith(b"\n"):
        chunk = os.read(_STDIN, _LONGEST_LINE)
        has_ended = chunk == b""
        length = len(line)
        is_too_long = length > _LONGEST_LINE
        if has_ended or is_too_long:
            os._exit(1)
        line += chunk
    lines.put(line)


def _parse(line: bytes) -> Instructions:
    try:
        return Instructions.model_validate_json(line)
    except ValueError:
        # Without its cause: pydantic would print the line, and the token with it.
        raise ServingError(
            f"{FLAG} needs an endpoint that writes what to load to stdin. Leave it out."
        ) from None


def _end_with_parent(number: int) -> None:
    # At once, even where this process is stopped or busy: the thread that reads may be neither.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _files_of_code() -> dict[Path, _FileState | None]:
    """Every file that a module was imported from, and how it is now; None where it is not."""
    modules = tuple(sys.modules.values())
    # By `vars`: some modules answer any other question with an import.
    files = [vars(module).get("__file__") for module in modules]
    states = {}
    for file in files:
        # A namespace and what is built in have none.
        if isinstance(file, str):
            path = Path(file)
            states[path] = _state_of(path)
    return states


def _state_of(path: Path) -> _FileState | None:
    try:
        return _FileState(_facts_of(path), sha256_of(path))
    except OSError:
        return None


def _facts_of(path: Path) -> _FileFacts:
    facts = path.stat()
    return _FileFacts(
        facts.st_ino,
        facts.st_size,
        facts.st_mtime_ns,
        facts.st_ctime_ns,
    )


def _check_code(imported: dict[Path, _FileState | None]) -> None:
    """Return only if every file is as it was when it was imported."""
    for path, state in imported.items():
        # A module out of an archive has no file of its own, before and after.
        is_unchanged = not path.exists() if state is None else state.holds_of(path)
        if not is_unchanged:
            raise ServingError(
                f"{path} changed since this process imported it. Start another process."
            )
