"""What the admin of a team's MLflow sets for admission: environment variables, and one file.

`governed-models.yaml`, beside the `people.yaml` that says who may do what:

```yaml
models: [support, triage]
```
"""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import AssayError, ParameterError, RegistryError
from core.value import Value
from registry.mlflow.accounts import SERVICE
from registry.mlflow.desk import Desk
from registry.mlflow.guarded_stores import normalize
from registry.release.people import FILE, Purpose, read_people, read_strictly

MODELS_FILE = "governed-models.yaml"
_PAGE = "docs/how-to/add-to-your-mlflow.md"
_PURPOSE = Purpose(
    "which models are governed",
    "MLflow does not start",
    "models",
)
_TRUE = frozenset({"true", "1"})


class TeamSettings(BaseSettings):
    """Environment variables `ASSAY_MLFLOW_…` of the process that is MLflow's server."""

    model_config = SettingsConfigDict(
        env_prefix="ASSAY_MLFLOW_", extra="ignore", env_ignore_empty=True
    )

    inner_app: str = "basic-auth"
    """MLflow's app that says who somebody is: a name of the entry points `mlflow.app`."""

    project: Path | None = None
    """The folder with `people.yaml` and `governed-models.yaml`."""

    service_user: str = SERVICE
    """The user of MLflow's as whom worker and controller act."""


class _Listed(Value):
    """The file of governed models."""

    models: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(
        min_length=1
    )


@dataclass(frozen=True)
class GovernedModels:
    """The models whose releases Assay admits, as names are compared."""

    names: frozenset[str]

    def has(self, name: str) -> bool:
        """Whether a model of that name is one of them; a look-alike is one, too."""
        return normalize(name) in self.names


@dataclass(frozen=True)
class Team:
    """One team's server: where wishes go, whose role counts, and what is governed."""

    desk: Desk
    governed: GovernedModels
    service: str
    inner_app: str


@cache
def read_team() -> Team:
    """The settings of this process; `RegistryError`, one sentence, where they do not do.

    Read once: another list counts from the server's next start.
    """
    settings = TeamSettings()
    home = os.environ.get("ASSAY_HOME", "")
    if not Path(home).is_absolute():
        raise _unset("ASSAY_HOME", "the folder with the keys of admission")
    if settings.project is None or not settings.project.is_absolute():
        raise _unset("ASSAY_MLFLOW_PROJECT", f"the folder with {FILE}")
    _check_people(settings.project)
    _check_server()
    listed = _read_models(settings.project / MODELS_FILE)
    governed = GovernedModels(frozenset(map(normalize, listed.models)))
    return Team(
        desk=Desk(Path(home), settings.project),
        governed=governed,
        service=settings.service_user,
        inner_app=settings.inner_app,
    )


def _check_people(project: Path) -> None:
    # Without a file MLflow's users `manager` and `admin` would be release managers.
    if not (project / FILE).is_file():
        raise RegistryError(
            f"There is no {project / FILE}, so nobody's role is known. Write who may release "
            f"what there; {_PAGE} has an example."
        )
    try:
        read_people(project)
    except AssayError as error:
        raise RegistryError(str(error)) from error


def _check_server() -> None:
    """`RegistryError` for what would lead past the rules."""
    # Jobs are processes of their own, which act for nobody and open the stores themselves.
    if os.environ.get("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true").lower() in _TRUE:
        raise RegistryError(
            "MLflow's jobs run beside the rules of admission. "
            "Set MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false."
        )
    # The ledger knows a model by its name alone, and each workspace has its own names.
    if os.environ.get("MLFLOW_ENABLE_WORKSPACES", "").lower() in _TRUE:
        raise RegistryError(
            "Admission does not know MLflow's workspaces. "
            "Start the server without --enable-workspaces."
        )


def _read_models(path: Path) -> _Listed:
    try:
        # As strictly as the file beside it: a list that was cut, or a later one of two, would
        # leave models to everybody without a word.
        listed = read_strictly(
            path,
            _Listed,
            _PURPOSE,
        )
    except ParameterError as error:
        raise RegistryError(str(error)) from error
    if listed is not None:
        return listed
    raise RegistryError(
        f"{path} does not say which models are governed: it is not there. "
        "Write `models: [NAME]` into it."
    )


def _unset(variable: str, meaning: str) -> RegistryError:
    return RegistryError(
        f"{variable} is no absolute path. Set it to {meaning}: {_PAGE} says how."
    )
