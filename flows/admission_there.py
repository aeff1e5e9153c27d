"""Whether the MLflow that is used asks Assay before `release` moves, and what to say where not.

A managed MLflow takes no plug-in. There the alias is put back after the fact, by the ledger. The
server is asked by a question that changes nothing (`registry/mlflow/announced.py`).
"""

import time
from contextlib import suppress
from dataclasses import dataclass, field

from core.environment import mlflow_address
from core.errors import AssayError
from core.project import Project
from core.team_server import SECONDS_TO_EXAMINE
from registry.mlflow.announced import admits
from registry.mlflow.examine import mlflow_server
from registry.release.people import read_people

_SECONDS_TO_REMEMBER = 60.0
_OVER_HTTP = ("http://", "https://")
PUT_BACK = (
    "This MLflow has no admission: nobody knows who sets the alias `release` there, and it is put "
    "back; ask with `assay promote N`."
)
TAKEN = (
    "This MLflow has no admission: by people.yaml whoever can set the alias `release` there asks "
    "for a release, and nobody knows who it was."
)


def lacks_admission(model: str) -> bool | None:
    """Whether MLflow moves that model's aliases unasked; None where it does not say.

    `RegistryError` where its address is none.
    """
    address = mlflow_address()
    # The home's own database: whatever serves it has the rules.
    if address is None or not address.lower().startswith(_OVER_HTTP):
        return False
    server = mlflow_server(address, SECONDS_TO_EXAMINE)
    # A server that is away is reported by whoever needs it.
    with suppress(AssayError):
        is_admitted = admits(server, model)
        return not is_admitted
    return None


def may_ask_unknown(project: Project) -> bool:
    """Whether people.yaml takes an alias that nobody admitted as a wish; `ParameterError`."""
    people = read_people(project.root)
    return "release_manager" in people.without_admission


@dataclass
class AdmissionThere:
    """What was found, remembered for a minute: pages and aliases are looked at all the time."""

    project: Project
    _found: dict[str, tuple[float, bool]] = field(default_factory=dict)

    def is_missing(self, model: str) -> bool:
        """Whether the server said that it has none for that model."""
        now = time.monotonic()
        asked_at, is_missing = self._found.get(model, (-_SECONDS_TO_REMEMBER, False))
        if now - asked_at < _SECONDS_TO_REMEMBER:
            return is_missing
        answer = lacks_admission(model)
        # A server that does not answer now has what it had before.
        if answer is not None:
            is_missing = answer
        self._found[model] = (now, is_missing)
        return is_missing

    def sentence(self, model: str) -> str:
        """What people should know of it; empty where the server has admission."""
        if not self.is_missing(model):
            return ""
        with suppress(AssayError):
            if may_ask_unknown(self.project):
                return TAKEN
        # Nobody has a role while people.yaml cannot be read.
        return PUT_BACK
