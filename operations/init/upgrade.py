"""`assay upgrade`: bring the files of a project to what the installed Assay would write.

A file that nobody edited since Assay wrote it is replaced. One that was edited stays, and its
difference is shown. `params.yaml` gets the parameters that it lacks.
"""

import difflib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import yaml
from packaging.version import InvalidVersion, Version

from core.errors import WorkspaceError
from core.files import digest_of_text, write_text
from core.project import FILE, Project, read_marker
from core.value import Value
from operations.init.project_files import (
    Choice,
    marker_of,
    missing_parameters,
    project_files,
    with_missing_parameters,
)
from pipelines.stage_code import INSTALLED

_PARAMS = "params.yaml"
_NOT_COMPARED = (FILE, _PARAMS)


class FileChange(Value):
    """What an upgrade makes of one file."""

    name: str
    kind: Literal["new", "replaced", "extended", "edited"]
    """`edited`: by the person, so that it stays as it is."""
    diff: str
    text: str


class Upgrade(Value):
    """What an upgrade of a project's files amounts to."""

    before: str
    now: str
    changes: tuple[FileChange, ...]

    @property
    def is_needed(self) -> bool:
        """Whether any file would be written, the marker's version among them."""
        return self.before != self.now or any(
            each.kind != "edited" for each in self.changes
        )


def plan_upgrade(project: Project) -> Upgrade:
    """Compare the project's files with the installed Assay's; nothing is written.

    `WorkspaceError` in a clone of Assay itself, whose files git brings.
    """
    if project.root.resolve() == INSTALLED.resolve():
        raise WorkspaceError(
            f"{project.root} is a clone of Assay itself. `git pull` upgrades it."
        )
    before, written = _read_marker(project.root)
    _check_is_not_newer(project.root, before)
    fresh = project_files(Choice(name=project.root.name, folder="."))
    changes = [
        change
        for name, text in fresh.items()
        if name not in _NOT_COMPARED
        for change in _compare(project.root, name, text, written.get(name))
    ]
    changes += _compare_params(project.root, fresh[_PARAMS])
    return Upgrade(before=before, now=version("assay"), changes=tuple(changes))


def apply_upgrade(project: Project, upgrade: Upgrade) -> None:
    """Write what the upgrade changes, the marker last."""
    _, written = _read_marker(project.root)
    # Made first: where it cannot be, nothing is written.
    marker_of(_read(project.root / FILE), upgrade.now, written)
    for change in upgrade.changes:
        if change.kind != "edited":
            _write(project.root / change.name, change.text)
            written[change.name] = digest_of_text(change.text)
    # What was taken over by hand, or before a kill, is as Assay wrote it from now on.
    for name, text in project_files(Choice(name=project.root.name, folder=".")).items():
        if name not in _NOT_COMPARED and _read(project.root / name) == text:
            written[name] = digest_of_text(text)
    marker = project.root / FILE
    write_text(marker, marker_of(_read(marker), upgrade.now, written))


def _read_marker(root: Path) -> tuple[str, dict[str, str]]:
    """Whose files these are, and their digests as they were written."""
    document = read_marker(root)
    written = document.get("files", {})
    if "assay" not in document or not isinstance(written, dict):
        raise WorkspaceError(
            f"{root / FILE} has no tables [assay] and [files], as `assay init` wrote them. "
            "Bring it back from git."
        )
    return str(document["assay"].get("version", "")), dict(written)


def _check_is_not_newer(root: Path, before: str) -> None:
    """`WorkspaceError` where a newer Assay wrote the files: its parameters are not known here."""
    try:
        is_newer = Version(before) > Version(version("assay"))
    except InvalidVersion:
        return
    if is_newer:
        raise WorkspaceError(
            f"The files of {root} are of Assay {before}, and {version('assay')} is installed. "
            "Install that one; older files come back from git."
        )


def _read(path: Path) -> str:
    """The text of a file as it is compared: line ends and bytes that are no text do not end it."""
    return path.read_text(encoding="utf-8", errors="replace")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file that has the line ends of Windows keeps them: it is in git with them, perhaps.
    has_returns = path.is_file() and b"\r\n" in path.read_bytes()
    write_text(path, text.replace("\n", "\r\n") if has_returns else text)


def _compare(
    root: Path, name: str, text: str, written: str | None
) -> tuple[FileChange, ...]:
    path = root / name
    if not os.path.lexists(path):
        return (_change(name, "new", "", text),)
    current = _read(path)
    if current == text:
        return ()
    is_untouched = digest_of_text(current) == written
    return (_change(name, "replaced" if is_untouched else "edited", current, text),)


def _compare_params(root: Path, fresh: str) -> tuple[FileChange, ...]:
    current = _read(root / _PARAMS)
    document = _document(fresh)
    missing = missing_parameters(current, document)
    if not missing:
        return ()
    extended = with_missing_parameters(current, document)
    if _says(extended, current, missing):
        return (_change(_PARAMS, "extended", current, extended),)
    # Of another layout than ours, such as `lora: {r: 4}`: a person adds these.
    lines = [f"# lacks {name}: {json.dumps(value)}" for name, value in missing.items()]
    present = current.rstrip("\n")
    hints = "\n".join([present, *lines, ""])
    return (_change(_PARAMS, "edited", current, hints),)


def _says(extended: str, current: str, missing: Mapping[str, object]) -> bool:
    """Whether the extended text says what it said before and what it lacked, and nothing else."""
    wanted = yaml.safe_load(current) or {}
    for dotted, value in missing.items():
        section, name = dotted.split(".")
        wanted[section] = {**(wanted.get(section) or {}), name: value}
    try:
        return bool(yaml.safe_load(extended) == wanted)
    except yaml.YAMLError:
        return False


def _document(text: str) -> Mapping[str, Mapping[str, object]]:
    document: Mapping[str, Mapping[str, object]] = yaml.safe_load(text)
    return document


def _change(
    name: str,
    kind: Literal["new", "replaced", "extended", "edited"],
    current: str,
    text: str,
) -> FileChange:
    lines = difflib.unified_diff(
        current.splitlines(),
        text.splitlines(),
        f"{name} (yours)",
        f"{name} (of this Assay)",
        lineterm="",
    )
    return FileChange(name=name, kind=kind, diff="\n".join(lines), text=text)
