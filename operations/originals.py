"""Where the files of a project lie that Assay brings, whichever way it is installed."""

from pathlib import Path

from pipelines.stage_code import INSTALLED

# pyproject.toml puts them there when a wheel is built.
_COPIES = Path(__file__).parent / "init" / "files" / "repository"


def originals() -> Path:
    """The folder with a project's files as Assay brings them, laid out as in a project.

    The wheel holds copies; a clone that is installed as editable is such a project itself.
    """
    return _COPIES if _COPIES.is_dir() else INSTALLED
