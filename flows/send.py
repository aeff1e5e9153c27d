"""SENDING: a version as the installation that receives it can verify it, offline.

    version ─ fit here, signed ─ record + ledger + package ─ a run in the other MLflow

The package goes as it is: the same bytes, the same digest, the same signature. Evidence is part of
it, so that everything is counted again where it arrives. The ledger goes whole, without reasons.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from core.errors import TransferRefused
from core.files import sha256_of
from core.project import Project
from flows.run.attempt import fetch_package_of
from registry.ledger.audit import export
from registry.ledger.chain import follow
from registry.ledger.ledger import read_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import ModelVersion
from registry.release.signer import find_signature
from registry.release.transfer import (
    LEDGER,
    PACKAGE,
    RECORD,
    TransferRecord,
    find_fit,
)


@dataclass(frozen=True)
class Packed:
    """A transfer on this machine, by the digest of its record."""

    folder: Path
    digest: str
    version: str
    package_sha256: str


def pack_version(project: Project, model: str, version: str, into: Path) -> Packed:
    """Write the transfer of a version into an empty folder.

    The same version and the same ledger give the same digest. `TransferRefused` with what the
    ledger here says against its leaving, or where its package bears no signature that counts.
    """
    store, ledger = open_store(project), read_ledger(project.home)
    registered = store.get_version(model, version)
    # Verified here first: a broken ledger would be refused over there, with less to go by.
    entries = ledger.entries()
    ledger_state = follow(None, entries)
    # By its number from here on: an alias may move meanwhile.
    number = registered.version
    registration = find_fit(
        ledger_state,
        entries,
        model,
        number,
    )
    _check_record(registered, registration.made.package_sha256)
    package = fetch_package_of(
        store,
        registered,
        project.home,
    )
    found = find_signature(
        package,
        ledger_state,
        registration.generation,
    )
    if found.signature is None:
        fact = found.fault or "it bears no signature"
        raise TransferRefused(
            f"The package of version {number} of {model} cannot be known again where "
            f"it arrives: {fact}. `assay sign {number} --model {model}` signs it."
        )
    # Reasons stay here: they may be about people.
    export(ledger, into / LEDGER)
    shutil.copytree(package, into / PACKAGE)
    # Written last of the three, since it names the others.
    record = TransferRecord(
        model=model,
        version=number,
        package_sha256=registered.package_sha256,
        ledger_sha256=sha256_of(into / LEDGER),
    )
    record.write(into / RECORD)
    digest = sha256_of(into / RECORD)
    return Packed(
        into,
        digest,
        number,
        registered.package_sha256,
    )


def _check_record(registered: ModelVersion, package_sha256: str) -> None:
    if registered.package_sha256 != package_sha256:
        raise TransferRefused(
            f"MLflow's record of version {registered.version} of {registered.name} names package "
            f"{registered.package_sha256[:12]}, and the ledger {package_sha256[:12]}. "
            "Find out who changed it."
        )
