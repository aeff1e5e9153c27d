"""Where MLflow's server hands in what people ask for: the home's ledger, and who they are."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.account import MLFLOW
from core.errors import LedgerError, ParameterError
from registry.ledger.enrolment import enrol
from registry.ledger.keys import key_file
from registry.ledger.ledger import Ledger, open_ledger, read_ledger
from registry.mlflow.accounts import SERVICE
from registry.release.context import ChangeRequest

_LONGEST_NAME = 100


@dataclass(frozen=True)
class Desk:
    """The home whose ledger takes it, and the project whose `people.yaml` says who may ask."""

    home: Path
    project: Path

    def admission(self) -> Ledger:
        """The ledger, signed with a key that decides nothing; `LedgerError` where there is none."""
        # A server makes no ledger in place of one that was lost.
        read_ledger(self.home)
        # A team's MLflow has the key of admission alone, which was enrolled elsewhere.
        if key_file(self.home).exists():
            enrol(open_ledger(self.home), "admission", SERVICE)
        # What this server signs can neither judge nor release.
        return open_ledger(self.home, role="admission")


def prepare_desk(desk: Desk) -> None:
    """Enrol the key before the first request, where there is a ledger already."""
    # Pages are there to be read, whatever the ledger says.
    with suppress(LedgerError):
        desk.admission()


def request_of(user: str, reason: str) -> ChangeRequest:
    """What a user of MLflow's asks for; `ParameterError` where the name is too long for entries."""
    # Cut to what the ledger takes, two names could become one.
    if len(user) > _LONGEST_NAME:
        raise ParameterError(
            f"A user's name may have {_LONGEST_NAME} letters in the ledger, and this one has "
            f"{len(user)}. Ask the admin for a shorter one."
        )
    return ChangeRequest(by=user, reason=reason, account=f"{MLFLOW}{user}")
