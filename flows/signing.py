"""Signing packages: when a version is registered or adopted, and again by `assay sign`."""

from pathlib import Path

from core.account import login_name
from registry.ledger.enrolment import enrol_packaging
from registry.ledger.entries import PublicKey
from registry.ledger.ledger import Ledger
from registry.mlflow.recorded import ModelVersion
from registry.mlflow.store import Store
from registry.release.package_signature import (
    SIGNATURE,
    sign_package,
)
from registry.release.signer import find_signature


def sign_own_package(ledger: Ledger, package: Path) -> PublicKey:
    """Sign a package that this process has made, with this home's key; gives its public half.

    `LedgerError` where the key cannot be read or was revoked.
    """
    # The first package of a home finds no key yet.
    key = enrol_packaging(ledger, login_name())
    sign_package(package, key)
    return key.public


def ensure_signed(
    ledger: Ledger, store: Store, version: ModelVersion, package: Path
) -> PublicKey:
    """Have folder and MLflow hold a signature that counts now, and give the key that made it.

    `package` holds the version's files, whose digest was checked. A signature is made only where
    there is none by a key that the ledger trusts, such as after a kill or with an earlier Assay.
    """
    ledger_state = ledger.state()
    registration = ledger_state.registration(version.name, version.version)
    # One of a key that was replaced since counts on: releases name that key. A version that is not
    # entered yet will be after every entry of now.
    entered = ledger_state.head.generation + 1
    if registration is not None:
        entered = registration.generation
    found = find_signature(package, ledger_state, entered).signature
    signer = None if found is None else ledger_state.known_key(found.key_id)
    if signer is None:
        signer = sign_own_package(ledger, package)
    signature = (package / SIGNATURE).read_bytes()
    # MLflow's may be missing after a kill, or of a key that was replaced.
    if store.signatures.read(version) != signature:
        store.signatures.attach(version, package)
    return signer
