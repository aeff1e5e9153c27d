"""Checkpoints of a training: which of them are whole, and from which one it resumes.

The digest of every file of a checkpoint is written last, into the checkpoint. One without
digests, or with any other file, was cut short or changed. Digests find damage; they are no
signature.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from core.errors import DamagedFile, first_line
from core.files import folder_digests
from core.value import Value

DIGESTS = "digests.json"
_NAME = re.compile(r"checkpoint-(\d+)", re.ASCII)


class _CheckpointDigests(Value):
    """What `digests.json` holds: whose checkpoint it is, and what its files hash to."""

    training: str
    files: dict[str, str] = Field(min_length=1)


@dataclass(frozen=True)
class RefusedCheckpoint:
    """A checkpoint that training does not resume from."""

    name: str
    reason: str

    def __str__(self) -> str:
        """One clause of a sentence, as the runbook quotes it."""
        return f"{self.name} is not used ({self.reason})"


@dataclass(frozen=True)
class ResumePoint:
    """The newest checkpoint that training can resume from, and the refused ones.

    `folder` is None for the start of training.
    """

    folder: Path | None
    refused: tuple[RefusedCheckpoint, ...]

    @property
    def step(self) -> int:
        """The step that training resumes from."""
        if self.folder is None:
            return 0
        return read_step(self.folder)

    def __str__(self) -> str:
        """The line for people: what is refused and why, and from where training resumes."""
        clauses = [str(checkpoint) for checkpoint in self.refused]
        place = "its start"
        if self.folder is not None:
            place = self.folder.name
        refused = "; ".join(clauses)
        return f"{refused}. Training continues from {place}."


def read_step(folder: Path) -> int:
    """Return the step after which a checkpoint was written.

    >>> read_step(Path("checkpoint-40"))
    40
    """
    name = folder.name
    number = name.removeprefix("checkpoint-")
    return int(number)


def seal(folder: Path, training: str) -> None:
    """Write the digests of a checkpoint that is complete. `training` names what is trained."""
    path = folder / DIGESTS
    # An earlier checkpoint of that step may have left its own.
    path.unlink(missing_ok=True)
    files = folder_digests(folder)
    digests = _CheckpointDigests(training=training, files=files)
    digests.write(path)


def find_fault(folder: Path, training: str) -> str | None:
    """Say why a checkpoint is not whole; None where each of its files is what was written."""
    # A link could lead to files that change while training reads them.
    if folder.is_symlink() or not folder.is_dir():
        return "it is no folder"
    if not (folder / DIGESTS).is_file():
        return "it was not written to its end"
    try:
        recorded = _CheckpointDigests.read(folder / DIGESTS)
        files = folder_digests(folder)
    except (DamagedFile, OSError) as error:
        return first_line(error)
    del files[DIGESTS]
    if recorded.training != training:
        return "it belongs to another training"
    # Names from both sides: a file too many is a fault as much as a missing one.
    names = sorted({*files, *recorded.files})
    for name in names:
        if files.get(name) != recorded.files.get(name):
            return f"{name} is not what was written"
    return None


def find_resume_point(scratch: Path, training: str) -> ResumePoint:
    """Find where training resumes, and remove the checkpoints that cannot be used.

    Training ends with the weights of its best look at the dev rows. A checkpoint is usable
    only together with that of its best look.
    """
    folders = sorted(_list_checkpoints(scratch), key=read_step, reverse=True)
    faults = {folder.name: find_fault(folder, training) for folder in folders}
    # In two rounds: the best look of one is judged by what the first round found.
    faults |= {
        folder.name: _find_fault_of_best(folder, faults)
        for folder in folders
        if faults[folder.name] is None
    }
    usable = [folder for folder in folders if faults[folder.name] is None]
    for folder in folders:
        if folder not in usable:
            # Removed, so that no later run finds it again.
            _remove(folder)
    refused = tuple(
        RefusedCheckpoint(name, reason)
        for name, reason in faults.items()
        if reason is not None
    )
    newest = usable[0] if usable else None
    return ResumePoint(newest, refused)


def find_unfinished(scratch: Path) -> Path | None:
    """Return a checkpoint that was not written to its end, or None.

    Those of earlier trainings were removed when this one began.
    """
    for folder in _list_checkpoints(scratch):
        if not (folder / DIGESTS).is_file():
            return folder
    return None


def find_best(scratch: Path, best_step: int | None) -> Path | None:
    """Return the folder with the weights of the best look; None before the first look."""
    if not best_step:
        return None
    return scratch / f"checkpoint-{best_step}"


def _list_checkpoints(scratch: Path) -> list[Path]:
    # The glob also matches names that no trainer writes, such as checkpoint-4.bak.
    paths = list(scratch.glob("checkpoint-*"))
    return [path for path in paths if _NAME.fullmatch(path.name)]


def _find_fault_of_best(folder: Path, faults: dict[str, str | None]) -> str | None:
    """Say why the checkpoint of the best look cannot be used; `faults` are by name."""
    try:
        best_step = _read_trainer_state(folder)["best_global_step"]
    except (OSError, ValueError, KeyError) as error:
        return first_line(error)
    best = find_best(folder.parent, best_step)
    if best is None or best == folder:
        return None
    reason = faults.get(best.name, "it is missing")
    return None if reason is None else f"it needs {best.name}: {reason}"


def _read_trainer_state(folder: Path) -> dict[str, Any]:
    path = folder / "trainer_state.json"
    text = path.read_text(encoding="utf-8")
    state: dict[str, Any] = json.loads(text)
    return state


def _remove(path: Path) -> None:
    # A link is removed itself: what it points at belongs to somebody else.
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)
