"""Whether the files that say who may do what can be read: for `assay doctor` and `status`."""

from collections.abc import Callable, Iterator
from pathlib import Path

from core.errors import ParameterError
from core.project import Project
from operations.checks import Check
from registry.release import environments, people

READERS: tuple[tuple[str, Callable[[Path], object]], ...] = (
    (people.FILE, people.read_people),
    (environments.FILE, environments.read_environments),
)
"""Each file, and what reads it. One that is not there is no fault."""


def project_files(project: Project) -> Iterator[Check]:
    """Check each of the files in the project's root."""
    for name, read in READERS:
        fault = _fault_of(project.root, read)
        # Without the file its defaults count: nothing is wrong then.
        text = fault or "can be read, or is not there"
        yield Check(
            name=name,
            is_ok=fault is None,
            text=text,
        )


def faults_of_files(project: Project) -> tuple[str, ...]:
    """A sentence for each file that cannot be taken at its word."""
    # `assay status` names what is wrong alone, and `assay doctor` what it looked at, too.
    findings = project_files(project)
    return tuple(each.text for each in findings if not each.is_ok)


def _fault_of(root: Path, read: Callable[[Path], object]) -> str | None:
    try:
        read(root)
    # Every way in which a file can be unreadable is said by its reader in one sentence.
    except ParameterError as error:
        return str(error)
    return None
