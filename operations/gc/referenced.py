"""What must stay: everything that the ledger or a registered version leads to."""

import json
from dataclasses import dataclass
from pathlib import Path

from core.errors import BrokenLedger, OperationError
from registry.ledger.audit import known_heads, verify
from registry.ledger.entries import Judged
from registry.ledger.ledger import ever_was, read_ledger
from registry.ledger.state import LedgerState
from registry.mlflow.retained import RegisteredVersion, Retained


@dataclass(frozen=True)
class Named:
    """Packages by digest, workspaces by run id, and MLflow's runs."""

    packages: frozenset[str]
    workspaces: frozenset[str]
    runs: frozenset[str]


def what_stays(home: Path, retained: Retained) -> Named:
    """From the verified ledger and MLflow. Where either cannot be read whole, the error says so, and nothing may be removed."""
    versions = retained.versions()
    ledger_state = verified_state(home)
    judged = () if ledger_state is None else tuple(ledger_state.judged.values())
    known = {(each.model, each.version): each for each in versions}
    return Named(
        packages=frozenset(each.package_sha256 for each in judged),
        workspaces=frozenset(each.workspace for each in versions)
        | {_workspace(home, each, known) for each in judged},
        runs=frozenset(each.run_id for each in versions),
    )


def verified_state(home: Path) -> LedgerState | None:
    """How things stand by the whole ledger, checked against what endpoint and exports remember; None where there never was any."""
    if not ever_was(home):
        return None
    ledger = read_ledger(home)
    known, unread = known_heads(home, ledger.state())
    if unread:
        raise OperationError(f"{unread[0]}. Nothing was done: mend it or move it away.")
    report = verify(ledger, known)
    if not report.is_whole:
        raise BrokenLedger(
            report.problem
            or "The ledger has no entry. Restore it from a backup or an export."
        )
    return ledger.state()


def _workspace(
    home: Path, judged: Judged, known: dict[tuple[str, str], RegisteredVersion]
) -> str:
    """The run that made a judged version: by MLflow, else by the package itself."""
    version = known.get((judged.model, judged.version))
    if version is not None and version.workspace:
        return version.workspace
    lineage = home / "packages" / judged.package_sha256 / "lineage.json"
    try:
        return str(json.loads(lineage.read_bytes())["run_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OperationError(
            f"The ledger names version {judged.version} of {judged.model}, and neither MLflow nor {lineage} says which run made it. "
            "Nothing was removed: restore MLflow's database from a backup."
        ) from error
