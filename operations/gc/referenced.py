"""What must stay: everything that the ledger or a registered version refers to."""

import json
from dataclasses import dataclass
from pathlib import Path

from core.errors import BrokenLedger, OperationError
from registry.ledger.audit import known_heads, verify
from registry.ledger.entries import Judged
from registry.ledger.ledger import read_ledger, was_ever_opened
from registry.ledger.state import LedgerState
from registry.mlflow.retained import RegisteredVersion, Retained


@dataclass(frozen=True)
class References:
    """Packages by digest, workspaces by run id, and MLflow's runs."""

    packages: frozenset[str]
    workspaces: frozenset[str]
    runs: frozenset[str]


def what_stays(home: Path, retained: Retained) -> References:
    """Collect the references of the verified ledger and of MLflow.

    `BrokenLedger`, `OperationError` or `RegistryError` where either cannot be read completely: then
    nothing may be deleted.
    """
    versions = retained.versions()
    ledger_state = verified_state(home)
    judged = () if ledger_state is None else tuple(ledger_state.judged.values())
    registered = {(version.model, version.version): version for version in versions}
    workspaces = {version.workspace for version in versions}
    # The ledger also names versions that somebody deleted in MLflow.
    workspaces |= {_workspace(home, entry, registered) for entry in judged}
    return References(
        packages=frozenset(entry.package_sha256 for entry in judged),
        workspaces=frozenset(workspaces),
        runs=frozenset(version.run_id for version in versions),
    )


def verified_state(home: Path) -> LedgerState | None:
    """Give the state of the verified ledger; None where there never was one.

    It is compared with what endpoint and exports remember. `BrokenLedger` where it does not verify,
    `OperationError` where one of those cannot be read.
    """
    if not was_ever_opened(home):
        return None
    ledger = read_ledger(home)
    known, unread = known_heads(home, ledger.state())
    # A memory that cannot be read might be the one that shows a cut ledger.
    if unread:
        raise OperationError(f"{unread[0]}. Nothing was done: fix it or move it away.")
    report = verify(ledger, known)
    if not report.is_whole:
        raise BrokenLedger(
            report.problem
            or "The ledger has no entry. Restore it from a backup or an export."
        )
    return ledger.state()


def _workspace(
    home: Path, judged: Judged, registered: dict[tuple[str, str], RegisteredVersion]
) -> str:
    """Give the run that made a judged version, from MLflow or else from the package itself."""
    version = registered.get((judged.model, judged.version))
    if version is not None and version.workspace:
        return version.workspace
    # A version that was deleted in MLflow still has its package here.
    lineage = home / "packages" / judged.package_sha256 / "lineage.json"
    try:
        return str(json.loads(lineage.read_bytes())["run_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OperationError(
            f"The ledger names version {judged.version} of {judged.model}, and neither MLflow "
            f"nor {lineage} says which run made it. "
            "Nothing was removed: restore MLflow's database from a backup."
        ) from error
