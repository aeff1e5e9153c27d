"""Checkpoints of a training: which of them are whole, and from which one it goes on.

The digest of every file of a checkpoint is written last, into the checkpoint. One without digests, or
with any other file, was cut short or changed. Digests find damage; they are no signature.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from core.errors import DamagedFile
from core.files import folder_digests
from core.value import Value

DIGESTS = "digests.json"
_NAME = re.compile(r"checkpoint-(\d+)", re.ASCII)


class _Sealed(Value):
    """What `digests.json` says: whose checkpoint it is, and what its files hash to."""

    training: str
    files: dict[str, str] = Field(min_length=1)


@dataclass(frozen=True)
class Refused:
    """A checkpoint that training does not go on from."""

    name: str
    why: str

    def __str__(self) -> str:
        """One clause of a sentence."""
        return f"{self.name} is not used ({self.why})"


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that training can go on from, None for the start, and those that it cannot."""

    folder: Path | None
    refused: tuple[Refused, ...]

    @property
    def step(self) -> int:
        """The step that training goes on from."""
        return 0 if self.folder is None else step_of(self.folder)

    def __str__(self) -> str:
        """The line for people: what is refused and why, and from where training goes on."""
        place = "its start" if self.folder is None else self.folder.name
        return f"{'; '.join(map(str, self.refused))}. Training goes on from {place}."


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(folder.name.removeprefix("checkpoint-"))


def seal(folder: Path, training: str) -> None:
    """Write the digests of a checkpoint that is complete. `training` names what is trained."""
    (folder / DIGESTS).unlink(missing_ok=True)  # of an earlier checkpoint of that step
    _Sealed(training=training, files=folder_digests(folder)).write(folder / DIGESTS)


def fault_of(folder: Path, training: str) -> str | None:
    """Why a checkpoint is not whole; None where each of its files is what was written."""
    if folder.is_symlink() or not folder.is_dir():
        return "it is no folder"
    if not (folder / DIGESTS).is_file():
        return "it was not written to its end"
    try:
        sealed = _Sealed.read(folder / DIGESTS)
        files = folder_digests(folder)
    except (DamagedFile, OSError) as error:
        return _one_line(error)
    del files[DIGESTS]
    if sealed.training != training:
        return "it belongs to another training"
    changed = sorted(
        name
        for name in {*files, *sealed.files}
        if files.get(name) != sealed.files.get(name)
    )
    return f"{changed[0]} is not what was written" if changed else None


def newest_whole(scratch: Path, training: str) -> Found:
    """Find where training goes on. Checkpoints that cannot be used are removed, so that none is found again.

    Training ends with the weights of its best look. A checkpoint is usable with that of its best look alone.
    """
    folders = sorted(_checkpoints(scratch), key=step_of, reverse=True)
    faults = {folder.name: fault_of(folder, training) for folder in folders}
    faults |= {
        folder.name: _fault_of_best(folder, faults)
        for folder in folders
        if faults[folder.name] is None
    }
    for folder in folders:
        if faults[folder.name] is not None:
            _remove(folder)
    refused = tuple(
        Refused(name, why) for name, why in faults.items() if why is not None
    )
    return Found(
        next((folder for folder in folders if faults[folder.name] is None), None),
        refused,
    )


def unwritten(scratch: Path) -> Path | None:
    """A checkpoint that was not written to its end: those of earlier trainings are removed when one begins."""
    return next(
        (
            folder
            for folder in _checkpoints(scratch)
            if not (folder / DIGESTS).is_file()
        ),
        None,
    )


def best_of(scratch: Path, best_step: int | None) -> Path | None:
    """Where the weights of the best look are; None before the first look."""
    return scratch / f"checkpoint-{best_step}" if best_step else None


def _checkpoints(scratch: Path) -> list[Path]:
    return [path for path in scratch.glob("checkpoint-*") if _NAME.fullmatch(path.name)]


def _fault_of_best(folder: Path, faults: dict[str, str | None]) -> str | None:
    """Why the checkpoint of the best look is no good. `faults` are those of each by itself."""
    try:
        best = best_of(folder.parent, _state(folder)["best_global_step"])
    except (OSError, ValueError, KeyError) as error:
        return _one_line(error)
    if best is None or best == folder:
        return None
    why = faults.get(best.name, "it is missing")
    return None if why is None else f"it needs {best.name}: {why}"


def _state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(
        (folder / "trainer_state.json").read_text(encoding="utf-8")
    )
    return state


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
