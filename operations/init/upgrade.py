"""`assay upgrade`: bring the files of a project to what the installed Assay would write.

A file that nobody edited since Assay wrote it is replaced. One that was edited stays, and its
difference is shown. `params.yaml` gets the parameters that it lacks.
"""

import difflib
import tomllib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import yaml

from core.errors import WorkspaceError
from core.files import digest_of_text, write_text
from core.project import FILE, Project
from core.value import Value
from operations.init.project_files import (
    Choice,
    marker_of,
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
    for change in upgrade.changes:
        if change.kind != "edited":
            path = project.root / change.name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, change.text)
            written[change.name] = digest_of_text(change.text)
    marker = project.root / FILE
    text = marker.read_text(encoding="utf-8")
    write_text(marker, marker_of(text, upgrade.now, written))


def _read_marker(root: Path) -> tuple[str, dict[str, str]]:
    """Whose files these are, and their digests as they were written."""
    document = tomllib.loads((root / FILE).read_text(encoding="utf-8"))
    return str(document["assay"].get("version", "")), dict(document.get("files", {}))


def _compare(
    root: Path, name: str, text: str, written: str | None
) -> tuple[FileChange, ...]:
    path = root / name
    if not path.is_file():
        return (_change(name, "new", "", text),)
    current = path.read_text(encoding="utf-8")
    if current == text:
        return ()
    is_untouched = digest_of_text(current) == written
    return (_change(name, "replaced" if is_untouched else "edited", current, text),)


def _compare_params(root: Path, fresh: str) -> tuple[FileChange, ...]:
    current = (root / _PARAMS).read_text(encoding="utf-8")
    extended = with_missing_parameters(current, _document(fresh))
    if extended == current:
        return ()
    return (_change(_PARAMS, "extended", current, extended),)


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
