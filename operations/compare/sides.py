"""What is compared: a registered version, a run of MLflow's, or a folder of evidence."""

import re
from dataclasses import dataclass
from pathlib import Path

from core.environment import set_library_environment
from core.errors import ParameterError
from core.project import find_project
from core.settings import Settings
from operations.model_address import parse_model_address
from registry.report.scored import SCORECARD, Scored

_RUN = re.compile("[0-9a-f]{32}")
_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class Side:
    """One of the two, and how sentences call it."""

    name: str
    scored: Scored


def find_side(text: str) -> Side:
    """Find what `models:/NAME/N`, `models:/NAME@ALIAS`, a run's id or a folder names.

    `ParameterError` where it names nothing that was scored, `DamagedFile` where its evidence is not
    what its scorecard names; `RegistryError` where MLflow does not hold it.
    """
    if text.startswith("models:/"):
        return _side_of_version(text)
    # A run first: a folder that happens to be called like one can be given as ./NAME.
    if _RUN.fullmatch(text):
        return _side_of_run(text)
    return _side(Path(text).name, Path(text))


def _side_of_version(text: str) -> Side:
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from flows.run.attempt import fetch_package_of
    from registry.mlflow.home_store import open_store

    address = parse_model_address(text)
    home = Settings().home
    project = find_project(home)
    store = open_store(project)
    version = store.get_version(address.name, address.version)
    # Every byte of it is compared with what was registered.
    package = fetch_package_of(store, version, project.home)
    number = version.version
    name = f"version {number} of {version.name}"
    return _side(name, package)


def _side_of_run(run_id: str) -> Side:
    set_library_environment()
    from registry.mlflow.home_store import open_store

    home = Settings().home
    project = find_project(home)
    store = open_store(project)
    copies = project.home / "evidence"
    folder = copies / run_id
    # Fetched anew: what lies there may be of a run that went on since.
    evidence = store.runs.fetch_evidence(run_id, folder)
    return _side(f"run {run_id[:12]}", evidence)


def _side(name: str, folder: Path) -> Side:
    # A run that ended at `admit` has reports, and nothing that answered.
    if not (folder / SCORECARD).is_file():
        shown = ascii(name)[:_LONGEST_SHOWN]
        raise ParameterError(
            f"{shown} names nothing that was scored. Give models:/NAME/N, the id of a run that "
            "reached `screen`, or a folder with its artifacts."
        )
    scored = Scored(folder, name, called=name)
    scored.check()
    return Side(name, scored)
